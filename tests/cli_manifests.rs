//! `deploy/` and `kubeconfigs/` are what they say: readable, labelled, and in step with each other.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kube::config::Kubeconfig;
use serde_json::{Value, json};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// What a data plane grants: everywhere, or in a namespace.
const GRANTED: [&str; 2] =
    ["kubeconfigs/data-plane-rbac.yaml", "kubeconfigs/data-plane-rbac-namespaced.yaml"];

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(ROOT).join(folder);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    assert!(!files.is_empty());
    files
}

fn documents(file: impl AsRef<Path>) -> Vec<Value> {
    let path = Path::new(ROOT).join(file);
    serde_saphyr::from_multiple(&std::fs::read_to_string(&path).unwrap())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn text<'a>(document: &'a Value, pointer: &str) -> &'a str {
    document.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn one(file: &str, kind: &str, name: &str) -> Value {
    let found =
        documents(file).into_iter().find(|d| text(d, "/kind") == kind && text(d, "/metadata/name") == name);
    found.unwrap_or_else(|| panic!("{file} has no {kind} {name}"))
}

/// `group/resource verb` for every permission of a role.
fn permissions(role: &Value) -> Vec<String> {
    let words = |rule: &Value, field: &str| -> Vec<String> {
        serde_json::from_value(rule.get(field).unwrap().clone()).unwrap()
    };
    let mut all = Vec::new();
    for rule in role.get("rules").and_then(Value::as_array).unwrap() {
        for group in words(rule, "apiGroups") {
            for resource in words(rule, "resources") {
                all.extend(words(rule, "verbs").iter().map(|verb| format!("{group}/{resource} {verb}")));
            }
        }
    }
    all
}

#[test]
fn every_object_is_labelled_as_ours_and_every_role_is_spelled_out() {
    for file in files("deploy").into_iter().chain(GRANTED.map(PathBuf::from)) {
        for document in documents(&file) {
            let (kind, name) = (text(&document, "/kind"), text(&document, "/metadata/name"));
            assert!(name.starts_with("medusa-fleet"), "{}: {kind} {name}", file.display());
            let label = text(&document, "/metadata/labels/app.kubernetes.io~1name");
            assert_eq!(label, "medusa-fleet", "{}: {kind} {name}", file.display());
            if kind.ends_with("Role") {
                assert!(permissions(&document).iter().all(|p| !p.contains('*')), "{kind} {name}");
            }
        }
    }
}

#[test]
fn every_binding_binds_a_role_and_an_account_of_its_own_file() {
    for file in files("deploy").into_iter().chain(GRANTED.map(PathBuf::from)) {
        let all = documents(&file);
        let has = |kind: &str, name: &str| {
            all.iter().any(|d| text(d, "/kind") == kind && text(d, "/metadata/name") == name)
        };
        for binding in all.iter().filter(|d| text(d, "/kind").ends_with("Binding")) {
            assert!(has(text(binding, "/roleRef/kind"), text(binding, "/roleRef/name")), "{binding}");
            assert!(has("ServiceAccount", text(binding, "/subjects/0/name")), "{binding}");
            assert_eq!(text(binding, "/subjects/0/namespace"), "medusa-fleet");
        }
    }
}

#[test]
fn the_control_plane_may_do_at_home_exactly_what_a_data_plane_grants_and_little_more() {
    let granted = one("kubeconfigs/data-plane-rbac.yaml", "ClusterRole", "medusa-fleet-control-plane");
    let home = one("deploy/control-plane.yaml", "ClusterRole", "medusa-fleet-control-plane:medusa-fleet");
    assert_eq!(home.get("rules"), granted.get("rules"));
    let besides =
        one("deploy/control-plane.yaml", "ClusterRole", "medusa-fleet-control-plane:medusa-fleet:home");
    assert!(permissions(&besides).iter().all(|p| !p.starts_with('/')), "nothing of the core group is added");
}

#[test]
fn a_data_plane_grants_what_the_contract_needs_and_nothing_else() {
    let granted = one("kubeconfigs/data-plane-rbac.yaml", "ClusterRole", "medusa-fleet-control-plane");
    let writes: Vec<String> = permissions(&granted)
        .into_iter()
        .filter(|p| !["get", "list", "watch"].iter().any(|verb| p.ends_with(&format!(" {verb}"))))
        .collect();
    let expected = [
        "cassandra.datastax.com/cassandradatacenters patch",
        "medusa.k8ssandra.io/medusabackupjobs create",
        "medusa.k8ssandra.io/medusabackupjobs delete",
        "medusa.k8ssandra.io/medusabackupschedules create",
        "medusa.k8ssandra.io/medusabackupschedules patch",
        "medusa.k8ssandra.io/medusabackupschedules delete",
        "medusa.k8ssandra.io/medusatasks create",
        "medusa.k8ssandra.io/medusatasks delete",
        "medusa.k8ssandra.io/medusarestorejobs create",
        "medusa.k8ssandra.io/medusarestorejobs delete",
        "medusa.k8ssandra.io/medusarestorejobs patch",
        "/configmaps create",
        "/configmaps patch",
        "/configmaps delete",
        "/persistentvolumeclaims create",
        "medusa.k8ssandra.io/medusaconfigurations create",
        "medusa.k8ssandra.io/medusaconfigurations patch",
        "medusa.k8ssandra.io/medusaconfigurations delete",
        "/secrets create",
        "/secrets patch",
        "/secrets delete",
    ];
    assert_eq!(writes, expected);
}

#[test]
fn a_namespace_of_a_data_plane_grants_what_all_do_elsewhere_and_the_rest_of_the_cluster_its_identity() {
    let [everywhere, in_one] = GRANTED;
    let name = "medusa-fleet-control-plane";
    let all = one(everywhere, "ClusterRole", name);
    let (identity, rest) = all.get("rules").and_then(Value::as_array).unwrap().split_first().unwrap();
    assert_eq!(one(in_one, "ClusterRole", name).get("rules"), Some(&json!([identity])));
    let roles: Vec<Value> = documents(in_one).into_iter().filter(|d| text(d, "/kind") == "Role").collect();
    let [own, there] = roles.as_slice() else { panic!("{roles:?}") };
    assert_eq!(
        (text(own, "/metadata/namespace"), text(there, "/metadata/namespace")),
        ("medusa-fleet", "cass")
    );
    assert_eq!(there.get("rules"), Some(&json!(rest)));
    let renewal = one(everywhere, "Role", name);
    assert_eq!(own.pointer("/rules/0"), renewal.pointer("/rules/0"));
    let others = permissions(own).into_iter().skip(1).collect::<Vec<_>>();
    assert!(others.iter().all(|other| permissions(&all).contains(other)), "{others:?}");
}

#[test]
fn the_account_of_a_data_plane_renews_its_own_token_and_no_other() {
    let role = one("kubeconfigs/data-plane-rbac.yaml", "Role", "medusa-fleet-control-plane");
    assert_eq!(permissions(&role), ["/serviceaccounts/token create"]);
    let names = role.pointer("/rules/0/resourceNames");
    assert_eq!(names, Some(&json!(["medusa-fleet-control-plane"])));
    assert_eq!(text(&role, "/metadata/namespace"), "medusa-fleet");
}

#[test]
fn the_fleet_role_names_every_fleet_kind() {
    let role = one("deploy/control-plane.yaml", "Role", "medusa-fleet-control-plane");
    let permissions = permissions(&role);
    for crd in medusa_fleet::api::crds::all().unwrap() {
        // Where there are shards the chart grants it (tests/apiserver/replicas.rs).
        let is_for_shards = crd.spec.names.kind == "DataPlaneView";
        if crd.spec.group == medusa_fleet::api::fleet::GROUP && !is_for_shards {
            let plural = &crd.spec.names.plural;
            for permission in [format!("{plural} patch"), format!("{plural}/status patch")] {
                let permission = format!("fleet.k8ssandra.io/{permission}");
                assert!(permissions.contains(&permission), "{permission}");
            }
        }
    }
}

#[test]
fn pods_are_restricted_probed_and_run_a_role_the_binary_has() {
    for role in ["control-plane", "data-plane"] {
        let deployment = one(&format!("deploy/{role}.yaml"), "Deployment", &format!("medusa-fleet-{role}"));
        let container = deployment.pointer("/spec/template/spec/containers/0").unwrap();
        assert_eq!(text(container, "/livenessProbe/httpGet/path"), "/livez");
        assert_eq!(text(container, "/readinessProbe/httpGet/path"), "/readyz");
        let security = json!({
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        });
        assert_eq!(container.get("securityContext"), Some(&security));
        assert_eq!(
            deployment.pointer("/spec/template/spec/securityContext/runAsNonRoot"),
            Some(&json!(true))
        );
        let args: Vec<String> = serde_json::from_value(container.get("args").unwrap().clone()).unwrap();
        let command = medusa_fleet::cli::command(None);
        let words = std::iter::once("medusa-fleet".to_owned()).chain(args);
        let parsed = command.try_get_matches_from(words).unwrap();
        assert_eq!(parsed.subcommand_name(), Some(role));
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(text(container, "/image"), format!("medusa-fleet:{version}"));
        assert_eq!(text(&deployment, "/metadata/labels/app.kubernetes.io~1version"), version);
    }
}

#[test]
fn the_example_kubeconfigs_are_kubeconfigs_whose_contexts_resolve() {
    let mut texts: Vec<String> = ["service-account-token.yaml", "client-certificate.yaml", "refused.yaml"]
        .iter()
        .map(|name| std::fs::read_to_string(Path::new(ROOT).join("kubeconfigs").join(name)).unwrap())
        .collect();
    let secret = one("kubeconfigs/secret.yaml", "Secret", "eu-1");
    assert_eq!(text(&secret, "/metadata/labels/fleet.k8ssandra.io~1register"), "true");
    texts.push(text(&secret, "/stringData/kubeconfig").to_owned());
    for kubeconfig in texts {
        let file = Kubeconfig::from_yaml(&kubeconfig).unwrap();
        for data in
            kubeconfig.lines().filter_map(|line| line.trim().split_once("-data: ")).map(|(_, data)| data)
        {
            let data = data.split(' ').next().unwrap_or_default();
            assert!(STANDARD.decode(data).is_ok(), "kubectl reads base64 only: {data}");
        }
        assert!(file.contexts.iter().any(|c| Some(&c.name) == file.current_context.as_ref()));
        for context in file.contexts.iter().filter_map(|c| c.context.as_ref()) {
            assert!(file.clusters.iter().any(|c| c.name == context.cluster), "{}", context.cluster);
            assert!(
                file.auth_infos.iter().any(|u| Some(&u.name) == context.user.as_ref()),
                "{:?}",
                context.user
            );
        }
    }
}

#[test]
fn every_yaml_file_parses() {
    for file in files("deploy").into_iter().chain(files("kubeconfigs")) {
        assert!(documents(&file).iter().all(|d| !text(d, "/apiVersion").is_empty()), "{}", file.display());
    }
}
