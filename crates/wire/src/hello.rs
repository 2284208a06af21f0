//! The first message on every connection, in both directions.
//!
//! ```text
//! "GODWIT" | u16 newest | u16 oldest | u16 bytes that follow
//! u8 direction | u8 lane | u8 lanes | u8 flags | attempt (16)
//! u32 link | u64 applied | u32 outage ms | … | proof (32)         all big-endian
//! ```
//!
//! A later version may put more before the proof; an earlier one skips it. The
//! proof covers everything before itself, as version 2 would say it: so both sides of an
//! upgrade understand each other, and TLS itself vouches for the versions.
//!
//! Version 3 adds batches of rows and the frames that they need; between it and version 2
//! neither is sent.

use types::AttemptId;
use uuid::Uuid;

/// Newest version of frames and session that this side speaks.
pub const NEWEST: u16 = 3;
/// Oldest version that it still speaks.
pub const OLDEST: u16 = 2;
/// Bytes before the part whose length they give.
pub const HELLO_PREFIX: usize = 6 + 2 + 2 + 2;
/// Bytes of a proof.
pub const PROOF: usize = 32;
/// Most connections of one direction.
pub const MAX_LANES: u8 = 16;

const MAGIC: &[u8; 6] = b"GODWIT";
const FIELDS: usize = 4 + 16 + 4 + 8 + 4;
/// Longest part after the prefix; later versions have room.
const LONGEST: usize = 1024;

/// Which way a stream's frames go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From source to destination.
    Forward,
    /// From destination to source.
    Backward,
}

/// What one end says of itself and of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The attempt.
    pub attempt: AttemptId,
    /// The direction of the connection's frames.
    pub direction: Direction,
    /// Which of the connections of its direction this is, from 0.
    pub lane: u8,
    /// How many connections its direction has.
    pub lanes: u8,
    /// From the destination: pages are placed directly. From the source: false.
    pub placing: bool,
    /// From the destination: it holds an image of the VM and will tell what is in it.
    pub image: bool,
    /// Which link this connection is part of: 0 begins the session, each later one resumes it.
    pub link: u32,
    /// What the sender of this hello has applied of the other's stream.
    pub applied: u64,
    /// From the source: how long it keeps the session over a broken link, in milliseconds.
    pub outage_ms: u32,
    /// The newest version that both sides speak. What a hello says is [`NEWEST`].
    pub version: u16,
}

/// Why a hello is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Not a carrier.
    #[error("what connected is not a carrier")]
    Magic,
    /// No version in common.
    #[error(
        "the other carrier speaks versions {oldest} to {newest}, this one {OLDEST} to {NEWEST}; \
         upgrade the older host"
    )]
    Version {
        /// The other side's newest.
        newest: u16,
        /// The other side's oldest.
        oldest: u16,
    },
    /// Bits that mean nothing.
    #[error("the other carrier's greeting is malformed")]
    Malformed,
    /// Another attempt.
    #[error("the other carrier serves another attempt ({0})")]
    Attempt(AttemptId),
    /// The secret is not known.
    #[error("the other carrier does not know the attempt's secret")]
    Proof,
    /// A link that is over, or a beginning of what has begun.
    #[error("link {0} is over, or the session has begun already")]
    Link(u32),
}

impl Hello {
    /// The newest version that both sides speak, after [`Self::rest`] has found one.
    pub fn common(prefix: &[u8; HELLO_PREFIX]) -> u16 {
        let [.., n0, n1, _, _, _, _] = *prefix;
        u16::from_be_bytes([n0, n1]).min(NEWEST)
    }

    /// What the TLS export that proves a hello is bound to: who speaks about what.
    pub fn context(attempt: AttemptId, direction: Direction, from_source: bool) -> [u8; 18] {
        let mut context = [0; 18];
        context[..16].copy_from_slice(attempt.0.as_bytes());
        context[16] = direction as u8;
        context[17] = u8::from(from_source);
        context
    }

    /// What the TLS export that the session's secret is made of is bound to.
    pub fn session_context(attempt: AttemptId) -> [u8; 18] {
        let mut context = Self::context(attempt, Direction::Forward, true);
        context[17] = 2;
        context
    }

    /// The hello's bytes, to be followed by the proof.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.bytes_of(NEWEST)
    }

    /// What the proof covers.
    pub fn proved(&self) -> Vec<u8> {
        self.bytes_of(OLDEST)
    }

    fn bytes_of(&self, newest: u16) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HELLO_PREFIX + FIELDS + PROOF);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&newest.to_be_bytes());
        bytes.extend_from_slice(&OLDEST.to_be_bytes());
        bytes.extend_from_slice(&((FIELDS + PROOF) as u16).to_be_bytes());
        bytes.extend_from_slice(&[self.direction as u8, self.lane, self.lanes]);
        bytes.push(u8::from(self.placing) | u8::from(self.image) << 1);
        bytes.extend_from_slice(self.attempt.0.as_bytes());
        bytes.extend_from_slice(&self.link.to_be_bytes());
        bytes.extend_from_slice(&self.applied.to_be_bytes());
        bytes.extend_from_slice(&self.outage_ms.to_be_bytes());
        bytes
    }

    /// Reads the prefix; how many bytes follow, the proof included.
    ///
    /// # Errors
    /// Not a hello, or no version in common.
    pub fn rest(prefix: &[u8; HELLO_PREFIX]) -> Result<usize, HelloError> {
        let [m @ .., n0, n1, o0, o1, l0, l1] = *prefix;
        if m != *MAGIC {
            return Err(HelloError::Magic);
        }
        let (newest, oldest) = (u16::from_be_bytes([n0, n1]), u16::from_be_bytes([o0, o1]));
        if newest < OLDEST || oldest > NEWEST || oldest > newest {
            return Err(HelloError::Version { newest, oldest });
        }
        let rest = usize::from(u16::from_be_bytes([l0, l1]));
        if !(FIELDS + PROOF..=LONGEST).contains(&rest) {
            return Err(HelloError::Malformed);
        }
        Ok(rest)
    }

    /// Reads what follows the prefix: the hello, and its proof. The caller checks
    /// attempt, proof and link, and knows the [`Self::common`] version.
    ///
    /// # Errors
    /// Something in it means nothing.
    pub fn read(version: u16, rest: &[u8]) -> Result<(Self, [u8; PROOF]), HelloError> {
        const BAD: HelloError = HelloError::Malformed;
        let (fields, proof) = rest.split_last_chunk::<PROOF>().ok_or(BAD)?;
        let (fixed, _) = fields.split_first_chunk::<FIELDS>().ok_or(BAD)?;
        let ([direction, lane, lanes, flags], fixed) = fixed.split_first_chunk().ok_or(BAD)?;
        let (attempt, fixed) = fixed.split_first_chunk::<16>().ok_or(BAD)?;
        let (link, fixed) = fixed.split_first_chunk().ok_or(BAD)?;
        let (applied, outage) = fixed.split_first_chunk().ok_or(BAD)?;
        let direction = match direction {
            0 => Direction::Forward,
            1 => Direction::Backward,
            _ => return Err(BAD),
        };
        let counted = 1..=MAX_LANES;
        if lane >= lanes || !counted.contains(lanes) || *flags > 3 {
            return Err(BAD);
        }
        let hello = Self {
            attempt: AttemptId(Uuid::from_bytes(*attempt)),
            direction,
            lane: *lane,
            lanes: *lanes,
            placing: flags & 1 != 0,
            image: flags & 2 != 0,
            link: u32::from_be_bytes(*link),
            applied: u64::from_be_bytes(*applied),
            outage_ms: u32::from_be_bytes(outage.try_into().map_err(|_| BAD)?),
            version,
        };
        Ok((hello, *proof))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn some() -> Hello {
        Hello {
            attempt: AttemptId(Uuid::from_u128(7)),
            direction: Direction::Backward,
            lane: 2,
            lanes: 3,
            placing: true,
            image: false,
            link: 4,
            applied: 5 << 40,
            outage_ms: 60_000,
            version: NEWEST,
        }
    }

    fn read(bytes: &[u8]) -> Result<(Hello, [u8; PROOF]), HelloError> {
        let (prefix, rest) = bytes.split_first_chunk().ok_or(HelloError::Malformed)?;
        let length = Hello::rest(prefix)?;
        Hello::read(Hello::common(prefix), rest.get(..length).ok_or(HelloError::Malformed)?)
    }

    #[test]
    fn hellos_survive_and_others_are_refused() {
        let hello = some();
        let mut bytes = hello.to_bytes();
        bytes.extend([9; PROOF]);
        assert_eq!(read(&bytes), Ok((hello, [9; PROOF])));
        for (at, error) in [
            (0, HelloError::Magic),
            (8, HelloError::Version { newest: NEWEST, oldest: 0xff00 | OLDEST }),
            (10, HelloError::Malformed),
            (12, HelloError::Malformed),
            (13, HelloError::Malformed),
            (14, HelloError::Malformed),
            (15, HelloError::Malformed),
        ] {
            let mut bad = bytes.clone();
            bad[at] = 0xff;
            assert_eq!(read(&bad), Err(error), "{at}");
        }
    }

    #[test]
    fn a_later_version_that_still_speaks_ours_is_understood() {
        let mut bytes = some().to_bytes();
        bytes[6..8].copy_from_slice(&(NEWEST + 1).to_be_bytes());
        bytes[10..12].copy_from_slice(&((FIELDS + 5 + PROOF) as u16).to_be_bytes());
        bytes.extend([1; 5]);
        bytes.extend([9; PROOF]);
        assert_eq!(read(&bytes), Ok((some(), [9; PROOF])));
        bytes[8..10].copy_from_slice(&(NEWEST + 1).to_be_bytes());
        assert!(matches!(read(&bytes), Err(HelloError::Version { .. })));
    }

    #[test]
    fn the_versions_are_no_part_of_the_proof() {
        let hello = some();
        let (said, proved) = (hello.to_bytes(), hello.proved());
        assert_eq!((&said[8..], proved[7]), (&proved[8..], OLDEST as u8));
        for (newest, common) in [(OLDEST, OLDEST), (NEWEST, NEWEST), (NEWEST + 1, NEWEST)] {
            let mut prefix: [u8; HELLO_PREFIX] = said[..HELLO_PREFIX].try_into().unwrap();
            prefix[6..8].copy_from_slice(&newest.to_be_bytes());
            assert_eq!(Hello::common(&prefix), common);
        }
    }

    #[test]
    fn contexts_differ_in_every_part() {
        let id = |n| AttemptId(Uuid::from_u128(n));
        let all = [
            Hello::context(id(1), Direction::Forward, true),
            Hello::context(id(1), Direction::Forward, false),
            Hello::context(id(1), Direction::Backward, true),
            Hello::context(id(2), Direction::Forward, true),
            Hello::session_context(id(1)),
            Hello::session_context(id(2)),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|b| a != b));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_hello_or_refused(
            noise in proptest::collection::vec(any::<u8>(), HELLO_PREFIX + FIELDS + PROOF),
            kept in 0..HELLO_PREFIX + FIELDS,
        ) {
            let mut bytes = some().to_bytes();
            bytes.extend([9; PROOF]);
            bytes[kept..].copy_from_slice(&noise[kept..]);
            if let Ok((read, _)) = read(&bytes) {
                prop_assert_eq!(&read.to_bytes()[12..], &bytes[12..HELLO_PREFIX + FIELDS]);
            }
        }
    }
}
