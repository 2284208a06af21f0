//! A command line that is wrong: told within bounds, and without what a terminal
//! would obey.

use std::process::ExitCode;

use crate::failure::USAGE;
use crate::output::{clean, shortened, tell};

/// Shows help, version or what is wrong, and gives the exit code.
pub(crate) fn answer(error: &clap::Error) -> ExitCode {
    let plain = error.render().to_string();
    let tame = tame(&plain);
    if tame == plain || !error.use_stderr() {
        // With colours, where they are wanted. A closed pipe is nobody's fault.
        let _ = error.print();
    } else {
        tell(tame.trim_end());
    }
    if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}

fn tame(text: &str) -> String {
    let lines: Vec<String> = clean(text).split('\n').map(shortened).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_cut_and_orders_to_a_terminal_are_not_passed_on() {
        assert_eq!(tame("a\nb\n"), "a\nb\n");
        assert_eq!(tame("a\u{1b}[31m"), "a?[31m");
        let cut = tame(&format!("{}\nlast\n", "é".repeat(10_000)));
        assert!(cut.ends_with("é\nlast\n") && cut.chars().count() < 700, "{cut}");
    }
}
