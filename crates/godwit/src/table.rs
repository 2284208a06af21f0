//! Columns for people.

use std::fmt::Display;

use crate::output::clean;

/// A table: a head and rows, every column as wide as its widest cell.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(head: [&str; N]) -> Self {
        Self { rows: vec![head.map(str::to_owned).to_vec()] }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        let line = |cell: String| clean(&cell).replace('\n', " ");
        self.rows.push(cells.map(line).to_vec());
    }

    /// The text, one line a row, no blanks at line ends.
    pub(crate) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|i| {
                self.rows
                    .iter()
                    .filter_map(|row| row.get(i))
                    .map(|cell| width(cell))
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            text += cells.collect::<Vec<_>>().join("  ").trim_end();
            text.push('\n');
        }
        text
    }
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

fn width(cell: &str) -> usize {
    cell.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must() {
        let mut table = Table::new(["NAME", "X", "NOTE"]);
        table.row(["web01".into(), "1".into(), String::new()]);
        table.row(["a".into(), "über".into(), "two\nlines".into()]);
        assert_eq!(table.text(), "NAME   X     NOTE\nweb01  1\na      über  two lines\n");
    }

    #[test]
    fn values_stand_below_each_other() {
        let text = fields(&[("name", "web01".into()), ("vcpus", "2".into())]);
        assert_eq!(text, "name:  web01\nvcpus: 2\n");
    }
}
