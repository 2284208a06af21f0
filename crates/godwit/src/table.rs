//! Columns for people.

use std::fmt::Display;

use crate::colour::Tone;
use crate::output::{Style, clean};

/// One value of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A value in a tone.
    pub(crate) fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: clean(&text.into()).replace('\n', " "), tone }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// A table: a head and rows, every column as wide as its widest cell.
#[derive(Debug)]
pub(crate) struct Table {
    head: Vec<Cell>,
    rows: Vec<Vec<Cell>>,
    narrow: usize,
}

impl Table {
    pub(crate) fn new<const N: usize>(head: [&str; N]) -> Self {
        let head = head.map(|name| Cell::new(name, Tone::Heading)).to_vec();
        Self { head, rows: Vec::new(), narrow: N }
    }

    /// Only so many columns, unless the table is wide.
    pub(crate) fn narrow(mut self, columns: usize) -> Self {
        self.narrow = columns;
        self
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [impl Into<Cell>; N]) {
        self.rows.push(cells.map(Into::into).to_vec());
    }

    /// The text, one line a row, no blanks at line ends.
    pub(crate) fn styled(&self, style: Style) -> String {
        let columns = if style.wide { self.head.len() } else { self.narrow };
        let head = style.headers.then_some(&self.head);
        let lines: Vec<_> = head.into_iter().chain(&self.rows).collect();
        let widths: Vec<usize> = (0..columns)
            .map(|i| lines.iter().filter_map(|l| l.get(i)).map(Cell::width).max().unwrap_or(0))
            .collect();
        lines.iter().map(|line| draw(line, &widths, style.colours) + "\n").collect()
    }
}

fn draw(line: &[Cell], widths: &[usize], colours: bool) -> String {
    let shown = line.len().min(widths.len());
    let last = line[..shown].iter().rposition(|cell| !cell.text.is_empty()).unwrap_or(0);
    let mut text = String::new();
    for (i, (cell, width)) in line.iter().zip(widths).enumerate().take(last + 1) {
        text += &cell.tone.paint(&cell.text, colours);
        if i < last {
            text += &" ".repeat(width.saturating_sub(cell.width()) + 2);
        }
    }
    text
}

/// Lines of `name: value`, the values below each other.
pub(crate) fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
    let line = |(name, value): &(&str, String)| {
        let label = format!("{name}:");
        format!("{label:width$} {}\n", clean(value).replace('\n', " "))
    };
    fields.iter().map(line).collect()
}

/// A value, or `-`.
pub(crate) fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| v.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { headers: true, wide: false, colours: false };

    fn table() -> Table {
        let mut table = Table::new(["NAME", "X", "NOTE"]);
        table.row(["web01".to_owned(), "1".to_owned(), String::new()]);
        table.row(["a".to_owned(), "über".to_owned(), "two\nlines".to_owned()]);
        table
    }

    #[test]
    fn columns_are_as_wide_as_they_must() {
        assert_eq!(table().styled(PLAIN), "NAME   X     NOTE\nweb01  1\na      über  two lines\n");
        let bare = Style { headers: false, ..PLAIN };
        assert_eq!(table().styled(bare), "web01  1\na      über  two lines\n");
        assert_eq!(table().narrow(1).styled(PLAIN), "NAME\nweb01\na\n");
    }

    #[test]
    fn colours_take_no_room() {
        let mut table = Table::new(["NAME", "STATE", "X"]);
        table.row([
            Cell::from("a".to_owned()),
            Cell::new("up\u{1b}", Tone::Good),
            Cell::from("1".to_owned()),
        ]);
        let coloured = table.styled(Style { colours: true, ..PLAIN });
        let line = coloured.lines().nth(1).unwrap();
        assert_eq!(line, "a     \x1b[32mup?\x1b[0m    1");
    }

    #[test]
    fn values_stand_below_each_other() {
        let text = fields(&[("name", "web01".into()), ("vcpus", "2".into())]);
        assert_eq!(text, "name:  web01\nvcpus: 2\n");
    }
}
