//! Streams that must be refused, built by hand.

use crate::common::{Owned, decode, decode_in};
use stream::{DecodeError, Decoder, Limits};

/// Builds a stream piece by piece.
#[derive(Clone, Default)]
struct Build(Vec<u8>);

impl Build {
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn word(self, value: u64) -> Self {
        self.raw(&value.to_be_bytes())
    }

    fn name(self, name: &[u8]) -> Self {
        self.raw(&[name.len() as u8]).raw(name)
    }

    /// Header, configuration, and the beginning of ram's first section.
    fn begun() -> Self {
        Self::configured().section(1, 2, b"ram", 4)
    }

    fn configured() -> Self {
        Self::default().raw(b"QEVM\0\0\0\x03\x07\0\0\0\x02pc")
    }

    fn subsection(self, name: &str) -> Self {
        self.raw(&[5]).name(format!("configuration/{name}").as_bytes()).raw(&[0, 0, 0, 1])
    }

    fn section(self, kind: u8, id: u8, name: &[u8], version: u8) -> Self {
        self.raw(&[kind, 0, 0, 0, id]).name(name).raw(&[0, 0, 0, 0, 0, 0, 0, version])
    }

    /// Two blocks of two pages, and a part that is open.
    fn open() -> Self {
        Self::begun().list(&[(b"a", 0x2000), (b"b", 0x2000)]).word(0x10).footer(2).part(2, 2)
    }

    fn list(self, blocks: &[(&[u8], u64)]) -> Self {
        let total: u64 = blocks.iter().map(|b| b.1).sum();
        blocks.iter().fold(self.word(total | 4), |b, (name, n)| b.name(name).word(*n))
    }

    fn footer(self, id: u8) -> Self {
        self.raw(&[0x7e, 0, 0, 0, id])
    }

    fn part(self, kind: u8, id: u8) -> Self {
        self.raw(&[kind, 0, 0, 0, id])
    }

    fn zero(self, offset: u64, name: &[u8]) -> Self {
        self.word(offset | 2).name(name).raw(&[0])
    }

    fn error(&self) -> DecodeError {
        let whole = decode(&self.0).unwrap_err();
        let bytewise = decode_in(&self.0, &[1], Limits::default()).unwrap_err();
        assert_eq!(whole, bytewise);
        whole
    }
}

#[test]
fn the_hand_made_stream_is_good() {
    let stream = Build::open().zero(0x1000, b"b").word(0x22).raw(&[0]).word(0x10).footer(2);
    let stream = stream.part(3, 2).word(0x200).word(0x10).footer(2).raw(b"tail");
    let (items, decoder) = decode(&stream.0).unwrap();
    assert!(decoder.in_tail());
    assert!(items.contains(&Owned::Page(1, 0x1000, None)));
    assert!(items.contains(&Owned::Page(1, 0, None)), "named by the record before");
    assert_eq!(items.last(), Some(&Owned::Tail(b"tail".to_vec())));
}

#[test]
fn a_block_carries_over_from_one_part_to_the_next() {
    let stream = Build::open().zero(0, b"b").word(0x10).footer(2).part(2, 2);
    let stream = stream.word(0x1022).raw(&[0]).word(0x10).footer(2);
    let (items, _) = decode(&stream.0).unwrap();
    assert!(items.contains(&Owned::Page(1, 0x1000, None)));
}

#[test]
fn subsections_of_the_configuration() {
    let stream = Build::configured().subsection("target-page-bits").raw(&[0, 0, 0, 16]);
    let stream = stream.subsection("uuid").raw(&[7; 16]);
    let stream = stream.subsection("capabilities").raw(&[0; 4]);
    let stream = stream.section(1, 2, b"ram", 4).list(&[(b"a", 0x20000)]).word(0x10).footer(2);
    let stream = stream.part(3, 2).word(0x10008).name(b"a").raw(&[9; 0x10000]);
    let (items, decoder) = decode(&stream.0).unwrap();
    assert_eq!(decoder.page_size(), 0x10000);
    assert_eq!(items.last(), Some(&Owned::Page(0, 0x10000, Some(vec![9; 0x10000]))));

    let mapped = Build::configured().subsection("capabilities").raw(b"\0\0\0\x01\x0amapped-ram");
    for (stream, expected) in [(mapped, "mapped-ram"), (Build::configured().subsection("x"), "x")] {
        let (items, _) = decode(&stream.0).unwrap();
        let [_, Owned::Opaque(why), Owned::Tail(rest)] = &items[..] else { panic!("{items:?}") };
        assert!(why.contains(expected), "{why}");
        assert_eq!(rest, &stream.0[8..]);
    }
}

#[test]
fn broken_skeletons() {
    let not_qemu = Build::default().raw(b"GET / HTTP/1.1\r\n").error();
    assert!(matches!(not_qemu, DecodeError::NotAStream { .. }));
    let version = Build::default().raw(b"QEVM\0\0\0\x02").error();
    assert_eq!(version, DecodeError::NotAStream { magic: 0x5145_564d, version: 2 });
    let long = Build::default().raw(b"QEVM\0\0\0\x03\x07\xff\xff\xff\xff").error();
    assert!(matches!(long, DecodeError::Configuration(_)));
    let many = (0..9).fold(Build::configured(), |b, _| b.subsection("uuid").raw(&[0; 16]));
    assert!(matches!(many.error(), DecodeError::Configuration(_)));
    for bits in [0, 11, 17, u32::MAX] {
        let page = Build::configured().subsection("target-page-bits").raw(&bits.to_be_bytes());
        assert!(matches!(page.error(), DecodeError::Configuration(_)), "{bits}");
    }
    assert_eq!(Build::configured().raw(&[9]).error(), DecodeError::RecordType(9));
    assert_eq!(Build::configured().raw(&[0]).error(), DecodeError::EarlyEnd(0));
    let command = DecodeError::CommandLength { command: 2, length: 5 };
    assert_eq!(Build::configured().raw(&[8, 0, 2, 0, 5]).error(), command);
    for number in 3..=10 {
        let error = Build::configured().raw(&[8, 0, number, 0, 0]).error();
        assert_eq!(error, DecodeError::Postcopy(u16::from(number)));
    }
    let stranger = Build::begun().list(&[(b"a", 0x1000)]).word(0x10).footer(2).part(2, 3).error();
    assert!(matches!(stranger, DecodeError::Section { id: 3, .. }));
    let other = Build::begun().list(&[(b"a", 0x1000)]).word(0x10).footer(3).error();
    assert!(matches!(other, DecodeError::Footer { id: 2, .. }));
    let none = Build::begun().list(&[(b"a", 0x1000)]).word(0x10).part(2, 2).error();
    assert!(matches!(none, DecodeError::Footer { id: 2, found: 2 }));
    let twice = Build::begun().list(&[(b"a", 0x1000)]).word(0x10).footer(2);
    let twice = twice.section(1, 3, b"ram", 4).error();
    assert!(matches!(twice, DecodeError::Section { id: 3, .. }));
}

#[test]
fn broken_lists_of_blocks() {
    let cases: [(&str, Build); 7] = [
        ("twice", Build::begun().list(&[(b"a", 0x1000), (b"a", 0x1000)])),
        ("empty", Build::begun().list(&[(b"", 0x1000)])),
        ("UTF-8", Build::begun().list(&[(b"\xff", 0x1000)])),
        ("bytes", Build::begun().list(&[(b"a", 0x1800), (b"b", 0x800)])),
        ("left", Build::begun().word(0x1004).name(b"a").word(0x2000)),
        ("at most", Build::begun().word(!0xfff | 4)),
        ("more than 1024", {
            let many = Build::begun().word(0x1004);
            (0..1025).fold(many, |b, n| b.name(format!("{n}").as_bytes()).word(0))
        }),
    ];
    for (expected, stream) in cases {
        let error = stream.error();
        assert!(matches!(error, DecodeError::Blocks(_)), "{expected}: {error}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
    let second = Build::begun().list(&[(b"a", 0x1000)]).word(0x1004);
    let late = Build::open().word(0x1004);
    for wrong in [second, late, Build::begun().word(0x10), Build::begun().word(2)] {
        assert!(matches!(wrong.error(), DecodeError::RamRecord { .. }));
    }
}

#[test]
fn broken_page_records() {
    let unknown = Build::open().zero(0, b"c").error();
    assert_eq!(unknown, DecodeError::UnknownBlock("c".into()));
    let beyond = Build::open().zero(0x2000, b"a").error();
    let expected = DecodeError::BeyondBlock { block: "a".into(), offset: 0x2000, length: 0x2000 };
    assert_eq!(beyond, expected);
    // Nameless first, filled with ones, xbzrle, RDMA, compress, two kinds at
    // once, no kind, an end with an offset, an end that continues, unknown.
    let nameless = Build::open().word(0x22).error();
    assert!(matches!(nameless, DecodeError::RamRecord { flags: 0x22, .. }));
    let ones = Build::open().word(0x2).name(b"a").raw(&[1]).error();
    assert!(matches!(ones, DecodeError::RamRecord { flags: 0x2, .. }));
    for word in [0x40, 0x80, 0x100, 0xa, 0x0, 0x1010, 0x30, 0x400, 0x1200, 0x1] {
        let error = Build::open().word(word).error();
        assert!(matches!(error, DecodeError::RamRecord { .. }), "{word:#x}: {error}");
    }
}

#[test]
fn the_unknown_is_opaque_before_the_first_page_and_refused_after_it() {
    let strangers = [
        Build::default().section(1, 3, b"dirty-bitmap", 1),
        Build::default().section(4, 3, b"timer", 2),
        Build::default().section(1, 3, b"ram", 5),
        Build::default().raw(&[8, 0, 99, 0, 0]),
    ];
    for stranger in strangers {
        for before in [Build::configured(), Build::open().word(0x10).footer(2)] {
            let stream = before.clone().raw(&stranger.0).raw(b"whatever");
            let (items, _) = decode(&stream.0).unwrap();
            let expected = Owned::Tail([&stranger.0[..], b"whatever"].concat());
            assert_eq!(items.last(), Some(&expected));
        }
        let late = Build::open().zero(0, b"a").word(0x10).footer(2).raw(&stranger.0).error();
        assert!(matches!(late, DecodeError::LateUnknown(_)), "{late}");
    }
    let (items, _) = decode(b"QEVM\0\0\0\x03\x01\0\0\0\x02").unwrap();
    assert!(matches!(&items[..], [_, Owned::Opaque(_), Owned::Tail(_)]), "no configuration");
}

#[test]
fn an_error_stays() {
    let mut decoder = Decoder::new(Limits::default());
    let first = decoder.next(b"nonsense").unwrap_err();
    assert_eq!(decoder.next(b"QEVM\0\0\0\x03"), Err(first.clone()));
    assert_eq!(decoder.next(b""), Err(first));
}
