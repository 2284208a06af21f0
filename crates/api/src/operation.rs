//! One operation of the HTTP contract, with its types. The router, the client and
//! the OpenAPI document are all made of it, so they cannot drift apart.

use std::fmt::Display;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use types::{AttemptId, HostId, PlanId, VmId, VmName};

use crate::body::Nothing;
use crate::path;

/// HTTP methods that the contract uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Reads.
    Get,
    /// Makes, changes, asks.
    Post,
    /// Replaces.
    Put,
    /// Removes.
    Delete,
}

impl Verb {
    /// As it stands in an OpenAPI document.
    pub fn lower(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Put => "put",
            Self::Delete => "delete",
        }
    }

    /// Whether requests of it have a body.
    pub fn has_body(self) -> bool {
        matches!(self, Self::Post | Self::Put)
    }
}

impl From<Verb> for hyper::Method {
    fn from(verb: Verb) -> Self {
        match verb {
            Verb::Get => Self::GET,
            Verb::Post => Self::POST,
            Verb::Put => Self::PUT,
            Verb::Delete => Self::DELETE,
        }
    }
}

/// Whose certificate an operation asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// An administrator's.
    Admin,
    /// A host's.
    Host,
    /// Any of the fleet's.
    Anyone,
    /// None at all.
    Stranger,
}

/// What an operation does, and how its answer travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It changes nothing.
    Read,
    /// It changes something: it takes `dry_run` and `Idempotency-Key`.
    Change,
    /// An agent's: it may always be repeated.
    Agent,
    /// It changes nothing and answers with server-sent events.
    Stream,
}

/// An operation: parameter of the path `P`, body `B`, answer `A`, query `Q`.
#[derive(Debug)]
pub struct Operation<P, B, A, Q = Nothing> {
    /// Its name in the OpenAPI document, unique.
    pub id: &'static str,
    /// The method.
    pub verb: Verb,
    /// The path, with at most one `{…}`.
    pub path: &'static str,
    /// What it does, in a sentence.
    pub summary: &'static str,
    /// Who may ask.
    pub who: Who,
    /// What it does to the fleet.
    pub kind: Kind,
    /// Status of success.
    pub status: u16,
    types: PhantomData<Types<P, B, A, Q>>,
}

/// Nothing is kept, so it goes wherever its operation goes.
type Types<P, B, A, Q> = fn(P, B, Q) -> A;

impl<P, B, A, Q> Clone for Operation<P, B, A, Q> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P, B, A, Q> Copy for Operation<P, B, A, Q> {}

impl<P, B, A, Q> Operation<P, B, A, Q> {
    const fn new(
        (id, verb, path): (&'static str, Verb, &'static str),
        (who, kind): (Who, Kind),
        summary: &'static str,
    ) -> Self {
        Self { id, verb, path, summary, who, kind, status: 200, types: PhantomData }
    }

    /// An administrator reads something.
    pub const fn read(id: &'static str, path: &'static str, summary: &'static str) -> Self {
        Self::new((id, Verb::Get, path), (Who::Admin, Kind::Read), summary)
    }

    /// An administrator changes something.
    pub const fn change(
        id: &'static str,
        verb: Verb,
        path: &'static str,
        summary: &'static str,
    ) -> Self {
        Self::new((id, verb, path), (Who::Admin, Kind::Change), summary)
    }

    /// An agent's.
    pub const fn agent(
        id: &'static str,
        verb: Verb,
        path: &'static str,
        summary: &'static str,
    ) -> Self {
        Self::new((id, verb, path), (Who::Host, Kind::Agent), summary)
    }

    /// An administrator follows events.
    pub const fn stream(id: &'static str, path: &'static str, summary: &'static str) -> Self {
        Self::new((id, Verb::Get, path), (Who::Admin, Kind::Stream), summary)
    }

    /// With another status of success than 200.
    #[must_use]
    pub const fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// A question that is put with a body and changes nothing.
    #[must_use]
    pub const fn only_asks(mut self) -> Self {
        self.kind = Kind::Read;
        self
    }

    /// Open to every certificate of the fleet.
    #[must_use]
    pub const fn for_anyone(mut self) -> Self {
        self.who = Who::Anyone;
        self
    }

    /// Open to those who have no certificate yet.
    #[must_use]
    pub const fn for_strangers(mut self) -> Self {
        self.who = Who::Stranger;
        self
    }

    /// The name of the path's parameter.
    pub fn parameter(&self) -> Option<&'static str> {
        let (_, rest) = self.path.split_once('{')?;
        rest.split_once('}').map(|(name, _)| name)
    }
}

/// The one parameter of a path, or none.
pub trait Parameter: Sized + Send + 'static {
    /// Reads and checks the text that stands in the path.
    ///
    /// # Errors
    /// What is wrong with it.
    fn read(text: Option<&str>) -> Result<Self, String>;

    /// The path with the parameter in it.
    fn fill(&self, template: &str) -> String;

    /// What it looks like; `None` where there is none.
    fn schema(generator: &mut SchemaGenerator) -> Option<Schema>;
}

impl Parameter for () {
    fn read(_: Option<&str>) -> Result<Self, String> {
        Ok(())
    }

    fn fill(&self, template: &str) -> String {
        template.to_owned()
    }

    fn schema(_: &mut SchemaGenerator) -> Option<Schema> {
        None
    }
}

macro_rules! parameter {
    ($($name:ty),*) => {
        $(impl Parameter for $name {
            fn read(text: Option<&str>) -> Result<Self, String> {
                let text = text.unwrap_or_default();
                text.parse().map_err(|e| shown(&e))
            }

            fn fill(&self, template: &str) -> String {
                path::fill(template, self)
            }

            fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
                Some(<$name>::json_schema(generator))
            }
        })*
    };
}

parameter!(VmName, VmId, HostId, AttemptId, PlanId);

fn shown(error: &impl Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameter_is_the_one_of_the_template() {
        let one: Operation<VmName, Nothing, Nothing> = Operation::read("x", path::VM, "");
        assert_eq!(one.parameter(), Some("vm"));
        let none: Operation<(), Nothing, Nothing> = Operation::read("x", path::VMS, "");
        assert_eq!(none.parameter(), None);
        let web01 = VmName::read(Some("web01")).unwrap();
        assert_eq!(web01.fill(one.path), "/v1/vms/web01");
        assert!(VmName::read(Some("a/b")).is_err() && VmName::read(None).is_err());
    }
}
