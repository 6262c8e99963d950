//! Whole runs on the pure parts: the files in `tests/scenarios` say what there is and what happens, the snapshots beside
//! them what came of it, second by second. Every kind of run is played by the same rules.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    FirstSeen, RunInputs,
    adapter::{Adapter, Admitted},
    advance::advance,
    load::load,
    plan::{Action, Work, plan, repairs},
};
use crate::control_plane::identity::Identity;
use crate::{
    api::{
        Conditions as _, Reason,
        fleet::{DatacenterRun, FleetBackupJob, FleetTask},
        labels,
        medusa::{MedusaBackupJob, MedusaTask, TaskOperation},
        names,
    },
    control_plane::{
        data_planes::{
            fleet::Snapshot,
            records::BackupRecord,
            view::{ObjectKey, View},
        },
        fanout::tests::{datacenter, live, plane, silent},
        runs::{
            buckets::Buckets,
            child::{Child as _, child_key},
            ending,
            in_flight::Outcomes,
            outcome::Outcome,
            select::{ClusterLabels, select},
        },
    },
};

/// How Medusa in the data planes tells of a kind's children.
trait Played: Adapter<Status: Default> {
    /// A node that is done, in the status of a child.
    fn done() -> Value;

    /// What a child that went well leaves beside itself.
    fn leave(view: &mut View, key: &ObjectKey, child: &Self::Child);
}

impl Played for FleetBackupJob {
    fn done() -> Value {
        json!("a")
    }

    fn leave(view: &mut View, key: &ObjectKey, _: &MedusaBackupJob) {
        let backup = BackupRecord {
            status: "SUCCESS".into(),
            total_nodes: 1,
            finished_nodes: 1,
            size_bytes: Some(1024),
            ..BackupRecord::default()
        };
        view.backups.put(key.clone(), Arc::new(backup));
    }
}

impl Played for FleetTask {
    fn done() -> Value {
        json!({"podName": "a", "nbBackupsPurged": 1, "totalPurgedSize": 1024})
    }

    /// The sync after a purge, which is as quick as the purge ends.
    fn leave(view: &mut View, key: &ObjectKey, purge: &MedusaTask) {
        if purge.spec.operation == TaskOperation::Purge {
            let mut sync = purge.clone();
            let name = names::sync_after(&key.name);
            sync.metadata.name = Some(name.clone());
            sync.metadata.uid = Some(format!("uid-{name}"));
            sync.spec.operation = TaskOperation::Sync;
            view.tasks.put(ObjectKey::new(&key.namespace, name), Arc::new(sync));
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Scenario {
    #[expect(dead_code, reason = "for those who read the file")]
    about: String,
    spec: Value,
    /// Datacenters by data plane.
    data_planes: BTreeMap<String, Vec<Datacenter>>,
    /// `limits.maxConcurrentBackups` of data planes.
    #[serde(default)]
    limits: BTreeMap<String, usize>,
    /// Data planes that are silent, from and until which second.
    #[serde(default)]
    silent: BTreeMap<String, (i64, i64)>,
    /// Clusters that are restored, until which second.
    #[serde(default)]
    restored_until: BTreeMap<String, i64>,
    /// Clusters that are purged, until which second.
    #[serde(default)]
    purged_until: BTreeMap<String, i64>,
    /// When `spec.cancel` is set.
    cancel_at: Option<i64>,
    /// Seconds after which the test gives up.
    #[serde(default = "ten_minutes")]
    until: i64,
}

fn ten_minutes() -> i64 {
    600
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Datacenter {
    name: String,
    /// Cassandra cluster, when it is not one of its own.
    cluster: Option<String>,
    /// Seconds a child takes; without, nobody begins with it.
    takes: Option<i64>,
    /// Attempts that fail before one succeeds.
    #[serde(default)]
    fails: usize,
}

/// The data planes as they are, and what Medusa makes of the children.
struct World<'a> {
    scenario: &'a Scenario,
    views: BTreeMap<String, View>,
    /// Children by name: since when, and which datacenter's.
    children: HashMap<(String, ObjectKey), (i64, usize, usize)>,
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let build = |list: &Vec<Datacenter>| {
            let all: Vec<_> = list
                .iter()
                .map(|dc| {
                    let mut object = datacenter(&dc.name, 1);
                    let cluster = dc.cluster.clone().unwrap_or_else(|| dc.name.clone());
                    object.metadata.labels = Some(BTreeMap::from([(labels::CLUSTER.to_owned(), cluster)]));
                    object
                })
                .collect();
            live(&all)
        };
        let views = scenario.data_planes.iter().map(|(name, list)| (name.clone(), build(list))).collect();
        Self { scenario, views, children: HashMap::new() }
    }

    fn planes(&self, second: i64) -> Vec<Snapshot> {
        let snapshot = |(name, view): (&String, &View)| {
            let is_silent =
                self.scenario.silent.get(name).is_some_and(|(from, to)| (*from..*to).contains(&second));
            let view =
                if is_silent { View { contact: silent().contact, ..view.clone() } } else { view.clone() };
            Snapshot { max_concurrent_backups: self.scenario.limits.get(name).copied(), ..plane(name, view) }
        };
        self.views.iter().map(snapshot).collect()
    }

    fn carry_out<R: Played>(&mut self, run: &R, action: &Action, second: i64) -> Outcome {
        let data_plane = &action.entry.data_plane;
        let view = self.views.get_mut(data_plane).unwrap();
        match &action.work {
            Work::Start => {
                let list = &self.scenario.data_planes[data_plane];
                let number = list.iter().position(|dc| dc.name == action.entry.datacenter).unwrap();
                let earlier = self.children.iter().filter(|((p, k), (_, n, _))| {
                    *p == *data_plane && k.namespace == action.key.namespace && *n == number
                });
                let attempt = earlier.count() + 1;
                let place = (data_plane.clone(), action.key.clone());
                self.children.insert(place, (second, number, attempt));
                let object = datacenter(&action.entry.datacenter, 1);
                let admitted = Admitted::default();
                let mut child =
                    run.child(action.key.clone(), &action.work, &object, &admitted, &Identity::named("cp"));
                let metadata = child.meta_mut();
                metadata.uid = Some(format!("uid-{}", action.key.name));
                metadata.resource_version = Some("1".to_owned());
                R::Child::section_mut(view).put(action.key.clone(), Arc::new(child));
                Outcome::There(None)
            }
            Work::FollowUp => unreachable!("the data plane makes it, and is quicker"),
            Work::Withdraw(_) => {
                R::Child::section_mut(view).remove(&action.key);
                Outcome::Withdrawn
            }
        }
    }

    /// What the data planes do by themselves in this second.
    fn turn<R: Played>(&mut self, second: i64) {
        for ((plane, key), (since, number, attempt)) in &self.children {
            let datacenter = &self.scenario.data_planes[plane][*number];
            let view = self.views.get_mut(plane).unwrap();
            let Some(child) = R::Child::section(view).last(key).cloned() else { continue };
            let Some(takes) = datacenter.takes.filter(|_| !child.is_finished()) else { continue };
            let at = |second| Time(Timestamp::from_second(second).unwrap());
            let (is_over, fails) = (second >= since + takes, *attempt <= datacenter.fails);
            let mut status = json!({"startTime": at(*since), "inProgress": ["a"]});
            if is_over {
                let (good, bad) = if fails { (vec![], vec!["a"]) } else { (vec![R::done()], vec![]) };
                status = json!({"startTime": at(*since), "finishTime": at(since + takes), "finished": good, "failed": bad});
            }
            let mut object = serde_json::to_value(&*child).unwrap();
            object["status"] = status;
            let child: R::Child = serde_json::from_value(object).unwrap();
            if is_over && !fails {
                R::leave(view, key, &child);
            }
            R::Child::section_mut(view).put(key.clone(), Arc::new(child));
        }
    }

    fn at_work<R: Played>(&self) -> usize {
        let children = self.views.values().flat_map(|view| R::Child::section(view).last_known().values());
        children.filter(|child| !child.is_finished()).count()
    }
}

/// One pass, as the controller makes it.
fn pass<R: Played>(world: &mut World<'_>, run: &R, old: &R::Status, second: i64) -> R::Status {
    let (planes, buckets) = (world.planes(second), Buckets::default());
    let (begun, now) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(second).unwrap());
    let mut inputs = RunInputs::new(run, &planes, &buckets, begun, now);
    for (cluster, _) in world.scenario.restored_until.iter().filter(|(_, until)| second < **until) {
        let why = format!("cluster {cluster} is being restored");
        inputs.holds.insert(cluster.clone(), (Reason::RestoreInProgress, why));
    }
    for (cluster, _) in world.scenario.purged_until.iter().filter(|(_, until)| second < **until) {
        let why = format!("cluster {cluster} is being purged");
        inputs.holds.insert(cluster.clone(), (Reason::PurgeRunning, why));
    }
    let selector = run.run().selector.clone().unwrap_or_default();
    let known: Vec<DatacenterRun> = R::entries(old).into_iter().cloned().collect();
    let before = R::datacenters(old);
    let chosen: Vec<R::Entry> = select(&selector, &planes, &ClusterLabels::new(), &known)
        .unwrap()
        .into_iter()
        .map(|run| {
            let is_same = |e: &&R::Entry| {
                (&(*e).as_ref().data_plane, &(*e).as_ref().datacenter) == (&run.data_plane, &run.datacenter)
            };
            let known = before.iter().find(is_same);
            R::entry(run.clone(), known)
        })
        .collect();
    let first_seen = FirstSeen::default();
    let mut entries = advance(&inputs, &chosen, &Outcomes::new(), &first_seen);
    let progress = R::progress(old).last_progress_time.as_ref().map_or(begun, |t| t.0);
    ending::end(&inputs.terms, &mut entries, progress, |_| false);
    if run.run().is_dry_run() {
        R::say_plan(&inputs, &mut entries);
    }
    let mut actions = repairs(&inputs, &entries, &Outcomes::new(), &first_seen, |_, _| false);
    let mut load = load(&inputs, &entries, &[], &[]);
    actions.extend(plan(&inputs, &mut entries, &mut load, |_, _| false).actions);
    let mut outcomes = Outcomes::new();
    for action in &actions {
        let outcome = world.carry_out(run, action, second);
        outcomes.insert((action.entry.data_plane.clone(), action.key.clone()), outcome);
    }
    let is_written = |entry: &R::Entry| {
        let e = entry.as_ref();
        actions.iter().any(|a| a.entry.data_plane == e.data_plane && a.entry.datacenter == e.datacenter)
    };
    let planes = world.planes(second);
    let seen = RunInputs::new(run, &planes, &buckets, begun, now);
    let after = advance(&seen, &entries, &outcomes, &first_seen);
    entries =
        entries.into_iter().zip(after).map(|(old, new)| if is_written(&old) { new } else { old }).collect();
    let progress = if ending::went_on(before, &entries) { now } else { progress };
    R::summarize(&inputs, old, entries, None, progress)
}

fn tell<R: Played>(scenario: &Scenario) -> String {
    let object = |cancelled: bool| -> R {
        let metadata = json!({"name": "nightly", "namespace": "medusa-fleet", "uid": "0b1c2d3e-0000-0000-0000-000000000000"});
        let mut object = json!({"metadata": metadata, "spec": scenario.spec});
        if cancelled {
            object["spec"]["cancel"] = json!(true);
        }
        serde_json::from_value(object).unwrap()
    };
    let mut world = World::new(scenario);
    let mut status = R::Status::default();
    let mut told: BTreeMap<String, String> = BTreeMap::new();
    let mut text = String::new();
    for second in 0..=scenario.until {
        let run = object(scenario.cancel_at.is_some_and(|at| second >= at));
        world.turn::<R>(second);
        status = pass(&mut world, &run, &status, second);
        for e in R::entries(&status) {
            let name = format!("{}/{}", e.data_plane, e.datacenter);
            let reason = e.reason.clone().unwrap_or_default();
            let mut line = format!("{} {reason}", e.phase.as_str());
            if let Some(message) = &e.message {
                let _ = write!(line, ": {message}");
            }
            if e.attempts > 1 {
                let _ = write!(line, " [attempt {}: {}]", e.attempts, child_key(&run, e, e.attempts()).name);
            }
            if told.insert(name.clone(), line.clone()).as_ref() != Some(&line) {
                let _ = writeln!(text, "{second:>4} s  {name}: {line}  ({} at work)", world.at_work::<R>());
            }
        }
        if let Some(phase) = R::phase(&status).filter(|phase| phase.is_final()) {
            let complete = R::progress(&status).conditions.of_type("Complete").unwrap();
            let (reason, message) = (&complete.reason, &complete.message);
            let _ = writeln!(text, "{second:>4} s  the run is {} ({reason}): {message}", phase.as_str());
            return text;
        }
    }
    let _ = writeln!(text, "{:>4} s  the run goes on", scenario.until);
    text
}

/// Plays every scenario of a folder; there are `count` at least.
fn play<R: Played>(folder: &str, count: usize) {
    let folder = format!("{}/tests/scenarios/{folder}", env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for file in std::fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path()) {
        if file.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        let scenario: Scenario = serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let told = tell::<R>(&scenario);
        insta::with_settings!({snapshot_path => &folder, prepend_module_to_snapshot => false, omit_expression => true}, {
            insta::assert_snapshot!(name, told);
        });
        seen += 1;
    }
    assert!(seen >= count, "only {seen} scenarios");
}

#[test]
fn backup_runs_go_as_their_scenarios_tell() {
    play::<FleetBackupJob>("backup_job", 10);
}

#[test]
fn tasks_go_as_their_scenarios_tell() {
    play::<FleetTask>("task", 6);
}
