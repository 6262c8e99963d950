//! Definitions that let everything through, as an older or a careless one does: nothing is of the type it ought to be.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion, JSONSchemaProps,
};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::{Cluster, eventually};

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
    let all = api.list(&ListParams::default()).await.expect("list definitions").items;
    for name in all.iter().filter(|d| GROUPS.contains(&d.spec.group.as_str())).map(ResourceExt::name_any) {
        // For a while the API server writes conditions into new ones.
        let definition = eventually(format!("{name} is loosened"), async || {
            let mut definition = api.get(&name).await?;
            definition.spec.versions.iter_mut().for_each(loose);
            definition.metadata.managed_fields = None;
            api.replace(&name, &PostParams::default(), &definition).await
        })
        .await;
        let (spec, names) = (&definition.spec, &definition.spec.names);
        let probe = json!({
            "apiVersion": format!("{}/{}", spec.group, spec.versions[0].name), "kind": names.kind,
            "metadata": {"name": "probe", "namespace": "default"}, "spec": [[]],
        });
        let params = PostParams { dry_run: true, ..PostParams::default() };
        let untyped = cluster.untyped(&probe);
        let probe: DynamicObject = serde_json::from_value(probe).expect("an object");
        let what = format!("{name} has no types");
        eventually(what, async || untyped.create(&params, &probe).await).await;
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
