//! Two guests in one lab, the same in everything: one that Godwit moves, and one
//! that plain QEMUs move. Only the one that is measured runs.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::witness::BeatWitness;
use types::{AttemptPhase, Outcome, RunState, VmName};

use super::contestant::Contestant;
use super::cutter::{Armed, Cutter};
use super::meter::Meter;
use super::options::Setting;
use super::plain::{Plain, PlainOrder, Recipe, whole_memory};
use super::results::Run;
use crate::fleet::{Fleet, Order};
use crate::guests::{self, Linux};
use crate::proc;

/// How often Godwit is asked how far a move is.
const LOOK: Duration = Duration::from_millis(20);
/// Longest that a guest may be silent before it counts as lost.
const SILENCE: Duration = Duration::from_secs(30);

/// What happens around each move.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// How long a guest runs before it is moved, to find its rhythm.
    pub(super) settle: Duration,
    /// Godwit's VM is moved away first and comes back after this time; only the
    /// way back is measured. For QEMU a way back is like any other.
    pub(super) away: Option<Duration>,
    /// The host that the VM left goes through a reboot meanwhile.
    pub(super) reboot: bool,
    /// QEMU's connections pass the lab's proxy, as Godwit's do where there is one.
    pub(super) proxied: bool,
}

impl Manner {
    /// One move, of a guest that has run for two seconds.
    pub(super) fn usual() -> Self {
        Self { settle: Duration::from_secs(2), away: None, reboot: false, proxied: false }
    }
}

/// The lab's two guests.
pub(super) struct Rig<'a> {
    fleet: &'a Fleet,
    beats: BeatWitness,
    setting: &'a Setting,
    manner: Manner,
    vm: VmName,
    vm_ip: Ipv4Addr,
    recipe: Recipe,
    /// Absent where Godwit alone is measured.
    plain: Option<Plain>,
    plain_ip: Ipv4Addr,
    started: u32,
}

impl<'a> Rig<'a> {
    /// Boots the guests and waits until their memory is as it should be.
    ///
    /// # Errors
    /// One does not start.
    pub(super) fn build(
        fleet: &'a Fleet,
        setting: &'a Setting,
        manner: Manner,
        contestants: &[Contestant],
    ) -> Result<Self> {
        let beats = BeatWitness::listen((fleet.plan().outside(), guest::BEAT_PORT).into())?;
        let roles = setting.roles.to_string();
        let linux = |name, number| Linux {
            name,
            number,
            memory: setting.memory_bytes,
            vcpus: 1,
            roles: &roles,
            disks: Vec::new(),
        };
        let (ours, theirs) = (linux("bench", 41), linux("plain", 42));
        let vm: VmName = ours.name.parse()?;
        let spec = guests::spec(fleet, &ours)?;
        let request = api::body::StartRequest { on: Some("host-a".parse()?), ..Default::default() };
        fleet.ask(async |c| c.create_vm(&spec).await)?;
        fleet.ask(async |c| c.start(&vm, &request).await)?;
        let vm_ip = fleet.plan().guest(ours.number);
        guests::wait_boot(vm_ip)?;
        filled(vm_ip, setting)?;
        // The versioned machine type that the first start has written back.
        let machine = fleet.ask(async |c| c.vm(&vm).await)?.spec.machine;
        let hosts = fleet.ask(async |c| c.hosts().await)?;
        let accel = hosts.first().map(|h| h.facts.accel.clone()).context("no host")?;
        let mut spec = guests::spec(fleet, &theirs)?;
        // The memory block of Godwit's VM, to the byte.
        let memory = fleet.memory_file(&vm, "host-a")?.metadata()?.len();
        let memory = whole_memory(memory, &machine, &accel);
        spec.machine = machine;
        let recipe = Recipe {
            spec,
            memory,
            qemu: fleet.parts().qemu.clone().unwrap_or_else(|| "qemu-system-x86_64".into()),
            data: fleet.parts().qemu_data.clone(),
            accel,
        };
        let plain_ip = fleet.plan().guest(theirs.number);
        let (plain, started) = (None, 0);
        let mut rig =
            Self { fleet, beats, setting, manner, vm, vm_ip, recipe, plain, plain_ip, started };
        if contestants.iter().any(|c| *c != Contestant::Godwit) {
            rig.pause_ours()?;
            let plain = rig.start_plain("host-a", false)?;
            guests::wait_boot(rig.plain_ip)?;
            filled(rig.plain_ip, setting)?;
            plain.stop(fleet)?;
            rig.plain = Some(plain);
        }
        Ok(rig)
    }

    /// Why this QEMU cannot move a VM in a contestant's way; nothing if it can.
    pub(super) fn refusal(&self, contestant: Contestant) -> Option<String> {
        let plain = self.plain.as_ref().filter(|_| contestant != Contestant::Godwit)?;
        plain.knows(self.fleet, contestant, self.setting).err().map(|e| format!("{e:#}"))
    }

    /// Bytes of the pages of Godwit's guest that are not all zero.
    ///
    /// # Errors
    /// Its memory cannot be read.
    pub(super) fn nonzero_bytes(&self) -> Result<u64> {
        use std::io::Read;
        let mut memory = std::fs::File::open(self.fleet.memory_file(&self.vm, &self.owner()?)?)?;
        let mut piece = vec![0; 1 << 20];
        let mut nonzero = 0;
        loop {
            let taken = memory.read(&mut piece)?;
            if taken == 0 {
                return Ok(nonzero);
            }
            let pages = piece[..taken].chunks(guest::fill::PAGE);
            nonzero += pages.filter(|page| page.iter().any(|b| *b != 0)).count() as u64
                * guest::fill::PAGE as u64;
        }
    }

    /// Moves a guest once, while `cutter` cuts the link.
    ///
    /// # Errors
    /// The lab or a guest breaks; a move that does not complete is a result.
    pub(super) fn run(&mut self, contestant: Contestant, cutter: Option<&Cutter>) -> Result<Run> {
        match contestant {
            Contestant::Godwit => self.run_godwit(cutter),
            way => self.run_plain(way, cutter),
        }
    }

    fn run_godwit(&mut self, cutter: Option<&Cutter>) -> Result<Run> {
        if self.plain.is_some() {
            self.resume_ours()?;
        }
        let ip = self.vm_ip.into();
        if let Some(away) = self.manner.away {
            self.settle(ip)?;
            let home = self.owner()?;
            self.fleet.migrate(&Order::to(self.vm.as_str(), other(&home)))?;
            if self.manner.reboot {
                lab::reboot(self.fleet.dir(), &home)?;
                self.up(&home)?;
            }
            proc::pause(away)?;
        }
        self.settle(ip)?;
        let run = self.move_ours(ip, cutter)?;
        if self.plain.is_some() {
            self.pause_ours()?;
        }
        Ok(run)
    }

    fn move_ours(&self, ip: IpAddr, cutter: Option<&Cutter>) -> Result<Run> {
        let from = self.owner()?;
        let armed = cutter.map(|c| self.arm(c, other(&from))).transpose()?;
        let dirtied = Dirtied::begin(self.vm_ip)?;
        let meter = Meter::start(self.fleet.dir(), &from)?;
        let (begun, ordered) = (Instant::now(), self.beats.now());
        let budget = self.setting.blackout_budget_ms;
        let order = Order { blackout_ms: budget, ..Order::to(self.vm.as_str(), other(&from)) };
        let mut migration = self.fleet.begin(&order)?;
        let mut seen = Seen::default();
        let mut late = false;
        while migration.is_running()? {
            self.look(&mut seen)?;
            if !late && begun.elapsed() > Duration::from_secs(self.setting.limit_seconds.into()) {
                late = true;
                // Too late is an answer as well: then it completes.
                let _ = self.fleet.try_ask(async |c| c.cancel(&self.vm).await);
            }
            proc::pause(LOOK)?;
        }
        let moved = migration.end()?;
        let (took, cost, arrived) = (begun.elapsed(), meter.cost()?, self.beats.now());
        drop(meter);
        let cuts = armed.map(Armed::end).transpose()?;
        let (report, completed) = (moved.report, !late && moved.exit == 0);
        ensure!(
            completed || report.outcome != Some(Outcome::Completed) || late,
            "the report of {} says completed, and the exit code {}",
            self.vm,
            moved.exit
        );
        let failure = (!completed).then(|| match report.reason {
            _ if late => format!("not within {} s", self.setting.limit_seconds),
            Some(reason) => reason,
            None => format!("exit code {}", moved.exit),
        });
        let travels = seen.travels.or(seen.copies).unwrap_or(ordered);
        self.alive(ip)?;
        Ok(Run {
            completed,
            failure,
            total_seconds: report.total_seconds.filter(|_| completed).unwrap_or(took.as_secs_f64()),
            prepare_seconds: seen.copies.map_or(0.0, |at| (at - ordered).as_secs_f64()),
            blackout_seconds: completed.then(|| self.gap(ip, travels, arrived)),
            start_gap_seconds: self.gap(ip, ordered, travels),
            wire_bytes: cost.wire_bytes,
            cpu_seconds: cost.cpu_seconds,
            dirtied_bytes_per_second: dirtied.rate(self.vm_ip)?,
            carrier_bytes: Some(cost.carrier_bytes),
            cuts,
            rounds: Some(report.rounds),
            pages: Some(report.pages),
            reported_blackout_seconds: report.blackout_seconds,
        })
    }

    fn run_plain(&mut self, way: Contestant, cutter: Option<&Cutter>) -> Result<Run> {
        let from = self.plain.take().context("no plain QEMU")?;
        from.cont(self.fleet)?;
        let ip = self.plain_ip.into();
        self.settle(ip)?;
        let armed = cutter.map(|c| self.arm(c, other(from.host()))).transpose()?;
        let dirtied = Dirtied::begin(self.plain_ip)?;
        let meter = Meter::start(self.fleet.dir(), from.host())?;
        let (begun, ordered) = (Instant::now(), self.beats.now());
        let mut to = self.start_plain(other(from.host()), true)?;
        let port = self.port();
        to.listen(self.fleet, way, self.setting, port)?;
        let (prepared, ready) = (begun.elapsed(), self.beats.now());
        let address = format!("{}:{port}", self.address(to.host())?);
        let order = PlainOrder { way, setting: self.setting, address };
        let went = from.migrate(self.fleet, &mut to, &order)?;
        let (took, cost, arrived) = (begun.elapsed(), meter.cost()?, self.beats.now());
        drop(meter);
        let cuts = armed.map(Armed::end).transpose()?;
        let travels = ready + went.travelled;
        self.alive(ip)?;
        let rate = dirtied.rate(self.plain_ip)?;
        let completed = went.failure.is_none();
        let (stays, goes) = if completed { (to, from) } else { (from, to) };
        stays.stop(self.fleet)?;
        goes.end(self.fleet)?;
        self.plain = Some(stays);
        Ok(Run {
            completed,
            failure: went.failure,
            total_seconds: took.as_secs_f64(),
            prepare_seconds: prepared.as_secs_f64(),
            blackout_seconds: completed.then(|| self.gap(ip, travels, arrived)),
            start_gap_seconds: self.gap(ip, ordered, travels),
            wire_bytes: cost.wire_bytes,
            cpu_seconds: cost.cpu_seconds,
            dirtied_bytes_per_second: rate,
            cuts,
            ..Run::default()
        })
    }

    fn start_plain(&mut self, host: &str, incoming: bool) -> Result<Plain> {
        self.started += 1;
        Plain::start(self.fleet, &self.recipe, host, self.started, incoming)
    }

    /// One that the proxy forwards, too; Godwit's carriers are gone when it is used.
    fn port(&self) -> u16 {
        let ports = self.fleet.plan().carrier_ports();
        ports.end() - (self.started % 16) as u16
    }

    fn address(&self, host: &str) -> Result<Ipv4Addr> {
        let plan = self.fleet.plan();
        let number = plan.number(host)?;
        Ok(if self.manner.proxied { plan.proxy(number) } else { plan.host(number) })
    }

    /// All cuts of the copy lie in its first half, however well it compresses.
    fn arm<'c>(&self, cutter: &'c Cutter, to: &str) -> Result<Armed<'c>> {
        let content = self.setting.roles.fill.map_or(0, |fill| u64::from(fill.mib) << 20);
        cutter.arm(self.fleet.dir(), to, content / 10)
    }

    fn owner(&self) -> Result<String> {
        let own = self.fleet.ask(async |c| c.vm(&self.vm).await)?.ownership;
        Ok(own.context("nobody owns the VM")?.owner.to_string())
    }

    /// Waits until the controller hears a host's agent again.
    fn up(&self, host: &str) -> Result<()> {
        // What was heard before the reboot must not count.
        proc::pause(Duration::from_secs(1))?;
        proc::until(&format!("{host} after its reboot"), Duration::from_secs(60), || {
            let hosts = self.fleet.ask(async |c| c.hosts().await)?;
            let own = hosts.iter().find(|h| h.facts.host.as_str() == host);
            let heard = own.and_then(|h| h.heard_seconds).is_some_and(|s| s < 1.0);
            Ok(heard.then_some(()))
        })
    }

    /// Asks how far the move is.
    fn look(&self, seen: &mut Seen) -> Result<()> {
        if seen.travels.is_some() {
            return Ok(());
        }
        // Before the question: what the answer tells was so at that moment or later.
        let now = self.beats.now();
        let own = self.fleet.ask(async |c| c.vm(&self.vm).await)?.ownership;
        let Some(id) = own.and_then(|own| own.attempt) else { return Ok(()) };
        let attempt = self.fleet.ask(async |c| c.attempt(id).await)?;
        if attempt.phase >= AttemptPhase::Copying {
            seen.copies.get_or_insert(now);
        }
        let travels = attempt.progress.is_some_and(|p| p.done_bytes > 0);
        if travels && attempt.phase == AttemptPhase::Copying {
            seen.travels = Some(now);
        }
        Ok(())
    }

    /// Lets a guest find its rhythm.
    fn settle(&self, ip: IpAddr) -> Result<()> {
        self.alive(ip)?;
        proc::pause(self.manner.settle)
    }

    /// Wants some heartbeats.
    fn alive(&self, ip: IpAddr) -> Result<()> {
        ensure!(self.beats.wait_for(ip, 50, SILENCE), "no heartbeat of {ip} any more");
        Ok(())
    }

    fn gap(&self, ip: IpAddr, from: Duration, to: Duration) -> f64 {
        self.beats.longest_gap(ip, from, to).as_secs_f64()
    }

    fn pause_ours(&self) -> Result<()> {
        self.fleet.ask(async |c| c.pause(&self.vm).await)?;
        self.wait(RunState::Paused)
    }

    fn resume_ours(&self) -> Result<()> {
        self.fleet.ask(async |c| c.resume(&self.vm).await)?;
        self.wait(RunState::Running)
    }

    fn wait(&self, state: RunState) -> Result<()> {
        proc::until(&format!("{} {state}", self.vm), SILENCE, || {
            let view = self.fleet.ask(async |c| c.vm(&self.vm).await)?;
            Ok((view.state == Some(state)).then_some(()))
        })
    }

    /// Lets both guests check their memory, and ends the plain one.
    ///
    /// # Errors
    /// A guest does not answer; one that finds something wrong is an answer.
    pub(super) fn finish(mut self) -> Result<Vec<(&'static str, String)>> {
        let mut found = Vec::new();
        if let Some(plain) = self.plain.take() {
            plain.cont(self.fleet)?;
            self.alive(self.plain_ip.into())?;
            found.push(("qemu", verified(self.plain_ip)?));
            plain.end(self.fleet)?;
            self.resume_ours()?;
        }
        found.push(("godwit", verified(self.vm_ip)?));
        let (_, ours) = found.last().context("no guest")?;
        if !ours.starts_with("whole") {
            bail!("the guest that Godwit moved is not whole: {ours}");
        }
        Ok(found)
    }
}

/// Moments of a Godwit move, as the witness counts.
#[derive(Debug, Default)]
struct Seen {
    /// Memory may travel.
    copies: Option<Duration>,
    /// It does, and the VM has not been stopped.
    travels: Option<Duration>,
}

/// How much a guest rewrites.
struct Dirtied {
    pages: u64,
    since: Instant,
}

impl Dirtied {
    fn begin(ip: Ipv4Addr) -> Result<Self> {
        Ok(Self { pages: dirtied_pages(ip)?, since: Instant::now() })
    }

    /// Bytes a second since then, pages counted whole.
    fn rate(&self, ip: Ipv4Addr) -> Result<f64> {
        let pages = dirtied_pages(ip)?.saturating_sub(self.pages);
        Ok(pages as f64 * guest::fill::PAGE as f64 / self.since.elapsed().as_secs_f64())
    }
}

fn status(ip: Ipv4Addr, name: &str) -> Result<u64> {
    let status = guests::control(ip, Duration::from_secs(20))?.status()?;
    let value = status.get(name).and_then(|n| n.parse().ok());
    value.with_context(|| format!("the guest at {ip} does not tell {name}"))
}

fn dirtied_pages(ip: Ipv4Addr) -> Result<u64> {
    status(ip, "dirtied_pages")
}

/// Waits until the guest's memory has the content that its roles put there.
fn filled(ip: Ipv4Addr, setting: &Setting) -> Result<()> {
    let fill = setting.roles.fill.map_or(0, |fill| u64::from(fill.mib));
    let set = u64::from(setting.dirty_set_mib()) * 256;
    proc::until("the guest's content", Duration::from_secs(600), || {
        let there = status(ip, "filled_mib")? >= fill && dirtied_pages(ip)? >= set;
        proc::pause(Duration::from_millis(500))?;
        Ok(there.then_some(()))
    })
}

fn verified(ip: Ipv4Addr) -> Result<String> {
    let checked = guests::control(ip, Duration::from_secs(300))?.verify();
    Ok(match checked {
        Ok(pages) => format!("whole ({pages} pages checked)"),
        Err(problem) => problem.to_string(),
    })
}

fn other(host: &str) -> &'static str {
    if host == "host-a" { "host-b" } else { "host-a" }
}
