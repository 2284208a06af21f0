//! The configuration section: machine type, then optional subsections.

use crate::cursor::Cursor;
use crate::error::{DecodeError, Stop, printable};
use crate::format::{CONFIGURATION, MAX_PAGE_BITS, PAGE_BITS, SUBSECTION};

const MAX_MACHINE: u32 = 255;
const MAX_SUBSECTIONS: usize = 8;

/// What the configuration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Configuration {
    /// Versioned machine type.
    pub(crate) machine: String,
    /// Target page size, as a power of two.
    pub(crate) page_bits: u32,
}

/// Reads the whole section.
pub(crate) fn configuration(c: &mut Cursor<'_>) -> Result<Configuration, Stop> {
    if c.u8()? != CONFIGURATION {
        return Err(Stop::Unknown("no configuration section: machine type older than 2.4".into()));
    }
    let length = c.u32()?;
    if length == 0 || length > MAX_MACHINE {
        return Err(bad(format!("machine type of {length} bytes")));
    }
    let machine = printable(c.take(length as usize)?);
    let mut page_bits = PAGE_BITS;
    for _ in 0..=MAX_SUBSECTIONS {
        if c.peek()? != SUBSECTION {
            return Ok(Configuration { machine, page_bits });
        }
        subsection(c, &mut page_bits)?;
    }
    Err(bad("too many subsections".into()))
}

fn subsection(c: &mut Cursor<'_>, page_bits: &mut u32) -> Result<(), Stop> {
    c.u8()?;
    let name = c.short_string()?;
    let _version = c.u32()?;
    match name {
        b"configuration/target-page-bits" => {
            let bits = c.u32()?;
            if !(PAGE_BITS..=MAX_PAGE_BITS).contains(&bits) {
                return Err(bad(format!("target page of 2^{bits} bytes")));
            }
            *page_bits = bits;
        }
        b"configuration/capabilities" => capabilities(c)?,
        b"configuration/uuid" => {
            c.take(16)?;
        }
        other => return Err(Stop::Unknown(format!("unknown {}", printable(other)))),
    }
    Ok(())
}

/// Only capabilities that change the format of the memory part are listed.
fn capabilities(c: &mut Cursor<'_>) -> Result<(), Stop> {
    let count = c.u32()?;
    if count == 0 {
        return Ok(());
    }
    Err(Stop::Unknown(format!("capability {}", printable(c.short_string()?))))
}

fn bad(what: String) -> Stop {
    DecodeError::Configuration(what).into()
}
