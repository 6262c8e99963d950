//! Which DataPlanes there are, entered into the fleet's table as the watch brings them: before anything is asked about
//! one, whatever is wrong with it, and by uid, so that one that is made again under its name begins with nothing.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use kube::{Resource as _, ResourceExt as _, core::DeserializeGuard, runtime::watcher::Event};

use super::unique;
use crate::{
    api::{
        Reason, Why,
        fleet::{DataPlane, DeletionPolicy, limit},
        labels,
    },
    control_plane::data_planes::fleet::{Fleet, Member},
    runtime::sync::lock,
};

/// A DataPlane that is out of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) name: String,
    pub(super) uid: String,
}

/// Keeps the fleet's table by the watch of the DataPlanes.
pub(super) struct Roll {
    fleet: Arc<Fleet>,
    /// Uids in the listing that goes on.
    listing: Mutex<BTreeSet<String>>,
}

impl Roll {
    pub(super) fn new(fleet: Arc<Fleet>) -> Self {
        Self { fleet, listing: Mutex::default() }
    }

    /// Enters what an event of the watch says into the table; returns those that are out of the table now. The fleet is told
    /// once the first listing is complete.
    pub(super) fn note(&self, event: &Event<DeserializeGuard<DataPlane>>) -> Vec<Gone> {
        match event {
            Event::Init => {
                lock(&self.listing).clear();
                Vec::new()
            }
            Event::InitApply(plane) => {
                lock(&self.listing).insert(plane.uid().unwrap_or_default());
                self.enter(plane)
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut *lock(&self.listing));
                let table = self.fleet.uids().into_iter().filter(|(_, uid)| !listed.contains(uid));
                let gone = table.filter(|(name, uid)| self.fleet.remove(name, uid));
                let gone = gone.map(|(name, uid)| Gone { name, uid }).collect();
                self.fleet.set_enrolled();
                gone
            }
            Event::Apply(plane) => self.enter(plane),
            Event::Delete(plane) => self.strike(plane).into_iter().collect(),
        }
    }

    fn enter(&self, plane: &DeserializeGuard<DataPlane>) -> Vec<Gone> {
        let is_ours = plane.finalizers().iter().any(|f| f == labels::FINALIZER);
        if plane.meta().deletion_timestamp.is_some() && !is_ours {
            // Nothing is waited for here any more; whoever else holds it does not need us.
            return self.strike(plane).into_iter().collect();
        }
        let (name, uid) = (plane.name_any(), plane.uid().unwrap_or_default());
        let before = self.fleet.enrol(&name, &uid, |member| fill(member, plane)).flatten();
        before.map(|uid| Gone { name, uid }).into_iter().collect()
    }

    fn strike(&self, plane: &DeserializeGuard<DataPlane>) -> Option<Gone> {
        let gone = Gone { name: plane.name_any(), uid: plane.uid().unwrap_or_default() };
        self.fleet.remove(&gone.name, &gone.uid).then_some(gone)
    }
}

/// What the object alone says of a data plane.
fn fill(member: &mut Member, plane: &DeserializeGuard<DataPlane>) {
    member.labels.clone_from(plane.labels());
    let is_deleted = plane.meta().deletion_timestamp.is_some();
    if is_deleted {
        member.blocked = Some(Why::new(Reason::Unregistering, "it is being unregistered"));
    }
    match &plane.0 {
        Ok(plane) => {
            let limits = plane.spec.limits.as_ref();
            member.max_concurrent_backups = limit(limits.and_then(|limits| limits.max_concurrent_backups));
            // What is there stays when that is asked for, or when it is another DataPlane's.
            member.unregistering = is_deleted
                && plane.spec.deletion_policy != Some(DeletionPolicy::Retain)
                && !unique::was_duplicate(plane);
            if !is_deleted && plane.spec.paused == Some(true) {
                member.blocked = Some(Why::new(Reason::Paused, "its `spec.paused` is set"));
            }
        }
        Err(_) if is_deleted => member.unregistering = true,
        Err(_) => {
            member.blocked = Some(Why::new(Reason::InvalidSpec, "its DataPlane cannot be read"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, btree_map::Entry};

    use kube::core::ObjectMeta;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::control_plane::data_planes::fleet::Usable;

    type Guard = DeserializeGuard<DataPlane>;

    fn object(name: &str, uid: u32, is_deleted: bool, spec: &serde_json::Value) -> Guard {
        serde_json::from_value(json!({
            "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "DataPlane",
            "metadata": {
                "name": name, "uid": format!("uid-{uid}"), "finalizers": [labels::FINALIZER],
                "deletionTimestamp": is_deleted.then_some("2026-01-01T00:00:00Z"),
            },
            "spec": spec,
        }))
        .unwrap()
    }

    #[test]
    fn whatever_is_wrong_with_one_the_table_is_whole_once_all_are_listed() {
        let fleet = Arc::new(Fleet::default());
        let roll = Roll::new(fleet.clone());
        fleet.set_listing(BTreeMap::new());
        roll.note(&Event::Init);
        let odd = object("odd", 1, false, &json!({"limits": {"qps": "many"}}));
        assert!(odd.0.is_err());
        roll.note(&Event::InitApply(odd));
        roll.note(&Event::InitApply(object(
            "bad",
            2,
            false,
            &json!({"kubeconfigSecretRef": {"name": "my secret"}}),
        )));
        assert!(!fleet.is_enrolled());
        roll.note(&Event::InitDone);
        assert!(fleet.is_enrolled());
        let usable: Vec<_> = fleet.snapshot().into_iter().map(|plane| (plane.name, plane.usable)).collect();
        assert_eq!(
            usable[0],
            ("bad".to_owned(), Usable::Connecting),
            "nothing is concluded from one not asked yet"
        );
        assert!(matches!(&usable[1].1, Usable::NotReady { reason: Reason::InvalidSpec, .. }), "{usable:?}");
    }

    #[test]
    fn one_that_is_made_again_begins_with_nothing_and_the_old_one_can_do_nothing_to_it() {
        let fleet = Arc::new(Fleet::default());
        let roll = Roll::new(fleet.clone());
        let local = json!({"local": true});
        roll.note(&Event::Apply(object("eu", 1, false, &local)));
        let old = fleet.member("eu").unwrap();
        old.view.update(crate::control_plane::data_planes::view::View::set_synced);
        fleet.update("eu", "uid-1", |member| member.unregistering = true);
        let gone = roll.note(&Event::Apply(object("eu", 2, false, &local)));
        assert_eq!(gone, [Gone { name: "eu".to_owned(), uid: "uid-1".to_owned() }]);
        assert!(!fleet.update("eu", "uid-1", |member| member.unregistering = true));
        assert!(!fleet.remove("eu", "uid-1"));
        assert_eq!(roll.note(&Event::Delete(object("eu", 1, true, &local))), []);
        let new = fleet.member("eu").unwrap();
        assert!(!new.unregistering && new.uid == "uid-2" && !new.view.get().is_live());
    }

    #[test]
    fn one_that_goes_without_our_leave_or_while_nobody_watched_is_gone() {
        let fleet = Arc::new(Fleet::default());
        let roll = Roll::new(fleet.clone());
        let local = json!({"local": true});
        for (name, uid) in [("a", 1), ("b", 2), ("c", 3)] {
            roll.note(&Event::Apply(object(name, uid, false, &local)));
        }
        assert_eq!(roll.note(&Event::Delete(object("a", 1, false, &local))).len(), 1);
        let mut freed = object("b", 2, true, &local);
        freed.meta_mut().finalizers = Some(vec!["another/one".to_owned()]);
        assert_eq!(roll.note(&Event::Apply(freed)).len(), 1);
        roll.note(&Event::Init);
        assert_eq!(roll.note(&Event::InitDone).len(), 1);
        assert!(fleet.uids().is_empty());
    }

    /// What happens to the DataPlanes of two names, and what late work on an older object does.
    #[derive(Clone, Debug)]
    enum Happens {
        /// It is made, unless it is there.
        Made(usize),
        /// It is asked to go.
        Deleted(usize),
        /// It goes.
        Released(usize),
        /// The watch brings the next that happened.
        Brought,
        /// The watch lists all anew, or the process starts.
        Listed,
        /// A reconcile of the object the fleet knew as of then ends now: it marks it, or lets it go.
        Marks(u32),
        /// As before.
        Forgets(u32),
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            3 => (0..2_usize).prop_map(Happens::Made),
            2 => (0..2_usize).prop_map(Happens::Deleted),
            3 => (0..2_usize).prop_map(Happens::Released),
            6 => Just(Happens::Brought),
            1 => Just(Happens::Listed),
            2 => (0..12_u32).prop_map(Happens::Marks),
            2 => (0..12_u32).prop_map(Happens::Forgets),
        ]
    }

    const NAMES: [&str; 2] = ["eu", "us"];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn whatever_was_deleted_and_made_again_the_table_holds_those_there_are(
            story in prop::collection::vec(happens(), 0..60)
        ) {
            let fleet = Arc::new(Fleet::default());
            let roll = Roll::new(fleet.clone());
            let spec = json!({"local": true});
            // By name, the object there is and whether it is being deleted; and what the watch has yet to bring.
            let mut there: BTreeMap<usize, (u32, bool)> = BTreeMap::new();
            let mut news: std::collections::VecDeque<Event<Guard>> = std::collections::VecDeque::new();
            let mut next = 0;
            let list = |there: &BTreeMap<usize, (u32, bool)>| {
                roll.note(&Event::Init);
                for (name, (uid, is_deleted)) in there {
                    roll.note(&Event::InitApply(object(NAMES[*name], *uid, *is_deleted, &spec)));
                }
                roll.note(&Event::InitDone);
            };
            for step in story {
                match step {
                    Happens::Made(name) => if let Entry::Vacant(free) = there.entry(name) {
                        free.insert((next, false));
                        news.push_back(Event::Apply(object(NAMES[name], next, false, &spec)));
                        next += 1;
                    },
                    Happens::Deleted(name) => if let Some((uid, is_deleted)) = there.get_mut(&name) {
                        *is_deleted = true;
                        news.push_back(Event::Apply(object(NAMES[name], *uid, true, &spec)));
                    },
                    Happens::Released(name) => if let Some((uid, true)) = there.get(&name).copied() {
                        there.remove(&name);
                        news.push_back(Event::Delete(object(NAMES[name], uid, true, &spec)));
                    },
                    Happens::Brought => if let Some(event) = news.pop_front() {
                        roll.note(&event);
                    },
                    Happens::Listed => {
                        news.clear();
                        list(&there);
                    }
                    // Only of objects that are deleted is anybody told that they go.
                    Happens::Marks(uid) | Happens::Forgets(uid) => {
                        let is_going = there.values().all(|(other, is_deleted)| *other != uid || *is_deleted);
                        for name in NAMES.iter().filter(|_| is_going) {
                            let uid = format!("uid-{uid}");
                            if matches!(step, Happens::Marks(_)) {
                                fleet.update(name, &uid, |member| member.unregistering = true);
                            } else {
                                fleet.remove(name, &uid);
                            }
                        }
                    }
                }
            }
            while let Some(event) = news.pop_front() {
                roll.note(&event);
            }
            for (name, (uid, is_deleted)) in &there {
                let member = fleet.member(NAMES[*name]);
                if !is_deleted {
                    let member = member.expect("it is in the table");
                    prop_assert_eq!(&member.uid, &format!("uid-{uid}"));
                    prop_assert!(!member.unregistering && member.blocked.is_none());
                }
            }
            let live: BTreeSet<String> = there.values().map(|(uid, _)| format!("uid-{uid}")).collect();
            for uid in fleet.uids().into_values() {
                prop_assert!(live.contains(&uid), "{} is not there any more", uid);
            }
        }
    }

    #[test]
    fn one_that_was_being_deleted_at_the_start_takes_back_only_what_is_its() {
        let unregistering = |spec: serde_json::Value, status: serde_json::Value| {
            let mut guard = object("eu", 1, true, &spec);
            if let Ok(plane) = &mut guard.0 {
                plane.status = serde_json::from_value(status).unwrap();
            }
            let mut member = fleet_member();
            fill(&mut member, &guard);
            member.unregistering
        };
        let none = json!({});
        let twin = json!({"conditions": [{
            "type": "Unique", "status": "False", "reason": "DuplicateCluster", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]});
        assert!(unregistering(json!({"local": true}), none.clone()));
        assert!(!unregistering(json!({"local": true, "deletionPolicy": "Retain"}), none));
        assert!(!unregistering(json!({"local": true}), twin));
    }

    fn fleet_member() -> Member {
        let fleet = Fleet::default();
        fleet.enrol("eu", "uid-1", |_| {});
        fleet.member("eu").unwrap()
    }

    #[test]
    fn labels_and_limits_are_known_from_the_object_alone() {
        let mut plane = object(
            "eu",
            1,
            false,
            &json!({"local": true, "paused": true, "limits": {"maxConcurrentBackups": 3}}),
        );
        *plane.meta_mut() = ObjectMeta {
            labels: Some([("tier".to_owned(), "gold".to_owned())].into()),
            ..plane.meta().clone()
        };
        let mut member = fleet_member();
        fill(&mut member, &plane);
        assert_eq!(member.labels["tier"], "gold");
        assert_eq!(member.max_concurrent_backups, Some(3));
        assert!(matches!(member.blocked, Some(Why { reason: Reason::Paused, .. })));
    }
}
