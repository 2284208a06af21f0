//! What a VM will use, from what it used.

use types::FleetVm;

/// Samples that are looked at: the latest.
const WINDOW: usize = 288;

/// What must be free for a VM of a resource: what it is predicted to use, at least
/// what is reserved for it. The prediction is the larger of the 95th percentile of
/// its latest samples and their exponentially weighted mean, which follows a rise;
/// without samples it is what the VM is said to use.
pub(super) fn predicted(vm: &FleetVm, resource: &str) -> u64 {
    let reserved = vm.reserved.get(resource).copied().unwrap_or(0);
    let told = vm.demand.get(resource).copied().unwrap_or(0);
    let history = vm.history.get(resource).map_or(&[][..], Vec::as_slice);
    let latest = &history[history.len().saturating_sub(WINDOW)..];
    if latest.is_empty() {
        return told.max(reserved);
    }
    let mut sorted = latest.to_vec();
    sorted.sort_unstable();
    let high = sorted[(sorted.len() * 95).div_ceil(100) - 1];
    let first = u128::from(latest[0]);
    let mean = latest.iter().fold(first, |mean, x| (mean * 7 + u128::from(*x)) / 8) as u64;
    high.max(mean).max(reserved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spike_does_not_count_and_a_rise_does() {
        let vm = |history: Vec<u64>, reserved: u64| FleetVm {
            name: "a".parse().unwrap(),
            host: None,
            home: None,
            tier: "critical".parse().unwrap(),
            demand: [("cpu".to_owned(), 7)].into(),
            reserved: [("cpu".to_owned(), reserved)].into(),
            history: [("cpu".to_owned(), history)].into(),
            cpu_features: Vec::new(),
            pinned: Vec::new(),
            barred: [].into(),
            dirty_rate: None,
        };
        let mut spike = vec![10; 100];
        spike[3] = 1000;
        assert_eq!(predicted(&vm(spike, 0), "cpu"), 10);
        let rise: Vec<u64> = (0..400).collect();
        assert_eq!(predicted(&vm(rise, 0), "cpu"), 392);
        assert_eq!(predicted(&vm(Vec::new(), 0), "cpu"), 7);
        assert_eq!(predicted(&vm(vec![1], 30), "cpu"), 30);
        assert_eq!(predicted(&vm(vec![1], 30), "disk"), 0);
    }
}
