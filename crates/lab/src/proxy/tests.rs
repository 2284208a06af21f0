//! The proxy over loopback addresses: every fault, seen from both ends.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::{Config, Front, Proxy, run};

const HOST: &str = "host-a";

/// A proxy on a thread of its own before one listener.
struct Bench {
    proxy: Proxy,
    address: SocketAddr,
    listener: TcpListener,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        // The proxy uses the same port on another loopback address.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let listen = Ipv4Addr::new(127, 77, 0, 1);
        let dir = tempfile::tempdir().unwrap();
        let control = dir.path().join("proxy.sock");
        let front = Front {
            host: HOST.parse().unwrap(),
            listen,
            target: Ipv4Addr::LOCALHOST,
            ports: (port, port),
        };
        let config = Config { control: control.clone(), hosts: vec![front] };
        std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(run(config))
                .unwrap();
        });
        let bench =
            Self { proxy: Proxy::at(control), address: (listen, port).into(), listener, _dir: dir };
        bench.until(|_| true);
        bench
    }

    /// Waits until the proxy's status is so.
    fn until(&self, right: impl Fn(&super::FrontStatus) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let status = self.proxy.status();
            if status.as_ref().is_ok_and(|fronts| right(&fronts[0])) {
                return;
            }
            assert!(Instant::now() < deadline, "{status:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Both ends of one connection through the proxy.
    fn connect(&self) -> (TcpStream, TcpStream) {
        let deadline = Instant::now() + Duration::from_secs(10);
        let near = loop {
            match TcpStream::connect(self.address) {
                Ok(stream) => break stream,
                Err(e) => assert!(Instant::now() < deadline, "{e}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let (far, _) = self.listener.accept().unwrap();
        for end in [&near, &far] {
            end.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            end.set_nodelay(true).unwrap();
        }
        (near, far)
    }
}

/// Sends a word and reads it at the other end; how long it took.
fn pass(from: &mut TcpStream, to: &mut TcpStream, word: &[u8]) -> Duration {
    let begun = Instant::now();
    from.write_all(word).unwrap();
    let mut read = vec![0; word.len()];
    to.read_exact(&mut read).unwrap();
    assert_eq!(read, word);
    begun.elapsed()
}

#[test]
fn bytes_and_ends_pass_in_both_directions() {
    let bench = Bench::new();
    let (mut near, mut far) = bench.connect();
    pass(&mut near, &mut far, b"there");
    pass(&mut far, &mut near, b"and back");
    near.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(far.read(&mut [0; 8]).unwrap(), 0, "the end arrives");
    pass(&mut far, &mut near, b"still");
    drop(far);
    assert_eq!(near.read(&mut [0; 8]).unwrap(), 0);
    bench.until(|s| (s.accepted, s.open, s.to_host_bytes, s.from_host_bytes) == (1, 0, 5, 13));
}

#[test]
fn much_passes_unchanged_and_in_order_whatever_the_delay() {
    let bench = Bench::new();
    let (mut near, mut far) = bench.connect();
    let sent: Vec<u8> = (0..8_000_000u32).map(|n| ((n / 7) ^ (n >> 13)) as u8).collect();
    let data = sent.clone();
    let sender = std::thread::spawn(move || {
        near.write_all(&data).unwrap();
        near
    });
    let mut read = vec![0; sent.len()];
    let (first, rest) = read.split_at_mut(1_000_000);
    far.read_exact(first).unwrap();
    bench.proxy.delay(HOST, Duration::from_millis(20)).unwrap();
    let (second, third) = rest.split_at_mut(1_000_000);
    far.read_exact(second).unwrap();
    bench.proxy.delay(HOST, Duration::ZERO).unwrap();
    far.read_exact(third).unwrap();
    assert!(read == sent);
    sender.join().unwrap();
}

#[test]
fn a_delay_is_added_to_each_direction_and_taken_away() {
    let bench = Bench::new();
    let (mut near, mut far) = bench.connect();
    let delay = Duration::from_millis(120);
    bench.proxy.delay(HOST, delay).unwrap();
    assert!(pass(&mut near, &mut far, b"slow") >= delay);
    assert!(pass(&mut far, &mut near, b"slow too") >= delay);
    bench.proxy.restore(HOST).unwrap();
    assert!(pass(&mut near, &mut far, b"prompt") < delay);
}

#[test]
fn a_cut_holds_everything_back_until_it_is_restored() {
    let bench = Bench::new();
    let (mut near, mut far) = bench.connect();
    pass(&mut near, &mut far, b"before");
    bench.proxy.cut(HOST).unwrap();
    near.write_all(b"during").unwrap();
    // A connection made during the cut waits as well.
    let mut late = TcpStream::connect(bench.address).unwrap();
    late.write_all(b"late").unwrap();
    far.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
    let held = far.read(&mut [0; 8]).unwrap_err();
    assert!(matches!(held.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{held}");
    bench.proxy.restore(HOST).unwrap();
    far.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut read = [0; 6];
    far.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"during");
    let (mut other, _) = bench.listener.accept().unwrap();
    let mut read = [0; 4];
    other.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"late");
}

#[test]
fn what_waits_in_a_cut_is_bounded() {
    let bench = Bench::new();
    let (near, _far) = bench.connect();
    bench.proxy.cut(HOST).unwrap();
    near.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let (mut near, mut written) = (near, 0usize);
    let piece = vec![0; 1 << 16];
    while let Ok(count) = near.write(&piece) {
        written += count;
        assert!(written < 32 << 20, "more than kernel and proxy may hold");
    }
}

#[test]
fn a_reset_is_seen_as_one_at_both_ends_and_new_connections_work() {
    let bench = Bench::new();
    let (mut near, mut far) = bench.connect();
    pass(&mut near, &mut far, b"before");
    bench.proxy.reset(HOST).unwrap();
    for end in [&mut near, &mut far] {
        assert_eq!(end.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    let (mut near, mut far) = bench.connect();
    pass(&mut near, &mut far, b"after");
    bench.until(|s| (s.resets, s.accepted, s.open) == (1, 2, 1));
    // An end that resets is passed on as a reset, not as an orderly end.
    rustix::net::sockopt::set_socket_linger(&far, Some(Duration::ZERO)).unwrap();
    drop(far);
    assert_eq!(near.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn refusal_is_for_new_connections_only() {
    let bench = Bench::new();
    let (mut near, mut far) = bench.connect();
    bench.proxy.refuse(HOST).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match TcpStream::connect(bench.address) {
            Err(e) if e.kind() == ErrorKind::ConnectionRefused => break,
            // Accepted by the kernel before the proxy let go of the port.
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
    }
    pass(&mut near, &mut far, b"old ones stay");
    bench.proxy.restore(HOST).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(bench.address).is_err() {
        assert!(Instant::now() < deadline, "listens again");
    }
}

#[test]
fn a_wrong_command_is_answered_and_does_no_harm() {
    let bench = Bench::new();
    let error = bench.proxy.cut("host-z").unwrap_err().to_string();
    assert!(error.contains("host-z") && error.contains(HOST), "{error}");
    let gone = Proxy::at("/no/such/socket".into()).status().unwrap_err().to_string();
    assert!(gone.contains("/no/such/socket"), "{gone}");
    let (mut near, mut far) = bench.connect();
    pass(&mut near, &mut far, b"works");
}
