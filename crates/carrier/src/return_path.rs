//! QEMU's return path, watched on its way from the destination to the source.

use stream::{ReturnMessage, ReturnPath, ReturnStep};

/// What has passed so far.
#[derive(Default)]
pub(crate) struct Watch {
    path: ReturnPath,
    pending: Vec<u8>,
    /// The return path is in use.
    spoke: bool,
    /// QEMU's last word: 0 if it has loaded everything.
    shut: Option<u32>,
    /// Messages of another kind came: everything passes as it is from there on.
    raw: bool,
}

impl Watch {
    /// Takes bytes of the return path, gives those that are to go on.
    ///
    /// The gate of the switchover is the agent's alone: an acknowledgement of
    /// the destination's QEMU does not pass.
    pub(crate) fn filter(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.pending.extend_from_slice(bytes);
        while !self.raw {
            match self.path.next(&self.pending) {
                Ok(ReturnStep::More(_)) => return out,
                Ok(ReturnStep::Message(n, message)) => {
                    let n = n.min(self.pending.len());
                    if message != ReturnMessage::SwitchoverAck {
                        out.extend_from_slice(&self.pending[..n]);
                    }
                    if let ReturnMessage::Shut(value) = message {
                        self.shut = Some(value);
                    }
                    self.spoke = true;
                    self.pending.drain(..n);
                }
                Err(_) => self.raw = true,
            }
        }
        out.append(&mut self.pending);
        out
    }

    /// Why a QEMU that closes now has not loaded everything; `None` if it has,
    /// as far as the return path tells.
    pub(crate) fn unfinished(&self) -> Option<&'static str> {
        match self.shut {
            Some(0) => None,
            Some(_) => Some("the destination's QEMU could not load the VM"),
            None if self.spoke && !self.raw => {
                Some("the destination's QEMU closed its stream before it had loaded everything")
            }
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(messages: &[ReturnMessage]) -> Vec<u8> {
        messages.iter().flat_map(|m| m.to_bytes()).collect()
    }

    #[test]
    fn only_the_acknowledgement_of_the_switchover_is_kept_back() {
        use ReturnMessage::{Pong, Shut, SwitchoverAck};
        let all = bytes(&[Pong(1), SwitchoverAck, Pong(2), Shut(0)]);
        let passed = bytes(&[Pong(1), Pong(2), Shut(0)]);
        for cut in 0..all.len() {
            let mut watch = Watch::default();
            let mut out = watch.filter(&all[..cut]);
            out.extend(watch.filter(&all[cut..]));
            assert_eq!(out, passed, "cut at {cut}");
        }
        let mut watch = Watch::default();
        let unknown = [0, 9, 0, 1, 5, 0, 7, 0, 0];
        assert_eq!(watch.filter(&unknown), unknown, "what is not known passes");
    }

    #[test]
    fn a_qemu_that_has_loaded_says_so() {
        use ReturnMessage::{Pong, Shut};
        for (messages, fine) in
            [(&[][..], true), (&[Pong(1)], false), (&[Pong(1), Shut(0)], true), (&[Shut(1)], false)]
        {
            let mut watch = Watch::default();
            watch.filter(&bytes(messages));
            assert_eq!(watch.unfinished().is_none(), fine, "{messages:?}");
        }
    }
}
