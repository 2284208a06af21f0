//! What a source or text file may not hold.

use std::path::Path;

use super::Finding;

/// Longest Rust file, in lines.
const FILE_LINES: usize = 800;
/// Longest function, in lines, signature and braces included.
const FUNCTION_LINES: usize = 80;
/// The same in test crates, where a table may be one function.
const TEST_LINES: usize = 120;

/// Crates that touch nothing outside.
const PURE: &[&str] = &["types", "handoff", "stream", "pages", "wire", "planner", "ledger"];

/// Texts that no file may hold, and why. Written in two halves, so that this
/// table does not find itself.
const ANYWHERE: &[(&str, &str, &str)] = &[
    ("/wo", "rk/", "a path of one developer's machine"),
    ("/ro", "ot/", "a path of one developer's machine"),
    ("/opt/", "q10", "a path of one developer's machine"),
    ("/home/", "user", "a path of one developer's machine"),
    ("<<<<", "<<<", "an unresolved conflict"),
];

/// Texts that no Rust file may hold, and why.
const IN_RUST: &[(&str, &str, &str)] = &[
    ("todo", "!(", "unfinished code"),
    ("unimple", "mented!(", "unfinished code"),
    ("#[ign", "ore", "a test that passes by skipping"),
    ("dbg", "!(", "a forgotten probe"),
];

/// Texts that no pure crate may hold outside its tests.
const IN_PURE: &[(&str, &str, &str)] = &[
    ("std::", "fs", "I/O in a pure crate"),
    ("std::", "net", "I/O in a pure crate"),
    ("std::", "process", "I/O in a pure crate"),
    ("std::", "env", "surroundings in a pure crate"),
    ("std::", "thread", "threads in a pure crate"),
    ("Instant::", "now", "a clock in a pure crate"),
    ("SystemTime::", "now", "a clock in a pure crate"),
    ("Timestamp::", "now", "a clock in a pure crate"),
    ("Uuid::", "new_v", "chance in a pure crate"),
    ("Uuid::", "now_v", "a clock in a pure crate"),
];

/// Checks one text file; `file` is relative to the repository.
pub(super) fn check(file: &Path, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut tell = |line: usize, problem: String| {
        findings.push(Finding { file: file.to_owned(), line, problem });
    };
    let rust = file.extension().is_some_and(|e| e == "rs");
    let snapshot = file.extension().is_some_and(|e| e == "snap");
    let pure = rust && is_pure(file);
    let tests_from =
        text.lines().position(|l| l.trim_start().starts_with("#[cfg(test)]")).unwrap_or(usize::MAX);
    for (i, line) in text.split('\n').enumerate() {
        if line.ends_with([' ', '\t', '\r']) && !snapshot {
            tell(i + 1, "trailing whitespace".to_owned());
        }
        let tables = [
            (true, ANYWHERE),
            (rust && !is_comment(line), IN_RUST),
            (pure && i < tests_from && !is_comment(line), IN_PURE),
        ];
        for (_, table) in tables.iter().filter(|(applies, _)| *applies) {
            for (a, b, why) in *table {
                if line.contains(&format!("{a}{b}")) {
                    tell(i + 1, format!("`{a}{b}`: {why}"));
                }
            }
        }
    }
    if rust {
        let lines = text.lines().count();
        if lines > FILE_LINES {
            tell(0, format!("{lines} lines, more than {FILE_LINES}: make it two rooms"));
        }
        let says_itself = file.file_name().is_some_and(|n| n == "tests.rs");
        if in_src(file) && !says_itself && !text.starts_with("//!") {
            tell(1, "no module doc: the first line says what the file is for".to_owned());
        }
        let limit = if in_src(file) { FUNCTION_LINES } else { TEST_LINES };
        for (line, name, length) in long_functions(text, limit) {
            tell(line, format!("`{name}` has {length} lines, more than {limit}"));
        }
    }
    findings
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

fn in_src(file: &Path) -> bool {
    file.components().any(|c| c.as_os_str() == "src")
}

fn is_pure(file: &Path) -> bool {
    let mut parts = file.components().map(|c| c.as_os_str().to_string_lossy());
    parts.next().as_deref() == Some("crates")
        && parts.next().is_some_and(|name| PURE.contains(&&*name))
        && parts.next().as_deref() == Some("src")
        && !parts.any(|p| p == "tests" || p == "tests.rs")
}

/// Functions above the limit: line, name, length. In formatted code a function
/// ends at the first `}` that stands as deep as its `fn`.
fn long_functions(text: &str, limit: usize) -> Vec<(usize, String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let depth = line.len() - line.trim_start().len();
        let end = lines.iter().skip(i).position(|l| {
            l.len() - l.trim_start().len() == depth
                && (l.trim() == "}" || l.trim_end().ends_with(';'))
        });
        let length = end.map_or(1, |n| n + 1);
        if length > limit {
            found.push((i + 1, name.to_owned(), length));
        }
    }
    found
}

/// The name, where the line begins a function.
fn function_name(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    loop {
        if let Some(name) = rest.strip_prefix("fn ") {
            return name.split(['(', '<']).next();
        }
        let (word, after) = rest.split_once(' ')?;
        let modifier = matches!(word, "pub" | "const" | "async" | "unsafe" | "extern" | "\"C\"")
            || word.starts_with("pub(");
        if !modifier {
            return None;
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(file: &str, text: &str) -> Vec<String> {
        check(Path::new(file), text).into_iter().map(|f| f.problem).collect()
    }

    #[test]
    fn every_forbidden_text_is_found() {
        for (table, file) in [
            (ANYWHERE, "docs/a.md"),
            (IN_RUST, "crates/agent/src/a.rs"),
            (IN_PURE, "crates/pages/src/a.rs"),
        ] {
            for (a, b, why) in table {
                let found = problems(file, &format!("//! A file.\nlet x = {a}{b};\n"));
                assert_eq!(found.len(), 1, "{a}{b}: {found:?}");
                assert!(found[0].contains(why));
            }
        }
    }

    #[test]
    fn purity_is_asked_of_pure_crates_only_and_not_of_their_tests() {
        let text = format!("//! A.\nlet t = Instant::{}();\n", "now");
        assert_eq!(problems("crates/agent/src/a.rs", &text), Vec::<String>::new());
        assert_eq!(problems("crates/pages/tests/a.rs", &text), Vec::<String>::new());
        let tests =
            format!("//! A.\n#[cfg(test)]\nmod tests {{ fn t() {{ Instant::{}(); }} }}\n", "now");
        assert_eq!(problems("crates/pages/src/a.rs", &tests), Vec::<String>::new());
    }

    #[test]
    fn white_space_and_missing_docs_are_found() {
        assert_eq!(problems("a.md", "x \n"), ["trailing whitespace"]);
        assert_eq!(problems("a.md", "x\r\n"), ["trailing whitespace"]);
        assert_eq!(problems("a.snap", "x \n"), Vec::<String>::new());
        assert!(problems("crates/agent/src/a.rs", "use x;\n")[0].contains("no module doc"));
    }

    #[test]
    fn sizes_are_limited() {
        let long = format!("//! A.\n{}", "// x\n".repeat(FILE_LINES));
        assert!(problems("crates/agent/src/a.rs", &long)[0].contains("801 lines"));
        let body = |n: usize| {
            format!(
                "//! A.\nimpl X {{\n    pub(crate) async fn f(\n{}    }}\n}}\n",
                "        a;\n".repeat(n)
            )
        };
        assert_eq!(
            problems("crates/agent/src/a.rs", &body(FUNCTION_LINES - 2)),
            Vec::<String>::new()
        );
        let found = problems("crates/agent/src/a.rs", &body(FUNCTION_LINES - 1));
        assert!(found[0].contains("`f` has 81 lines"), "{found:?}");
    }

    #[test]
    fn functions_are_recognised() {
        for (line, name) in [
            ("fn a() {", Some("a")),
            ("    pub(crate) const unsafe fn b<T>(", Some("b")),
            ("pub async fn c(x: u8) -> fn() {", Some("c")),
            ("let f: fn() = g;", None),
            ("// fn d() {", None),
            ("type F = fn();", None),
        ] {
            assert_eq!(function_name(line), name, "{line}");
        }
    }
}
