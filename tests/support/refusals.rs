//! Writes that an API server refuses for a while, by a ValidatingAdmissionPolicy.

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use kube::{Api, api::DeleteParams};
use serde_json::json;

use super::Cluster;

/// Refuses, with `message`, updates of `resource` in our group that `allowed` is not true of. It takes a moment until the
/// API server does so.
pub async fn refuse(cluster: &Cluster, name: &str, resource: &str, allowed: &str, message: &str) {
    let version = "admissionregistration.k8s.io/v1";
    let policy = json!({
        "apiVersion": version, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["fleet.k8ssandra.io"], "apiVersions": ["*"], "operations": ["UPDATE"],
                "resources": [resource],
            }]},
            "validations": [{"expression": allowed, "message": message}],
        },
    });
    let binding = json!({
        "apiVersion": version, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    });
    cluster.create(policy).await;
    cluster.create(binding).await;
}

/// Takes it back.
pub async fn permit(cluster: &Cluster, name: &str) {
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(cluster.client.clone());
    bindings.delete(name, &DeleteParams::default()).await.unwrap();
}
