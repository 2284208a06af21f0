//! What is asked of a store and what it answers.

use crate::{MAX_KEY, MAX_RANGE, MAX_TRANSACTION, MAX_VALUE, StoreError};

/// Number of a committed transaction; rises by one with each.
pub type Revision = u64;

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// Revision of its last change.
    pub revision: Revision,
}

/// Keys that begin with a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// What they begin with.
    pub prefix: Vec<u8>,
    /// Only keys greater than this one.
    pub after: Option<Vec<u8>>,
    /// At most so many entries; [`MAX_RANGE`] bounds it too.
    pub limit: usize,
}

impl Range {
    /// The first entries with a prefix, as many as a range may give.
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> Self {
        Self { prefix: prefix.into(), after: None, limit: MAX_RANGE }
    }

    /// The key to begin at, and whether an entry with exactly that key counts.
    pub(crate) fn start(&self) -> (&[u8], bool) {
        match &self.after {
            Some(after) if *after >= self.prefix => (after, false),
            _ => (&self.prefix, true),
        }
    }

    pub(crate) fn bound(&self) -> usize {
        self.limit.min(MAX_RANGE)
    }
}

/// What must hold for a transaction to take effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The key.
    pub key: Vec<u8>,
    /// The revision of its last change; `None`: there is no such key.
    pub revision: Option<Revision>,
}

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Sets the value.
    Put {
        /// The key.
        key: Vec<u8>,
        /// Its value from now on.
        value: Vec<u8>,
    },
    /// Removes the key, if it is there.
    Delete {
        /// The key.
        key: Vec<u8>,
    },
}

impl Change {
    /// The key that it changes.
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// Changes under conditions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// Then all are made, in this order.
    pub changes: Vec<Change>,
}

impl Transaction {
    /// Adds a condition: the key is as it was read.
    pub fn expect(&mut self, key: impl Into<Vec<u8>>, read: Option<&Entry>) {
        let revision = read.map(|entry| entry.revision);
        self.conditions.push(Condition { key: key.into(), revision });
    }

    /// Adds a put.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changes.push(Change::Put { key: key.into(), value: value.into() });
    }

    /// Adds a delete.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.changes.push(Change::Delete { key: key.into() });
    }

    /// Checks the sizes.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let count = self.conditions.len().max(self.changes.len());
        if count > MAX_TRANSACTION {
            return Err(StoreError::TooLarge {
                what: "transaction",
                is: count,
                max: MAX_TRANSACTION,
            });
        }
        let keys = self.conditions.iter().map(|c| c.key.as_slice());
        for key in keys.chain(self.changes.iter().map(Change::key)) {
            if key.len() > MAX_KEY {
                return Err(StoreError::TooLarge { what: "key", is: key.len(), max: MAX_KEY });
            }
        }
        for change in &self.changes {
            if let Change::Put { value, .. } = change
                && value.len() > MAX_VALUE
            {
                let is = value.len();
                return Err(StoreError::TooLarge { what: "value", is, max: MAX_VALUE });
            }
        }
        Ok(())
    }
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Commit {
    /// It took effect as this revision.
    Done(Revision),
    /// A condition did not hold; nothing was changed.
    Conflict {
        /// The key of the first such condition.
        key: Vec<u8>,
        /// The revision the key has now.
        revision: Option<Revision>,
    },
}

/// What somebody who watches learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// Keys changed.
    Changed {
        /// The revision to go on watching from.
        revision: Revision,
        /// The keys, each once, in their order.
        keys: Vec<Vec<u8>>,
    },
    /// What changed since then is no longer known, or the revision is not of this
    /// store: read everything again.
    Compacted {
        /// The revision to go on watching from, once everything was read.
        revision: Revision,
    },
}
