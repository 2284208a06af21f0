//! Reads QEMU's stream and turns it into frames.

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use pages::{Batch, PAGE_SIZE, Place, Pushed};
use stream::{Content, Decoder, Item, Limits, MAX_ITEM, Mark, Step};
use types::{CarrierEvent, Mode};
use wire::Kind;

use super::Shared;
use super::recheck::Recheck;
use crate::CarrierError;

/// One read from QEMU.
const READ: usize = 1 << 20;
/// How long a read may block before commands are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// What the crew has in hand is on its way soon.
const SOON: Duration = Duration::from_millis(1);
/// A QEMU whose passes are empty waits for us, not for pages: it is not
/// allowed more than a few passes in this time.
const PACE: Duration = Duration::from_millis(5);
const PACED_READ: usize = 64;

/// Bytes read and not yet taken.
struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    fn fill(&mut self, mut from: &UnixStream, limit: usize) -> std::io::Result<usize> {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let to = self.bytes.len().min(self.end + limit);
        let n = from.read(&mut self.bytes[self.end..to])?;
        self.end += n;
        Ok(n)
    }

    fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }
}

pub(super) struct Reader<'a> {
    shared: &'a Shared,
    decoder: Decoder,
    batch: Batch,
    placing: bool,
    mode: Option<Mode>,
    opaque: bool,
    recheck: Recheck,
    /// The last page that came.
    last: Option<Place>,
    in_tail: bool,
    /// Bytes of the stream that wait to travel together; they come after the batch.
    text: Vec<u8>,
    /// The last sections had no pages.
    idle: bool,
    pages_in_section: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(shared: &'a Shared, placing: bool, opaque: bool, recheck: Recheck) -> Self {
        Self {
            shared,
            decoder: Decoder::new(Limits::default()),
            batch: Batch::new(),
            placing,
            mode: None,
            opaque,
            recheck,
            last: None,
            in_tail: false,
            text: Vec::new(),
            idle: false,
            pages_in_section: 0,
        }
    }

    /// Reads until QEMU closes its stream.
    pub(super) fn read(mut self, qemu: &UnixStream) -> Result<(), CarrierError> {
        qemu.set_read_timeout(Some(LOOK)).map_err(|e| CarrierError::Qemu(e.to_string()))?;
        if self.opaque {
            self.go_opaque("the agent's configuration says so");
        }
        let mut input = Input { bytes: vec![0; READ + MAX_ITEM], start: 0, end: 0 };
        let mut partial = false;
        loop {
            self.wait_for_room()?;
            let paced = self.idle && !partial && self.shared.flow().tail_since().is_none();
            if paced {
                thread::sleep(PACE);
            }
            match input.fill(qemu, if paced { PACED_READ } else { READ }) {
                Ok(0) => return self.end(),
                Ok(_) => {}
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    // Nothing more comes for now: what is collected goes.
                    self.flush();
                    continue;
                }
                Err(e) => return Err(CarrierError::Qemu(format!("the source's QEMU: {e}"))),
            }
            let used = self.take(input.unread())?;
            input.start += used;
            // A page that has begun to come is not made to wait.
            partial = input.unread().len() > PACED_READ;
        }
    }

    /// Waits while the agent holds the stream or too much is in flight.
    fn wait_for_room(&mut self) -> Result<(), CarrierError> {
        let mut told = false;
        loop {
            if self.shared.ending.stopping() {
                return Err(CarrierError::Ended);
            }
            let (hold, window) = {
                let flow = self.shared.flow();
                (flow.hold && flow.tail_since().is_none(), flow.window())
            };
            if !hold {
                let begun = Instant::now();
                let pending = self.shared.crew.pending();
                let left = window.saturating_sub(pending).max(1);
                let room = self.shared.outbox().below(left, if pending > 0 { SOON } else { LOOK });
                if pending == 0 {
                    self.shared.crew.desk.waited(begun.elapsed());
                }
                if room {
                    return Ok(());
                }
                continue;
            }
            if !told {
                told = true;
                self.settle();
                self.shared.control.emit(CarrierEvent::Held);
            }
            self.shared.wait_flow(LOOK);
        }
    }

    /// Takes whole items; returns the bytes used.
    fn take(&mut self, input: &[u8]) -> Result<usize, CarrierError> {
        let mut used = 0;
        while used < input.len() {
            if self.opaque || self.in_tail {
                self.carry(Kind::Tail, &input[used..]);
                return Ok(input.len());
            }
            let step = self.decoder.next(&input[used..]).map_err(|error| {
                CarrierError::Invalid(format!("QEMU's stream is not understood: {error}"))
            })?;
            let Step::Item(n, item) = step else { break };
            used += n;
            match item {
                Item::Page(page) => {
                    let number = page.offset / PAGE_SIZE as u64;
                    self.page(page.block, number, page.content);
                }
                Item::Verbatim { bytes, mark } => self.verbatim(bytes, mark)?,
                Item::Opaque { why } => self.go_opaque(&why),
                Item::Tail(bytes) => self.carry(Kind::Tail, bytes),
            }
        }
        self.send_text();
        Ok(used)
    }

    fn page(&mut self, block: u16, number: u64, content: Content<'_>) {
        if self.mode.is_none() {
            self.settle_mode();
            self.wait_for_index();
        }
        self.idle = false;
        self.pages_in_section += 1;
        self.add(block, number, content);
    }

    /// A destination that holds an image says what is in it before anything is sent.
    fn wait_for_index(&mut self) {
        while !self.shared.ending.stopping() {
            if let Some((mut index, placed)) = self.shared.take_told() {
                let blocks = self.decoder.blocks();
                index.bind(blocks.iter().map(|block| block.name.as_str()));
                let placed = blocks.iter().map(|block| placed.contains(&block.name)).collect();
                return self.shared.crew.desk.told(index, placed);
            }
            self.shared.wait_flow(Duration::from_millis(2));
        }
    }

    /// Adds a page to the batch.
    fn add(&mut self, block: u16, number: u64, content: Content<'_>) {
        self.send_text();
        if self.last.is_some_and(|last| (block, number) <= last) {
            // What is under way may hold this very page.
            self.settle();
            self.shared.crew.desk.begin_pass();
        }
        self.last = Some((block, number));
        let push = |batch: &mut Batch| match content {
            Content::Zero => batch.push_zero(block, number),
            Content::Raw(bytes) => match <&[u8; PAGE_SIZE]>::try_from(bytes) {
                Ok(page) => batch.push(block, number, page),
                Err(_) => batch.push_zero(block, number),
            },
        };
        if push(&mut self.batch) == Pushed::Full {
            self.flush();
            // An empty batch takes any page.
            let _ = push(&mut self.batch);
        }
    }

    /// The VM is stopped and QEMU has sent what it knows to be dirty: what it does
    /// not know is sent now.
    fn recheck(&mut self) -> Result<(), CarrierError> {
        self.settle();
        let recheck = std::mem::take(&mut self.recheck);
        let desk = &self.shared.crew.desk;
        let mut found = 0;
        let read = recheck.read(
            |block, from, most| desk.sent_again(block, from, most),
            |block, number, page| {
                if !desk.is_there((block, number), page) {
                    found += 1;
                    self.add(block, number, Content::Raw(page));
                }
            },
        );
        read.map_err(|e| CarrierError::Memory(e.to_string()))?;
        if found > 0 {
            tracing::info!(pages = found, "QEMU's dirty log had missed pages; they were sent");
        }
        Ok(())
    }

    fn settle_mode(&mut self) {
        let (mode, why) = if self.placing {
            (Mode::Direct, None)
        } else {
            (Mode::Stream, Some("the destination's memory is no memory file"))
        };
        self.tell_mode(mode, why);
    }

    fn tell_mode(&mut self, mode: Mode, why: Option<&str>) {
        self.mode = Some(mode);
        let mut buffer = self.shared.outbox().buffer();
        buffer.push(match mode {
            Mode::Direct => 0,
            Mode::Stream => 1,
            Mode::Opaque => 2,
        });
        let why: Option<String> = why.map(|w| w.chars().take(1000).collect());
        buffer.extend_from_slice(why.as_deref().unwrap_or_default().as_bytes());
        self.shared.outbox().push(Kind::Mode, buffer, 0);
        self.shared.control.emit(CarrierEvent::Mode { mode, why });
    }

    fn go_opaque(&mut self, why: &str) {
        self.opaque = true;
        self.send_text();
        self.tell_mode(Mode::Opaque, Some(why));
    }

    fn verbatim(&mut self, bytes: &[u8], mark: Option<Mark>) -> Result<(), CarrierError> {
        match mark {
            Some(Mark::PagesEnd) => self.recheck()?,
            Some(Mark::Blocks) => {
                let blocks = self.decoder.blocks();
                self.recheck.bind(blocks);
                self.shared.crew.desk.bind(blocks.iter().map(|block| block.length));
            }
            _ => {}
        }
        self.settle();
        self.text.extend_from_slice(bytes);
        match mark {
            Some(Mark::Blocks) if self.decoder.page_size() != PAGE_SIZE => {
                self.go_opaque("its pages are not of 4 KiB");
            }
            Some(Mark::PartEnd) => {
                self.idle = self.pages_in_section == 0;
                self.pages_in_section = 0;
            }
            Some(Mark::RamEnd) => {
                if self.mode.is_none() {
                    self.settle_mode();
                }
                self.idle = false;
                self.in_tail = true;
                self.send_text();
                self.shared.outbox().push_seal();
            }
            _ => {}
        }
        Ok(())
    }

    /// Sends the bytes that wait.
    fn send_text(&mut self) {
        if !self.text.is_empty() {
            let text = std::mem::take(&mut self.text);
            self.carry(Kind::Verbatim, &text);
            self.text = text;
            self.text.clear();
        }
    }

    /// Bytes as they are.
    fn carry(&mut self, kind: Kind, bytes: &[u8]) {
        for part in bytes.chunks(256 << 10) {
            let mut buffer = self.shared.outbox().buffer();
            buffer.extend_from_slice(part);
            self.shared.flow().sent(Instant::now());
            self.shared.outbox().push(kind, buffer, part.len() as u64);
        }
        if self.opaque && kind == Kind::Tail {
            self.shared.counted().done_bytes += bytes.len() as u64;
        }
    }

    /// Hands the batch to the crew.
    fn flush(&mut self) {
        if !self.batch.is_empty() {
            self.shared.crew.submit(self.shared, &mut self.batch);
        }
    }

    /// Every page that has come is on its way.
    fn settle(&mut self) {
        self.flush();
        self.shared.crew.drain(self.shared);
    }

    fn end(&mut self) -> Result<(), CarrierError> {
        if !(self.in_tail || self.opaque) {
            let why = "the source's QEMU closed its stream before all was sent";
            return Err(CarrierError::Qemu(why.into()));
        }
        // A source whose return path is open stays until it has been told the end.
        if self.shared.back().unfinished().is_some() {
            let why = "the source's QEMU closed its stream before the destination had loaded it";
            return Err(CarrierError::Qemu(why.into()));
        }
        self.shared.outbox().push_bytes(Kind::End, &[]);
        Ok(())
    }
}
