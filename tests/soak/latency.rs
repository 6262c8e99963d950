//! How long it takes from a FleetBackupJob to its MedusaBackupJob in each data plane, with and without faults in others.
//! Pure.

use jiff::{SignedDuration, Timestamp};

use crate::observed::{AFTERWARDS, Disturbance, Observed};

/// A FleetBackupJob by which it is measured.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Its name.
    pub name: String,
    /// When it was asked for.
    pub at: Timestamp,
}

/// A fault of the simulator, and when.
#[derive(Clone, Debug)]
pub struct Spell {
    /// Which.
    pub fault: String,
    /// Since when.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

/// How long one data plane waited for one probe.
#[derive(Clone, Debug, PartialEq)]
pub struct Latency {
    /// What was wrong with other data planes meanwhile; nothing has no words.
    pub class: String,
    /// The probe.
    pub probe: String,
    /// The data plane.
    pub plane: String,
    /// Milliseconds.
    pub took: f64,
}

/// What a fault comes to for who asks.
pub fn class(fault: &str) -> &'static str {
    match fault {
        "hang" | "stop" => "hung",
        "delay" | "slow-body" | "trickle" => "slow",
        "busy" | "broken" => "429 or 5xx",
        _ => "lying or cut",
    }
}

/// The latency of every probe in every data plane to which nothing was done, and that nothing of its own held up.
///
/// A probe counts where the same was wrong from when it was asked for until its object was there, and where the control
/// plane was neither stopped nor killed (`down`) then. A purge or restore of the datacenter, which a backup has to wait
/// for, takes it out.
pub fn latencies(
    seen: &Observed,
    probes: &[Probe],
    spells: &[Spell],
    down: &[(Timestamp, Timestamp)],
) -> Vec<Latency> {
    let mut found = Vec::new();
    for probe in probes {
        let Some(run) = seen.runs.iter().find(|run| run.name == probe.name) else { continue };
        for made in seen.made.iter().filter(|made| made.owner == run.uid) {
            let (from, to) = (probe.at, made.at);
            let meets = |start: Timestamp, end: Timestamp| start <= to && end >= from;
            let is_down = down.iter().any(|(start, end)| meets(*start, *end));
            let is_disturbed =
                seen.disturbances.iter().any(|one| one.plane == made.plane && touches(one, from, to));
            if is_down || is_disturbed || is_held(seen, &made.plane, from, to) {
                continue;
            }
            let about: Vec<&Spell> = spells.iter().filter(|spell| meets(spell.from, spell.until)).collect();
            let whole = about.iter().all(|spell| spell.from <= from && spell.until >= to);
            if !whole {
                continue;
            }
            let mut classes: Vec<&str> = about.iter().map(|spell| class(&spell.fault)).collect();
            classes.sort_unstable();
            classes.dedup();
            let took = to.duration_since(from).as_secs_f64() * 1000.0;
            let (probe, plane) = (probe.name.clone(), made.plane.clone());
            found.push(Latency { class: classes.join(" + "), probe, plane, took });
        }
    }
    found
}

fn touches(one: &Disturbance, from: Timestamp, to: Timestamp) -> bool {
    one.from <= to && one.until.is_none_or(|until| until + AFTERWARDS >= from)
}

/// Whether a purge or a restore of a data plane's datacenter was there in that time.
fn is_held(seen: &Observed, plane: &str, from: Timestamp, to: Timestamp) -> bool {
    let holds = seen.runs.iter().filter(|run| run.kind != "FleetBackupJob");
    holds.into_iter().any(|run| {
        let part = run.entries.iter().find(|part| part.plane == plane);
        // A restore holds backups up before it has entries, too.
        let is_restored = run.kind == "FleetRestoreJob" && run.named.iter().any(|named| named == plane);
        let end = part.and_then(|part| part.finished).filter(|_| !is_restored).or(run.finished);
        // The status says whole seconds.
        let end = end.map_or(Timestamp::MAX, |end| end + SignedDuration::from_secs(1));
        (part.is_some() || is_restored) && run.created <= to && end >= from
    })
}

/// The value that so many of a hundred are not above.
pub fn percentile(values: &[f64], percent: usize) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied()
}
