//! Paths of the HTTP contract, as templates with at most one `{…}`.
//!
//! The controller gives them to its router as they are; the client fills them.

/// `POST`: facts in, intent out ([`SyncRequest`](crate::body::SyncRequest)).
pub const AGENT_SYNC: &str = "/v1/agent/sync";
/// `GET`: a fresh [`AttemptIntent`](crate::body::AttemptIntent).
pub const AGENT_ATTEMPT: &str = "/v1/agent/attempts/{attempt}";
/// `POST`: an [`AttemptEvent`](crate::body::AttemptEvent).
pub const AGENT_EVENT: &str = "/v1/agent/attempts/{attempt}/event";
/// `POST`: a [`Progress`](types::Progress).
pub const AGENT_PROGRESS: &str = "/v1/agent/attempts/{attempt}/progress";
/// `POST`: the destination claims the VM.
pub const AGENT_CLAIM: &str = "/v1/agent/vms/{vm}/claim";
/// `POST`: the source asserts its ownership anew.
pub const AGENT_REASSERT: &str = "/v1/agent/vms/{vm}/reassert";
/// `POST`: the destination gives the VM back.
pub const AGENT_GIVE_BACK: &str = "/v1/agent/vms/{vm}/give-back";
/// `POST`: the destination records that the VM runs there.
pub const AGENT_SETTLE: &str = "/v1/agent/vms/{vm}/settle";

/// `GET` with an upgrade to [`console::PROTOCOL`](crate::console::PROTOCOL): a
/// connection for the next user of a console here; 204 where none came for a while.
pub const AGENT_CONSOLE: &str = "/v1/agent/console";

/// `GET`: every [`HostView`](crate::body::HostView).
pub const HOSTS: &str = "/v1/hosts";
/// `POST`: a [`CordonRequest`](crate::body::CordonRequest).
pub const HOST_CORDON: &str = "/v1/hosts/{host}/cordon";
/// `POST {}`.
pub const HOST_UNCORDON: &str = "/v1/hosts/{host}/uncordon";
/// `POST`: a [`MigrateRequest`](crate::body::MigrateRequest), only to be looked at.
pub const VM_PREFLIGHT: &str = "/v1/vms/{vm}/preflight";
/// `GET`: every [`VmView`](crate::body::VmView); `POST`: a [`VmSpec`](types::VmSpec).
pub const VMS: &str = "/v1/vms";
/// `GET`, `DELETE`: one VM, by name or UUID.
pub const VM: &str = "/v1/vms/{vm}";
/// `POST`: a [`StartRequest`](crate::body::StartRequest).
pub const VM_START: &str = "/v1/vms/{vm}/start";
/// `POST {}`.
pub const VM_STOP: &str = "/v1/vms/{vm}/stop";
/// `POST {}`.
pub const VM_SHUTDOWN: &str = "/v1/vms/{vm}/shutdown";
/// `POST`: a [`RebootRequest`](crate::body::RebootRequest).
pub const VM_REBOOT: &str = "/v1/vms/{vm}/reboot";
/// `POST`: a [`SpecPatch`](crate::body::SpecPatch).
pub const VM_SET: &str = "/v1/vms/{vm}/set";
/// `POST {}`.
pub const VM_PAUSE: &str = "/v1/vms/{vm}/pause";
/// `POST {}`.
pub const VM_RESUME: &str = "/v1/vms/{vm}/resume";
/// `POST`: a [`MigrateRequest`](crate::body::MigrateRequest).
pub const VM_MIGRATE: &str = "/v1/vms/{vm}/migrate";
/// `POST {}`.
pub const VM_CANCEL: &str = "/v1/vms/{vm}/cancel";
/// `GET` with an upgrade to [`console::PROTOCOL`](crate::console::PROTOCOL), chosen by
/// a [`ConsoleQuery`](crate::console::ConsoleQuery).
pub const VM_CONSOLE: &str = "/v1/vms/{vm}/console";
/// `GET`: an [`AttemptView`](crate::body::AttemptView).
pub const ATTEMPT: &str = "/v1/attempts/{attempt}";
/// `GET`: [`HistoryEvent`](crate::body::HistoryEvent)s, chosen by a
/// [`HistoryQuery`](crate::body::HistoryQuery).
pub const HISTORY: &str = "/v1/history";

/// `GET`: [`HistoryEvent`](crate::body::HistoryEvent)s as they happen, chosen by an
/// [`EventsQuery`](crate::body::EventsQuery).
pub const EVENTS: &str = "/v1/events";
/// `GET`: the OpenAPI document.
pub const OPENAPI: &str = "/openapi.json";

/// What begins the paths that only hosts may use. Every request below it may be
/// repeated without a second effect.
pub const AGENT_PREFIX: &str = "/v1/agent/";

/// The template with its `{…}` replaced by `value`, which must be a checked
/// name or id (their characters need no escape in a path).
pub fn fill(template: &str, value: &impl std::fmt::Display) -> String {
    match (template.find('{'), template.find('}')) {
        (Some(open), Some(close)) if open < close => {
            format!("{}{value}{}", &template[..open], &template[close + 1..])
        }
        _ => template.to_owned(),
    }
}

/// What a path asks for: its last segment that is no id or name, such as `claim`.
pub fn action(path: &str) -> &str {
    let path = path.split('?').next().unwrap_or_default();
    let mut segments = path.rsplit('/');
    let last = segments.next().unwrap_or_default();
    let collection = segments.next().unwrap_or_default();
    if matches!(collection, "attempts" | "vms" | "hosts") { collection } else { last }
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_action_is_the_last_word_that_is_no_name() {
        for (path, expected) in [
            ("/v1/agent/vms/web01/claim", "claim"),
            ("/v1/agent/attempts/0190", "attempts"),
            ("/v1/agent/sync", "sync"),
            ("/v1/history?vm=web01", "history"),
            ("", ""),
        ] {
            assert_eq!(action(path), expected, "{path}");
        }
    }

    use super::*;

    #[test]
    fn templates_are_filled_in_the_middle_and_at_the_end() {
        for (template, filled) in [
            (VM, "/v1/vms/web01"),
            (AGENT_CLAIM, "/v1/agent/vms/web01/claim"),
            (AGENT_EVENT, "/v1/agent/attempts/web01/event"),
            (HOSTS, "/v1/hosts"),
        ] {
            assert_eq!(fill(template, &"web01"), filled);
        }
    }
}
