//! `godwit lab up`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ::lab::UpOptions;
use clap::ValueEnum;
use types::{Bytes, HostId, IdError, Rate};

use super::Place;
use crate::failure::Failure;
use crate::output::Output;
use crate::span;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// Number of hosts.
    #[arg(long, default_value_t = 2)]
    hosts: usize,
    /// Rate of each host's link in each direction, such as 1gbit [default: unlimited].
    #[arg(long, value_name = "RATE")]
    link: Option<Rate>,
    /// QEMU, of every host or of one; may be repeated [default: qemu-system-x86_64 on the path].
    #[arg(long, value_name = "[HOST=]PATH")]
    qemu: Vec<OfHost>,
    /// A directory where QEMU finds its firmware, of every host or of one; may be repeated.
    #[arg(long, value_name = "[HOST=]DIR")]
    qemu_data: Vec<OfHost>,
    /// How guests are executed [default: kvm where it works, else tcg].
    #[arg(long, value_enum)]
    accel: Option<Accel>,
    /// How memory travels [default: direct].
    #[arg(long, value_enum)]
    data_plane: Option<DataPlane>,
    /// Guest memory of each host [default: 4GiB].
    #[arg(long, value_name = "SIZE")]
    memory: Option<Bytes>,
    /// The same in huge pages, which the kernel must have reserved [default: none].
    #[arg(long, value_name = "SIZE")]
    hugepages: Option<Bytes>,
    /// Second octet of the lab's network, 10.N.0.0/16.
    #[arg(long, value_name = "N", default_value_t = ::lab::DEFAULT_NET)]
    net: u8,
    /// No proxy before the carriers; faults cannot be made then.
    #[arg(long)]
    no_proxy: bool,
    /// How long to wait until everything works.
    #[arg(long, value_parser = span::parse, default_value = "30s", value_name = "SPAN")]
    timeout: Duration,
}

/// A path, of one host or of all.
#[derive(Debug, Clone, PartialEq, Eq)]
struct OfHost {
    host: Option<HostId>,
    path: PathBuf,
}

impl FromStr for OfHost {
    type Err = IdError;

    /// A path with a '=' of its own begins with '/' or '.', as no host does.
    fn from_str(text: &str) -> Result<Self, IdError> {
        match text.split_once('=') {
            Some((host, path)) if !host.starts_with(['/', '.']) => {
                Ok(Self { host: Some(host.parse()?), path: path.into() })
            }
            _ => Ok(Self { host: None, path: text.into() }),
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Accel {
    Kvm,
    Tcg,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DataPlane {
    Direct,
    Stream,
    Opaque,
}

pub(super) fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let mut options = UpOptions::new(args.place.dir());
    options.net = args.net;
    options.hosts = args.hosts;
    options.link = args.link;
    for OfHost { host, path } in args.qemu {
        match host {
            None => options.qemu = Some(path),
            Some(host) => options.others.entry(host).or_default().program = Some(path),
        }
    }
    for OfHost { host, path } in args.qemu_data {
        match host {
            None => options.qemu_data.push(path),
            Some(host) => options.others.entry(host).or_default().data.push(path),
        }
    }
    options.hugepages = args.hugepages.unwrap_or_default();
    options.accel = args.accel.map(name);
    options.data_plane = args.data_plane.map(name);
    options.memory = args.memory.unwrap_or(options.memory);
    options.proxy = !args.no_proxy;
    options.wait = Some(args.timeout);
    ::lab::up(&options)?;
    output.message("the lab is up; use it with: eval \"$(godwit lab env)\"");
    let status = ::lab::status(&options.dir)?;
    output.result(&status, ToString::to_string)
}

fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_may_be_of_one_host() {
        let parse = |text: &str| text.parse::<OfHost>().map(|of| (of.host, of.path));
        let host: HostId = "host-b".parse().unwrap();
        assert_eq!(parse("host-b=/q").unwrap(), (Some(host), "/q".into()));
        assert_eq!(parse("/a=b").unwrap(), (None, "/a=b".into()));
        assert_eq!(parse("qemu").unwrap(), (None, "qemu".into()));
        assert!(parse("Host B=/q").is_err());
    }
}
