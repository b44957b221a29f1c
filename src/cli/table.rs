//! Tables for people: no borders, header in capitals, numbers at the right.

use super::screen::Look;
use comfy_table::{CellAlignment, ContentArrangement, TableStyle};

/// A table that grows row by row.
pub struct Table {
    inner: comfy_table::Table,
}

impl Table {
    /// With the columns' names. One that begins with `>` stands at the right, as numbers do.
    pub fn new(look: &Look, columns: &[&str]) -> Table {
        let mut inner = comfy_table::Table::new();
        inner.load_style(TableStyle::new());
        match look.width.and_then(|w| u16::try_from(w).ok()) {
            Some(width) => {
                inner.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
            }
            None => {
                inner.set_content_arrangement(ContentArrangement::Disabled);
            }
        }
        inner.set_header(columns.iter().map(|c| c.trim_start_matches('>')));
        for (column, name) in inner.column_iter_mut().zip(columns) {
            column.set_padding((0, 2));
            if name.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Table { inner }
    }

    /// One more row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.inner.add_row(cells);
    }

    /// As text: every line ends with a line feed and without blanks before it.
    pub fn text(&self) -> String {
        let lines = self.inner.lines();
        lines.map(|l| format!("{}\n", l.trim_end())).collect()
    }
}

/// Names and texts side by side, as `show` gives them; what has no text is left out.
pub fn pairs(pairs: &[(&str, Option<String>)]) -> String {
    let width = pairs.iter().filter(|p| p.1.is_some()).map(|p| p.0.chars().count()).max().unwrap_or(0);
    let line = |(name, text): &(&str, Option<String>)| {
        let text = text.as_ref()?.replace('\n', &format!("\n{:width$}  ", ""));
        Some(format!("{name:width$}  {text}\n"))
    };
    pairs.iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_at_the_right_and_lines_end_where_they_end() {
        let mut table = Table::new(&Look::plain(), &["NAME", ">N", "NOTE"]);
        table.row(["a".to_owned(), "7".to_owned(), String::new()]);
        table.row(["long".to_owned(), "1234".to_owned(), "x".to_owned()]);
        assert_eq!(table.text(), "NAME     N  NOTE\na        7\nlong  1234  x\n");
    }

    #[test]
    fn pairs_line_up_and_leave_out_what_is_empty() {
        let text = pairs(&[("id", Some("7".to_owned())), ("key", None), ("inputs", Some("a\nb".to_owned()))]);
        assert_eq!(text, "id      7\ninputs  a\n        b\n");
    }
}
