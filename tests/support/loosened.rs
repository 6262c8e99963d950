//! Definitions that let everything through, as an older or a careless one does: nothing is of the type it ought to be.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion, JSONSchemaProps,
};
use kube::{
    Api, ResourceExt as _,
    api::{DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::Cluster;

/// Groups whose definitions are loosened.
const GROUPS: [&str; 5] = [
    "fleet.k8ssandra.io",
    "medusa.k8ssandra.io",
    "k8ssandra.io",
    "config.k8ssandra.io",
    "cassandra.datastax.com",
];

/// The same version of a kind without a type in it, and without what needs one.
fn loose(version: &mut CustomResourceDefinitionVersion) {
    version.selectable_fields = None;
    version.additional_printer_columns = None;
    if let Some(schema) = &mut version.schema {
        schema.open_api_v3_schema = Some(JSONSchemaProps {
            type_: Some("object".to_owned()),
            x_kubernetes_preserve_unknown_fields: Some(true),
            ..JSONSchemaProps::default()
        });
    }
}

/// Takes the types out of every definition that we read of a cluster, and waits until its API server lets anything
/// through.
pub async fn loosen(cluster: &Cluster) {
    let api: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    for mut definition in api.list(&ListParams::default()).await.expect("list definitions").items {
        if !GROUPS.contains(&definition.spec.group.as_str()) {
            continue;
        }
        definition.spec.versions.iter_mut().for_each(loose);
        definition.metadata.managed_fields = None;
        let name = definition.name_any();
        api.replace(&name, &PostParams::default(), &definition).await.expect("loosen a definition");
        let (spec, names) = (&definition.spec, &definition.spec.names);
        let probe = json!({
            "apiVersion": format!("{}/{}", spec.group, spec.versions[0].name), "kind": names.kind,
            "metadata": {"name": "probe", "namespace": "default"}, "spec": [[]],
        });
        let api = cluster.untyped(&probe);
        let probe: DynamicObject = serde_json::from_value(probe).expect("an object");
        let params = PostParams { dry_run: true, ..PostParams::default() };
        let mut looks = 0;
        while let Err(error) = api.create(&params, &probe).await {
            looks += 1;
            assert!(looks < 300, "{name} still has types: {error}");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
}

/// Creates an object, and writes its status too.
pub async fn create_whole(cluster: &Cluster, object: &Value) {
    let name = object["metadata"]["name"].as_str().expect("a name");
    let api = cluster.untyped(object);
    cluster.create(object.clone()).await;
    if let Some(status) = object.get("status") {
        let patch = Patch::Merge(json!({"status": status}));
        match api.patch_status(name, &PatchParams::default(), &patch).await {
            Ok(_) => {}
            // Its kind has no status of its own: it was created with this one.
            Err(kube::Error::Api(answer)) if answer.code == 404 => {}
            Err(error) => panic!("write the status of {name}: {error}"),
        }
    }
}
