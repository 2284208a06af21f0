//! Which links of a session may begin: the destination's side of a resume.

use crate::HelloError;

/// The secret that a hello of some link must prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secret {
    /// The attempt's, from the controller's record: begins the session, once.
    Attempt,
    /// The session's, which only the two carriers know.
    Session,
}

/// Admits links: the attempt's secret begins the session and is of no use
/// afterwards; each later link is newer than all before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entrance {
    newest: Option<u32>,
    heard: bool,
}

impl Entrance {
    /// Nobody has come yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the hello of link `link` must prove.
    pub fn secret(link: u32) -> Secret {
        if link == 0 { Secret::Attempt } else { Secret::Session }
    }

    /// Whether link `link` may begin, now that its hello is proved.
    ///
    /// # Errors
    /// It is not newer than the present one, or begins a session that has begun.
    pub fn check(&self, link: u32) -> Result<(), HelloError> {
        let fine = match self.newest {
            // The other side may not have had our answer: as long as it has said
            // nothing, it may begin again.
            _ if link == 0 => !self.heard,
            Some(newest) => link > newest,
            None => false,
        };
        if fine { Ok(()) } else { Err(HelloError::Link(link)) }
    }

    /// All connections of link `link` are there: it is the present one.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn admit(&mut self, link: u32) -> Result<(), HelloError> {
        self.check(link)?;
        self.newest = Some(link);
        Ok(())
    }

    /// A frame has come: the other side knows the session's secret.
    pub fn heard(&mut self) {
        self.heard = self.newest.is_some();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_may_begin_again_until_it_was_heard() {
        let mut entrance = Entrance::new();
        assert_eq!(entrance.admit(1), Err(HelloError::Link(1)), "there is no session");
        entrance.admit(0).unwrap();
        entrance.admit(0).unwrap();
        entrance.heard();
        assert_eq!(entrance.admit(0), Err(HelloError::Link(0)));
        entrance.admit(1).unwrap();
        assert_eq!(entrance.admit(1), Err(HelloError::Link(1)));
        entrance.admit(7).unwrap();
        assert_eq!(entrance.admit(3), Err(HelloError::Link(3)));
    }

    proptest! {
        /// Once something was heard, the attempt's secret admits nobody, and links only rise.
        #[test]
        fn links_rise(steps in proptest::collection::vec((any::<bool>(), 0u32..6), 1..60)) {
            let mut entrance = Entrance::new();
            let (mut heard, mut newest) = (false, None);
            for (hear, link) in steps {
                if hear {
                    entrance.heard();
                    heard = newest.is_some();
                } else if entrance.admit(link).is_ok() {
                    prop_assert!(!(heard && Entrance::secret(link) == Secret::Attempt));
                    prop_assert!(newest.is_none_or(|n| link > n || link == 0));
                    newest = Some(link);
                }
            }
        }
    }
}
