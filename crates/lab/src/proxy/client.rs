//! Telling the proxy what to do.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::rules::{FrontStatus, Reply, Request};
use crate::LabError;
use crate::state::{Places, State};

const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer: a status of some hundred bytes for each host.
const LONGEST: u64 = 64 << 10;

/// The proxy of a lab. Each command is in force when the call returns.
#[derive(Debug, Clone)]
pub struct Proxy {
    socket: PathBuf,
}

impl Proxy {
    /// The proxy of the lab in `dir`; an error when the lab is without one.
    pub fn of(dir: &Path) -> Result<Self, LabError> {
        if !State::of(dir)?.proxy {
            return Err(LabError::Proxy("this lab was brought up without one".into()));
        }
        Ok(Self::at(Places::new(dir).proxy_socket()))
    }

    pub(crate) fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Delays what passes to and from a host's carriers by `delay` in each direction.
    pub fn delay(&self, host: &str, delay: Duration) -> Result<(), LabError> {
        let delay_ms = u32::try_from(delay.as_millis()).unwrap_or(u32::MAX);
        self.tell(&Request::Set { host: host.into(), delay_ms })
    }

    /// Stops forwarding; connections stay open and what was sent waits.
    pub fn cut(&self, host: &str) -> Result<(), LabError> {
        self.tell(&Request::Cut { host: host.into() })
    }

    /// Ends delay, cut and refusal.
    pub fn restore(&self, host: &str) -> Result<(), LabError> {
        self.tell(&Request::Restore { host: host.into() })
    }

    /// Ends the connections there are with a TCP reset in both directions.
    pub fn reset(&self, host: &str) -> Result<(), LabError> {
        self.tell(&Request::Reset { host: host.into() })
    }

    /// Refuses new connections; those there are stay.
    pub fn refuse(&self, host: &str) -> Result<(), LabError> {
        self.tell(&Request::Refuse { host: host.into() })
    }

    /// How each host's connections are treated, and what passed.
    pub fn status(&self) -> Result<Vec<FrontStatus>, LabError> {
        match self.ask(&Request::Status {})? {
            Reply::Status(fronts) => Ok(fronts),
            other => Err(LabError::Proxy(format!("answered {other:?}"))),
        }
    }

    fn tell(&self, request: &Request) -> Result<(), LabError> {
        match self.ask(request)? {
            Reply::Ok {} => Ok(()),
            Reply::Error(why) => Err(LabError::Proxy(why)),
            Reply::Status(_) => Err(LabError::Proxy("answered with a status".into())),
        }
    }

    fn ask(&self, request: &Request) -> Result<Reply, LabError> {
        let failed = |e: std::io::Error| {
            LabError::Proxy(format!("no answer on {}: {e}", self.socket.display()))
        };
        let mut stream = UnixStream::connect(&self.socket).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        let mut line = serde_json::to_vec(request).map_err(|e| LabError::Proxy(e.to_string()))?;
        line.push(b'\n');
        stream.write_all(&line).map_err(failed)?;
        let mut answer = String::new();
        BufReader::new(stream).take(LONGEST).read_line(&mut answer).map_err(failed)?;
        serde_json::from_str(&answer).map_err(|e| LabError::Proxy(format!("answered oddly: {e}")))
    }
}
