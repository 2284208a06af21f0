//! The session's rules, over streams that break.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use wire::{Acknowledgement, Header, Kind, Receiver, Sender, SessionError};

fn header(kind: Kind, sequence: u64) -> Header {
    Header { kind, stream: 0, length: 0, sequence }
}

#[test]
fn after_the_seal_there_are_no_pages() {
    let mut end = Receiver::new(0);
    end.accept(&header(Kind::Pages, 1)).unwrap();
    assert_eq!(end.accept(&header(Kind::Tail, 2)), Err(SessionError::Sealed(Kind::Tail)));
    end.accept(&header(Kind::Seal, 2)).unwrap();
    assert!(end.clone().seal(2).is_err(), "one too many");
    end.seal(1).unwrap();
    assert!(end.accept(&header(Kind::Pages, 3)).is_err());
    assert!(end.accept(&header(Kind::Verbatim, 3)).is_err());
    end.accept(&header(Kind::Tail, 3)).unwrap();
    end.accept(&header(Kind::Note, 4)).unwrap();
}

#[test]
fn only_what_was_sent_is_acknowledged() {
    let mut end = Sender::new(0);
    end.next(Kind::Pages, 10, 100);
    end.next(Kind::Note, 10, 0);
    assert_eq!(end.next(Kind::Ping, 8, 0).sequence, 0, "a ping has no place in the stream");
    end.next(Kind::Pages, 10, 50);
    assert_eq!(end.in_flight(), 150);
    assert_eq!(end.acknowledged(2), Ok(100));
    assert_eq!(end.acknowledged(1), Ok(0), "late and harmless");
    assert_eq!(end.acknowledged(4), Err(SessionError::Acknowledged(4)));
    assert_eq!(end.acknowledged(3), Ok(50));
    assert_eq!(end.in_flight(), 0);
}

#[test]
fn the_mode_is_settled_once_and_before_any_page() {
    let mut end = Receiver::new(0);
    end.mode(false).unwrap();
    assert_eq!(end.mode(true), Err(SessionError::Mode), "twice");
    let mut end = Receiver::new(0);
    end.accept(&header(Kind::Verbatim, 1)).unwrap();
    end.accept(&header(Kind::Pages, 2)).unwrap();
    assert_eq!(end.mode(true), Err(SessionError::Mode), "after a page");
    let mut end = Receiver::new(0);
    end.accept(&header(Kind::Verbatim, 1)).unwrap();
    end.mode(true).unwrap();
    end.accept(&header(Kind::Tail, 2)).unwrap();
    for kind in [Kind::Pages, Kind::Seal] {
        assert_eq!(end.accept(&header(kind, 3)), Err(SessionError::Sealed(kind)));
    }
}

#[test]
fn a_reason_is_heard_though_frames_before_it_were_dropped() {
    let mut end = Receiver::new(0);
    end.accept(&header(Kind::Pages, 1)).unwrap();
    end.accept(&header(Kind::Fail, 0)).unwrap();
    assert_eq!(end.applied(), Acknowledgement(1));
    assert_eq!(end.accept(&header(Kind::Fail, 7)), Err(SessionError::Numbered(Kind::Fail)));
    let other = Header { stream: 1, ..header(Kind::Fail, 0) };
    assert_eq!(end.accept(&other), Err(SessionError::Stream(1)));
}

const FORWARD: [Kind; 7] =
    [Kind::Verbatim, Kind::Pages, Kind::Seal, Kind::Tail, Kind::End, Kind::Mode, Kind::Note];

proptest! {
    /// Whatever is sent in whatever order: pages only before the seal, the tail only
    /// after it, and the seal only over everything before it.
    #[test]
    fn the_seal_parts_pages_from_the_tail(
        steps in proptest::collection::vec((0..FORWARD.len(), 0u64..3), 1..60)
    ) {
        let mut end = Receiver::new(0);
        let (mut sequence, mut sealed, mut opaque) = (0, false, false);
        for (kind, off) in steps {
            let kind = FORWARD[kind];
            if end.accept(&header(kind, sequence + 1)).is_err() {
                continue;
            }
            sequence += 1;
            match kind {
                Kind::Pages => prop_assert!(!sealed && !opaque),
                Kind::Verbatim => prop_assert!(!sealed),
                Kind::Tail | Kind::End => prop_assert!(sealed || opaque),
                Kind::Seal => {
                    let counted = (sequence - 1).saturating_sub(off);
                    let fine = counted == sequence - 1;
                    prop_assert_eq!(end.seal(counted).is_ok(), fine);
                    if !fine {
                        // The session ends here.
                        return Ok(());
                    }
                    sealed = true;
                }
                Kind::Mode => opaque |= end.mode(off == 0).is_ok() && off == 0,
                _ => {}
            }
            prop_assert_eq!(end.sealed(), sealed);
            prop_assert_eq!(end.applied(), Acknowledgement(sequence));
        }
    }

    /// What is in flight is what was sent and lies beyond the newest acknowledgement.
    #[test]
    fn what_is_in_flight_is_known_to_the_byte(
        steps in proptest::collection::vec((any::<bool>(), 0u64..1000), 1..100)
    ) {
        let mut end = Sender::new(0);
        let (mut weights, mut newest, mut freed) = (Vec::new(), 0, 0);
        for (send, n) in steps {
            if send {
                let header = end.next(Kind::Pages, 0, n);
                weights.push(n);
                prop_assert_eq!(header.sequence, weights.len() as u64, "versions rise");
            } else {
                let before = end.clone();
                match end.acknowledged(n) {
                    Ok(bytes) => {
                        prop_assert!(n <= weights.len() as u64);
                        newest = newest.max(n);
                        freed += bytes;
                    }
                    Err(_) => {
                        prop_assert!(n > weights.len() as u64);
                        prop_assert_eq!(&end, &before, "a refusal changes nothing");
                    }
                }
            }
            let left: u64 = weights[newest as usize..].iter().sum();
            prop_assert_eq!(end.in_flight(), left);
            prop_assert_eq!(freed + left, weights.iter().sum::<u64>());
        }
    }

    /// Frames that are dropped, repeated or swapped are never applied.
    #[test]
    fn the_applied_are_a_prefix_of_the_sent(picks in proptest::collection::vec(0u64..40, 1..200)) {
        let mut sender = Sender::new(0);
        let sent: Vec<Header> = (0..40).map(|_| sender.next(Kind::Pages, 0, 1)).collect();
        let mut receiver = Receiver::new(0);
        let mut applied = Vec::new();
        for pick in picks {
            let header = sent[pick as usize];
            if receiver.accept(&header).is_ok() {
                applied.push(header.sequence);
            }
        }
        prop_assert!(applied.iter().copied().eq(1..=applied.len() as u64));
        prop_assert_eq!(receiver.applied(), Acknowledgement(applied.len() as u64));
        prop_assert_eq!(sender.acknowledged(receiver.applied().0), Ok(applied.len() as u64));
    }
}

/// A direction over links that break: what the sender keeps, what is under way, what
/// has been applied.
#[derive(Default)]
struct Wire {
    sender: Sender,
    kept: Vec<Header>,
    /// Sent on this link, not yet arrived.
    flying: std::collections::VecDeque<Header>,
    /// The next of `kept` to be sent on this link.
    at: usize,
    receiver: Receiver,
    applied: Vec<u64>,
    /// Acknowledgements under way.
    answers: std::collections::VecDeque<u64>,
    /// Frames that were on a broken link or on this one.
    sent: u64,
}

impl Wire {
    fn acknowledged(&mut self, up_to: u64) {
        self.sender.acknowledged(up_to).unwrap();
        let base = self.sender.base();
        let before = self.kept.len();
        self.kept.retain(|h| h.sequence > base);
        self.at = self.at.saturating_sub(before - self.kept.len());
    }

    fn step(&mut self, what: u8) {
        match what {
            0 => {
                let header = self.sender.next(Kind::Pages, 0, 1);
                self.kept.push(header);
            }
            1 => {
                if let Some(header) = self.kept.get(self.at) {
                    self.flying.push_back(*header);
                    self.at += 1;
                    self.sent += 1;
                }
            }
            2 => {
                if let Some(header) = self.flying.pop_front() {
                    self.receiver.accept(&header).unwrap();
                    self.applied.push(header.sequence);
                    self.answers.push_back(self.receiver.applied().0);
                }
            }
            3 => {
                if let Some(up_to) = self.answers.pop_front() {
                    self.acknowledged(up_to);
                }
            }
            _ => {
                self.flying.clear();
                self.answers.clear();
                let applied = self.receiver.applied().0;
                self.sender.resume(applied).unwrap();
                self.acknowledged(applied);
                self.at = 0;
            }
        }
    }
}

proptest! {
    /// However often the link breaks, every frame is applied once and in order, nothing is
    /// sent again that was applied, and what has to be kept is what is not acknowledged.
    #[test]
    fn a_broken_link_loses_and_repeats_nothing(
        steps in proptest::collection::vec(0u8..5, 1..300)
    ) {
        let mut wire = Wire::default();
        for step in steps {
            wire.step(step);
            let (base, sent) = (wire.sender.base(), wire.sender.sent());
            prop_assert!(wire.kept.iter().map(|h| h.sequence).eq(base + 1..=sent));
            prop_assert_eq!(wire.sender.in_flight(), sent - base);
            prop_assert!(base <= wire.receiver.applied().0);
        }
        wire.step(4);
        for _ in 0..wire.kept.len() {
            [1, 2, 3].into_iter().for_each(|step| wire.step(step));
        }
        prop_assert!(wire.applied.iter().copied().eq(1..=wire.sender.sent()));
        prop_assert_eq!(wire.sender.in_flight(), 0);
        prop_assert!(wire.kept.is_empty());
    }
}

#[test]
fn a_destination_that_forgot_or_invents_is_refused() {
    let mut sender = Sender::new(0);
    for _ in 0..5 {
        sender.next(Kind::Pages, 0, 10);
    }
    sender.acknowledged(2).unwrap();
    let forgot = SessionError::Forgotten { applied: 1, acknowledged: 2 };
    assert_eq!(sender.resume(1), Err(forgot));
    assert_eq!(sender.resume(6), Err(SessionError::Acknowledged(6)));
    assert_eq!(sender.resume(4), Ok(20));
    assert_eq!((sender.base(), sender.in_flight()), (4, 10));
}
