//! The manifests in docs/: an API server with our definitions takes each of them as it stands.

use std::{fs, path::Path};

use medusa_fleet::api::{crds, medusa};
use serde_json::Value;

use crate::{fake_medusa::Script, scripted_datacenter::ScriptedDatacenter};

/// The manifests of one page: its blocks marked as YAML that have a kind.
fn manifests(page: &str) -> Vec<Value> {
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let documents = blocks.map(|block| serde_saphyr::from_str::<Value>(block).unwrap());
    documents.filter(|document| document.get("kind").is_some()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_manifest_is_accepted_without_a_warning() {
    let dc = ScriptedDatacenter::new(0, Script::default()).await;
    let mut others = crds::all().unwrap();
    others.retain(|definition| definition.spec.group != medusa::GROUP);
    dc.cluster.install(&others).await.unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let mut kinds = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten().filter(|e| e.path().is_file()) {
        // Shown when one of its manifests is refused.
        eprintln!("{}", entry.path().display());
        for mut manifest in manifests(&fs::read_to_string(entry.path()).unwrap()) {
            manifest["metadata"]["namespace"] = Value::from(dc.ns.as_str());
            dc.cluster.apply(&manifest).await;
            kinds.push(manifest["kind"].as_str().unwrap().to_owned());
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
