//! Pages that are told by what the other side holds: whatever is told, the page is the same
//! in the end, and nothing that comes from outside breaks anything.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use pages::{
    Choice, Head, Kind, Known, MAX_BODY, PAGE_SIZE, PART, Packer, Printer, Pushed, Rows, Seen,
    Told, Unpacker, read_rows,
};
use proptest::prelude::*;

type Page = [u8; PAGE_SIZE];

fn printer() -> Printer {
    Printer::new([7; 32])
}

fn page(seed: u8) -> Page {
    let mut page = [seed; PAGE_SIZE];
    page.iter_mut()
        .enumerate()
        .for_each(|(i, b)| *b = b.wrapping_mul(31).wrapping_add((i / 97) as u8));
    page
}

/// Through the packer and back, onto what is there.
fn there(rows: &Rows, choice: Choice, memory: &mut BTreeMap<u64, Page>) {
    let mut packer = Packer::new().unwrap();
    let packed = packer.pack_rows(rows, choice);
    let mut bytes = Vec::new();
    packed.head.write(&mut bytes);
    bytes.extend_from_slice(packed.body);
    let (head, body) = Head::read(&bytes).unwrap();
    let mut unpacker = Unpacker::new().unwrap();
    let rows = unpacker.unpack_rows(&head, body).unwrap();
    read_rows(&head, rows, |number, told| {
        let base = if let Told::Copy { of, .. } = told { of } else { number };
        let mut page = memory[&base];
        told.apply(&mut page);
        assert_eq!(printer().check(&page), told.check());
        memory.insert(number, page);
        Ok(())
    })
    .unwrap();
}

fn choices() -> impl Strategy<Value = Choice> {
    prop_oneof![Just(Choice::Raw), Just(Choice::Fast), Just(Choice::Zstd), Just(Choice::Strong)]
}

proptest! {
    #[test]
    fn changes_make_the_page(
        edits in proptest::collection::vec((0..40u64, 0..PAGE_SIZE, any::<u8>()), 0..200),
        choice in choices(),
    ) {
        let old: BTreeMap<u64, Page> = (0..40).map(|n| (n, page(n as u8))).collect();
        let mut new = old.clone();
        for (number, at, value) in edits {
            new.get_mut(&number).unwrap()[at] = value;
        }
        let mut rows = Rows::changes();
        for (number, page) in &new {
            let mask = printer().prints(&old[number]).differing(&printer().prints(page));
            let (a, b) = (old[number].as_chunks::<PART>().0, page.as_chunks::<PART>().0);
            let truly = a.iter().zip(b).filter(|(a, b)| a != b).count();
            prop_assert_eq!(mask.count_ones() as usize, truly);
            prop_assert_eq!(rows.change(3, *number, page, (mask, printer().check(page))), Pushed::Taken);
        }
        let mut memory = old;
        there(&rows, choice, &mut memory);
        prop_assert!(memory == new);
    }

    #[test]
    fn copies_make_the_page(of in proptest::collection::vec(0..9u64, 1..100), choice in choices()) {
        let mut memory: BTreeMap<u64, Page> = (0..9).map(|n| (n, page(n as u8))).collect();
        let mut rows = Rows::copies();
        for (number, of) in (100..).step_by(2).zip(&of) {
            let check = printer().check(&memory[of]);
            prop_assert_eq!(rows.copy(3, number, *of, check), Pushed::Taken);
        }
        there(&rows, choice, &mut memory);
        for (number, of) in (100..).step_by(2).zip(&of) {
            prop_assert!(memory[&number] == memory[of]);
        }
    }

    #[test]
    fn a_change_of_another_version_is_found_out(at in 0..PAGE_SIZE, part in 0..32u32) {
        let (first, mut second) = (page(1), page(1));
        second[at] ^= 0x5a;
        let mut third = second;
        third[part as usize * PART] ^= 1;
        let mask = printer().prints(&second).differing(&printer().prints(&third));
        let told = Told::Change {
            mask,
            check: printer().check(&third),
            parts: third.as_chunks::<PART>().0[part as usize].as_slice(),
        };
        // The second version never came: the page that comes of it is not taken for the third.
        let mut stale = first;
        told.apply(&mut stale);
        prop_assert_eq!(printer().check(&stale) == told.check(), stale == third);
        let mut right = second;
        told.apply(&mut right);
        prop_assert!(right == third && printer().check(&right) == told.check());
    }

    #[test]
    fn any_body_is_rows_or_refused(
        kind in 2..4u8,
        pages in 1..64u64,
        body in proptest::collection::vec(any::<u8>(), 1..3000),
        packed: bool,
    ) {
        let mut bytes = vec![0, 0, kind, 0, 1];
        let mut body = body;
        if packed {
            body = [&[1][..], &zstd::bulk::compress(&body, 1).unwrap()].concat();
        }
        bytes.extend((body.len() as u32).to_le_bytes());
        bytes.extend((5u64 << 16 | (pages - 1)).to_le_bytes());
        bytes.extend(&body);
        let (head, rest) = Head::read(&bytes).unwrap();
        let mut unpacker = Unpacker::new().unwrap();
        if let Ok(rows) = unpacker.unpack_rows(&head, rest) {
            let mut seen = 0;
            let read = read_rows(&head, rows, |number, told| {
                assert!((5..5 + pages).contains(&number));
                told.apply(&mut page(0));
                seen += 1;
                Ok(())
            });
            prop_assert!(read.is_err() || seen == pages);
        }
    }

    /// Against a plain table: what is known of a page is what was last kept of it, or nothing.
    #[test]
    fn what_is_known_is_never_wrong(
        steps in proptest::collection::vec((0..60u64, any::<u8>(), 0..20u8), 1..300),
        room in 0..40usize,
    ) {
        let mut known = Known::new(room * (8 * pages::PARTS + 48));
        known.add_block(1, 60 * PAGE_SIZE as u64);
        let (mut last, mut times) = (BTreeMap::new(), BTreeMap::new());
        for (page_number, seed, what) in steps {
            if what == 0 {
                known.begin_pass();
            }
            let place = (1, page_number);
            let before = known.sent(place);
            let count = times.entry(page_number).or_insert(0u32);
            prop_assert_eq!(before, *count > 0);
            *count += 1;
            let prints = printer().prints(&page(seed));
            known.keep(place, prints);
            last.insert(page_number, prints);
            for (number, prints) in &last {
                let found = known.prints((1, *number));
                prop_assert!(found.is_none_or(|found| found == prints));
            }
            prop_assert!(last.keys().filter(|n| known.prints((1, **n)).is_some()).count() <= room);
        }
        let mut again = Vec::new();
        let mut at = 0;
        while let Some(run) = known.sent_again(1, at, 7) {
            prop_assert!(run.end - run.start <= 7);
            again.extend(run.clone());
            at = run.end;
        }
        let due: Vec<u64> = times.iter().filter(|(_, n)| **n > 1).map(|(page, _)| *page).collect();
        prop_assert_eq!(again, due);
    }
}

#[test]
fn bodies_that_unpack_to_more_than_a_batch_are_refused() {
    let bomb = [&[1][..], &zstd::bulk::compress(&vec![0; MAX_BODY + 1], 1).unwrap()].concat();
    let mut rows = Rows::copies();
    assert_eq!(rows.copy(0, 1, 0, 0), Pushed::Taken);
    let head = Head {
        block: 0,
        kind: Kind::Copies,
        zero: vec![],
        data: vec![pages::Run { first: 1, pages: 1 }],
        body: bomb.len() as u32,
    };
    assert!(Unpacker::new().unwrap().unpack_rows(&head, &bomb).is_err());
    assert!(Unpacker::new().unwrap().unpack_rows(&head, &[9; 3]).is_err());
}

#[test]
fn rows_are_bounded_and_rise() {
    let mut rows = Rows::changes();
    let all = (u32::MAX, 0);
    let taken = (0..200).take_while(|n| rows.change(0, *n, &page(1), all) == Pushed::Taken).count();
    assert_eq!(taken, (MAX_BODY - 1) / (12 + PAGE_SIZE));
    assert_eq!(rows.pages(), taken);
    rows.clear();
    assert!(rows.is_empty());
    assert_eq!(rows.change(0, 5, &page(1), (1, 0)), Pushed::Taken);
    for (block, number) in [(0, 5), (0, 4), (1, 9)] {
        assert_eq!(rows.change(block, number, &page(1), (1, 0)), Pushed::Full);
    }
}

#[test]
fn a_content_is_found_until_it_is_forgotten() {
    let mut seen = Seen::default();
    seen.add((1, 0), 77);
    seen.add((1, 1 << 40), 78);
    assert_eq!((seen.find(1, 77), seen.find(2, 77), seen.find(1, 78)), (Some(0), None, None));
    seen.clear();
    assert_eq!(seen.find(1, 77), None);
}
