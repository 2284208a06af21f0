//! Where a fault strikes and which: the table of cells.

use std::fmt;
use std::time::Duration;

/// A party of a migration, named by its part in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Party {
    /// The agent the VM leaves.
    Source,
    /// The agent the VM goes to.
    Destination,
    /// The carrier that sends.
    SourceCarrier,
    /// The carrier that receives.
    DestinationCarrier,
    /// Controller and store.
    Controller,
}

/// What is done at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Fault {
    /// The program at the point is killed.
    Kill,
    /// The program at the point is stopped for ten seconds.
    Stop,
    /// The QEMU of the point's host is killed.
    KillQemu,
    /// The QEMU of the point's host is stopped for ten seconds.
    StopQemu,
    /// The point's host dies: everything on it at once, its link too.
    HostDeath,
    /// The point's host loses its link for three seconds.
    Unplug,
    /// The carriers' connections are reset.
    Reset,
    /// Nothing passes between the carriers for three seconds.
    Cut,
    /// What passes between the carriers takes 150 ms more each way, for three seconds.
    Delay,
    /// The controller is killed.
    KillController,
    /// The controller is stopped for ten seconds.
    StopController,
    /// The journal's file system is full for three seconds.
    NoSpace,
    /// The journal's file system refuses to be written for three seconds.
    ReadOnly,
    /// The user cancels.
    Cancel,
}

impl Fault {
    /// How long until the fault is over, from when it is made.
    pub(super) fn lasts(self) -> Duration {
        match self {
            Self::Stop | Self::StopQemu | Self::StopController => Duration::from_secs(10),
            Self::HostDeath
            | Self::Unplug
            | Self::Cut
            | Self::Delay
            | Self::NoSpace
            | Self::ReadOnly => Duration::from_secs(3),
            Self::Kill | Self::KillQemu | Self::Reset | Self::KillController | Self::Cancel => {
                Duration::ZERO
            }
        }
    }
}

/// A point and the fault that strikes there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Cell {
    pub(super) party: Party,
    /// `PLACE:NAME:WHEN`, as programs tell it.
    pub(super) point: &'static str,
    pub(super) fault: Fault,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} {:?}", self.party, self.point, self.fault)
    }
}

use Fault::{
    Cancel, Cut, Delay, HostDeath, Kill, KillController, KillQemu, NoSpace, ReadOnly, Reset, Stop,
    StopController, StopQemu, Unplug,
};
use Party::{Controller, Destination, DestinationCarrier, Source, SourceCarrier};

/// Points of one kind, and what fits there.
struct Group {
    party: Party,
    points: &'static [&'static str],
    faults: &'static [Fault],
}

const GROUPS: &[Group] = &[
    // Before a stage is durable: all that can happen to an agent, and a journal
    // that cannot be written.
    Group {
        party: Source,
        points: &[
            "journal:source-Preparing:before",
            "journal:source-Copying:before",
            "journal:source-Handing:before",
            "journal:source-Releasing:before",
            "journal:source-Released:before",
        ],
        faults: &[Kill, Stop, NoSpace, ReadOnly, HostDeath],
    },
    Group {
        party: Destination,
        points: &[
            "journal:destination-Preparing:before",
            "journal:destination-Receiving:before",
            "journal:destination-Claiming:before",
            "journal:destination-Activating:before",
            "journal:destination-Settled:before",
        ],
        faults: &[Kill, Stop, NoSpace, ReadOnly, HostDeath],
    },
    // Once it is: what follows has not been done yet.
    Group {
        party: Source,
        points: &[
            "journal:source-Preparing:after",
            "journal:source-Copying:after",
            "journal:source-Handing:after",
            "journal:source-Releasing:after",
        ],
        faults: &[Kill, KillQemu, StopQemu, Unplug, KillController, Cancel],
    },
    // There the host has no QEMU of the VM: not any more, and not yet.
    Group {
        party: Source,
        points: &["journal:source-Released:after"],
        faults: &[Kill, Unplug, KillController, Cancel],
    },
    Group {
        party: Destination,
        points: &["journal:destination-Preparing:after"],
        faults: &[Kill, Unplug, KillController, Cancel],
    },
    Group {
        party: Destination,
        points: &[
            "journal:destination-Receiving:after",
            "journal:destination-Claiming:after",
            "journal:destination-Activating:after",
            "journal:destination-Settled:after",
        ],
        faults: &[Kill, KillQemu, StopQemu, Unplug, KillController, Cancel],
    },
    // A request that was not sent, and one whose answer is not heard.
    Group {
        party: Source,
        points: &[
            "request:event:before",
            "request:event:after",
            "request:attempts:before",
            "request:attempts:after",
        ],
        faults: &[Kill, Stop, Unplug, KillController, StopController],
    },
    Group {
        party: Destination,
        points: &[
            "request:event:before",
            "request:event:after",
            "request:claim:before",
            "request:claim:after",
            "request:settle:before",
            "request:settle:after",
        ],
        faults: &[Kill, Stop, Unplug, KillController, StopController],
    },
    Group {
        party: Source,
        points: &[
            "qmp:migrate-set-parameters:after",
            "qmp:migrate:before",
            "qmp:migrate:after",
            "qmp:query-migrate:after",
            "qmp:stop:before",
            "qmp:stop:after",
            "event:STOP:before",
        ],
        faults: &[Kill, KillQemu, StopQemu, Cancel],
    },
    Group {
        party: Destination,
        points: &[
            "qmp:migrate-incoming:before",
            "qmp:migrate-incoming:after",
            "qmp:query-migrate:after",
            "qmp:cont:before",
            "qmp:cont:after",
            "event:MIGRATION:before",
            "event:RESUME:before",
        ],
        faults: &[Kill, KillQemu, StopQemu, Cancel],
    },
    Group {
        party: SourceCarrier,
        points: &[
            "link:connected:before",
            "link:connected:after",
            "link:mode:after",
            "link:held:before",
            "link:note:after",
            "link:finished:before",
        ],
        faults: &[Kill, Stop, Reset, Cut, Delay, Unplug],
    },
    Group {
        party: DestinationCarrier,
        points: &[
            "link:listening:before",
            "link:connected:before",
            "link:connected:after",
            "link:sealed:before",
            "link:sealed:after",
            "link:note:before",
            "link:note:after",
        ],
        faults: &[Kill, Stop, Reset, Cut, Delay, Unplug],
    },
    // A transaction that was not made, and one whose answer does not arrive.
    Group {
        party: Controller,
        points: &[
            "commit:requested:before",
            "commit:requested:after",
            "commit:destination-ready:before",
            "commit:handing:before",
            "commit:stopped:after",
            "commit:claimed:before",
            "commit:claimed:after",
            "commit:settled:before",
            "commit:settled:after",
        ],
        faults: &[Kill, Stop, Cancel],
    },
];

/// Every cell.
pub(super) fn all() -> Vec<Cell> {
    let cell = |group: &Group, point, fault| Cell { party: group.party, point, fault };
    GROUPS
        .iter()
        .flat_map(|group| {
            let each = move |point: &'static &'static str| {
                group.faults.iter().map(move |fault| cell(group, *point, *fault))
            };
            group.points.iter().flat_map(each)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_cell_is_one_of_at_most_four_hundred() {
        let cells = all();
        let different: BTreeSet<Cell> = cells.iter().copied().collect();
        assert_eq!(different.len(), cells.len());
        assert!((200..=400).contains(&cells.len()), "{}", cells.len());
    }
}
