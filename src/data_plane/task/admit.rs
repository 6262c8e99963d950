//! Whether a task can begin.
//!
//! Pure. What stands in the way is a [`Problem`] that names the field and what to do about it.

use kube::{ResourceExt as _, core::DeserializeGuard};

use super::turn::OpenWork;
use crate::{
    api::{
        Reason,
        cassandra::CassandraDatacenter,
        medusa::{MedusaBackupJob, MedusaRestoreJob, MedusaTask, TaskOperation},
        unreadable::UnreadableWork,
    },
    data_plane::{
        frame::{outcome::RunStatus, problem::Problem},
        medusa::{inputs, pods::PodView},
    },
};

/// What a `prepare_restore` is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preparation {
    /// `spec.backupName`.
    pub backup: String,
    /// `spec.restoreKey`.
    pub key: String,
}

/// What the task asks to prepare; nothing for other operations, which do not read these fields.
///
/// # Errors
/// When a field is missing or cannot be used.
pub fn preparation(task: &MedusaTask) -> Result<Option<Preparation>, Problem> {
    if task.spec.operation != TaskOperation::PrepareRestore {
        return Ok(None);
    }
    let wanted = |field: &str, value: Option<&String>| match value.map(|v| v.trim()) {
        Some(value) if !value.is_empty() => Ok(value.to_owned()),
        _ => Err(Problem::for_good(
            Reason::InvalidSpec,
            format!("{field}: operation prepare_restore needs it; create a new task that gives it"),
        )),
    };
    let backup = wanted("spec.backupName", task.spec.backup_name.as_ref())?;
    let key = wanted("spec.restoreKey", task.spec.restore_key.as_ref())?;
    // The key is the name of a file on each node.
    if key.contains(['/', '\0']) || key == "." || key == ".." {
        return Err(Problem::for_good(
            Reason::InvalidSpec,
            format!("spec.restoreKey: `{key}` cannot be a file's name; use letters, digits and dashes"),
        ));
    }
    Ok(Some(Preparation { backup, key }))
}

/// Whether the pods of `dc` can do `operation`. A sync needs one of them, anything else all.
///
/// # Errors
/// What stands in the way.
pub fn check(operation: TaskOperation, dc: &CassandraDatacenter, pods: &[PodView]) -> Result<(), Problem> {
    let able = pods.iter().any(|pod| pod.has_medusa);
    if operation != TaskOperation::Sync || dc.spec.stopped || !able {
        return inputs::check(dc, pods);
    }
    Ok(())
}

/// What else goes on in the task's namespace.
#[derive(Clone, Debug, Default)]
pub struct Elsewhere {
    /// Restores.
    pub restores: Vec<MedusaRestoreJob>,
    /// Restores that cannot be read.
    pub unreadable: Vec<UnreadableWork>,
    /// Backups, also those that cannot be read.
    pub backups: Vec<DeserializeGuard<MedusaBackupJob>>,
    /// Tasks, this one among them.
    pub tasks: Vec<DeserializeGuard<MedusaTask>>,
}

/// Whether a purge of the task's datacenter may begin now. It waits for
/// - a restore, which reads what a purge may delete;
/// - a backup: a differential one counts on files that earlier backups have uploaded, and a purge of those
///   deletes what no finished backup needs. Medusa's grace period covers new files only;
/// - another purge, so that no two delete the same files at once.
///
/// Of backups and purges that have not begun it waits for those that were made before it ([`OpenWork::waits_for`]). Of a
/// backup that cannot be read nobody can say whose it is.
///
/// # Errors
/// What it has to wait for.
pub fn purge_may_begin(task: &MedusaTask, elsewhere: &Elsewhere) -> Result<(), Problem> {
    let dc = &task.spec.cassandra_datacenter;
    let busy = |reason, what: String| {
        Err(Problem::busy(reason, format!("waits for {what} to end; delete it if it never will")))
    };
    let restore = elsewhere.restores.iter().find(|r| {
        r.spec.cassandra_datacenter == *dc && r.status.as_ref().is_some_and(RunStatus::is_under_way)
    });
    if let Some(restore) = restore {
        let name = restore.name_any();
        return busy(
            Reason::RestoreRunning,
            format!("MedusaRestoreJob `{name}` of CassandraDatacenter `{dc}`"),
        );
    }
    // What a restore has begun goes on in its pods whatever becomes of its object.
    if let Some(restore) = elsewhere.unreadable.iter().find(|work| work.may_be_at_work_on(dc)) {
        let name = restore.name();
        return busy(
            Reason::RestoreRunning,
            format!("MedusaRestoreJob `{name}`, which cannot be read and may be at work,"),
        );
    }
    let own = OpenWork::Purge(task);
    for backup in &elsewhere.backups {
        let name = backup.name_any();
        match &backup.0 {
            Ok(job) if own.waits_for(&OpenWork::Backup(job)) => {
                let what = format!("MedusaBackupJob `{name}` of CassandraDatacenter `{dc}`");
                return busy(Reason::BackupRunning, what);
            }
            Ok(_) => {}
            Err(_) => {
                let what = format!("MedusaBackupJob `{name}`, which cannot be read and may be at work,");
                return busy(Reason::BackupRunning, what);
            }
        }
    }
    waits_for_purge(&own, dc, &elsewhere.tasks)
}

/// Whether a backup may begin now: no purge of its datacenter is at work, and none was made before it.
///
/// # Errors
/// What it has to wait for.
pub fn backup_may_begin(
    job: &MedusaBackupJob,
    tasks: &[DeserializeGuard<MedusaTask>],
) -> Result<(), Problem> {
    waits_for_purge(&OpenWork::Backup(job), &job.spec.cassandra_datacenter, tasks)
}

/// A task that cannot be read is none that this controller works on.
fn waits_for_purge(
    own: &OpenWork<'_>,
    dc: &str,
    tasks: &[DeserializeGuard<MedusaTask>],
) -> Result<(), Problem> {
    let readable = tasks.iter().filter_map(|task| task.0.as_ref().ok());
    let mut purges = readable.filter_map(|task| Some((task, OpenWork::of_task(task)?)));
    match purges.find(|(_, purge)| own.waits_for(purge)) {
        None => Ok(()),
        Some((task, _)) => {
            let name = task.name_any();
            let message = format!(
                "waits for the purge MedusaTask `{name}` of CassandraDatacenter `{dc}` to end; delete it if it never \
                 will"
            );
            Err(Problem::busy(Reason::PurgeRunning, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;
    use crate::api::guarded::Guarded;
    use crate::data_plane::medusa::pods::Instance;

    fn of<K: DeserializeOwned>(name: &str, spec: &Value, status: &Value) -> K {
        let metadata = json!({"name": name, "uid": name});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap()
    }

    fn task(spec: &Value) -> MedusaTask {
        of("t", spec, &json!(null))
    }

    #[rstest]
    #[case(json!({"operation": "sync"}), Ok(None))]
    #[case(json!({"operation": "prepare_restore"}), Err("spec.backupName"))]
    #[case(json!({"operation": "prepare_restore", "backupName": " "}), Err("spec.backupName"))]
    #[case(json!({"operation": "prepare_restore", "backupName": "b"}), Err("spec.restoreKey"))]
    #[case(
        json!({"operation": "prepare_restore", "backupName": "b", "restoreKey": "../x"}),
        Err("spec.restoreKey")
    )]
    #[case(json!({"operation": "prepare_restore", "backupName": "b", "restoreKey": "k"}), Ok(Some(("b", "k"))))]
    fn preparing_a_restore_needs_its_two_fields(
        #[case] mut spec: Value,
        #[case] expected: Result<Option<(&str, &str)>, &str>,
    ) {
        spec["cassandraDatacenter"] = json!("dc1");
        match (preparation(&task(&spec)), expected) {
            (Ok(found), Ok(expected)) => {
                assert_eq!(found.map(|p| (p.backup, p.key)), expected.map(|(b, k)| (b.into(), k.into())));
            }
            (Err(problem), Err(field)) => {
                assert_eq!((problem.reason, problem.may_heal), (Reason::InvalidSpec, false));
                assert!(problem.message.starts_with(field), "{}", problem.message);
            }
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        }
    }

    fn pods(medusas: &[bool]) -> Vec<PodView> {
        let pod = |(n, has_medusa): (usize, &bool)| PodView {
            name: format!("p{n}"),
            address: None,
            has_medusa: *has_medusa,
            ready_since: None,
            instance: Instance::default(),
        };
        medusas.iter().enumerate().map(pod).collect()
    }

    #[rstest]
    #[case::one_is_enough(TaskOperation::Sync, &[true, false], None)]
    #[case::none_is_not(TaskOperation::Sync, &[], Some(Reason::NoPods))]
    #[case::none_with_medusa(TaskOperation::Sync, &[false, false], Some(Reason::MedusaContainerMissing))]
    #[case::all_of_them(TaskOperation::Purge, &[true, true, true], None)]
    #[case::all_must_be_there(TaskOperation::Purge, &[true, true], Some(Reason::NoPods))]
    #[case::all_must_be_able(TaskOperation::PrepareRestore, &[true, true, false], Some(Reason::MedusaContainerMissing))]
    fn a_sync_needs_one_pod_and_the_rest_all(
        #[case] operation: TaskOperation,
        #[case] medusas: &[bool],
        #[case] expected: Option<Reason>,
    ) {
        let dc = of("dc1", &json!({"size": 3}), &json!(null));
        assert_eq!(check(operation, &dc, &pods(medusas)).err().map(|p| p.reason), expected);
        let stopped = of("dc1", &json!({"size": 3, "stopped": true}), &json!(null));
        let reason = check(operation, &stopped, &pods(medusas)).unwrap_err().reason;
        assert_eq!(reason, Reason::DatacenterStopped);
    }

    #[test]
    fn a_purge_waits_for_restores_backups_and_purges_of_its_datacenter_that_are_under_way() {
        let purge = |name, dc, status: &Value| -> MedusaTask {
            of(name, &json!({"cassandraDatacenter": dc, "operation": "purge"}), status)
        };
        let (running, over) = (json!({"startTime": "2026-01-01T00:00:00Z"}), {
            json!({"startTime": "2026-01-01T00:00:00Z", "finishTime": "2026-01-01T00:00:00Z"})
        });
        let running_restore = json!({"restoreKey": "k", "startTime": "2026-01-01T00:00:00Z"});
        let task = purge("t", "dc1", &running);
        let guarded = |task: MedusaTask| DeserializeGuard(Ok(task));
        let reason = |elsewhere: &Elsewhere| purge_may_begin(&task, elsewhere).err().map(|p| p.reason);
        let job =
            |dc, status: &Value| DeserializeGuard(Ok(of("b", &json!({"cassandraDatacenter": dc}), status)));
        let restore =
            |dc, status: &Value| of("r", &json!({"backup": "b", "cassandraDatacenter": dc}), status);
        let mut elsewhere = Elsewhere {
            restores: vec![restore("dc2", &running_restore), restore("dc1", &json!(null))],
            backups: vec![job("dc2", &running), job("dc1", &over)],
            tasks: [task.clone(), purge("u", "dc2", &running), purge("v", "dc1", &over)].map(guarded).into(),
            ..Elsewhere::default()
        };
        assert_eq!(reason(&elsewhere), None);
        elsewhere.tasks.push(guarded(purge("w", "dc1", &running)));
        assert_eq!(reason(&elsewhere), Some(Reason::PurgeRunning));
        elsewhere.backups.push(job("dc1", &running));
        assert_eq!(reason(&elsewhere), Some(Reason::BackupRunning));
        elsewhere.restores.push(restore("dc1", &running_restore));
        assert_eq!(reason(&elsewhere), Some(Reason::RestoreRunning));
        assert!(purge_may_begin(&task, &elsewhere).unwrap_err().is_busy);
        let odd = json!({"metadata": {"name": "odd"}, "spec": {"cassandraDatacenter": 1}});
        let elsewhere =
            Elsewhere { backups: vec![serde_json::from_value(odd).unwrap()], ..Elsewhere::default() };
        assert_eq!(reason(&elsewhere), Some(Reason::BackupRunning), "it may be at work");
        let odd = |dc, status: &Value| -> Option<Reason> {
            let restore: Guarded<MedusaRestoreJob, UnreadableWork> =
                of("r", &json!({"backup": 5, "cassandraDatacenter": dc}), status);
            let unreadable = vec![restore.0.unwrap_err()];
            reason(&Elsewhere { unreadable, ..Elsewhere::default() })
        };
        assert_eq!(odd("dc1", &running_restore), Some(Reason::RestoreRunning), "it goes on in the pods");
        assert_eq!((odd("dc1", &json!(null)), odd("dc2", &running_restore)), (None, None));
    }

    #[test]
    fn a_backup_waits_for_a_purge_of_its_datacenter_and_for_no_other_task() {
        let task = |operation, dc, status: &Value| -> DeserializeGuard<MedusaTask> {
            DeserializeGuard(Ok(of("t", &json!({"cassandraDatacenter": dc, "operation": operation}), status)))
        };
        let running = json!({"startTime": "2026-01-01T00:00:00Z"});
        let job: MedusaBackupJob = of("b", &json!({"cassandraDatacenter": "dc1"}), &json!(null));
        let odd = json!({"metadata": {"name": "odd"}, "spec": {"cassandraDatacenter": 1}});
        let mut tasks = vec![
            task("sync", "dc1", &running),
            task("purge", "dc2", &running),
            task("purge", "dc1", &json!(null)),
            serde_json::from_value(odd).unwrap(),
        ];
        assert_eq!(backup_may_begin(&job, &tasks), Ok(()));
        tasks.push(task("purge", "dc1", &running));
        let problem = backup_may_begin(&job, &tasks).unwrap_err();
        assert_eq!((problem.reason, problem.is_busy), (Reason::PurgeRunning, true));
        assert!(problem.message.contains("MedusaTask `t`"), "{}", problem.message);
    }
}
