//! A machine with nothing on it: namespaces of its own, and its own /etc, /run,
//! /var/lib, /usr/local/bin, /home, /tmp and /dev/shm.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::proc;

/// Until the machine is up.
const UP: Duration = Duration::from_secs(20);
/// Longest that a block of a guide may take.
const BLOCK: Duration = Duration::from_secs(120);
/// The user of a machine, where root is not to be used.
const USER: u32 = 65534;

/// Makes the machine's own view; `$1` is its folder, `$2` the shared one.
const VIEW: &str = r#"
set -eu
cp -a /etc "$1/etc"
mkdir -p "$1/etc/systemd/system"
rm -rf "$1/etc/godwit"
mount --bind "$1/etc" /etc
for dir in run var/lib tmp home root dev/shm usr/local/bin srv; do
    mkdir -p "$1/own/$dir" "/$dir"
done
for dir in run var/lib tmp home root dev/shm; do
    mount -t tmpfs -o mode=0755 machine "/$dir"
done
chmod 1777 /tmp /dev/shm
install -d -m 0700 -o 65534 -g 65534 /home/guest
install -m 0755 "$1/systemctl" "$1/own/usr/local/bin/systemctl"
mount --bind "$1/own/usr/local/bin" /usr/local/bin
mkdir -p "$1/own/srv/vms"
mount --bind "$1/own/srv" /srv
mount --bind "$2" /srv/vms
# What the kernel shows of devices is of this machine's network.
mount -t sysfs machine /sys
ip link set lo up
touch "$1/up"
exec sleep infinity
"#;

/// What stands in for systemd: it starts what a unit's `ExecStart` says, again and
/// again, and keeps nothing else of it.
const SYSTEMCTL: &str = r#"#!/bin/bash
set -eu
dir=/etc/systemd/system
if [ "$1" = --user ]; then dir="$HOME/.config/systemd/user"; shift; fi
verb=$1; shift
[ "${1:-}" = --now ] && shift
pid="/tmp/unit-$(id -u)-$1.pid"
run=$(sed -n 's/^ExecStart=//p' "$dir/$1.service" | sed "s|%h|$HOME|g")
[ -n "$run" ] || { echo "no unit $1" >&2; exit 1; }
case $verb in
enable) setsid bash -c "while true; do $run & echo \$! > $pid; wait \$! || true; sleep 1; done" \
    </dev/null >>"/tmp/unit-$(id -u)-$1.log" 2>&1 & sleep 2 ;;
restart) kill "$(cat "$pid")"; sleep 3 ;;
*) echo "systemctl $verb is not known here" >&2; exit 1 ;;
esac
"#;

/// One machine; gone when dropped, with everything that runs on it.
pub(super) struct Machine {
    pub(super) name: String,
    dir: PathBuf,
    keeper: Child,
    /// Its first process, as seen from outside.
    init: u32,
    root: bool,
}

impl Machine {
    /// Brings it up in a folder of its own; `root`: what is typed is typed by root.
    pub(super) fn up(name: &str, dir: &Path, shared: &Path, root: bool) -> Result<Self> {
        fs::create_dir_all(dir)?;
        fs::write(dir.join("systemctl"), SYSTEMCTL)?;
        let mut command = Command::new("unshare");
        command
            .args(["--net", "--mount", "--uts", "--pid", "--fork", "--kill-child"])
            .args(["--mount-proc", "--propagation", "private", "bash", "-c", VIEW, "view"])
            .arg(dir)
            .arg(shared)
            .stdin(Stdio::null());
        let keeper = command.spawn().context("unshare cannot be run")?;
        let mut machine =
            Self { name: name.to_owned(), dir: dir.to_owned(), keeper, init: 0, root };
        proc::until("the machine is up", UP, || {
            if let Some(status) = machine.keeper.try_wait()? {
                bail!("{name} did not come up: {status}");
            }
            Ok(dir.join("up").exists().then_some(()))
        })?;
        let pid = machine.keeper.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        machine.init = children.trim().parse().context("the machine has no first process")?;
        Ok(machine)
    }

    /// Connects two machines, and gives them addresses.
    pub(super) fn wire(&self, address: &str, other: &Self, others: &str) -> Result<()> {
        let peer = other.init.to_string();
        let script = format!("ip link add eth0 type veth peer name eth0 netns {peer}");
        // From outside, where the other's process can be named.
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.init.to_string(), "-n", "sh", "-c", &script]);
        proc::run(&mut command, UP)?;
        for (machine, address) in [(self, address), (other, others)] {
            let script = format!("ip addr add {address}/24 dev eth0 && ip link set eth0 up");
            let mut command = Command::new("nsenter");
            command.args(["-t", &machine.init.to_string(), "-n", "sh", "-c", &script]);
            proc::run(&mut command, UP)?;
        }
        Ok(())
    }

    /// Types a block in `here`, with what earlier blocks exported; what it printed.
    pub(super) fn run(&self, here: &Path, script: &str) -> Result<String> {
        let (home, id) = if self.root { ("/root", 0) } else { ("/home/guest", USER) };
        let env = format!("/tmp/env-{id}");
        let text = format!(
            "set -euo pipefail\n[ -e {env} ] && . {env}\nmkdir -p ~/here && cd ~/here\n\
             ln -sfn {here}/deploy deploy && ln -sfn {here}/godwit godwit\n{script}\n\
             export -p > {env}\n",
            here = here.display()
        );
        let file = self.dir.join("own/usr/local/bin/.block");
        fs::write(&file, text)?;
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.init.to_string(), "-n", "-m", "-u", "-p"]);
        if !self.root {
            let id = id.to_string();
            command.args(["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"]);
            command.args(["--inh-caps=-all", "--bounding-set=-all"]);
        }
        command.args(["env", "-i", &format!("HOME={home}"), "LANG=C.UTF-8"]);
        command.arg("PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
        command.args(["bash", "/usr/local/bin/.block"]);
        proc::output(&mut command, BLOCK)
    }

    /// The logs of its programs.
    pub(super) fn logs(&self) -> String {
        let script = "tail -n 30 /tmp/unit-*.log 2>/dev/null || true";
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.init.to_string(), "-m", "-p", "sh", "-c", script]);
        proc::output(&mut command, UP).unwrap_or_default()
    }

    /// Ends it.
    pub(super) fn down(mut self) -> Result<()> {
        self.keeper.kill()?;
        self.keeper.wait()?;
        let gone = || !Path::new(&format!("/proc/{}", self.init)).exists();
        proc::until("the machine is gone", UP, || Ok(gone().then_some(())))?;
        ensure!(gone(), "{} is still there", self.name);
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Ended already, or ended here; `--kill-child` takes everything along.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}
