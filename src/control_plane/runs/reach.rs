//! Whether anything can be said of a datacenter of a run now, and what waits while nothing can. Pure.

use std::collections::BTreeMap;

use super::{
    ending::{Terms, set, time_out},
    select::is_placeholder,
};
use crate::{
    api::{
        Reason, Why,
        fleet::{DatacenterRun, Phase, UnreachablePolicy},
    },
    control_plane::data_planes::fleet::{Snapshot, Usable},
};

/// The data plane of an entry, when it shows what is there; else the entry says why not.
pub fn reach<'a>(
    terms: &Terms,
    planes: &BTreeMap<&str, &'a Snapshot>,
    entry: &mut DatacenterRun,
) -> Option<&'a Snapshot> {
    let Some(plane) = planes.get(entry.data_plane.as_str()) else {
        let message = "its data plane was unregistered during the run".to_owned();
        set(entry, Phase::Failed, Reason::UnknownDataPlane, Some(message));
        return None;
    };
    match obstacle(plane) {
        None if is_placeholder(entry) => set(entry, Phase::Pending, Reason::Pending, None),
        None => return Some(plane),
        // It will be known in a moment.
        Some(Why { reason: Reason::Connecting, .. }) => {}
        Some(Why { reason, message }) => wait(terms, entry, reason, message),
    }
    None
}

/// Why a data plane cannot be used now; `None` when it can.
#[must_use]
pub fn obstacle(plane: &Snapshot) -> Option<Why> {
    let name = &plane.name;
    let (reason, message) = match &plane.usable {
        Usable::Ready => return None,
        Usable::Connecting => (Reason::Connecting, format!("data plane `{name}` is being connected")),
        Usable::Unreachable { since, why } => {
            let since = since.map(|s| format!(" since {s:.0}")).unwrap_or_default();
            (Reason::DataPlaneUnreachable, format!("data plane `{name}` does not answer{since}: {why}"))
        }
        Usable::NotReady { reason, why } => {
            (Reason::DataPlaneNotReady, format!("data plane `{name}` is not ready ({reason}): {why}"))
        }
    };
    Some(Why { reason, message })
}

/// The data plane answers, and does not show what has to be known: it will, or be not ready soon. Nothing is concluded.
pub fn doubt(terms: &Terms, entry: &mut DatacenterRun, why: String) {
    let message = format!("data plane `{}` does not show what is there: {why}", entry.data_plane);
    let is_decided = entry.phase == Phase::Pending && entry.attempts() > 0;
    if !is_decided {
        set(entry, entry.phase, Reason::WatchesStale, Some(message));
    }
    if entry.phase == Phase::Running {
        time_out(terms, entry);
    }
}

/// Nothing is known. What was started goes on without us and is awaited whatever the policy: silence is no failure.
/// What was not started follows the policy.
pub fn wait(terms: &Terms, entry: &mut DatacenterRun, reason: Reason, message: String) {
    if entry.phase == Phase::Pending && entry.attempts() > 0 {
        return; // Why its last attempt failed is worth more.
    }
    let phase = match (entry.phase, terms.unreachable_policy) {
        (Phase::Pending, UnreachablePolicy::Skip) => Phase::Skipped,
        (Phase::Pending, UnreachablePolicy::Fail) => Phase::Failed,
        (phase, _) => phase,
    };
    set(entry, phase, reason, Some(message));
    if phase == Phase::Running {
        time_out(terms, entry);
    }
}
