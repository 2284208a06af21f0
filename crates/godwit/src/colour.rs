//! Colours: on a terminal only, and never against the user's wish.

use std::io::IsTerminal;

/// What a colour says, rather than which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Tone {
    /// Nothing special.
    #[default]
    Plain,
    /// A heading.
    Heading,
    /// As it should be.
    Good,
    /// Worth a look.
    Odd,
    /// Wrong.
    Bad,
}

impl Tone {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Heading => Some("1"),
            Self::Good => Some("32"),
            Self::Odd => Some("33"),
            Self::Bad => Some("1;31"),
        }
    }

    /// The text in this tone, if colours are `on`.
    pub(crate) fn paint(self, text: &str, on: bool) -> String {
        match self.code() {
            Some(code) if on && !text.is_empty() => format!("\x1b[{code}m{text}\x1b[0m"),
            _ => text.to_owned(),
        }
    }
}

/// Whether what is written to `stream` may be coloured: a terminal that is not
/// `dumb`, and no `NO_COLOR` (<https://no-color.org>).
pub(crate) fn wanted(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && allowed(std::env::var_os("NO_COLOR"), std::env::var_os("TERM"))
}

fn allowed(no_color: Option<std::ffi::OsString>, term: Option<std::ffi::OsString>) -> bool {
    no_color.is_none_or(|value| value.is_empty()) && term.is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_a_wish_that_can_be_declined() {
        let some = |text: &str| Some(text.into());
        assert!(allowed(None, some("xterm")) && allowed(some(""), None));
        assert!(!allowed(some("1"), some("xterm")) && !allowed(None, some("dumb")));
        assert_eq!(Tone::Good.paint("up", true), "\x1b[32mup\x1b[0m");
        assert_eq!(Tone::Good.paint("up", false), "up");
        assert_eq!(Tone::Plain.paint("up", true), "up");
    }
}
