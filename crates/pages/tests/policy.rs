//! The policy against imagined links and contents.

use pages::{Choice, Policy};

const BATCH: usize = 512 << 10;

/// A link in bytes a second, and what compression makes of the contents.
#[derive(Clone, Copy)]
struct World {
    link: f64,
    fast: (f64, f64),
    zstd: (f64, f64),
    strong: (f64, f64),
}

/// Guest memory whose compressed size is the given part.
fn world(link_gbit: f64, fast_ratio: f64, zstd_ratio: f64) -> World {
    World {
        link: link_gbit / 8.0 * 1e9,
        fast: (2.4e9, fast_ratio),
        zstd: (0.7e9, zstd_ratio),
        strong: (0.3e9, zstd_ratio),
    }
}

/// Sends batches, one core, compression and link overlapping; how many went which way.
fn send(policy: &mut Policy, world: World, batches: usize) -> [usize; 4] {
    let mut counts = [0; 4];
    for _ in 0..batches {
        let choice = policy.next_choice();
        counts[choice as usize] += 1;
        let (rate, ratio) = match choice {
            Choice::Raw => (f64::INFINITY, 1.0),
            Choice::Fast => world.fast,
            Choice::Zstd => world.zstd,
            Choice::Strong => world.strong,
        };
        let after = (BATCH as f64 * ratio) as usize;
        let packing = BATCH as f64 / rate;
        let sending = after as f64 / world.link;
        policy.packed(choice, BATCH, after, packing);
        policy.link(after as f64 / packing.max(sending), sending >= packing);
    }
    counts
}

fn settles_on(world: World) -> Choice {
    let mut policy = Policy::new(1.0);
    send(&mut policy, world, 2000);
    let counts = send(&mut policy, world, 2000);
    let most = counts.iter().max().copied().unwrap_or_default();
    assert!(most > 1950, "tries are rare: {counts:?}");
    let all = [Choice::Raw, Choice::Fast, Choice::Zstd, Choice::Strong];
    all[counts.iter().position(|n| *n == most).unwrap_or(9)]
}

#[test]
fn it_settles_on_what_pays() {
    assert_eq!(settles_on(world(1.0, 0.7, 0.6)), Choice::Zstd);
    assert_eq!(settles_on(world(0.05, 0.7, 0.6)), Choice::Zstd);
    let deep = World { strong: (0.3e9, 0.4), ..world(0.05, 0.7, 0.6) };
    assert_eq!(settles_on(deep), Choice::Strong);
    assert_eq!(settles_on(world(1.0, 0.5, 0.5)), Choice::Fast, "zstd 1 saves no more");
    assert_eq!(settles_on(world(10.0, 0.7, 0.6)), Choice::Fast, "zstd 1 is too slow");
    assert_eq!(settles_on(world(40.0, 0.7, 0.6)), Choice::Raw, "the link is faster");
}

#[test]
fn nothing_is_compressed_before_the_link_is_known() {
    let mut policy = Policy::new(1.0);
    assert!((0..10_000).all(|_| policy.next_choice() == Choice::Raw));
}

/// A batch that does not shrink is given up after its sample: it is no reason to
/// send the next one raw.
#[test]
fn noise_between_does_not_mislead_it() {
    let mut policy = Policy::new(1.0);
    let (text, noise) = (world(1.0, 0.7, 0.5), world(1.0, 1.0, 1.0));
    send(&mut policy, text, 1000);
    for _ in 0..100 {
        send(&mut policy, noise, 60);
        assert!(send(&mut policy, text, 20)[Choice::Raw as usize] == 0);
    }
}

#[test]
fn it_follows_a_link_that_becomes_faster() {
    let mut policy = Policy::new(1.0);
    assert!(send(&mut policy, world(1.0, 0.7, 0.6), 1000)[Choice::Zstd as usize] > 900);
    send(&mut policy, world(40.0, 0.7, 0.6), 4000);
    let counts = send(&mut policy, world(40.0, 0.7, 0.6), 200);
    assert!(counts[Choice::Raw as usize] >= 190, "{counts:?}");
}

#[test]
fn nonsense_measurements_change_nothing() {
    let mut policy = Policy::new(1.0);
    policy.link(1e8, true);
    let before = *policy.measured();
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        policy.link(rate, true);
        policy.link(rate, false);
        policy.packed(Choice::Zstd, 0, 10, 1.0);
        policy.packed(Choice::Zstd, 10, 10, if rate > 0.0 { f64::INFINITY } else { rate });
    }
    assert_eq!(*policy.measured(), before);
}
