//! Carriers: started next to a QEMU, in its scope, and found again by their pid file.

use std::fs;
use std::os::unix::ffi::OsStrExt;

use types::{CarrierConfig, CarrierSide};

use crate::process::{self, Identity};
use crate::spawn::spawn;
use crate::{Hypervisor, InstanceRecord, VmmError, dirs};

/// Environment variable that tells to which run directory a carrier belongs. It
/// finds one whose pid file was not written any more.
const MARKER: &str = "GODWIT_INSTANCE";

impl Hypervisor {
    /// Starts the carrier of an instance; one that is there already is ended first.
    ///
    /// # Errors
    /// It cannot be started, or an earlier one cannot be ended.
    pub async fn start_carrier(
        &self,
        record: &InstanceRecord,
        config: &CarrierConfig,
    ) -> Result<(), VmmError> {
        self.end_carrier(record).await?;
        let stale = match config.side {
            // The destination's QEMU listens there already.
            CarrierSide::Destination { .. } => vec![&config.control],
            CarrierSide::Source { .. } => vec![&config.control, &config.qemu],
        };
        for socket in stale {
            let removed = dirs::absent(fs::remove_file(socket));
            removed.map_err(VmmError::io("remove stale socket", socket))?;
        }
        let (log, _) = dirs::log(&record.carrier_log())?;
        let mut line = serde_json::to_vec(config)
            .map_err(|e| VmmError::Config { option: "carrier", problem: e.to_string() })?;
        line.push(b'\n');
        let groups = self.scopes.of(&record.groups, self.process(record));
        let mut command = std::process::Command::new(&self.config.carrier);
        command.arg("carrier").env(MARKER, &record.run_dir).current_dir("/");
        let identity = spawn(command, log, groups, &line).await?;
        let file = record.carrier_pid_file();
        fs::write(&file, format!("{} {}\n", identity.pid, identity.started))
            .map_err(VmmError::io("write", &file))
    }

    /// Whether an instance's carrier runs.
    pub fn carrier_alive(&self, record: &InstanceRecord) -> bool {
        self.carrier(record).is_some()
    }

    /// Ends an instance's carrier, if there is one; what it has not delivered is lost.
    ///
    /// # Errors
    /// It does not end although it was killed.
    pub async fn end_carrier(&self, record: &InstanceRecord) -> Result<(), VmmError> {
        if let Some(carrier) = self.carrier(record) {
            carrier.kill("carrier").await?;
        }
        let file = record.carrier_pid_file();
        dirs::absent(fs::remove_file(&file)).map_err(VmmError::io("remove", &file))
    }

    fn carrier(&self, record: &InstanceRecord) -> Option<Identity> {
        if !self.is_of_this_boot(record) {
            return None;
        }
        if let Ok(text) = fs::read_to_string(record.carrier_pid_file()) {
            let mut words = text.split_ascii_whitespace();
            let pid = words.next()?.parse().ok()?;
            let started = words.next()?.parse().ok()?;
            let identity = Identity { pid, started };
            return identity.alive().then_some(identity);
        }
        let mut item = MARKER.as_bytes().to_vec();
        item.push(b'=');
        item.extend_from_slice(record.run_dir.as_os_str().as_bytes());
        process::find("environ", &item)
    }
}
