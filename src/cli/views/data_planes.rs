//! Which clusters are registered, and can they be used?

use jiff::Timestamp;
use kube::ResourceExt as _;

use super::{ago, message, name, reason, state};
use crate::{
    api::{
        fleet::{DataPlane, DataPlaneStatus, RegisteredFrom},
        labels,
    },
    cli::{duration, output::Table},
};

/// One row per data plane, by name.
#[must_use]
pub fn table(data_planes: &[DataPlane], wide: bool, now: Timestamp) -> Table {
    let header = ["NAME", "READY", "REASON", "VERSION", "DCS", "EXPIRES", "LAST CONTACT", "AGE"];
    let mut table = Table::wide(wide, &header, &["RENEWED", "CLUSTER ID", "CONTROLLER", "MESSAGE"]);
    for data_plane in data_planes {
        let unknown = DataPlaneStatus::default();
        let status = data_plane.status.as_ref().unwrap_or(&unknown);
        table.row([
            name(&data_plane.metadata),
            state(&status.conditions, "Ready"),
            reason(&status.conditions, "Ready"),
            status.kubernetes_version.clone().unwrap_or_default(),
            status.datacenters.map_or_else(String::new, |n| n.to_string()),
            expires(status, now),
            ago(status.last_contact_time.as_ref(), now),
            ago(data_plane.metadata.creation_timestamp.as_ref(), now),
            ago(status.credential.as_ref().and_then(|credential| credential.renewed_at.as_ref()), now),
            status.cluster_id.clone().unwrap_or_default(),
            controller(status),
            message(&status.conditions, "Ready"),
        ]);
    }
    table
}

/// How long the credential still works.
#[must_use]
pub fn expires(status: &DataPlaneStatus, now: Timestamp) -> String {
    let at = status.credential.as_ref().and_then(|credential| credential.expires_at.as_ref());
    at.map_or_else(String::new, |at| duration::until(at.0, now))
}

/// Who reconciles the Medusa kinds there, with its version when known.
#[must_use]
pub fn controller(status: &DataPlaneStatus) -> String {
    status.medusa_controller.as_ref().map_or_else(String::new, |controller| match &controller.version {
        Some(version) => format!("{} {version}", controller.name),
        None => controller.name.clone(),
    })
}

/// How to renew the credential of a data plane. `register` is advised only for one that came from its Secret: elsewhere it
/// refuses, as the Secret may be somebody else's.
#[must_use]
pub fn renewal(data_plane: &DataPlane) -> String {
    let name = name(&data_plane.metadata);
    let from = data_plane.annotations().get(labels::REGISTERED_FROM).map(|from| RegisteredFrom::read(from));
    let reference = data_plane.spec.kubeconfig_secret_ref.as_ref();
    match (from, reference) {
        (Some(RegisteredFrom::ClientConfig { namespace, name }), _) => {
            format!(
                "put a kubeconfig that works into the Secret that ClientConfig `{namespace}/{name}` names"
            )
        }
        (Some(RegisteredFrom::Secret(_)), _) => {
            format!("`kubectl medusa register {name} --from-kubeconfig FILE` makes a new credential")
        }
        (None, Some(reference)) => {
            let key = reference.key.as_deref().unwrap_or("kubeconfig");
            format!("put a kubeconfig that works into Secret `{}`, key `{key}`", reference.name)
        }
        (None, None) => "it uses the control plane's own account; see to its ServiceAccount".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    #[rstest]
    #[case::registered(json!({"fleet.k8ssandra.io/registered-from": "p"}), json!({"kubeconfigSecretRef": {"name": "p"}}),
        "`kubectl medusa register p --from-kubeconfig FILE`")]
    #[case::client_config(json!({"fleet.k8ssandra.io/registered-from": "ClientConfig/ops/eu"}),
        json!({"kubeconfigSecretRef": {"name": "x", "namespace": "ops"}}), "ClientConfig `ops/eu`")]
    #[case::by_hand(json!({}), json!({"kubeconfigSecretRef": {"name": "mine"}}), "Secret `mine`, key `kubeconfig`")]
    #[case::by_hand_with_a_key(json!({}), json!({"kubeconfigSecretRef": {"name": "capi", "key": "value"}}),
        "Secret `capi`, key `value`")]
    #[case::local(json!({}), json!({"local": true}), "ServiceAccount")]
    fn a_credential_is_renewed_where_it_came_from(
        #[case] annotations: Value,
        #[case] spec: Value,
        #[case] says: &str,
    ) {
        let plane = json!({"metadata": {"name": "p", "annotations": annotations}, "spec": spec});
        let said = renewal(&serde_json::from_value(plane).unwrap());
        assert!(said.contains(says), "{said}");
        assert_eq!(said.contains("register"), says.contains("register"), "{said}");
    }
    use crate::cli::views::fixtures::{data_planes, now};

    #[test]
    fn data_planes_show_whether_they_can_be_used_and_until_when() {
        insta::assert_snapshot!(table(&data_planes(), false, now()).render(0));
    }

    #[test]
    fn wide_data_planes_show_identity_controller_and_message() {
        insta::assert_snapshot!(table(&data_planes(), true, now()).render(0));
    }
}
