//! Looking for secret values where none may be.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kube::{
    Api,
    api::{DynamicObject, ListParams},
    core::{ApiResource, GroupVersionKind},
};

use super::{ControlPlane, Fleet};

/// Everything a controller writes, or writes a status of.
const WRITTEN: [(&str, &str, &str); 9] = [
    ("", "v1", "Event"),
    ("events.k8s.io", "v1", "Event"),
    ("fleet.k8ssandra.io", "v1alpha1", "DataPlane"),
    ("fleet.k8ssandra.io", "v1alpha1", "FleetBackupJob"),
    ("fleet.k8ssandra.io", "v1alpha1", "FleetBackup"),
    ("fleet.k8ssandra.io", "v1alpha1", "FleetCluster"),
    ("medusa.k8ssandra.io", "v1alpha1", "MedusaConfiguration"),
    ("medusa.k8ssandra.io", "v1alpha1", "MedusaBackupJob"),
    ("medusa.k8ssandra.io", "v1alpha1", "MedusaBackup"),
];

/// Fails when a secret value, plain or in base64, is in the controller's log or in any Event or object but Secrets
/// of a cluster that answers.
pub async fn assert_unseen(fleet: &Fleet, controller: &ControlPlane, values: &[&str]) {
    let encoded: Vec<String> = values.iter().map(|value| STANDARD.encode(value)).collect();
    let words = || values.iter().copied().chain(encoded.iter().map(String::as_str));
    let log = controller.log();
    assert!(log.contains("registered"), "the log is not what we think it is");
    for word in words() {
        assert!(!log.contains(word), "the log holds a secret value");
    }
    let mut seen = 0;
    for cluster in fleet.clusters() {
        for (group, version, kind) in WRITTEN {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
            let api: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &resource);
            // Data planes do not serve the fleet kinds.
            let Ok(list) = api.list(&ListParams::default()).await else { continue };
            for object in list {
                seen += 1;
                let text = serde_json::to_string(&object).unwrap();
                for word in words() {
                    assert!(
                        !text.contains(word),
                        "a {kind} in {} holds a secret value: {text}",
                        cluster.name
                    );
                }
            }
        }
    }
    assert!(seen > 2, "nothing was looked at");
}
