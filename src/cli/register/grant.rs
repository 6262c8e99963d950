//! What a data plane grants to the control plane: the objects of `kubeconfigs/data-plane-rbac.yaml`, the
//! only place where they are written down.

use kube::{
    Api, Client, ResourceExt as _,
    api::{DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind, TypeMeta},
};

use crate::{
    api::labels,
    cli::failure::{Failure, Outcome, is_not_found, why},
};

/// The file people may apply themselves.
const RBAC: &str = include_str!("../../../kubeconfigs/data-plane-rbac.yaml");
/// Its namespace.
pub const NAMESPACE: &str = "medusa-fleet";
/// Its service account, roles and bindings.
pub const ACCOUNT: &str = "medusa-fleet-control-plane";

/// The objects, with the service account in `namespace`.
///
/// # Errors
/// When the file is not what we think it is, which a test rules out.
pub fn objects(namespace: &str) -> Outcome<Vec<DynamicObject>> {
    let mut objects: Vec<DynamicObject> = serde_saphyr::from_multiple(RBAC)
        .map_err(|error| Failure::CouldNotAsk(format!("cannot read the built-in RBAC: {error}")))?;
    for object in &mut objects {
        if kind(object) == "Namespace" {
            object.metadata.name = Some(namespace.to_owned());
        }
        if object.metadata.namespace.is_some() {
            object.metadata.namespace = Some(namespace.to_owned());
        }
        let subjects = object.data.get_mut("subjects").and_then(serde_json::Value::as_array_mut);
        for subject in subjects.into_iter().flatten() {
            if let Some(place) = subject.get_mut("namespace") {
                *place = namespace.into();
            }
        }
    }
    Ok(objects)
}

fn kind(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |types| types.kind.as_str())
}

/// `Kind name`, for messages.
#[must_use]
pub fn title(object: &DynamicObject) -> String {
    format!("{} `{}`", kind(object), object.name_any())
}

fn api(client: &Client, object: &DynamicObject) -> Outcome<Api<DynamicObject>> {
    let types = object.types.clone().unwrap_or(TypeMeta { api_version: String::new(), kind: String::new() });
    let gvk = GroupVersionKind::try_from(&types)
        .map_err(|error| Failure::CouldNotAsk(format!("cannot read the built-in RBAC: {error}")))?;
    let resource = ApiResource::from_gvk(&gvk);
    Ok(match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    })
}

/// Whether the object exists already.
///
/// # Errors
/// When the API server does not say.
pub async fn exists(client: &Client, object: &DynamicObject, cluster: &str) -> Outcome<bool> {
    match api(client, object)?.get_metadata(&object.name_any()).await {
        Ok(_) => Ok(true),
        Err(error) if is_not_found(&error) => Ok(false),
        Err(error) => Err(Failure::reading(&format!("{} in `{cluster}`", title(object)), &error)),
    }
}

/// Writes the object as the file has it.
///
/// # Errors
/// When the API server refuses, with what that person needs.
pub async fn apply(client: &Client, object: &DynamicObject, cluster: &str) -> Outcome {
    // By force: what an older version of the file granted, whoever applied it, must not survive.
    let params = PatchParams::apply(labels::MANAGER_CLI).force();
    let result = api(client, object)?.patch(&object.name_any(), &params, &Patch::Apply(object)).await;
    let Err(error) = result else { return Ok(()) };
    // A namespace that is there serves as it is, and not everyone may label it.
    if kind(object) == "Namespace" && exists(client, object, cluster).await.is_ok_and(|there| there) {
        return Ok(());
    }
    if matches!(&error, kube::Error::Api(status) if status.code == 403) {
        return Err(Failure::Failed(format!(
            "cannot write {} in `{cluster}`: {}; register with a kubeconfig of an administrator, or have one apply \
             kubeconfigs/data-plane-rbac.yaml there",
            title(object),
            why(&error)
        )));
    }
    Err(Failure::writing(&format!("write {} in `{cluster}`", title(object)), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_file_names_one_account_and_its_roles_and_bindings() {
        let objects = objects(NAMESPACE).unwrap();
        let titles: Vec<String> = objects.iter().map(title).collect();
        let expected = ["Namespace `medusa-fleet`".to_owned()].into_iter().chain(
            ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]
                .map(|kind| format!("{kind} `{ACCOUNT}`")),
        );
        assert_eq!(titles, expected.collect::<Vec<_>>());
    }

    #[test]
    fn another_namespace_reaches_every_object() {
        let text = serde_json::to_string(&objects("elsewhere").unwrap()).unwrap();
        assert_eq!(text.matches("\"elsewhere\"").count(), 6, "{text}");
        assert!(
            !text.contains("\"medusa-fleet\",\"namespace\"")
                && !text.contains("\"namespace\":\"medusa-fleet\"")
        );
    }
}
