//! Serves consoles of this host's VMs. What a VM writes is read from its log, so
//! that any number of readers cost it nothing, and none of them can hold it up;
//! what is typed goes to QEMU's socket.

mod input;
mod session;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use handoff::source;
use tokio::sync::{Semaphore, watch};
use types::{SerialSpec, VmId};

use crate::core::VmRecord;
use crate::host::Host;
use crate::sync::View;

/// Sessions at the same time.
const SESSIONS: usize = 128;
/// After the controller was not reached.
const PAUSE: Duration = Duration::from_secs(1);

/// The serial port of a VM's QEMU on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    /// Which QEMU.
    instance: String,
    /// Where what the VM writes is.
    log: PathBuf,
    /// Where in it this QEMU began.
    start: u64,
    /// Where what is typed goes.
    socket: Option<PathBuf>,
    /// The VM is about to be stopped for its move: what is typed now would stay here.
    hold: bool,
}

impl Port {
    fn of(record: &VmRecord) -> Option<Self> {
        // Once the record names this host, what has arrived is the VM.
        let arrived = record.incoming.as_ref().map(|incoming| &incoming.instance);
        let instance = record.instance.as_ref().or(arrived)?;
        let socket = match instance.spec.serial {
            SerialSpec::Console => Some(instance.console_socket()),
            SerialSpec::Log => None,
            SerialSpec::None => return None,
        };
        let copying = [source::Stage::Preparing, source::Stage::Copying];
        Some(Self {
            instance: instance.instance.clone(),
            log: instance.serial_log(),
            start: instance.serial_start,
            socket,
            hold: record.outgoing.as_ref().is_some_and(|o| !copying.contains(&o.stage)),
        })
    }
}

/// What is known of a VM whose console may be asked for.
#[derive(Clone)]
struct Source {
    /// What the controller says of it.
    view: watch::Receiver<View>,
    port: watch::Sender<Option<Port>>,
}

/// The serial ports of this host.
#[derive(Default)]
pub(crate) struct Consoles(Mutex<BTreeMap<VmId, Source>>);

impl Consoles {
    /// A VM's task begins.
    pub(crate) fn register(&self, record: &VmRecord, view: watch::Receiver<View>) {
        let port = watch::Sender::new(Port::of(record));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(record.vm, Source { view, port });
    }

    /// What the VM's journal says has changed.
    pub(crate) fn update(&self, record: &VmRecord) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(source) = all.get(&record.vm) {
            let port = Port::of(record);
            source.port.send_if_modified(|old| {
                let new = *old != port;
                *old = port;
                new
            });
        }
    }

    fn source(&self, vm: VmId) -> Option<Source> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&vm).cloned()
    }
}

/// Keeps a connection ready for the next user, for ever.
pub(crate) async fn serve(host: Arc<Host>, client: api::Client) {
    let sessions = Arc::new(Semaphore::new(SESSIONS));
    loop {
        // Never closed.
        let Ok(slot) = Arc::clone(&sessions).acquire_owned().await else { return };
        match client.next_console().await {
            Ok(Some(stream)) => {
                let host = Arc::clone(&host);
                tokio::spawn(async move {
                    if let Err(error) = session::serve(&host, stream).await {
                        tracing::debug!(%error, "a console's session broke");
                    }
                    drop(slot);
                });
            }
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(%error, "consoles cannot be offered");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
