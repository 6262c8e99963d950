//! Whether a task can begin.
//!
//! Pure. What stands in the way is a [`Problem`] that names the field and what to do about it.

use crate::{
    api::{
        Reason,
        cassandra::CassandraDatacenter,
        medusa::{MedusaBackupJob, MedusaRestoreJob, MedusaTask, TaskOperation},
    },
    data_plane::{pods::PodView, problem::Problem, scene},
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
        return scene::check(dc, pods);
    }
    Ok(())
}

/// What else goes on in the task's namespace.
#[derive(Clone, Debug, Default)]
pub struct Elsewhere {
    /// Restores.
    pub restores: Vec<MedusaRestoreJob>,
    /// Backups.
    pub backups: Vec<MedusaBackupJob>,
    /// Tasks, this one among them.
    pub tasks: Vec<MedusaTask>,
}

/// Whether a purge of the task's datacenter may begin now. It waits for
/// - a restore, which reads what a purge may delete;
/// - a backup: a differential one counts on files that earlier backups have uploaded, and a purge of those
///   deletes what no finished backup needs. Medusa's grace period covers new files only;
/// - another purge, so that no two delete the same files at once.
///
/// # Errors
/// What it has to wait for.
pub fn purge_may_begin(task: &MedusaTask, elsewhere: &Elsewhere) -> Result<(), Problem> {
    let dc = &task.spec.cassandra_datacenter;
    let busy = |reason, kind: &str, name: Option<&String>| {
        let name = name.map(String::as_str).unwrap_or_default();
        let message = format!(
            "waits for {kind} `{name}` of CassandraDatacenter `{dc}` to end; delete it if it never will"
        );
        Err(Problem::busy(reason, message))
    };
    // Whether it is of this datacenter, and has begun but not ended.
    let runs = |of: &str, times: Option<(bool, bool)>| of == dc && times == Some((true, false));
    let restore = elsewhere.restores.iter().find(|r| {
        let times = r.status.as_ref().map(|s| (s.start_time.is_some(), s.finish_time.is_some()));
        runs(&r.spec.cassandra_datacenter, times)
    });
    if let Some(restore) = restore {
        return busy(Reason::RestoreRunning, "MedusaRestoreJob", restore.metadata.name.as_ref());
    }
    let backup = elsewhere.backups.iter().find(|b| {
        let times = b.status.as_ref().map(|s| (s.start_time.is_some(), s.finish_time.is_some()));
        runs(&b.spec.cassandra_datacenter, times)
    });
    if let Some(backup) = backup {
        return busy(Reason::BackupRunning, "MedusaBackupJob", backup.metadata.name.as_ref());
    }
    let purge = elsewhere.tasks.iter().find(|t| {
        let times = t.status.as_ref().map(|s| (s.start_time.is_some(), s.finish_time.is_some()));
        t.spec.operation == TaskOperation::Purge
            && t.metadata.uid != task.metadata.uid
            && runs(&t.spec.cassandra_datacenter, times)
    });
    match purge {
        Some(purge) => busy(Reason::PurgeRunning, "the purge MedusaTask", purge.metadata.name.as_ref()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;
    use crate::data_plane::pods::Instance;

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
        let reason = |elsewhere: &Elsewhere| purge_may_begin(&task, elsewhere).err().map(|p| p.reason);
        let job = |dc, status: &Value| of("b", &json!({"cassandraDatacenter": dc}), status);
        let restore =
            |dc, status: &Value| of("r", &json!({"backup": "b", "cassandraDatacenter": dc}), status);
        let mut elsewhere = Elsewhere {
            restores: vec![restore("dc2", &running_restore), restore("dc1", &json!(null))],
            backups: vec![job("dc2", &running), job("dc1", &over), job("dc1", &json!(null))],
            tasks: vec![task.clone(), purge("u", "dc2", &running), purge("v", "dc1", &over)],
        };
        assert_eq!(reason(&elsewhere), None);
        elsewhere.tasks.push(purge("w", "dc1", &running));
        assert_eq!(reason(&elsewhere), Some(Reason::PurgeRunning));
        elsewhere.backups.push(job("dc1", &running));
        assert_eq!(reason(&elsewhere), Some(Reason::BackupRunning));
        elsewhere.restores.push(restore("dc1", &running_restore));
        assert_eq!(reason(&elsewhere), Some(Reason::RestoreRunning));
        assert!(purge_may_begin(&task, &elsewhere).unwrap_err().is_busy);
    }
}
