//! A run over datacenters: how each stands, and how it ended.

use std::fmt::Write as _;

use crate::{
    api::{
        Conditions as _,
        fleet::{DatacenterCounts, DatacenterRun, FleetBackupJobStatus, NodeCounts, Phase, RunStatus},
        size,
    },
    cli::output::one_line,
};

/// Name of a datacenter in a run: `<data plane>/<namespace>/<datacenter>`.
#[must_use]
pub fn title(run: &DatacenterRun) -> String {
    if run.datacenter.is_empty() {
        return format!("{}/?", run.data_plane);
    }
    run.place()
}

/// State of a datacenter in a run, on one line.
#[must_use]
pub fn line(run: &DatacenterRun) -> String {
    let mut line = run.phase.as_str().to_owned();
    if run.attempts > 1 {
        let _ = write!(line, ", attempt {}", run.attempts);
    }
    if let Some(NodeCounts { total, finished, .. }) = run.nodes {
        let _ = write!(line, ", {finished}/{total} nodes");
    }
    if let Some(bytes) = run.size_bytes {
        let _ = write!(line, ", {}", size::humanize(bytes));
    }
    line + &why(run.phase, run.reason.as_deref(), run.message.as_deref())
}

/// Why a datacenter is in `phase`, in parentheses. While all is well the reason only repeats the phase.
pub(super) fn why(phase: Phase, reason: Option<&str>, message: Option<&str>) -> String {
    let parts = [reason, message].into_iter().flatten();
    let why = parts.filter(|w| !w.is_empty() && *w != phase.as_str()).collect::<Vec<_>>().join(": ");
    if why.is_empty() || phase == Phase::Succeeded { String::new() } else { format!(" ({})", one_line(&why)) }
}

/// How many datacenters stand where, on one line.
#[must_use]
pub fn counts(counts: &DatacenterCounts) -> String {
    let all = [
        (counts.pending, "pending"),
        (counts.running, "running"),
        (counts.succeeded, "succeeded"),
        (counts.failed, "failed"),
        (counts.skipped, "skipped"),
    ];
    let shown = all.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}"));
    shown.collect::<Vec<_>>().join(", ")
}

/// How the run stands, in one line.
#[must_use]
pub fn summary(status: &FleetBackupJobStatus) -> String {
    let phase = status.run.phase.unwrap_or_default();
    let counts = status.run.counts.unwrap_or_default();
    let nodes = status.datacenters.iter().filter_map(|run| run.nodes);
    let (finished, total) =
        nodes.fold((0_i64, 0_i64), |(f, t), n| (f.saturating_add(n.finished), t.saturating_add(n.total)));
    let mut parts = vec![
        format!("{}/{} datacenters", counts.succeeded, counts.total),
        format!("{finished}/{total} nodes"),
    ];
    for (n, word) in [(counts.failed, "failed"), (counts.skipped, "skipped")] {
        if n > 0 {
            parts.push(format!("{n} {word}"));
        }
    }
    if let Some(size) = &status.size {
        parts.push(size.clone());
    }
    if !status.restore_points.is_empty() {
        let s = if status.restore_points.len() == 1 { "" } else { "s" };
        parts.push(format!("restore point{s} {}", status.restore_points.join(", ")));
    }
    format!("{}: {}{}", phase.as_str(), parts.join(", "), failure(&status.run))
}

/// Of a run that is over and not complete, whatever its phase: why, in parentheses.
pub(super) fn failure(run: &RunStatus) -> String {
    let is_over = run.phase.is_some_and(Phase::is_final);
    let complete = run.conditions.of_type("Complete").filter(|c| is_over && c.status == "False");
    complete.map_or_else(String::new, |c| {
        let why = if c.message.is_empty() { &c.reason } else { &c.message };
        format!(" ({})", one_line(why))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::views::fixtures::{finished_run, half_failed_run, running_run};

    #[test]
    fn many_datacenters_are_told_as_numbers() {
        assert_eq!(counts(&running_run().run.counts.unwrap()), "1 pending, 1 running");
    }

    #[test]
    fn the_last_line_says_what_can_be_restored() {
        assert_eq!(
            summary(&finished_run()),
            "Succeeded: 2/2 datacenters, 6/6 nodes, 1.25 GB, restore point nightly-0b1c2d3e.shop"
        );
    }

    #[test]
    fn the_last_line_of_a_bad_run_says_why() {
        assert_eq!(
            summary(&half_failed_run()),
            "PartiallyFailed: 1/2 datacenters, 5/6 nodes, 1 failed, 1.00 GB \
             (us-1/shop/dc2: node dc2-r1-sts-0 failed)"
        );
    }

    #[test]
    fn a_data_plane_whose_datacenters_are_not_known_yet_has_a_line() {
        let run = DatacenterRun { data_plane: "eu-2".to_owned(), ..DatacenterRun::default() };
        assert_eq!(title(&run), "eu-2/?");
        assert_eq!(line(&run), "Pending");
        let again = DatacenterRun { phase: Phase::Running, attempts: 2, ..run };
        assert_eq!(line(&again), "Running, attempt 2");
    }
}
