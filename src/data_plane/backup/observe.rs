//! What the API server says about a job's surroundings.
//!
//! Reads only. A reading that failed is an error, never an empty answer.

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, Client, api::ListParams};

use super::{
    admit::{self, Problem},
    run::Scene,
};
use crate::{
    api::{
        cassandra::CassandraDatacenter,
        labels,
        medusa::{MedusaBackup, MedusaBackupJob},
    },
    data_plane::{
        pods::{PodView, views},
        tls::ClientTls,
    },
};

/// Everything a run needs, or what is wrong with it. A job under way may be short of pods: what becomes of
/// them is the run's affair.
///
/// # Errors
/// When the API server cannot be asked.
pub async fn scene(client: &Client, job: &MedusaBackupJob) -> Result<Result<Scene, Problem>, kube::Error> {
    let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
    let name = &job.spec.cassandra_datacenter;
    let datacenters = Api::<CassandraDatacenter>::namespaced(client.clone(), namespace);
    let datacenter = match datacenters.get_opt(name).await {
        Ok(Some(datacenter)) => datacenter,
        Ok(None) => return Ok(Err(admit::unknown_datacenter(name, namespace))),
        // A name that cannot be an object's is no reason to ask again and again.
        Err(kube::Error::Api(status)) if status.is_invalid() => {
            return Ok(Err(admit::unknown_datacenter(name, namespace)));
        }
        Err(error) => return Err(error),
    };
    let pods = pods(client, &datacenter).await?;
    let under_way = job.status.as_ref().is_some_and(|s| s.start_time.is_some());
    if !under_way && let Err(problem) = admit::check(&datacenter, &pods) {
        return Ok(Err(problem));
    }
    Ok(tls(client, &datacenter).await?.map(|tls| Scene { datacenter, pods, tls }))
}

/// The datacenter's pods.
///
/// # Errors
/// When the API server cannot be asked.
pub async fn pods(client: &Client, datacenter: &CassandraDatacenter) -> Result<Vec<PodView>, kube::Error> {
    let namespace = datacenter.metadata.namespace.as_deref().unwrap_or_default();
    let selector: Vec<String> =
        datacenter.datacenter_labels().iter().map(|(key, value)| format!("{key}={value}")).collect();
    let params = ListParams::default().labels(&selector.join(","));
    let list = Api::<Pod>::namespaced(client.clone(), namespace).list(&params).await?;
    Ok(views(&list.items))
}

/// The TLS material the datacenter's annotation asks for, if it does.
///
/// # Errors
/// When the API server cannot be asked; the inner error when the Secret is missing or cannot be used.
pub async fn tls(
    client: &Client,
    datacenter: &CassandraDatacenter,
) -> Result<Result<Option<ClientTls>, Problem>, kube::Error> {
    let annotations = datacenter.metadata.annotations.as_ref();
    let Some(name) = annotations.and_then(|a| a.get(labels::GRPC_CLIENT_SECRET)).filter(|n| !n.is_empty())
    else {
        return Ok(Ok(None));
    };
    let namespace = datacenter.metadata.namespace.as_deref().unwrap_or_default();
    let secret = Api::<Secret>::namespaced(client.clone(), namespace).get_opt(name).await?;
    let material = match secret {
        Some(secret) => ClientTls::from_secret(&secret.data.unwrap_or_default()),
        None => Err(format!("there is no such Secret in namespace `{namespace}`")),
    };
    let datacenter = datacenter.metadata.name.as_deref().unwrap_or_default();
    Ok(material.map(Some).map_err(|why| admit::bad_tls(datacenter, labels::GRPC_CLIENT_SECRET, name, &why)))
}

/// The MedusaBackup of the job's name, if there is one.
///
/// # Errors
/// When the API server cannot be asked.
pub async fn backup(client: &Client, job: &MedusaBackupJob) -> Result<Option<MedusaBackup>, kube::Error> {
    let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
    let name = job.metadata.name.as_deref().unwrap_or_default();
    Api::<MedusaBackup>::namespaced(client.clone(), namespace).get_opt(name).await
}
