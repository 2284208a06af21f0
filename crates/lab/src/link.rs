//! What passes a host's link, and pulling it.

use std::path::Path;

use serde::Deserialize;

use crate::state::State;
use crate::tool::{ip, parse};
use crate::{LabError, Plan};

/// State of a host's link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// Connected.
    Up,
    /// Nothing passes, as if the cable were pulled.
    Down,
}

/// Connects a host's link, or pulls it.
pub fn link(dir: &Path, host: &str, to: LinkState) -> Result<(), LabError> {
    let state = State::of(dir)?;
    state.plan.number(host)?;
    let to = if to == LinkState::Up { "up" } else { "down" };
    ip(&format!("-n {} link set {host} {to}", state.plan.switch())).map(|_| ())
}

/// What passed a host's link since it was made, seen from the host. Bytes are
/// those of whole Ethernet frames (14 bytes of header, no preamble, no checksum),
/// headers of IP and TCP included. What the stack hands down in one piece counts
/// as one packet with one set of headers, however many frames a wire would carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// Bytes that came to the host and its VMs.
    pub rx_bytes: u64,
    /// Packets that came to them.
    pub rx_packets: u64,
    /// Bytes that they sent.
    pub tx_bytes: u64,
    /// Packets that they sent.
    pub tx_packets: u64,
}

#[derive(Deserialize)]
struct LinkStats {
    stats64: Directions,
    #[serde(default)]
    flags: Vec<String>,
}

#[derive(Deserialize)]
struct Directions {
    rx: Amounts,
    tx: Amounts,
}

#[derive(Deserialize)]
struct Amounts {
    bytes: u64,
    packets: u64,
}

/// Reads the counters of a host's link, after its shaping in both directions.
pub fn counters(dir: &Path, host: &str) -> Result<Counters, LabError> {
    let state = State::of(dir)?;
    state.plan.number(host)?;
    link_stats(state.plan, host).map(|(counters, _)| counters)
}

/// Counters of a host's link, and whether it is connected.
pub(crate) fn link_stats(plan: Plan, host: &str) -> Result<(Counters, bool), LabError> {
    let command = format!("-n {} -j -s link show dev {host}", plan.switch());
    parse_stats(&ip(&command)?)
}

/// The switch's end receives what the host sends.
fn parse_stats(json: &str) -> Result<(Counters, bool), LabError> {
    let links: Vec<LinkStats> = parse("ip -j -s link show", json)?;
    let [link] = links.as_slice() else {
        return Err(LabError::Command {
            command: "ip -j -s link show".into(),
            why: format!("{} links instead of one", links.len()),
        });
    };
    let Directions { rx, tx } = &link.stats64;
    let counters = Counters {
        rx_bytes: tx.bytes,
        rx_packets: tx.packets,
        tx_bytes: rx.bytes,
        tx_packets: rx.packets,
    };
    Ok((counters, link.flags.iter().any(|f| f == "UP")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_turned_to_the_hosts_view() {
        let json = r#"[{"ifname":"host-a","flags":["BROADCAST","UP"],"stats64":{
            "rx":{"bytes":10,"packets":1,"errors":0},"tx":{"bytes":30,"packets":3}}}]"#;
        let (counters, up) = parse_stats(json).unwrap();
        assert!(up);
        let expected = Counters { rx_bytes: 30, rx_packets: 3, tx_bytes: 10, tx_packets: 1 };
        assert_eq!(counters, expected);
        assert!(parse_stats("[]").is_err());
    }
}
