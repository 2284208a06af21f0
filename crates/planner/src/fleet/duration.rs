//! How long a VM's migration is forecast to take.

use std::time::Duration;

use types::{Bytes, FleetVm, Rate};

use crate::forecast::{Experience, Memory, Terms, forecast, paces};
use crate::order::Pace;

/// The blackout that VMs allow unless they say otherwise.
const BLACKOUT: Duration = Duration::from_millis(300);
/// Of it, what goes by without sending memory.
const SWITCH: Duration = Duration::from_millis(50);
/// From the request to the first page, and from the start to the end.
const OVERHEAD: Duration = Duration::from_secs(1);
/// What does not converge takes several attempts, or is slowed down until it does.
const STUBBORN: u32 = 4;
/// Longest time that is told.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// All that a fleet says of a VM's memory: nothing is there yet, nothing is
/// compressed, and all of it is written in turn.
fn memory(vm: &FleetVm) -> Memory {
    let used = Bytes(vm.demand.get("memory").copied().unwrap_or(0));
    Memory {
        used,
        present: 0.0,
        compressed: 1.0,
        dirty_rate: vm.dirty_rate.map_or(0.0, |b| b.0 as f64),
        working_set: used,
    }
}

fn terms(rate: Rate) -> Terms {
    Terms { rate, blackout_budget: BLACKOUT, overhead: OVERHEAD, switch: SWITCH }
}

/// Time of a migration that gets the whole of a rate, in whole milliseconds.
pub(super) fn duration(vm: &FleetVm, rate: Rate) -> Duration {
    let told = forecast(&memory(vm), &terms(rate));
    let times = if told.converges { 1 } else { STUBBORN };
    let time = told.total.min(LONGEST) * times;
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// Rates at which it may move, the whole one first; only that one where it converges
/// at none.
pub(super) fn rates(vm: &FleetVm, full: Rate) -> Vec<Pace> {
    let mut rates = paces(&memory(vm), &terms(full), full, &Experience::default());
    rates.retain(|pace| pace.rate.0 > 0 && pace.time < LONGEST);
    if rates.is_empty() {
        rates.push(Pace { rate: full, time: duration(vm, full) });
    }
    rates
}
