//! Machine reassignment: which VM on which host, so that everything that must hold
//! holds and what remains costs least (ROADEF/EURO Challenge 2012).

mod anneal;
mod compound;
mod core;
mod evaluate;
mod model;
mod regret;
mod repair;
mod roll;
mod search;
mod state;

pub use core::Core;
pub use evaluate::{Broken, broken, cost, worse};
pub use model::{
    Balance, Distance, Group, GroupIndex, GroupRule, Host, HostIndex, HostSet, Model, NOWHERE,
    Resource, Vm, VmIndex,
};
pub(crate) use repair::take_best;
pub use search::{Alone, Crew, Job, Options, Search, Solution, solve};
pub(crate) use state::State;

/// Why a model cannot be worked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid(pub String);

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Invalid {}

#[cfg(test)]
mod tests;
