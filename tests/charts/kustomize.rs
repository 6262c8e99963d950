//! The kustomizations in `deploy/kustomize` and `crds`, built by the real kubectl, also as people build on them: for any
//! namespace, under other names, with the image of another registry.

use std::{fs, path::Path};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use rstest::rstest;
use serde_json::Value;

use super::{
    CONTROL_PLANE, DATA_PLANE, ROOT, assert_whole, documents, harness, of_kind, of_part, plain, text,
};

/// What kubectl makes of a kustomization.
fn built(folder: &Path) -> Vec<Value> {
    let output = harness::testbed::command().args(["kubectl", "kustomize"]).arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    documents(&String::from_utf8(output.stdout).unwrap())
}

#[rstest]
#[case("crds", &["fleet.k8ssandra.io", "k8ssandra.io", "medusa.k8ssandra.io"])]
#[case("deploy/kustomize/definitions/fleet", &["fleet.k8ssandra.io"])]
#[case("deploy/kustomize/definitions/k8ssandra", &["k8ssandra.io"])]
#[case("deploy/kustomize/definitions/medusa", &["medusa.k8ssandra.io"])]
fn a_kustomization_has_every_definition_of_its_groups(#[case] folder: &str, #[case] groups: &[&str]) {
    let mut wanted = medusa_fleet::api::crds::all().unwrap();
    wanted.retain(|definition| groups.contains(&definition.spec.group.as_str()));
    let mut found: Vec<CustomResourceDefinition> = built(&Path::new(ROOT).join(folder))
        .into_iter()
        .map(|document| serde_json::from_value(document).unwrap())
        .collect();
    for definitions in [&mut wanted, &mut found] {
        definitions.sort_by_key(|definition| definition.metadata.name.clone());
    }
    let names = |all: &[CustomResourceDefinition]| -> Vec<Option<String>> {
        all.iter().map(|definition| definition.metadata.name.clone()).collect()
    };
    assert_eq!(names(&found), names(&wanted), "{folder}: crds/Kustomization lists every file beside it");
    assert!(found == wanted, "{folder}");
}

#[rstest]
#[case(CONTROL_PLANE, "control-plane")]
#[case(DATA_PLANE, "data-plane")]
fn a_kustomization_has_what_is_rendered_from_the_chart(#[case] name: &str, #[case] role: &str) {
    let mut found = built(&Path::new(ROOT).join("deploy/kustomize").join(role));
    let mut wanted = documents(&plain(name));
    for objects in [&mut found, &mut wanted] {
        objects.sort_by_key(|object| format!("{} {}", text(object, "/kind"), text(object, "/metadata/name")));
    }
    assert!(found == wanted, "deploy/kustomize/{role}/{role}.yaml is out of date: `make manifests`");
}

#[rstest]
#[case("control-plane", "", "")]
#[case("control-plane", "eu-", "-2")]
#[case("data-plane", "", "")]
#[case("data-plane", "eu-", "-2")]
fn a_kustomization_fits_any_namespace_names_and_registry(
    #[case] role: &str,
    #[case] prefix: &str,
    #[case] suffix: &str,
) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("kustomize-{prefix}{role}{suffix}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    // Kustomize takes no absolute path.
    let up = "../".repeat(folder.canonicalize().unwrap().components().count() - 1);
    let ours = format!("{up}{}/deploy/kustomize/{role}", ROOT.trim_start_matches('/'));
    let lines = format!(
        "namespace: platform-backups\nnamePrefix: \"{prefix}\"\nnameSuffix: \"{suffix}\"\nresources: [{ours}]\n\
         images: [{{name: medusa-fleet, newName: registry.example.com/medusa-fleet}}]\n"
    );
    fs::write(folder.join("kustomization.yaml"), lines).unwrap();
    let all = built(&folder);
    fs::remove_dir_all(&folder).unwrap();

    assert_whole(&all, role, "platform-backups");
    for object in &all {
        let name = text(object, "/metadata/name");
        assert!(name.starts_with(&format!("{prefix}medusa-fleet")) && name.ends_with(suffix), "{name}");
    }
    let account = text(of_part(&all, "Pod")[0], "/spec/serviceAccountName");
    let accounts = of_kind(&all, "ServiceAccount");
    assert!(accounts.iter().any(|object| text(object, "/metadata/name") == account), "{account}");
    let image = format!("registry.example.com/medusa-fleet:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(text(of_part(&all, "Container")[0], "/image"), image);
}
