//! How a Delegated schedule goes, from what its MedusaBackupSchedules and the MedusaBackups say. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{
    api::{Conditions as _, fleet::DatacenterRun, names},
    control_plane::{
        fleet::Snapshot,
        view::{BackupRecord, ObjectKey},
    },
};

/// What the data planes say, together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Results {
    /// The latest slot that ran anywhere.
    pub last: Option<Timestamp>,
    /// The earliest slot that comes.
    pub next: Option<Timestamp>,
    /// Since when every datacenter has a successful backup of this schedule: the end of the oldest of their newest.
    pub success: Option<Timestamp>,
    /// Datacenters whose last run is known to have gone wrong, with why.
    pub failed: Vec<String>,
    /// Datacenters whose schedule says that slots passed without a run, with its words.
    pub missed: Vec<String>,
    /// Datacenters whose schedule says that it will not run, with its words.
    pub unready: Vec<String>,
    /// Whether every datacenter's last run ended well.
    pub is_good: bool,
}

/// Reads `there`, the datacenters that have their MedusaBackupSchedule. With `backups`, its runs leave MedusaBackups.
#[must_use]
pub fn results(there: &[(DatacenterRun, ObjectKey)], planes: &[Snapshot], backups: bool) -> Results {
    let planes: BTreeMap<&str, &Snapshot> = planes.iter().map(|plane| (plane.name.as_str(), plane)).collect();
    let mut found = Results { is_good: backups && !there.is_empty(), ..Results::default() };
    let mut oldest: Option<Option<Timestamp>> = None;
    for (entry, key) in there {
        let Some(plane) = planes.get(entry.data_plane.as_str()) else { continue };
        let Some(schedule) = plane.view.schedules.items.get(key) else { continue };
        let place = format!("{}/{}/{}", entry.data_plane, entry.namespace, entry.datacenter);
        let status = schedule.status.clone().unwrap_or_default();
        let last = status.last_execution.as_ref().map(|time| time.0);
        found.last = found.last.max(last);
        let next = status.next_schedule.as_ref().map(|time| time.0);
        found.next = found.next.into_iter().chain(next).min();
        let say = |type_: &str, status_: &str| {
            let condition = status.conditions.of_type(type_).filter(|c| c.status == status_)?;
            Some(format!("{place}: {}", condition.message))
        };
        found.missed.extend(say("Missed", "True"));
        found.unready.extend(say("Ready", "False").filter(|_| schedule.spec.disabled != Some(true)));
        if !backups {
            continue;
        }
        let own: BTreeMap<Timestamp, &BackupRecord> = plane
            .view
            .backups
            .items
            .iter()
            .filter(|(backup, _)| backup.namespace == key.namespace)
            .filter_map(|(backup, record)| Some((names::slot_of(&key.name, &backup.name)?, &**record)))
            .collect();
        let good =
            own.values().filter(|record| record.status == "SUCCESS").filter_map(|r| r.finish_time).max();
        oldest =
            Some(oldest.map_or(good, |oldest| oldest.and_then(|oldest| good.map(|good| oldest.min(good)))));
        let Some((slot, newest)) = own.last_key_value() else {
            found.is_good = false;
            continue;
        };
        found.is_good &= newest.status == "SUCCESS" && last.is_none_or(|last| last <= *slot);
        if !matches!(newest.status.as_str(), "SUCCESS" | "IN_PROGRESS" | "") {
            found.failed.push(format!("{place}: the backup of {slot} is {}", newest.status));
        }
    }
    found.success = oldest.flatten();
    found
}

/// The first of `places`, and how many more there are.
#[must_use]
pub fn first_of(places: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = places.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    match places.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::control_plane::fanout::tests::{datacenter, live, pending, plane};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn key(dc: &str) -> ObjectKey {
        ObjectKey::new("ns", format!("nightly-{dc}-0b1c2d3e"))
    }

    /// A data plane with `dc1`, its schedule and backups of these slots, which took ten seconds each.
    fn snapshot(name: &str, status: Value, backups: &[(i64, &str)]) -> Snapshot {
        let mut view = live(&[datacenter("dc1", 1)]);
        let schedule = json!({
            "metadata": {"name": key("dc1").name, "namespace": "ns"},
            "spec": {"cronSchedule": "@daily", "backupSpec": {"cassandraDatacenter": "dc1"}}, "status": status
        });
        view.schedules.items.insert(key("dc1"), Arc::new(serde_json::from_value(schedule).unwrap()));
        for (slot, word) in backups {
            let record = BackupRecord {
                status: (*word).to_owned(),
                finish_time: Some(at(slot + 10)),
                ..BackupRecord::default()
            };
            let name = format!("{}-{slot}", key("dc1").name);
            view.backups.items.insert(ObjectKey::new("ns", name), Arc::new(record));
        }
        plane(name, view)
    }

    fn status(last: i64, next: i64) -> Value {
        json!({"lastExecution": at(last).to_string(), "nextSchedule": at(next).to_string()})
    }

    fn read(planes: &[Snapshot]) -> Results {
        let there: Vec<_> = planes.iter().map(|p| (pending(&p.name, "dc1"), key("dc1"))).collect();
        results(&there, planes, true)
    }

    #[test]
    fn the_last_success_is_that_of_the_datacenter_that_is_furthest_behind() {
        let planes = [
            snapshot("eu", status(2_000, 3_000), &[(1_000, "SUCCESS"), (2_000, "SUCCESS")]),
            snapshot("us", status(2_000, 2_900), &[(1_000, "SUCCESS"), (2_000, "FAILED")]),
        ];
        let found = read(&planes);
        assert_eq!(
            (found.last, found.next, found.success),
            (Some(at(2_000)), Some(at(2_900)), Some(at(1_010)))
        );
        assert_eq!(found.failed.len(), 1);
        assert!(!found.is_good && found.failed[0].starts_with("us/ns/dc1"));
        assert!(read(&planes[..1]).is_good);
        let never = [planes[0].clone(), snapshot("us", json!({}), &[])];
        assert_eq!(read(&never).success, None, "one has no backup at all");
        let going = [snapshot("eu", status(2_000, 3_000), &[(1_000, "SUCCESS")])];
        assert!(
            !read(&going).is_good && read(&going).failed.is_empty(),
            "the last one may still be going on"
        );
    }

    #[test]
    fn what_a_data_plane_missed_is_said_in_its_words() {
        let condition = |type_: &str, status: &str| {
            json!({"type": type_, "status": status, "reason": "X", "message": format!("{type_} it says"),
                   "lastTransitionTime": "2026-03-01T00:00:00Z"})
        };
        let said = json!({"conditions": [condition("Missed", "True"), condition("Ready", "False")]});
        let found = read(&[snapshot("eu", said, &[])]);
        assert_eq!(found.missed, ["eu/ns/dc1: Missed it says"]);
        assert_eq!(found.unready, ["eu/ns/dc1: Ready it says"]);
    }

    #[test]
    fn long_lists_are_cut() {
        let places: Vec<String> = (1..=5).map(|n| n.to_string()).collect();
        assert_eq!(first_of(&places), "1; 2; 3; and 2 more");
        assert_eq!(first_of(&places[..2]), "1; 2");
    }
}
