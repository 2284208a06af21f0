//! The words everything else is said in: ids, units, VM specs, ownership,
//! attempts, reports and error codes.
//!
//! Nothing here decides and nothing here touches the outside.

mod attempt;
mod carrier;
mod fleet;
mod id;
mod offer;
mod ownership;
mod problem;
mod report;
mod spec;
mod unit;

pub use attempt::{AttemptId, AttemptPhase, AttemptRecord, Progress, RunState, Side};
pub use carrier::{
    BlockPlacement, CarrierCommand, CarrierConfig, CarrierEvent, CarrierSide, Counters, Force,
    Outage,
};
pub use fleet::{
    Admission, Amounts, Blocked, Change, Fleet, FleetHost, FleetPlan, FleetVm, MoveState, Obstacle,
    PlanDocument, PlanGoal, PlanId, PlanRun, PlannedMove, Policy, Refusal, Rule, RuleKind, RunMove,
};
pub use id::{FileName, HostId, IdError, MacAddr, OwnerName, PoolName, Tier, VmId, VmName};
pub use offer::{CpuOffer, FirmwareFile, HostOffer, PoolOffer};
pub use ownership::{Epoch, Incarnation, Ownership};
pub use problem::{Code, Problem};
pub use report::{MigrationReport, Mode, Outcome, PageCounts};
pub use spec::{
    BootSpec, CloudInit, CpuSet, DiskBus, DiskFormat, DiskSpec, Firmware, ImageRef, MemoryPages,
    NicSpec, NumaNode, OnIoError, OnPanic, SeedText, SerialSpec, SpecError, Topology, UefiSpec,
    VmSpec,
};
pub use unit::{Bytes, PAGE_SIZE, Rate, UnitError};
