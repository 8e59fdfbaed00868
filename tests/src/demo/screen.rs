//! What the demo prints: numbered headlines with the elapsed time, lines, tables and JSON.

use serde_json::Value;
use std::io::IsTerminal as _;
use std::time::Instant;

/// Standard output, and the step that is under way.
#[derive(Debug)]
pub(crate) struct Screen {
    began: Instant,
    number: u32,
    step: String,
    bold: bool,
}

impl Screen {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            number: 0,
            step: "Preparing".to_owned(),
            bold: std::io::stdout().is_terminal(),
        }
    }

    /// Begins the next step.
    pub(crate) fn step(&mut self, headline: &str) {
        self.number += 1;
        headline.clone_into(&mut self.step);
        let text = format!("{:2}. {headline}", self.number);
        println!(
            "\n{} {}",
            self.elapsed(),
            if self.bold {
                format!("\x1b[1m{text}\x1b[0m")
            } else {
                text
            }
        );
    }

    pub(crate) fn line(&self, text: &str) {
        println!("             {text}");
    }

    /// What was asked.
    pub(crate) fn asked(&self, call: &str) {
        self.line(&format!("> {call}"));
    }

    /// Something that happened just now.
    pub(crate) fn event(&self, text: &str) {
        println!("{}   {text}", self.elapsed());
    }

    pub(crate) fn table(&self, head: &[&str], rows: &[Vec<String>]) {
        for line in layout(head, rows) {
            self.line(&format!("  {line}"));
        }
    }

    pub(crate) fn json(&self, value: &Value) {
        for line in format!("{value:#}").lines() {
            self.line(&format!("  {line}"));
        }
    }

    pub(crate) fn done(&self, text: &str) {
        println!("\n{} {text}", self.elapsed());
    }

    /// The last line of a run that failed.
    pub(crate) fn failed(&self, failure: &anyhow::Error) {
        eprintln!(
            "\n{} FAILED in step {} ({}): {failure:#}",
            self.elapsed(),
            self.number,
            self.step
        );
    }

    fn elapsed(&self) -> String {
        format!("[{:6.1} s]", self.began.elapsed().as_secs_f64())
    }
}

/// Aligned columns; numbers to the right.
fn layout(head: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
    let columns: Vec<(usize, bool)> = (0..head.len())
        .map(|column| {
            let width = rows
                .iter()
                .map(|row| cell(row, column).chars().count())
                .max()
                .unwrap_or(0);
            let numeric = !rows.is_empty() && rows.iter().all(|row| cell(row, column).parse::<f64>().is_ok());
            (width.max(head[column].chars().count()), numeric)
        })
        .collect();
    let line = |row: &[String]| {
        let cells = columns.iter().enumerate().map(|(column, (width, numeric))| {
            let text = cell(row, column);
            if *numeric {
                format!("{text:>width$}")
            } else {
                format!("{text:<width$}")
            }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let head: Vec<String> = head.iter().map(|&name| name.to_owned()).collect();
    std::iter::once(line(&head))
        .chain(rows.iter().map(|row| line(row)))
        .collect()
}

/// A JSON value in a table: numbers with at most two decimals, texts without quotes.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() != 0.0 => format!("{float:.2}"),
            Some(float) if float.abs() < 1e15 => format!("{float:.0}"),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_aligned_and_numbers_stand_right() {
        let rows = [
            vec!["web-02".to_owned(), "7.25".to_owned()],
            vec!["a".to_owned(), "10".to_owned()],
        ];
        assert_eq!(
            layout(&["host", "avg"], &rows),
            ["host     avg", "web-02  7.25", "a         10"]
        );
        assert_eq!(layout(&["host", "avg"], &[]), ["host  avg"]);
    }

    #[test]
    fn cells_are_short() {
        assert_eq!(
            [json!(12.345), json!(12.0), json!("NaN"), json!(null), json!(7)].map(|v| cell(&v)),
            ["12.35", "12", "NaN", "", "7"]
        );
    }
}
