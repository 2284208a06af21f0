//! The other side of the comparison: two plain QEMUs in the same hosts, with
//! the same guest, moved by QEMU's own pre-copy over TCP.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use types::{PAGE_SIZE, VmSpec};

use crate::fleet::Fleet;
use crate::proc;

const SOON: Duration = Duration::from_secs(20);
/// Longest a migration may take.
const LONG: Duration = Duration::from_secs(300);

/// A QEMU that runs in a lab's host.
pub(super) struct Plain {
    host: String,
    child: Child,
    client: qmp::Client,
    events: qmp::Events,
    tap: String,
    memory: PathBuf,
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

impl Plain {
    /// Starts the guest, or, with `incoming`, a QEMU that waits for it.
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
        let own = fleet.dir().join("hosts").join(host);
        let tap = format!("bench{number}");
        for args in [
            vec!["tuntap", "add", "dev", &tap, "mode", "tap"],
            vec!["link", "set", &tap, "master", "br0", "up"],
        ] {
            proc::output(lab::command_in(fleet.dir(), host, "ip")?.args(args), SOON)?;
        }
        let memory = own.join("memory").join(format!("bench{number}.ram"));
        let socket = own.join("run").join(format!("bench{number}.sock"));
        let log = own.join("run").join(format!("bench{number}.log"));
        let mut command = lab::command_in(fleet.dir(), host, &recipe.qemu)?;
        arguments(&mut command, fleet, recipe, &tap, &memory.to_string_lossy())?;
        command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", socket.display()));
        if incoming {
            command.arg("-incoming").arg(format!("tcp:0.0.0.0:{}", port(number)));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(std::fs::File::create(&log)?);
        let mut child = command.spawn().context("cannot start QEMU")?;
        let connected = proc::until("QEMU's monitor", SOON, || {
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
        Ok(Self { host: host.to_owned(), child, client, events, tap, memory, number })
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

    /// Sends the guest to `to`, as fast as the link is; the time from the
    /// command until the source says `completed` and the destination runs.
    /// `travels` is called when the first memory has been sent.
    ///
    /// # Errors
    /// The migration fails or takes longer than five minutes.
    pub(super) fn migrate(
        &self,
        fleet: &Fleet,
        to: &mut Plain,
        travels: impl FnOnce(),
    ) -> Result<f64> {
        let (_, number) = fleet
            .plan()
            .hosts()
            .map(|(n, host)| (host.to_string(), n))
            .find(|(host, _)| *host == to.host)
            .context("no such host")?;
        let uri = format!("tcp:{}:{}", fleet.plan().host(number), port(to.number));
        fleet.block_on(async {
            self.client.set_parameters(json!({ "max-bandwidth": 0 })).await?;
            let begun = Instant::now();
            self.client.migrate(&uri).await?;
            tokio::time::timeout(LONG, self.arrival(to, travels))
                .await
                .context("QEMU's migration")??;
            Ok(begun.elapsed().as_secs_f64())
        })
    }

    async fn arrival(&self, to: &mut Plain, travels: impl FnOnce()) -> Result<()> {
        let mut travels = Some(travels);
        let (mut completed, mut runs) = (false, false);
        while !(completed && runs) {
            if !completed {
                let state = self.client.query_migrate().await?;
                completed = state.status == "completed";
                let over = matches!(state.status.as_str(), "failed" | "cancelled");
                ensure!(!over, "QEMU's migration {}: {:?}", state.status, state.error);
                if state.ram.is_some_and(|ram| ram.transferred > 0)
                    && let Some(travels) = travels.take()
                {
                    travels();
                }
            }
            // The event tells the moment; between two looks at the source at most.
            let wait = Duration::from_millis(5);
            match tokio::time::timeout(wait, to.events.next()).await {
                Ok(Some(event)) => runs |= event.name() == "RESUME",
                Ok(None) => bail!("the destination's QEMU has ended"),
                Err(_) => {}
            }
        }
        Ok(())
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
        let mut rm = lab::command_in(fleet.dir(), &self.host, "rm")?;
        proc::output(rm.arg("-f").arg(&self.memory), SOON)?;
        Ok(())
    }
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

fn port(number: u32) -> u32 {
    20_000 + number
}

/// The same machine as Godwit's, as far as a plain QEMU has it.
fn arguments(
    command: &mut Command,
    fleet: &Fleet,
    recipe: &Recipe,
    tap: &str,
    memory: &str,
) -> Result<()> {
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
    command
        .arg("-object")
        .arg(format!("memory-backend-file,id=pc.ram,size={bytes},mem-path={memory},share=on"));
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
