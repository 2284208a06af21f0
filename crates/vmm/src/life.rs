//! The life of one instance: start, adopt, end.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use crate::images::Images;
use crate::process::{self, Identity};
use crate::spawn::spawn;
use crate::{Hypervisor, InstanceRecord, VmmError, dirs, firmware, scope, seed};

/// From QEMU's start until its monitor answers.
const STARTING: Duration = Duration::from_secs(30);
/// Until the monitor of a QEMU that runs answers.
const ANSWERING: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);

/// Where the guest's first state comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming {
    /// It boots.
    No,
    /// It arrives: QEMU waits for `migrate-incoming`.
    Yes,
}

/// A QEMU that runs, with a connection to its monitor. Dropping it ends nothing.
#[derive(Debug)]
pub struct Instance {
    /// What was planned, with QEMU's process.
    pub record: InstanceRecord,
    /// The monitor.
    pub qmp: qmp::Client,
    /// What QEMU says by itself, from the beginning of the connection.
    pub events: qmp::Events,
    /// What this QEMU can do.
    pub features: qmp::Features,
    /// Its memory holds an image of the VM, from when it was here last.
    pub image: bool,
}

impl Instance {
    /// A reader of events of its own, from now on; `None` if the monitor is closed.
    pub fn take_events(&mut self) -> Option<qmp::Events> {
        self.qmp.events()
    }
}

/// Something that belongs to no known instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Run directory or memory file.
    pub path: PathBuf,
    /// The QEMU that uses the run directory.
    pub pid: Option<u32>,
}

impl Hypervisor {
    /// Makes everything that was planned and starts QEMU; the guest does not
    /// execute yet.
    ///
    /// # Errors
    /// What failed, with the last that QEMU said. Everything was undone, except
    /// where the instance was there already: then it is not touched.
    pub async fn start(
        &self,
        record: &InstanceRecord,
        incoming: Incoming,
    ) -> Result<Instance, VmmError> {
        if self.is_alive(record) {
            let problem = "this instance runs already; adopt it".to_owned();
            return Err(VmmError::Start { problem, log: String::new() });
        }
        let mut record = record.clone();
        match self.start_all(&mut record, incoming).await {
            Ok(instance) => Ok(instance),
            Err(error) => {
                if let Err(also) = self.end(&record).await {
                    tracing::error!(vm = %record.vm, %also, "cannot undo a failed start");
                }
                Err(error)
            }
        }
    }

    async fn start_all(
        &self,
        record: &mut InstanceRecord,
        incoming: Incoming,
    ) -> Result<Instance, VmmError> {
        let args = self.argv(record, incoming)?;
        dirs::private(&record.run_dir)?;
        dirs::private(&record.log_dir)?;
        record.serial_start = dirs::log(&record.serial_log())?.1;
        self.lay_out(record, incoming)?;
        let image = self.reserve(record, incoming).await?;
        for tap in &record.taps {
            tap.create().await?;
        }
        let (log, start) = dirs::log(&record.qemu_log())?;
        let name = record.full_name();
        let mut command = self.scopes.wrap(&name, &self.config.qemu, &args);
        command.current_dir("/");
        let qemu = spawn(command, log, scope::create(&record.groups), b"").await?;
        record.pid = Some(qemu.pid);
        record.start_time = Some(qemu.started);
        let connected = tokio::select! {
            connected = self.connect(record, STARTING) => match connected {
                Ok(instance) => Ok(Instance { image, ..instance }),
                Err(e) => Err(e.to_string()),
            },
            () = qemu.exited() => Err("it ended".to_owned()),
        };
        connected.map_err(|problem| VmmError::Start {
            problem,
            log: dirs::tail(&record.qemu_log(), start),
        })
    }

    /// The files that QEMU opens besides disks and memory.
    fn lay_out(&self, record: &InstanceRecord, incoming: Incoming) -> Result<(), VmmError> {
        if let Some(vars) = Images::find(&self.config, &record.spec)?.vars {
            let uefi = firmware::required(self.uefi.as_ref())?;
            // A VM that arrives has variables; new ones would be another VM's.
            if incoming == Incoming::No {
                uefi.make_vars(&vars)?;
            }
            uefi.check_vars(&vars)?;
        }
        if let Some(seed) = &record.spec.cloud_init {
            let path = record.seed();
            let volume = seed::volume(seed, record.vm, record.spec.name.as_str());
            fs::write(&path, volume).map_err(VmmError::io("write", &path))?;
        }
        Ok(())
    }

    /// Filling gigabytes takes a while; other VMs need not wait for it. Whether what is
    /// there is an image of the VM.
    async fn reserve(&self, record: &InstanceRecord, incoming: Incoming) -> Result<bool, VmmError> {
        let (memory, rows) = (self.memory_of(&record.spec)?.clone(), record.blocks());
        let vm = record.vm;
        let made = tokio::task::spawn_blocking(move || {
            let mut image = false;
            for row in &rows {
                if incoming == Incoming::No {
                    // It boots: whatever it once had in memory is of no use any more.
                    memory.images().drop_of(vm, row)?;
                }
                image |= memory.create_or_take(vm, row)?;
            }
            Ok(image)
        });
        made.await.map_err(|e| VmmError::io("reserve memory file", &record.memory)(e.into()))?
    }

    /// Finds the QEMU of a record and connects to it; `None` if it is dead.
    ///
    /// # Errors
    /// It lives, but its monitor does not answer.
    pub async fn adopt(&self, record: &InstanceRecord) -> Result<Option<Instance>, VmmError> {
        let Some(qemu) = self.process(record) else { return Ok(None) };
        let mut record = record.clone();
        record.pid = Some(qemu.pid);
        record.start_time = Some(qemu.started);
        tokio::select! {
            connected = self.connect(&record, ANSWERING) => match connected {
                Err(_) if !qemu.alive() => Ok(None),
                connected => connected.map(Some),
            },
            () = qemu.exited() => Ok(None),
        }
    }

    async fn connect(
        &self,
        record: &InstanceRecord,
        limit: Duration,
    ) -> Result<Instance, VmmError> {
        let record = record.clone();
        if let Some((qmp, features)) = self.monitors.get(&record.run_dir)
            && let Some(events) = qmp.events()
        {
            return Ok(Instance { record, qmp, events, features, image: false });
        }
        let socket = record.qmp_socket();
        let deadline = Instant::now() + limit;
        let (qmp, events) = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match qmp::Client::connect(&socket, left).await {
                Ok(connected) => break connected,
                // Not there yet, unless time is up.
                Err(qmp::QmpError::Connect { .. }) if !left.is_zero() => {
                    tokio::time::sleep(POLL).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        let features = qmp::Features::probe(&qmp).await?;
        self.monitors.keep(&record.run_dir, &qmp, &features);
        Ok(Instance { record, qmp, events, features, image: false })
    }

    /// Kills QEMU and its carrier and removes everything that was made for the
    /// instance but its logs. Fine if there is nothing any more.
    ///
    /// # Errors
    /// Something could not be ended or removed; to be tried again.
    pub async fn end(&self, record: &InstanceRecord) -> Result<(), VmmError> {
        self.end_with(record, false).await
    }

    /// As [`Self::end`], but keeps the guest's memory for its return, as far as the
    /// policy allows. Only for a VM that runs elsewhere for good.
    ///
    /// # Errors
    /// As [`Self::end`].
    pub async fn end_and_retain(&self, record: &InstanceRecord) -> Result<(), VmmError> {
        self.end_with(record, true).await
    }

    async fn end_with(&self, record: &InstanceRecord, retain: bool) -> Result<(), VmmError> {
        if let Some(qemu) = self.process(record) {
            qemu.kill("QEMU").await?;
        }
        self.monitors.forget(&record.run_dir);
        self.end_carrier(record).await?;
        for tap in &record.taps {
            tap.remove().await?;
        }
        // QEMU and carrier are dead: nobody writes to memory any more.
        for row in record.blocks() {
            if retain && !record.is_huge() {
                self.memory.images().keep(record.vm, &row)?;
            } else {
                self.memory.remove(&row.file)?;
            }
        }
        scope::remove(&record.groups).await;
        dirs::absent(fs::remove_dir_all(&record.run_dir))
            .map_err(VmmError::io("remove directory", &record.run_dir))
    }

    /// Whether the QEMU of a record runs.
    pub fn is_alive(&self, record: &InstanceRecord) -> bool {
        self.process(record).is_some()
    }

    /// Completes when the QEMU of a record has ended; at once if it has already.
    pub fn wait_exit(
        &self,
        record: &InstanceRecord,
    ) -> impl Future<Output = ()> + Send + use<> + 'static {
        let exited = self.process(record).map(Identity::exited);
        async move {
            if let Some(exited) = exited {
                exited.await;
            }
        }
    }

    /// What lies in our directories and belongs to none of the `known` instances.
    /// Nothing of it is touched.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn leftovers(&self, known: &[InstanceRecord]) -> Result<Vec<Leftover>, VmmError> {
        let run_dir = &self.config.run_dir;
        let list = || -> io::Result<Vec<PathBuf>> {
            fs::read_dir(run_dir)?.map(|e| Ok(e?.path())).collect()
        };
        let dirs = list().map_err(VmmError::io("read", run_dir))?;
        let huge = self.config.hugepages.as_ref().map(|huge| huge.dir.as_path());
        let stores = [Some(self.config.memory_dir.as_path()), huge];
        let dirs =
            dirs.into_iter().filter(|dir| dir.is_dir() && !stores.contains(&Some(dir.as_path())));
        let mut files = Vec::new();
        for memory in [Some(&self.memory), self.hugepages.as_ref()].into_iter().flatten() {
            files.extend(memory.list().map_err(VmmError::io("read", memory.dir()))?);
        }
        let ours: Vec<PathBuf> = known
            .iter()
            .flat_map(|r| [r.run_dir.clone()].into_iter().chain(r.memory_files()))
            .collect();
        Ok(dirs
            .chain(files)
            .filter(|path| !ours.contains(path))
            .map(|path| {
                let pid_file = path.join("qemu.pid");
                let qemu = process::find("cmdline", pid_file.as_os_str().as_bytes());
                Leftover { path, pid: qemu.map(|qemu| qemu.pid) }
            })
            .collect())
    }

    /// The QEMU of a record, if it runs. One that was started and not journalled
    /// any more is found by its arguments.
    pub(crate) fn process(&self, record: &InstanceRecord) -> Option<Identity> {
        if !self.is_of_this_boot(record) {
            return None;
        }
        if let Some(identity) = record.identity() {
            return identity.alive().then_some(identity);
        }
        let pid_file = record.pid_file();
        let item = pid_file.as_os_str().as_bytes();
        process::read_pid(&pid_file)
            .filter(|pid| process::has(*pid, "cmdline", item))
            .and_then(Identity::of)
            .or_else(|| process::find("cmdline", item))
    }
}
