//! A plain QEMU in a lab's host, with the same guest as Godwit's VM, that moves
//! by itself. Its memory is private and anonymous, as users have it.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;
use types::{PAGE_SIZE, VmSpec};

use super::contestant::Contestant;
use super::options::Setting;
use super::tls;
use crate::fleet::Fleet;
use crate::proc;

const SOON: Duration = Duration::from_secs(20);

/// A QEMU that runs in a lab's host.
pub(super) struct Plain {
    host: String,
    child: Child,
    client: qmp::Client,
    events: qmp::Events,
    tap: String,
    number: u32,
}

/// What is needed to start one.
pub(super) struct Recipe {
    /// The guest; its machine type is a versioned one.
    pub(super) spec: VmSpec,
    /// Bytes of its memory block.
    pub(super) memory: u64,
    /// The QEMU program.
    pub(super) qemu: PathBuf,
    /// Folders for `-L`.
    pub(super) data: Vec<PathBuf>,
    /// `tcg` or `kvm`.
    pub(super) accel: String,
}

/// How a move went, where QEMU itself did not break.
#[derive(Debug)]
pub(super) struct Went {
    /// Why it did not complete; the guest runs on where it was.
    pub(super) failure: Option<String>,
    /// From `migrate` until memory travelled.
    pub(super) travelled: Duration,
}

impl Plain {
    /// Starts the guest, or, with `incoming`, a QEMU that can wait for it.
    ///
    /// # Errors
    /// QEMU does not start; the error holds what it said.
    pub(super) fn start(
        fleet: &Fleet,
        recipe: &Recipe,
        host: &str,
        number: u32,
        incoming: bool,
    ) -> Result<Self> {
        let run = fleet.host_dir(host).join("run");
        let tap = format!("bench{number}");
        for args in [
            vec!["tuntap", "add", "dev", &tap, "mode", "tap"],
            vec!["link", "set", &tap, "master", "br0", "up"],
        ] {
            proc::output(lab::command_in(fleet.dir(), host, "ip")?.args(args), SOON)?;
        }
        let socket = run.join(format!("bench{number}.sock"));
        let log = run.join(format!("bench{number}.log"));
        let mut command = lab::command_in(fleet.dir(), host, &recipe.qemu)?;
        arguments(&mut command, fleet, recipe, &tap)?;
        command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", socket.display()));
        if incoming {
            command.args(["-incoming", "defer"]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(std::fs::File::create(&log)?);
        let mut child = command.spawn().context("cannot start QEMU")?;
        let connected = proc::until_quickly("QEMU's monitor", SOON, || {
            if let Some(status) = child.try_wait()? {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                bail!("QEMU ended ({status}): {said}");
            }
            Ok(fleet.block_on(qmp::Client::connect(&socket, SOON)).ok())
        });
        let (client, events) = connected.inspect_err(|_| {
            let _ = child.kill();
            let _ = child.wait();
        })?;
        Ok(Self { host: host.to_owned(), child, client, events, tap, number })
    }

    /// The host it runs in.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Stops the guest's processors.
    ///
    /// # Errors
    /// QEMU refuses.
    pub(super) fn stop(&self, fleet: &Fleet) -> Result<()> {
        Ok(fleet.block_on(self.client.stop())?)
    }

    /// Lets the guest go on.
    ///
    /// # Errors
    /// QEMU refuses.
    pub(super) fn cont(&self, fleet: &Fleet) -> Result<()> {
        Ok(fleet.block_on(self.client.cont())?)
    }

    /// Asks QEMU whether it knows a way to move; why not, where it does not.
    pub(super) fn knows(&self, fleet: &Fleet, way: Contestant, setting: &Setting) -> Result<()> {
        let asked = fleet.block_on(self.set_up(way, setting));
        // Whatever was set in part: nothing is on the way that the next would mind.
        fleet.block_on(self.set_up(Contestant::Precopy, setting))?;
        Ok(asked?)
    }

    async fn set_up(&self, way: Contestant, setting: &Setting) -> Result<(), qmp::QmpError> {
        self.client.set_capabilities(&way.capabilities()).await?;
        self.client.set_parameters(way.parameters(setting)).await
    }

    /// The same, with TLS where the way has it, towards `peer` or for whoever comes.
    async fn arm(
        &self,
        fleet: &Fleet,
        way: Contestant,
        setting: &Setting,
        peer: Option<&str>,
    ) -> Result<()> {
        self.set_up(way, setting).await?;
        let mut parameters = json!({ "tls-creds": "", "tls-hostname": "" });
        if way.tls() {
            let id = format!("tls{}{}", self.number, if peer.is_some() { "c" } else { "s" });
            let credentials = tls::credentials(fleet, &self.host, &id, peer.is_some())?;
            self.client.execute("object-add", credentials).await?;
            parameters = json!({ "tls-creds": id, "tls-hostname": "" });
            if let Some(peer) = peer {
                parameters["tls-hostname"] = json!(tls::name(peer));
            }
        }
        Ok(self.client.set_parameters(parameters).await?)
    }

    /// Waits for a guest on `port`.
    ///
    /// # Errors
    /// QEMU refuses.
    pub(super) fn listen(
        &self,
        fleet: &Fleet,
        way: Contestant,
        setting: &Setting,
        port: u16,
    ) -> Result<()> {
        fleet.block_on(async {
            self.arm(fleet, way, setting, None).await?;
            Ok(self.client.migrate_incoming(&format!("tcp:0.0.0.0:{port}")).await?)
        })
    }

    /// Sends the guest to `to`, which listens at `address`, as fast as the link
    /// is, until the source says `completed` and the destination runs. After the
    /// setting's limit it is cancelled.
    ///
    /// # Errors
    /// QEMU breaks; a migration that fails is an answer.
    pub(super) fn migrate(
        &self,
        fleet: &Fleet,
        to: &mut Plain,
        order: &PlainOrder<'_>,
    ) -> Result<Went> {
        fleet.block_on(async {
            self.arm(fleet, order.way, order.setting, Some(&to.host)).await?;
            let begun = Instant::now();
            let limit = begun + Duration::from_secs(order.setting.limit_seconds.into());
            let mut went = Went { failure: None, travelled: Duration::ZERO };
            self.client.migrate(&format!("tcp:{}", order.address)).await?;
            let arrived = self.arrival(to, begun, &mut went);
            let in_time = tokio::time::timeout_at(limit.into(), arrived).await;
            let Ok(ended) = in_time else {
                went.failure = Some(format!("not within {} s", order.setting.limit_seconds));
                self.cancel().await?;
                return Ok(went);
            };
            went.failure = ended?;
            Ok(went)
        })
    }

    async fn arrival(
        &self,
        to: &mut Plain,
        begun: Instant,
        went: &mut Went,
    ) -> Result<Option<String>> {
        let (mut completed, mut runs, mut travels) = (false, false, false);
        while !(completed && runs) {
            proc::alive()?;
            if !completed {
                let state = self.client.query_migrate().await?;
                completed = state.status == "completed";
                if matches!(state.status.as_str(), "failed" | "cancelled") {
                    let why = state.error.unwrap_or_else(|| "QEMU does not say why".to_owned());
                    return Ok(Some(why));
                }
                if !travels && state.ram.is_some_and(|ram| ram.transferred > 0) {
                    travels = true;
                    went.travelled = begun.elapsed();
                }
            }
            // The event tells the moment; between two looks at the source at most.
            let wait = Duration::from_millis(5);
            match tokio::time::timeout(wait, to.events.next()).await {
                Ok(Some(event)) => runs |= event.name() == "RESUME",
                // Where the link breaks it ends by itself; the source tells why.
                Ok(None) => tokio::time::sleep(wait).await,
                Err(_) => {}
            }
        }
        Ok(None)
    }

    async fn cancel(&self) -> Result<()> {
        self.client.migrate_cancel().await?;
        let end = Instant::now() + SOON;
        while Instant::now() < end {
            let status = self.client.query_migrate().await?.status;
            if matches!(status.as_str(), "cancelled" | "failed" | "completed") {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("QEMU does not cancel its migration")
    }

    /// Ends it and removes what it leaves.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub(super) fn end(mut self, fleet: &Fleet) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        let mut ip = lab::command_in(fleet.dir(), &self.host, "ip")?;
        proc::output(ip.args(["link", "del", &self.tap]), SOON)?;
        Ok(())
    }
}

/// What is asked of a plain QEMU.
pub(super) struct PlainOrder<'a> {
    /// How.
    pub(super) way: Contestant,
    /// With what.
    pub(super) setting: &'a Setting,
    /// Where the other side listens, or a proxy before it.
    pub(super) address: String,
}

impl Drop for Plain {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Length of a memory block that QEMU moves whole. Under TCG, versions before
/// 9.0 lose writes to blocks of a multiple of 64 pages (their dirty bits are
/// taken a word at a time, and the processors' TLBs are not told), so that the
/// guest would not survive.
pub(super) fn whole_memory(bytes: u64, machine: &str, accel: &str) -> u64 {
    let version = machine.rsplit('-').next().and_then(|v| v.split('.').next());
    let old = version.and_then(|v| v.parse::<u32>().ok()).is_some_and(|major| major < 9);
    let lossy = accel == "tcg" && old && bytes.is_multiple_of(64 * PAGE_SIZE);
    if lossy { bytes - 2 * PAGE_SIZE } else { bytes }
}

/// The same machine as Godwit's, as far as a plain QEMU has it.
fn arguments(command: &mut Command, fleet: &Fleet, recipe: &Recipe, tap: &str) -> Result<()> {
    let spec = &recipe.spec;
    let boot = spec.boot.as_ref().context("the benched guest boots a kernel")?;
    let images = fleet.dir().join("images");
    for folder in &recipe.data {
        command.arg("-L").arg(folder);
    }
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-name", "bench"]);
    command.args(["-machine", &format!("{},memory-backend=pc.ram", spec.machine)]);
    command.args(["-accel", &recipe.accel, "-cpu", &spec.cpu_model]);
    command.args(["-smp", &spec.vcpus.to_string()]);
    let bytes = recipe.memory;
    command.args(["-m", &format!("{}k", bytes >> 10)]);
    command.arg("-object").arg(format!("memory-backend-ram,id=pc.ram,size={bytes},share=off"));
    command.arg("-kernel").arg(images.join(boot.kernel.file.as_str()));
    if let Some(initrd) = &boot.initrd {
        command.arg("-initrd").arg(images.join(initrd.file.as_str()));
    }
    command.args(["-append", &boot.cmdline, "-serial", "null"]);
    let nic = spec.nics.first().and_then(|n| n.mac).context("the benched guest has a NIC")?;
    command.arg("-netdev").arg(format!("tap,id=net0,ifname={tap},script=no,downscript=no"));
    command.arg("-device").arg(format!("virtio-net-pci,netdev=net0,mac={nic}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_emulators_need_an_odd_length() {
        let gib = 1 << 30;
        assert_eq!(whole_memory(gib, "pc-q35-7.2", "tcg"), gib - 8192);
        assert_eq!(whole_memory(gib - 8192, "pc-q35-7.2", "tcg"), gib - 8192);
        assert_eq!(whole_memory(gib, "pc-q35-7.2", "kvm"), gib);
        assert_eq!(whole_memory(gib, "pc-q35-10.0", "tcg"), gib);
    }
}
