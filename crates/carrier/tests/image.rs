//! A destination that holds an image of the VM: what is there does not travel, and
//! whatever is wrong with the image, the memory is the source's in the end.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::Write;

use types::{CarrierCommand, CarrierEvent, CarrierSide, Force, PageCounts};

use support::pair::Pair;
use support::{beginning, empty_part, end, file_of, part, ram_start, zero_part};

const PAGES: u64 = 600;

/// The page with this number, as the source has it.
fn fill(number: u64) -> u8 {
    if number.is_multiple_of(5) { 0 } else { (number % 250) as u8 + 1 }
}

/// Sends all pages to a destination whose file holds `image`; what travelled.
fn come_home(image: &dyn Fn(u64) -> u8) -> PageCounts {
    let mut pair = Pair::changed(
        |place| {
            let blocks = file_of(place, PAGES * 4096, PAGES * 4096);
            let bytes: Vec<u8> = (0..PAGES).flat_map(|n| [image(n); 4096]).collect();
            fs::write(place.path("memory"), bytes).unwrap();
            blocks
        },
        |config| {
            match &mut config.side {
                CarrierSide::Destination { image, .. } => *image = true,
                // Pages of the same content are not to be told as copies.
                CarrierSide::Source { force, .. } => *force = Some(Force::Raw),
            }
        },
    );
    pair.swallow();
    pair.source_qemu.write_all(&[beginning(), ram_start(PAGES * 4096)].concat()).unwrap();
    for number in 0..PAGES {
        let bytes = match fill(number) {
            0 => zero_part(number * 4096),
            fill => part(number * 4096, fill),
        };
        pair.source_qemu.write_all(&bytes).unwrap();
    }
    // A page that changes, and changes back to what was there first.
    let last = PAGES - 1;
    pair.source_qemu.write_all(&part(last * 4096, 77)).unwrap();
    pair.source_qemu.write_all(&part(last * 4096, fill(last))).unwrap();
    pair.from.agent.send(CarrierCommand::Tail);
    let mut tail = empty_part();
    tail[0] = 3;
    pair.source_qemu.write_all(&tail).unwrap();
    pair.to.agent.is(&CarrierEvent::Sealed);
    let pages = pair.from.agent.wait(|e| match e {
        CarrierEvent::Counters(c) => (c.done_bytes == (PAGES + 2) * 4096).then_some(c.pages),
        _ => None,
    });
    let memory = fs::read(pair.place.path("memory")).unwrap();
    for (number, page) in memory.chunks(4096).enumerate() {
        let due = fill(number as u64);
        assert!(page.iter().all(|b| *b == due), "page {number} is {}, not {due}", page[0]);
    }
    end(pair.from);
    end(pair.to);
    pages
}

#[test]
fn what_is_there_does_not_travel() {
    let pages = come_home(&fill);
    assert_eq!(pages.present, PAGES);
    // The page that changed, twice.
    assert_eq!((pages.zero, pages.raw + pages.compressed), (0, 2));
}

#[test]
fn a_few_changed_pages_travel() {
    let pages = come_home(&|n| if n % 50 == 7 { 200 } else { fill(n) });
    assert_eq!(pages.present, PAGES - 12);
    assert_eq!(pages.zero + pages.raw + pages.compressed, 12 + 2);
}

#[test]
fn an_image_of_another_vm_or_one_that_was_tampered_with_does_no_harm() {
    // Nothing of it is right: zeros where there is something, something where there are none.
    let pages = come_home(&|n| if fill(n) == 0 { 9 } else { 0 });
    assert_eq!(pages.present, 0);
    assert_eq!(pages.zero, PAGES / 5);
    // Half of it was overwritten.
    let pages = come_home(&|n| if n < PAGES / 2 { fill(n) } else { 251 });
    assert_eq!(pages.present, PAGES / 2);
}
