//! Every verdict right. Pure.
//!
//! The rule, for each datacenter of a run that is over:
//!
//! - `Succeeded`: what was made for it has ended well in its data plane.
//! - Not succeeded although what was made for it ended well: only where its data plane was unregistered in that time, or
//!   the run was called off.
//! - Not succeeded, and nothing was made, or it did not end well:
//!   - its data plane was unregistered in that time, or the run was called off;
//!   - with `unreachablePolicy` `Skip` it may be `Skipped`, with `Fail` `Failed`, where its data plane had a fault between
//!     the run's creation and the decision, or up to half a minute before;
//!   - a purge may be `Failed` with `WouldRemoveLastRestorePoint` where two backups of the datacenter had overlapped: limits
//!     that are not known count as one backup, and the simulator has no medusa.ini;
//!   - with `Wait`, and for restores, a fault excuses nothing: it would have been waited for.
//!
//! And of the whole: all succeeded or were left out, and one at least succeeded: `Succeeded`. None: `Failed`. Else
//! `PartiallyFailed`. `Cancelled` only if it was called off.

use jiff::{SignedDuration, Timestamp};

use super::{
    Finding, Rule, finding,
    runs::{made_for, title},
};
use crate::observed::{End, Observed, Run, RunPart, What};

const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// Verdicts that the data planes contradict, or that nothing excuses.
pub fn wrong(seen: &Observed) -> Vec<Finding> {
    let over = seen.runs.iter().filter(|run| run.is_over());
    over.flat_map(|run| {
        let parts = run.entries.iter().filter_map(|part| {
            let why = contradiction(seen, run, part)?;
            let RunPart { plane, phase, reason, message, .. } = part;
            let words = format!("{} says {phase} {reason} of {plane} ({message}): {why}", title(run));
            Some(finding(Rule::WrongVerdict, words))
        });
        parts.chain(whole(seen, run)).collect::<Vec<Finding>>()
    })
    .collect()
}

fn contradiction(seen: &Observed, run: &Run, part: &RunPart) -> Option<&'static str> {
    let end = made_for(seen, run, &part.plane, &part.job).map(|made| made.end);
    if part.phase == "Succeeded" {
        let why = "what was made there has not ended well";
        return end.is_some_and(|end| end != End::Good).then_some(why);
    }
    let during = |what| seen.was(what, &part.plane, run.created, part.finished.or(run.finished));
    if run.is_cancelled || during(What::Unregistered) {
        return None;
    }
    if end == Some(End::Good) {
        return Some("what was made there ended well");
    }
    if part.reason == "WouldRemoveLastRestorePoint" {
        let why = "its newest backup had begun after all others had ended";
        return (!had_overlapped(seen, part)).then_some(why);
    }
    match (run.policy.as_str(), part.phase.as_str()) {
        ("Skip", "Skipped") | ("Fail", "Failed") if run.kind != "FleetRestoreJob" => {
            (!during(What::Fault)).then_some("nothing was wrong with that data plane")
        }
        _ => Some("its policy does not allow that"),
    }
}

/// Whether, when this was decided, a backup of the datacenter had not ended before the newest one began, by the statuses of
/// their runs, which say whole seconds.
fn had_overlapped(seen: &Observed, part: &RunPart) -> bool {
    let backups = seen.runs.iter().filter(|run| run.kind == "FleetBackupJob");
    let parts = backups.flat_map(|run| run.entries.iter().map(move |entry| (run, entry)));
    let begun: Vec<(Timestamp, Option<Timestamp>)> = parts
        .filter(|(_, entry)| entry.plane == part.plane)
        .filter_map(|(run, entry)| Some((made_for(seen, run, &entry.plane, &entry.job)?.at, entry.finished)))
        .filter(|(at, _)| part.finished.is_none_or(|decided| *at <= decided + SECOND))
        .collect();
    // Of what was made in the second of the decision, nobody knows whether it was before it.
    let certain =
        begun.iter().map(|(at, _)| *at).filter(|at| part.finished.is_none_or(|decided| *at <= decided)).max();
    let candidates =
        begun.iter().map(|(at, _)| *at).filter(|at| certain.is_none_or(|certain| *at >= certain));
    let mut candidates = candidates.collect::<Vec<Timestamp>>().into_iter();
    candidates.any(|newest| {
        let before = begun.iter().filter(|(at, _)| *at < newest);
        before.into_iter().any(|(_, end)| end.is_none_or(|end| end + SECOND >= newest))
    })
}

fn whole(seen: &Observed, run: &Run) -> Option<Finding> {
    let count = |phase: &str| run.entries.iter().filter(|part| part.phase == phase).count();
    let (good, bad) = (count("Succeeded"), count("Failed"));
    let of_parts = match (good, bad) {
        (0, _) => "Failed",
        (_, 0) => "Succeeded",
        _ => "PartiallyFailed",
    };
    let is_right = run.phase == of_parts || (run.phase == "Cancelled" && run.is_cancelled);
    if !is_right {
        let words = format!("{} says {}, with {good} good and {bad} failed", title(run), run.phase);
        return Some(finding(Rule::WrongVerdict, words));
    }
    // A run that ended before it had any datacenter.
    let is_empty = run.entries.is_empty() && run.phase == "Failed" && !run.is_cancelled;
    let is_excused =
        run.named.iter().any(|plane| seen.was(What::Unregistered, plane, run.created, run.finished));
    (is_empty && !is_excused).then(|| {
        finding(Rule::WrongVerdict, format!("{} failed without any datacenter: {}", title(run), run.message))
    })
}
