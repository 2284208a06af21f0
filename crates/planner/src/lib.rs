//! Where a VM can go, and why not elsewhere.
//!
//! Pure: the same hosts and the same demand always give the same answer.

pub mod balance;
mod chance;
mod compare;
pub mod consolidate;
pub mod cpu;
mod demand;
pub mod fleet;
pub mod forecast;
mod host;
mod machine;
mod migrate;
pub mod order;
pub mod reassign;

pub use demand::Demand;
pub use host::Host;
pub use migrate::{Move, Survey, destination, preflight, survey};

use types::{Code, HostId, Problem, VmName};

/// The host with the most free memory that can take the VM (of equals the first
/// by name), other than `except`.
///
/// # Errors
/// `no-host`, with the reason of the host that came nearest.
pub fn place<'a>(
    demand: &Demand,
    hosts: &'a [Host],
    except: Option<&HostId>,
) -> Result<&'a Host, Problem> {
    roomiest(&demand.vm, hosts, except, |host| demand.fits(host))
}

/// The host with the most free memory that `takes` the VM.
fn roomiest<'a>(
    vm: &VmName,
    hosts: &'a [Host],
    except: Option<&HostId>,
    takes: impl Fn(&Host) -> Result<(), Problem>,
) -> Result<&'a Host, Problem> {
    let mut candidates: Vec<&Host> = hosts.iter().filter(|h| Some(&h.id) != except).collect();
    candidates.sort_by(|a, b| b.up.cmp(&a.up).then(b.free.cmp(&a.free)).then(a.id.cmp(&b.id)));
    let mut nearest = None;
    for host in candidates {
        match takes(host) {
            Ok(()) => return Ok(host),
            Err(problem) => nearest = nearest.or(Some(problem)),
        }
    }
    let detail = match nearest {
        Some(problem) => format!("no host can take {vm}: {}", problem.detail),
        None => format!("no host can take {vm}: no other host is known"),
    };
    Err(Problem::new(Code::NoHost, detail)
        .remedy("free memory on a host, or start an agent on one that offers what the VM needs"))
}

#[cfg(test)]
mod tests;
