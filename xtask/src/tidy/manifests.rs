//! Which crate may use which: the shelves, read from the manifests.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Finding;

/// The shelves of the house.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shelf {
    /// Vocabulary; uses nothing of ours.
    Words,
    /// Pure decisions.
    Brains,
    /// One outside thing each.
    Hands,
    /// Processes.
    Programs,
    /// What shows that the rest works.
    Proof,
}

const SHELVES: &[(&str, Shelf)] = &[
    ("types", Shelf::Words),
    ("handoff", Shelf::Brains),
    ("stream", Shelf::Brains),
    ("pages", Shelf::Brains),
    ("wire", Shelf::Brains),
    ("planner", Shelf::Brains),
    ("ledger", Shelf::Brains),
    ("qmp", Shelf::Hands),
    ("vmm", Shelf::Hands),
    ("store", Shelf::Hands),
    ("api", Shelf::Hands),
    ("carrier", Shelf::Programs),
    ("agent", Shelf::Programs),
    ("controller", Shelf::Programs),
    ("godwit", Shelf::Programs),
    ("lab", Shelf::Proof),
    ("sim", Shelf::Proof),
    ("guest", Shelf::Proof),
    ("bench-planner", Shelf::Proof),
    ("xtask", Shelf::Proof),
];

/// Uses that the shelves alone would forbid, each with its reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("wire", "pages", "a frame carries what `pages` has chosen"),
    ("godwit", "lab", "`godwit lab` is a subcommand, so that one binary is all a user needs"),
];

/// Crates that bring I/O, time, threads or chance; no word and no brain uses them.
const OUTSIDE: &[&str] = &[
    "axum",
    "fastrand",
    "getrandom",
    "hyper",
    "libc",
    "mio",
    "nix",
    "rand",
    "redb",
    "rustix",
    "rustls",
    "socket2",
    "tokio",
    "tokio-rustls",
    "tracing-subscriber",
];

/// Reads every manifest under `crates/` and `xtask/`.
pub(super) fn check(root: &Path) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut names: Vec<String> = Vec::new();
    let folder = root.join("crates");
    for entry in std::fs::read_dir(&folder).context("cannot list crates/")? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    for name in &names {
        let file = PathBuf::from("crates").join(name).join("Cargo.toml");
        let text = std::fs::read_to_string(root.join(&file))
            .with_context(|| format!("cannot read {}", file.display()))?;
        findings.extend(manifest(name, &file, &text));
    }
    Ok(findings)
}

/// Checks one manifest.
fn manifest(name: &str, file: &Path, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut tell = |problem: String| {
        findings.push(Finding { file: file.to_owned(), line: 0, problem });
    };
    let table: toml::Table = match toml::from_str(text) {
        Ok(table) => table,
        Err(e) => {
            tell(format!("not TOML: {e}"));
            return findings;
        }
    };
    let Some(own) = shelf(name) else {
        tell(format!("crate `{name}` stands on no shelf: give it one in xtask's table"));
        return findings;
    };
    let package = table.get("package").and_then(|p| p.get("name")).and_then(toml::Value::as_str);
    // The guest's program bears its package's name, and is seen by others than cargo.
    if let Some(package) = package.filter(|p| *p != name && (*p, name) != ("godwit-guest", "guest"))
    {
        tell(format!("the package is called `{package}`: call it `{name}`, as its folder"));
    }
    for (key, test) in
        [("dependencies", false), ("build-dependencies", false), ("dev-dependencies", true)]
    {
        for used in
            table.get(key).and_then(toml::Value::as_table).into_iter().flat_map(|t| t.keys())
        {
            if let Some(problem) = forbidden(name, own, used, test) {
                tell(problem);
            }
        }
    }
    let lints = table.get("lints").and_then(|l| l.get("workspace")).and_then(toml::Value::as_bool);
    if lints != Some(true) {
        tell("`[lints] workspace = true` is missing".to_owned());
    }
    findings
}

fn shelf(name: &str) -> Option<Shelf> {
    SHELVES.iter().find(|(n, _)| *n == name).map(|(_, s)| *s)
}

/// Why `name` (on the shelf `own`) may not use `used`; `test` for dev-dependencies.
fn forbidden(name: &str, own: Shelf, used: &str, test: bool) -> Option<String> {
    let used = used.strip_prefix("godwit-").unwrap_or(used);
    if EXCEPTIONS.iter().any(|(a, b, _)| *a == name && *b == used) {
        return None;
    }
    let Some(theirs) = shelf(used) else {
        let pure = matches!(own, Shelf::Words | Shelf::Brains) && !test;
        return (pure && OUTSIDE.contains(&used))
            .then(|| format!("`{name}` is pure and may not use `{used}`"));
    };
    if test && theirs == Shelf::Proof {
        return None;
    }
    let why = match (own, theirs) {
        (Shelf::Proof, _) | (_, Shelf::Words) => return None,
        (_, Shelf::Proof) => "only tests, demo and benches use proof",
        (Shelf::Words, _) => "words use nothing of ours",
        (Shelf::Brains, Shelf::Brains) => "brains meet only through words",
        (Shelf::Brains, _) => "brains touch nothing outside",
        (Shelf::Hands, Shelf::Brains) => "hands never use brains",
        (Shelf::Hands, Shelf::Programs) => "hands never use programs",
        (Shelf::Programs, Shelf::Programs) if name != "godwit" => {
            "programs meet as processes; only the binary holds them all"
        }
        (Shelf::Hands, Shelf::Hands) | (Shelf::Programs, _) => return None,
    };
    Some(format!("`{name}` may not use `{used}`: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(name: &str, section: &str, used: &str) -> Vec<String> {
        let text = format!("[lints]\nworkspace = true\n[{section}]\n{used}.workspace = true\n");
        manifest(name, Path::new("Cargo.toml"), &text).into_iter().map(|f| f.problem).collect()
    }

    #[test]
    fn every_wall_stands() {
        for (name, used, word) in [
            ("types", "pages", "nothing of ours"),
            ("handoff", "stream", "only through words"),
            ("pages", "wire", "only through words"),
            ("stream", "qmp", "nothing outside"),
            ("vmm", "handoff", "hands never use brains"),
            ("store", "agent", "hands never use programs"),
            ("agent", "carrier", "meet as processes"),
            ("agent", "lab", "only tests"),
            ("godwit", "sim", "only tests"),
            ("handoff", "tokio", "pure"),
            ("types", "rand", "pure"),
        ] {
            let found = problems(name, "dependencies", used);
            assert_eq!(found.len(), 1, "{name} -> {used}: {found:?}");
            assert!(found[0].contains(word), "{found:?}");
        }
    }

    #[test]
    fn doors_are_open() {
        for (name, section, used) in [
            ("handoff", "dependencies", "types"),
            ("wire", "dependencies", "pages"),
            ("vmm", "dependencies", "qmp"),
            ("agent", "dependencies", "handoff"),
            ("agent", "dependencies", "tokio"),
            ("godwit", "dependencies", "agent"),
            ("godwit", "dependencies", "lab"),
            ("agent", "dev-dependencies", "lab"),
            ("pages", "dev-dependencies", "proptest"),
        ] {
            assert_eq!(problems(name, section, used), Vec::<String>::new(), "{name} -> {used}");
        }
    }

    #[test]
    fn strangers_and_missing_lints_are_told() {
        let strange = manifest("attic", Path::new("Cargo.toml"), "[lints]\nworkspace = true\n");
        assert!(strange[0].problem.contains("no shelf"));
        let lax = manifest("pages", Path::new("Cargo.toml"), "[dependencies]\n");
        assert!(lax[0].problem.contains("lints"));
        let named = "[package]\nname = \"godwit-pages\"\n[lints]\nworkspace = true\n";
        let named = manifest("pages", Path::new("Cargo.toml"), named);
        assert!(named[0].problem.contains("call it `pages`"));
        assert!(manifest("pages", Path::new("Cargo.toml"), "[x")[0].problem.contains("TOML"));
    }
}
