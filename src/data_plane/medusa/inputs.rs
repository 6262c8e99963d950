//! What surrounds a run: the datacenter, its pods, and how to speak to their Medusas.
//!
//! Reads only. A reading that failed is an error, never an empty answer.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams},
};

use super::{
    pods::{PodView, views},
    pool::Pool,
    tls::ClientTls,
};
use crate::{
    api::{
        Reason,
        cassandra::{CassandraDatacenter, MEDUSA_CONTAINER},
        labels, names,
        retention::{Limits, config_key, in_force},
    },
    data_plane::frame::{
        objects,
        problem::{self, Obstacle, Problem},
    },
};

/// What has to be known to run.
pub struct Inputs {
    /// The datacenter.
    pub datacenter: CassandraDatacenter,
    /// Its pods, sorted by name.
    pub pods: Vec<PodView>,
    /// TLS material, where the datacenter asks for it.
    pub tls: Option<ClientTls>,
    /// Connections to their Medusas.
    pub medusas: Pool,
}

impl Inputs {
    /// The surroundings of something that names datacenter `name` in `namespace`.
    ///
    /// # Errors
    /// When the API server cannot be asked, or something is wrong with the datacenter or its TLS Secret. Pods may be missing
    /// or lack Medusa: see [`check`].
    pub async fn read(
        client: &Client,
        medusas: &Pool,
        namespace: &str,
        name: &str,
    ) -> Result<Self, Obstacle> {
        let datacenter = datacenter(client, namespace, name).await?;
        let pods = pods(client, &datacenter).await?;
        let tls = tls(client, &datacenter).await?;
        Ok(Self { datacenter, pods, tls, medusas: medusas.clone() })
    }
}

async fn datacenter(client: &Client, namespace: &str, name: &str) -> Result<CassandraDatacenter, Obstacle> {
    problem::named("spec.cassandraDatacenter", name)?;
    let found = Api::namespaced(client.clone(), namespace).get_opt(name).await?;
    Ok(found.ok_or_else(|| unknown_datacenter(name, namespace))?)
}

/// The CassandraDatacenters of a namespace as the API server holds them.
#[must_use]
pub fn datacenters(client: &Client, namespace: &str) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<CassandraDatacenter>(&());
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// Lists what belongs to the datacenter.
#[must_use]
pub fn of_datacenter(datacenter: &CassandraDatacenter) -> ListParams {
    ListParams::default().labels_from(&datacenter.datacenter_labels().into_iter().collect())
}

/// The datacenter's pods, sorted by name.
///
/// # Errors
/// When the API server cannot be asked.
pub async fn pods(client: &Client, datacenter: &CassandraDatacenter) -> Result<Vec<PodView>, kube::Error> {
    let namespace = objects::namespace(datacenter);
    let list = Api::<Pod>::namespaced(client.clone(), namespace).list(&of_datacenter(datacenter)).await?;
    Ok(views(&list.items))
}

/// The TLS material the datacenter's annotation asks for, if it does.
///
/// # Errors
/// When the API server cannot be asked, or the Secret is missing or cannot be used.
pub async fn tls(client: &Client, datacenter: &CassandraDatacenter) -> Result<Option<ClientTls>, Obstacle> {
    let annotations = datacenter.metadata.annotations.as_ref();
    let Some(name) = annotations.and_then(|a| a.get(labels::GRPC_CLIENT_SECRET)).filter(|n| !n.is_empty())
    else {
        return Ok(None);
    };
    let namespace = objects::namespace(datacenter);
    let secret = if names::is_object_name(name) {
        Api::<Secret>::namespaced(client.clone(), namespace).get_opt(name).await?
    } else {
        None
    };
    let material = match secret {
        Some(secret) => ClientTls::from_secret(&secret.data.unwrap_or_default()),
        None => Err(format!("there is no such Secret in namespace `{namespace}`")),
    };
    let datacenter = objects::name(datacenter);
    let material = material.map_err(|why| bad_tls(datacenter, labels::GRPC_CLIENT_SECRET, name, &why))?;
    Ok(Some(material))
}

/// The limits that the pods of `dc` run with; what may not be read is unknown.
///
/// # Errors
/// When the API server cannot be asked.
pub async fn limits(
    client: &Client,
    dc: &CassandraDatacenter,
    now: Timestamp,
) -> Result<Limits, kube::Error> {
    let (namespace, name) = (objects::namespace(dc), objects::name(dc));
    let Some(object) = datacenters(client, namespace).get_opt(name).await? else {
        return Ok(Limits::default());
    };
    let object = serde_json::to_value(&object).map_err(kube::Error::SerdeError)?;
    let Some(key) = config_key(&object) else { return Ok(Limits::default()) };
    match Api::<ConfigMap>::namespaced(client.clone(), namespace).get_opt(&key.config_map).await {
        Ok(map) => Ok(in_force(&object, map.as_ref(), now)),
        Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(Limits::default()),
        Err(error) => Err(error),
    }
}

/// Whether every node of `dc` can be asked to do something; `pods` are its pods.
///
/// # Errors
/// What stands in the way.
pub fn check(dc: &CassandraDatacenter, pods: &[PodView]) -> Result<(), Problem> {
    let name = objects::name(dc);
    if dc.spec.stopped {
        return Err(Problem::new(
            Reason::DatacenterStopped,
            format!("CassandraDatacenter `{name}` is stopped (spec.stopped); start it first"),
        ));
    }
    let without: Vec<String> = pods.iter().filter(|p| !p.has_medusa).map(|p| p.name.clone()).collect();
    if !without.is_empty() {
        let list = without.join(", ");
        return Err(Problem {
            pods: without,
            ..Problem::new(
                Reason::MedusaContainerMissing,
                format!(
                    "no container `{MEDUSA_CONTAINER}` in pods {list} of CassandraDatacenter `{name}`; \
                     deploy Medusa there (spec.medusa of its cluster)"
                ),
            )
        });
    }
    let expected = usize::try_from(dc.spec.size).unwrap_or_default();
    if pods.is_empty() || pods.len() < expected {
        return Err(Problem::new(
            Reason::NoPods,
            format!(
                "{} of {expected} pods of CassandraDatacenter `{name}` exist; nothing starts without the \
                 others, as the result would not cover the datacenter",
                pods.len()
            ),
        ));
    }
    Ok(())
}

/// Something names a datacenter that is not there.
#[must_use]
pub fn unknown_datacenter(name: &str, namespace: &str) -> Problem {
    Problem::new(
        Reason::DatacenterNotFound,
        format!(
            "spec.cassandraDatacenter: there is no CassandraDatacenter `{name}` in namespace `{namespace}`; \
             give the object's name, not Cassandra's own, and create this object beside it"
        ),
    )
}

/// The Secret for TLS is missing or cannot be used; `why` says so without showing any of it.
fn bad_tls(datacenter: &str, annotation: &str, secret: &str, why: &str) -> Problem {
    Problem::new(
        Reason::InvalidTlsSecret,
        format!(
            "annotation {annotation} of CassandraDatacenter `{datacenter}` names Secret `{secret}`: {why}; \
             it needs PEM data in `ca.crt`, `tls.crt` and `tls.key`"
        ),
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::data_plane::medusa::pods::Instance;

    fn dc(spec: &Value) -> CassandraDatacenter {
        serde_json::from_value(json!({"metadata": {"name": "dc1"}, "spec": spec})).unwrap()
    }

    fn pods(n: usize, has_medusa: bool) -> Vec<PodView> {
        (0..n)
            .map(|i| PodView {
                name: format!("dc1-{i}"),
                address: None,
                has_medusa,
                ready_since: None,
                instance: Instance::default(),
            })
            .collect()
    }

    #[rstest]
    #[case(json!({"size": 3}), pods(3, true), None)]
    #[case(json!({"size": 2}), pods(3, true), None)]
    #[case(json!({"size": 3}), pods(2, true), Some(Reason::NoPods))]
    #[case(json!({"size": 3}), pods(0, true), Some(Reason::NoPods))]
    #[case(json!({}), pods(0, true), Some(Reason::NoPods))]
    #[case(json!({"size": 3}), pods(3, false), Some(Reason::MedusaContainerMissing))]
    #[case(json!({"size": 3, "stopped": true}), pods(0, true), Some(Reason::DatacenterStopped))]
    fn a_run_begins_only_where_it_can_end_well(
        #[case] spec: Value,
        #[case] pods: Vec<PodView>,
        #[case] expected: Option<Reason>,
    ) {
        assert_eq!(check(&dc(&spec), &pods).err().map(|p| p.reason), expected);
    }

    #[test]
    fn a_missing_container_is_told_with_its_pods() {
        let problem = check(&dc(&json!({"size": 2})), &pods(2, false)).unwrap_err();
        assert_eq!(problem.pods, ["dc1-0", "dc1-1"]);
        assert!(problem.message.contains("dc1-0, dc1-1"), "{}", problem.message);
    }
}
