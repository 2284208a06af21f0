//! What the encoder and the return path write, to the byte.

use stream::{
    Content, EncodeError, Encoder, Page, RamBlock, ReturnError, ReturnMessage, ReturnPath,
    ReturnStep,
};

fn encoder() -> Encoder {
    let mut encoder = Encoder::new();
    let block = |name: &str| RamBlock { name: name.into(), length: 0x2000 };
    encoder.set_blocks(&[block("a"), block("b"), block(&"c".repeat(256))], 4096);
    encoder
}

fn zero(block: u16, offset: u64) -> Page<'static> {
    Page { block, offset, content: Content::Zero }
}

#[test]
fn the_block_is_named_first_when_it_changes_and_after_other_bytes() {
    let (mut encoder, mut out) = (encoder(), Vec::new());
    for page in [zero(0, 0), zero(0, 0x1000), zero(1, 0)] {
        encoder.page(page, &mut out).unwrap();
    }
    encoder.verbatim(b"-", &mut out);
    encoder.page(zero(1, 0x1000), &mut out).unwrap();
    let expected = [
        &b"\0\0\0\0\0\0\0\x02\x01a\0"[..],
        b"\0\0\0\0\0\0\x10\x22\0",
        b"\0\0\0\0\0\0\0\x02\x01b\0",
        b"-",
        b"\0\0\0\0\0\0\x10\x02\x01b\0",
    ];
    assert_eq!(out, expected.concat());
}

#[test]
fn a_page_with_contents() {
    let (mut encoder, mut out) = (encoder(), Vec::new());
    let content = Content::Raw(&[5; 4096]);
    encoder.page(Page { block: 1, offset: 0x1000, content }, &mut out).unwrap();
    assert_eq!(out, [&b"\0\0\0\0\0\0\x10\x08\x01b"[..], &[5; 4096]].concat());
}

#[test]
fn what_is_no_page_is_not_written() {
    let (mut encoder, mut out) = (encoder(), Vec::new());
    let wrong = [
        (zero(3, 0), EncodeError::Block(3)),
        (zero(2, 0), EncodeError::Block(2)),
        (zero(0, 0x2000), EncodeError::Place { block: "a".into(), offset: 0x2000, bytes: 4096 }),
        (zero(0, 8), EncodeError::Place { block: "a".into(), offset: 8, bytes: 4096 }),
        (
            Page { block: 0, offset: 0, content: Content::Raw(&[1; 4095]) },
            EncodeError::Place { block: "a".into(), offset: 0, bytes: 4095 },
        ),
    ];
    for (page, expected) in wrong {
        assert_eq!(encoder.page(page, &mut out), Err(expected));
    }
    assert_eq!(Encoder::new().page(zero(0, 0), &mut out), Err(EncodeError::Block(0)));
    assert!(out.is_empty());
}

#[test]
fn the_return_path_ends_with_shut() {
    let mut path = ReturnPath::new();
    assert_eq!(path.next(b""), Ok(ReturnStep::More(2)));
    assert_eq!(path.next(b"\0\x07\0"), Ok(ReturnStep::More(4)));
    let ack = ReturnStep::Message(4, ReturnMessage::SwitchoverAck);
    assert_eq!(path.next(b"\0\x07\0\0\0"), Ok(ack));
    assert_eq!(path.next(b"\0\x01\0\x04\0\0"), Ok(ReturnStep::More(8)));
    let shut = ReturnStep::Message(8, ReturnMessage::Shut(3));
    assert_eq!(path.next(b"\0\x01\0\x04\0\0\0\x03"), Ok(shut));
    assert_eq!(path.next(b"\0"), Err(ReturnError::AfterShut));
}

#[test]
fn postcopy_messages_are_refused() {
    for (kind, length) in [(0, 0), (1, 0), (1, 5), (2, 3), (3, 12), (4, 12), (5, 1), (7, 4), (9, 0)]
    {
        let bytes = [0, kind, 0, length];
        let error = ReturnError::Unexpected { kind: kind.into(), length: length.into() };
        assert_eq!(ReturnPath::new().next(&bytes), Err(error));
    }
}
