//! What a restore reads: its datacenter with StatefulSets and pods, who else is at work there, what its
//! checks ask for, and the pods' records.
//!
//! Reads only. A reading that failed is an error, never an empty answer.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use futures::future::join_all;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{Pod, Secret},
};
use kube::{Api, Client, api::LogParams};
use serde_json::Value;

use super::{
    judge::Reading,
    lock::LockHolder,
    preflight::Elsewhere,
    record,
    template::CONTAINER,
    view::{Datacenter, Restore, RestorePod, Set, View},
};
use crate::{
    api::{
        cassandra::CassandraDatacenter,
        medusa::{MedusaBackup, MedusaRestoreJob},
        names::is_object_name,
    },
    data_plane::{
        frame::objects,
        medusa::{
            inputs::{datacenters, of_datacenter},
            pods::{PodView, views},
        },
    },
};

/// Most logs that are read in one pass. They are read at the same time.
pub const AT_ONCE: usize = 8;

/// What was read.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The datacenter as it is; null when there is none.
    pub raw: Value,
    /// What we read of it.
    pub typed: Option<CassandraDatacenter>,
    /// What a restore under way goes by.
    pub view: View,
    /// Its pods as a caller of Medusa sees them.
    pub medusas: Vec<PodView>,
}

impl Seen {
    /// Where the Medusas are that can be asked.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.medusas.iter().filter(|pod| pod.has_medusa).filter_map(|pod| pod.address)
    }
}

/// Reads the datacenter of `job` and what belongs to it; `key` is the restore's.
///
/// # Errors
/// When the API server cannot be asked, or answers with what is no datacenter.
pub async fn see(client: &Client, job: &MedusaRestoreJob, key: &str) -> Result<Seen, kube::Error> {
    let (namespace, name) = (objects::namespace(job), &job.spec.cassandra_datacenter);
    if !is_object_name(name) {
        return Ok(Seen::default());
    }
    let Some(object) = datacenters(client, namespace).get_opt(name).await? else {
        return Ok(Seen::default());
    };
    let raw = serde_json::to_value(&object).map_err(kube::Error::SerdeError)?;
    let typed: CassandraDatacenter = serde_json::from_value(raw.clone()).map_err(kube::Error::SerdeError)?;
    let params = of_datacenter(&typed);
    let sets = Api::<StatefulSet>::namespaced(client.clone(), namespace).list(&params).await?;
    let pods = Api::<Pod>::namespaced(client.clone(), namespace).list(&params).await?;
    let (uid, backup) = (job.metadata.uid.as_deref().unwrap_or_default(), &job.spec.backup);
    let mut datacenter = Datacenter::of(&raw, uid, key, backup);
    if let LockHolder::Other(lock) = datacenter.claim {
        let jobs = Api::<MedusaRestoreJob>::namespaced(client.clone(), namespace);
        let found = if is_object_name(&lock.job) { jobs.get_opt(&lock.job).await? } else { None };
        let exists = found.is_some_and(|job| job.metadata.uid.as_deref() == Some(lock.uid.as_str()));
        datacenter.claim = if exists { LockHolder::Other(lock) } else { LockHolder::Orphan(lock) };
    }
    let view = View {
        datacenter: Some(datacenter),
        sets: sets.items.iter().map(|set| Set::of(set, key, backup)).collect(),
        pods: pods.items.iter().map(|pod| RestorePod::of(pod, key, backup)).collect(),
    };
    Ok(Seen { raw, typed: Some(typed), view, medusas: views(&pods.items) })
}

/// The MedusaBackup a job names.
///
/// # Errors
/// When the API server cannot be asked.
pub async fn backup(client: &Client, job: &MedusaRestoreJob) -> Result<Option<MedusaBackup>, kube::Error> {
    if !is_object_name(&job.spec.backup) {
        return Ok(None);
    }
    Api::namespaced(client.clone(), objects::namespace(job)).get_opt(&job.spec.backup).await
}

/// The restores, backups and tasks of the job's namespace.
///
/// # Errors
/// When the API server cannot be asked.
pub async fn elsewhere(client: &Client, job: &MedusaRestoreJob) -> Result<Elsewhere, kube::Error> {
    let namespace = objects::namespace(job);
    let mut unreadable = Vec::new();
    Ok(Elsewhere {
        restores: objects::readable(client, namespace, &mut unreadable).await?,
        backups: objects::readable(client, namespace, &mut unreadable).await?,
        // An old cluster, whose definitions do not know tasks, has none.
        tasks: objects::readable(client, namespace, &mut unreadable).await?,
        unreadable,
    })
}

/// The keys of a Secret; nothing when it does not exist.
///
/// # Errors
/// When the API server cannot be asked.
pub async fn secret_keys(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<BTreeSet<String>>, kube::Error> {
    if !is_object_name(name) {
        return Ok(None);
    }
    let secret = Api::<Secret>::namespaced(client.clone(), namespace).get_opt(name).await?;
    Ok(secret.map(|secret| secret.data.unwrap_or_default().into_keys().collect()))
}

/// Reads the records of `pods`, each within `deadline`: uid and what was read.
pub async fn records(
    client: &Client,
    namespace: &str,
    backup: &str,
    pods: Vec<RestorePod>,
    deadline: Duration,
) -> Vec<(String, Reading)> {
    let api = Api::<Pod>::namespaced(client.clone(), namespace);
    join_all(pods.into_iter().map(async |pod| {
        let reading = record(&api, backup, &pod, deadline).await;
        (pod.uid, reading)
    }))
    .await
}

async fn record(api: &Api<Pod>, backup: &str, pod: &RestorePod, deadline: Duration) -> Reading {
    let is_failing = matches!(pod.restore, Restore::Failing { .. });
    let latest = match log(api, &pod.name, is_failing, deadline).await {
        Ok(text) => text,
        Err(_) if is_failing => return Reading::Failing(None),
        Err(why) => return Reading::Unreadable(why),
    };
    if is_failing {
        return Reading::Failing(record::cause(&latest));
    }
    let found = record::read(&latest, backup);
    if found != record::LogRecord::RunBefore {
        return Reading::Read(found);
    }
    // The container was started again in the same pod; the log of its run before may be there.
    let earlier = log(api, &pod.name, true, deadline).await.map(|text| record::read(&text, backup));
    Reading::Read(earlier.ok().filter(|earlier| *earlier != record::LogRecord::Silent).unwrap_or(found))
}

async fn log(api: &Api<Pod>, pod: &str, previous: bool, deadline: Duration) -> Result<String, String> {
    let params = LogParams {
        container: Some(CONTAINER.to_owned()),
        tail_lines: Some(record::TAIL),
        limit_bytes: Some(record::LIMIT),
        previous,
        ..LogParams::default()
    };
    match tokio::time::timeout(deadline, api.logs(pod, &params)).await {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => {
            Err("the log of its container medusa-restore may not be read; grant this controller `get` on \
                 `pods/log`"
                .to_owned())
        }
        Ok(Err(kube::Error::Api(status))) => Err(format!(
            "the log of its container medusa-restore cannot be read: HTTP {} {}",
            status.code, status.reason
        )),
        Ok(Err(_)) => Err("the log of its container medusa-restore cannot be read".to_owned()),
        Err(_) => Err(format!("the log of its container medusa-restore did not come within {deadline:?}")),
    }
}
