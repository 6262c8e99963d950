//! The sync that follows a purge, so that the MedusaBackups whose data is gone go too (upstream: Tasks).
//!
//! It is made before the purge is finished, and found again after a crash by the purge's uid on it.

use std::collections::BTreeMap;

use kube::{Api, Client, api::ObjectMeta};

use crate::{
    api::{
        Reason,
        cassandra::CassandraDatacenter,
        labels,
        medusa::{MedusaTask, MedusaTaskSpec, TaskOperation},
        names,
    },
    data_plane::frame::{
        objects,
        problem::{Obstacle, Problem},
    },
};

/// Makes sure of the sync that follows `task`, a purge of `dc`. Returns its name; nothing while an older sync of that name is
/// at work, and then it is to be tried again.
///
/// # Errors
/// When the API server cannot be asked. It is a problem when there can be no such sync.
pub async fn ensure(
    client: &Client,
    task: &MedusaTask,
    dc: &CassandraDatacenter,
) -> Result<Option<String>, Obstacle> {
    let tasks = Api::<MedusaTask>::namespaced(client.clone(), objects::namespace(task));
    let wanted = wanted(task, dc);
    let name = objects::name(&wanted).to_owned();
    match tasks.create(&objects::post_params(), &wanted).await {
        Ok(_) => return Ok(Some(name)),
        Err(kube::Error::Api(answer)) if answer.is_already_exists() => {}
        Err(error) => {
            return Err(objects::refused(error, |why| {
                let message = format!(
                    "the purge is done, but the API server refuses the sync MedusaTask `{name}`: {why}; make a sync, so \
                     that purged MedusaBackups go"
                );
                Problem::for_good(Reason::WriteRefused, message)
            }));
        }
    }
    let Some(existing) = tasks.get_opt(&name).await? else { return Ok(None) };
    match judge(&existing, task) {
        Existing::Fits => Ok(Some(name)),
        Existing::AtWork => Ok(None),
        Existing::Foreign => Err(Obstacle::Problem(Problem::for_good(
            Reason::NameConflict,
            format!(
                "the purge is done, but MedusaTask `{name}` exists and is no sync of CassandraDatacenter `{}`: \
                 create a sync with another name, so that purged MedusaBackups go",
                task.spec.cassandra_datacenter
            ),
        ))),
        Existing::Old => {
            match objects::delete(&tasks, &name, objects::this_version(&existing.metadata)).await {
                Err(error) if !objects::is_conflict(&error) => Err(error.into()),
                Ok(()) | Err(_) => Ok(None),
            }
        }
    }
}

/// What an object of the follow-up's name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Existing {
    /// The follow-up, or a sync that begins after the purge.
    Fits,
    /// A sync that began before the purge ended.
    AtWork,
    /// A sync that ended before; it followed a purge of the same name.
    Old,
    /// Somebody else's.
    Foreign,
}

fn judge(existing: &MedusaTask, purge: &MedusaTask) -> Existing {
    let follows = existing.metadata.annotations.as_ref().and_then(|a| a.get(labels::FOLLOWS));
    let status = existing.status.as_ref();
    if existing.spec.operation != TaskOperation::Sync
        || existing.spec.cassandra_datacenter != purge.spec.cassandra_datacenter
    {
        Existing::Foreign
    } else if follows.is_some() && follows == purge.metadata.uid.as_ref() {
        Existing::Fits
    } else if status.is_some_and(|s| s.finish_time.is_some()) {
        Existing::Old
    } else if status.is_some_and(|s| s.start_time.is_some()) {
        Existing::AtWork
    } else {
        Existing::Fits
    }
}

fn wanted(task: &MedusaTask, dc: &CassandraDatacenter) -> MedusaTask {
    let purge = objects::name(task);
    let uid = task.metadata.uid.clone().unwrap_or_default();
    MedusaTask {
        metadata: ObjectMeta {
            name: Some(names::sync_after(purge)),
            namespace: task.metadata.namespace.clone(),
            labels: Some(objects::own_labels(task, dc)),
            annotations: Some(BTreeMap::from([(labels::FOLLOWS.to_owned(), uid)])),
            owner_references: Some(vec![objects::owner(dc)]),
            ..ObjectMeta::default()
        },
        spec: MedusaTaskSpec {
            cassandra_datacenter: task.spec.cassandra_datacenter.clone(),
            operation: TaskOperation::Sync,
            backup_name: None,
            restore_key: None,
        },
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn task(metadata: &Value, operation: &str, dc: &str, status: &Value) -> MedusaTask {
        let spec = json!({"operation": operation, "cassandraDatacenter": dc});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap()
    }

    fn purge(name: &str) -> MedusaTask {
        let metadata = json!({"name": name, "namespace": "n", "uid": "u1", "labels": {
            "argocd.argoproj.io/instance": "orders", "app.kubernetes.io/instance": "orders", labels::JOB_UID: "j",
        }});
        task(&metadata, "purge", "dc1", &json!(null))
    }

    #[test]
    fn it_is_a_sync_of_the_same_datacenter_with_none_but_our_labels() {
        let dc =
            serde_json::from_value(json!({"metadata": {"name": "dc1", "uid": "d"}, "spec": {}})).unwrap();
        let sync = wanted(&purge("purge-1"), &dc);
        assert_eq!(sync.metadata.name.as_deref(), Some("purge-1-sync"));
        assert_eq!(sync.metadata.namespace.as_deref(), Some("n"));
        let labels: Vec<String> = sync.metadata.labels.unwrap().into_keys().collect();
        // Whatever tracks objects by their labels would take the sync for its own, and delete it.
        assert_eq!(labels, [labels::CASSANDRA_DATACENTER, labels::JOB_UID]);
        assert_eq!(sync.metadata.owner_references.as_ref().unwrap()[0].uid, "d");
        assert_eq!(sync.spec.operation, TaskOperation::Sync);
        assert_eq!(sync.spec.cassandra_datacenter, "dc1");
        assert_eq!(wanted(&purge(&"x".repeat(253)), &dc).metadata.name.unwrap().len(), 253);
    }

    #[rstest]
    #[case::ours("sync", "dc1", "u1", json!({"finishTime": "2026-01-01T00:00:00Z"}), Existing::Fits)]
    #[case::not_begun("sync", "dc1", "", json!(null), Existing::Fits)]
    #[case::begun_before("sync", "dc1", "u0", json!({"startTime": "2026-01-01T00:00:00Z"}), Existing::AtWork)]
    #[case::of_an_earlier_purge("sync", "dc1", "u0", json!({"finishTime": "2026-01-01T00:00:00Z"}), Existing::Old)]
    #[case::other_datacenter("sync", "dc2", "u1", json!(null), Existing::Foreign)]
    #[case::other_operation("purge", "dc1", "u1", json!(null), Existing::Foreign)]
    fn an_object_of_its_name_is_adopted_waited_for_replaced_or_left_alone(
        #[case] operation: &str,
        #[case] dc: &str,
        #[case] follows: &str,
        #[case] status: Value,
        #[case] expected: Existing,
    ) {
        let metadata = json!({"name": "purge-1-sync", "annotations": {labels::FOLLOWS: follows}});
        assert_eq!(judge(&task(&metadata, operation, dc, &status), &purge("purge-1")), expected);
    }
}
