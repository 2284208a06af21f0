//! `godwit man`: a manual page for each command.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::cli::Cli;
use crate::failure::{FAILED, Failure};
use crate::output::Output;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  godwit man --dir /usr/local/share/man/man1\n\nThen: man godwit-vm-start"
)]
pub(crate) struct Args {
    /// Directory for the pages; made when it is missing.
    #[arg(long)]
    dir: PathBuf,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let failed =
        |path: &Path, e: std::io::Error| Failure::new(FAILED, format!("{}: {e}", path.display()));
    fs::create_dir_all(&args.dir).map_err(|e| failed(&args.dir, e))?;
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut made = Vec::new();
    for (name, page) in pages(&command, "")? {
        let path = args.dir.join(format!("{name}.1"));
        fs::write(&path, page).map_err(|e| failed(&path, e))?;
        made.push(path);
    }
    output.result(&made, |made| made.iter().map(|path| format!("{}\n", path.display())).collect())
}

/// A section whose lines stay as they are.
fn notes(text: &str) -> String {
    let escaped = |line: &str| line.replace('\\', "\\\\").replace('-', "\\-");
    // A line that begins with a dot would be an order.
    let lines = text.lines().map(|line| format!("\\&{}\n", escaped(line)));
    format!(".SH NOTES\n.nf\n{}.fi\n", lines.collect::<String>())
}

/// Names and texts of the pages of a command and all below it.
fn pages(command: &Command, above: &str) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let name = match above {
        "" => command.get_name().to_owned(),
        above => format!("{above}-{}", command.get_name()),
    };
    let mut text = Vec::new();
    // Its help's last part has lines that must stay lines.
    let examples = command.get_after_help().map(ToString::to_string);
    let page = command.clone().display_name(name.clone()).after_help(None::<&str>);
    Man::new(page).render(&mut text).map_err(Failure::of)?;
    text.extend_from_slice(examples.map(|e| notes(&e)).unwrap_or_default().as_bytes());
    let mut all = vec![(name.clone(), text)];
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        all.extend(pages(sub, &name)?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;

    #[test]
    fn every_command_has_a_page_with_its_example() {
        let dir = tempfile::tempdir().unwrap();
        let args = Args { dir: dir.path().join("man1") };
        run(&args, &Output::new(Format::Json, true)).unwrap();
        let page = fs::read_to_string(args.dir.join("godwit-vm-start.1")).unwrap();
        assert!(page.contains("\\&  godwit vm start web01 \\-\\-on host\\-b\n"), "{page}");
        assert!(args.dir.join("godwit.1").exists() && !args.dir.join("godwit-carrier.1").exists());
    }
}
