//! What is typed, and the key that ends the session.

use std::io::{self, Read};
use std::thread;

use tokio::sync::mpsc;

/// Pieces read and not yet sent.
const PIECES: usize = 16;
/// Largest piece in bytes.
const PIECE: usize = 4096;

/// The key that ends the session, as the byte it makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Escape(Option<u8>);

impl Escape {
    /// Its name, such as `Ctrl-]`.
    pub(super) fn name(self) -> Option<String> {
        self.0.map(|byte| format!("Ctrl-{}", char::from(byte ^ 0x40)))
    }
}

/// Reads `^]`, `^A` or `none`.
pub(super) fn escape(text: &str) -> Result<Escape, String> {
    match text.as_bytes() {
        b"none" => Ok(Escape(None)),
        [b'^', key] if (b'@'..=b'_').contains(&key.to_ascii_uppercase()) => {
            Ok(Escape(Some(key.to_ascii_uppercase() ^ 0x40)))
        }
        _ => Err("write ^ and a letter or one of @[\\]^_, such as ^], or none".to_owned()),
    }
}

/// What comes from the keyboard.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    Bytes(Vec<u8>),
    Escape,
}

/// Standard input, read by a thread of its own: a read of a terminal cannot be
/// given up.
#[derive(Debug)]
pub(super) struct Keyboard(mpsc::Receiver<Typed>);

impl Keyboard {
    /// Nothing is ever typed, and it does not end.
    pub(super) fn none() -> Option<Self> {
        None
    }

    /// Begins to read.
    pub(super) fn start(escape: Option<Escape>) -> Option<Self> {
        let (sender, receiver) = mpsc::channel(PIECES);
        thread::spawn(move || read(io::stdin().lock(), escape, &sender));
        Some(Self(receiver))
    }

    /// The next piece; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Typed> {
        self.0.recv().await
    }
}

fn read(mut from: impl Read, escape: Option<Escape>, to: &mpsc::Sender<Typed>) {
    let mut buffer = [0; PIECE];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        for typed in pieces(&buffer[..read], escape) {
            if to.blocking_send(typed).is_err() {
                return;
            }
        }
    }
}

/// What was read, up to the key that ends the session.
fn pieces(bytes: &[u8], escape: Option<Escape>) -> Vec<Typed> {
    let key = escape.and_then(|escape| escape.0);
    let at = bytes.iter().position(|byte| Some(*byte) == key);
    let before = &bytes[..at.unwrap_or(bytes.len())];
    let before = (!before.is_empty()).then(|| Typed::Bytes(before.to_vec()));
    before.into_iter().chain(at.map(|_| Typed::Escape)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_people_write_them() {
        for (text, byte, name) in
            [("^]", 0x1d, "Ctrl-]"), ("^a", 1, "Ctrl-A"), ("^A", 1, "Ctrl-A"), ("^@", 0, "Ctrl-@")]
        {
            let read = escape(text).unwrap();
            assert_eq!((read, read.name().unwrap().as_str()), (Escape(Some(byte)), name));
        }
        assert_eq!(escape("none").unwrap(), Escape(None));
        for bad in ["", "^", "a", "^]x", "^1", "^é"] {
            assert!(escape(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_key_ends_what_is_typed() {
        let key = Some(escape("^]").unwrap());
        let text = |text: &str| Typed::Bytes(text.into());
        assert_eq!(pieces(b"ls\n", key), [text("ls\n")]);
        assert_eq!(pieces(b"ls\x1dexit\n", key), [text("ls"), Typed::Escape]);
        assert_eq!(pieces(b"\x1d", key), [Typed::Escape]);
        assert_eq!(pieces(b"\x1d", None), [text("\x1d")]);
    }
}
