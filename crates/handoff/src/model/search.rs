//! Breadth first, every state once; a violation is told with the shortest story
//! that leads to it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Write as _;
use std::mem::Discriminant;

use super::store;
use super::world::{Invariant, World};
use crate::{destination, source};

/// What may happen. Attempts may follow each other for ever.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// QEMU can be kept from switching over by itself.
    pub(crate) gated: bool,
    /// A host may die, return and be replaced; and again.
    pub(crate) deaths: bool,
    /// Journals may be full.
    pub(crate) full: bool,
    /// Requests that are repeated while they are under way already.
    pub(crate) late: u32,
}

/// Whether a good end may rely on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Step,
    Fault,
}

/// The states that follow one.
pub(super) struct Next {
    pub(super) gated: bool,
    pub(super) full: bool,
    pub(super) source_names: Names<source::Seen>,
    pub(super) destination_names: Names<destination::Seen>,
    out: Vec<(Kind, &'static str, World)>,
}

impl Next {
    pub(super) fn push(&mut self, kind: Kind, name: &'static str, mut world: World) {
        world.check();
        world.forget();
        self.out.push((kind, name, world));
    }
}

pub(crate) struct Violation {
    pub(crate) rule: Invariant,
    story: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}\n{}", self.rule, self.story)
    }
}

pub(crate) struct Found {
    pub(crate) states: usize,
    pub(crate) violation: Option<Violation>,
}

/// What is kept of a state: how it was reached first.
struct Reached {
    from: u32,
    name: &'static str,
    good: bool,
}

/// Explores everything within the bounds, or up to the first violation.
pub(crate) fn search(bounds: Bounds) -> Found {
    store::forget();
    let start = World::new();
    let mut ids: HashMap<World, u32> = HashMap::from([(start.clone(), 0)]);
    let mut reached = vec![Reached { from: 0, name: "start", good: start.good_end() }];
    let mut layer = vec![(0u32, start)];
    // Edges that a good end may rely on, backwards.
    let mut edges: Vec<(u32, u32)> = Vec::new();
    let mut next = Next {
        gated: bounds.gated,
        full: bounds.full,
        source_names: Names(HashMap::new()),
        destination_names: Names(HashMap::new()),
        out: Vec::new(),
    };
    while !layer.is_empty() {
        let mut following = Vec::new();
        for (at, world) in layer {
            next.everything(&world, &bounds);
            for (kind, name, w) in next.out.drain(..) {
                let new = reached.len() as u32;
                let (broke, good) = (w.broke, w.good_end());
                let shown = broke.map(|_| format!("{w:?}"));
                let id = match ids.entry(w) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(place) => {
                        following.push((new, place.key().clone()));
                        reached.push(Reached { from: at, name, good });
                        *place.insert(new)
                    }
                };
                if let Some((rule, what)) = broke {
                    let story = format!(
                        "{what}\n{}{}",
                        story(new.min(id), &reached, &bounds),
                        shown.unwrap_or_default()
                    );
                    return Found {
                        states: reached.len(),
                        violation: Some(Violation { rule, story }),
                    };
                }
                if kind == Kind::Step && id != at {
                    edges.push((id, at));
                }
            }
        }
        layer = following;
    }
    let stuck = first_stuck(&reached, edges);
    let violation = stuck.map(|at| Violation {
        rule: Invariant::Wedged,
        story: format!("no good end can be reached\n{}", story(at, &reached, &bounds)),
    });
    Found { states: reached.len(), violation }
}

/// The first state from which no good end is reached by steps alone.
fn first_stuck(reached: &[Reached], mut edges: Vec<(u32, u32)>) -> Option<u32> {
    edges.sort_unstable();
    edges.dedup();
    let mut good: Vec<bool> = reached.iter().map(|r| r.good).collect();
    let mut stack: Vec<u32> = (0..reached.len() as u32).filter(|i| good[*i as usize]).collect();
    while let Some(at) = stack.pop() {
        let begin = edges.partition_point(|(to, _)| *to < at);
        for (_, from) in edges[begin..].iter().take_while(|(to, _)| *to == at) {
            if !std::mem::replace(&mut good[*from as usize], true) {
                stack.push(*from);
            }
        }
    }
    good.iter().position(|good| !good).map(|at| at as u32)
}

/// How a state was reached: the names of the steps, and where they led.
fn story(at: u32, reached: &[Reached], bounds: &Bounds) -> String {
    let mut path = Vec::new();
    let mut at = at;
    while at != 0 {
        path.push(at);
        at = reached[at as usize].from;
    }
    let mut text = format!("{bounds:?}\n");
    for id in path.iter().rev() {
        let _ = writeln!(text, "  {}", reached[*id as usize].name);
    }
    text
}

/// Names of observations, for stories.
pub(super) struct Names<T>(HashMap<Discriminant<T>, &'static str>);

impl<T: std::fmt::Debug> Names<T> {
    pub(super) fn of(&mut self, seen: &T) -> &'static str {
        self.0.entry(std::mem::discriminant(seen)).or_insert_with(|| {
            let shown = format!("{seen:?}");
            let word = shown.split(['(', ' ']).next().unwrap_or_default();
            // A few words, once for each search.
            Box::leak(word.to_owned().into_boxed_str())
        })
    }
}
