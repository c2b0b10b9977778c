// SPDX-License-Identifier: MPL-2.0

//! Reports as JSON for programs and as text for people, from the same values.
//!
//! Much of it is what others on the server wrote: JSON escapes control characters, text has U+FFFD in their place.

use cvmmap_control::error::printable;
use serde_json::Value;

use crate::tell;

/// Prints a report on stdout: one JSON document, or text.
pub fn result(json: bool, report: &Value) {
    let shown = if json { report.to_string() } else { text(report) };
    tell::result(shown.trim_end_matches('\n'));
}

/// One line a fact; objects and lists of them are indented.
pub fn text(report: &Value) -> String {
    let mut out = String::new();
    walk(&mut out, 0, report);
    out
}

fn walk(out: &mut String, indent: usize, value: &Value) {
    let Value::Object(fields) = value else { return };
    for (name, value) in fields {
        let pad = " ".repeat(indent);
        match value {
            Value::Object(_) => {
                out.push_str(&format!("{pad}{name}:\n"));
                walk(out, indent + 2, value);
            }
            Value::Array(items) if items.iter().any(Value::is_object) => {
                for item in items {
                    out.push_str(&format!("{pad}{name}:\n"));
                    walk(out, indent + 2, item);
                }
            }
            other => out.push_str(&format!("{pad}{name}: {}\n", cell(other))),
        }
    }
}

/// A value on one line; `-` where there is none.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) if text.is_empty() => "-".into(),
        Value::String(text) => printable(text),
        Value::Number(number) if number.is_f64() => format!("{:.2}", number.as_f64().unwrap_or_default()),
        Value::Array(items) if items.is_empty() => "-".into(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Rows of equal length in aligned columns, the first of them as a heading.
pub fn table(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn a_report_is_one_line_a_fact() {
        let report = json!({
            "a": 1, "b": 2.5, "none": null, "empty": [], "list": ["x", "y"], "object": { "text": "z" },
            "rows": [{ "c": true }, { "c": false }],
        });
        let shown = "a: 1\nb: 2.50\nnone: -\nempty: -\nlist: x, y\nobject:\n  text: z\nrows:\n  c: true\nrows:\n  c: false\n";
        assert_eq!(super::text(&report), shown);
    }

    #[test]
    fn what_others_wrote_neither_steers_the_terminal_nor_begins_lines() {
        let foreign = "a\x1b[31mb\nforged: yes\u{9b}2J";
        let shown = "a\u{fffd}[31mb\u{fffd}forged: yes\u{fffd}2J";
        assert_eq!(super::text(&json!({ "path": foreign })), format!("path: {shown}\n"));
        assert_eq!(super::text(&json!({ "paths": [foreign] })), format!("paths: {shown}\n"));
        assert_eq!(super::table(&[vec![foreign.to_owned(), "x".into()]]), format!("{shown}  x"));
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["name", "of"], ["kamera-ü", "x"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(super::table(&rows), "name      of\nkamera-ü  x");
    }
}
