//! Labs with stand-ins for agents and controllers: real namespaces, links and
//! processes. Each test has a network of its own.

mod support;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use lab::{LabError, LinkState, UpOptions};
use support::{Lab, STANDIN, eventually};
use types::Rate;

#[test]
fn hosts_see_their_own_directory_and_the_pools_only() {
    let lab = Lab::up(201, |_| {});
    fs::write(lab.dir.join("shared/disk"), "common").unwrap();
    fs::write(lab.dir.join("images/kernel"), "given").unwrap();
    let dir = lab.dir.display();
    for (host, other) in [("host-a", "host-b"), ("host-b", "host-a")] {
        let see = |script: &str| lab.output(host, &["sh", "-c", script]);
        assert_eq!(see(&format!("cd {dir} && ls")), "devices\nhosts\nimages\nshared");
        assert_eq!(see(&format!("cd {dir}/hosts && ls")), host);
        assert_eq!(see(&format!("cat {dir}/shared/disk {dir}/images/kernel")), "commongiven");
        assert_eq!(see(&format!("touch {dir}/images/x 2>/dev/null || echo no")), "no");
        assert_eq!(see(&format!("echo {host} >> {dir}/shared/log && echo yes")), "yes");
        assert_eq!(see(&format!("ls {dir}/hosts/{other} 2>/dev/null || echo no")), "no");
        assert_eq!(see("ls /sys/class/net"), "br0\nlo\nuplink");
        assert_eq!(
            see("test -d /sys/fs/cgroup && cat /proc/sys/net/ipv6/conf/all/disable_ipv6"),
            "1"
        );
    }
    assert_eq!(fs::read_to_string(lab.dir.join("shared/log")).unwrap(), "host-a\nhost-b\n");
    // What a host mounts, the outside and the other host do not see.
    let memory = format!("{dir}/hosts/host-a/memory");
    lab.output("host-a", &["mount", "-t", "tmpfs", "tmpfs", &memory]);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&memory), "{mounts}");
    lab.down();
}

#[test]
fn an_agent_that_ends_is_started_again_and_its_children_live_on() {
    let lab = Lab::up(202, |_| {});
    let first = eventually(|| lab::processes(&lab.dir, "host-a").unwrap().agent);
    let other = eventually(|| lab::processes(&lab.dir, "host-b").unwrap().agent).unwrap();
    let first = first.unwrap();
    assert!(first.signal(lab::Signal::KILL).unwrap());
    let second = eventually(|| {
        lab::processes(&lab.dir, "host-a").unwrap().agent.filter(|agent| *agent != first)
    });
    assert!(second.unwrap().alive() && other.alive());
    let log = fs::read_to_string(lab.dir.join("logs/host-a.log")).unwrap();
    assert!(log.contains("host-a: ended by signal 9; starting it again in 100 ms"), "{log}");
    let outside = lab::outside(&lab.dir).unwrap();
    let controller = outside.controller.unwrap();
    assert!(controller.signal(lab::Signal::KILL).unwrap());
    eventually(|| lab::outside(&lab.dir).unwrap().controller.filter(|found| *found != controller))
        .unwrap();
    lab.down();
}

#[test]
fn bytes_pass_between_hosts_are_counted_and_stop_with_the_link() {
    let lab = Lab::up(203, |o| o.link = Some(Rate(200_000_000)));
    let bytes = 20_000_000u64;
    let server = lab.serve("host-b", &lab.address("host-b", 9000));
    let before = lab::counters(&lab.dir, "host-a").unwrap();
    let begun = Instant::now();
    let answer =
        lab.output("host-a", &[STANDIN, "send", &lab.address("host-b", 9000), &bytes.to_string()]);
    let seconds = begun.elapsed().as_secs_f64();
    server.end();
    assert_eq!(answer, bytes.to_string());
    let after = lab::counters(&lab.dir, "host-a").unwrap();
    let (sent, packets) = (after.tx_bytes - before.tx_bytes, after.tx_packets - before.tx_packets);
    // Ethernet, IP and TCP with time stamps: 66 bytes a packet.
    let payload = sent - 66 * packets;
    assert!(payload.abs_diff(bytes) < bytes / 100, "{payload} of {sent} in {packets} packets");
    assert!(after.rx_bytes > before.rx_bytes);
    // 20 MB at 200 Mbit/s take 0.8 s; the bucket makes up for a part of it.
    assert!((0.7..1.5).contains(&seconds), "{seconds} s");

    lab::link(&lab.dir, "host-b", LinkState::Down).unwrap();
    let connect = || {
        let address = lab.address("host-b", 9000).parse().unwrap();
        std::net::TcpStream::connect_timeout(&address, Duration::from_millis(300)).map(|_| ())
    };
    assert_eq!(connect().unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(lab::status(&lab.dir).unwrap().hosts[1].link_up, Some(false));
    lab::link(&lab.dir, "host-b", LinkState::Up).unwrap();
    let refused = eventually(|| {
        connect().err().filter(|e| e.kind() == std::io::ErrorKind::ConnectionRefused)
    });
    assert!(refused.is_some(), "reachable again, and nobody listens");
    lab.down();
}

#[test]
fn the_proxy_stands_before_a_host_s_carriers() {
    let lab = Lab::up(204, |_| {});
    let server = lab.serve("host-b", "0.0.0.0:16003");
    let proxy = lab::Proxy::of(&lab.dir).unwrap();
    let answer = lab.output("host-a", &[STANDIN, "send", "10.204.0.112:16003", "1000000"]);
    assert_eq!(answer, "1000000");
    server.end();
    let front = proxy.status().unwrap().remove(1);
    assert_eq!((front.host.as_str(), front.accepted), ("host-b", 1));
    assert_eq!((front.to_host_bytes, front.from_host_bytes), (1_000_000, 7));
    let text = lab::status(&lab.dir).unwrap().to_string();
    assert!(text.contains("host-b") && text.contains("passes"), "{text}");
    lab.down();
}

#[test]
fn a_second_lab_is_refused_where_it_would_collide() {
    let lab = Lab::up(205, |o| o.proxy = false);
    assert!(matches!(lab::Proxy::of(&lab.dir), Err(LabError::Proxy(_))));
    let again = lab::up(&support::options(&lab.dir, 205)).unwrap_err();
    assert!(matches!(again, LabError::AlreadyUp { .. }), "{again}");
    let elsewhere = support::new_dir();
    let collision = lab::up(&support::options(&elsewhere, 205)).unwrap_err();
    let text = collision.to_string();
    assert!(text.contains("10.205.0.0/16 is in use: gw-lab205 has 10.205.0.1/16"), "{text}");
    lab::down(&elsewhere).unwrap();
    assert!(!elsewhere.exists());
    lab.down();
}

#[test]
fn a_lab_that_cannot_come_up_leaves_nothing() {
    let dir = support::new_dir();
    let options = UpOptions { godwit: "/bin/false".into(), ..support::options(&dir, 206) };
    let error = lab::up(&options).unwrap_err().to_string();
    assert!(error.contains("/bin/false lab-host for controller"), "{error}");
    support::nothing_left(&dir, 206);
    lab::down(&dir).unwrap();
}

#[test]
fn down_finds_everything_after_a_crash() {
    let lab = Lab::up(207, |_| {});
    // Something like a QEMU that was cut off from all that started it.
    let script = "setsid env -i sleep 1000 >/dev/null 2>&1 & setsid sleep 1001 >/dev/null 2>&1 & echo started";
    assert_eq!(lab.output("host-b", &["sh", "-c", script]), "started");
    // Groups of VMs: of one that runs, and of one whose agent did not clean up.
    let groups = support::groups(&lab, ["11", "22"]);
    let join = format!(
        "setsid env -i sleep 1002 >/dev/null 2>&1 & echo $! > {}",
        groups[0].join("cgroup.procs").display()
    );
    lab.output("host-a", &["sh", "-c", &join]);
    let memory = lab.dir.join("hosts/host-a/memory");
    lab.output("host-a", &["mount", "-t", "tmpfs", "tmpfs", memory.to_str().unwrap()]);
    let orphans = eventually(|| {
        let others = lab::processes(&lab.dir, "host-b").unwrap().others;
        (others.len() == 2).then_some(others)
    })
    .unwrap();
    let status = lab::status(&lab.dir).unwrap();
    let mut supervisors = status.outside.supervisors.clone();
    supervisors.extend(status.hosts.iter().filter_map(|h| h.processes.supervisor));
    assert_eq!(supervisors.len(), 4);
    for supervisor in &supervisors {
        assert!(supervisor.signal(lab::Signal::KILL).unwrap());
    }
    let agent = status.hosts[0].processes.agent.unwrap();
    assert!(agent.alive() && orphans.iter().all(|o| o.alive()));
    lab::down(&lab.dir).unwrap();
    assert!(!agent.alive() && orphans.iter().all(|o| !o.alive()));
    assert!(groups.iter().all(|group| !group.exists()), "{groups:?}");
    lab.down();
}

#[test]
fn down_finds_everything_wherever_up_was_killed() {
    let begun = Instant::now();
    let dir = support::new_dir();
    let up = || {
        let mut command = Command::new(STANDIN);
        command.args(["up", dir.to_str().unwrap(), "208", ""]);
        command
    };
    assert!(up().status().unwrap().success());
    let whole = begun.elapsed();
    lab::down(&dir).unwrap();
    support::nothing_left(&dir, 208);
    for part in 1..=12 {
        let mut child = up().spawn().unwrap();
        std::thread::sleep(whole * part / 12);
        child.kill().unwrap();
        child.wait().unwrap();
        lab::down(&dir).unwrap();
        support::nothing_left(&dir, 208);
    }
}
