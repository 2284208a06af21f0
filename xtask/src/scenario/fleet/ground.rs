//! A lab with a small fleet in it: hosts, tiny guests, Linux guests with open
//! connections, and those who watch them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use api::body::StartRequest;
use lab::images::TinyOptions;
use lab::specs;
use lab::witness::StreamWitness;
use types::{Bytes, PlanRun, RunState, Tier, VmName, VmSpec};

use super::beats::Beats;
use crate::fleet::{self, Fleet, Parts, Shape};
use crate::guests::{self, Linux};
use crate::proc;

/// Memory of a tiny guest.
const TINY: Bytes = Bytes::mib(64);
/// Memory of a Linux guest.
const LINUX: Bytes = Bytes::mib(256);
/// Tiers, in turn.
const TIERS: [&str; 3] = ["critical", "secondary", "noncritical"];
/// Longest until a VM runs, while many start.
const SOON: Duration = Duration::from_secs(180);

/// A fleet and its witnesses.
pub(super) struct Ground {
    pub(super) fleet: Fleet,
    pub(super) hosts: Vec<String>,
    pub(super) tiny: Vec<VmName>,
    pub(super) linux: Vec<(VmName, Ipv4Addr)>,
    beats: Beats,
    streams: Vec<StreamWitness>,
}

impl Ground {
    /// Brings it all up.
    ///
    /// # Errors
    /// Something does not start.
    pub(super) fn up(
        godwit: &Path,
        parts: &Parts,
        hosts: usize,
        tiny: usize,
        linux: u8,
    ) -> Result<Self> {
        let shape = Shape {
            hosts,
            link: Some(types::Rate(1_000_000_000)),
            memory: Bytes::mib(3 << 10),
            ..Shape::plain(parts)
        };
        let fleet = Fleet::up(godwit, &shape)?;
        let hosts: Vec<String> = fleet
            .ask(async |c| c.hosts().await)?
            .into_iter()
            .map(|h| h.facts.host.to_string())
            .collect();
        let mut ground = Self {
            hosts,
            fleet,
            tiny: Vec::new(),
            linux: Vec::new(),
            beats: Beats::watch(BTreeMap::new()),
            streams: Vec::new(),
        };
        ground.guests(tiny, linux)?;
        Ok(ground)
    }

    fn guests(&mut self, tiny: usize, linux: u8) -> Result<()> {
        for i in 0..tiny {
            let name = format!("tiny{i:02}");
            let file = self.fleet.dir().join("shared").join(specs::tiny_file(&name));
            lab::images::tiny(&file, &TinyOptions::default())?;
            let spec = VmSpec { tier: tier(i)?, ..specs::tiny(&name, TINY)? };
            self.tiny.push(spec.name.clone());
            self.start(&spec, i)?;
        }
        for i in 0..linux {
            let name = format!("linux{i}");
            let described = Linux {
                name: &name,
                number: i + 1,
                memory: LINUX,
                vcpus: 1,
                roles: "serve",
                disks: Vec::new(),
            };
            let spec = guests::spec(&self.fleet, &described)?;
            let spec = VmSpec { tier: tier(usize::from(i))?, ..spec };
            self.linux.push((spec.name.clone(), self.fleet.plan().guest(i + 1)));
            self.start(&spec, usize::from(i))?;
        }
        let mut logs = BTreeMap::new();
        for vm in self.tiny.clone() {
            let view = self.until_runs(&vm)?;
            let id = view.spec.uuid.context("no UUID")?.to_string();
            let log = |host: &String| {
                self.fleet.host_dir(host).join("state/vms").join(&id).join("serial.log")
            };
            logs.insert(vm.to_string(), self.hosts.iter().map(log).collect());
        }
        self.beats = Beats::watch(logs);
        for (vm, ip) in self.linux.clone() {
            self.until_runs(&vm)?;
            guests::wait_boot(ip)?;
            let address = (ip, guest::SERVE_PORT).into();
            self.streams.push(StreamWitness::connect(address, SOON)?);
        }
        self.alive()
    }

    fn start(&self, spec: &VmSpec, i: usize) -> Result<()> {
        let request = StartRequest {
            on: Some(self.hosts[i % self.hosts.len()].parse()?),
            ..StartRequest::default()
        };
        self.fleet.ask(async |c| c.create_vm(spec).await)?;
        self.fleet.ask(async |c| c.start(&spec.name, &request).await)?;
        Ok(())
    }

    fn until_runs(&self, vm: &VmName) -> Result<api::body::VmView> {
        proc::until(&format!("{vm} running"), SOON, || {
            let view = self.fleet.ask(async |c| c.vm(vm).await)?;
            match &view.error {
                Some(error) => bail!("{vm}: {error}"),
                None => Ok((view.state == Some(RunState::Running)).then_some(view)),
            }
        })
    }

    /// Every guest goes on: its counter rises, its connection brings something.
    ///
    /// # Errors
    /// One does not.
    pub(super) fn alive(&self) -> Result<()> {
        for vm in &self.tiny {
            let before = self.beats.of(vm.as_str()).counter;
            proc::until(&format!("a heartbeat of {vm}"), Duration::from_secs(30), || {
                Ok((self.beats.of(vm.as_str()).counter > before).then_some(()))
            })?;
        }
        for (stream, (vm, _)) in self.streams.iter().zip(&self.linux) {
            ensure!(stream.wait_for(1, Duration::from_secs(30)), "{vm}'s connection is silent");
        }
        Ok(())
    }

    /// VMs that do not go on.
    pub(super) fn silent(&self) -> Vec<String> {
        let before: Vec<u32> =
            self.tiny.iter().map(|vm| self.beats.of(vm.as_str()).counter).collect();
        std::thread::sleep(Duration::from_secs(5));
        let still = self.tiny.iter().zip(before);
        let still = still.filter(|(vm, before)| self.beats.of(vm.as_str()).counter <= *before);
        let mut silent: Vec<String> = still.map(|(vm, _)| vm.to_string()).collect();
        for (stream, (vm, _)) in self.streams.iter().zip(&self.linux) {
            if !stream.wait_for(1, Duration::from_secs(10)) {
                silent.push(vm.to_string());
            }
        }
        silent
    }

    /// What the witnesses of heartbeats found wrong.
    pub(super) fn wrong(&self) -> Vec<String> {
        self.beats.wrong()
    }

    /// Connections that have not brought everything as it was sent.
    pub(super) fn broken(&self) -> usize {
        self.streams.iter().filter(|stream| !stream.report().flawless()).count()
    }

    /// Where every VM is.
    ///
    /// # Errors
    /// The controller does not answer.
    pub(super) fn placement(&self) -> Result<BTreeMap<VmName, String>> {
        let vms = self.fleet.ask(async |c| c.vms().await)?;
        let owner = |vm: api::body::VmView| {
            Some((vm.spec.name, vm.ownership.map(|own| own.owner.to_string())?))
        };
        Ok(vms.into_iter().filter_map(owner).collect())
    }

    /// Runs a command that carries out a plan, and gives the plan as it ended.
    ///
    /// # Errors
    /// It does not end as `exit` says, or there is no plan.
    pub(super) fn plan(&self, args: &[&str], exit: i32) -> Result<PlanRun> {
        let args = [args, &["-o", "json"]].concat();
        let running = proc::Running::start(&mut self.fleet.godwit(&args), proc::Messages::Kept)?;
        let ended = running.wait(fleet::LONG)?;
        let code = ended.status.code();
        ensure!(code == Some(exit), "`godwit {}`: {code:?}: {}", args.join(" "), ended.stderr);
        serde_json::from_str(&ended.stdout).with_context(|| format!("no plan: {}", ended.stdout))
    }

    /// Bytes that the moves of a plan sent.
    ///
    /// # Errors
    /// The controller does not answer.
    pub(super) fn sent(&self, run: &PlanRun) -> Result<u64> {
        let mut sum = 0;
        for planned in &run.moves {
            if let types::MoveState::Done { attempt: Some(attempt) } = planned.state {
                sum += self.fleet.ask(async |c| c.attempt(attempt).await)?.report.sent_bytes;
            }
        }
        Ok(sum)
    }
}

fn tier(i: usize) -> Result<Tier> {
    Ok(TIERS[i % TIERS.len()].parse()?)
}

/// Whether more important VMs began to move no later than less important ones.
pub(super) fn tiers_in_order(run: &PlanRun, tier_of: &BTreeMap<VmName, Tier>) -> bool {
    let mut begun: Vec<(types::AttemptId, usize)> = run
        .moves
        .iter()
        .filter_map(|m| match m.state {
            types::MoveState::Done { attempt: Some(attempt) } => {
                let tier = tier_of.get(&m.planned.vm)?;
                Some((attempt, TIERS.iter().position(|t| *t == tier.as_str())?))
            }
            _ => None,
        })
        .collect();
    // Ids of attempts rise with time.
    begun.sort();
    begun.windows(2).all(|pair| pair[0].1 <= pair[1].1)
}
