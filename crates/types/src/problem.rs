//! Errors as users and scripts meet them: a stable code, a sentence, a remedy.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($(#[doc = $doc:literal] $name:ident = $text:literal, $status:literal, $exit:literal;)*) => {
        /// A stable machine-readable code of a problem.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum Code {
            $(#[doc = $doc] #[serde(rename = $text)] $name,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &[Code] = &[$(Code::$name),*];

            /// The code as it is written in JSON.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            /// What it means, in a sentence.
            pub fn title(self) -> &'static str {
                match self { $(Code::$name => $doc,)* }.trim()
            }

            /// The HTTP status it travels with.
            pub fn status(self) -> u16 {
                match self { $(Code::$name => $status,)* }
            }

            /// The exit code of the command line.
            pub fn exit(self) -> u8 {
                match self { $(Code::$name => $exit,)* }
            }
        }
    };
}

codes! {
    /// The request itself is wrong.
    InvalidRequest = "invalid-request", 400, 2;
    /// The VM spec is wrong.
    InvalidSpec = "invalid-spec", 400, 2;
    /// The certificate does not allow this.
    NotAllowed = "not-allowed", 403, 1;
    /// The certificate is no longer valid.
    CertificateExpired = "certificate-expired", 403, 1;
    /// The enrolment token is unknown, used, too old, or another host's.
    TokenRefused = "token-refused", 403, 4;
    /// The controller cannot make certificates.
    NoAuthority = "no-authority", 409, 4;
    /// It is not certain which host has the VM.
    InDoubt = "in-doubt", 409, 4;
    /// It is certain which host has the VM.
    NotInDoubt = "not-in-doubt", 409, 4;
    /// An administrator has to state that a host is off.
    StatementNeeded = "statement-needed", 409, 4;
    /// The host is up, and was said to be dead.
    HostUp = "host-up", 409, 4;
    /// No VM of that name or UUID.
    VmUnknown = "vm-unknown", 404, 4;
    /// No host of that name.
    HostUnknown = "host-unknown", 404, 4;
    /// No attempt of that id.
    AttemptUnknown = "attempt-unknown", 404, 4;
    /// No plan of that id was applied.
    PlanUnknown = "plan-unknown", 404, 4;
    /// A VM of that name or UUID exists.
    VmExists = "vm-exists", 409, 7;
    /// The VM has a QEMU; it must be stopped for this.
    VmNotStopped = "vm-not-stopped", 409, 4;
    /// The VM has no QEMU to act on.
    VmNotRunning = "vm-not-running", 409, 4;
    /// The VM is on that host already.
    SameHost = "same-host", 409, 4;
    /// The host's agent does not answer.
    HostDown = "host-down", 409, 4;
    /// The host cannot hold the VM's memory.
    NotEnoughMemory = "not-enough-memory", 409, 4;
    /// The host has been cordoned: nothing new goes there.
    HostCordoned = "host-cordoned", 409, 4;
    /// The host's QEMU does not know the VM's machine type.
    MachineMissing = "machine-missing", 409, 4;
    /// The host executes guests in another way.
    AccelDiffers = "accel-differs", 409, 4;
    /// The host's firmware or option ROMs are of another size.
    FirmwareDiffers = "firmware-differs", 409, 4;
    /// The host's processor lacks what the VM has seen.
    CpuFeatureMissing = "cpu-feature-missing", 409, 4;
    /// The host lacks a storage pool.
    PoolMissing = "pool-missing", 409, 4;
    /// The VM's disk is not the same disk there.
    DiskDiffers = "disk-differs", 409, 4;
    /// The VM's disk cannot be used by-passing the page cache.
    DiskNotDirect = "disk-not-direct", 409, 4;
    /// The host lacks a bridge.
    BridgeMissing = "bridge-missing", 409, 4;
    /// The host's bridge carries smaller frames only.
    MtuTooSmall = "mtu-too-small", 409, 4;
    /// The host has too few huge pages.
    HugepagesMissing = "hugepages-missing", 409, 4;
    /// A device of the VM cannot migrate.
    DeviceNotMigratable = "device-not-migratable", 409, 4;
    /// No host can take the VM.
    NoHost = "no-host", 409, 4;
    /// A migration of this VM is under way.
    MigrationUnderWay = "migration-under-way", 409, 4;
    /// There is no migration of this VM to act on.
    NoMigration = "no-migration", 409, 4;
    /// The VM's serial port leads nowhere, or cannot be typed to.
    NoConsole = "no-console", 409, 4;
    /// Somebody else types at the VM's serial port.
    ConsoleInUse = "console-in-use", 409, 7;
    /// The destination owns the VM already.
    TooLate = "too-late", 409, 4;
    /// The idempotency key was used for another request.
    IdempotencyKeyReused = "idempotency-key-reused", 422, 7;
    /// What happened after the cursor is not known here any more, or not yet.
    CursorUnknown = "cursor-unknown", 410, 7;
    /// The fleet is not as it was when the plan was made.
    PlanDrifted = "plan-drifted", 409, 7;
    /// Too many at the same time.
    TooMany = "too-many", 429, 1;
    /// The record has changed since it was read.
    Conflict = "conflict", 409, 7;
    /// The store could not answer.
    StoreUnavailable = "store-unavailable", 503, 1;
    /// The controller could not be reached.
    ControllerUnreachable = "controller-unreachable", 503, 8;
    /// A fault of Godwit's own.
    Internal = "internal", 500, 1;
}

/// A problem, as the API returns it (`application/problem+json`, RFC 9457) and
/// the command line prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    /// Stable code.
    pub code: Code,
    /// What failed and why, in a sentence.
    pub detail: String,
    /// What would make it work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Problem {
    /// A problem without a remedy.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), remedy: None }
    }

    /// Adds what would make it work.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_survive_json() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()));
            let json = serde_json::to_string(code).unwrap();
            assert_eq!(json, format!("\"{}\"", code.as_str()));
            assert_eq!(serde_json::from_str::<Code>(&json).unwrap(), *code);
            assert!((400..600).contains(&code.status()) && code.exit() != 0);
        }
    }

    #[test]
    fn every_code_is_documented_as_it_is() {
        let text = include_str!("../../../docs/api.md");
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
        let expected: Vec<String> = Code::ALL
            .iter()
            .map(|c| {
                format!("| `{}` | {} | {} | {} |", c.as_str(), c.status(), c.exit(), c.title())
            })
            .collect();
        assert_eq!(rows, expected);
    }
}
