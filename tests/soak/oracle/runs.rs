//! Nothing lost, nothing doubled. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{Finding, Rule, finding};
use crate::observed::{Made, Observed, Run, What};

/// Runs that have no end, and are still there.
pub fn not_over(seen: &Observed) -> Vec<Finding> {
    let open = seen.runs.iter().filter(|run| !run.is_gone && !run.is_over());
    open.map(|run| {
        let waits = run.entries.iter().filter(|part| part.finished.is_none());
        let waits: Vec<String> = waits.map(|part| format!("{} {}", part.plane, part.reason)).collect();
        finding(Rule::NotOver, format!("{} is {}: {}", title(run), run.phase, waits.join(", ")))
    })
    .collect()
}

/// Data planes that a run is about and has no entry for, and entries that succeeded without anything having been made.
///
/// A run over all is about every data plane that was registered all the time from shortly before it was made until it ended;
/// a run that names data planes is about these. One that was called off may never have looked.
pub fn lost(seen: &Observed) -> Vec<Finding> {
    let mut found = Vec::new();
    // A restore that is refused has no entries: whether it may be is a question of its verdict.
    let is_refused = |run: &&Run| run.kind == "FleetRestoreJob" && run.entries.is_empty();
    let over = seen.runs.iter().filter(|run| run.is_over() && !run.is_cancelled);
    for run in over.filter(|run| !is_refused(run)) {
        let has: BTreeSet<&str> = run.entries.iter().map(|part| part.plane.as_str()).collect();
        let all: BTreeSet<&str> = if run.named.is_empty() && run.kind != "FleetRestoreJob" {
            seen.planes.keys().map(String::as_str).collect()
        } else {
            run.named.iter().map(String::as_str).collect()
        };
        let was_there = |plane: &&str| !seen.was(What::Unregistered, plane, run.created, run.finished);
        for plane in all.difference(&has).copied().filter(was_there) {
            found.push(finding(Rule::Lost, format!("{} has no entry for {plane}", title(run))));
        }
        let succeeded = run.entries.iter().filter(|part| part.phase == "Succeeded");
        for part in succeeded.filter(|part| made_for(seen, run, &part.plane, &part.job).is_none()) {
            let words =
                format!("{} succeeded in {}, where no {} was ever made", title(run), part.plane, part.job);
            found.push(finding(Rule::Lost, words));
        }
    }
    found
}

/// More objects than attempts for one datacenter of a run, and names that were given twice.
///
/// The sync that follows a purge has a name of its own and counts for itself.
pub fn doubled(seen: &Observed) -> Vec<Finding> {
    let mut names: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    let mut parts: BTreeMap<(&str, &str, &str, &str, bool), BTreeSet<&str>> = BTreeMap::new();
    for made in &seen.made {
        *names.entry((&made.plane, &made.resource, &made.name)).or_default() += 1;
        let is_sync = made.name.ends_with("-sync");
        let part = (made.owner.as_str(), &*made.plane, &*made.datacenter, &*made.resource, is_sync);
        parts.entry(part).or_default().insert(&made.uid);
    }
    // What a schedule keeps there is taken back with the registration, and made again with the next.
    let has_left = |plane: &str| {
        seen.disturbances.iter().any(|one| one.what == What::Unregistered && one.plane == plane)
    };
    let may_be_again = |plane: &str, resource: &str| resource == "medusabackupschedules" && has_left(plane);
    let twice = names
        .into_iter()
        .filter(|((plane, resource, _), count)| *count > 1 && !may_be_again(plane, resource));
    let twice = twice.map(|((plane, resource, name), count)| {
        finding(Rule::Doubled, format!("{resource} {name} was made {count} times in {plane}"))
    });
    let more = parts.into_iter().filter_map(|((owner, plane, datacenter, resource, _), uids)| {
        let run = seen.run(owner)?;
        let is_it = |at: &str, of: &str| at == plane && of == datacenter;
        let entry = run.entries.iter().find(|part| is_it(&part.plane, &part.datacenter));
        let allowed = entry.map_or(1, |part| part.attempts.max(1));
        let words = || format!("{} has {} {resource} in {plane}, not {allowed}", title(run), uids.len());
        (uids.len() > allowed).then(|| finding(Rule::Doubled, words()))
    });
    twice.chain(more).chain(same_slot(seen)).collect()
}

/// Runs of one name that were made twice: a schedule's slot that ran twice has one.
fn same_slot(seen: &Observed) -> impl Iterator<Item = Finding> {
    let mut uids: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for run in &seen.runs {
        uids.entry((&run.kind, &run.name)).or_default().insert(&run.uid);
    }
    let twice = uids.into_iter().filter(|(_, uids)| uids.len() > 1);
    let found: Vec<Finding> = twice
        .map(|((kind, name), uids)| {
            finding(Rule::Doubled, format!("{kind} {name} was made {} times", uids.len()))
        })
        .collect();
    found.into_iter()
}

/// What is there, or was, that no run made: of none that there ever was, or where its run has no entry.
pub fn unexplained(seen: &Observed) -> Vec<Finding> {
    // What schedules keep in the data planes is judged by what is left of it.
    let of_runs = seen.made.iter().filter(|made| made.resource != "medusabackupschedules");
    let mut found = Vec::new();
    for made in of_runs {
        let place = format!("{} {} in {}", made.resource, made.name, made.plane);
        match seen.run(&made.owner) {
            None => {
                found.push(finding(Rule::Unexplained, format!("{place} was made for no run that there was")));
            }
            Some(run) if run.is_over() && !is_about(run, &made.plane) => {
                found
                    .push(finding(Rule::Unexplained, format!("{place}: {} has no entry for it", title(run))));
            }
            Some(_) => {}
        }
    }
    found
}

/// Whether a run has an entry for a data plane, or is a restore in it, which may have to sync before it has any.
fn is_about(run: &Run, plane: &str) -> bool {
    let is_named = run.kind == "FleetRestoreJob" && run.named.iter().any(|named| named == plane);
    is_named || run.entries.iter().any(|part| part.plane == plane)
}

/// What was made under a name for a run in a data plane.
pub fn made_for<'a>(seen: &'a Observed, run: &Run, plane: &str, name: &str) -> Option<&'a Made> {
    seen.made.iter().find(|made| made.owner == run.uid && made.plane == plane && made.name == name)
}

/// A run as people call it.
pub fn title(run: &Run) -> String {
    format!("{} {}", run.kind, run.name)
}
