//! Whatever stands in a run, in its status and in the data planes, whole judges decide about it without a panic and
//! without end: backups, tasks, restores, the inventory.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use proptest::{collection::vec, option, prelude::*, sample};
use serde_json::{Value, json};

use super::{
    data_planes::{
        fleet::Snapshot,
        records::{BackupRecord, RunRecord},
        view::{Contact, ObjectKey, View},
    },
    fanout::{holds, tests::plane},
    inventory::{
        clusters::{Findings, clusters},
        fit::{fit_backup, fit_cluster},
        memo::Inventory,
        protection,
    },
    restores,
    runs::{
        MISSING,
        buckets::Buckets,
        child::child_key,
        compact, ending,
        engine::{FirstSeen, RunInputs, adapter::Adapter, advance, load, plan},
        holds::Holds,
        in_flight::Outcomes,
        select::{self, ClusterLabels},
    },
    schedules::{
        by_data_plane, delegate,
        history::History,
        missed, recipe, results,
        scope::Scope,
        stale::{self, Stale},
    },
    tasks,
};
use crate::control_plane::identity::Identity;
use crate::{
    api::{
        arbitrary::{kind, read, text, time},
        cassandra::CassandraDatacenter,
        fleet::{
            DatacenterRun, FleetBackup, FleetBackupJob, FleetBackupSchedule, FleetCluster, FleetRestoreJob,
            FleetTask,
        },
        labels,
        medusa::{MedusaBackup, MedusaBackupJob, MedusaBackupSchedule, MedusaRestoreJob, MedusaTask},
    },
    control_plane::{inventory::observe::by_name, schedules::summarize},
};

/// The uid of every run, so that what data planes hold may be its own.
const UID: &str = "0b1c2d3e-0000-0000-0000-000000000000";

/// Names that may meet each other.
fn name() -> BoxedStrategy<String> {
    let known = ["dc1", "dc2", "b1", "nightly", "nightly-dc1-0b1c2d3e", "nightly-dc1-0b1c2d3e-sync"];
    let slots = ["nightly-dc1-0b1c2d3e-1767225600", "nightly-1767225600", "shop", "shop.ns"];
    prop_oneof![
        8 => sample::select([known.as_slice(), &slots].concat()).prop_map(str::to_owned),
        1 => text(),
    ]
    .boxed()
}

/// Puts names that may meet where an arbitrary object has text, and our labels on it.
fn placed(of: &'static str) -> impl Strategy<Value = Value> {
    let marks = (option::of(name()), option::of(name()), option::weighted(0.9, Just(UID)), any::<bool>());
    let moments = (time(), option::weighted(0.2, time()));
    (kind(of), name(), name(), option::weighted(0.8, Just("ns")), marks, moments).prop_map(
        |(mut object, name, datacenter, namespace, (cluster, schedule, uid, is_ours), (created, deleted))| {
            let mut all = serde_json::Map::new();
            let mut label = |key: &str, value: Option<&str>| {
                value.map(|value| all.insert(key.to_owned(), json!(value)));
            };
            label(labels::CLUSTER, cluster.as_deref());
            label(labels::FLEET_SCHEDULE_UID, schedule.as_deref());
            label(labels::JOB_UID, uid);
            label(labels::CONTROL_PLANE, is_ours.then_some("cp"));
            object["metadata"] = json!({
                "name": name, "namespace": namespace, "uid": UID, "resourceVersion": "1", "labels": all,
                "creationTimestamp": created, "deletionTimestamp": deleted,
                "annotations": {labels::KEEP: name, labels::RESTORE: datacenter},
            });
            if let Some(spec) = object["spec"].as_object_mut()
                && spec.contains_key("cassandraDatacenter")
            {
                spec.insert("cassandraDatacenter".to_owned(), json!(datacenter));
            }
            object
        },
    )
}

fn datacenter() -> impl Strategy<Value = Value> {
    let words = (name(), option::of(name()), text(), option::of(text()));
    let marks = (option::of(text()), option::of(name()), option::of(text()), any::<bool>());
    (words, marks, any::<i32>(), vec(text(), 0..3), (time(), option::of(time()), any::<Option<i64>>())).prop_map(
        |((name, called, cluster, progress), (restore, fleet, deployed, medusa), size, racks, (made, ends, observed))| {
            let containers = if medusa { json!([{"name": "medusa", "image": progress}]) } else { json!([]) };
            let racks: Vec<Value> = racks.iter().map(|rack| json!({"name": rack})).collect();
            json!({
                "apiVersion": "cassandra.datastax.com/v1beta1", "kind": "CassandraDatacenter",
                "metadata": {
                    "name": name, "namespace": "ns", "uid": name, "creationTimestamp": made, "deletionTimestamp": ends,
                    "labels": fleet.map(|fleet| json!({labels::CLUSTER: fleet})),
                    "annotations": restore.map(|restore| json!({labels::RESTORE: restore, labels::MEDUSA_FOR: deployed})),
                },
                "spec": {
                    "clusterName": cluster, "datacenterName": called, "size": size, "stopped": size % 7 == 0, "racks": racks,
                    "podTemplateSpec": {"spec": {"containers": containers}},
                },
                "status": {
                    "datacenterName": called, "cassandraOperatorProgress": progress, "observedGeneration": observed,
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            })
        },
    )
}

/// A view of a data plane that shows these objects.
fn view_of(
    (datacenters, backups): (Vec<Value>, Vec<Value>),
    (jobs, tasks, restores, schedules): (Vec<Value>, Vec<Value>, Vec<Value>, Vec<Value>),
) -> View {
    let mut view = View::unknown();
    for one in datacenters.into_iter().filter_map(read::<CassandraDatacenter>) {
        view.datacenters.put(ObjectKey::of(&one), Arc::new(one));
    }
    for one in backups.into_iter().filter_map(read::<MedusaBackup>) {
        view.backups.put(ObjectKey::of(&one), Arc::new(BackupRecord::from(&one)));
    }
    for one in jobs.into_iter().filter_map(read::<MedusaBackupJob>) {
        view.scheduled_jobs.put(ObjectKey::of(&one), Arc::new(RunRecord::from(&one)));
        view.jobs.put(ObjectKey::of(&one), Arc::new(one));
    }
    for one in tasks.into_iter().filter_map(read::<MedusaTask>) {
        view.scheduled_tasks.put(ObjectKey::of(&one), Arc::new(RunRecord::from(&one)));
        view.tasks.put(ObjectKey::of(&one), Arc::new(one));
    }
    for one in restores.into_iter().filter_map(read::<MedusaRestoreJob>) {
        view.restores.put(ObjectKey::of(&one), Arc::new(one));
    }
    for one in schedules.into_iter().filter_map(read::<MedusaBackupSchedule>) {
        view.schedules.put(ObjectKey::of(&one), Arc::new(one));
    }
    view.set_synced();
    view
}

/// A view of a data plane: anything of any kind, of which some may not be listed.
fn view() -> impl Strategy<Value = View> {
    let runs = (vec(placed("MedusaBackupJob"), 0..4), vec(placed("MedusaTask"), 0..4));
    let others = (vec(placed("MedusaRestoreJob"), 0..3), vec(placed("MedusaBackupSchedule"), 0..3));
    let doubts = (0..6_u8, time());
    (vec(datacenter(), 0..4), vec(placed("MedusaBackup"), 0..5), runs, others, doubts).prop_map(
        |(datacenters, backups, (jobs, tasks), (restores, schedules), (doubt, since))| {
            let mut view = view_of((datacenters, backups), (jobs, tasks, restores, schedules));
            let since = since.as_str().and_then(|since| since.parse().ok()).unwrap_or(Timestamp::MIN);
            match doubt {
                0 => view.contact = Contact::Lost { since, why: "reset".to_owned() },
                1 => _ = view.backups.trust.fail(since, "500"),
                2 => _ = view.jobs.trust.refuse("denied"),
                3 => _ = view.datacenters.blur(ObjectKey::new("ns", "dc2"), "no".to_owned()),
                _ => {}
            }
            view
        },
    )
}

/// Two of them.
fn fleet() -> impl Strategy<Value = (View, View)> {
    (view(), view())
}

fn planes((eu, us): (View, View)) -> Vec<Snapshot> {
    vec![plane("eu", eu), plane("us", us)]
}

fn clock() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        1 => sample::select(vec![Timestamp::MIN, Timestamp::MAX, Timestamp::UNIX_EPOCH]),
        4 => (1_767_225_000_i64..1_767_300_000).prop_map(|second| Timestamp::from_second(second).unwrap()),
    ]
}

/// The run with a status that may be of its own: places that are there.
fn run(of: &'static str) -> impl Strategy<Value = Value> {
    let place = (sample::select(vec!["eu", "us", "ap"]), name());
    (placed(of), vec(place, 0..4), any::<bool>()).prop_map(|(mut run, places, is_open)| {
        run["metadata"]["name"] = json!("nightly");
        let Some(status) = run["status"].as_object_mut() else { return run };
        if is_open {
            status.remove("phase");
        }
        let entries = status.get_mut("datacenters").and_then(Value::as_array_mut).into_iter().flatten();
        for (entry, (plane, datacenter)) in entries.zip(places) {
            entry["dataPlane"] = json!(plane);
            entry["namespace"] = json!("ns");
            entry["datacenter"] = json!(datacenter);
        }
        run
    })
}

/// Every judge of a kind of run once, where this is held.
fn bring_further<R: Adapter>(run: &R, planes: &[Snapshot], held: Holds, begun: Timestamp, now: Timestamp) {
    let old = run.status().cloned().unwrap_or_default();
    let buckets = Buckets::default();
    let mut inputs = RunInputs::new(run, planes, &buckets, begun, now);
    inputs.holds = held;
    let (selector, known) = (run.run().selector.clone().unwrap_or_default(), R::datacenters(&old).to_vec());
    let before: Vec<DatacenterRun> = known.iter().map(|entry| entry.as_ref().clone()).collect();
    let chosen = select::select_fitting(&selector, planes, &ClusterLabels::new(), &before);
    let chosen = chosen.ok().map(|chosen| chosen.into_iter().map(|run| R::entry(run, None)).collect());
    for mut entries in chosen.into_iter().chain([known.clone()]) {
        let outcomes = Outcomes::new();
        let mut first_seen = FirstSeen::default();
        for (at, entry) in entries.iter().map(AsRef::as_ref).enumerate() {
            let key = child_key(run, entry, entry.attempts().max(1));
            // Seen finished, or missing.
            let uid = if at % 2 == 0 { "u" } else { MISSING };
            first_seen.set((entry.data_plane.clone(), key), uid, begun);
        }
        entries = advance::advance(&inputs, &entries, &outcomes, &first_seen);
        advance::note(&inputs, &entries, &mut first_seen, |_, _| false);
        ending::end(&inputs.terms, &mut entries, begun, |_| false);
        let mut load = load::load(&inputs, &entries, &[], &[]);
        let plan = plan::plan(&inputs, &mut entries, &mut load, |_, _| false);
        let _ = plan::repairs(&inputs, &entries, &outcomes, &first_seen, |_, _| false);
        let deadline = ending::next_deadline(&inputs.terms, &entries, begun);
        let _ = plan::next_look(&inputs, &entries, &plan, false, deadline);
        R::say_plan(&inputs, &mut entries);
        let status = R::summarize(&inputs, &old, entries, None, begun);
        assert!(R::phase(&status).is_some());
        let _ = compact::fit::<R>(&status, 20_000);
    }
}

/// Every judge of backups once.
fn back_up(job: &FleetBackupJob, tasks: &[FleetTask], planes: &[Snapshot], begun: Timestamp, now: Timestamp) {
    bring_further(job, planes, holds::holds(planes, &Identity::named("cp"), tasks, now), begun, now);
}

/// The whole inventory once.
fn sum_up(
    planes: &[Snapshot],
    points: Vec<FleetBackup>,
    known: Vec<FleetCluster>,
    objective: SignedDuration,
    now: Timestamp,
) {
    let points = by_name(points.into_iter().map(Arc::new).collect());
    let known = by_name(known.into_iter().map(Arc::new).collect());
    let mut inventory = Inventory::default();
    let look = inventory.look(planes, &points, &known, BTreeMap::new(), now);
    for (_, status) in &look.unwritten {
        let _ = fit_backup((*status).clone(), 10_000);
    }
    let old: BTreeMap<_, _> =
        known.iter().filter_map(|(name, c)| Some((name.clone(), c.status.clone()?))).collect();
    for promise in look.expected.values() {
        let _ = protection::limit(*promise, objective);
    }
    let findings =
        Findings { not_found: Vec::new(), digests: &look.digests, expected: &look.expected, objective };
    for status in clusters(planes, &findings, &old, now).into_values() {
        let _ = fit_cluster(status, 10_000);
    }
}

/// Everything that is counted of a schedule in data planes, once.
fn count(schedule: &FleetBackupSchedule, planes: &[Snapshot], now: Timestamp) {
    let recipe = recipe::read(&schedule.spec).ok();
    let scope = Scope::of(schedule, planes, &ClusterLabels::new()).unwrap_or_default();
    let planned = delegate::plan(
        schedule,
        recipe.as_ref().map(|recipe| (recipe, &scope)),
        planes,
        &Identity::named("cp"),
        now,
    );
    let mut there = planned.there.clone();
    for plane in planes {
        for key in plane.view.schedules.last_known().keys() {
            let entry = DatacenterRun { data_plane: plane.name.clone(), ..DatacenterRun::default() };
            there.push((entry, key.clone()));
            if let Some(history) = History::of(plane, key) {
                let _ = (history.latest(now), history.success(now), history.active(&plane.name).count());
            }
        }
    }
    let old = schedule.status.clone().unwrap_or_default();
    let before = by_data_plane::remembered(&old);
    let (stale, found) = (Stale::default(), results::results(&there, planes, now));
    let tally = missed::tally(by_data_plane::counted(&before), &there, &stale, planes, now);
    let places = there.iter().map(|(entry, _)| stale::place_of(entry)).collect();
    let known = by_data_plane::advance(&before, &places, &found, &tally, &stale);
    let _ =
        summarize::missed_there(&old, &known, tally.missed(), by_data_plane::is_over(&known, &tally, &stale));
    let _ = by_data_plane::fit(known);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_backup_job_over_any_data_planes_is_brought_further(
        job in run("FleetBackupJob"), task in run("FleetTask"), fleet in fleet(), begun in clock(), now in clock(),
    ) {
        if let Some(job) = read::<FleetBackupJob>(job) {
            back_up(&job, &read(task).into_iter().collect::<Vec<_>>(), &planes(fleet), begun, now);
        }
    }

    #[test]
    fn any_task_over_any_data_planes_is_brought_further(
        task in run("FleetTask"), fleet in fleet(), begun in clock(), now in clock(),
        points in vec(placed("FleetBackup"), 0..3), jobs in vec(run("FleetBackupJob"), 0..2),
    ) {
        if let Some(task) = read::<FleetTask>(task) {
            let points = by_name(points.into_iter().filter_map(read::<FleetBackup>).map(Arc::new).collect());
            let jobs: Vec<FleetBackupJob> = jobs.into_iter().filter_map(read).collect();
            let planes = planes(fleet);
            bring_further(&task, &planes, Holds::default(), begun, now);
            tasks::arbitrary::ask(&task, &planes, &points, jobs, now);
        }
    }

    #[test]
    fn any_restore_over_any_data_planes_is_brought_further(
        job in run("FleetRestoreJob"), backup in placed("FleetBackup"), cluster in placed("FleetCluster"),
        rival in run("FleetRestoreJob"), fleet in fleet(), now in clock(),
    ) {
        if let Some(job) = read::<FleetRestoreJob>(job) {
            let backup = read::<FleetBackup>(backup).and_then(|backup| backup.status);
            let known = read::<FleetCluster>(cluster).and_then(|c| Some((c.name_any(), c.status?)));
            let (known, rivals) = (known.into_iter().collect(), read(rival).into_iter().collect::<Vec<_>>());
            restores::arbitrary::bring_further(&job, backup.as_ref(), &known, &rivals, &planes(fleet), now);
        }
    }

    #[test]
    fn any_inventory_is_summed_up(
        fleet in fleet(), points in vec(placed("FleetBackup"), 0..3), known in vec(placed("FleetCluster"), 0..3),
        now in clock(), objective in any::<i64>(),
    ) {
        let (points, known) = (points.into_iter().filter_map(read), known.into_iter().filter_map(read));
        sum_up(&planes(fleet), points.collect(), known.collect(), SignedDuration::from_secs(objective), now);
    }

    #[test]
    fn any_delegated_schedule_is_counted(
        schedule in placed("FleetBackupSchedule"), fleet in fleet(), now in clock(),
    ) {
        if let Some(schedule) = read::<FleetBackupSchedule>(schedule) {
            count(&schedule, &planes(fleet), now);
        }
    }
}

/// Objects that once were too much for some judge, and such as have been seen in the field; each file is one fleet.
#[test]
fn what_was_too_much_once_is_judged() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/seeds/objects");
    let mut files = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let objects: Vec<Value> =
            text.split("\n---\n").map(|one| serde_saphyr::from_str(one).unwrap()).collect();
        files += 1;
        let of = |kind: &str| objects.iter().filter(|one| one["kind"] == kind).cloned().collect::<Vec<_>>();
        let view = || {
            view_of(
                (of("CassandraDatacenter"), of("MedusaBackup")),
                (of("MedusaBackupJob"), of("MedusaTask"), of("MedusaRestoreJob"), of("MedusaBackupSchedule")),
            )
        };
        assert!(objects.iter().all(|one| one["kind"].is_string()), "{}", path.display());
        let (eu, mut us) = (view(), view());
        us.contact = Contact::Lost { since: Timestamp::MIN, why: "reset".to_owned() };
        let planes = planes((eu, us));
        let moment: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let jobs: Vec<FleetBackupJob> = of("FleetBackupJob").into_iter().filter_map(read).collect();
        let tasks: Vec<FleetTask> = of("FleetTask").into_iter().filter_map(read).collect();
        let restores: Vec<FleetRestoreJob> = of("FleetRestoreJob").into_iter().filter_map(read).collect();
        let points: Vec<FleetBackup> = of("FleetBackup").into_iter().filter_map(read).collect();
        for now in [moment, Timestamp::MIN, Timestamp::MAX] {
            for job in &jobs {
                back_up(job, &tasks, &planes, moment, now);
            }
            let published = by_name(points.iter().cloned().map(Arc::new).collect());
            for task in &tasks {
                bring_further(task, &planes, Holds::default(), moment, now);
                tasks::arbitrary::ask(task, &planes, &published, jobs.clone(), now);
            }
            for job in &restores {
                let backup = points.first().and_then(|point| point.status.as_ref());
                restores::arbitrary::bring_further(job, backup, &BTreeMap::new(), &restores, &planes, now);
            }
            let known = of("FleetCluster").into_iter().filter_map(read).collect();
            sum_up(&planes, points.clone(), known, SignedDuration::MAX, now);
            for schedule in of("FleetBackupSchedule").into_iter().filter_map(read::<FleetBackupSchedule>) {
                count(&schedule, &planes, now);
            }
        }
    }
    assert!(files > 3, "{files} files");
}
