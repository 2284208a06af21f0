//! Streams captured from QEMU, and helpers to walk them.

use stream::{Content, DecodeError, Decoder, Item, Limits, Mark, Page, Step};

/// Streams that are understood: QEMU's version, then the machine type.
pub(crate) const CAPTURES: [(&str, &str, &[u8]); 4] = [
    ("7.2 paused", "pc-i440fx-7.2", include_bytes!("../fixtures/7.2-pc-paused.bin")),
    ("7.2 running", "pc-q35-7.2", include_bytes!("../fixtures/7.2-q35-running.bin")),
    ("10.0 running", "pc-q35-10.0", include_bytes!("../fixtures/10.0-q35-running.bin")),
    ("10.0 as 7.2", "pc-i440fx-7.2", include_bytes!("../fixtures/10.0-pc-7.2-paused.bin")),
];

/// An item that owns its bytes; runs of verbatim or tail bytes are joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owned {
    Verbatim(Vec<u8>),
    Mark(Mark),
    Page(u16, u64, Option<Vec<u8>>),
    Opaque(String),
    Tail(Vec<u8>),
}

fn add(items: &mut Vec<Owned>, item: &Item<'_>) {
    match item {
        Item::Verbatim { bytes, mark } => {
            match items.last_mut() {
                Some(Owned::Verbatim(last)) => last.extend_from_slice(bytes),
                _ => items.push(Owned::Verbatim(bytes.to_vec())),
            }
            items.extend(mark.map(Owned::Mark));
        }
        Item::Page(Page { block, offset, content }) => {
            let content = match content {
                Content::Zero => None,
                Content::Raw(bytes) => Some(bytes.to_vec()),
            };
            items.push(Owned::Page(*block, *offset, content));
        }
        Item::Opaque { why } => items.push(Owned::Opaque(why.clone())),
        Item::Tail(bytes) => match items.last_mut() {
            Some(Owned::Tail(last)) => last.extend_from_slice(bytes),
            _ => items.push(Owned::Tail(bytes.to_vec())),
        },
    }
}

/// Decodes a stream that arrives in pieces of the given sizes, over and over.
pub(crate) fn decode_in(
    bytes: &[u8],
    sizes: &[usize],
    limits: Limits,
) -> Result<(Vec<Owned>, Decoder), DecodeError> {
    let mut decoder = Decoder::new(limits);
    let mut items = Vec::new();
    let (mut from, mut to) = (0, 0);
    for size in sizes.iter().cycle() {
        to = (to + size.max(&1)).min(bytes.len());
        loop {
            match decoder.next(&bytes[from..to])? {
                Step::More(needed) => {
                    assert!(needed > to - from, "asks for what it has");
                    assert!(needed <= stream::MAX_ITEM);
                    break;
                }
                Step::Item(n, item) => {
                    add(&mut items, &item);
                    from += n;
                }
            }
        }
        if to == bytes.len() {
            break;
        }
    }
    Ok((items, decoder))
}

/// Decodes a stream that is there as a whole.
pub(crate) fn decode(bytes: &[u8]) -> Result<(Vec<Owned>, Decoder), DecodeError> {
    decode_in(bytes, &[bytes.len()], Limits::default())
}
