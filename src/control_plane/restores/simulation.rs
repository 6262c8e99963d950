//! A fleet in memory: the pure parts of a restore run against it, with crashes, silence and whatever else the
//! world does in between.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::{
    checks::{Observed, Works},
    execute::{WriteOutcome, fold},
    machine::{RestoreWrite, has_begun, pass},
    plan::RestoreInputs,
    resolve::Clusters,
    summarize::executing,
    sweep::{Chore, leftovers},
    tests::{datacenter, job_with, live, plane},
};
use crate::control_plane::identity::Identity;
use crate::{
    api::{
        fleet::{
            CheckState, FleetBackupDatacenter, FleetBackupStatus, FleetRestoreJob, FleetRestoreJobStatus,
            Phase,
        },
        labels,
        medusa::MedusaRestoreJob,
    },
    control_plane::{
        data_planes::{
            fleet::Snapshot,
            records::BackupRecord,
            view::{Contact, ObjectKey, View},
        },
        runs::child::ExactObject,
    },
};

/// Where a pass is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// It is not.
    Never,
    /// Before its writes in the data planes.
    BeforeWrites,
    /// After them, before its status is published.
    BeforeStatus,
}

/// The fleet.
pub(super) struct World {
    pub(super) job: FleetRestoreJob,
    pub(super) views: BTreeMap<String, View>,
    pub(super) silent: BTreeSet<String>,
    pub(super) backup: Option<FleetBackupStatus>,
    pub(super) rivals: Vec<FleetRestoreJob>,
    pub(super) now: Timestamp,
    /// Every MedusaRestoreJob that was ever made, by data plane and name; again, if it was made again.
    pub(super) made: Vec<String>,
    /// What happened, for people.
    pub(super) log: Vec<String>,
}

/// A whole backup of three nodes.
pub(super) fn record(datacenter: &str) -> BackupRecord {
    BackupRecord {
        datacenter: datacenter.to_owned(),
        status: "SUCCESS".to_owned(),
        total_nodes: 3,
        finished_nodes: 3,
        node_datacenters: vec![datacenter.to_owned()],
        racks: BTreeMap::from([("default".to_owned(), 3)]),
        ..BackupRecord::default()
    }
}

/// A FleetBackup `b1` of cluster `shop` with these parts, named `<plane>/<datacenter>`.
pub(super) fn fleet_backup(parts: &[&str]) -> FleetBackupStatus {
    FleetBackupStatus {
        cluster: "shop".to_owned(),
        phase: "Complete".to_owned(),
        complete: true,
        done: Some(format!("{0}/{0}", parts.len())),
        datacenters: parts
            .iter()
            .map(|part| {
                let (plane, dc) = part.split_once('/').unwrap();
                FleetBackupDatacenter {
                    data_plane: plane.to_owned(),
                    namespace: "ns".to_owned(),
                    name: dc.to_owned(),
                    medusa_backup: Some(format!("b1-{dc}-0a0a0a0a")),
                    status: "SUCCESS".to_owned(),
                    ..FleetBackupDatacenter::default()
                }
            })
            .collect(),
        ..FleetBackupStatus::default()
    }
}

impl World {
    /// `shop` with `dc1` in `eu` and `dc2` in `us`, backed up, and a FleetRestoreJob `back` with this spec.
    pub(super) fn new(spec: Value) -> Self {
        let mut views = BTreeMap::new();
        for (plane, dc) in [("eu", "dc1"), ("us", "dc2")] {
            let mut view = live(&[datacenter(dc, "shop")]);
            let key = ObjectKey::new("ns", format!("b1-{dc}-0a0a0a0a"));
            view.backups.put(key, Arc::new(record(dc)));
            views.insert(plane.to_owned(), view);
        }
        let job = job_with("back", spec);
        let now = job.creation_timestamp().unwrap().0;
        let (silent, rivals) = (BTreeSet::new(), Vec::new());
        let backup = Some(fleet_backup(&["eu/dc1", "us/dc2"]));
        Self { job, views, silent, backup, rivals, now, made: Vec::new(), log: Vec::new() }
    }

    pub(super) fn view(&mut self, plane: &str) -> &mut View {
        self.views.get_mut(plane).unwrap()
    }

    fn planes(&self) -> Vec<Snapshot> {
        let seen = |name: &String, view: &View| {
            if !self.silent.contains(name) {
                return plane(name, view.clone());
            }
            let mut view = view.clone();
            view.contact = Contact::Lost { since: self.now, why: "connection refused".to_owned() };
            plane(name, view)
        };
        self.views.iter().map(|(name, view)| seen(name, view)).collect()
    }

    fn observed(&self) -> Observed {
        let mut observed = Observed::default();
        for (name, view) in self.views.iter().filter(|(name, _)| !self.silent.contains(*name)) {
            let works = Works {
                backups: view.jobs.last_known().values().map(|j| (**j).clone()).collect(),
                tasks: view.tasks.last_known().values().map(|t| (**t).clone()).collect(),
                restores: view.restores.last_known().values().map(|r| (**r).clone()).collect(),
                ..Works::default()
            };
            observed.works.insert((name.clone(), "ns".to_owned()), Ok(works));
            let backups = view.backups.last_known().iter();
            observed.backups.extend(backups.map(|(k, r)| ((name.clone(), k.clone()), (**r).clone())));
        }
        observed
    }

    pub(super) fn status(&self) -> FleetRestoreJobStatus {
        self.job.status.clone().unwrap_or_default()
    }

    pub(super) fn is_over(&self) -> bool {
        self.status().phase.is_some_and(Phase::is_final)
    }

    /// One pass of the controller, up to `cut`.
    pub(super) fn pass(&mut self, cut: Cut) {
        if self.is_over() {
            return;
        }
        let (planes, observed) = (self.planes(), self.observed());
        let old = self.status();
        let clusters = Clusters::new();
        let decided = pass(&RestoreInputs {
            job: &self.job,
            planes: &planes,
            backup: self.backup.as_ref(),
            clusters: &clusters,
            rivals: &self.rivals,
            observed: &observed,
            control_plane: &Identity::named("cp"),
            now: self.now,
        });
        if cut == Cut::BeforeWrites {
            return;
        }
        let mut status = decided.status;
        for action in decided.actions {
            let (data_plane, key, outcome) = self.write(action, &old);
            fold(&mut status, &data_plane, &key, outcome);
        }
        if has_begun(&status) {
            let runs = std::mem::take(&mut status.datacenters);
            status = executing(&self.job, &status, runs, self.now);
        }
        if cut == Cut::BeforeStatus {
            return;
        }
        if has_begun(&status) && !has_begun(&old) {
            let all = status.plan.iter().flat_map(|e| &e.checks).chain(&status.checks);
            assert!(
                all.clone().count() > 2 && all.clone().all(|c| c.state == CheckState::Passed),
                "{status:?}"
            );
            assert!(old.checked_time.is_some(), "the plan was not published before");
            assert!(status.plan.iter().all(|e| !self.silent.contains(&e.data_plane)), "a silent data plane");
        }
        if status != old {
            self.job.status = Some(status);
            self.tell();
            self.let_all_go();
        }
    }

    /// Runs passes until one changes nothing.
    pub(super) fn settle(&mut self) {
        for _ in 0..12 {
            let before = self.status();
            self.pass(Cut::Never);
            if self.status() == before {
                return;
            }
        }
        panic!("it does not come to rest: {:#?}", self.status());
    }

    fn write(
        &mut self,
        action: RestoreWrite,
        old: &FleetRestoreJobStatus,
    ) -> (String, ObjectKey, WriteOutcome) {
        let name = action.data_plane().to_owned();
        let refused = WriteOutcome::NotNow(crate::api::Reason::DataPlaneUnreachable, "no answer".to_owned());
        let is_silent = self.silent.contains(&name);
        match action {
            RestoreWrite::Sync(_, mut task) => {
                let key = ObjectKey::of(&*task);
                if is_silent {
                    return (name, key, refused);
                }
                task.metadata.uid = Some(format!("task-{key}"));
                task.metadata.resource_version = Some("1".to_owned());
                self.log.push(format!("  made MedusaTask {name}/{key} ({:?})", task.spec.operation));
                self.view(&name).tasks.put(key.clone(), Arc::new(*task));
                (name, key, WriteOutcome::There("task".to_owned()))
            }
            RestoreWrite::Restore(_, mut job) => {
                let key = ObjectKey::of(&*job);
                let recorded = old.datacenters.iter().any(|r| r.job.as_deref() == Some(&key.name));
                assert!(recorded && old.checked_time.is_some(), "made before it was recorded: {old:?}");
                if is_silent {
                    return (name, key, refused);
                }
                if let Some(found) = self.view(&name).restores.last(&key) {
                    let is_ours = found.labels().get(labels::JOB_UID) == job.labels().get(labels::JOB_UID);
                    let uid = found.uid().unwrap_or_default();
                    let outcome = if is_ours { WriteOutcome::There(uid) } else { WriteOutcome::Conflict };
                    return (name, key, outcome);
                }
                let uid = format!("uid-{}", self.made.len());
                job.metadata.uid = Some(uid.clone());
                job.metadata.resource_version = Some("1".to_owned());
                self.log.push(format!("  made MedusaRestoreJob {name}/{key} of {}", job.spec.backup));
                self.made.push(format!("{name}/{key}"));
                self.view(&name).restores.put(key.clone(), Arc::new(*job));
                (name, key, WriteOutcome::There(uid))
            }
            RestoreWrite::CallOff(ExactObject { key, version, .. }) => {
                if is_silent {
                    return (name, key, refused);
                }
                let items = &self.view(&name).restores;
                if items.last(&key).is_some_and(|j| j.resource_version() == Some(version)) {
                    self.delete(&name, &key);
                    self.log.push(format!("  called off MedusaRestoreJob {name}/{key}"));
                }
                (name, key, WriteOutcome::CalledOff)
            }
        }
    }

    /// Clears away what has done its work, as the controller does beside its passes.
    pub(super) fn sweep(&mut self) {
        loop {
            let all = leftovers(&self.planes(), std::slice::from_ref(&self.job), &Identity::named("cp"));
            if all.is_empty() {
                return;
            }
            for (ExactObject { data_plane: plane, key, .. }, chore) in all {
                match chore {
                    Chore::LetGo(finalizers) => self.let_go(&plane, &key, finalizers),
                    Chore::DeleteRestore => {
                        self.log.push(format!("  deleted MedusaRestoreJob {plane}/{key}"));
                        self.delete(&plane, &key);
                    }
                    Chore::DeleteTask => {
                        self.log.push(format!("  deleted MedusaTask {plane}/{key}"));
                        self.view(&plane).tasks.remove(&key);
                    }
                }
            }
        }
    }

    /// What is recorded may vanish from now on.
    fn let_all_go(&mut self) {
        for (object, chore) in
            leftovers(&self.planes(), std::slice::from_ref(&self.job), &Identity::named("cp"))
        {
            if let Chore::LetGo(finalizers) = chore {
                self.let_go(&object.data_plane, &object.key, finalizers);
            }
        }
    }

    /// Deletes a MedusaRestoreJob as the API server does: with finalizers it stays until they are gone.
    pub(super) fn delete(&mut self, plane: &str, key: &ObjectKey) {
        let now = Time(self.now);
        let items = self.view(plane).restores.items_mut();
        let Some(job) = items.get_mut(key) else { return };
        if job.finalizers().is_empty() {
            items.remove(key);
        } else {
            changed(job).metadata.deletion_timestamp.get_or_insert(now);
        }
    }

    fn let_go(&mut self, plane: &str, key: &ObjectKey, finalizers: Vec<String>) {
        let items = self.view(plane).restores.items_mut();
        let Some(job) = items.get_mut(key) else { return };
        let is_deleted = job.metadata.deletion_timestamp.is_some();
        if finalizers.is_empty() && is_deleted {
            items.remove(key);
        } else {
            changed(job).metadata.finalizers = Some(finalizers);
        }
    }

    /// What the data plane's controller does with the restore of `<plane>/<datacenter>`.
    pub(super) fn work(&mut self, place: &str, status: Value) -> bool {
        let (plane, dc) = place.split_once('/').unwrap();
        let jobs = self.view(plane).restores.items_mut();
        let Some(job) = jobs.values_mut().find(|j| j.spec.cassandra_datacenter == dc) else { return false };
        changed(job).status = Some(serde_json::from_value(status).unwrap());
        true
    }

    pub(super) fn later(&mut self, seconds: i64) {
        self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
    }

    /// The status, on a few lines of the log.
    fn tell(&mut self) {
        let status = self.status();
        let since = self.now.duration_since(self.job.creation_timestamp().unwrap().0).as_secs();
        let checked = if status.checked_time.is_some() { ", checked" } else { "" };
        let verdict = status.conditions.iter().find(|c| c.type_ == "Complete").unwrap();
        let phase = status.phase.unwrap_or_default().as_str();
        self.log.push(format!("{since} s: {phase}{checked}: {}: {}", verdict.reason, verdict.message));
        for run in &status.datacenters {
            let words = [run.reason.clone(), run.message.clone()];
            let words: Vec<String> = words.into_iter().flatten().collect();
            self.log.push(format!(
                "    {}/{} {} {}",
                run.data_plane,
                run.datacenter,
                run.phase.as_str(),
                words.join(": ")
            ));
        }
    }
}

/// The job in its next version.
fn changed(job: &mut Arc<MedusaRestoreJob>) -> &mut MedusaRestoreJob {
    let job = Arc::make_mut(job);
    let version = job.resource_version().and_then(|v| v.parse::<u32>().ok()).unwrap_or(0) + 1;
    job.metadata.resource_version = Some(version.to_string());
    job
}

const AT: &str = "2026-01-01T00:10:00Z";

/// Statuses of a restore by k8ssandra-operator, in their order.
pub(super) fn steps() -> [Value; 4] {
    [
        json!({"restoreKey": "k", "startTime": AT}),
        json!({"restoreKey": "k", "startTime": AT, "restorePrepared": true}),
        json!({"restoreKey": "k", "startTime": AT, "restorePrepared": true, "datacenterStopped": AT}),
        json!({"restoreKey": "k", "startTime": AT, "restorePrepared": true, "datacenterStopped": AT,
            "finishTime": AT}),
    ]
}

/// A refusal by k8ssandra-operator.
pub(super) fn refusal() -> Value {
    json!({"restoreKey": "k", "startTime": AT, "finishTime": AT, "message": "the racks differ"})
}
