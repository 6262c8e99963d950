//! Who takes back the MedusaBackupSchedules that a Delegated schedule writes is not fought: they are written again with
//! growing pauses, and that is said (docs/fleetbackupschedule.md). Each write makes the slots before it nobody's, so that a
//! fight would leave a datacenter without any. Pure; it must not write, and not decide what is wanted.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Deserialize as _;
use serde_json::Value;

use super::delegate::{Refusal, ScheduleWrite};
use crate::{
    api::{
        Why, labels,
        medusa::{MedusaBackupSchedule, MedusaBackupScheduleSpec},
        names,
    },
    control_plane::data_planes::{
        copies::changed_by,
        fleet::Snapshot,
        undone::{By, Record, UndoneVerdict, Wish, conflict, contested_until, is_contested, pace, resumes},
        view::ObjectKey,
    },
};

/// A MedusaBackupSchedule: its data plane, and where it is there.
pub(super) type InDataPlane = (String, ObjectKey);

/// The last writes of one schedule. Losing them costs a write or two.
#[derive(Debug, Default)]
pub(super) struct Writes {
    last: BTreeMap<InDataPlane, Record>,
    /// What a write that was admitted will have been.
    begun: BTreeMap<InDataPlane, Record>,
    /// What has to wait, until when and why.
    held: BTreeMap<InDataPlane, (Timestamp, Why)>,
}

impl Writes {
    /// Those of `actions` that may be carried out at `now`. What is carried out is to be noted. Of what is not `wanted` any
    /// more nothing is remembered.
    pub fn admit(
        &mut self,
        actions: Vec<ScheduleWrite>,
        wanted: &BTreeSet<InDataPlane>,
        planes: &[Snapshot],
        now: Timestamp,
    ) -> Vec<ScheduleWrite> {
        self.begun.clear();
        self.held.clear();
        self.last.retain(|place, _| wanted.contains(place));
        actions.into_iter().filter(|action| self.may_go(action, planes, now)).collect()
    }

    fn may_go(&mut self, action: &ScheduleWrite, planes: &[Snapshot], now: Timestamp) -> bool {
        let ScheduleWrite::Apply { data_plane, key, object } = action else { return true };
        let place = (data_plane.clone(), key.clone());
        let known = planes.iter().find(|p| p.name == *data_plane).and_then(|p| p.view.schedules.last(key));
        let by = known.map(|there| who(there, object)).unwrap_or_default();
        match pace(self.last.get(&place), wish(object), by, now) {
            UndoneVerdict::Write(record) => {
                self.begun.insert(place, record);
                true
            }
            UndoneVerdict::Conflict(record) => {
                let why = conflict(said(&place), &record.by, record.times.saturating_add(1));
                self.held.insert(place, (resumes(&record), why));
                false
            }
        }
    }

    /// Notes what was carried out: written, or deleted, of which nobody takes anything back.
    pub fn note(&mut self, done: &BTreeSet<InDataPlane>) {
        for place in done {
            match self.begun.remove(place) {
                Some(record) => _ = self.last.insert(place.clone(), record),
                None => _ = self.last.remove(place),
            }
        }
        self.begun.clear();
    }

    /// What is taken back, whether it waits or is there for now, and when that is to be looked at again.
    pub fn conflicts(&self, now: Timestamp) -> (Vec<Refusal>, Option<Timestamp>) {
        let contested = self.last.iter().filter(|(place, _)| !self.held.contains_key(*place));
        let contested = contested.filter(|(_, record)| is_contested(record, now));
        let contested = contested.filter_map(|(place, record)| {
            Some((place, contested_until(record)?, conflict(said(place), &record.by, record.times)))
        });
        let held = self.held.iter().map(|(place, (until, why))| (place, *until, why.clone()));
        let all: BTreeMap<&InDataPlane, (Timestamp, Why)> =
            held.chain(contested).map(|(place, until, why)| (place, (until, why))).collect();
        let next = all.values().map(|(until, _)| *until).min();
        let refusal = |((plane, key), (_, why)): (&InDataPlane, (Timestamp, Why))| Refusal {
            place: format!("{plane}/{key}"),
            problem: why,
        };
        (all.into_iter().map(refusal).collect(), next)
    }
}

/// How a MedusaBackupSchedule is named where its place goes before it.
fn said((_, key): &InDataPlane) -> String {
    format!("MedusaBackupSchedule {}", key.name)
}

/// What is asked for by writing `object`. It is made for its datacenter: with another one it is another matter.
fn wish(object: &Value) -> Wish {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let content = object.get("spec").map(|spec| names::sha256_hex(spec.to_string().as_bytes()));
    Wish {
        uid: text("/metadata/ownerReferences/0/uid"),
        content: content.unwrap_or_default(),
        ..Wish::default()
    }
}

/// Who changed `there`, which should be `object`, and what of it.
fn who(there: &MedusaBackupSchedule, object: &Value) -> By {
    // As it is read: a definition may lack a field that is always written out.
    let wanted = object.get("spec").and_then(|spec| MedusaBackupScheduleSpec::deserialize(spec).ok());
    let field = if wanted.as_ref() == Some(&there.spec) { ".metadata" } else { ".spec" };
    let manager = changed_by(&there.metadata, labels::MANAGER_CONTROL_PLANE).unwrap_or_default();
    By { manager: manager.to_owned(), field: field.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::SignedDuration;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
    use serde_json::json;

    use super::*;
    use crate::control_plane::fanout::tests::{live, plane};

    fn key() -> ObjectKey {
        ObjectKey::new("ns", "nightly-dc1")
    }

    fn object(cron: &str, datacenter: &str) -> Value {
        json!({
            "metadata": {"ownerReferences": [{
                "apiVersion": "cassandra.datastax.com/v1beta1", "kind": "CassandraDatacenter",
                "name": "dc1", "uid": datacenter,
            }]},
            "spec": {"cronSchedule": cron, "backupSpec": {"cassandraDatacenter": "dc1"}},
        })
    }

    /// The data plane, with what Argo CD has put there.
    fn taken_back() -> Snapshot {
        let mut there: MedusaBackupSchedule = serde_json::from_value(object("0 9 * * *", "dc")).unwrap();
        let manager =
            |name: &str| ManagedFieldsEntry { manager: Some(name.to_owned()), ..Default::default() };
        there.metadata.managed_fields =
            Some(vec![manager(labels::MANAGER_CONTROL_PLANE), manager("argocd-controller")]);
        let mut view = live(&[]);
        view.schedules.put(key(), Arc::new(there));
        plane("eu", view)
    }

    fn wanted() -> BTreeSet<InDataPlane> {
        [("eu".to_owned(), key())].into()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    /// Whether `object` may be written, and then it is.
    fn writes(writes: &mut Writes, object: Value, now: i64) -> bool {
        let action = ScheduleWrite::Apply { data_plane: "eu".to_owned(), key: key(), object };
        let goes = !writes.admit(vec![action], &wanted(), &[taken_back()], at(now)).is_empty();
        if goes {
            writes.note(&[("eu".to_owned(), key())].into());
        }
        goes
    }

    #[test]
    fn what_is_taken_back_twice_waits_and_says_who_does_that_until_it_has_stood() {
        let (mut known, nightly) = (Writes::default(), || object("0 2 * * *", "dc"));
        assert!(writes(&mut known, nightly(), 0), "it is new");
        assert!(writes(&mut known, nightly(), 1), "once may be an accident");
        assert_eq!(known.conflicts(at(1)), (Vec::new(), None));
        assert!(!writes(&mut known, nightly(), 2));
        let (refused, next) = known.conflicts(at(2));
        assert_eq!(next, Some(at(3)));
        assert_eq!(refused[0].place, "eu/ns/nightly-dc1");
        let said = &refused[0].problem.message;
        assert!(
            said.contains("MedusaBackupSchedule nightly-dc1: `argocd-controller` takes back `.spec`"),
            "{said}"
        );
        assert!(writes(&mut known, nightly(), 3));
        // It is there for now, and has not stood yet.
        known.admit(Vec::new(), &wanted(), &[taken_back()], at(4));
        assert_eq!((known.conflicts(at(4)).0.len(), known.conflicts(at(4)).1), (1, Some(at(603))));
        assert_eq!(known.conflicts(at(603)), (Vec::new(), None));
    }

    #[test]
    fn what_is_asked_for_anew_made_again_or_was_not_written_is_not_taken_back() {
        let mut known = Writes::default();
        for round in 0..4 {
            assert!(writes(&mut known, object(&format!("{round} 2 * * *"), "dc"), round), "another content");
        }
        for round in 0..4 {
            assert!(
                writes(&mut known, object("0 2 * * *", &format!("dc{round}")), round),
                "of another datacenter"
            );
        }
        for round in 0..4 {
            let action = ScheduleWrite::Apply {
                data_plane: "eu".to_owned(),
                key: key(),
                object: object("5 2 * * *", "dc"),
            };
            assert_eq!(
                known.admit(vec![action], &wanted(), &[taken_back()], at(round)).len(),
                1,
                "it could not be written"
            );
            known.note(&BTreeSet::new());
        }
        for round in 0..4 {
            assert!(writes(&mut known, object("6 2 * * *", "dc"), round), "we deleted it ourselves");
            known.admit(Vec::new(), &wanted(), &[taken_back()], at(round));
            known.note(&[("eu".to_owned(), key())].into());
        }
        known.admit(Vec::new(), &BTreeSet::new(), &[taken_back()], at(9));
        assert!(known.last.is_empty(), "it is wanted no more");
    }
}
