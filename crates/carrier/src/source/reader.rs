//! Reads QEMU's stream and turns it into frames.

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use pages::{Batch, Index, Kind as Packing, PAGE_SIZE, Packer, PageHasher, Policy, Pushed};
use stream::{Content, Decoder, Item, Limits, MAX_ITEM, Mark, Step};
use types::{CarrierEvent, Mode};
use wire::{HEADER, Kind};

use super::Shared;
use super::recheck::Recheck;
use crate::CarrierError;

/// One read from QEMU.
const READ: usize = 1 << 20;
/// How long a read may block before commands are looked at.
const LOOK: Duration = Duration::from_millis(20);
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
    packer: Packer,
    policy: Policy,
    placing: bool,
    mode: Option<Mode>,
    opaque: bool,
    recheck: Recheck,
    /// What the destination holds already.
    index: Index,
    hasher: PageHasher,
    in_tail: bool,
    /// Bytes of the stream that wait to travel together; they come after the batch.
    text: Vec<u8>,
    /// The last sections had no pages.
    idle: bool,
    pages_in_section: u64,
    link: Link,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        placing: bool,
        opaque: bool,
        (recheck, hasher): (Recheck, PageHasher),
    ) -> Result<Self, CarrierError> {
        let cores = thread::available_parallelism().map_or(1.0, |n| n.get() as f64 / 2.0);
        Ok(Self {
            shared,
            decoder: Decoder::new(Limits::default()),
            batch: Batch::new(),
            packer: Packer::new().map_err(|e| CarrierError::Qemu(e.to_string()))?,
            // One reader compresses, whatever the machine has.
            policy: Policy::new(cores.clamp(0.5, 1.0)),
            placing,
            mode: None,
            opaque,
            recheck,
            index: Index::default(),
            hasher,
            in_tail: false,
            text: Vec::new(),
            idle: false,
            pages_in_section: 0,
            link: Link::new(),
        })
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
                let room = self.shared.outbox().below(window, LOOK);
                self.link.waited += begun.elapsed();
                if room {
                    return Ok(());
                }
                continue;
            }
            if !told {
                told = true;
                self.flush();
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
        self.recheck.sent(block, number, &content);
        self.add(block, number, content);
    }

    /// A destination that holds an image says what is in it before anything is sent.
    fn wait_for_index(&mut self) {
        while !self.shared.ending.stopping() {
            if let Some(mut index) = self.shared.take_index() {
                index.bind(self.decoder.blocks().iter().map(|block| block.name.as_str()));
                self.index = index;
                return;
            }
            self.shared.wait_flow(Duration::from_millis(2));
        }
    }

    /// Whether the destination has this very page already.
    fn is_there(&mut self, block: u16, number: u64, content: &Content<'_>) -> bool {
        if self.index.is_empty() {
            return false;
        }
        let content = match *content {
            Content::Zero => &[],
            Content::Raw(bytes) => bytes,
        };
        let there = self.index.has(block, number, &self.hasher, content);
        if there {
            let mut counted = self.shared.counted();
            counted.done_bytes += PAGE_SIZE as u64;
            counted.pages.present += 1;
        }
        there
    }

    /// Adds a page to the batch, unless it need not travel.
    fn add(&mut self, block: u16, number: u64, content: Content<'_>) {
        if self.is_there(block, number, &content) {
            return;
        }
        self.send_text();
        let push = |batch: &mut Batch| match content {
            Content::Zero => batch.push_zero(block, number),
            Content::Raw(bytes) => match <&[u8; PAGE_SIZE]>::try_from(bytes) {
                Ok(page) if !pages::is_zero(page) => batch.push(block, number, page),
                _ => batch.push_zero(block, number),
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
        let mut recheck = std::mem::take(&mut self.recheck);
        let found = recheck.differing(|block, number, page| {
            self.add(block, number, Content::Raw(page));
        });
        let found = found.map_err(|e| CarrierError::Memory(e.to_string()))?;
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
            Some(Mark::Blocks) => self.recheck.bind(self.decoder.blocks()),
            _ => {}
        }
        self.flush();
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

    /// Sends the batch.
    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let choice = self.policy.next_choice();
        let before = self.batch.bytes().len();
        let begun = Instant::now();
        let packed = self.packer.pack(&self.batch, choice);
        let seconds = begun.elapsed().as_secs_f64();
        let mut buffer = self.shared.outbox().buffer();
        packed.head.write(&mut buffer);
        buffer.extend_from_slice(packed.body);
        let (zero, data) = (packed.head.zero_pages() as u64, packed.head.data_pages() as u64);
        let (kind, after) = (packed.head.kind, packed.body.len());
        if before > 0 {
            self.policy.packed(choice, before, after, seconds);
        }
        let wire_bytes = (buffer.len() - HEADER) as u64;
        {
            let mut counted = self.shared.counted();
            counted.done_bytes += (zero + data) * PAGE_SIZE as u64;
            counted.pages.zero += zero;
            match kind {
                Packing::Raw => counted.pages.raw += data,
                Packing::Zstd => counted.pages.compressed += data,
            }
        }
        self.shared.flow().sent(Instant::now());
        // Zero pages weigh as much as it takes to name them: nothing waits without bound.
        let weight = wire_bytes.max(before as u64);
        self.shared.outbox().push(Kind::Pages, buffer, weight);
        self.batch.clear();
        if let Some(rate) = self.link.sent(wire_bytes, self.policy.measured().link) {
            self.policy.link(rate, true);
        }
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

/// What the link carries, as seen over a tenth of a second.
struct Link {
    since: Instant,
    bytes: u64,
    /// The window was full for so long: the link, not the reader, was the limit.
    waited: Duration,
}

impl Link {
    fn new() -> Self {
        Self { since: Instant::now(), bytes: 0, waited: Duration::ZERO }
    }

    fn sent(&mut self, bytes: u64, known: f64) -> Option<f64> {
        self.bytes += bytes;
        let seconds = self.since.elapsed().as_secs_f64();
        if seconds < 0.1 {
            return None;
        }
        let linked = self.waited.as_secs_f64() > seconds / 4.0;
        let rate = self.bytes as f64 / seconds;
        *self = Self::new();
        // Where the link was not the limit it may carry more, but nobody knows how much.
        (linked || rate > known).then_some(rate)
    }
}
