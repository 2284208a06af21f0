//! Whatever comes in: no panic, no unbounded demand, no item that lies.

use crate::common::{CAPTURES, Owned, decode_in};
use proptest::prelude::*;
use stream::{
    Content, Decoder, Encoder, Item, Limits, MAX_ITEM, Page, RamBlock, ReturnMessage, ReturnPath,
    ReturnStep, Step,
};

/// Walks any bytes; checks what holds for every stream.
fn walk(bytes: &[u8]) {
    let limits = Limits { memory: 1 << 30, ..Limits::default() };
    let mut decoder = Decoder::new(limits);
    let mut rest = bytes;
    for _ in 0..=bytes.len() + 2 {
        match decoder.next(rest) {
            Ok(Step::More(needed)) => {
                assert!(needed > rest.len() && needed <= MAX_ITEM);
                return;
            }
            Ok(Step::Item(n, item)) => {
                let length = match item {
                    Item::Verbatim { bytes, .. } | Item::Tail(bytes) => bytes.len(),
                    Item::Opaque { .. } => 0,
                    Item::Page(page) => {
                        let block = &decoder.blocks()[usize::from(page.block)];
                        assert!(page.offset < block.length && page.offset % 4096 == 0);
                        n
                    }
                };
                assert_eq!(n, length);
                rest = &rest[n..];
            }
            Err(_) => return,
        }
    }
    panic!("does not come to an end");
}

#[derive(Debug, Clone)]
enum Change {
    Set(u8),
    Insert(u8),
    Remove,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        any::<u8>().prop_map(Change::Set),
        any::<u8>().prop_map(Change::Insert),
        Just(Change::Remove)
    ]
}

proptest! {
    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        walk(&bytes);
        walk(&[b"QEVM\0\0\0\x03", &bytes[..]].concat());
        walk(&[b"QEVM\0\0\0\x03\x07\0\0\0\x02pc\x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x04", &bytes[..]].concat());
    }

    /// Most of the structure is in the first few hundred bytes.
    #[test]
    fn damaged_captures(
        which in 0..CAPTURES.len(),
        changes in proptest::collection::vec((0..1200usize, change()), 1..4),
        scale in prop_oneof![Just(1usize), Just(37)],
    ) {
        let mut bytes = CAPTURES[which].2.to_vec();
        for (at, change) in changes {
            let at = at * scale % bytes.len();
            match change {
                Change::Set(byte) => bytes[at] = byte,
                Change::Insert(byte) => bytes.insert(at, byte),
                Change::Remove => drop(bytes.remove(at)),
            }
        }
        walk(&bytes);
    }

    #[test]
    fn cut_anywhere(
        which in 0..CAPTURES.len(),
        sizes in proptest::collection::vec(1..9000usize, 1..20),
    ) {
        let bytes = CAPTURES[which].2;
        let (whole, _) = decode_in(bytes, &[bytes.len()], Limits::default()).unwrap();
        let (pieces, _) = decode_in(bytes, &sizes, Limits::default()).unwrap();
        prop_assert!(whole == pieces);
    }

    /// Pages in any order, some taken out, are read as they were written.
    #[test]
    fn written_pages_are_read(
        pages in proptest::collection::vec((0..3u16, 0..4u64, any::<Option<u8>>(), any::<bool>()), 0..40),
    ) {
        let blocks: Vec<_> = ["pc.ram", "a", "b"]
            .map(|name| RamBlock { name: name.into(), length: 0x4000 }).into();
        let start = b"QEVM\0\0\0\x03\x07\0\0\0\x02pc\x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x04";
        let list = blocks.iter().flat_map(|b| {
            [&[b.name.len() as u8], b.name.as_bytes(), &b.length.to_be_bytes()].concat()
        });
        let mut out = [&start[..], &0xc004u64.to_be_bytes()].concat();
        out.extend(list);
        out.extend(b"\0\0\0\0\0\0\0\x10\x7e\0\0\0\x02\x02\0\0\0\x02");
        let mut encoder = Encoder::new();
        encoder.set_blocks(&blocks, 4096);
        let mut expected = Vec::new();
        for (block, number, fill, cut) in pages {
            let bytes = fill.map(|byte| vec![byte; 4096]);
            let content = bytes.as_deref().map_or(Content::Zero, Content::Raw);
            encoder.page(Page { block, offset: number * 4096, content }, &mut out).unwrap();
            expected.push(Owned::Page(block, number * 4096, bytes));
            if cut {
                encoder.verbatim(b"\0\0\0\0\0\0\0\x10\x7e\0\0\0\x02\x02\0\0\0\x02", &mut out);
            }
        }
        let (items, _) = decode_in(&out, &[5000], Limits::default()).unwrap();
        let found: Vec<_> = items.into_iter().filter(|i| matches!(i, Owned::Page(..))).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn return_path_reads_what_it_writes(values in proptest::collection::vec(any::<u32>(), 0..9)) {
        let mut messages = vec![ReturnMessage::SwitchoverAck];
        messages.extend(values.into_iter().map(ReturnMessage::Pong));
        messages.push(ReturnMessage::Shut(0));
        let bytes: Vec<u8> = messages.iter().flat_map(|m| m.to_bytes()).collect();
        let mut path = ReturnPath::new();
        let (mut from, mut found) = (0, Vec::new());
        for to in 0..=bytes.len() {
            while let ReturnStep::Message(n, message) = path.next(&bytes[from..to]).unwrap() {
                found.push(message);
                from += n;
            }
        }
        prop_assert_eq!(found, messages);
    }

    #[test]
    fn random_return_path(bytes in proptest::collection::vec(0..9u8, 0..64)) {
        let mut path = ReturnPath::new();
        let mut rest = &bytes[..];
        while let Ok(ReturnStep::Message(n, message)) = path.next(rest) {
            prop_assert_eq!(message.to_bytes(), &rest[..n]);
            rest = &rest[n..];
        }
    }
}
