//! The table, and the same as JSON.

use std::{fs, io::Write as _, path::Path};

use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};
use serde::Serialize;

use crate::{harness::Result, stats::Summary, support::say};

/// One line of figures.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// Registered data planes.
    pub planes: usize,
    /// Milliseconds added to each round trip to a data plane.
    pub delay: u32,
    /// Unit of the figures.
    pub unit: &'static str,
    /// medusa-fleet's figures; absent when every run failed.
    pub ours: Option<Summary>,
    /// The bare client's.
    pub bare: Option<Summary>,
    /// What k8ssandra-operator was measured at.
    pub peer: &'static str,
    /// What to know about the figures.
    pub note: String,
}

impl Row {
    /// A line of figures about `values`.
    pub fn new(what: impl Into<String>, planes: usize, delay: u32, unit: &'static str) -> Self {
        Self { what: what.into(), planes, delay, unit, ..Self::default() }
    }

    /// With medusa-fleet's runs.
    pub fn ours(mut self, values: &[f64]) -> Self {
        self.ours = Summary::of(values);
        self
    }

    /// With the bare client's runs.
    pub fn bare(mut self, values: &[f64]) -> Self {
        self.bare = Summary::of(values);
        self
    }

    /// With what k8ssandra-operator was measured at.
    pub fn peer(mut self, text: &'static str) -> Self {
        self.peer = text;
        self
    }

    /// With a remark.
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.note = text.into();
        self
    }

    fn ratio(&self) -> Option<f64> {
        let (ours, bare) = (self.ours.as_ref()?, self.bare.as_ref()?);
        (bare.median > 0.0).then(|| ours.median / bare.median)
    }
}

/// Everything that was measured.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What it was measured on.
    pub facts: Vec<String>,
    /// The figures.
    pub rows: Vec<Row>,
    /// Figures that need more than a line: requests by kind.
    pub remarks: Vec<String>,
}

impl Report {
    /// Adds a line, and says it, so that a long run shows where it is.
    pub fn add(&mut self, row: Row) {
        let figure = row.ours.as_ref().map_or_else(|| "no run ended".to_owned(), |s| number(s.median));
        let bare =
            row.bare.as_ref().map(|s| format!(", bare client {}", number(s.median))).unwrap_or_default();
        say(format!(
            "  {} · {} planes · +{} ms: {figure} {}{bare}",
            row.what, row.planes, row.delay, row.unit
        ));
        self.rows.push(row);
    }

    /// Adds a measurement that could not be made: that is a finding, not the end.
    pub fn failed(&mut self, what: &str, planes: usize, delay: u32, why: &dyn std::fmt::Display) {
        self.add(Row::new(what, planes, delay, "").note(format!("could not be measured: {why}")));
    }

    /// Prints the table on standard output.
    pub fn print(&self) -> Result<()> {
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY);
        table.set_header([
            "measurement",
            "planes",
            "delay",
            "unit",
            "min",
            "median",
            "p99*",
            "bare client",
            "ratio",
            "k8ssandra-operator**",
            "note",
        ]);
        for row in &self.rows {
            let figure =
                |pick: fn(&Summary) -> f64| row.ours.as_ref().map(|s| number(pick(s))).unwrap_or_default();
            let ratio = row.ratio().map(|r| format!("{r:.2}×")).unwrap_or_default();
            let bare = row.bare.as_ref().map(|s| number(s.median)).unwrap_or_default();
            let delay = if row.delay > 0 { format!("+{} ms", row.delay) } else { String::new() };
            table.add_row([
                row.what.clone(),
                row.planes.to_string(),
                delay,
                row.unit.to_owned(),
                figure(|s| s.min),
                figure(|s| s.median),
                figure(|s| s.p99),
                bare,
                ratio,
                row.peer.to_owned(),
                row.note.clone(),
            ]);
        }
        let mut out = std::io::stdout().lock();
        for fact in &self.facts {
            writeln!(out, "{fact}")?;
        }
        writeln!(out, "\n{table}")?;
        writeln!(out, "*  the slowest run, when there are fewer than 100")?;
        writeln!(
            out,
            "** measured earlier on the same kind of machine (commit 9e3d1b51), not in this run; loopback only"
        )?;
        for remark in &self.remarks {
            writeln!(out, "\n{remark}")?;
        }
        Ok(())
    }

    /// Writes everything as JSON.
    pub fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, serde_json::to_vec_pretty(self)?).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(())
    }
}

fn number(value: f64) -> String {
    if value >= 100.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}
