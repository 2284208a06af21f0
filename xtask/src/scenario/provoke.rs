//! How a host becomes one that a VM cannot go to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;
use types::Bytes;

use crate::fleet::Fleet;
use crate::proc;

const SOON: Duration = Duration::from_secs(30);
/// What the memory file system of host-b is filled with.
pub(super) const BALLAST: Bytes = Bytes::mib(1000);

/// The lab, and what its agents were configured as at first.
pub(super) struct Ground {
    pub(super) fleet: Fleet,
    /// QEMU, as host-b has it.
    qemu: PathBuf,
}

impl Ground {
    pub(super) fn new(fleet: Fleet) -> Result<Self> {
        let config: toml::Table =
            toml::from_str(&std::fs::read_to_string(file(&fleet, "host-b"))?)?;
        let qemu = config.get("qemu").and_then(toml::Value::as_str).context("no qemu")?.into();
        Ok(Self { fleet, qemu })
    }

    /// Runs a program in a host's namespaces.
    pub(super) fn inside(&self, host: &str, line: &[&str]) -> Result<()> {
        let mut command = lab::command_in(self.fleet.dir(), host, line[0])?;
        proc::output(command.args(&line[1..]), SOON).map(|_| ())
    }

    pub(super) fn signal(&self, host: &str, signal: Signal) -> Result<()> {
        let agent = lab::processes(self.fleet.dir(), host)?.agent.context("no agent")?;
        agent.signal(signal)?;
        Ok(())
    }

    /// Changes an agent's configuration, and starts it again with that.
    pub(super) fn configure(
        &self,
        host: &str,
        change: impl FnOnce(&mut toml::Table) -> Result<()>,
    ) -> Result<()> {
        let file = file(&self.fleet, host);
        let saved = file.with_extension("first");
        if !saved.exists() {
            std::fs::copy(&file, &saved)?;
        }
        let mut config: toml::Table = toml::from_str(&std::fs::read_to_string(&saved)?)?;
        // Nothing is to be probed at each start.
        config.insert("accel".into(), "tcg".into());
        change(&mut config)?;
        std::fs::write(&file, toml::to_string(&config)?)?;
        self.restart(host)
    }

    /// An agent as it was at first.
    pub(super) fn restore(&self, host: &str) -> Result<()> {
        self.configure(host, |_| Ok(()))
    }

    pub(super) fn restart(&self, host: &str) -> Result<()> {
        let before = lab::processes(self.fleet.dir(), host)?.agent.context("no agent")?;
        before.signal(Signal::KILL)?;
        proc::until("the agent's next start", SOON, || {
            let agent = lab::processes(self.fleet.dir(), host)?.agent;
            Ok(agent.filter(|agent| *agent != before).map(|_| ()))
        })
    }

    /// A QEMU that is called with more arguments, or others.
    pub(super) fn wrapped(&self, host: &str, script: &str) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        // Its name says that it is a QEMU.
        let file = self.fleet.host_dir(host).join("qemu-system-wrapped");
        let script = script.replace("QEMU", &self.qemu.display().to_string());
        std::fs::write(&file, format!("#!/bin/sh\n{script}\n"))?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
        self.configure(host, |config| {
            config.insert("qemu".into(), file.display().to_string().into());
            Ok(())
        })
    }

    pub(super) fn shared(&self) -> PathBuf {
        self.fleet.dir().join("shared")
    }

    /// A folder of host-b's own.
    pub(super) fn own(&self, name: &str) -> PathBuf {
        self.fleet.host_dir("host-b").join(name)
    }

    /// Puts a copy of the pool in its place, on host-b only.
    pub(super) fn copy_pool(&self) -> Result<()> {
        let (shared, copy) = (self.shared(), self.own("copy"));
        self.inside("host-b", &["cp", "-a", text(&shared), text(&copy)])?;
        self.inside("host-b", &["mount", "--bind", text(&copy), text(&shared)])
    }

    pub(super) fn unmount_pool(&self) -> Result<()> {
        self.inside("host-b", &["umount", text(&self.shared())])
    }

    /// Host-b becomes another machine, whose pool has no O_DIRECT.
    pub(super) fn cached_pool(&self) -> Result<()> {
        let id = self.own("boot_id");
        std::fs::write(&id, "11111111-2222-3333-4444-555555555555\n")?;
        self.inside("host-b", &["mount", "--bind", text(&id), BOOT_ID])?;
        self.inside("host-b", &["mount", "-t", "ramfs", "none", text(&self.shared())])?;
        self.restart("host-b")
    }

    pub(super) fn uncached_pool(&self) -> Result<()> {
        self.inside("host-b", &["umount", BOOT_ID])?;
        self.unmount_pool()?;
        self.restart("host-b")
    }

    /// Firmware of another size than QEMU's own.
    pub(super) fn other_firmware(&self) -> Result<()> {
        let folder = self.own("firmware");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("bios-256k.bin"), vec![0; 128 << 10])?;
        self.configure("host-b", |config| {
            config.insert("qemu_data".into(), vec![text(&folder).to_owned()].into());
            Ok(())
        })
    }

    /// A QEMU that has never heard of a machine type.
    pub(super) fn hide_machine(&self, machine: &str) -> Result<()> {
        let own = std::env::current_exe()?;
        let run = self.own("run");
        let (path, real) = (run.join("probe.qmp"), run.join("probe.real"));
        let script = format!(
            "case \"$*\" in *'-machine none'*)\n\
             rm -f {real}\n\
             {own} scenario qmp-filter --listen {path} --connect {real} --hide {machine} &\n\
             for a in \"$@\"; do shift; set -- \"$@\" \"$(printf %s \"$a\" | sed 's,probe.qmp,probe.real,')\"; done ;;\n\
             esac\n\
             exec QEMU \"$@\"",
            own = own.display(),
            path = path.display(),
            real = real.display(),
        );
        self.wrapped("host-b", &script)
    }

    pub(super) fn ballast(&self) -> PathBuf {
        self.own("memory").join("ballast")
    }
}

/// Where the kernel tells of its boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

fn file(fleet: &Fleet, host: &str) -> PathBuf {
    fleet.host_dir(host).join("agent.toml")
}

/// Paths of labs are of our own making.
pub(super) fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}
