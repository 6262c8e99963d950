//! What a purge has to know and no view holds: everybody's MedusaBackupJobs, and the `medusa.ini` in force. Read when
//! a purge is about to start, from the data planes themselves.

use std::collections::BTreeSet;

use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DynamicObject, ListParams},
    core::{DeserializeGuard, GroupVersionKind},
};

use super::gate::ObservedJob;
use crate::{
    api::{
        medusa::MedusaBackupJob,
        retention::{Limits, config_key, in_force},
    },
    control_plane::data_planes::{
        fleet::Snapshot,
        remote::{CallError, Remote},
        view::ObjectKey,
    },
};

/// Every MedusaBackupJob in the namespaces of `members`, whoever made it.
///
/// # Errors
/// Which data plane did not say, and why.
pub(super) async fn jobs(
    members: &BTreeSet<(String, ObjectKey)>,
    planes: &[Snapshot],
) -> Result<Vec<ObservedJob>, String> {
    let places: BTreeSet<(&String, &String)> = members.iter().map(|(p, key)| (p, &key.namespace)).collect();
    let lists = places.into_iter().map(async |(name, namespace)| {
        let remote = planes.iter().find(|p| p.name == *name).and_then(|p| p.remote.clone());
        let remote = remote.ok_or_else(|| format!("data plane `{name}` cannot be asked"))?;
        let listed = remote
            .call(|client| async move {
                let api = Api::<DeserializeGuard<MedusaBackupJob>>::namespaced(client, namespace);
                api.list(&ListParams::default()).await
            })
            .await
            .map_err(|error| {
                format!("the MedusaBackupJobs in data plane `{name}` cannot be listed: {}", told(&error))
            })?;
        Ok::<_, String>(listed.items.iter().map(|job| fact(name, job)).collect::<Vec<_>>())
    });
    Ok(try_join_all(lists).await?.into_iter().flatten().collect())
}

fn fact(data_plane: &str, job: &DeserializeGuard<MedusaBackupJob>) -> ObservedJob {
    let read = job.0.as_ref().ok();
    let end = read.and_then(|job| job.status.as_ref()?.finish_time.as_ref()).map(|t| t.0);
    ObservedJob {
        data_plane: data_plane.to_owned(),
        key: ObjectKey::new(job.namespace().unwrap_or_default(), job.name_any()),
        datacenter: read.map(|job| job.spec.cassandra_datacenter.clone()),
        end,
    }
}

/// The limits in the `medusa.ini` that the pods of `datacenter` run with; what nobody knows is unknown.
pub(super) async fn limits(
    remote: &Remote,
    datacenter: &ObjectKey,
    now: Timestamp,
) -> Result<Limits, String> {
    let kind = GroupVersionKind::gvk("cassandra.datastax.com", "v1beta1", "CassandraDatacenter");
    let resource = ApiResource::from_gvk(&kind);
    let ObjectKey { namespace, name } = datacenter;
    let object: Option<DynamicObject> = answered(
        remote
            .call(|client| async move { Api::namespaced_with(client, namespace, &resource).get(name).await })
            .await,
    )?;
    let object = object.and_then(|object| serde_json::to_value(object).ok()).unwrap_or_default();
    let Some(key) = config_key(&object) else { return Ok(Limits::default()) };
    let config_map = &key.config_map;
    let map: Option<ConfigMap> = answered(
        remote.call(|client| async move { Api::namespaced(client, namespace).get(config_map).await }).await,
    )?;
    Ok(in_force(&object, map.as_ref(), now))
}

/// What was asked for, or nothing when the API server says that it is not there or not ours to read.
fn answered<T>(answer: Result<T, CallError>) -> Result<Option<T>, String> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.code(), Some(403 | 404)) => Ok(None),
        Err(error) => Err(format!("Medusa's configuration cannot be read: {}", told(&error))),
    }
}

fn told(error: &CallError) -> String {
    error.status().map_or_else(|| error.to_string(), |status| status.message.clone())
}
