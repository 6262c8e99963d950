//! Nothing is left over: objects, watches, connections, Events. Pure.

use jiff::Timestamp;

use super::{Finding, Rule, finding, runs::title};
use crate::observed::{AFTERWARDS, Made, Observed, Open, What};

/// Events about an object for one reason that there may be, whatever happened.
const EVENTS: usize = 8;

/// Objects in data planes whose run or schedule is gone, and schedules that were deleted and are there.
///
/// What a run made stays where its data plane was unregistered afterwards: only copies and schedules are taken back then.
pub fn left_over(seen: &Observed) -> Vec<Finding> {
    let there = seen.made.iter().filter(|made| made.deleted.is_none());
    let left = there.filter_map(|made| {
        let place = format!("{} {} in {}", made.resource, made.name, made.plane);
        if made.resource == "medusabackupschedules" {
            return seen.home.schedules.is_empty().then(|| format!("{place}: its schedule is gone"));
        }
        let run = seen.run(&made.owner).filter(|run| run.is_gone)?;
        let part = run.entries.iter().find(|part| part.plane == made.plane);
        let said =
            part.map(|part| format!(", which said {} {}", part.phase, part.reason)).unwrap_or_default();
        (!was_let_go(seen, made)).then(|| format!("{place}, {:?}: {} is gone{said}", made.end, title(run)))
    });
    let schedules = seen.home.schedules.iter().map(|name| format!("FleetBackupSchedule {name} was deleted"));
    left.chain(schedules).map(|about| finding(Rule::LeftOver, about)).collect()
}

fn was_let_go(seen: &Observed, made: &Made) -> bool {
    // Also what was made when the control plane had not heard of it yet.
    let lasts = |until: Option<Timestamp>| until.is_none_or(|until| until + AFTERWARDS >= made.at);
    let left =
        seen.disturbances.iter().filter(|one| one.what == What::Unregistered && one.plane == made.plane);
    left.into_iter().any(|one| one.from >= made.at || lasts(one.until))
}

/// Watches and connections: as many as of a data plane to which nothing was done, and none where it is not registered.
pub fn open(seen: &Observed) -> Vec<Finding> {
    let differs = seen.planes.iter().filter_map(|(name, plane)| {
        let is_registered = seen.home.registered.contains(name);
        let wanted = if is_registered { seen.idle } else { Open::default() };
        let Open { watches, connections } = plane.open;
        let words = format!(
            "{name} has {watches} watches and {connections} connections, {} of the control plane, not {} and {}",
            plane.held, wanted.watches, wanted.connections
        );
        (plane.open != wanted).then_some(words)
    });
    differs.map(|about| finding(Rule::Open, about)).collect()
}

/// Objects with more Events for one reason than what was done to them, and to the control plane, explains.
pub fn events(seen: &Observed) -> Vec<Finding> {
    let too_many = seen.home.events.iter().filter_map(|((kind, name, reason), count)| {
        // A configuration is told of every data plane; what is done to these is done to it.
        let done = match kind.as_str() {
            "MedusaConfiguration" => seen.done.values().sum(),
            _ => seen.done.get(name).copied().unwrap_or_default(),
        };
        let most = EVENTS + seen.starts + 2 * done;
        (count > &most).then(|| format!("{kind} {name} has {count} Events {reason}, more than {most}"))
    });
    too_many.map(|about| finding(Rule::Events, about)).collect()
}
