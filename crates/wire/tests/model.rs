//! Every order in which frames of a session can be lost, doubled, late and cut
//! off by a link that breaks, searched to its end: two streams, three versions of
//! one page, the seal, the tail, and two answers on the way back. Any frame in flight
//! may come next, as if each travelled on a connection of its own.

#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, VecDeque};

use wire::{Header, Kind, Receiver, Sender};

/// What is taken away from how a carrier uses the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutant {
    None,
    /// A frame's place in its stream is not looked at.
    AnyOrder,
    /// What a receiver refuses is applied all the same, after the seal.
    AfterTheSeal,
    /// The seal is sent although a version of the page is still to come.
    SealsEarly,
    /// A new link goes on after what was sent, not after what was applied.
    ResumeAfterSent,
    /// What is acknowledged is not what was applied, but what was sent.
    AcknowledgeUnseen,
}

/// A frame on its way: its header, and which version of the page it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flying {
    header: Header,
    version: u8,
}

const SCRIPT: [Kind; 5] = [Kind::Pages, Kind::Pages, Kind::Pages, Kind::Seal, Kind::Tail];

#[derive(Debug, Clone, PartialEq, Eq)]
struct World {
    sender: Sender,
    receiver: Receiver,
    /// The other stream: QEMU's return path, of [`ANSWERS`] frames.
    back_sender: Sender,
    back_receiver: Receiver,
    answered: u64,
    /// What the seal says: the frames before it.
    counted: u64,
    /// How far the script is, and what was sent and may have to be sent again.
    at: usize,
    kept: VecDeque<Flying>,
    link: bool,
    breaks: u8,
    forward: Vec<Flying>,
    backward: Vec<Flying>,
    acknowledgements: Vec<u64>,
    /// The page at the destination, and how many of its versions have come.
    page: u8,
    pages: u8,
    loaded: bool,
    dead: bool,
    broke: Option<&'static str>,
}

const BREAKS: u8 = 2;
const ANSWERS: u64 = 2;
const IN_FLIGHT: usize = 3;

impl World {
    fn new() -> Self {
        Self {
            sender: Sender::new(0),
            receiver: Receiver::new(0),
            back_sender: Sender::new(1),
            back_receiver: Receiver::new(1),
            answered: 0,
            counted: 0,
            at: 0,
            kept: VecDeque::new(),
            link: true,
            breaks: 0,
            forward: Vec::new(),
            backward: Vec::new(),
            acknowledgements: Vec::new(),
            page: 0,
            pages: 0,
            loaded: false,
            dead: false,
            broke: None,
        }
    }

    fn next(&self, mutant: Mutant) -> Vec<World> {
        let mut out = Vec::new();
        if self.dead || self.broke.is_some() {
            return out;
        }
        if !self.link {
            out.push(self.clone().connect(mutant));
            return out;
        }
        if self.breaks < BREAKS {
            let mut w = self.clone();
            (w.link, w.breaks) = (false, w.breaks + 1);
            (w.forward, w.backward, w.acknowledgements) = Default::default();
            out.push(w);
        }
        if self.at < SCRIPT.len() && self.forward.len() < IN_FLIGHT {
            out.push(self.clone().send(mutant));
        }
        if self.back_sender.sent() < ANSWERS {
            let mut w = self.clone();
            let header = w.back_sender.next(Kind::Verbatim, 4, 4);
            w.backward.push(Flying { header, version: 0 });
            out.push(w);
        }
        for i in 0..self.forward.len() {
            // Any frame may come next, be lost, or come and come again.
            let mut w = self.clone();
            let frame = w.forward.remove(i);
            out.push(w.clone());
            w.receive(frame, mutant);
            out.push(w);
            let mut w = self.clone();
            w.receive(frame, mutant);
            out.push(w);
        }
        for i in 0..self.backward.len() {
            let mut w = self.clone();
            let frame = w.backward.remove(i);
            match w.back_receiver.accept(&frame.header) {
                Ok(()) if frame.header.sequence != w.answered + 1 => {
                    w.broke = Some("an answer out of its turn");
                }
                Ok(()) => w.answered += 1,
                Err(_) => w.dead = true,
            }
            out.push(w);
        }
        for i in 0..self.acknowledgements.len() {
            let mut w = self.clone();
            let sequence = w.acknowledgements.remove(i);
            let base = w.sender.base();
            w.sender.acknowledged(sequence).unwrap();
            for _ in base..w.sender.base() {
                w.kept.pop_front();
            }
            out.push(w);
        }
        out
    }

    fn send(mut self, mutant: Mutant) -> Self {
        let kind = match (mutant, self.at) {
            (Mutant::SealsEarly, 2) => Kind::Seal,
            (Mutant::SealsEarly, 3) => Kind::Pages,
            _ => SCRIPT[self.at],
        };
        if kind == Kind::Seal {
            self.counted = self.sender.sent();
        }
        let header = self.sender.next(kind, 8, 8);
        let version = if kind == Kind::Pages { self.at as u8 + 1 } else { 0 };
        self.at += 1;
        self.kept.push_back(Flying { header, version });
        self.forward.push(Flying { header, version });
        self
    }

    /// A new link: each end says what it has applied.
    fn connect(mut self, mutant: Mutant) -> Self {
        self.link = true;
        let applied = match mutant {
            Mutant::ResumeAfterSent => self.sender.sent(),
            _ => self.receiver.applied().0,
        };
        let base = self.sender.base();
        if self.sender.resume(applied).is_err() {
            self.broke = Some("what was acknowledged had not been applied");
            return self;
        }
        for _ in base..self.sender.base() {
            self.kept.pop_front();
        }
        self.forward = self.kept.iter().copied().collect();
        let back = self.back_receiver.applied().0;
        self.back_sender.resume(back).unwrap();
        for sequence in back + 1..=self.back_sender.sent() {
            let header = Header::new(Kind::Verbatim, 1, 4, sequence);
            self.backward.push(Flying { header, version: 0 });
        }
        self
    }

    fn receive(&mut self, mut frame: Flying, mutant: Mutant) {
        if mutant == Mutant::AnyOrder {
            frame.header.sequence = self.receiver.due();
        }
        let kind = frame.header.kind;
        let accepted = self.receiver.accept(&frame.header);
        let forced = mutant == Mutant::AfterTheSeal && self.receiver.sealed();
        if accepted.is_err() && !(forced && kind == Kind::Pages) {
            self.dead = true;
            return;
        }
        match kind {
            Kind::Pages => {
                if self.receiver.sealed() {
                    self.broke = Some("a page after the seal");
                } else if frame.version < self.page {
                    self.broke = Some("an older page over a newer one");
                }
                self.page = frame.version;
                self.pages += 1;
            }
            Kind::Seal => {
                if self.receiver.seal(self.counted).is_err() {
                    self.dead = true;
                } else if self.pages < 3 || self.page != 3 {
                    self.broke = Some("something is missing at the seal");
                }
            }
            Kind::Tail => self.loaded = true,
            _ => {}
        }
        let told = match mutant {
            Mutant::AcknowledgeUnseen => self.sender.sent(),
            _ => self.receiver.applied().0,
        };
        if !self.acknowledgements.contains(&told) {
            self.acknowledgements.push(told);
        }
    }
}

/// All states, and what was broken first; `stuck` where a live session cannot end.
fn search(mutant: Mutant) -> (usize, Option<&'static str>) {
    let mut ids: HashMap<String, usize> = HashMap::new();
    let (mut worlds, mut edges) = (vec![World::new()], Vec::new());
    ids.insert(format!("{:?}", worlds[0]), 0);
    let mut at = 0;
    while at < worlds.len() {
        for w in worlds[at].next(mutant) {
            if let Some(broke) = w.broke {
                return (worlds.len(), Some(broke));
            }
            let id = *ids.entry(format!("{w:?}")).or_insert_with(|| {
                worlds.push(w);
                worlds.len() - 1
            });
            edges.push((id, at));
        }
        at += 1;
    }
    // As long as links may break and resume, everything arrives in the end.
    let ended = |w: &World| w.loaded && w.answered == ANSWERS;
    let (mut ends, mut back): (Vec<bool>, HashMap<usize, Vec<usize>>) =
        (worlds.iter().map(ended).collect(), HashMap::new());
    edges.iter().for_each(|(to, from)| back.entry(*to).or_default().push(*from));
    let mut stack: Vec<usize> = (0..worlds.len()).filter(|i| ends[*i]).collect();
    while let Some(i) = stack.pop() {
        for from in back.get(&i).into_iter().flatten() {
            if !std::mem::replace(&mut ends[*from], true) {
                stack.push(*from);
            }
        }
    }
    let fresh = |w: &World| w.breaks < BREAKS && !w.dead;
    let stuck = worlds.iter().zip(&ends).any(|(w, ends)| fresh(w) && !ends);
    (worlds.len(), stuck.then_some("a session that cannot end"))
}

#[test]
fn nothing_older_nothing_after_the_seal_nothing_missing() {
    let (states, broke) = search(Mutant::None);
    println!("session: {states} states");
    assert_eq!(broke, None);
    assert!(states > 1_000, "only {states} states: the search has lost its way");
}

#[test]
fn every_mutant_is_caught() {
    for (mutant, broke) in [
        (Mutant::AnyOrder, "an older page over a newer one"),
        (Mutant::AfterTheSeal, "a page after the seal"),
        (Mutant::SealsEarly, "something is missing at the seal"),
        (Mutant::ResumeAfterSent, "a session that cannot end"),
        (Mutant::AcknowledgeUnseen, "what was acknowledged had not been applied"),
    ] {
        let (states, found) = search(mutant);
        println!("without {mutant:?}: {found:?} after {states} states");
        assert_eq!(found, Some(broke), "{mutant:?}");
    }
}
