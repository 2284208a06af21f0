//! One session: a user at the serial port of a VM, until either goes away.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::time::Duration;

use api::console::{BEAT, Control, End, Frame, MAX_PAYLOAD, Place, SILENCE, Stream};
use tokio::io::{ReadHalf, WriteHalf, split};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use types::VmId;

use super::{Port, Source, input};
use crate::host::Host;

/// For the controller to say what is wanted, and for the VM to be here: its record
/// may name this host a moment before it is told.
const MOMENT: Duration = Duration::from_secs(10);
/// Between two looks at the log.
const POLL: Duration = Duration::from_millis(20);
/// So much of the log's end is shown to who comes for the first time.
const TAIL: u64 = 8 << 10;
/// Frames that were read and not dealt with.
const FRAMES: usize = 4;

/// Serves the user at the other end of `stream`.
///
/// # Errors
/// The connection broke, or said something unexpected.
pub(super) async fn serve(host: &Host, stream: Stream) -> io::Result<()> {
    let (mut reader, mut to_user) = split(stream);
    let first = timeout(MOMENT, Frame::read(&mut reader)).await??;
    let Some(Frame::Control(Control::Open { vm, writer, seen })) = first else {
        return Err(io::Error::other("it began with something else"));
    };
    let Some((mut source, port)) = here(host, vm).await else {
        let why = format!("{} has no serial port of it", host.config.host);
        return end(&mut to_user, End::Failed(why)).await;
    };
    let mut log = Log::open(&port, &seen)?;
    let place = Place { instance: port.instance.clone(), position: log.position };
    let here = Control::Here { host: host.config.host.clone(), place };
    Frame::Control(here).write(&mut to_user).await?;

    // Ends what it holds when it is dropped.
    let mut tasks = JoinSet::new();
    let (taken, mut took) = mpsc::channel(FRAMES);
    let keys = input::start(&mut tasks, &source, &port, writer, taken);
    let (frames, mut said) = mpsc::channel(FRAMES);
    tasks.spawn(async move { read_frames(reader, keys, frames).await });

    let (mut beat, mut heard) = (Instant::now(), Instant::now());
    loop {
        let over = over(&mut source, &port);
        while let Some(bytes) = log.read()? {
            Frame::Data(bytes).write(&mut to_user).await?;
        }
        if let Some(why) = over {
            return end(&mut to_user, why).await;
        }
        if beat.elapsed() >= BEAT {
            beat = Instant::now();
            Frame::Control(Control::Ping).write(&mut to_user).await?;
        }
        if heard.elapsed() >= SILENCE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        tokio::select! {
            Some(bytes) = took.recv() => {
                Frame::Control(Control::Taken { bytes }).write(&mut to_user).await?;
            }
            alive = said.recv() => match alive {
                Some(()) => heard = Instant::now(),
                None => return Ok(()),
            },
            () = sleep(POLL) => {}
        }
    }
}

async fn end(to_user: &mut WriteHalf<Stream>, end: End) -> io::Result<()> {
    Frame::Control(Control::End { end }).write(to_user).await
}

/// The VM's port, once the VM is this host's.
async fn here(host: &Host, vm: VmId) -> Option<(Source, Port)> {
    let found = async {
        loop {
            if let Some(source) = host.consoles.source(vm)
                && source.view.borrow().intent.is_some()
                && let Some(port) = source.port.borrow().clone()
            {
                return (source.clone(), port);
            }
            sleep(POLL).await;
        }
    };
    timeout(MOMENT, found).await.ok()
}

/// Why nothing more will be written here. To be asked before the log is read: what
/// it held then is all there is.
fn over(source: &mut Source, port: &Port) -> Option<End> {
    let view = source.view.borrow_and_update();
    if view.heard && view.intent.is_none() {
        // Its record names another host, so it has been stopped here for good.
        return Some(End::Moved);
    }
    match &*source.port.borrow() {
        Some(now) if now.instance == port.instance => None,
        _ => Some(End::Stopped),
    }
}

/// Passes on what is typed; tells of every frame, because it shows that the user's
/// side is there.
async fn read_frames(
    mut reader: ReadHalf<Stream>,
    keys: Option<mpsc::Sender<Vec<u8>>>,
    heard: mpsc::Sender<()>,
) {
    loop {
        match Frame::read(&mut reader).await {
            Ok(Some(Frame::Data(bytes))) => {
                let Some(keys) = &keys else { return };
                // Where the VM takes nothing the user's side must still be heard, so
                // it never sends more than fits here.
                if keys.try_send(bytes).is_err() {
                    return;
                }
            }
            Ok(Some(Frame::Control(_))) => {}
            Ok(None) | Err(_) => return,
        }
        if heard.send(()).await.is_err() {
            return;
        }
    }
}

/// What the VM wrote, from a place on.
struct Log {
    file: File,
    position: u64,
}

impl Log {
    /// Begins where `seen` ends; where nothing was seen of this QEMU, at its
    /// beginning; where nothing was seen at all, at the last lines.
    fn open(port: &Port, seen: &[Place]) -> io::Result<Self> {
        let mut file = File::open(&port.log)?;
        let length = file.metadata()?.len();
        let position = match seen.iter().rev().find(|place| place.instance == port.instance) {
            Some(place) => place.position.min(length),
            None if seen.is_empty() => last_lines(&mut file, length)?,
            None => port.start.min(length),
        };
        Ok(Self { file, position })
    }

    /// The next bytes, if there are any. They were written a moment ago, so this
    /// does not wait for a disk.
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(self.position))?;
        (&self.file).take(MAX_PAYLOAD as u64).read_to_end(&mut bytes)?;
        self.position += bytes.len() as u64;
        Ok((!bytes.is_empty()).then_some(bytes))
    }
}

/// Where the first whole line of the log's end begins.
fn last_lines(file: &mut File, length: u64) -> io::Result<u64> {
    let from = length.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(from))?;
    let mut end = Vec::new();
    file.take(TAIL).read_to_end(&mut end)?;
    let line = end.iter().position(|b| *b == b'\n').filter(|_| from > 0);
    Ok(from + line.map_or(0, |at| at as u64 + 1))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn port(log: &Path) -> Port {
        let (instance, log) = ("s2".to_owned(), log.to_owned());
        Port { instance, log, start: 6, socket: None, hold: false }
    }

    #[test]
    fn a_log_is_read_from_where_it_was_seen() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "first\nsecond\n").unwrap();
        let place = |instance: &str, position| Place { instance: instance.into(), position };
        for (seen, text) in [
            (vec![], "first\nsecond\n"),
            (vec![place("s1", 6)], "second\n"),
            (vec![place("s1", 6), place("s2", 9)], "ond\n"),
            (vec![place("s2", 9), place("d1", 3)], "ond\n"),
            (vec![place("s2", 99)], ""),
        ] {
            let mut log = Log::open(&port(file.path()), &seen).unwrap();
            let read = log.read().unwrap().unwrap_or_default();
            assert_eq!(String::from_utf8(read).unwrap(), text, "{seen:?}");
            assert_eq!(log.read().unwrap(), None);
        }
    }

    #[test]
    fn who_comes_first_sees_whole_last_lines() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = |n: u64| format!("line {n}\n");
        let text: String = (0..5000).map(line).collect();
        std::fs::write(file.path(), &text).unwrap();
        let mut log = Log::open(&port(file.path()), &[]).unwrap();
        let read = String::from_utf8(log.read().unwrap().unwrap()).unwrap();
        assert!(read.len() as u64 <= TAIL && read.starts_with("line ") && text.ends_with(&read));
    }
}
