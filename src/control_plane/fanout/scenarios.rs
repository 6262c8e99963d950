//! Whole runs on the pure parts: `tests/scenarios/backup_job/*.yaml` say what there is and what happens, the
//! snapshots what came of it, second by second.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;
use serde_json::json;

use super::{
    load::load,
    plan::{plan, withdraw},
    rehearsal::rehearse,
    rollup::{Outcomes, advance},
    summary::summarize,
    tests::{datacenter, fleet_job, live, plane, scene, silent},
    write::{Action, Outcome, Work},
};
use crate::{
    api::{
        Reason,
        fleet::{DatacenterRun, FleetBackupJob, FleetBackupJobSpec, FleetBackupJobStatus, Phase},
        labels,
    },
    control_plane::{
        data_planes::{
            fleet::Snapshot,
            records::BackupRecord,
            view::{ObjectKey, View},
        },
        runs::{
            Noted,
            child::{Child as _, child_key},
            ending,
            select::{ClusterLabels, select},
        },
    },
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Scenario {
    #[expect(dead_code, reason = "for those who read the file")]
    about: String,
    spec: FleetBackupJobSpec,
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
    /// Seconds a backup takes; without, nobody begins with it.
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

    fn carry_out(&mut self, action: &Action, second: i64) -> Outcome {
        let view = self.views.get_mut(&action.data_plane).unwrap();
        match &action.work {
            Work::Make(child) => {
                let list = &self.scenario.data_planes[&action.data_plane];
                let number = list.iter().position(|dc| dc.name == action.place.name).unwrap();
                let earlier = self.children.iter().filter(|((p, k), (_, n, _))| {
                    *p == action.data_plane && k.namespace == action.key.namespace && *n == number
                });
                let attempt = earlier.count() + 1;
                let place = (action.data_plane.clone(), action.key.clone());
                self.children.insert(place, (second, number, attempt));
                let mut child = (**child).clone();
                child.metadata.uid = Some(format!("uid-{}", action.key.name));
                child.metadata.resource_version = Some("1".to_owned());
                view.jobs.put(action.key.clone(), Arc::new(child));
                Outcome::There
            }
            Work::Withdraw { .. } => {
                view.jobs.remove(&action.key);
                Outcome::Withdrawn
            }
        }
    }

    /// What the data planes do by themselves in this second.
    fn turn(&mut self, second: i64) {
        for ((plane, key), (since, number, attempt)) in &self.children {
            let datacenter = &self.scenario.data_planes[plane][*number];
            let view = self.views.get_mut(plane).unwrap();
            let (Some(takes), Some(child)) = (datacenter.takes, view.jobs.last(key)) else { continue };
            let mut child = (**child).clone();
            let at = |second| Time(Timestamp::from_second(second).unwrap());
            let mut status = json!({"startTime": at(*since), "inProgress": ["a"]});
            if second >= since + takes {
                let fails = *attempt <= datacenter.fails;
                let (good, bad): (&[&str], &[&str]) = if fails { (&[], &["a"]) } else { (&["a"], &[]) };
                status = json!({"startTime": at(*since), "finishTime": at(since + takes), "finished": good, "failed": bad});
                if !fails {
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
            child.status = serde_json::from_value(status).unwrap();
            view.jobs.put(key.clone(), Arc::new(child));
        }
    }

    fn at_work(&self) -> usize {
        let jobs = self.views.values().flat_map(|view| view.jobs.last_known().values());
        jobs.filter(|child| !child.is_finished()).count()
    }
}

/// One pass, as the controller makes it.
fn pass(
    world: &mut World<'_>,
    job: &FleetBackupJob,
    old: &FleetBackupJobStatus,
    second: i64,
) -> FleetBackupJobStatus {
    let planes = world.planes(second);
    let mut scene = scene(job, &planes, second);
    for (cluster, _) in world.scenario.restored_until.iter().filter(|(_, until)| second < **until) {
        let why = format!("cluster {cluster} is being restored");
        scene.holds.insert(cluster.clone(), (Reason::RestoreInProgress, why));
    }
    for (cluster, _) in world.scenario.purged_until.iter().filter(|(_, until)| second < **until) {
        let why = format!("cluster {cluster} is being purged");
        scene.holds.insert(cluster.clone(), (Reason::PurgeRunning, why));
    }
    let selector = job.spec.run.selector.clone().unwrap_or_default();
    let chosen = select(&selector, &planes, &ClusterLabels::new(), &old.datacenters).unwrap();
    let noted = Noted::default();
    let mut entries = advance(&scene, &chosen, &Outcomes::new(), &noted);
    let progress = old.run.last_progress_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0);
    ending::end(&scene.terms(), &mut entries, progress, |_| false);
    let actions = if job.spec.run.is_dry_run() {
        rehearse(&scene, &mut entries);
        Vec::new()
    } else if job.spec.run.is_cancelled() {
        withdraw(&scene, &entries, |_, _| false)
    } else {
        let mut load = load(&scene, &entries, &[], &[]);
        plan(&scene, &mut entries, &mut load, |_, _| false).actions
    };
    let mut outcomes = Outcomes::new();
    for action in &actions {
        let outcome = world.carry_out(action, second);
        outcomes.insert((action.data_plane.clone(), action.key.clone()), outcome);
    }
    let written = |e: &DatacenterRun| {
        actions.iter().any(|a| a.data_plane == e.data_plane && a.place.name == e.datacenter)
    };
    let planes = world.planes(second);
    let seen = super::tests::scene(job, &planes, second);
    let after = advance(&seen, &entries, &outcomes, &noted);
    entries =
        entries.into_iter().zip(after).map(|(old, new)| if written(&old) { new } else { old }).collect();
    let progress = if ending::went_on(&old.datacenters, &entries) { scene.now } else { progress };
    summarize(job, old, entries, None, progress, scene.now)
}

fn tell(scenario: &Scenario) -> String {
    let mut job = fleet_job("nightly");
    job.spec = scenario.spec.clone();
    let mut world = World::new(scenario);
    let mut status = FleetBackupJobStatus::default();
    let mut told: BTreeMap<String, String> = BTreeMap::new();
    let mut text = String::new();
    for second in 0..=scenario.until {
        if scenario.cancel_at.is_some_and(|at| second >= at) {
            job.spec.run.cancel = Some(true);
        }
        world.turn(second);
        status = pass(&mut world, &job, &status, second);
        job.status = Some(status.clone());
        for e in &status.datacenters {
            let name = format!("{}/{}", e.data_plane, e.datacenter);
            let reason = e.reason.clone().unwrap_or_default();
            let mut line = format!("{} {reason}", e.phase.as_str());
            if let Some(message) = &e.message {
                let _ = write!(line, ": {message}");
            }
            if e.attempts > 1 {
                let _ = write!(line, " [attempt {}: {}]", e.attempts, child_key(&job, e, e.attempts()).name);
            }
            if told.insert(name.clone(), line.clone()).as_ref() != Some(&line) {
                let _ = writeln!(text, "{second:>4} s  {name}: {line}  ({} at work)", world.at_work());
            }
        }
        if status.run.phase.is_some_and(Phase::is_final) {
            let complete = &status.run.conditions[0];
            let _ = writeln!(
                text,
                "{second:>4} s  the run is {} ({}): {}",
                status.run.phase.unwrap_or_default().as_str(),
                complete.reason,
                complete.message
            );
            return text;
        }
    }
    let _ = writeln!(text, "{:>4} s  the run goes on", scenario.until);
    text
}

#[test]
fn runs_go_as_their_scenarios_tell() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios/backup_job");
    let mut seen = 0;
    for file in std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()) {
        if file.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        let scenario: Scenario = serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let told = tell(&scenario);
        insta::with_settings!({snapshot_path => folder, prepend_module_to_snapshot => false, omit_expression => true}, {
            insta::assert_snapshot!(name, told);
        });
        seen += 1;
    }
    assert!(seen >= 10, "only {seen} scenarios");
}
