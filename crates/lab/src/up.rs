//! Bringing a lab up, in steps that `down` can undo from wherever they stop.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::proc::MARKER;
use crate::state::{Lock, Namespace, Places, State, Supervisor};
use crate::supervise::READY;
use crate::tool::Maker;
use crate::{Identity, LabError, Plan, UpOptions};
use crate::{certs, config, down, logs, net, options, ready, tool};

/// A supervisor has this long to arrange its namespaces.
const ARRANGE: Duration = Duration::from_secs(10);

/// Brings a lab up and waits until all of it works. What was made is removed
/// again when something fails.
pub fn up(options: &UpOptions) -> Result<(), LabError> {
    check_machine()?;
    options.check()?;
    let godwit = options.godwit.canonicalize().map_err(LabError::file("find", &options.godwit))?;
    let dir = make_dir(&options.dir)?;
    let options = UpOptions { dir: dir.clone(), godwit, ..options.clone() };
    let plan = options.check()?;
    plan.hosts().try_for_each(|(_, host)| options.qemu_of(&host).map(drop))?;
    let _lock = Lock::take(&dir)?;
    check_empty(&dir)?;
    net::check_free(plan)?;
    let mut state = State::new(plan, options.link, options.proxy);
    state.write(&dir)?;
    build(&mut state, &options).inspect_err(|_| {
        // The error that counts is the first; `lab down` would tell of this one.
        let _ = down::remove(&dir, &state);
    })
}

/// Refuses to begin without what every lab needs.
pub(crate) fn check_machine() -> Result<(), LabError> {
    if !rustix::process::geteuid().is_root() {
        return Err(LabError::NotRoot);
    }
    for program in ["ip", "tc", "unshare", "nsenter"] {
        if options::find(program).is_none() {
            let package = tool::package(program);
            return Err(LabError::Tool { program: program.into(), package });
        }
    }
    Ok(())
}

fn make_dir(dir: &Path) -> Result<PathBuf, LabError> {
    fs::create_dir_all(dir).map_err(LabError::file("make", dir))?;
    dir.canonicalize().map_err(LabError::file("find", dir))
}

fn check_empty(dir: &Path) -> Result<(), LabError> {
    if State::read(dir)?.is_some() {
        return Err(LabError::AlreadyUp { dir: dir.to_owned() });
    }
    let mut entries = fs::read_dir(dir).map_err(LabError::file("read", dir))?;
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(LabError::InUse {
            what: format!("the directory {}", dir.display()),
            who: "it has files that are not a lab's".into(),
            remedy: "give the lab an empty or new directory".into(),
        }),
    }
}

fn build(state: &mut State, options: &UpOptions) -> Result<(), LabError> {
    let places = Places::new(&options.dir);
    config::write(&places, state, options)?;
    certs::make(&places, state.plan)?;
    make_network(&places, state)?;
    start(&places, state, "controller", None)?;
    if state.proxy {
        start(&places, state, "proxy", None)?;
    }
    for (_, host) in state.plan.hosts() {
        let namespace = state.plan.namespace(&host);
        start(&places, state, host.as_str(), Some(&namespace))?;
    }
    if let Some(patience) = options.wait {
        ready::wait(&places, state.plan, patience)?;
    }
    state.ready = true;
    state.write(&places.dir)
}

fn make_network(places: &Places, state: &mut State) -> Result<(), LabError> {
    let plan = state.plan;
    make_namespace(places, state, plan.switch())?;
    state.links.push(plan.outside_link());
    state.write(&places.dir)?;
    net::make_switch(Maker { id: &state.id }, plan, state.proxy)?;
    for (number, host) in plan.hosts() {
        make_namespace(places, state, plan.namespace(&host))?;
        net::make_host(Maker { id: &state.id }, plan, number, &host, state.link)?;
    }
    Ok(())
}

fn make_namespace(places: &Places, state: &mut State, name: String) -> Result<(), LabError> {
    let mut namespace = Namespace { name, id: None };
    state.namespaces.push(namespace.clone());
    state.write(&places.dir)?;
    namespace.id = Some(net::make_namespace(Maker { id: &state.id }, &namespace)?);
    state.namespaces.pop();
    state.namespaces.push(namespace);
    state.write(&places.dir)
}

/// Starts a supervisor and waits until its namespaces are as they should be.
fn start(
    places: &Places,
    state: &mut State,
    name: &str,
    namespace: Option<&str>,
) -> Result<(), LabError> {
    let path = places.log(name);
    let log = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(LabError::file("open", &path))?;
    let program = config::program(places, name)?;
    let mut command = match namespace {
        None => Command::new(&program),
        Some(namespace) => {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net=/run/netns/{namespace}"));
            command.args(["--", "unshare", "--mount", "--propagation", "slave", "--"]);
            command.arg(&program);
            command
        }
    };
    command.args(["lab-host", "--config"]).arg(config::supervisor(places, name));
    command.env(MARKER, &state.id).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let mut child = command.spawn().map_err(LabError::file("start", &program))?;
    let failed = |why: &str| LabError::Command {
        command: format!("{} lab-host for {name}", program.display()),
        why: format!("{why}\n{}", logs::tail(&path)),
    };
    let process = Identity::of(child.id()).ok_or_else(|| failed("it ended at once"))?;
    state.supervisors.push(Supervisor { name: name.into(), process });
    state.write(&places.dir)?;
    let out = child.stdout.take().ok_or_else(|| failed("it has no output"))?;
    if heard(out) { Ok(()) } else { Err(failed("it did not get ready")) }
}

/// Waits for the word that a supervisor says when it is ready.
fn heard(mut out: ChildStdout) -> bool {
    let deadline = Instant::now() + ARRANGE;
    let mut text = Vec::new();
    while text.len() < READY.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(left) = Timespec::try_from(left) else { return false };
        let mut waiting = [PollFd::new(&out, PollFlags::IN)];
        if !matches!(poll(&mut waiting, Some(&left)), Ok(ready) if ready > 0) {
            return false;
        }
        let mut piece = [0; 64];
        match out.read(&mut piece) {
            Ok(count) if count > 0 => text.extend_from_slice(&piece[..count]),
            _ => return false,
        }
    }
    text == READY.as_bytes()
}

/// The outside's environment for `godwit` commands, as lines for a shell.
pub fn env(dir: &Path) -> Result<String, LabError> {
    let state = State::of(dir)?;
    let dir = dir.canonicalize().map_err(LabError::file("find", dir))?;
    Ok(environment(&Places::new(&dir), state.plan)
        .map(|(name, value)| format!("export {name}={}\n", quote(&value)))
        .concat())
}

/// The variables of [`env`], for a program that sets them itself.
pub fn variables(dir: &Path) -> Result<[(&'static str, String); 4], LabError> {
    let state = State::of(dir)?;
    let dir = dir.canonicalize().map_err(LabError::file("find", dir))?;
    Ok(environment(&Places::new(&dir), state.plan))
}

fn environment(places: &Places, plan: Plan) -> [(&'static str, String); 4] {
    let file = |name: &str| places.tls().join(name).display().to_string();
    [
        ("GODWIT_CONTROLLER", plan.controller_url()),
        ("GODWIT_CA", file("ca.pem")),
        ("GODWIT_CERT", file("admin.pem")),
        ("GODWIT_KEY", file("admin.key")),
    ]
}

/// A word that a shell takes as it is.
fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/:._-".contains(c);
    if text.chars().all(plain) { text.into() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_for_a_shell() {
        let dir = tempfile::tempdir().unwrap();
        let lab = dir.path().join("a lab's");
        fs::create_dir(&lab).unwrap();
        assert!(matches!(env(&lab), Err(LabError::NotUp { .. })));
        State::new(Plan::new(78, 1).unwrap(), None, true).write(&lab).unwrap();
        let text = env(&lab).unwrap();
        let script = format!("{text}printf '%s\\n' \"$GODWIT_CONTROLLER\" \"$GODWIT_KEY\"");
        let said = tool::run("sh", &["-c", &script]).unwrap();
        let key = lab.canonicalize().unwrap().join("tls/admin.key");
        assert_eq!(said, format!("https://10.78.0.1:7443\n{}\n", key.display()));
    }

    #[test]
    fn only_an_empty_directory_becomes_a_lab() {
        let dir = tempfile::tempdir().unwrap();
        check_empty(dir.path()).unwrap();
        fs::write(dir.path().join("thesis.txt"), "x").unwrap();
        let error = check_empty(dir.path()).unwrap_err().to_string();
        assert!(error.contains("files that are not a lab's"), "{error}");
        State::new(Plan::new(78, 1).unwrap(), None, true).write(dir.path()).unwrap();
        assert!(matches!(check_empty(dir.path()), Err(LabError::AlreadyUp { .. })));
    }
}
