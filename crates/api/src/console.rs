//! `godwit-console`: a VM's serial port over an upgraded HTTP/1.1 connection.
//!
//! A user's connection and one that the owner's agent holds ready meet in the
//! controller, which passes bytes on. Both ends speak frames: a kind (one byte),
//! the payload's length (two bytes, big-endian), the payload. Each end sends
//! [`Control::Ping`] every [`BEAT`] and gives the other up after [`SILENCE`].

use std::io;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use types::{HostId, VmId};

/// What both connections are upgraded to.
pub const PROTOCOL: &str = "godwit-console";
/// Largest payload of a frame in bytes.
pub const MAX_PAYLOAD: usize = 16 << 10;
/// Between two pings.
pub const BEAT: Duration = Duration::from_secs(10);
/// An end that was not heard for so long is gone.
pub const SILENCE: Duration = Duration::from_secs(40);
/// For one frame to be taken by the connection.
const STUCK: Duration = Duration::from_secs(30);

const DATA: u8 = 0;
const CONTROL: u8 = 1;

/// A connection after the upgrade.
pub type Stream = TokioIo<hyper::upgrade::Upgraded>;

/// What `GET /v1/vms/{vm}/console` is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConsoleQuery {
    /// Tells the session from others: 1 to 64 letters, digits and `-`. Who comes
    /// again with the same one takes its own place.
    pub session: String,
    /// Nothing will be typed.
    pub read_only: bool,
    /// End the session of whoever types now.
    pub take_over: bool,
    /// What was shown already, [`Place`]s as `INSTANCE:POSITION`, separated by commas.
    pub seen: String,
}

/// A place in what a VM writes: which of its QEMUs, and how many bytes its log held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The QEMU: letters and digits.
    pub instance: String,
    /// Bytes from the log's beginning.
    pub position: u64,
}

/// Most places in a request.
pub const MAX_PLACES: usize = 8;

/// Writes places for [`ConsoleQuery::seen`].
pub fn seen(places: &[Place]) -> String {
    let texts = places.iter().rev().take(MAX_PLACES).rev();
    let texts: Vec<String> = texts.map(|p| format!("{}:{}", p.instance, p.position)).collect();
    texts.join(",")
}

/// Reads [`ConsoleQuery::seen`]; `None` for a text that is none.
pub fn places(seen: &str) -> Option<Vec<Place>> {
    let place = |text: &str| {
        let (instance, position) = text.split_once(':')?;
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let good = (1..=32).contains(&instance.len()) && instance.bytes().all(plain);
        Some(Place {
            instance: good.then(|| instance.to_owned())?,
            position: position.parse().ok()?,
        })
    };
    if seen.is_empty() {
        return Some(Vec::new());
    }
    seen.split(',').map(place).collect::<Option<Vec<_>>>().filter(|all| all.len() <= MAX_PLACES)
}

/// What the ends tell each other beside the bytes themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "control", rename_all = "kebab-case")]
pub enum Control {
    /// Controller to agent, first of all: whose serial port, and how.
    Open {
        /// The VM.
        vm: VmId,
        /// Bytes will be typed.
        writer: bool,
        /// What was shown already. Empty: begin with the end of what there is.
        seen: Vec<Place>,
    },
    /// Agent to user, before any bytes: what follows begins there.
    Here {
        /// The host.
        host: HostId,
        /// The place.
        place: Place,
    },
    /// Agent to user: so many of the bytes typed over this connection are on
    /// their way into the VM.
    Taken {
        /// Bytes.
        bytes: u64,
    },
    /// Agent to user: all that the VM wrote here has been sent.
    End {
        /// Why.
        end: End,
    },
    /// I am still here.
    Ping,
}

/// Why there is nothing more here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// Another host owns the VM now.
    Moved,
    /// The VM's QEMU has ended.
    Stopped,
    /// The port cannot be used.
    Failed(String),
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Bytes of the serial port, at most [`MAX_PAYLOAD`].
    Data(Vec<u8>),
    /// Something about it.
    Control(Control),
}

impl Frame {
    /// Reads a frame; `None` at the connection's end. Not to be given up half-way:
    /// what was read of a frame would be lost.
    ///
    /// # Errors
    /// The connection broke, or the bytes are no frame.
    pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Self>> {
        let mut head = [0; 3];
        match from.read_exact(&mut head).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            result => result?,
        };
        let [kind, high, low] = head;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > MAX_PAYLOAD {
            return Err(invalid("a frame is too large"));
        }
        let mut payload = vec![0; length];
        from.read_exact(&mut payload).await?;
        match kind {
            DATA => Ok(Some(Self::Data(payload))),
            CONTROL => serde_json::from_slice(&payload)
                .map(|control| Some(Self::Control(control)))
                .map_err(|_| invalid("a frame says nothing known")),
            _ => Err(invalid("a frame of no known kind")),
        }
    }

    /// Writes the frame.
    ///
    /// # Errors
    /// The connection broke, or did not take it within 30 s.
    pub async fn write(&self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let (kind, payload) = match self {
            Self::Data(bytes) => (DATA, bytes.clone()),
            Self::Control(control) => (CONTROL, serde_json::to_vec(control)?),
        };
        let length = u16::try_from(payload.len()).ok().filter(|n| usize::from(*n) <= MAX_PAYLOAD);
        let length = length.ok_or_else(|| invalid("a frame would be too large"))?;
        let mut bytes = vec![kind];
        bytes.extend(length.to_be_bytes());
        bytes.extend(payload);
        let written = async {
            to.write_all(&bytes).await?;
            to.flush().await
        };
        timeout(STUCK, written).await.map_err(|_| io::ErrorKind::TimedOut)?
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_survive_the_way() {
        let place = Place { instance: "s1".into(), position: 7 };
        let host: HostId = "host-a".parse().unwrap();
        let frames = [
            Frame::Data(vec![0, 255, 10]),
            Frame::Data(vec![7; MAX_PAYLOAD]),
            Frame::Control(Control::Ping),
            Frame::Control(Control::Here { host, place }),
            Frame::Control(Control::End { end: End::Failed("no".into()) }),
        ];
        let mut bytes = Vec::new();
        for frame in &frames {
            frame.write(&mut bytes).await.unwrap();
        }
        let mut from = bytes.as_slice();
        for frame in frames {
            assert_eq!(Frame::read(&mut from).await.unwrap(), Some(frame));
        }
        assert_eq!(Frame::read(&mut from).await.unwrap(), None);
        assert!(Frame::Data(vec![0; MAX_PAYLOAD + 1]).write(&mut bytes).await.is_err());
    }

    #[tokio::test]
    async fn what_is_no_frame_is_an_error() {
        for bytes in [&[0, 0x40, 1][..], &[9, 0, 0], &[1, 0, 1, b'x'], &[0, 0, 2, 1]] {
            assert!(Frame::read(&mut &*bytes).await.is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn places_are_read_as_they_were_written() {
        let place = |n: u64| Place { instance: format!("s{n}"), position: n };
        let many: Vec<Place> = (0..12).map(place).collect();
        assert_eq!(places(&seen(&many)).unwrap(), many[4..]);
        assert_eq!(places(""), Some(Vec::new()));
        for bad in ["s1", "s1:", ":1", "S1:1", "s1:-1", "s1:1,", "a/b:1"] {
            assert_eq!(places(bad), None, "{bad}");
        }
    }
}
