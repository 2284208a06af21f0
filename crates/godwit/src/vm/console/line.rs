//! The line between the user and the VM: what was shown, and what was typed and has
//! not arrived. Both outlive a connection.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::Duration;

use api::console::{self, BEAT, Control, End, Frame, Place, SILENCE, Stream};
use tokio::io::{ReadHalf, WriteHalf, split};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use types::HostId;

use super::keyboard::{Keyboard, Typed};

/// Pieces that were typed and have not arrived; then no more is read.
const PENDING: usize = 64;
/// Frames read and not shown.
const FRAMES: usize = 4;

/// Why a connection is over.
pub(super) enum Over {
    /// The user left, or the end of input was followed by silence.
    Left,
    /// The VM writes nothing more there.
    Ended(End),
    /// The connection broke.
    Broken(String),
    /// Standard output takes nothing.
    Output(io::Error),
}

pub(super) struct Line {
    keyboard: Option<Keyboard>,
    /// How long the VM must be silent after the end of input; it never ends the
    /// session where input does not matter.
    linger: Duration,
    endless: bool,
    ended: bool,
    left: bool,
    /// Places up to which everything was shown, one for each QEMU of the VM.
    seen: Vec<Place>,
    pending: VecDeque<Vec<u8>>,
}

impl Line {
    pub(super) fn new(keyboard: Option<Keyboard>, linger: Duration, endless: bool) -> Self {
        let (seen, pending) = (Vec::new(), VecDeque::new());
        Self { keyboard, linger, endless, ended: false, left: false, seen, pending }
    }

    /// What was shown, for the next connection.
    pub(super) fn seen(&self) -> String {
        console::seen(&self.seen)
    }

    /// The user has left.
    pub(super) fn left(&self) -> bool {
        self.left
    }

    /// Keeps what is typed while there is no connection; returns when the user leaves.
    pub(super) async fn typing(&mut self) {
        while !self.left {
            let typed = next(&mut self.keyboard, self.ended, self.pending.len()).await;
            self.take(typed);
        }
    }

    /// Takes what was typed; gives it if it is to be sent.
    fn take(&mut self, typed: Option<Typed>) -> Option<Vec<u8>> {
        match typed {
            Some(Typed::Bytes(bytes)) => {
                self.pending.push_back(bytes.clone());
                return Some(bytes);
            }
            Some(Typed::Escape) => self.left = true,
            None => self.ended = true,
        }
        None
    }

    /// Shows what the VM writes and sends what is typed, until the connection is over.
    pub(super) async fn serve(&mut self, stream: Stream, here: impl FnMut(&HostId)) -> Over {
        let (reader, mut to_vm) = split(stream);
        let (frames, said) = mpsc::channel(FRAMES);
        let mut tasks = JoinSet::new();
        tasks.spawn(read(reader, frames));
        match self.converse(said, &mut to_vm, here).await {
            Ok(over) => over,
            Err(error) => Over::Broken(error.to_string()),
        }
    }

    async fn converse(
        &mut self,
        mut said: mpsc::Receiver<io::Result<Frame>>,
        to_vm: &mut WriteHalf<Stream>,
        mut here: impl FnMut(&HostId),
    ) -> io::Result<Over> {
        for bytes in &self.pending {
            Frame::Data(bytes.clone()).write(to_vm).await?;
        }
        let (mut beat, mut heard) = (Instant::now(), Instant::now());
        let mut written = Instant::now();
        let mut taken = 0;
        while !self.left {
            let quiet = written + self.linger;
            let may_end = self.ended && !self.endless && self.pending.is_empty();
            tokio::select! {
                frame = said.recv() => {
                    heard = Instant::now();
                    match frame.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))? {
                        Frame::Data(bytes) => {
                            written = heard;
                            if let Err(error) = self.show(&bytes) {
                                return Ok(Over::Output(error));
                            }
                        }
                        Frame::Control(Control::Here { host, place }) => {
                            here(&host);
                            self.seen.retain(|seen| seen.instance != place.instance);
                            self.seen.push(place);
                        }
                        Frame::Control(Control::Taken { bytes }) => {
                            written = heard;
                            self.arrived(&mut taken, bytes);
                        }
                        Frame::Control(Control::End { end }) => return Ok(Over::Ended(end)),
                        Frame::Control(_) => {}
                    }
                }
                typed = next(&mut self.keyboard, self.ended, self.pending.len()) => {
                    written = Instant::now();
                    if let Some(bytes) = self.take(typed) {
                        Frame::Data(bytes).write(to_vm).await?;
                    }
                }
                () = sleep_until(beat + BEAT) => {
                    beat = Instant::now();
                    Frame::Control(Control::Ping).write(to_vm).await?;
                    if heard.elapsed() >= SILENCE {
                        return Err(io::Error::other("nothing was heard for a while"));
                    }
                }
                () = sleep_until(quiet), if may_end => self.left = true,
            }
        }
        Ok(Over::Left)
    }

    fn show(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()?;
        if let Some(place) = self.seen.last_mut() {
            place.position += bytes.len() as u64;
        }
        Ok(())
    }

    /// So many bytes of this connection have arrived.
    fn arrived(&mut self, before: &mut u64, bytes: u64) {
        while let Some(first) = self.pending.front()
            && *before + first.len() as u64 <= bytes
        {
            *before += first.len() as u64;
            self.pending.pop_front();
        }
    }
}

/// What is typed next; nothing while there is too much of it already.
async fn next(keyboard: &mut Option<Keyboard>, ended: bool, pending: usize) -> Option<Typed> {
    match keyboard {
        Some(keyboard) if !ended && pending < PENDING => keyboard.next().await,
        _ => std::future::pending().await,
    }
}

async fn read(mut reader: ReadHalf<Stream>, frames: mpsc::Sender<io::Result<Frame>>) {
    loop {
        let frame = Frame::read(&mut reader).await.transpose();
        let last = !matches!(frame, Some(Ok(_)));
        let Some(frame) = frame else { return };
        if frames.send(frame).await.is_err() || last {
            return;
        }
    }
}
