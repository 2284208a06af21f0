//! The heartbeat: one UDP packet.

/// One heartbeat of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// Differs from boot to boot.
    pub boot: u64,
    /// Rises by one from packet to packet, from 0.
    pub counter: u64,
    /// The guest's monotonic clock, nanoseconds since its program started.
    pub nanos: u64,
}

const MAGIC: &[u8; 8] = b"GWBEAT01";

impl Beat {
    /// Length of a packet in bytes.
    pub const LEN: usize = 32;

    /// The packet.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut packet = [0; Self::LEN];
        for (place, part) in packet.as_chunks_mut::<8>().0.iter_mut().zip([
            *MAGIC,
            self.boot.to_le_bytes(),
            self.counter.to_le_bytes(),
            self.nanos.to_le_bytes(),
        ]) {
            *place = part;
        }
        packet
    }

    /// Reads a packet; `None` if it is none of ours.
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let ([magic, boot, counter, nanos], []) = packet.as_chunks::<8>() else { return None };
        (magic == MAGIC).then(|| Self {
            boot: u64::from_le_bytes(*boot),
            counter: u64::from_le_bytes(*counter),
            nanos: u64::from_le_bytes(*nanos),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_survives_and_strangers_are_refused() {
        let beat = Beat { boot: 7, counter: u64::MAX, nanos: 1 << 40 };
        let packet = beat.encode();
        assert_eq!(Beat::decode(&packet), Some(beat));
        assert_eq!(Beat::decode(&packet[..31]), None);
        assert_eq!(Beat::decode(&[packet.as_slice(), &[0]].concat()), None);
        assert_eq!(Beat::decode(&[0; 32]), None);
        assert_eq!(Beat::decode(&[]), None);
    }
}
