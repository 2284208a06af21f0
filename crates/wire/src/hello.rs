//! The first message on every stream, in both directions.

use types::AttemptId;
use uuid::Uuid;

/// Version of frames and session. Both sides must speak the same one.
pub const VERSION: u16 = 1;
/// Bytes of a hello.
pub const HELLO: usize = 6 + 2 + 1 + 1 + 16 + 32;

const MAGIC: &[u8; 6] = b"GODWIT";

/// Which way a stream's frames go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From source to destination.
    Forward,
    /// From destination to source.
    Backward,
}

/// Names the attempt and the stream, and proves knowledge of the attempt's secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The attempt.
    pub attempt: AttemptId,
    /// The stream's direction.
    pub direction: Direction,
    /// From the destination: pages are placed directly. From the source: false.
    pub placing: bool,
    /// Keyed hash over what this TLS connection exports; see [`Hello::context`].
    pub proof: [u8; 32],
}

/// Why a hello is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Not a carrier.
    #[error("what connected is not a carrier")]
    Magic,
    /// Another version.
    #[error("the other carrier speaks version {0}, this one {VERSION}; upgrade the older host")]
    Version(u16),
    /// Bits that mean nothing.
    #[error("the other carrier's greeting is malformed")]
    Malformed,
    /// Another attempt.
    #[error("the other carrier serves another attempt ({0})")]
    Attempt(AttemptId),
    /// The secret is not known.
    #[error("the other carrier does not know the attempt's secret")]
    Proof,
}

impl Hello {
    /// What the proof is computed over besides the TLS export: who speaks about what.
    pub fn context(attempt: AttemptId, direction: Direction, from_source: bool) -> [u8; 18] {
        let mut context = [0; 18];
        context[..16].copy_from_slice(attempt.0.as_bytes());
        context[16] = direction as u8;
        context[17] = u8::from(from_source);
        context
    }

    /// The hello's bytes.
    pub fn to_bytes(&self) -> [u8; HELLO] {
        let mut bytes = [0; HELLO];
        bytes[..6].copy_from_slice(MAGIC);
        bytes[6..8].copy_from_slice(&VERSION.to_be_bytes());
        bytes[8] = self.direction as u8;
        bytes[9] = u8::from(self.placing);
        bytes[10..26].copy_from_slice(self.attempt.0.as_bytes());
        bytes[26..].copy_from_slice(&self.proof);
        bytes
    }

    /// Reads a hello. The caller checks attempt and proof.
    ///
    /// # Errors
    /// Not a hello, or of another version.
    pub fn read(bytes: &[u8; HELLO]) -> Result<Self, HelloError> {
        let (magic, rest) = bytes.split_at(6);
        if magic != MAGIC {
            return Err(HelloError::Magic);
        }
        let (fixed, proof) = rest.split_at(20);
        let version = u16::from_be_bytes([fixed[0], fixed[1]]);
        if version != VERSION {
            return Err(HelloError::Version(version));
        }
        let direction = match fixed[2] {
            0 => Direction::Forward,
            1 => Direction::Backward,
            _ => return Err(HelloError::Malformed),
        };
        let placing = match fixed[3] {
            0 => false,
            1 => true,
            _ => return Err(HelloError::Malformed),
        };
        let attempt = Uuid::from_slice(&fixed[4..]).map_err(|_| HelloError::Malformed)?;
        let proof = proof.try_into().map_err(|_| HelloError::Malformed)?;
        Ok(Self { attempt: AttemptId(attempt), direction, placing, proof })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hellos_survive_and_others_are_refused() {
        let hello = Hello {
            attempt: AttemptId(Uuid::from_u128(7)),
            direction: Direction::Backward,
            placing: true,
            proof: [9; 32],
        };
        let bytes = hello.to_bytes();
        assert_eq!(Hello::read(&bytes), Ok(hello));
        for (at, error) in [
            (0, HelloError::Magic),
            (6, HelloError::Version(0xff01)),
            (8, HelloError::Malformed),
            (9, HelloError::Malformed),
        ] {
            let mut bad = bytes;
            bad[at] = 0xff;
            assert_eq!(Hello::read(&bad), Err(error), "{at}");
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
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|b| a != b));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_hello_or_refused(
            noise in proptest::collection::vec(any::<u8>(), HELLO),
            kept in 0..HELLO,
        ) {
            let hello = Hello {
                attempt: AttemptId(Uuid::from_u128(7)),
                direction: Direction::Forward,
                placing: false,
                proof: [9; 32],
            };
            let mut bytes = hello.to_bytes();
            bytes[kept..].copy_from_slice(&noise[kept..]);
            if let Ok(read) = Hello::read(&bytes) {
                prop_assert_eq!(read.to_bytes(), bytes);
            }
        }
    }
}
