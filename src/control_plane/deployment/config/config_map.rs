//! The ConfigMap with medusa.ini: one per cluster and namespace, written once for all its datacenters there, so that
//! they do not fight over it (upstream: medusa.ini). Pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    ini::{CqlCertificates, IniInput, medusa_ini},
    storage::Settings,
    validate,
};
use crate::{
    api::{
        k8ssandra::{DatacenterTemplate, K8ssandraCluster},
        labels,
    },
    control_plane::{
        data_planes::{copies::hash_config_map, view::ObjectKey},
        identity::Identity,
    },
};

/// Key of the file, which is its name where Medusa looks for it.
pub const KEY: &str = "medusa.ini";

#[must_use]
pub fn name(sanitized: &str) -> String {
    format!("{sanitized}-medusa")
}

/// The file for one datacenter, or for the cluster without any datacenter's own settings.
fn ini(cluster: &K8ssandraCluster, datacenter: Option<&DatacenterTemplate>, settings: &Settings) -> String {
    let medusa = cluster.spec.medusa.clone().unwrap_or_default();
    let shared = DatacenterTemplate::default();
    let certificates = if cluster.secrets_are_external() {
        CqlCertificates::default()
    } else {
        validate::certificates(&medusa)
    };
    medusa_ini(&IniInput {
        settings,
        grpc_port: validate::grpc_port(&medusa),
        grpc_tls: medusa.encryption().is_some(),
        certificates,
        management_api_tls: cluster.management_api_auth(datacenter.unwrap_or(&shared)).is_some(),
    })
}

/// The ConfigMap's key for a datacenter: a file of its own only where it differs from the cluster's.
#[must_use]
pub fn key(cluster: &K8ssandraCluster, datacenter: &DatacenterTemplate, settings: &Settings) -> String {
    let differs = ini(cluster, Some(datacenter), settings) != ini(cluster, None, settings);
    if differs { format!("{}.ini", datacenter.metadata.name) } else { KEY.to_owned() }
}

/// What the ConfigMap holds for `datacenters`, those of one namespace.
#[must_use]
pub fn data<'a>(
    cluster: &K8ssandraCluster,
    datacenters: impl IntoIterator<Item = &'a DatacenterTemplate>,
    settings: &Settings,
) -> BTreeMap<String, String> {
    let own = datacenters
        .into_iter()
        .map(|datacenter| (key(cluster, datacenter, settings), ini(cluster, Some(datacenter), settings)));
    let shared = (KEY.to_owned(), ini(cluster, None, settings));
    std::iter::once(shared).chain(own).collect()
}

/// The ConfigMap to be applied.
#[must_use]
pub fn object(
    place: &ObjectKey,
    source: &ObjectKey,
    source_uid: &str,
    control_plane: &Identity,
    data: &BTreeMap<String, String>,
) -> Value {
    let own = [
        (labels::SOURCE.to_owned(), source.to_string()),
        (labels::SOURCE_UID.to_owned(), source_uid.to_owned()),
        (labels::CONTENT_HASH.to_owned(), hash_config_map(data)),
    ];
    let annotations: BTreeMap<String, String> = own.into_iter().chain(control_plane.mark()).collect();
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": place.name, "namespace": place.namespace,
            "labels": BTreeMap::from([control_plane.label()]),
            "annotations": annotations,
        },
        "data": data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> K8ssandraCluster {
        let auth = json!({"manual": {"clientSecretName": "c", "serverSecretName": "s"}});
        serde_json::from_value(json!({
            "apiVersion": "k8ssandra.io/v1alpha1", "kind": "K8ssandraCluster",
            "metadata": {"name": "shop", "namespace": "src"},
            "spec": {
                "cassandra": {"datacenters": [
                    {"metadata": {"name": "dc1"}}, {"metadata": {"name": "dc2"}, "managementApiAuth": auth},
                ]},
                "medusa": {"storageProperties": {
                    "storageProvider": "s3", "bucketName": "b", "storageSecretRef": {"name": "bucket"}}},
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_datacenter_that_differs_has_a_file_of_its_own_in_the_same_config_map() {
        let cluster = cluster();
        let settings = validate::settings(&cluster, None).unwrap();
        let datacenters: Vec<&DatacenterTemplate> = cluster.datacenters().collect();
        assert_eq!(key(&cluster, datacenters[0], &settings), "medusa.ini");
        assert_eq!(key(&cluster, datacenters[1], &settings), "dc2.ini");
        let data = data(&cluster, datacenters.iter().copied(), &settings);
        assert_eq!(data.keys().collect::<Vec<_>>(), ["dc2.ini", "medusa.ini"]);
        assert!(
            data["dc2.ini"].contains("https://127.0.0.1") && data["medusa.ini"].contains("http://127.0.0.1")
        );
    }

    #[test]
    fn the_config_map_says_whose_it_is() {
        let data = BTreeMap::from([(KEY.to_owned(), "x".to_owned())]);
        let (place, source) = (ObjectKey::new("cass", "shop-medusa"), ObjectKey::new("src", "shop"));
        let object = object(&place, &source, "u", &Identity::named("cp"), &data);
        assert_eq!(object["metadata"]["annotations"][labels::SOURCE], "src/shop");
        assert_eq!(object["metadata"]["labels"][labels::CONTROL_PLANE], "cp");
    }
}
