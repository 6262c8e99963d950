//! The manifests in docs/: an API server with our definitions takes each of them as it stands.

use std::{fs, path::Path};

use kube::{
    Api,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::TypeMeta,
};
use serde_json::Value;

use crate::{fake_medusa::Script, world::World};

/// The manifests of one page: its blocks marked as YAML that have a kind.
fn manifests(page: &str) -> Vec<Value> {
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let documents = blocks.map(|block| serde_saphyr::from_str::<Value>(block).unwrap());
    documents.filter(|document| document.get("kind").is_some()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_manifest_is_accepted_without_a_warning() {
    let world = World::new(0, Script::default()).await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let mut kinds = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten().filter(|e| e.path().is_file()) {
        for mut manifest in manifests(&fs::read_to_string(entry.path()).unwrap()) {
            manifest["metadata"]["namespace"] = Value::from(world.ns.as_str());
            let object: DynamicObject = serde_json::from_value(manifest).unwrap();
            let TypeMeta { api_version, kind } = object.types.clone().unwrap();
            let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
            let resource = ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(group, version, &kind));
            let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.ns, &resource);
            let name = object.metadata.name.clone().unwrap();
            let params = PatchParams::apply("docs").validation_strict();
            let done = api.patch(&name, &params, &Patch::Apply(&object)).await;
            assert!(done.is_ok(), "{}: {kind} {name}: {done:?}", entry.path().display());
            kinds.push(kind);
        }
    }
    kinds.sort();
    kinds.dedup();
    let pages = [
        "FleetBackupJob",
        "FleetBackupSchedule",
        "FleetRestoreJob",
        "FleetTask",
        "K8ssandraCluster",
        "MedusaBackup",
        "MedusaBackupJob",
        "MedusaBackupSchedule",
        "MedusaConfiguration",
        "MedusaRestoreJob",
        "MedusaTask",
    ];
    assert!(pages.iter().all(|kind| kinds.iter().any(|k| k == kind)), "{kinds:?}");
}
