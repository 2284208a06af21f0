//! Whether two hosts see the same storage, told by what each writes there.
//!
//! A path proves nothing, and neither does a mark that was written once: it may have
//! been copied together with everything else. So each host writes a fresh random
//! text into each pool again and again, and tells what it finds there of the others.
//! With the text stands the number of the file that it was written to, so that a host
//! that looks at a copy of its own mark knows it at once.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use types::{HostId, PoolName, PoolOffer};

use crate::images::opens_directly;

/// The folder of a pool that belongs to agents.
const FOLDER: &str = ".godwit";
/// How long a text stays.
const LIFE: Duration = Duration::from_secs(60);
/// How many of our texts count: another host may look through a cache, and tells
/// what it has found a little later.
const KEPT: usize = 5;
/// Characters of a text.
const LENGTH: usize = 32;
/// Longest mark in bytes.
const MAX_MARK: u64 = 64;
/// Most hosts that are looked for.
const MAX_HOSTS: usize = 4096;

/// What was written, by pool; the newest first.
#[derive(Debug, Default)]
pub(crate) struct Marks(Mutex<BTreeMap<PoolName, Written>>);

#[derive(Debug, Default)]
struct Written {
    texts: Vec<String>,
    since: Option<Instant>,
}

impl Marks {
    /// Writes where it is time to, and looks around.
    pub(crate) fn look(
        &self,
        host: &HostId,
        pools: &BTreeMap<PoolName, PathBuf>,
    ) -> BTreeMap<PoolName, PoolOffer> {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let each = pools.iter().map(|(pool, path)| {
            let written = marks.entry(pool.clone()).or_default();
            (pool.clone(), written.look(host, &path.join(FOLDER)))
        });
        each.collect()
    }
}

impl Written {
    fn look(&mut self, host: &HostId, folder: &Path) -> PoolOffer {
        let own = folder.join(host.as_str());
        let found = read(&own).filter(|mark| mark.is_where_it_was_written());
        if self.since.is_none() && found.is_some() {
            // Of this agent before it was started again.
            self.texts.extend(found.as_ref().map(|mark| mark.text.clone()));
            self.since = Some(Instant::now());
        }
        if found.is_none_or(|mark| Some(&mark.text) != self.texts.first()) {
            // Another file system stands there by now: what was written is not in it.
            *self = Self::default();
        }
        if self.since.is_none_or(|since| since.elapsed() >= LIFE) {
            match renew(&own) {
                Ok(text) => {
                    self.texts.insert(0, text);
                    self.texts.truncate(KEPT);
                    self.since = Some(Instant::now());
                }
                Err(error) => {
                    // Pools with images only may well be read-only.
                    tracing::debug!(folder = %folder.display(), %error, "nothing is written here");
                    *self = Self::default();
                }
            }
        }
        PoolOffer {
            direct: opens_directly(&own).unwrap_or(false),
            nonces: self.texts.clone(),
            seen: others(folder, host),
        }
    }
}

/// Writes a new random text in place, which readers elsewhere notice sooner than a
/// new file.
fn renew(file: &Path) -> io::Result<String> {
    let mut random = [0; LENGTH / 2];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    if let Some(folder) = file.parent() {
        // The pool itself must be there: it may not be mounted yet.
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    // Over the old one, which is as long: whoever looks meanwhile finds the one or the
    // other, and never an empty file.
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(file)?;
    let line = format!("{text} {}\n", file.metadata()?.ino());
    file.write_all(line.as_bytes())?;
    file.set_len(line.len() as u64)?;
    file.sync_all()?;
    Ok(text)
}

/// A mark as it is found.
struct Mark {
    text: String,
    /// The file it was written to.
    written: u64,
    /// The file it stands in.
    found: u64,
}

impl Mark {
    /// Told by the host that wrote it; another may know files by other numbers.
    fn is_where_it_was_written(&self) -> bool {
        self.written == self.found
    }
}

/// A whole mark; half of one may be seen while it is written.
fn read(file: &Path) -> Option<Mark> {
    let mut line = String::new();
    let file = File::open(file).ok()?;
    let found = file.metadata().ok()?.ino();
    file.take(MAX_MARK).read_to_string(&mut line).ok()?;
    let (text, written) = line.strip_suffix('\n')?.split_once(' ')?;
    let good = text.len() == LENGTH && text.bytes().all(|b| b.is_ascii_hexdigit());
    let mark = Mark { text: text.to_owned(), written: written.parse().ok()?, found };
    good.then_some(mark)
}

fn others(folder: &Path, own: &HostId) -> BTreeMap<HostId, String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(MAX_HOSTS);
    let each = entries.filter_map(|entry| {
        let host: HostId = entry.file_name().to_str()?.parse().ok()?;
        Some((host, read(&entry.path())?.text))
    });
    each.filter(|(host, _)| host != own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(marks: &Marks, host: &str, dir: &Path) -> PoolOffer {
        let pools = BTreeMap::from([("shared".parse().unwrap(), dir.to_owned())]);
        marks.look(&host.parse().unwrap(), &pools).into_values().next().unwrap()
    }

    #[test]
    fn a_shared_pool_is_told_from_a_copy() {
        let dir = tempfile::tempdir().unwrap();
        let (pool, copy) = (dir.path().join("pool"), dir.path().join("copy"));
        for path in [&pool, &copy] {
            fs::create_dir(path).unwrap();
        }
        let (a, b) = (Marks::default(), Marks::default());
        let here = look(&a, "a", &pool);
        assert_eq!((here.nonces.len(), here.seen.len()), (1, 0));
        let there = look(&b, "b", &pool);
        let a_id: HostId = "a".parse().unwrap();
        assert!(here.nonces.contains(&there.seen[&a_id]));
        let b_id: HostId = "b".parse().unwrap();
        assert!(there.nonces.contains(&look(&a, "a", &pool).seen[&b_id]));
        // An agent that is started again goes on with what it wrote.
        assert_eq!(look(&Marks::default(), "b", &pool), there);
        // In a copy with the freshest marks in it, b knows its own for a copy.
        fs::create_dir(copy.join(FOLDER)).unwrap();
        for host in ["a", "b"] {
            fs::copy(pool.join(FOLDER).join(host), copy.join(FOLDER).join(host)).unwrap();
        }
        for marks in [&b, &Marks::default()] {
            let there = look(marks, "b", &copy);
            assert!(!there.nonces.contains(&look(&a, "a", &pool).seen[&b_id]));
        }
        // What cannot be written or is not there is told so.
        let none = look(&a, "a", &dir.path().join("none"));
        assert_eq!(none, PoolOffer::default());
    }

    #[test]
    fn marks_of_strangers_are_read_with_care() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(FOLDER);
        fs::create_dir(&folder).unwrap();
        let good = "0123456789abcdef0123456789abcdef";
        let mark = format!("{good} 7\n");
        for (name, text) in [
            ("b", mark.as_str()),
            ("c", "short 7\n"),
            ("d", &mark.repeat(9)),
            ("A B", &mark),
            ("e", "\u{fc}"),
            ("f", &good[1..]),
            ("g", good),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
        let seen = look(&Marks::default(), "a", dir.path()).seen;
        assert_eq!(seen.len(), 1);
        assert_eq!(seen.values().next().unwrap(), good);
    }

    #[test]
    fn a_mark_that_is_gone_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let marks = Marks::default();
        let first = look(&marks, "a", dir.path());
        assert_eq!(look(&marks, "a", dir.path()), first);
        fs::remove_dir_all(dir.path().join(FOLDER)).unwrap();
        let second = look(&marks, "a", dir.path());
        assert_eq!(second.nonces.len(), 1);
        assert_ne!(second.nonces, first.nonces);
    }
}
