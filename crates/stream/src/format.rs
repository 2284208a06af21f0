//! The numbers of the wire format; all integers are big-endian.

pub(crate) const MAGIC: u32 = 0x5145_564d;
pub(crate) const VERSION: u32 = 3;
pub(crate) const CONFIGURATION: u8 = 0x07;
pub(crate) const SUBSECTION: u8 = 0x05;

/// Types of records outside sections.
pub(crate) mod record {
    pub(crate) const EOF: u8 = 0x00;
    pub(crate) const START: u8 = 0x01;
    pub(crate) const PART: u8 = 0x02;
    pub(crate) const END: u8 = 0x03;
    pub(crate) const FULL: u8 = 0x04;
    pub(crate) const DESCRIPTION: u8 = 0x06;
    pub(crate) const COMMAND: u8 = 0x08;
    pub(crate) const FOOTER: u8 = 0x7e;
}

/// Commands, by number.
pub(crate) mod command {
    pub(crate) const OPEN_RETURN_PATH: u16 = 1;
    pub(crate) const PING: u16 = 2;
    /// 3 to 10 belong to post-copy, its recovery and COLO.
    pub(crate) const POSTCOPY_ADVISE: u16 = 3;
    pub(crate) const RECV_BITMAP: u16 = 10;
    pub(crate) const SWITCHOVER_START: u16 = 11;
}

/// Flags in the low bits of a ram record's first word.
pub(crate) mod flag {
    pub(crate) const ZERO: u64 = 0x002;
    pub(crate) const MEM_SIZE: u64 = 0x004;
    pub(crate) const PAGE: u64 = 0x008;
    pub(crate) const EOS: u64 = 0x010;
    pub(crate) const CONTINUE: u64 = 0x020;
    pub(crate) const XBZRLE: u64 = 0x040;
    pub(crate) const HOOK: u64 = 0x080;
    pub(crate) const COMPRESS_PAGE: u64 = 0x100;
    pub(crate) const MULTIFD_FLUSH: u64 = 0x200;
}

/// Version of the ram section that is understood.
pub(crate) const RAM_VERSION: u32 = 4;
/// Target page of architectures that do not say otherwise: 4 KiB.
pub(crate) const PAGE_BITS: u32 = 12;
/// Largest target page that is accepted: 64 KiB.
pub(crate) const MAX_PAGE_BITS: u32 = 16;
