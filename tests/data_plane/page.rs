//! K8ssandra's documentation page on backup and restore: each of its manifests for a data plane, applied with
//! kubectl as it stands but for the namespace, and the effect the page describes.
//!
//! Its K8ssandraClusters and its CronJob belong to the deployment of Medusa: `tests/apiserver/page.rs`.

use std::{io::Write as _, process::Stdio, time::Duration};

use jiff::{Timestamp, civil::time, tz::TimeZone};
use medusa_fleet::{
    api::{
        Conditions as _,
        medusa::{MedusaBackup, MedusaBackupJob, MedusaBackupSchedule, MedusaConfiguration},
    },
    runtime::clock::{self, Clock},
};

use crate::{
    restorable_datacenter::{RestorableDatacenter, restore_timings},
    support::{
        eventually,
        gate::Gate,
        harness::testbed,
        like,
        page::{CONFIGURATION, SECRET},
    },
};

const BACKUP_JOB: &str = "
apiVersion: medusa.k8ssandra.io/v1alpha1
kind: MedusaBackupJob
metadata:
  name: medusa-backup1
spec:
  cassandraDatacenter: dc1
";

/// The page's example of what a backup looks like, its tokens shortened.
const BACKUP: &str = "
apiVersion: medusa.k8ssandra.io/v1alpha1
kind: MedusaBackup
metadata:
  name: backup1
status:
  startTime: '2023-09-13T12:15:57Z'
  finishTime: '2023-09-13T12:16:12Z'
  totalNodes: 1
  finishedNodes: 1
  nodes:
    - datacenter: dc1
      host: firstcluster-dc1-default-sts-0
      rack: default
      tokens:
        - -110555885826893
        - -1149279817337332700
  status: SUCCESS
  totalFiles: 120
  totalSize: 127.67 KB
spec:
  backupType: differential
  cassandraDatacenter: dc1
";

const SCHEDULE: &str = "
apiVersion: medusa.k8ssandra.io/v1alpha1
kind: MedusaBackupSchedule
metadata:
  name: medusa-backup-schedule
  namespace: NAMESPACE
spec:
  backupSpec:
    backupType: differential
    cassandraDatacenter: dc1
  cronSchedule: 30 1 * * *
  disabled: false
";

const RESTORE: &str = "
apiVersion: medusa.k8ssandra.io/v1alpha1
kind: MedusaRestoreJob
metadata:
  name: restore-backup1
  namespace: NAMESPACE
spec:
  cassandraDatacenter: dc1
  backup: medusa-backup1
";

const SYNC: &str = "
apiVersion: medusa.k8ssandra.io/v1alpha1
kind: MedusaTask
metadata:
  name: sync-backups-1
  namespace: NAMESPACE
spec:
  cassandraDatacenter: dc1
  operation: sync
";

const PURGE: &str = "
apiVersion: medusa.k8ssandra.io/v1alpha1
kind: MedusaTask
metadata:
  name: purge-backups-1
  namespace: NAMESPACE
spec:
  cassandraDatacenter: dc1
  operation: purge
";

impl RestorableDatacenter {
    /// Runs kubectl in the test's namespace; returns what it prints.
    fn kubectl(&self, args: &[&str], input: &str) -> String {
        let mut child = testbed::command()
            .args(["kubectl", "--namespace", &self.scripted.ns, "--kubeconfig"])
            .arg(&self.scripted.cluster.kubeconfig)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "kubectl {args:?}");
        String::from_utf8(done.stdout).unwrap()
    }

    fn apply(&self, manifest: &str) {
        self.kubectl(&["apply", "-f", "-"], &manifest.replace("NAMESPACE", &self.scripted.ns));
    }

    /// The column headings of `kubectl get`.
    fn headings(&self, kind: &str) -> String {
        let table = self.kubectl(&["get", kind], "");
        table.lines().next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_made_shown_synced_restored_and_purged() {
    let dc = RestorableDatacenter::new(3).await;
    let _data_plane = dc.data_plane().await;
    dc.apply(SECRET);
    dc.apply(CONFIGURATION);
    eventually("the configuration is ready", async || {
        let configuration = dc.scripted.get::<MedusaConfiguration>("medusaconfiguration-s3").await;
        like(configuration.status.unwrap_or_default(), |s| s.conditions.is_true("Ready"))
    })
    .await;

    dc.apply(BACKUP_JOB);
    let status = dc.scripted.finished("medusa-backup1").await;
    assert!(status.start_time <= status.finish_time && status.failed.is_empty());
    assert_eq!(status.finished.len(), 3, "all pods are in the list");
    assert_eq!(dc.headings("MedusaBackupJob"), "NAME STARTED FINISHED");
    let whole = dc.scripted.backup("medusa-backup1").await.unwrap().status.unwrap();
    assert_eq!((whole.total_nodes, whole.finished_nodes, whole.nodes.len()), (Some(3), Some(3), 3));
    assert_eq!(dc.headings("MedusaBackup"), "NAME STARTED FINISHED NODES FILES SIZE COMPLETED STATUS");

    // What is missing here is made, and what is missing in the storage goes.
    dc.apply(BACKUP);
    dc.scripted.delete::<MedusaBackup>("medusa-backup1").await;
    dc.apply(SYNC);
    let status = dc.scripted.task_finished("sync-backups-1").await;
    assert!(status.start_time <= status.finish_time && status.finished.len() == 1);
    assert!(dc.scripted.peers.iter().any(|p| Some(&p.node) == status.finished[0].pod_name.as_ref()));
    assert!(dc.scripted.backup("backup1").await.is_none());
    let again = dc.scripted.backup("medusa-backup1").await.unwrap().status.unwrap();
    assert_eq!((again.total_nodes, again.status.as_deref()), (Some(3), Some("SUCCESS")));

    dc.apply(RESTORE);
    let status = dc.finished("restore-backup1").await;
    assert!(
        status.start_time <= status.datacenter_stopped && status.datacenter_stopped <= status.finish_time
    );
    assert_eq!((status.restore_prepared, status.restore_key.len()), (Some(true), 36));
    assert!(status.conditions.is_true("Complete"), "{status:?}");
    dc.assert_restored("medusa-backup1");
    eventually("the datacenter is ready", async || dc.ready().await).await;

    dc.scripted.storage.keep(1);
    dc.apply(PURGE);
    let status = dc.scripted.task_finished("purge-backups-1").await;
    assert_eq!(status.finished.len(), 3, "{status:?}");
    for pod in &status.finished {
        assert_eq!(pod.nb_backups_purged, Some(1));
        let counters = [pod.nb_objects_purged, pod.total_purged_size, pod.total_objects_within_gc_grace];
        assert!(counters.iter().all(Option::is_some), "{pod:?}");
    }
    dc.scripted.task_finished("purge-backups-1-sync").await;
    assert!(dc.scripted.backup("b1").await.is_none(), "the older backup is purged");
    assert!(dc.scripted.backup("medusa-backup1").await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_runs_at_half_past_one() {
    let dc = RestorableDatacenter::new(3).await;
    dc.apply(SCHEDULE);
    // A clock that is three seconds short of the next 01:30, and a storage that goes by it.
    let now = clock::now();
    let today = now.to_zoned(TimeZone::UTC).date();
    let half_past_one = |day: jiff::civil::Date| {
        day.to_datetime(time(1, 30, 0, 0)).to_zoned(TimeZone::UTC).unwrap().timestamp()
    };
    let slot = [today, today.tomorrow().unwrap()].map(half_past_one).into_iter().find(|slot| *slot > now);
    let slot: Timestamp = slot.unwrap();
    let ahead = slot.duration_since(now) - jiff::SignedDuration::from_secs(3);
    let shifted = Clock::of(move || clock::now() + ahead);
    dc.scripted.storage.lag(-ahead.as_secs());
    let _data_plane = dc.scripted.data_plane_at(Gate::default(), restore_timings(), shifted).await;

    let name = format!("medusa-backup-schedule-{}", slot.as_second());
    eventually("the slot has run", async || {
        dc.scripted.find::<MedusaBackupJob>(&name).await.ok_or("it is not there")
    })
    .await;
    dc.scripted.finished(&name).await;
    assert_eq!(dc.scripted.backup(&name).await.unwrap().status.unwrap().status.as_deref(), Some("SUCCESS"));
    eventually("the status tells of both executions", async || {
        let schedule = dc.scripted.get::<MedusaBackupSchedule>("medusa-backup-schedule").await;
        let status = schedule.status.unwrap_or_default();
        let times = [status.last_execution, status.next_schedule].map(|time| time.map(|time| time.0));
        like(times, |times| *times == [Some(slot), Some(slot + Duration::from_hours(24))])
    })
    .await;
}
