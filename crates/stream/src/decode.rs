//! Takes the main channel's stream apart.

use crate::config::configuration;
use crate::cursor::Cursor;
use crate::error::{DecodeError, Stop, printable};
use crate::format::{MAGIC, PAGE_BITS, RAM_VERSION, VERSION, command, record};
use crate::ram::{Blocks, Record};

/// The decoder never asks for more input than this at once, in bytes.
pub const MAX_ITEM: usize = 128 << 10;

/// Bounds on what is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most RAM blocks.
    pub blocks: usize,
    /// Most guest memory, the sum of all blocks, in bytes.
    pub memory: u64,
    /// Names of blocks whose page records must not occur: their pages are
    /// placed directly, and a record would overwrite newer contents.
    pub without_pages: Vec<String>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { blocks: 1024, memory: 1 << 46, without_pages: Vec::new() }
    }
}

/// One RAM block of the guest, as the stream lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RamBlock {
    /// Its name, such as `pc.ram`.
    pub name: String,
    /// Bytes in use; a multiple of the page size.
    pub length: u64,
}

/// What a page record says the page holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// Zeroes.
    Zero,
    /// These bytes, exactly one page.
    Raw(&'a [u8]),
}

/// A page record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page<'a> {
    /// Index into [`Decoder::blocks`].
    pub block: u16,
    /// Offset in the block in bytes; a multiple of the page size.
    pub offset: u64,
    /// What the page holds.
    pub content: Content<'a>,
}

/// What the stream has reached with the bytes it is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The list of blocks is complete: [`Decoder::blocks`].
    Blocks,
    /// A part of ram is complete; QEMU cuts them about every 50 ms.
    PartEnd,
    /// These bytes close ram's last section: what pages were to come have come.
    PagesEnd,
    /// QEMU has begun the switchover (10.0 and later say so).
    SwitchoverStart,
    /// Memory is complete; everything that follows is [`Item::Tail`].
    RamEnd,
}

/// A piece of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<'a> {
    /// Bytes that travel on as they are.
    Verbatim {
        /// The bytes.
        bytes: &'a [u8],
        /// What is reached with them.
        mark: Option<Mark>,
    },
    /// A page record, which may be taken out.
    Page(Page<'a>),
    /// Something is not understood: from here on the whole stream is opaque
    /// and comes as [`Item::Tail`]. No page was given out. Consumes nothing.
    Opaque {
        /// What was met.
        why: String,
    },
    /// Bytes without structure, as many as there were.
    Tail(&'a [u8]),
}

/// What came of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<'a> {
    /// Nothing was consumed; call again when the input holds this many bytes
    /// (at most [`MAX_ITEM`]).
    More(usize),
    /// A piece, and how many bytes of the input it took.
    Item(usize, Item<'a>),
}

/// Where in the stream the decoder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Configuration,
    Records,
    Ram(Part),
    /// In ram's list of blocks, with this many bytes of memory not yet listed.
    List(u64),
    Footer(Part),
    Tail,
    /// An error was reported; the stream cannot be picked up again.
    Failed,
}

/// Which part of ram is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Start,
    Middle,
    End,
}

/// Pull parser of the main channel. Holds the list of blocks and a few words.
#[derive(Debug, Clone)]
pub struct Decoder {
    state: State,
    limits: Limits,
    machine: String,
    /// Id of the ram section, once it has begun.
    ram: Option<u32>,
    blocks: Blocks,
    pages_given: bool,
    failure: Option<DecodeError>,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new(limits: Limits) -> Self {
        Self {
            state: State::Header,
            limits,
            machine: String::new(),
            ram: None,
            blocks: Blocks::new(PAGE_BITS),
            pages_given: false,
            failure: None,
        }
    }

    /// The versioned machine type; empty before the configuration section.
    pub fn machine(&self) -> &str {
        &self.machine
    }

    /// The blocks listed so far; complete at [`Mark::Blocks`].
    pub fn blocks(&self) -> &[RamBlock] {
        self.blocks.list()
    }

    /// Size of a page in bytes.
    pub fn page_size(&self) -> usize {
        self.blocks.page_size()
    }

    /// Whether everything that follows is [`Item::Tail`].
    pub fn in_tail(&self) -> bool {
        self.state == State::Tail
    }

    /// Takes the next piece off the front of `input`, which begins where the
    /// last piece ended.
    ///
    /// # Errors
    /// What is wrong with the stream; every further call gives the same error.
    pub fn next<'a>(&mut self, input: &'a [u8]) -> Result<Step<'a>, DecodeError> {
        let mut c = Cursor::new(input);
        let item = match self.state {
            State::Ram(part) => self.ram_record(&mut c, part),
            State::Tail if input.is_empty() => Err(Stop::Short(1)),
            State::Tail => return Ok(Step::Item(input.len(), Item::Tail(input))),
            _ => self.skeleton(&mut c).map(|mark| Item::Verbatim { bytes: c.taken(), mark }),
        };
        match item {
            Ok(item) => Ok(Step::Item(c.at(), item)),
            Err(stop) => self.stop(stop),
        }
    }

    fn stop<'a>(&mut self, stop: Stop) -> Result<Step<'a>, DecodeError> {
        let error = match stop {
            Stop::Short(needed) => return Ok(Step::More(needed)),
            Stop::Unknown(why) if !self.pages_given => {
                self.state = State::Tail;
                return Ok(Step::Item(0, Item::Opaque { why }));
            }
            Stop::Unknown(why) => DecodeError::LateUnknown(why),
            Stop::Bad(error) => error,
        };
        self.state = State::Failed;
        self.failure = Some(error.clone());
        Err(error)
    }

    /// Everything around ram's records. A handler reads all it needs before
    /// it changes anything, because it is called again when input was short.
    fn skeleton(&mut self, c: &mut Cursor<'_>) -> Result<Option<Mark>, Stop> {
        match self.state {
            State::Header => self.header(c),
            State::Configuration => self.configuration(c),
            State::List(left) => self.list_entry(c, left),
            State::Footer(part) => self.footer(c, part),
            State::Failed => {
                Err(Stop::Bad(self.failure.clone().unwrap_or(DecodeError::RecordType(0))))
            }
            State::Records | State::Ram(_) | State::Tail => self.record(c),
        }
    }

    fn header(&mut self, c: &mut Cursor<'_>) -> Result<Option<Mark>, Stop> {
        let (magic, version) = (c.u32()?, c.u32()?);
        if magic != MAGIC || version != VERSION {
            return Err(DecodeError::NotAStream { magic, version }.into());
        }
        self.state = State::Configuration;
        Ok(None)
    }

    fn configuration(&mut self, c: &mut Cursor<'_>) -> Result<Option<Mark>, Stop> {
        let read = configuration(c)?;
        self.machine = read.machine;
        self.blocks = Blocks::new(read.page_bits);
        self.state = State::Records;
        Ok(None)
    }

    fn record(&mut self, c: &mut Cursor<'_>) -> Result<Option<Mark>, Stop> {
        match c.u8()? {
            record::START => self.start(c),
            record::PART => self.part(c, Part::Middle),
            record::END => self.part(c, Part::End),
            record::FULL => {
                let _id = c.u32()?;
                let name = printable(c.short_string()?);
                Err(Stop::Unknown(format!("device state {name:?} before memory is complete")))
            }
            record::COMMAND => command(c),
            early @ (record::EOF | record::DESCRIPTION) => Err(DecodeError::EarlyEnd(early).into()),
            other => Err(DecodeError::RecordType(other).into()),
        }
    }

    fn start(&mut self, c: &mut Cursor<'_>) -> Result<Option<Mark>, Stop> {
        let id = c.u32()?;
        let name = c.short_string()?;
        let (instance, version) = (c.u32()?, c.u32()?);
        if name != b"ram" || instance != 0 || version != RAM_VERSION {
            let name = printable(name);
            return Err(Stop::Unknown(format!("section {name:?} version {version}")));
        }
        if self.ram.is_some() {
            return Err(DecodeError::Section { id, what: "ram begins a second time" }.into());
        }
        self.ram = Some(id);
        self.state = State::Ram(Part::Start);
        Ok(None)
    }

    fn part(&mut self, c: &mut Cursor<'_>, part: Part) -> Result<Option<Mark>, Stop> {
        let id = c.u32()?;
        if self.ram != Some(id) {
            return Err(DecodeError::Section { id, what: "it has not begun" }.into());
        }
        self.state = State::Ram(part);
        Ok(None)
    }

    fn footer(&mut self, c: &mut Cursor<'_>, part: Part) -> Result<Option<Mark>, Stop> {
        let found = c.u8()?;
        let id = self.ram.unwrap_or_default();
        if found != record::FOOTER || c.u32()? != id {
            return Err(DecodeError::Footer { id, found }.into());
        }
        self.state = if part == Part::End { State::Tail } else { State::Records };
        Ok(match part {
            Part::Start => None,
            Part::Middle => Some(Mark::PartEnd),
            Part::End => Some(Mark::RamEnd),
        })
    }

    fn list_entry(&mut self, c: &mut Cursor<'_>, left: u64) -> Result<Option<Mark>, Stop> {
        let name = c.short_string()?;
        let length = c.u64()?;
        let forbidden = self.limits.without_pages.iter().any(|n| n.as_bytes() == name);
        self.blocks.add(name, length, left, self.limits.blocks, forbidden)?;
        Ok(self.listed(left - length))
    }

    /// Goes on with the list, or back to ram's records when it is complete.
    fn listed(&mut self, left: u64) -> Option<Mark> {
        if left > 0 {
            self.state = State::List(left);
            return None;
        }
        self.state = State::Ram(Part::Start);
        Some(Mark::Blocks)
    }

    fn ram_record<'a>(&mut self, c: &mut Cursor<'a>, part: Part) -> Result<Item<'a>, Stop> {
        let mark = match self.blocks.record(c, part)? {
            Record::Page(page) => {
                self.pages_given = true;
                return Ok(Item::Page(page));
            }
            Record::List { total } if total > self.limits.memory => {
                let most = self.limits.memory;
                return Err(DecodeError::Blocks(format!("{total} bytes; at most {most}")).into());
            }
            Record::List { total } => self.listed(total),
            Record::End => {
                self.state = State::Footer(part);
                (part == Part::End).then_some(Mark::PagesEnd)
            }
            Record::Flush => None,
        };
        Ok(Item::Verbatim { bytes: c.taken(), mark })
    }
}

fn command(c: &mut Cursor<'_>) -> Result<Option<Mark>, Stop> {
    let (number, length) = (c.u16()?, c.u16()?);
    let (expected, mark) = match number {
        command::OPEN_RETURN_PATH => (0, None),
        command::PING => (4, None),
        command::SWITCHOVER_START => (0, Some(Mark::SwitchoverStart)),
        command::POSTCOPY_ADVISE..=command::RECV_BITMAP => {
            return Err(DecodeError::Postcopy(number).into());
        }
        _ => return Err(Stop::Unknown(format!("command {number}"))),
    };
    if length != expected {
        return Err(DecodeError::CommandLength { command: number, length }.into());
    }
    c.take(usize::from(length))?;
    Ok(mark)
}
