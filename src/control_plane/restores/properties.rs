//! What holds of every restore, whatever happens while it goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kube::ResourceExt as _;
use proptest::prelude::*;
use serde_json::json;

use super::{
    machine::has_begun,
    simulation::{Cut, World, refusal, steps},
    tests::silent,
};
use crate::{
    api::{
        fleet::Phase,
        labels,
        medusa::{MedusaBackupJob, MedusaRestoreJob},
    },
    control_plane::data_planes::view::ObjectKey,
};

/// Something that happens.
#[derive(Clone, Debug)]
enum Event {
    Pass(u8),
    Sweep,
    Silence(bool, bool),
    Work(bool, u8),
    Delete(bool),
    Foreign(bool, bool),
    Grow(bool),
    Later(i64),
    Cancel,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => (0_u8..5).prop_map(Event::Pass),
        2 => Just(Event::Sweep),
        2 => (any::<bool>(), any::<bool>()).prop_map(|(p, s)| Event::Silence(p, s)),
        4 => (any::<bool>(), 0_u8..5).prop_map(|(p, s)| Event::Work(p, s)),
        1 => any::<bool>().prop_map(Event::Delete),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(p, s)| Event::Foreign(p, s)),
        1 => any::<bool>().prop_map(Event::Grow),
        1 => (1_i64..1200).prop_map(Event::Later),
        1 => Just(Event::Cancel),
    ];
    proptest::collection::vec(event, 1..60)
}

fn happen(world: &mut World, event: &Event) {
    let plane = |second: bool| if second { "us" } else { "eu" };
    let place = |second: bool| if second { "us/dc2" } else { "eu/dc1" };
    match *event {
        Event::Pass(0) => world.pass(Cut::BeforeWrites),
        Event::Pass(1) => world.pass(Cut::BeforeStatus),
        Event::Pass(_) => world.pass(Cut::Never),
        Event::Sweep => world.sweep(),
        Event::Silence(second, true) => drop(world.silent.insert(plane(second).to_owned())),
        Event::Silence(second, false) => drop(world.silent.remove(plane(second))),
        Event::Work(second, step) => {
            let status = steps().into_iter().nth(step.into()).unwrap_or_else(refusal);
            world.work(place(second), status);
        }
        Event::Delete(second) => {
            let keys: Vec<ObjectKey> =
                world.view(plane(second)).restores.last_known().keys().cloned().collect();
            for key in keys {
                world.delete(plane(second), &key);
            }
        }
        Event::Foreign(second, begins) => {
            let jobs = &mut world.view(plane(second)).jobs;
            jobs.clear();
            if begins {
                let mut job = MedusaBackupJob::default();
                job.spec.cassandra_datacenter = if second { "dc2" } else { "dc1" }.to_owned();
                jobs.put(ObjectKey::new("ns", "somebodys"), Arc::new(job));
            }
        }
        Event::Grow(second) => {
            let (dc, view) = (if second { "dc2" } else { "dc1" }, world.view(plane(second)));
            let key = ObjectKey::new("ns", dc);
            let mut grown = (**view.datacenters.last(&key).unwrap()).clone();
            grown.spec.size = 7 - grown.spec.size;
            view.datacenters.put(key, Arc::new(grown));
        }
        Event::Later(seconds) => world.later(seconds),
        Event::Cancel => world.job.spec.cancel = true,
    }
}

proptest! {
    /// `World` itself asserts that nothing begins before every check of a published plan has passed with every
    /// data plane answering, and that nothing is made that was not recorded before.
    #[test]
    fn whatever_happens_nothing_is_made_twice_and_it_comes_to_an_end(
        serial in any::<bool>(), list in events(),
    ) {
        let order = if serial { "Serial" } else { "Parallel" };
        let mut world = World::new(json!({"backup": "b1", "order": order}));
        for event in &list {
            happen(&mut world, event);
        }
        // The world calms down.
        world.silent.clear();
        for plane in ["eu", "us"] {
            world.view(plane).jobs.clear();
        }
        for _ in 0..40 {
            world.pass(Cut::Never);
            world.sweep();
            for place in ["eu/dc1", "us/dc2"] {
                let (plane, _) = place.split_once('/').unwrap();
                let open = world.view(plane).restores.last_known().values().any(|j| is_open(j));
                if open {
                    world.work(place, steps()[3].clone());
                }
            }
            world.later(60);
        }
        let status = world.status();
        prop_assert!(world.is_over(), "{:#?}", status);
        let distinct: BTreeSet<&String> = world.made.iter().collect();
        prop_assert_eq!(distinct.len(), world.made.len(), "made twice");
        if !has_begun(&status) {
            prop_assert!(world.made.is_empty());
        }
        if status.phase == Some(Phase::Succeeded) {
            prop_assert_eq!(world.made.len(), 2);
        }
        for plane in ["eu", "us"] {
            prop_assert!(world.view(plane).restores.last_known().keys().len() == 0, "a finished job was left behind");
        }
    }

    /// From every point at which a pass can be cut off, the restore goes on to the same end.
    #[test]
    fn a_crash_at_any_step_changes_nothing(serial in any::<bool>(), cuts in proptest::collection::vec(0_u8..3, 0..40)) {
        let order = if serial { "Serial" } else { "Parallel" };
        let mut world = World::new(json!({"backup": "b1", "order": order}));
        let mut cuts = cuts.into_iter();
        for _ in 0..80 {
            let cut = match cuts.next() {
                Some(0) => Cut::BeforeWrites,
                Some(1) => Cut::BeforeStatus,
                _ => Cut::Never,
            };
            world.pass(cut);
            world.sweep();
            for place in ["eu/dc1", "us/dc2"] {
                world.work(place, steps()[3].clone());
            }
        }
        prop_assert_eq!(world.status().phase, Some(Phase::Succeeded), "{:#?}", world.status());
        prop_assert_eq!(world.made.len(), 2);
    }
}

#[test]
fn one_that_is_deleted_between_its_making_and_the_record_of_it_is_a_failure_and_not_made_again() {
    let mut world = World::new(json!({"backup": "b1"}));
    world.pass(Cut::Never);
    world.pass(Cut::Never);
    world.pass(Cut::BeforeStatus);
    assert_eq!(world.made.len(), 2);
    assert!(world.status().datacenters.iter().all(|run| run.job_uid.is_none()), "nothing is recorded");
    let key = ObjectKey::new("ns", &world.status().plan[0].job);
    world.delete("eu", &key);
    world.sweep();
    assert!(world.view("eu").restores.last(&key).is_some(), "it stays until it is recorded");
    world.settle();
    world.work("us/dc2", steps()[3].clone());
    world.settle();
    world.sweep();
    let status = world.status();
    let reasons: Vec<&str> = status.datacenters.iter().filter_map(|run| run.reason.as_deref()).collect();
    assert_eq!((status.phase, reasons), (Some(Phase::PartiallyFailed), vec!["JobDeleted", "Succeeded"]));
    assert_eq!(world.made.len(), 2, "restored twice");
    assert!(world.views.values().all(|view| view.restores.last_known().keys().len() == 0));
}

fn is_open(job: &MedusaRestoreJob) -> bool {
    job.status.as_ref().is_none_or(|s| s.finish_time.is_none())
}

#[test]
fn a_request_that_is_carried_out_late_is_called_off() {
    let mut world = World::new(json!({"backup": "b1", "startDeadlineSeconds": 60}));
    world.pass(Cut::Never);
    world.pass(Cut::Never);
    assert!(has_begun(&world.status()) && world.made.is_empty());
    world.silent.insert("us".to_owned());
    world.settle();
    assert!(world.made.is_empty(), "it would begin in a part");
    world.later(61);
    world.silent.clear();
    world.settle();
    assert_eq!(world.status().phase, Some(Phase::Failed), "too late to begin");
    let mut late: MedusaRestoreJob = serde_json::from_value(json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaRestoreJob",
        "metadata": {"name": world.status().plan[1].job, "namespace": "ns", "uid": "late", "resourceVersion": "1"},
        "spec": {"backup": "b1", "cassandraDatacenter": "dc2"},
    }))
    .unwrap();
    late.metadata.labels = Some(BTreeMap::from([
        (labels::JOB_UID.to_owned(), world.job.uid().unwrap()),
        (labels::CONTROL_PLANE.to_owned(), "cp".to_owned()),
    ]));
    let key = ObjectKey::of(&late);
    world.view("us").restores.put(key, Arc::new(late));
    world.sweep();
    assert!(world.view("us").restores.last_known().keys().len() == 0);
}

#[test]
fn a_data_plane_that_was_never_seen_is_waited_for() {
    let mut world = World::new(json!({"backup": "b1", "datacenters": [
        {"dataPlane": "eu", "datacenter": "dc1"}, {"dataPlane": "us", "datacenter": "dc2"}]}));
    *world.view("us") = silent();
    world.pass(Cut::Never);
    assert!(world.is_over(), "nobody knows of such a datacenter");
}
