//! Batches as they are collected, packed, read and unpacked.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use pages::{
    Batch, Choice, Head, Kind, MAX_BODY, MAX_HEAD, MAX_PAGES, MAX_RUNS, MAX_ZERO_PAGES, Measured,
    PAGE_SIZE, Packer, PageError, Pushed, Run, Unpacker, choose, is_zero,
};
use proptest::prelude::*;

/// Contents whose compressibility is known; never all zero.
#[derive(Debug, Clone, Copy)]
enum Fill {
    Word(u8),
    Text(u64),
    Noise(u64),
}

fn page(fill: Fill) -> [u8; PAGE_SIZE] {
    let mut state = match fill {
        Fill::Word(byte) => return [byte.max(1); PAGE_SIZE],
        Fill::Text(seed) | Fill::Noise(seed) => seed.wrapping_mul(2).wrapping_add(1),
    };
    let mask = if matches!(fill, Fill::Text(_)) { 0x0f } else { 0xff };
    std::array::from_fn(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8 & mask
    })
}

fn noise(pages: u64) -> Batch {
    let mut batch = Batch::new();
    for n in 0..pages {
        assert_eq!(batch.push(0, n, &page(Fill::Noise(n + 7))), Pushed::Taken);
    }
    batch
}

/// What a batch does to memory: the block's pages after it was applied.
fn apply(head: &Head, bytes: &[u8], memory: &mut BTreeMap<u64, Vec<u8>>) {
    for run in &head.zero {
        (run.first..run.end()).for_each(|n| drop(memory.insert(n, vec![0; PAGE_SIZE])));
    }
    let numbers = head.data.iter().flat_map(|run| run.first..run.end());
    let contents = bytes.chunks(PAGE_SIZE).map(<[u8]>::to_vec);
    memory.extend(numbers.zip(contents));
}

#[test]
fn zero_is_found_wherever_the_one_is() {
    assert!(is_zero(&[]) && is_zero(&[0; 1]) && is_zero(&[0; PAGE_SIZE]) && is_zero(&[0; 4097]));
    for at in 0..PAGE_SIZE + 1 {
        let mut bytes = [0; PAGE_SIZE + 1];
        bytes[at] = 0x80;
        assert!(!is_zero(&bytes), "{at}");
    }
}

#[test]
fn a_batch_ends_where_it_must() {
    let full = noise(MAX_PAGES as u64);
    assert_eq!(full.data(), [Run { first: 0, pages: MAX_PAGES as u32 }]);
    let mut batch = full;
    assert_eq!(batch.push(0, 500, &page(Fill::Word(1))), Pushed::Full, "too many pages");
    assert_eq!(batch.push_zero(0, 3), Pushed::Full, "page 3 is in it");
    assert_eq!(batch.push_zero(1, 500), Pushed::Full, "another block");
    assert_eq!(batch.push_zero(0, 500), Pushed::Taken);
    assert_eq!(batch.push_zero(0, 500), Pushed::Full, "twice");
    assert_eq!(batch.pages(), MAX_PAGES + 1);

    batch.clear();
    assert!(batch.is_empty());
    for n in 0..MAX_ZERO_PAGES as u64 {
        assert_eq!(batch.push(9, n, &[0; PAGE_SIZE]), Pushed::Taken);
    }
    assert_eq!(batch.push_zero(9, MAX_ZERO_PAGES as u64), Pushed::Full, "too many zero pages");
    assert_eq!((batch.block(), batch.bytes().len()), (9, 0));

    batch.clear();
    for n in 0..MAX_RUNS as u64 {
        assert_eq!(batch.push_zero(0, 2 * n), Pushed::Taken);
    }
    assert_eq!(batch.push_zero(0, 1000), Pushed::Full, "too many runs");
    assert_eq!(batch.push(0, 1000, &page(Fill::Word(1))), Pushed::Taken);
}

#[test]
fn what_does_not_shrink_is_sent_raw_without_a_copy() {
    let mut packer = Packer::new().unwrap();
    for pages in [1, 15, 16, 128] {
        let batch = noise(pages);
        for choice in [Choice::Raw, Choice::Fast, Choice::Zstd] {
            let packed = packer.pack(&batch, choice);
            assert_eq!(packed.head.kind, Kind::Raw);
            assert_eq!(packed.body.as_ptr(), batch.bytes().as_ptr());
        }
    }
}

#[test]
fn what_shrinks_is_compressed_when_asked() {
    let mut packer = Packer::new().unwrap();
    let mut batch = Batch::new();
    for n in 0..MAX_PAGES as u64 {
        assert_eq!(batch.push(0, n, &page(Fill::Text(n))), Pushed::Taken);
    }
    assert_eq!(packer.pack(&batch, Choice::Raw).head.kind, Kind::Raw);
    let packed = packer.pack(&batch, Choice::Zstd);
    assert_eq!(packed.head.kind, Kind::Zstd);
    assert!(packed.body.len() < MAX_BODY * 6 / 10, "{}", packed.body.len());
}

#[test]
fn a_batch_of_zero_pages_has_no_body() {
    let mut batch = Batch::new();
    assert_eq!(batch.push_zero(3, 1 << 40), Pushed::Taken);
    let mut packer = Packer::new().unwrap();
    let packed = packer.pack(&batch, Choice::Zstd);
    assert_eq!((packed.head.kind, packed.body.len()), (Kind::Raw, 0));
    let mut bytes = Vec::new();
    packed.head.write(&mut bytes);
    let (head, rest) = Head::read(&bytes).unwrap();
    assert_eq!((&head, rest.len()), (&packed.head, 0));
    assert_eq!(Unpacker::new().unwrap().unpack(&head, &[]).unwrap(), b"");
    assert!(head.fits(((1 << 40) + 1) * PAGE_SIZE as u64));
    assert!(!head.fits((1 << 40) * PAGE_SIZE as u64));
}

fn head(zero: &[(u64, u32)], data: &[(u64, u32)]) -> Head {
    let runs = |list: &[(u64, u32)]| {
        list.iter().map(|&(first, pages)| Run { first, pages }).collect::<Vec<_>>()
    };
    let body =
        data.iter().fold(0, |sum: u32, run| sum.wrapping_add(run.1.wrapping_mul(PAGE_SIZE as u32)));
    Head { block: 1, kind: Kind::Raw, zero: runs(zero), data: runs(data), body }
}

#[test]
fn bad_heads_are_refused() {
    let good = head(&[(0, 2), (9, 1)], &[(2, 7)]);
    let many: Vec<_> = (0..=MAX_RUNS as u64).map(|n| (2 * n, 1)).collect();
    let cases: [(&str, Head); 11] = [
        ("no pages", head(&[], &[])),
        ("overlap", head(&[(0, 3)], &[(2, 7)])),
        ("overlap", head(&[(2, 1), (1, 1)], &[])),
        ("overlap", head(&[], &[(5, 2), (5, 1)])),
        ("overlap", head(&[(5, 1)], &[(5, 1)])),
        ("too many pages", head(&[], &[(0, MAX_PAGES as u32 + 1)])),
        ("too many pages", head(&[(0, MAX_ZERO_PAGES as u32 + 1)], &[])),
        ("too many runs", head(&many, &[])),
        ("not its pages", Head { body: 1, ..good.clone() }),
        ("empty or too long", Head { kind: Kind::Zstd, body: 0, ..good.clone() }),
        ("empty or too long", Head { kind: Kind::Zstd, body: u32::MAX, ..good.clone() }),
    ];
    for (expected, case) in cases {
        let mut bytes = Vec::new();
        case.write(&mut bytes);
        let error = Head::read(&bytes).unwrap_err();
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
    let mut bytes = Vec::new();
    good.write(&mut bytes);
    assert_eq!(Head::read(&bytes).unwrap().0, good);
    for end in 0..bytes.len() {
        assert_eq!(Head::read(&bytes[..end]), Err(PageError::Head("ends too early")));
    }
    for kind in 4..=255 {
        bytes[2] = kind;
        assert_eq!(Head::read(&bytes), Err(PageError::Kind(kind)));
    }
}

#[test]
fn a_body_must_be_exactly_its_pages() {
    let mut unpacker = Unpacker::new().unwrap();
    let text: Vec<u8> = (0..4).flat_map(|n| page(Fill::Text(n))).collect();
    let frame = zstd::bulk::compress(&text, 1).unwrap();
    let claim = |pages, body: usize| Head {
        kind: Kind::Zstd,
        body: body as u32,
        ..head(&[], &[(0, pages)])
    };
    assert_eq!(unpacker.unpack(&claim(4, frame.len()), &frame).unwrap(), text);
    for pages in [1, 3, 5, 128] {
        let error = unpacker.unpack(&claim(pages, frame.len()), &frame).unwrap_err();
        assert!(matches!(error, PageError::Decompress { .. }), "{pages}: {error}");
    }
    let two = [&frame[..], &frame].concat();
    assert!(unpacker.unpack(&claim(4, two.len()), &two).is_err(), "twice the pages");
    let cut = &frame[..frame.len() - 1];
    assert!(unpacker.unpack(&claim(4, cut.len()), cut).is_err());
    let error = unpacker.unpack(&claim(4, frame.len()), cut).unwrap_err();
    assert!(matches!(error, PageError::BodySize { .. }));
    let error = unpacker.unpack(&head(&[], &[(0, 4)]), &frame).unwrap_err();
    assert!(matches!(error, PageError::BodySize { .. }));
    // A head that was not read, but made.
    let error = unpacker.unpack(&claim(u32::MAX, frame.len()), &frame).unwrap_err();
    assert!(matches!(error, PageError::Decompress { .. }));
}

#[test]
fn compression_follows_the_link() {
    let link = |gbit: f64| Measured { link: gbit * 1e9 / 8.0, ..Measured::default() };
    let cases = [
        (link(0.0), Choice::Raw),
        (link(0.1), Choice::Zstd),
        (link(1.0), Choice::Zstd),
        (link(10.0), Choice::Fast),
        (link(25.0), Choice::Raw),
        (link(100.0), Choice::Raw),
        (Measured { cores: 4.0, ..link(10.0) }, Choice::Zstd),
        (Measured { cores: 0.0, ..link(1.0) }, Choice::Raw),
        (
            Measured { fast_ratio: 1.0, zstd_ratio: 0.95, strong_ratio: 0.95, ..link(1.0) },
            Choice::Raw,
        ),
        (Measured { strong_ratio: 0.5, cores: 2.0, ..link(1.0) }, Choice::Strong),
        (Measured { fast_ratio: 0.50, zstd_ratio: 0.48, ..link(1.0) }, Choice::Fast),
        (Measured { fast_ratio: f64::NAN, zstd_ratio: f64::NAN, ..link(f64::NAN) }, Choice::Raw),
    ];
    for (measured, expected) in cases {
        assert_eq!(choose(&measured), expected, "{measured:?}");
    }
}

fn fill() -> impl Strategy<Value = Option<Fill>> {
    prop_oneof![
        2 => Just(None),
        1 => any::<u8>().prop_map(|b| Some(Fill::Word(b))),
        2 => any::<u64>().prop_map(|s| Some(Fill::Text(s))),
        2 => any::<u64>().prop_map(|s| Some(Fill::Noise(s))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The other side's memory ends up as this side's, whatever the order in
    /// which pages come and however they are sent.
    #[test]
    fn memory_arrives(
        pages in proptest::collection::vec((0..300u64, fill()), 1..200),
        choice in prop_oneof![Just(Choice::Raw), Just(Choice::Fast), Just(Choice::Zstd), Just(Choice::Strong)],
    ) {
        let (mut packer, mut unpacker) = (Packer::new().unwrap(), Unpacker::new().unwrap());
        let (mut here, mut there) = (BTreeMap::new(), BTreeMap::new());
        let mut send = |batch: &mut Batch| {
            let packed = packer.pack(batch, choice);
            let mut wire = Vec::new();
            packed.head.write(&mut wire);
            assert!(wire.len() <= MAX_HEAD && packed.body.len() <= MAX_BODY);
            wire.extend_from_slice(packed.body);
            let (head, body) = Head::read(&wire).unwrap();
            assert_eq!(head.zero_pages() + head.data_pages(), batch.pages());
            assert!(head.fits(300 * PAGE_SIZE as u64));
            apply(&head, unpacker.unpack(&head, body).unwrap(), &mut there);
            batch.clear();
        };
        let mut batch = Batch::new();
        for (number, fill) in pages {
            let content = fill.map_or([0; PAGE_SIZE], page);
            here.insert(number, content.to_vec());
            if batch.push(4, number, &content) == Pushed::Full {
                send(&mut batch);
                assert_eq!(batch.push(4, number, &content), Pushed::Taken);
            }
        }
        send(&mut batch);
        prop_assert!(here == there);
    }

    #[test]
    fn random_heads_and_bodies(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut unpacker = Unpacker::new().unwrap();
        if let Ok((head, body)) = Head::read(&bytes) {
            let mut again = Vec::new();
            head.write(&mut again);
            prop_assert_eq!(&again[..], &bytes[..bytes.len() - body.len()], "one way to write it");
            let _ = unpacker.unpack(&head, body);
        }
        let made = Head { kind: Kind::Zstd, body: bytes.len() as u32, ..head(&[], &[(0, 2)]) };
        if let Ok(pages) = unpacker.unpack(&made, &bytes) {
            prop_assert_eq!(pages.len(), 2 * PAGE_SIZE);
        }
    }

    /// A valid frame, damaged.
    #[test]
    fn damaged_bodies(at in 0..2000usize, byte in any::<u8>()) {
        let text: Vec<u8> = (0..4).flat_map(|n| page(Fill::Text(n))).collect();
        let mut frame = zstd::bulk::compress(&text, 1).unwrap();
        let at = at % frame.len();
        frame[at] = byte;
        let made = Head { kind: Kind::Zstd, body: frame.len() as u32, ..head(&[], &[(0, 4)]) };
        if let Ok(pages) = Unpacker::new().unwrap().unpack(&made, &frame) {
            prop_assert_eq!(pages.len(), text.len());
        }
    }
}
