//! Linux guests of the lab, and what they say over their control port.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lab::images::{LinuxFiles, LinuxOptions};
use lab::{images, specs};
use types::{Bytes, DiskSpec, VmSpec};

use crate::fleet::Fleet;
use crate::proc;

/// Longest until a Linux guest answers after its start; TCG on a busy machine.
const BOOT: Duration = Duration::from_secs(180);
/// Longest answer in bytes.
const LINE: u64 = 4096;

/// What a Linux guest should be.
#[derive(Debug, Clone)]
pub(crate) struct Linux<'a> {
    /// Name.
    pub(crate) name: &'a str,
    /// Number of its address, 10.77.1.*number*.
    pub(crate) number: u8,
    /// Memory.
    pub(crate) memory: Bytes,
    /// Virtual processors.
    pub(crate) vcpus: u32,
    /// What it does, as in `godwit.roles`.
    pub(crate) roles: &'a str,
    /// Disks.
    pub(crate) disks: Vec<DiskSpec>,
}

/// Makes kernel and initial RAM file system, or takes those made before, and
/// puts them where the lab's hosts see them.
///
/// # Errors
/// They cannot be made.
pub(crate) fn place_linux(fleet: &Fleet) -> Result<LinuxFiles> {
    let made = images::linux(&images::default_cache(), &LinuxOptions::default())
        .context("the Linux guest's kernel cannot be had")?;
    Ok(made.place_in(&fleet.dir().join("images"))?)
}

/// The spec of a Linux guest in a lab.
///
/// # Errors
/// It cannot be, or there is no kernel.
pub(crate) fn spec(fleet: &Fleet, guest: &Linux<'_>) -> Result<VmSpec> {
    let described = specs::LinuxGuest {
        name: guest.name,
        ip: fleet.plan().guest(guest.number),
        memory: guest.memory,
        vcpus: guest.vcpus,
        roles: guest.roles.parse().map_err(|e: guest::RolesError| anyhow::anyhow!("{e}"))?,
        disks: guest.disks.clone(),
    };
    Ok(specs::linux(&described, &place_linux(fleet)?)?)
}

/// Waits until a guest answers.
///
/// # Errors
/// Not within three minutes.
pub(crate) fn wait_boot(ip: Ipv4Addr) -> Result<()> {
    proc::until(&format!("an answer of the guest at {ip}"), BOOT, || {
        Ok(ask(ip, "echo ready", Duration::from_secs(1)).ok())
    })?;
    Ok(())
}

/// Asks a guest one line over its control port; the answer without its `ok`.
///
/// # Errors
/// No answer within `limit`, or one that does not begin with `ok`.
pub(crate) fn ask(ip: Ipv4Addr, request: &str, limit: Duration) -> Result<String> {
    let address = SocketAddr::from((ip, guest::CONTROL_PORT));
    let mut stream = TcpStream::connect_timeout(&address, limit)
        .with_context(|| format!("the guest at {ip} cannot be reached"))?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    stream.write_all(format!("{request}\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream.take(LINE))
        .read_line(&mut line)
        .with_context(|| format!("the guest at {ip} does not answer {request:?}"))?;
    match line.trim().split_once(' ') {
        Some(("ok", rest)) => Ok(rest.to_owned()),
        _ if line.trim() == "ok" => Ok(String::new()),
        _ => bail!("the guest at {ip} answers {request:?} with {:?}", line.trim()),
    }
}

/// The number after `key=` in an answer.
///
/// # Errors
/// There is none.
pub(crate) fn number(answer: &str, key: &str) -> Result<u64> {
    answer
        .split_whitespace()
        .find_map(|w| w.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
        .with_context(|| format!("no {key} in {answer:?}"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn numbers_are_found_by_their_key() {
        let answer = "uptime_ms=12 filled_mib=1200 disk=7";
        assert_eq!(number(answer, "disk").unwrap(), 7);
        assert_eq!(number(answer, "uptime_ms").unwrap(), 12);
        assert!(number(answer, "mib").is_err());
    }

    #[test]
    fn an_answer_that_is_not_ok_is_an_error() {
        // The port is fixed, so only the unreachable case can be had here.
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
        drop(nobody);
        let error = ask(Ipv4Addr::LOCALHOST, "status", Duration::from_millis(200)).unwrap_err();
        assert!(format!("{error:#}").contains("127.0.0.1"), "{error:#}");
    }
}
