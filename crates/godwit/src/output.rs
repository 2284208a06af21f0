//! Standard output is the result; standard error is everything else.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::ValueEnum;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use serde::Serialize;

use crate::colour;
use crate::failure::{FAILED, Failure};
use crate::table::Table;

/// How a result is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    // For people. Not doc comments: they would fill half of every help text.
    #[default]
    Table,
    // The same with every column.
    Wide,
    // For programs.
    Json,
    // The same as YAML.
    Yaml,
    // Names alone, one a line.
    Name,
}

/// How results are to be written; every command has it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct OutputArgs {
    /// The result on standard output; JSON and YAML have bytes, seconds and RFC 3339.
    ///
    /// table, wide, json, yaml or name; or a file that ends in .json or .yaml.
    #[arg(
        short,
        long,
        global = true,
        value_parser = Target::parse,
        default_value = "table",
        value_name = "FORMAT",
        add = formats(),
        display_order = 900
    )]
    pub(crate) output: Target,
    /// Tables without their first line.
    #[arg(long, global = true, display_order = 901)]
    pub(crate) no_headers: bool,
    /// No progress and no messages on standard error, except errors.
    #[arg(short, long, global = true, display_order = 902)]
    pub(crate) quiet: bool,
}

/// How a result is written, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    format: Format,
    /// Standard output, if none.
    file: Option<PathBuf>,
}

impl Target {
    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(format) = Format::from_str(text, false) {
            return Ok(Self { format, file: None });
        }
        let path = PathBuf::from(text);
        let format = match path.extension().and_then(|e| e.to_str()) {
            Some("json") => Format::Json,
            Some("yaml" | "yml") => Format::Yaml,
            _ => {
                let known = "table, wide, json, yaml, name";
                return Err(format!("write one of {known}, or a file such as plan.json"));
            }
        };
        Ok(Self { format, file: Some(path) })
    }
}

fn formats() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let all = Format::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        all.map(|value| CompletionCandidate::new(value.get_name().to_owned())).collect()
    })
}

/// Where results and messages go.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    format: Format,
    file: Option<PathBuf>,
    quiet: bool,
    headers: bool,
}

/// How a table is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    /// With its first line.
    pub(crate) headers: bool,
    /// With every column.
    pub(crate) wide: bool,
    /// With colours.
    pub(crate) colours: bool,
}

impl From<&OutputArgs> for Output {
    fn from(args: &OutputArgs) -> Self {
        let Target { format, file } = args.output.clone();
        Self { headers: !args.no_headers, file, ..Self::new(format, args.quiet) }
    }
}

impl Output {
    pub(crate) fn new(format: Format, quiet: bool) -> Self {
        Self { format, file: None, quiet, headers: true }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// The result is for programs.
    pub(crate) fn is_data(&self) -> bool {
        matches!(self.format, Format::Json | Format::Yaml)
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// The style of tables on standard output.
    pub(crate) fn style(&self) -> Style {
        Style {
            headers: self.headers,
            wide: self.format == Format::Wide,
            colours: colour::wanted(&io::stdout()),
        }
    }

    /// The style of tables among messages.
    pub(crate) fn plain(&self) -> Style {
        Style { headers: true, wide: false, colours: colour::wanted(&io::stderr()) }
    }

    /// Writes what is the result.
    fn put(&self, text: &str) -> Result<(), Failure> {
        let Some(file) = &self.file else { return print(text) };
        std::fs::write(file, text)
            .map_err(|e| Failure::new(FAILED, format!("{}: {e}", file.display())))
    }

    /// Writes the result: `value` as data, or the text that `text` makes of it.
    pub(crate) fn result<T: Serialize + ?Sized>(
        &self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        self.put(&self.render(value, text)?)
    }

    /// The same for one thing that has a name.
    pub(crate) fn one<T: Serialize + ?Sized>(
        &self,
        value: &T,
        name: impl ToString,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Name => self.put(&format!("{}\n", name.to_string())),
            _ => self.result(value, text),
        }
    }

    /// The same for things that have names, as a table.
    pub(crate) fn list<T: Serialize>(
        &self,
        values: &[T],
        name: impl Fn(&T) -> String,
        table: impl FnOnce(&[T]) -> Table,
    ) -> Result<(), Failure> {
        self.put(&self.listed(values, name, table)?)
    }

    /// What [`Self::list`] writes.
    pub(crate) fn listed<T: Serialize>(
        &self,
        values: &[T],
        name: impl Fn(&T) -> String,
        table: impl FnOnce(&[T]) -> Table,
    ) -> Result<String, Failure> {
        match self.format {
            Format::Name => Ok(values.iter().map(|value| name(value) + "\n").collect()),
            _ => self.render(values, |values| table(values).styled(self.style())),
        }
    }

    /// What [`Self::result`] writes.
    pub(crate) fn render<T: Serialize + ?Sized>(
        &self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<String, Failure> {
        match self.format {
            Format::Json => Ok(serde_json::to_string_pretty(value).map_err(Failure::of)? + "\n"),
            Format::Yaml => {
                let text = serde_saphyr::to_string(&value).map_err(Failure::of)?;
                Ok(text.trim_end().to_owned() + "\n")
            }
            Format::Table | Format::Wide | Format::Name => Ok(text(value)),
        }
    }

    /// A message about what goes on.
    pub(crate) fn message(&self, text: &str) {
        if !self.quiet {
            tell(&clean(text));
        }
    }
}

/// Writes to standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // A reader that has seen enough is none of our failures.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(FAILED, format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes a line to standard error. Nobody is left to be told when that fails.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// The text without what a terminal would obey. Lines stay lines.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect()
}

/// A text that may quote what somebody wrote, within bounds: what is wrong stands at
/// its beginning, where and why at its end.
pub(crate) fn shortened(text: &str) -> String {
    const PART: usize = 300;
    let count = text.chars().count();
    if count <= 2 * PART {
        return text.to_owned();
    }
    let start: String = text.chars().take(PART).collect();
    let end: String = text.chars().skip(count - PART).collect();
    format!("{start} … {end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_keeps_its_beginning_and_its_end() {
        assert_eq!(shortened("née"), "née");
        let short = shortened(&format!("a{}z", "é".repeat(10_000)));
        assert!(short.starts_with("aé") && short.ends_with("éz"), "{short}");
        assert!(short.chars().count() < 610, "{short}");
    }

    #[test]
    fn an_output_is_a_format_or_a_file() {
        for (text, format, file) in [
            ("json", Format::Json, None),
            ("name", Format::Name, None),
            ("plan.json", Format::Json, Some("plan.json")),
            ("/tmp/a.b/x.yml", Format::Yaml, Some("/tmp/a.b/x.yml")),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!(target, Target { format, file: file.map(PathBuf::from) });
        }
        for bad in ["", "jsn", "plan.txt", "JSON"] {
            assert!(Target::parse(bad).unwrap_err().contains("json"), "{bad}");
        }
    }

    #[test]
    fn a_terminal_gets_no_orders() {
        assert_eq!(clean("a\u{1b}[31mb\nc\rd"), "a?[31mb\nc?d");
    }

    #[test]
    fn one_value_in_every_format() {
        #[derive(Serialize)]
        struct Vm {
            name: &'static str,
            memory: u64,
            error: Option<&'static str>,
        }
        let vms = [Vm { name: "web01", memory: 2 << 30, error: Some("no: such \"kernel\"") }];
        let write = |format| {
            let table = |vms: &[Vm]| {
                let mut table = Table::new(["NAME", "MEMORY"]).narrow(1);
                table.row([vms[0].name.to_owned(), vms[0].memory.to_string()]);
                table
            };
            Output::new(format, false).listed(&vms, |vm| vm.name.to_owned(), table).unwrap()
        };
        assert_eq!(write(Format::Table), "NAME\nweb01\n");
        assert_eq!(write(Format::Wide), "NAME   MEMORY\nweb01  2147483648\n");
        assert_eq!(write(Format::Name), "web01\n");
        let json: serde_json::Value = serde_json::from_str(&write(Format::Json)).unwrap();
        assert_eq!(json[0]["memory"], 2_u64 << 30);
        assert_eq!(
            write(Format::Yaml),
            "- name: web01\n  memory: 2147483648\n  error: \"no: such \\\"kernel\\\"\"\n"
        );
    }
}
