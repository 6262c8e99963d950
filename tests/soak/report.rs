//! What a soak says: lines while it goes on, and figures in the end.

use std::{collections::BTreeMap, io::Write as _, time::Duration};

use crate::{
    latency::{Latency, percentile},
    memory::{MOST_PER_HOUR, Slope},
    plan::LONG,
};

/// How far the others' P99 may be above the one without faults.
const BAR: f64 = 1.1;

/// So many of the slowest are named.
const SLOWEST: usize = 6;

/// Says a line.
pub fn say(text: impl AsRef<str>) {
    // A closed standard output is no reason to stop.
    let _ = writeln!(std::io::stdout(), "{}", text.as_ref());
}

/// The table of latencies, and in one line whether faults of some cost the others anything.
pub fn isolation(measured: &[Latency]) -> (Vec<String>, String) {
    let mut all: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for one in measured {
        all.entry(&one.class).or_default().push(one.took);
    }
    let mut lines = vec!["fan-out to data planes without a fault, ms from the FleetBackupJob:".to_owned()];
    let row = |name: &str, values: &[f64]| {
        let at = |percent| percentile(values, percent).unwrap_or_default();
        format!("  {name:<34} n={:<6} p50 {:>7.0}   p99 {:>7.0}", values.len(), at(50), at(99))
    };
    let calm = all.get("").cloned().unwrap_or_default();
    let beside: Vec<f64> =
        all.iter().filter(|(class, _)| !class.is_empty()).flat_map(|(_, v)| v.clone()).collect();
    lines.push(row("no fault anywhere", &calm));
    lines.push(row("one in ten with a fault", &beside));
    lines.extend(
        all.iter().filter(|(class, _)| !class.is_empty()).map(|(class, v)| row(&format!("  {class}"), v)),
    );
    let mut slowest: Vec<&Latency> = measured.iter().collect();
    slowest.sort_by(|one, other| other.took.total_cmp(&one.took));
    let slowest = slowest.into_iter().take(SLOWEST);
    let name = |one: &Latency| format!("{} in {} {:.0} ms ({})", one.probe, one.plane, one.took, one.class);
    lines.push(format!("  the slowest: {}", slowest.map(name).collect::<Vec<String>>().join(", ")));
    let (Some(without), Some(with)) = (percentile(&calm, 99), percentile(&beside, 99)) else {
        return (lines, "isolation was not measured".to_owned());
    };
    let ratio = with / without;
    let word = if ratio <= BAR { "met" } else { "NOT met" };
    (
        lines,
        format!(
            "isolation p99 {with:.0} ms beside faults, {without:.0} ms without: {ratio:.2}×, bar 1.10× {word}"
        ),
    )
}

/// What there is to say of memory, and whether it is a finding.
pub fn memory(slope: Option<Slope>, length: Duration) -> (String, bool) {
    let Some(Slope { per_hour, error, last }) = slope else {
        return ("memory was not measured".to_owned(), false);
    };
    let words = format!("memory {last:.1} MiB, slope {per_hour:+.2} ± {error:.2} MiB/h");
    if length < LONG {
        return (format!("{words} (not judged: under 30 minutes it tells nothing)"), false);
    }
    let grows = slope.is_some_and(|slope| slope.grows());
    let word = if grows { "grows by more than" } else { "within" };
    (format!("{words}: {word} {MOST_PER_HOUR} MiB/h beyond noise"), grows)
}
