//! The newest incarnation of the controller's store that this host was told of,
//! kept durably: what an older store says is never followed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use types::Incarnation;

/// The newest one.
pub(crate) struct Newest {
    path: PathBuf,
    known: Mutex<Incarnation>,
}

impl Newest {
    /// Reads it; a host that was told of none knows 0.
    pub(crate) fn open(state_dir: &Path) -> io::Result<Self> {
        let path = state_dir.join("incarnation");
        let known = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| {
                io::Error::other("not a number; `godwit controller status` tells the right one")
            })?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(e) => return Err(e),
        };
        Ok(Self { path, known: Mutex::new(Incarnation(known)) })
    }

    /// The newest one told.
    pub(crate) fn known(&self) -> Incarnation {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what a controller says; durable when it returns.
    ///
    /// # Errors
    /// It is older than what was told before, or cannot be written. Then nothing that
    /// the controller says is to be followed.
    pub(crate) fn take(&self, told: Incarnation) -> Result<(), String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if told < *known {
            return Err(format!(
                "ALARM: the controller's store is of incarnation {}, this host has seen {}; \
                 restore a newer backup",
                told.0, known.0
            ));
        }
        if told > *known {
            write(&self.path, told).map_err(|e| format!("{}: {e}", self.path.display()))?;
            *known = told;
        }
        Ok(())
    }
}

fn write(path: &Path, told: Incarnation) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    writeln!(file, "{}", told.0)?;
    file.sync_data()?;
    fs::rename(&new, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_store_is_not_followed_even_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let newest = Newest::open(dir.path()).unwrap();
        assert_eq!(newest.known(), Incarnation(0));
        newest.take(Incarnation(1)).unwrap();
        newest.take(Incarnation(7)).unwrap();
        newest.take(Incarnation(7)).unwrap();
        assert!(newest.take(Incarnation(6)).unwrap_err().contains("ALARM"));
        let again = Newest::open(dir.path()).unwrap();
        assert_eq!(again.known(), Incarnation(7));
        assert!(again.take(Incarnation(1)).is_err());
        std::fs::write(dir.path().join("incarnation"), "x").unwrap();
        assert!(Newest::open(dir.path()).is_err());
    }
}
