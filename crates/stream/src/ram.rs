//! The ram section: the list of blocks, and records of pages.

use std::collections::HashMap;

use crate::cursor::Cursor;
use crate::decode::{Content, Page, Part, RamBlock};
use crate::error::{DecodeError, Stop, printable};
use crate::format::flag;

/// One record of the ram section.
pub(crate) enum Record<'a> {
    Page(Page<'a>),
    /// The list of blocks follows; together they have this many bytes.
    List {
        total: u64,
    },
    /// The part ends.
    End,
    /// Of no meaning without multifd.
    Flush,
}

/// The guest's blocks, and which one the last page record was of.
#[derive(Debug, Clone)]
pub(crate) struct Blocks {
    page_bits: u32,
    list: Vec<RamBlock>,
    /// By name: the index, and whether page records must not occur.
    index: HashMap<Vec<u8>, (u16, bool)>,
    last: Option<Current>,
    listed: bool,
}

/// The block of a page record.
#[derive(Debug, Clone, Copy)]
struct Current {
    block: u16,
    length: u64,
    forbidden: bool,
}

impl Blocks {
    pub(crate) fn new(page_bits: u32) -> Self {
        Self { page_bits, list: Vec::new(), index: HashMap::new(), last: None, listed: false }
    }

    pub(crate) fn list(&self) -> &[RamBlock] {
        &self.list
    }

    pub(crate) fn page_size(&self) -> usize {
        1 << self.page_bits
    }

    /// Adds an entry of the list, of whose memory `left` bytes are outstanding.
    pub(crate) fn add(
        &mut self,
        name: &[u8],
        length: u64,
        left: u64,
        most: usize,
        forbidden: bool,
    ) -> Result<(), DecodeError> {
        let text = || printable(name);
        let number = u16::try_from(self.list.len()).ok().filter(|n| usize::from(*n) < most);
        let Some(number) = number else {
            return Err(DecodeError::Blocks(format!("more than {most} blocks")));
        };
        let Ok(valid) = std::str::from_utf8(name) else {
            return Err(DecodeError::Blocks(format!("name {:?} is not UTF-8", text())));
        };
        if name.is_empty() || self.index.contains_key(name) {
            return Err(DecodeError::Blocks(format!("name {:?} is empty or there twice", text())));
        }
        if length > left || length & self.offset_in_page() != 0 {
            let what = format!("{:?} has {length} bytes, {left} are left", text());
            return Err(DecodeError::Blocks(what));
        }
        self.list.push(RamBlock { name: valid.to_owned(), length });
        self.index.insert(name.to_vec(), (number, forbidden));
        Ok(())
    }

    fn offset_in_page(&self) -> u64 {
        (1 << self.page_bits) - 1
    }

    /// Reads one record; of a page all of it, of the list only its beginning.
    pub(crate) fn record<'a>(
        &mut self,
        c: &mut Cursor<'a>,
        part: Part,
    ) -> Result<Record<'a>, Stop> {
        let word = c.u64()?;
        let flags = word & self.offset_in_page();
        let offset = word & !self.offset_in_page();
        let refuse = |what| Err(DecodeError::RamRecord { flags, what }.into());
        match flags & !flag::CONTINUE {
            flag::PAGE | flag::ZERO if part == Part::Start => {
                refuse("a page before the list of blocks is complete")
            }
            flag::PAGE => self.page(c, flags, offset).map(Record::Page),
            flag::ZERO => self.page(c, flags, offset).map(Record::Page),
            flag::EOS if flags == flag::EOS && offset == 0 => {
                if part == Part::Start && !self.listed {
                    return refuse("the list of blocks is missing");
                }
                Ok(Record::End)
            }
            flag::MEM_SIZE if flags == flag::MEM_SIZE => {
                if part != Part::Start || self.listed {
                    return refuse("a second list of blocks");
                }
                self.listed = true;
                Ok(Record::List { total: offset })
            }
            flag::MULTIFD_FLUSH if flags == flag::MULTIFD_FLUSH && offset == 0 => Ok(Record::Flush),
            flag::XBZRLE => refuse("xbzrle; migrate without this capability"),
            flag::COMPRESS_PAGE => refuse("compress; migrate without this capability"),
            flag::HOOK => refuse("RDMA is not supported"),
            _ => refuse("unknown"),
        }
    }

    fn page<'a>(&mut self, c: &mut Cursor<'a>, flags: u64, offset: u64) -> Result<Page<'a>, Stop> {
        let current = match self.last {
            Some(last) if flags & flag::CONTINUE != 0 => last,
            _ => self.named(c, flags)?,
        };
        let content = if flags & flag::ZERO == 0 {
            Content::Raw(c.take(self.page_size())?)
        } else if c.u8()? == 0 {
            Content::Zero
        } else {
            let what = "a page filled with another byte than zero";
            return Err(DecodeError::RamRecord { flags, what }.into());
        };
        if offset >= current.length || current.forbidden {
            return Err(self.misplaced(current, offset).into());
        }
        self.last = Some(current);
        Ok(Page { block: current.block, offset, content })
    }

    fn named(&self, c: &mut Cursor<'_>, flags: u64) -> Result<Current, Stop> {
        if flags & flag::CONTINUE != 0 {
            let what = "the first page record names no block";
            return Err(DecodeError::RamRecord { flags, what }.into());
        }
        let name = c.short_string()?;
        let found = self.index.get(name);
        let found = found.and_then(|(n, f)| Some((n, f, self.list.get(usize::from(*n))?)));
        let Some((&block, &forbidden, entry)) = found else {
            return Err(DecodeError::UnknownBlock(printable(name)).into());
        };
        Ok(Current { block, length: entry.length, forbidden })
    }

    fn misplaced(&self, at: Current, offset: u64) -> DecodeError {
        let block = self.list.get(usize::from(at.block)).map(|b| b.name.clone());
        let block = block.unwrap_or_default();
        if at.forbidden {
            return DecodeError::ForbiddenPage(block);
        }
        DecodeError::BeyondBlock { block, offset, length: at.length }
    }
}
