//! Wrong files, wrong flags and hostile names: each is told with its place, within
//! bounds, and nothing is asked of the controller.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use crate::fake::{Ended, Fake, Script};
use tempfile::TempDir;

/// A message repeats at most so much of what was wrong, in bytes.
const BOUND: usize = 4096;

struct Rig {
    fake: Fake,
    dir: TempDir,
}

impl Rig {
    async fn new() -> Self {
        Self { fake: Fake::start(Script::default()).await, dir: TempDir::new().unwrap() }
    }

    /// Runs `godwit` with words that need not be words to a shell, and checks what
    /// holds of every refusal.
    async fn refused(&self, words: &[&str], told: &[&str]) {
        let mut command = self.fake.command("");
        command.args(words).current_dir(self.dir.path());
        let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
        let shown: Vec<String> = words.iter().map(|w| w.chars().take(60).collect()).collect();
        let ended = Ended::of(output.unwrap_or_else(|_| panic!("{shown:?} does not end")).unwrap());
        assert_eq!((ended.exit, ended.stdout.as_str()), (2, ""), "{shown:?}: {ended:?}");
        for part in told {
            assert!(ended.stderr.contains(part), "{shown:?}: {part} is not in {ended:?}");
        }
        assert!(ended.stderr.len() < BOUND, "{shown:?}: {} bytes", ended.stderr.len());
        let orders = |c: char| c.is_control() && c != '\n';
        assert!(!ended.stderr.contains(orders), "{shown:?}: {ended:?}");
        assert!(!ended.stderr.contains("panicked"), "{shown:?}: {ended:?}");
        assert_eq!(self.fake.script().asked, 0, "{shown:?}");
    }

    fn write(&self, text: impl AsRef<[u8]>) {
        std::fs::write(self.dir.path().join("file"), text).unwrap();
    }
}

fn long() -> String {
    "x".repeat(10_000)
}

#[tokio::test]
async fn wrong_specs() {
    let rig = Rig::new().await;
    let spec = |more: &str| format!("name = \"a\"\nmemory = \"2MiB\"\n{more}\n");
    let named = |name: &str| format!("# a VM\nname = \"{name}\"\nmemory = \"2MiB\"\n");
    let cases: &[(String, &[&str])] = &[
        (named("a/b"), &["file: line 2: name:", "a/b", "1 to 63"]),
        (named("a,b"), &["line 2: name:"]),
        (named("a\\nb"), &["line 2: name:"]),
        (named("\\u001b[31m"), &["line 2: name:"]),
        (named("../a"), &["line 2: name:"]),
        (named(""), &["line 2: name:"]),
        (named(&long()), &["line 2: name:", "1 to 63"]),
        (spec("memroy = 1"), &["line 3:", "unknown field `memroy`"]),
        (spec("vcpus = \"two\""), &["line 3: vcpus:", "two"]),
        (spec("vcpus = -1"), &["line 3: vcpus:"]),
        (spec("vcpus = 256"), &["line 3: vcpus: must be 1 to 255"]),
        (spec("vcpus = 99999999999999999999"), &["line 3"]),
        (spec("memory = \"4MiB\""), &["line 3", "duplicate key"]),
        (
            spec("[[disks]]\npool = \"p\"\nfile = \"a/b\"\nformat = \"raw\""),
            &["line 5: disks[0].file:", "a/b"],
        ),
        (spec("[[disks]]\npool = \"p\"\nfile = \"b\""), &["line 3: disks[0]:", "`format`"]),
        (spec("[[nics]]\nbridge = \"b\"\nmac = \"01:00:5e:00:00:01\""), &["line 5: nics[0].mac:"]),
        (spec("[labels]\n\"a b\" = \"\""), &["line 3: labels:"]),
        (spec("name ="), &["line 3"]),
        (spec(&format!("x = {}", "[".repeat(100_000))), &["line 3"]),
        (spec(&format!("{} = 1", long())), &["line 3:", "unknown field"]),
        (spec(&format!("tier = \"{}\"", long())), &["line 3: tier:"]),
        (spec(&format!("cpu_model = \"{}\"", long())), &["line 3: cpu_model:"]),
        ("{\"name\": \"a\"}".to_owned(), &["line 1"]),
        ("memory = \"2MiB\"".to_owned(), &["line 1:", "missing field `name`"]),
        (String::new(), &["missing field `name`"]),
    ];
    for (text, told) in cases {
        rig.write(text);
        rig.refused(&["vm", "create", "-f", "file"], told).await;
    }
    rig.write(b"name = \"\xff\"");
    rig.refused(&["vm", "create", "-f", "file"], &["file: ", "UTF-8", "help:"]).await;
}

#[tokio::test]
async fn files_that_are_too_large_or_endless_are_not_read() {
    let rig = Rig::new().await;
    File::create(rig.dir.path().join("large")).unwrap().set_len(100 << 20).unwrap();
    for file in ["large", "/dev/zero"] {
        let told = format!("{file}: it is larger than 1 MiB");
        for command in
            [&["vm", "create", "-f"][..], &["agent", "--config"], &["controller", "--config"]]
        {
            rig.refused(&[command, &[file]].concat(), &[&told]).await;
        }
    }
    // Half a gibibyte would be read of it otherwise.
    rig.refused(&["simulate", "-f", "/dev/zero"], &["it is larger than 256 MiB"]).await;
    for file in ["none", "."] {
        assert!(Path::new(file) != rig.dir.path());
        rig.refused(&["vm", "create", "-f", file], &[&format!("{file}: "), "help:"]).await;
        rig.refused(&["agent", "--config", file], &[&format!("{file}: ")]).await;
    }
}

#[tokio::test]
async fn wrong_configurations_and_fleets() {
    let rig = Rig::new().await;
    for (command, text, told) in [
        ("agent", "host = \"a/b\"", &["line 1: host:"][..]),
        ("agent", "host = \"a\"\nhsot = 1", &["line 2:", "`hsot`"]),
        ("agent", "host = \"a\"\ncarrier_ports = 3", &["line 2: carrier_ports:"]),
        ("agent", "host = \"a", &["line 1:"]),
        ("controller", "listen = \"here\"", &["line 1: listen:"]),
        ("controller", "listen = \"127.0.0.1:1\"\nstoer = 1", &["line 2:", "`stoer`"]),
        ("controller", "", &["missing field `listen`"]),
    ] {
        rig.write(text);
        rig.refused(&[command, "--config", "file"], told).await;
    }
    let agent = "address = \"a\"\ncarrier_ports = [9, 3]\ncontroller = \"https://c\"\nca = \"\"\n\
                 cert = \"\"\nkey = \"\"\nstate_dir = \"\"\nrun_dir = \"\"\nmemory_dir = \"\"\n\
                 memory_size = 1\nqemu = \"\"\nhost = \"a\"\n";
    rig.write(agent);
    rig.refused(&["agent", "--config", "file"], &["file: line 2: carrier_ports: must be"]).await;
    let deep = "[".repeat(100_000);
    for (text, told) in [
        ("{\"hosts\": [\n{\"name\": \"a/b\"", &["hosts[0].name:", "line 2 column"][..]),
        (
            "{\"hosts\": [{\"name\": \"a\", \"capacity\": {\"memory\": -1}}]}",
            &["hosts[0].capacity.memory:", "line 1 column"],
        ),
        ("{\"hosts\": [], \"vmz\": 1}", &["`vmz`", "line 1 column"]),
        ("{\"hosts\": []} {}", &["trailing characters at line 1 column 15"]),
        ("{\"hosts\": [", &["EOF"]),
        (&deep, &["line 1 column"]),
        ("nonsense", &["line 1 column"]),
    ] {
        rig.write(text);
        rig.refused(&["simulate", "-f", "file"], told).await;
    }
}

#[tokio::test]
async fn wrong_words() {
    let rig = Rig::new().await;
    let long = long();
    for name in ["a/b", "a,b", "a\nb", "", "a b", "../../etc", "\u{1b}[31m", "ä", long.as_str()] {
        rig.refused(&["vm", "show", name], &["<VM>", "1 to 63 letters"]).await;
        rig.refused(&["migrate", "web01", "--to", name], &["--to", "1 to 63 lower-case"]).await;
        rig.refused(&["host", "cordon", name], &["<HOST>"]).await;
    }
    for (words, told) in [
        (&["vm", "ls", "--no-such"][..], "--no-such"),
        (&["vm", "shwo", "a"], "shwo"),
        (&["vm", "ls", "-o", "xml"], "table, wide, json, yaml, name"),
        (&["vm", "start"], "<VM>"),
        (&["vm", "start", "a", "b"], "'b'"),
        (&["vm", "start", "a", "--timeout", "soon"], "--timeout"),
        (&["vm", "start", "a", "--timeout", "99999999999999999999s"], "--timeout"),
        (&["migrate", "a", "--blackout-budget", "-1ms"], "'-1"),
        (&["attempt", "show", "1-2"], "<ID>"),
        (&["audit", "history", "--after", "99999999999999999999"], "--after"),
        (&["audit", "history", "--vm", "a/b"], "--vm"),
        (&["ca", "init", "--host", "a/b"], "--host"),
        (&["lab", "up", "--link", "fast"], "--link"),
        (&["lab", "up", "--hosts", "1000000"], "1 to 26"),
        (&[long.as_str()], "unrecognized subcommand"),
    ] {
        rig.refused(words, &[told]).await;
    }
}
