//! What a data plane serves and allows, and who reconciles the Medusa kinds there.

use futures::future::join_all;
use k8s_openapi::api::{
    apps::v1::Deployment,
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    coordination::v1::Lease,
};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, PostParams},
};

use super::remote::{CallError, Remote};
use crate::api::{fleet::MedusaController, labels};

/// Definitions the control plane needs in a data plane: group, version, plural.
const DEFINITIONS: [(&str, &str, &str); 4] = [
    ("cassandra.datastax.com", "v1beta1", "cassandradatacenters"),
    ("medusa.k8ssandra.io", "v1alpha1", "medusabackupjobs"),
    ("medusa.k8ssandra.io", "v1alpha1", "medusabackups"),
    ("medusa.k8ssandra.io", "v1alpha1", "medusaconfigurations"),
];

/// Permissions the control plane needs in a data plane: group, resource, verbs. `kubeconfigs/data-plane-rbac.yaml`
/// grants them.
pub const PERMISSIONS: [(&str, &str, &[&str]); 5] = [
    ("cassandra.datastax.com", "cassandradatacenters", &["list", "watch"]),
    ("medusa.k8ssandra.io", "medusabackupjobs", &["list", "watch", "create"]),
    ("medusa.k8ssandra.io", "medusabackups", &["list", "watch"]),
    ("medusa.k8ssandra.io", "medusaconfigurations", &["get", "list", "watch", "create", "patch", "delete"]),
    ("", "secrets", &["get", "list", "watch", "create", "patch", "delete"]),
];

/// The definitions that are not served, as `plural.group`.
///
/// # Errors
/// When the API server did not answer.
pub async fn missing_definitions(remote: &Remote) -> Result<Vec<String>, CallError> {
    let mut missing = Vec::new();
    let mut served: Vec<(&str, Vec<String>)> = Vec::new();
    for (group, version, _) in DEFINITIONS {
        if served.iter().any(|(known, _)| *known == group) {
            continue;
        }
        let path = format!("{group}/{version}");
        let names = remote
            .call(|client| async move { client.list_api_group_resources(&path).await })
            .await
            .map(|list| list.resources.into_iter().map(|r| r.name).collect());
        match names {
            Ok(names) => served.push((group, names)),
            Err(error) if error.code() == Some(404) => served.push((group, Vec::new())),
            Err(error) => return Err(error),
        }
    }
    for (group, _, plural) in DEFINITIONS {
        let here = served.iter().any(|(g, names)| *g == group && names.iter().any(|n| n == plural));
        if !here {
            missing.push(format!("{plural}.{group}"));
        }
    }
    Ok(missing)
}

/// The permissions that are not granted, as `verb resource.group`.
///
/// # Errors
/// When the API server did not answer.
pub async fn missing_permissions(remote: &Remote) -> Result<Vec<String>, CallError> {
    let mut questions = Vec::new();
    for (group, resource, verbs) in PERMISSIONS {
        for verb in verbs {
            questions.push(missing_permission(remote, group, resource, verb));
        }
    }
    // The link's own limit of requests in flight bounds this.
    join_all(questions).await.into_iter().filter_map(Result::transpose).collect()
}

async fn missing_permission(
    remote: &Remote,
    group: &str,
    resource: &str,
    verb: &str,
) -> Result<Option<String>, CallError> {
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(group.to_owned()),
                resource: Some(resource.to_owned()),
                verb: Some(verb.to_owned()),
                ..ResourceAttributes::default()
            }),
            non_resource_attributes: None,
        },
        ..SelfSubjectAccessReview::default()
    };
    let answer = remote
        .call(|client| async move {
            Api::<SelfSubjectAccessReview>::all(client).create(&PostParams::default(), &review).await
        })
        .await?;
    let allowed = answer.status.is_some_and(|status| status.allowed);
    let name = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
    Ok((!allowed).then(|| format!("{verb} {name}")))
}

/// Who reconciles the Medusa kinds, or `None` when nobody was found or we may not look.
pub async fn medusa_controller(remote: &Remote) -> Option<MedusaController> {
    let version =
        |labels: &std::collections::BTreeMap<String, String>| labels.get(labels::APP_VERSION).cloned();
    let ours = ListParams::default()
        .labels(&format!("{}=medusa-fleet,app.kubernetes.io/component=data-plane", labels::APP_NAME))
        .limit(1);
    let leases =
        remote.call(|client| async move { Api::<Lease>::all(client).list(&ours).await }).await.ok()?;
    if let Some(lease) = leases.items.first() {
        return Some(MedusaController { name: "medusa-fleet".to_owned(), version: version(lease.labels()) });
    }
    let upstream = ListParams::default().labels(&format!("{}=k8ssandra-operator", labels::APP_NAME)).limit(1);
    let deployments = remote
        .call(|client| async move { Api::<Deployment>::all(client).list_metadata(&upstream).await })
        .await
        .ok()?;
    deployments
        .items
        .first()
        .map(|d| MedusaController { name: "k8ssandra-operator".to_owned(), version: version(d.labels()) })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::rbac::v1::ClusterRole;

    use super::PERMISSIONS;

    #[test]
    fn the_shipped_role_grants_what_is_asked_for() {
        let yaml = include_str!("../../../kubeconfigs/data-plane-rbac.yaml");
        let role: ClusterRole = yaml
            .split("\n---")
            .filter(|document| document.contains("kind: ClusterRole\n"))
            .find_map(|document| serde_saphyr::from_str(document).ok())
            .unwrap();
        let rules = role.rules.unwrap_or_default();
        for (group, resource, verbs) in PERMISSIONS {
            for verb in verbs {
                let granted = rules.iter().any(|rule| {
                    let has = |list: &Option<Vec<String>>, word: &str| {
                        list.as_ref().is_some_and(|l| l.iter().any(|w| w == word))
                    };
                    has(&rule.api_groups, group)
                        && has(&rule.resources, resource)
                        && rule.verbs.iter().any(|v| v == verb)
                });
                assert!(granted, "{verb} {resource}.{group} is not in kubeconfigs/data-plane-rbac.yaml");
            }
        }
    }
}
