//! Writes that every kind needs: the owner, the status, and what stands there now.
//!
//! Each is harmless to repeat, and each holds to the version it was decided on, so that of two controllers
//! only one gets through.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::{Value, json};

use super::problem::{Obstacle, Problem};
use crate::{
    api::{
        cassandra::CassandraDatacenter,
        guarded::{self, Guarded},
        labels,
        unreadable::UnreadableWork,
    },
    runtime::{cause, follow::Followed},
};

/// Makes `object` go when its datacenter goes, unless it has an owner already (upstream: Backups). The
/// inner object is the one to go on with.
///
/// # Errors
/// When the API server refuses, among others because the object has changed.
pub async fn own<K: Followed>(
    client: &Client,
    object: &K,
    datacenter: &CassandraDatacenter,
) -> Result<K, kube::Error> {
    let meta = object.meta();
    if meta.owner_references.as_ref().is_some_and(|owners| !owners.is_empty()) {
        return Ok(object.clone());
    }
    let patch = json!({"metadata": {
        "resourceVersion": meta.resource_version,
        "ownerReferences": [owner(datacenter)],
    }});
    api(client, object).patch(name(object), &patch_params(), &Patch::Merge(patch)).await
}

/// A reference that ties an object's life to the datacenter's without blocking its deletion.
#[must_use]
pub fn owner(datacenter: &CassandraDatacenter) -> OwnerReference {
    OwnerReference {
        api_version: CassandraDatacenter::api_version(&()).into_owned(),
        kind: CassandraDatacenter::kind(&()).into_owned(),
        name: datacenter.metadata.name.clone().unwrap_or_default(),
        uid: datacenter.metadata.uid.clone().unwrap_or_default(),
        controller: None,
        block_owner_deletion: None,
    }
}

/// Writes the object's status; `patch` holds the version it applies to.
///
/// # Errors
/// When the API server refuses, among others because the object has changed.
pub async fn patch_status<K: Followed>(client: &Client, object: &K, patch: &Value) -> Result<K, kube::Error> {
    api(client, object).patch_status(name(object), &patch_params(), &Patch::Merge(patch)).await
}

/// Preconditions with which a deletion takes exactly the object and version that `metadata` is of, or fails.
#[must_use]
pub fn this_version(metadata: &ObjectMeta) -> Preconditions {
    Preconditions { uid: metadata.uid.clone(), resource_version: metadata.resource_version.clone() }
}

/// Deletes the object `name` if it is still `this` one. One that is gone is as good.
///
/// # Errors
/// When the API server cannot be asked or refuses, among others because the object is another or has changed.
pub async fn delete<K: Followed>(api: &Api<K>, name: &str, this: Preconditions) -> Result<(), kube::Error> {
    match api.delete(name, &DeleteParams::default().preconditions(this)).await {
        Err(kube::Error::Api(answer)) if answer.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}

/// The objects of a kind in a namespace. A kind that the cluster does not have has none.
///
/// # Errors
/// When the API server cannot be asked.
pub async fn all<K: Followed>(client: &Client, namespace: &str) -> Result<Vec<K>, kube::Error> {
    match Api::<K>::namespaced(client.clone(), namespace).list(&ListParams::default()).await {
        Ok(list) => Ok(list.items),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// [`all`] that can be read; what is known of the others is added to `unreadable`, so that one hides no other.
///
/// # Errors
/// When the API server cannot be asked.
pub async fn readable<K: Followed>(
    client: &Client,
    namespace: &str,
    unreadable: &mut Vec<UnreadableWork>,
) -> Result<Vec<K>, kube::Error> {
    let list: Vec<Guarded<K, UnreadableWork>> = all(client, namespace).await?;
    Ok(guarded::readable(list, unreadable))
}

/// Why the API server will not take a write however often it is repeated: it is forbidden, invalid or too large.
#[must_use]
pub fn refusal(error: &kube::Error) -> Option<String> {
    let kube::Error::Api(status) = error else { return None };
    if cause::is_too_large(status) {
        return Some(format!("the object is too large to be stored ({})", status.message));
    }
    matches!(status.code, 400 | 403 | 422).then(|| status.message.clone())
}

/// A write that was not carried out: where that would not change however often it is repeated, the problem that `tell` makes
/// of the reason.
pub fn refused(error: kube::Error, tell: impl FnOnce(&str) -> Problem) -> Obstacle {
    match refusal(&error) {
        Some(why) => tell(&why).into(),
        None => error.into(),
    }
}

/// The labels of what is made because of `object`: cass-operator's two, so that it is found by its datacenter, and what
/// the control plane put on the object, so that it recognises it as its own. No others: who tracks objects by a label
/// of its own would take it for one of those, and delete it.
#[must_use]
pub fn own_labels(object: &impl Resource, datacenter: &CassandraDatacenter) -> BTreeMap<String, String> {
    let domain = format!("{}/", labels::DOMAIN);
    let given = object.meta().labels.iter().flatten().filter(|(key, _)| key.starts_with(&domain));
    let mut all: BTreeMap<String, String> = given.map(|(key, value)| (key.clone(), value.clone())).collect();
    all.extend(datacenter.datacenter_labels().into_iter().filter(|(_, value)| !value.is_empty()));
    all
}

/// Whether an error only says that somebody else was faster.
#[must_use]
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_conflict())
}

/// The object as the API server has it now, if it still exists.
///
/// # Errors
/// When the API server cannot be asked.
pub async fn reread<K: Followed>(client: &Client, object: &K) -> Result<Option<K>, kube::Error> {
    let fresh = api(client, object).get_opt(name(object)).await?;
    Ok(fresh.filter(|fresh| fresh.meta().uid == object.meta().uid))
}

/// Parameters of every patch of this role.
#[must_use]
pub fn patch_params() -> PatchParams {
    PatchParams { field_manager: Some(labels::MANAGER_DATA_PLANE.to_owned()), ..PatchParams::default() }
}

/// Parameters of every creation by this role.
#[must_use]
pub fn post_params() -> PostParams {
    PostParams { field_manager: Some(labels::MANAGER_DATA_PLANE.to_owned()), ..PostParams::default() }
}

/// The object's namespace.
#[must_use]
pub fn namespace<K: Resource>(object: &K) -> &str {
    object.meta().namespace.as_deref().unwrap_or_default()
}

/// The object's name.
#[must_use]
pub fn name<K: Resource>(object: &K) -> &str {
    object.meta().name.as_deref().unwrap_or_default()
}

fn api<K: Followed>(client: &Client, object: &K) -> Api<K> {
    Api::namespaced(client.clone(), namespace(object))
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use rstest::rstest;

    use super::*;
    use crate::api::medusa::MedusaBackupJob;

    #[rstest]
    #[case::too_large_for_the_server(413, "Request entity too large: limit is 3145728", Some("too large"))]
    #[case::too_large_for_etcd(500, "etcdserver: request is too large", Some("too large"))]
    #[case::too_large_for_its_client(
        500,
        "rpc error: code = ResourceExhausted desc = trying to send message larger than max (2097230 vs. 2097152)",
        Some("too large")
    )]
    #[case::forbidden(403, "may not", Some("may not"))]
    #[case::invalid(422, "spec.x: no", Some("spec.x: no"))]
    #[case::no_leader(500, "etcdserver: no leader", None)]
    #[case::conflict(409, "another version", None)]
    #[case::busy(429, "later", None)]
    #[case::gone(404, "not found", None)]
    fn what_no_repetition_changes_is_told_apart(
        #[case] code: u16,
        #[case] message: &str,
        #[case] expected: Option<&str>,
    ) {
        let error = kube::Error::Api(Status::failure(message, "").with_code(code).boxed());
        let found = refusal(&error);
        assert_eq!(found.is_some(), expected.is_some(), "{found:?}");
        assert!(expected.is_none_or(|words| found.unwrap().contains(words)));
        assert_eq!(refusal(&kube::Error::LinesCodecMaxLineLengthExceeded), None);
    }

    #[test]
    fn what_is_made_bears_the_datacenters_labels_and_the_fleets_and_no_others() {
        let job: MedusaBackupJob = serde_json::from_value(json!({
            "metadata": {"name": "b1", "labels": {
                "fleet.k8ssandra.io/job": "nightly", "app": "x", "argocd.argoproj.io/instance": "x",
                labels::CASSANDRA_CLUSTER: "wrong"
            }},
            "spec": {"cassandraDatacenter": "dc1"}
        }))
        .unwrap();
        let dc = serde_json::from_value(json!({
            "metadata": {"name": "dc1"}, "spec": {"clusterName": "First Cluster"}
        }))
        .unwrap();
        let labels: Vec<(String, String)> = own_labels(&job, &dc).into_iter().collect();
        let expected = [
            (labels::CASSANDRA_CLUSTER, "FirstCluster"),
            (labels::CASSANDRA_DATACENTER, "dc1"),
            ("fleet.k8ssandra.io/job", "nightly"),
        ];
        assert_eq!(labels, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }
}
