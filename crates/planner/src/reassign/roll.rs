//! Who is on each host, as lists that chance can pick from.

use super::model::{HostIndex, VmIndex};

/// VMs by host, in no particular order.
#[derive(Debug, Clone)]
pub(super) struct Roll {
    on: Vec<Vec<VmIndex>>,
    /// Position of each VM in its host's list.
    seat: Vec<u32>,
}

impl Roll {
    pub(super) fn new(hosts: usize, vms: usize) -> Self {
        Self { on: vec![Vec::new(); hosts], seat: vec![0; vms] }
    }

    /// The VMs on a host.
    #[inline]
    pub(super) fn on(&self, host: HostIndex) -> &[VmIndex] {
        &self.on[host as usize]
    }

    pub(super) fn enter(&mut self, vm: VmIndex, host: HostIndex) {
        let on = &mut self.on[host as usize];
        self.seat[vm as usize] = on.len() as u32;
        on.push(vm);
    }

    /// The last one takes the seat of who leaves.
    pub(super) fn leave(&mut self, vm: VmIndex, host: HostIndex) {
        let on = &mut self.on[host as usize];
        let seat = self.seat[vm as usize];
        on.swap_remove(seat as usize);
        if let Some(last) = on.get(seat as usize) {
            self.seat[*last as usize] = seat;
        }
    }
}
