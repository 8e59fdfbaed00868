//! The figures: a table on the console, and one flat JSON object of named numbers.

use anyhow::{Context as _, ensure};
use serde_json::{Map, Value};
use std::path::Path;

/// The figures that were measured.
#[derive(Debug, Default)]
pub(crate) struct Report {
    figures: Map<String, Value>,
}

impl Report {
    /// Prints a headline.
    pub(crate) fn section(&self, headline: &str) {
        println!("\n{headline}");
    }

    /// Keeps a figure and prints it. `goal` is what the project asks for, in words.
    pub(crate) fn add(&mut self, name: impl Into<String>, value: f64, goal: &str) -> anyhow::Result<()> {
        self.add_rounded(name.into(), value, goal, 1_000.0)
    }

    /// Keeps a figure that is a small fraction.
    pub(crate) fn add_exact(&mut self, name: impl Into<String>, value: f64, goal: &str) -> anyhow::Result<()> {
        self.add_rounded(name.into(), value, goal, 1_000_000.0)
    }

    fn add_rounded(&mut self, name: String, value: f64, goal: &str, unit: f64) -> anyhow::Result<()> {
        ensure!(value.is_finite(), "{name} was measured as {value}");
        let goal = if goal.is_empty() {
            String::new()
        } else {
            format!("   (goal: {goal})")
        };
        println!("  {name:<52} {:>12}{goal}", readable(value));
        let rounded = (value * unit).round() / unit;
        ensure!(
            self.figures.insert(name.clone(), rounded.into()).is_none(),
            "{name} was measured twice"
        );
        Ok(())
    }

    /// A figure that was measured before.
    pub(crate) fn get(&self, name: &str) -> anyhow::Result<f64> {
        let figure = self.figures.get(name).and_then(Value::as_f64);
        figure.with_context(|| format!("{name} was not measured"))
    }

    /// Writes the figures to a file.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(&self.figures).context("encoding the report")?;
        let folder = path.parent().unwrap_or(path);
        std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        std::fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))?;
        println!("\nwritten to {}", path.display());
        Ok(())
    }
}

/// Prints what the figures were measured on. The report itself holds numbers only.
pub(crate) fn print_machine() {
    let model = std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        })
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    println!("machine: {model}, {cores} cores, load {load}");
}

/// Large numbers with separators, small ones with three decimals.
fn readable(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.1 {
        return format!("{value:.6}");
    }
    if value.fract() == 0.0 || value.abs() >= 10_000.0 {
        let digits = format!("{:.0}", value.abs());
        let groups: Vec<&str> = digits
            .as_bytes()
            .rchunks(3)
            .rev()
            .filter_map(|group| std::str::from_utf8(group).ok())
            .collect();
        let sign = if value < 0.0 { "-" } else { "" };
        return sign.to_owned() + &groups.join(",");
    }
    format!("{value:.3}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test may panic")]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(readable(1_234_567.8), "1,234,568");
        assert_eq!(readable(2.34567), "2.346");
        assert_eq!(readable(12.0), "12");
        assert_eq!(readable(-10_000.5), "-10,000");
    }

    #[test]
    fn a_figure_is_a_number_and_is_measured_once() {
        let mut report = Report::default();
        report.add("a", 1.0, "").unwrap();
        assert!(report.add("a", 2.0, "").is_err());
        assert!(report.add("b", f64::NAN, "").is_err());
    }
}
