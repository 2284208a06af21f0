//! Making faults, and ending them.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::{Identity, LinkState, Proxy, Signal};

use super::cells::Fault;
use crate::proc;

/// Longest a tool may take.
const SOON: Duration = Duration::from_secs(20);

/// What it takes to make one fault.
#[derive(Debug, Clone)]
pub(super) struct Hands {
    /// The lab.
    pub(super) dir: PathBuf,
    /// The fault.
    pub(super) fault: Fault,
    /// The host of the point; for the controller's points the one the VM leaves.
    pub(super) host: String,
    /// The host the VM goes to, whose carrier listens.
    pub(super) to: String,
    /// Asks the controller to cancel.
    pub(super) cancel: CancelBy,
}

/// `godwit cancel`, ready to be run.
#[derive(Debug, Clone)]
pub(super) struct CancelBy {
    pub(super) program: PathBuf,
    pub(super) env: Vec<(&'static str, String)>,
    pub(super) vm: String,
}

impl Hands {
    /// Makes the fault; a thread of its own ends it where it has an end.
    ///
    /// # Errors
    /// It could not be made.
    pub(super) fn strike(&self, pid: u32) -> Result<()> {
        match self.fault {
            Fault::Kill => signal(self.here(pid)?, Signal::KILL),
            Fault::Stop => self.stop(vec![self.here(pid)?]),
            Fault::KillQemu => {
                self.qemus()?.into_iter().try_for_each(|qemu| signal(qemu, Signal::KILL))
            }
            Fault::StopQemu => self.stop(self.qemus()?),
            Fault::HostDeath => self.die(),
            Fault::Unplug => self.unplug(),
            Fault::Reset => Ok(Proxy::of(&self.dir)?.reset(&self.to)?),
            Fault::Cut => {
                Proxy::of(&self.dir)?.cut(&self.to)?;
                self.later(|hands| Ok(Proxy::of(&hands.dir)?.restore(&hands.to)?));
                Ok(())
            }
            Fault::Delay => {
                Proxy::of(&self.dir)?.delay(&self.to, Duration::from_millis(150))?;
                self.later(|hands| Ok(Proxy::of(&hands.dir)?.restore(&hands.to)?));
                Ok(())
            }
            Fault::KillController => signal(self.controller()?, Signal::KILL),
            Fault::StopController => self.stop(vec![self.controller()?]),
            Fault::NoSpace => self.cover("size=4k,nr_inodes=1"),
            Fault::ReadOnly => self.cover("ro,size=4k"),
            Fault::Cancel => self.cancel(),
        }
    }

    /// Ends the fault when its time has come.
    fn later(&self, end: impl FnOnce(&Self) -> Result<()> + Send + 'static) {
        let hands = self.clone();
        std::thread::spawn(move || {
            std::thread::sleep(hands.fault.lasts());
            if let Err(e) = end(&hands) {
                eprintln!("error: the fault {:?} does not end: {e:#}", hands.fault);
            }
        });
    }

    fn here(&self, pid: u32) -> Result<Identity> {
        Identity::of(pid).context("the program ended before it could be struck")
    }

    fn qemus(&self) -> Result<Vec<Identity>> {
        let qemus = lab::processes(&self.dir, &self.host)?.qemus;
        ensure!(!qemus.is_empty(), "{} has no QEMU to strike", self.host);
        Ok(qemus)
    }

    fn controller(&self) -> Result<Identity> {
        lab::outside(&self.dir)?.controller.context("there is no controller to strike")
    }

    fn stop(&self, processes: Vec<Identity>) -> Result<()> {
        for process in &processes {
            signal(*process, Signal::STOP)?;
        }
        self.later(move |_| {
            processes.into_iter().try_for_each(|process| signal(process, Signal::CONT))
        });
        Ok(())
    }

    fn unplug(&self) -> Result<()> {
        lab::link(&self.dir, &self.host, LinkState::Down)?;
        self.later(|hands| Ok(lab::link(&hands.dir, &hands.host, LinkState::Up)?));
        Ok(())
    }

    /// Everything ends at once; after a while the host has started again.
    fn die(&self) -> Result<()> {
        let all = lab::processes(&self.dir, &self.host)?;
        let supervisor = all.supervisor.context("the host has no supervisor")?;
        signal(supervisor, Signal::STOP)?;
        lab::link(&self.dir, &self.host, LinkState::Down)?;
        let every = all.agent.into_iter().chain(all.carriers).chain(all.qemus).chain(all.others);
        for process in every {
            signal(process, Signal::KILL)?;
        }
        self.later(move |hands| {
            lab::link(&hands.dir, &hands.host, LinkState::Up)?;
            signal(supervisor, Signal::CONT)
        });
        Ok(())
    }

    /// Puts a file system that cannot be written over the journal's folder.
    fn cover(&self, options: &str) -> Result<()> {
        let journal = self.dir.join("hosts").join(&self.host).join("state/journal");
        let mut mount = lab::command_in(&self.dir, &self.host, "mount")?;
        mount.args(["-t", "tmpfs", "-o", options, "gw-chaos"]).arg(&journal);
        proc::output(&mut mount, SOON)?;
        self.later(move |hands| {
            let mut umount = lab::command_in(&hands.dir, &hands.host, "umount")?;
            proc::output(umount.arg(&journal), SOON).map(drop)
        });
        Ok(())
    }

    /// Does not wait for the answer: the party at the point may have to go on for it.
    fn cancel(&self) -> Result<()> {
        let by = &self.cancel;
        let mut command = Command::new(&by.program);
        command.args(["cancel", &by.vm]).envs(by.env.iter().map(|(name, value)| (name, value)));
        std::thread::spawn(move || {
            // Too late, or nothing to cancel: answers too.
            let _ = proc::output(&mut command, SOON);
        });
        std::thread::sleep(Duration::from_millis(100));
        Ok(())
    }
}

fn signal(process: Identity, signal: Signal) -> Result<()> {
    process.signal(signal)?;
    Ok(())
}
