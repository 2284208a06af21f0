//! Backups of the controller's store: told whole, checked whole.

use ring::digest;

use crate::body::{Backup, BackupEntry};

/// The format written here.
pub const FORMAT: u32 = 1;

/// The digest of a backup's entries.
///
/// # Errors
/// They cannot be written as JSON.
pub fn digest(entries: &[BackupEntry]) -> Result<String, serde_json::Error> {
    let text = serde_json::to_vec(entries)?;
    let digest = digest::digest(&digest::SHA256, &text);
    Ok(digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whether a backup is of this format, and whole.
///
/// # Errors
/// Why not.
pub fn check(backup: &Backup) -> Result<(), String> {
    if backup.format != FORMAT {
        return Err(format!("its format is {}, this version reads {FORMAT}", backup.format));
    }
    let found = digest(&backup.entries).map_err(|e| e.to_string())?;
    if found == backup.digest { Ok(()) } else { Err("it is damaged: the digest differs".into()) }
}
