//! Streams captured from QEMU 7.2 and 10.0, taken apart and put together.

use crate::common::{CAPTURES, Owned, decode, decode_in};
use stream::{Content, DecodeError, Encoder, Limits, Mark, Page, RamBlock};

fn pages(items: &[Owned], block: u16) -> (usize, usize) {
    let of = |zero| {
        let wanted =
            |i: &&Owned| matches!(i, Owned::Page(b, _, c) if *b == block && c.is_none() == zero);
        items.iter().filter(wanted).count()
    };
    (of(true), of(false))
}

#[test]
fn captures_are_understood() {
    for (name, machine, bytes) in CAPTURES {
        let (items, decoder) = decode(bytes).unwrap();
        assert_eq!(decoder.machine(), machine, "{name}");
        assert_eq!(decoder.page_size(), 4096);
        assert!(decoder.in_tail(), "{name}");
        let blocks: Vec<_> = decoder.blocks().iter().map(|b| (b.name.as_str(), b.length)).collect();
        let expected = [
            ("pc.ram", 4 << 20),
            ("/rom@etc/acpi/tables", 128 << 10),
            ("pc.rom", 128 << 10),
            ("pc.bios", 64 << 10),
            ("/rom@etc/table-loader", 4 << 10),
            ("/rom@etc/acpi/rsdp", 4 << 10),
        ];
        assert_eq!(blocks, expected, "{name}");
        let marks: Vec<_> = items.iter().filter(|i| matches!(i, Owned::Mark(_))).collect();
        assert_eq!(marks.first(), Some(&&Owned::Mark(Mark::Blocks)), "{name}");
        assert_eq!(marks.last(), Some(&&Owned::Mark(Mark::RamEnd)), "{name}");
        let switchover = marks.contains(&&Owned::Mark(Mark::SwitchoverStart));
        assert_eq!(switchover, machine.ends_with("10.0"), "{name}");
        let (zero, raw) = pages(&items, 0);
        assert!(zero + raw >= 1024 && raw >= 3, "{name}: {zero} zero, {raw} raw");
        assert!(name.contains("running") == (zero + raw > 1024), "{name}: pages sent again");
        assert_eq!(pages(&items, 3), (15 - 1, 2), "{name}: firmware has two pages");
        assert!(matches!(items.last(), Some(Owned::Tail(tail)) if tail.len() == 512), "{name}");
    }
}

/// Puts the items that `keep` wants together again.
fn encode(items: &[Owned], blocks: &[RamBlock], keep: impl Fn(u16) -> bool) -> Vec<u8> {
    let mut encoder = Encoder::new();
    let mut out = Vec::new();
    for item in items {
        match item {
            Owned::Verbatim(bytes) | Owned::Tail(bytes) => encoder.verbatim(bytes, &mut out),
            Owned::Mark(Mark::Blocks) => encoder.set_blocks(blocks, 4096),
            Owned::Page(block, offset, content) if keep(*block) => {
                let content = content.as_deref().map_or(Content::Zero, Content::Raw);
                let page = Page { block: *block, offset: *offset, content };
                encoder.page(page, &mut out).unwrap();
            }
            Owned::Mark(_) | Owned::Page(..) => {}
            Owned::Opaque(why) => panic!("opaque: {why}"),
        }
    }
    out
}

#[test]
fn putting_everything_together_gives_the_same_items() {
    for (name, _, bytes) in CAPTURES {
        let (items, decoder) = decode(bytes).unwrap();
        let again = encode(&items, decoder.blocks(), |_| true);
        let (items_again, _) = decode(&again).unwrap();
        assert!(items == items_again, "{name}");
        assert!(again.len() < bytes.len() + 1024, "{name}: {} bytes", again.len());
    }
}

#[test]
fn a_stream_without_guest_memory_keeps_everything_else() {
    for (name, _, bytes) in CAPTURES {
        let (items, decoder) = decode(bytes).unwrap();
        let without = encode(&items, decoder.blocks(), |block| block != 0);
        let limits = Limits { without_pages: vec!["pc.ram".into()], ..Limits::default() };
        let (kept, _) = decode_in(&without, &[without.len()], limits.clone()).unwrap();
        let is_kept = |i: &&Owned| matches!(i, Owned::Page(block, ..) if *block != 0);
        let wanted: Vec<_> = items.iter().filter(is_kept).collect();
        let found: Vec<_> = kept.iter().filter(is_kept).collect();
        assert_eq!(found, wanted, "{name}");
        assert_eq!(pages(&kept, 0), (0, 0), "{name}");

        let refused = decode_in(bytes, &[bytes.len()], limits).unwrap_err();
        assert_eq!(refused, DecodeError::ForbiddenPage("pc.ram".into()), "{name}");
    }
}

#[test]
fn arrival_in_pieces_changes_nothing() {
    for (name, _, bytes) in CAPTURES {
        let (whole, _) = decode(bytes).unwrap();
        for sizes in [&[1][..], &[7], &[4096], &[4105, 1, 3], &[65536]] {
            let (pieces, _) = decode_in(bytes, sizes, Limits::default()).unwrap();
            assert!(pieces == whole, "{name} in pieces of {sizes:?}");
        }
    }
}

#[test]
fn early_device_state_turns_the_stream_opaque() {
    let bytes = include_bytes!("../fixtures/10.0-virtio-mem.bin");
    let (items, decoder) = decode(bytes).unwrap();
    assert!(decoder.in_tail());
    let [Owned::Verbatim(a), Owned::Mark(Mark::Blocks), Owned::Verbatim(b), opaque, tail] =
        &items[..]
    else {
        panic!("{items:?}")
    };
    let (Owned::Opaque(why), Owned::Tail(tail)) = (opaque, tail) else { panic!("{items:?}") };
    assert!(why.contains("virtio-mem-device-early"), "{why}");
    assert_eq!([&a[..], b, tail].concat(), bytes, "no byte is lost");
}

#[test]
fn a_capability_that_changes_the_format_turns_the_stream_opaque() {
    let bytes = include_bytes!("../fixtures/7.2-ignore-shared.bin");
    let (items, _) = decode(bytes).unwrap();
    let [Owned::Verbatim(a), Owned::Opaque(why), Owned::Tail(b)] = &items[..] else {
        panic!("{items:?}")
    };
    assert!(why.contains("x-ignore-shared"), "{why}");
    assert_eq!([&a[..], b].concat(), bytes);
}

#[test]
fn postcopy_is_refused() {
    let bytes = include_bytes!("../fixtures/10.0-postcopy.bin");
    assert_eq!(decode(bytes).unwrap_err(), DecodeError::Postcopy(3));
}
