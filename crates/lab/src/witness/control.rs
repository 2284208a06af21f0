//! The client of a guest's control protocol.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Longest answer in bytes.
const ANSWER: u64 = 4096;

/// A connection to a guest's port [`guest::CONTROL_PORT`].
#[derive(Debug)]
pub struct Control {
    stream: BufReader<TcpStream>,
}

impl Control {
    /// Connects; each answer must come within `limit`, too.
    ///
    /// # Errors
    /// No connection within `limit`.
    pub fn connect(address: SocketAddr, limit: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Asks and returns what stands behind `ok`.
    ///
    /// # Errors
    /// The guest says otherwise (the error says what), or no answer comes.
    pub fn ask(&mut self, request: &str) -> io::Result<String> {
        if request.contains(['\n', '\r']) {
            return Err(io::Error::other("a request is one line"));
        }
        self.stream.get_mut().write_all(format!("{request}\n").as_bytes())?;
        let mut line = Vec::new();
        self.stream.by_ref().take(ANSWER).read_until(b'\n', &mut line)?;
        let line = String::from_utf8_lossy(&line);
        match line.trim_end().split_once(' ').unwrap_or((line.trim_end(), "")) {
            ("ok", rest) => Ok(rest.to_owned()),
            _ if line.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Err(io::Error::other(format!("the guest says: {}", line.trim_end()))),
        }
    }

    /// The guest's state (`docs/guests.md` lists the keys).
    ///
    /// # Errors
    /// As for [`Control::ask`].
    pub fn status(&mut self) -> io::Result<BTreeMap<String, String>> {
        self.pairs("status")
    }

    /// Lets the guest check its memory; returns the number of pages that it
    /// checked.
    ///
    /// # Errors
    /// As for [`Control::ask`]; the guest tells a page that is wrong.
    pub fn verify(&mut self) -> io::Result<u64> {
        let pairs = self.pairs("verify")?;
        Ok(number(&pairs, "fill_pages")? + number(&pairs, "dirty_pages")?)
    }

    /// Counter of the last block that the disk acknowledged.
    ///
    /// # Errors
    /// As for [`Control::ask`].
    pub fn acknowledged(&mut self) -> io::Result<u32> {
        self.acknowledged_by(0)
    }

    /// The same of the disk of a number, from 0.
    ///
    /// # Errors
    /// As for [`Control::ask`].
    pub fn acknowledged_by(&mut self, disk: usize) -> io::Result<u32> {
        let count = number(&self.pairs(&format!("disk {disk}"))?, "acknowledged")?;
        u32::try_from(count).map_err(io::Error::other)
    }

    /// What machine the guest finds itself in.
    ///
    /// # Errors
    /// As for [`Control::ask`].
    pub fn machine(&mut self) -> io::Result<BTreeMap<String, String>> {
        self.pairs("machine")
    }

    fn pairs(&mut self, request: &str) -> io::Result<BTreeMap<String, String>> {
        let answer = self.ask(request)?;
        let pairs = answer.split_whitespace().filter_map(|p| p.split_once('='));
        Ok(pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
    }
}

fn number(pairs: &BTreeMap<String, String>, key: &str) -> io::Result<u64> {
    let value = pairs.get(key).and_then(|v| v.parse().ok());
    value.ok_or_else(|| io::Error::other(format!("the guest's answer has no {key}")))
}

/// How long it takes until the guest answers on a new connection; `None`: not
/// within `limit`. Each try is short, so that what the kernel waits between two
/// of its own does not blur the result.
pub fn first_answer(address: SocketAddr, limit: Duration) -> Option<Duration> {
    let started = Instant::now();
    while started.elapsed() < limit {
        let tried = Instant::now();
        let answer = Control::connect(address, Duration::from_millis(100))
            .and_then(|mut control| control.ask("echo"));
        if answer.is_ok() {
            return Some(started.elapsed());
        }
        // A refusal comes at once; it must not become a flood.
        std::thread::sleep(Duration::from_millis(10).saturating_sub(tried.elapsed()));
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// A guest that gives these answers, one after the other.
    fn guest(answers: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut requests = BufReader::new(stream.try_clone().unwrap()).lines();
            for answer in answers {
                requests.next().unwrap().unwrap();
                (&stream).write_all(answer.as_bytes()).unwrap();
            }
        });
        address
    }

    #[test]
    fn answers_are_read() {
        let address = guest(&[
            "ok uptime_ms=5 disk=7\n",
            "ok fill_pages=3 dirty_pages=4\n",
            "ok acknowledged=9 hash=0\n",
            "ok\n",
        ]);
        let mut control = Control::connect(address, LIMIT).unwrap();
        assert_eq!(control.status().unwrap()["disk"], "7");
        assert_eq!(control.verify().unwrap(), 7);
        assert_eq!(control.acknowledged().unwrap(), 9);
        assert_eq!(control.ask("echo").unwrap(), "");
        assert_eq!(control.ask("echo").unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_not_ok_is_an_error_that_tells() {
        let address = guest(&["bad fill page 3\n", "ok something=1\n"]);
        let mut control = Control::connect(address, LIMIT).unwrap();
        assert!(control.verify().unwrap_err().to_string().contains("bad fill page 3"));
        assert!(control.acknowledged().unwrap_err().to_string().contains("no acknowledged"));
        assert!(control.ask("a\nb").is_err());
    }

    #[test]
    fn the_first_answer_is_waited_for() {
        assert!(first_answer(guest(&["ok\n"]), LIMIT).is_some());
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(first_answer(nobody, Duration::from_millis(50)), None);
    }
}
