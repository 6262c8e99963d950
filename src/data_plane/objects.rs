//! Writes that every kind needs: the owner, the status, and what stands there now.
//!
//! Each is harmless to repeat, and each holds to the version it was decided on, so that of two controllers
//! only one gets through.

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
    core::NamespaceResourceScope,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::api::{cassandra::CassandraDatacenter, labels};

/// Makes `object` go when its datacenter goes, unless it has an owner already (upstream §3.1 step 3). The
/// inner object is the one to go on with.
///
/// # Errors
/// When the API server refuses, among others because the object has changed.
pub async fn own<K>(client: &Client, object: &K, datacenter: &CassandraDatacenter) -> Result<K, kube::Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
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
pub async fn patch_status<K>(client: &Client, object: &K, patch: &Value) -> Result<K, kube::Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    api(client, object).patch_status(name(object), &patch_params(), &Patch::Merge(patch)).await
}

/// Deletes the object `name` if it is still the one of that uid and, where given, that version. One that is
/// gone is as good.
///
/// # Errors
/// When the API server cannot be asked or refuses, among others because the object is another or has changed.
pub async fn delete<K>(
    api: &Api<K>,
    name: &str,
    uid: Option<String>,
    resource_version: Option<String>,
) -> Result<(), kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    let only_this = DeleteParams::default().preconditions(Preconditions { uid, resource_version });
    match api.delete(name, &only_this).await {
        Err(kube::Error::Api(answer)) if answer.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}

/// The objects of a kind in a namespace. A kind that the cluster does not have has none.
///
/// # Errors
/// When the API server cannot be asked.
pub async fn all<K>(client: &Client, namespace: &str) -> Result<Vec<K>, kube::Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    match Api::<K>::namespaced(client.clone(), namespace).list(&ListParams::default()).await {
        Ok(list) => Ok(list.items),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
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
pub async fn reread<K>(client: &Client, object: &K) -> Result<Option<K>, kube::Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
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

fn api<K>(client: &Client, object: &K) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(client.clone(), namespace(object))
}
