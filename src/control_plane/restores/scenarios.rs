//! Whole restores as transcripts: what the status said, what was made and deleted, step by step.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::{
    simulation::{Cut, World, fleet_backup, record, refusal, steps},
    tests::{datacenter, live},
};
use crate::{
    api::{
        Conditions as _,
        fleet::{MedusaController, Phase},
        labels,
        medusa::{MedusaBackupJob, MedusaTask},
    },
    control_plane::data_planes::{
        records::BackupRecord,
        view::{ObjectKey, View},
    },
};

fn transcript(world: &World) -> String {
    world.log.join("\n")
}

/// The sync in `plane` ends: this pod answered, or none did.
fn end_sync(world: &mut World, plane: &str, answered: bool) {
    let tasks = world.view(plane).tasks.items_mut();
    let task = tasks.values_mut().next().unwrap();
    let mut done: MedusaTask = (**task).clone();
    let finished = if answered { json!([{"podName": "pod-0"}]) } else { json!([]) };
    done.status = Some(
        serde_json::from_value(json!({"finishTime": "2026-01-01T00:01:00Z", "finished": finished})).unwrap(),
    );
    *task = Arc::new(done);
}

#[test]
fn in_place_in_parallel() {
    let mut world = World::new(json!({"backup": "b1"}));
    world.settle();
    for (number, step) in steps().into_iter().enumerate() {
        world.later(60);
        world.work("eu/dc1", step.clone());
        if number != 1 {
            world.work("us/dc2", step);
        }
        world.settle();
        world.sweep();
    }
    insta::assert_snapshot!(transcript(&world));
}

#[test]
fn one_after_the_other_until_one_fails() {
    let mut world = World::new(json!({"backup": "b1", "order": "Serial", "datacenters": [
        {"datacenter": "dc2"}, {"datacenter": "dc1"}]}));
    world.settle();
    world.later(60);
    world.work("us/dc2", refusal());
    world.settle();
    world.sweep();
    insta::assert_snapshot!(transcript(&world));
}

#[test]
fn one_after_the_other_to_the_end() {
    let mut world = World::new(json!({"backup": "b1", "order": "Serial"}));
    for place in ["eu/dc1", "us/dc2"] {
        world.settle();
        world.later(60);
        world.work(place, steps()[3].clone());
        world.settle();
        world.sweep();
    }
    insta::assert_snapshot!(transcript(&world));
}

#[test]
fn every_obstacle_is_named_and_nothing_is_touched() {
    let mut world = World::new(json!({"backup": "b1"}));
    let mut small = datacenter("dc1", "shop");
    small.spec.size = 2;
    small.spec.pod_template_spec.as_mut().unwrap().spec.as_mut().unwrap().init_containers.clear();
    world.view("eu").datacenters.put(ObjectKey::new("ns", "dc1"), Arc::new(small));
    let mut half = record("dc2");
    half.finished_nodes = 2;
    world.view("us").backups.put(ObjectKey::new("ns", "b1-dc2-0a0a0a0a"), Arc::new(half));
    world.settle();
    insta::assert_snapshot!(transcript(&world));
}

#[test]
fn a_silent_data_plane_and_a_running_backup_are_waited_for_until_the_deadline() {
    let mut world = World::new(json!({"backup": "b1", "startDeadlineSeconds": 600}));
    world.silent.insert("us".to_owned());
    world.settle();
    world.later(300);
    world.silent.clear();
    let mut job = MedusaBackupJob::default();
    job.metadata.name = Some("somebodys".to_owned());
    job.spec.cassandra_datacenter = "dc1".to_owned();
    world.view("eu").jobs.put(ObjectKey::new("ns", "somebodys"), Arc::new(job));
    world.settle();
    world.later(301);
    world.settle();
    insta::assert_snapshot!(transcript(&world));
}

/// `copy` has a datacenter `dc1` in `asia`, which knows nothing of the backups of `shop`.
fn other_cluster(spec: serde_json::Value) -> World {
    let mut world = World::new(spec);
    world.backup = Some(fleet_backup(&["eu/dc1"]));
    let mut dc = datacenter("copy1", "copy");
    dc.spec.datacenter_name = Some("dc1".to_owned());
    world.views.insert("asia".to_owned(), live(&[dc]));
    world
}

#[test]
fn into_another_cluster_after_a_sync() {
    let mut world = other_cluster(json!({"backup": "b1", "cluster": "copy"}));
    world.settle();
    world.later(30);
    let found = record("dc1");
    world.view("asia").backups.put(ObjectKey::new("ns", "b1-dc1-0a0a0a0a"), Arc::new(found));
    end_sync(&mut world, "asia", true);
    world.settle();
    world.work("asia/copy1", steps()[3].clone());
    world.settle();
    world.sweep();
    insta::assert_snapshot!(transcript(&world));
}

#[test]
fn a_sync_that_finds_nothing_and_one_that_nobody_answered_end_it() {
    let mut logs = Vec::new();
    for answered in [true, false] {
        let mut world = other_cluster(json!({"backup": "b1", "cluster": "copy"}));
        world.settle();
        end_sync(&mut world, "asia", answered);
        world.settle();
        world.sweep();
        logs.push(transcript(&world));
    }
    insta::assert_snapshot!(logs.join("\n\n"));
}

#[test]
fn what_a_sync_found_may_arrive_after_its_end() {
    for arrives in [true, false] {
        let mut world = other_cluster(json!({"backup": "b1", "cluster": "copy"}));
        world.settle();
        end_sync(&mut world, "asia", true);
        let now = world.now;
        let task = world.view("asia").tasks.items_mut().values_mut().next().unwrap();
        Arc::make_mut(task).status.as_mut().unwrap().finish_time = Some(Time(now));
        world.later(9);
        world.settle();
        assert!(!world.is_over(), "{}", transcript(&world));
        if arrives {
            let found = BackupRecord { datacenter: "copy1".to_owned(), ..record("dc1") };
            world.view("asia").backups.put(ObjectKey::new("ns", "b1-dc1-0a0a0a0a"), Arc::new(found));
        }
        world.later(1);
        world.settle();
        assert_eq!(world.is_over(), !arrives, "{}", transcript(&world));
    }
}

#[test]
fn a_sync_that_imported_something_and_ended_without_a_word_is_followed_by_another() {
    let mut world = other_cluster(json!({"backup": "b1", "cluster": "copy"}));
    world.settle();
    let made: Timestamp = "2026-01-01T00:00:30Z".parse().unwrap();
    for found in ["another-dc1-0b0b0b0b", "b1-dc1-0a0a0a0a"] {
        world.later(30);
        let task = world.view("asia").tasks.items_mut().values_mut().next().unwrap();
        Arc::make_mut(task).metadata.creation_timestamp = Some(Time(made));
        let imported = BackupRecord { datacenter: "copy1".to_owned(), created: Some(made), ..record("dc1") };
        world.view("asia").backups.put(ObjectKey::new("ns", found), Arc::new(imported));
        end_sync(&mut world, "asia", false);
        world.settle();
        if found.starts_with("another") {
            assert!(!world.is_over(), "{}", transcript(&world));
            world.sweep();
            assert_eq!(
                world.view("asia").tasks.last_known().keys().len(),
                0,
                "it is deleted, and made again"
            );
            world.settle();
        }
    }
    assert_eq!(world.made.len(), 1, "{}", transcript(&world));
}

#[test]
fn a_cluster_of_other_datacenters_is_refused() {
    let mut world = other_cluster(json!({"backup": "b1", "cluster": "copy"}));
    world.backup = Some(fleet_backup(&["eu/dc1", "us/dc2"]));
    world.settle();
    insta::assert_snapshot!(transcript(&world));
}

#[test]
fn called_off_where_nothing_has_stopped_and_awaited_where_something_has() {
    let mut world = World::new(json!({"backup": "b1"}));
    world.settle();
    world.work("eu/dc1", steps()[0].clone());
    world.work("us/dc2", steps()[2].clone());
    world.settle();
    world.job.spec.cancel = true;
    world.settle();
    world.later(60);
    world.work("us/dc2", steps()[3].clone());
    world.settle();
    world.sweep();
    insta::assert_snapshot!(transcript(&world));
}

#[test]
fn a_cancelled_job_is_called_off_after_its_finalizer_is_off_and_not_before() {
    let mut world = World::new(json!({"backup": "b1"}));
    world.settle();
    for restore in world.view("eu").restores.items_mut().values_mut() {
        Arc::make_mut(restore).metadata.finalizers = Some(vec![labels::UNRECORDED.to_owned()]);
    }
    world.job.spec.cancel = true;
    world.pass(Cut::Never);
    let held: Vec<_> = world.view("eu").restores.last_known().values().cloned().collect();
    assert!(held.len() == 1 && held[0].metadata.deletion_timestamp.is_none(), "{held:?}");
    world.settle();
    assert!(world.view("eu").restores.last_known().keys().len() == 0);
}

#[test]
fn a_dry_run_makes_nothing() {
    let mut good = World::new(json!({"backup": "b1", "dryRun": true}));
    good.settle();
    let mut waits = World::new(json!({"backup": "b1", "dryRun": true}));
    waits.silent.insert("us".to_owned());
    waits.settle();
    let mut syncs = other_cluster(json!({"backup": "b1", "cluster": "copy", "dryRun": true}));
    syncs.settle();
    let logs = [good, waits, syncs].map(|world| transcript(&world));
    insta::assert_snapshot!(logs.join("\n\n"));
}

#[test]
fn a_job_that_vanishes_or_belongs_to_somebody_else_is_a_failure() {
    let mut world = World::new(json!({"backup": "b1"}));
    world.settle();
    world.view("eu").restores.clear();
    let foreign = world.view("us").restores.items_mut().values_mut().next().unwrap();
    Arc::make_mut(foreign).metadata.labels = None;
    world.settle();
    world.sweep();
    insta::assert_snapshot!(transcript(&world));
}

const REFUSED: &str = "medusarestorejobs.medusa.k8ssandra.io cannot be followed: forbidden";

#[test]
fn a_job_that_cannot_be_listed_is_waited_for_and_those_after_it_keep_their_turn() {
    let mut world = World::new(json!({"backup": "b1", "order": "Serial"}));
    world.settle();
    world.later(60);
    world.work("eu/dc1", steps()[1].clone());
    world.settle();
    let refuse = |view: &mut View| assert!(view.restores.trust.refuse(REFUSED));
    let give_up = |view: &mut View| assert!(view.restores.trust.give_up(REFUSED));
    for change in [refuse as fn(&mut View), give_up] {
        change(world.view("eu"));
        world.settle();
        world.later(100_000);
        world.settle();
        let runs = world.status().datacenters;
        assert_eq!(runs[0].reason.as_deref(), Some("WatchesStale"), "{}", transcript(&world));
        assert!(runs[0].message.as_ref().unwrap().contains(REFUSED));
        assert!(runs.iter().all(|run| !run.phase.is_final()), "none is failed or skipped: {runs:?}");
        assert!(
            crate::control_plane::runs::active_restores::is_active(&world.job),
            "no backup begins beside it"
        );
        assert_eq!(world.made.len(), 1);
    }
    world.view("eu").restores.trust.follow();
    for place in ["eu/dc1", "us/dc2"] {
        world.settle();
        world.work(place, steps()[3].clone());
        world.settle();
        world.sweep();
    }
    assert_eq!(world.status().phase, Some(Phase::Succeeded), "{}", transcript(&world));
}

#[test]
fn a_stopped_datacenter_is_restored_where_the_data_plane_role_runs_and_nowhere_else() {
    for (controller, phase, why) in [
        (Some(MedusaController::OURS), Phase::Running, ""),
        (Some(MedusaController::UPSTREAM), Phase::Failed, "DatacenterStopped"),
        (None, Phase::Pending, "DatacenterStopped"),
    ] {
        let mut world = World::new(json!({"backup": "b1"}));
        let mut stopped = datacenter("dc1", "shop");
        stopped.spec.stopped = true;
        let view = world.view("eu");
        view.datacenters.put(ObjectKey::new("ns", "dc1"), Arc::new(stopped));
        let named = |name: &str| MedusaController { name: name.to_owned(), version: None };
        Arc::make_mut(&mut view.capabilities).controller = controller.map(named);
        world.settle();
        let status = world.status();
        assert_eq!(status.phase, Some(phase), "{controller:?}: {}", transcript(&world));
        let reason = status.conditions.of_type("Complete").unwrap().reason.clone();
        assert!(why.is_empty() || reason == why, "{reason}");
        assert_eq!(world.made.is_empty(), phase != Phase::Running);
    }
}
