use proptest::prelude::*;

use super::*;

const GIB: u64 = 1 << 30;

fn memory(used: u64, dirty_rate: f64) -> Memory {
    Memory {
        used: Bytes(used),
        present: 0.0,
        compressed: 1.0,
        dirty_rate,
        working_set: Bytes(used / 4),
    }
}

fn terms(rate: u64) -> Terms {
    Terms {
        rate: Rate(rate),
        blackout_budget: Duration::from_millis(300),
        overhead: Duration::from_secs(1),
        switch: Duration::from_millis(50),
    }
}

#[test]
fn an_idle_guest_takes_as_long_as_its_memory() {
    let f = forecast(&memory(GIB, 0.0), &terms(8 * GIB));
    assert_eq!((f.total, f.blackout), (Duration::from_millis(2050), Duration::from_millis(50)));
    assert_eq!((f.sent, f.rounds, f.converges), (Bytes(GIB), 2, true));
}

#[test]
fn each_round_sends_what_the_one_before_left_dirty() {
    // A tenth of the rate is dirtied: 10 s, then about 1 s, then about 0.1 s.
    let f = forecast(
        &Memory { working_set: Bytes(100 * GIB), ..memory(10 * GIB, GIB as f64 / 10.0) },
        &terms(8 * GIB),
    );
    assert_eq!((f.rounds, f.converges), (3, true));
    assert!((f.total.as_secs_f64() - (1.0 + 11.1 + 0.05)).abs() < 0.1, "{f:?}");
}

#[test]
fn a_guest_that_writes_faster_than_the_link_does_not_converge() {
    let fast = memory(10 * GIB, 2.0 * GIB as f64);
    let f = forecast(&fast, &terms(8 * GIB));
    assert!(!f.converges && f.blackout > Duration::from_secs(1), "{f:?}");
    // Its working set fits the budget on a quicker link.
    assert!(forecast(&fast, &terms(200 * GIB)).converges);
    let none = Experience::default();
    assert_eq!(paces(&fast, &terms(1), Rate(8 * GIB), &none), []);
    let some = paces(&fast, &terms(1), Rate(40 * GIB), &none);
    assert!((1..5).contains(&some.len()), "{some:?}");
    assert!(some.windows(2).all(|w| w[0].rate > w[1].rate && w[0].time < w[1].time));
}

#[test]
fn what_is_there_and_what_is_squeezed_is_not_sent() {
    let half = Memory { present: 0.5, ..memory(GIB, 0.0) };
    assert_eq!(forecast(&half, &terms(8 * GIB)).sent, Bytes(GIB / 2));
    let quarter = Memory { compressed: 0.5, ..half };
    assert_eq!(forecast(&quarter, &terms(8 * GIB)).sent, Bytes(GIB / 4));
    assert_eq!(share(Rate(900), 2), Rate(300));
}

#[test]
fn experience_moves_and_narrows_the_interval() {
    let f = forecast(&memory(GIB, 0.0), &terms(8 * GIB));
    let mut past = Experience::default();
    assert_eq!(past.error(), None);
    let before = past.total(&f);
    assert!(before.low < before.likely && before.likely < before.high);
    let truth = |total: f64| Measured {
        total_seconds: total,
        blackout_seconds: 0.1,
        sent_bytes: GIB as f64,
    };
    for i in 0..100 {
        past.learn(&f, &truth(f.total.as_secs_f64() * (1.5 + 0.01 * f64::from(i % 3))));
    }
    let after = past.total(&f);
    let expected = f.total.as_secs_f64() * 1.51;
    assert!((after.likely / expected - 1.0).abs() < 0.01, "{after:?}");
    assert!(after.high - after.low < (before.high - before.low) / 4.0, "{after:?}");
    assert!((past.error().unwrap() - 0.51).abs() < 0.01);
    // Nonsense teaches nothing.
    let known = past;
    past.learn(&f, &Measured { total_seconds: f64::NAN, blackout_seconds: -1.0, sent_bytes: 0.0 });
    assert_eq!(past, known);
}

/// Nine of ten truths lie within the interval once enough has been seen.
#[test]
fn intervals_hold_what_they_promise() {
    let f = forecast(&memory(GIB, 0.0), &terms(8 * GIB));
    let mut past = Experience::default();
    let mut chance = crate::chance::Chance::new(7);
    let mut within = 0;
    for i in 0..2000 {
        // The sum of twelve is nearly normal, with variance 1.
        let normal: f64 = (0..12).map(|_| chance.below(1 << 20) as f64 / (1 << 20) as f64).sum();
        let total = f.total.as_secs_f64() * (0.2 + 0.15 * (normal - 6.0)).exp();
        let interval = past.total(&f);
        within += usize::from(i >= 100 && interval.low <= total && total <= interval.high);
        past.learn(&f, &Measured { total_seconds: total, blackout_seconds: 0.1, sent_bytes: 1.0 });
    }
    let share = within as f64 / 1900.0;
    assert!((0.85..0.95).contains(&share), "{share}");
}

proptest! {
    #[test]
    fn more_of_anything_bad_takes_no_less(
        used in 1u64..64 * GIB,
        dirty in 0.0f64..1e9,
        rate in 100_000_000u64..40_000_000_000,
        present in 0.0f64..1.0,
    ) {
        let m = Memory { present, ..memory(used, dirty) };
        let f = forecast(&m, &terms(rate));
        prop_assert!(f.rounds <= MOST_ROUNDS + 1);
        prop_assert!(f.blackout <= f.total);
        prop_assert_eq!(f.converges, f.blackout <= terms(rate).blackout_budget + Duration::from_micros(1));
        let less = forecast(&Memory { present: 1.0, ..m }, &terms(rate));
        prop_assert!(less.total <= f.total);
        if f.converges {
            prop_assert!(forecast(&m, &terms(2 * rate)).converges);
        }
    }
}
