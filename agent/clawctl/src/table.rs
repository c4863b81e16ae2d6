//! Columns of text.

/// Lays out `rows` under `headings`, each column as wide as its widest cell, the last one free.
///
/// Cells are expected to be fit for a terminal already.
pub(crate) fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let headings = headings.map(str::to_owned);
    let mut widths = headings.each_ref().map(|cell| cell.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let lines: Vec<String> = std::iter::once(&headings)
        .chain(rows)
        .map(|row| line(row, &widths))
        .collect();
    lines.join("\n")
}

fn line<const N: usize>(row: &[String; N], widths: &[usize; N]) -> String {
    let mut line = String::new();
    for (cell, width) in row.iter().zip(widths) {
        line.push_str(&format!("{cell:width$}  "));
    }
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn table_columns_are_aligned() {
        let rows = [
            ["é".to_owned(), "x".to_owned()],
            ["long name".to_owned(), "y".to_owned()],
        ];
        assert_eq!(
            table(["NAME", "B"], &rows),
            "NAME       B\né          x\nlong name  y"
        );
        assert_eq!(table(["A"], &[]), "A");
    }
}
