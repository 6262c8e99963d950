//! The charts in `deploy/charts`, read and rendered by the real Helm: what they make is whole, stays in its namespace and
//! starts a role the program has; `deploy/*.yaml` is rendered from them. Installing them is tested against real API
//! servers (tests/apiserver/charts.rs).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    reason = "tests"
)]

use std::{collections::BTreeSet, path::Path};

use rstest::rstest;
use serde_json::{Value, json};

#[path = "support/harness/mod.rs"]
mod harness;
#[path = "charts/kustomize.rs"]
mod kustomize;
#[path = "charts/refused.rs"]
mod refused;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const CONTROL_PLANE: &str = "medusa-fleet";
const DATA_PLANE: &str = "medusa-fleet-data-plane";
/// What a release is made of where nothing is chosen.
const KINDS: [&str; 9] = [
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "Deployment",
    "PodDisruptionBudget",
    "Role",
    "RoleBinding",
    "Service",
    "ServiceAccount",
];

/// Runs Helm; what it printed, or what it said against it.
fn helm(args: &[&str]) -> Result<String, String> {
    let output = harness::testbed::command().arg("helm").args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("symbolic link"), "{said}");
    if output.status.success() { Ok(String::from_utf8(output.stdout).unwrap()) } else { Err(said) }
}

fn chart(name: &str) -> String {
    format!("{ROOT}/deploy/charts/{name}")
}

/// A chart rendered for a release, with `--set` or other flags in one string.
fn rendered(name: &str, release: &str, namespace: &str, flags: &str) -> Result<String, String> {
    let chart = chart(name);
    let mut args = vec!["template", release, &chart, "--namespace", namespace];
    args.extend(flags.split_whitespace());
    helm(&args)
}

fn documents(text: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    all.into_iter().filter(|document| !document.is_null()).collect()
}

fn text<'a>(document: &'a Value, pointer: &str) -> &'a str {
    document.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn of_kind<'a>(all: &'a [Value], kind: &str) -> Vec<&'a Value> {
    all.iter().filter(|document| text(document, "/kind") == kind).collect()
}

/// The objects of a kind; `Pod` and `Container` are those of the Deployments.
fn of_part<'a>(all: &'a [Value], part: &str) -> Vec<&'a Value> {
    let inside = match part {
        "Pod" => "/spec/template",
        "Container" => "/spec/template/spec/containers/0",
        kind => return of_kind(all, kind),
    };
    of_kind(all, "Deployment").into_iter().filter_map(|deployment| deployment.pointer(inside)).collect()
}

/// As `make manifests` renders them: the definitions are applied apart from these.
fn plain(name: &str) -> String {
    let definitions = match name {
        DATA_PLANE => "--set definitions.medusa=false",
        _ => "--set definitions.fleet=false,definitions.medusa=false",
    };
    rendered(name, "medusa-fleet", "medusa-fleet", definitions).unwrap()
}

#[rstest]
#[case(CONTROL_PLANE)]
#[case(DATA_PLANE)]
fn helm_finds_nothing_to_say_about_a_chart(#[case] name: &str) {
    helm(&["lint", "--strict", "--quiet", &chart(name)]).unwrap();
}

#[rstest]
#[case(CONTROL_PLANE, "control-plane.yaml")]
#[case(DATA_PLANE, "data-plane.yaml")]
fn the_manifests_are_rendered_from_the_charts(#[case] name: &str, #[case] file: &str) {
    let there = std::fs::read_to_string(Path::new(ROOT).join("deploy").join(file)).unwrap();
    let header: String = there
        .lines()
        .take_while(|line| line.starts_with("# "))
        .fold(String::new(), |all, line| all + line + "\n");
    assert_eq!(there, header + &plain(name), "deploy/{file} is out of date: `make manifests`");
}

#[rstest]
#[case(CONTROL_PLANE)]
#[case(DATA_PLANE)]
fn a_chart_has_the_version_of_the_program(#[case] name: &str) {
    let shown = documents(&helm(&["show", "chart", &chart(name)]).unwrap());
    for field in ["/version", "/appVersion"] {
        assert_eq!(text(&shown[0], field), env!("CARGO_PKG_VERSION"), "{name} {field}");
    }
}

/// What is made has these changes of kinds, and these values.
fn assert_chosen(all: &[Value], changes: &str, seen: &[(&str, &str, &str)]) {
    let mut kinds = BTreeSet::from(KINDS);
    for change in changes.split_whitespace() {
        match change.split_at(1) {
            ("+", kind) => kinds.insert(kind),
            (_, kind) => kinds.remove(kind),
        };
    }
    let made: BTreeSet<&str> = all.iter().map(|document| text(document, "/kind")).collect();
    assert_eq!(made, kinds);
    for (part, pointer, json) in seen {
        let wanted: Value = serde_json::from_str(json).unwrap_or_else(|_| json!(json));
        let found: Vec<&Value> =
            of_part(all, part).into_iter().filter_map(|object| object.pointer(pointer)).collect();
        let is_it = |value: &&Value| {
            **value == wanted || value.as_array().is_some_and(|array| array.contains(&wanted))
        };
        assert!(found.iter().any(is_it), "{part} {pointer}: {wanted} is not in {found:?}");
    }
}

/// Everything that can be chosen, alone and together: which kinds come or go by it, and where it is seen. Values are JSON,
/// or strings as they are; of an array, one element is enough.
#[rstest]
#[case(
    CONTROL_PLANE,
    "medusa-fleet",
    "medusa-fleet",
    "",
    "",
    &[
        ("Deployment", "/spec/replicas", "2"),
        ("Container", "/args", "--leader-elect"),
    ]
)]
#[case(
    CONTROL_PLANE,
    "backups",
    "platform-backups",
    "",
    "",
    &[("Deployment", "/metadata/name", "backups-medusa-fleet-control-plane")]
)]
#[case(
    CONTROL_PLANE,
    "a-release-name-as-long-as-helm-lets-anybody-choose-a",
    "n",
    "",
    "",
    &[("Deployment", "/metadata/name", "a-release-name-as-long-as-helm-lets-anybody-choos-control-plane")]
)]
#[case(
    CONTROL_PLANE,
    "x",
    "n",
    "--set fullnameOverride=cassandra-backups,replicas=1,leaderElection=false",
    "-PodDisruptionBudget",
    &[
        ("Deployment", "/metadata/name", "cassandra-backups-control-plane"),
        ("Deployment", "/spec/replicas", "1"),
        ("Container", "/args", r#"["control-plane", "--log-format=json"]"#),
    ]
)]
#[case(
    CONTROL_PLANE,
    "x",
    "n",
    "--set shards=12,replicas=3",
    "",
    &[
        ("Deployment", "/spec/replicas", "3"),
        ("Container", "/args", r#"["control-plane", "--log-format=json", "--leader-elect", "--shards=12"]"#),
        ("Role", "/rules/4/resources", r#"["dataplaneviews"]"#),
        ("Role", "/rules/5/verbs", r#"["delete"]"#),
    ]
)]
#[case(
    CONTROL_PLANE,
    "x",
    "n",
    "--set image.digest=sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa,\
    image.repository=registry.example.com/m,imagePullSecrets[0].name=pull,\
    priorityClassName=system-cluster-critical",
    "",
    &[
        (
            "Container",
            "/image",
            "registry.example.com/m@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ),
        ("Pod", "/spec/imagePullSecrets", r#"{"name": "pull"}"#),
        ("Pod", "/spec/priorityClassName", "system-cluster-critical"),
    ]
)]
#[case(
    CONTROL_PLANE,
    "x",
    "n",
    "--set image.tag=1.2.3,image.pullPolicy=Always,extraArgs[0]=--metrics-addr=127.0.0.1:9,\
    resources.limits.memory=1Gi,podSecurityContext.fsGroup=7,securityContext.runAsUser=8,\
    serviceAccount.annotations.role=r",
    "",
    &[
        ("Container", "/image", "medusa-fleet:1.2.3"),
        ("Container", "/imagePullPolicy", "Always"),
        ("Container", "/args", "--metrics-addr=127.0.0.1:9"),
        ("Container", "/resources/limits/memory", "1Gi"),
        ("Pod", "/spec/securityContext/fsGroup", "7"),
        ("Container", "/securityContext/runAsUser", "8"),
        ("ServiceAccount", "/metadata/annotations/role", "r"),
    ]
)]
#[case(
    CONTROL_PLANE,
    "x",
    "n",
    "--set sourceNamespaces={a,b},clientConfigNamespaces={c},allowUnsafeKubeconfig={proxy-url},\
    recoveryPointObjective=36h,medusaImage=registry.example.com/medusa:1,logFormat=text,\
    logFilter=debug",
    "",
    &[(
        "Container",
        "/args",
        r#"["control-plane", "--log-format=text", "--log-filter=debug", "--leader-elect",
            "--source-namespaces=a,b", "--client-config-namespaces=c",
            "--allow-unsafe-kubeconfig=proxy-url", "--recovery-point-objective=36h",
            "--medusa-image=registry.example.com/medusa:1"]"#,
    )]
)]
#[case(
    CONTROL_PLANE,
    "x",
    "n",
    "--set rbac.namespaces={shop,billing},clientConfigNamespaces={shop}",
    "",
    &[
        ("Container", "/args", "--source-namespaces=shop,billing,n"),
        ("Container", "/args", "--client-config-namespaces=shop"),
        ("Container", "/args", "--local-namespaces=shop,billing"),
    ]
)]
#[case(
    CONTROL_PLANE,
    "x",
    "n",
    "--set proxy.https=http://proxy:3128,proxy.http=http://proxy:3129,proxy.none=10.0.0.0/8,\
    extraEnv[0].name=A,extraEnv[0].value=b",
    "",
    &[
        ("Container", "/env", r#"{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}"#),
        ("Container", "/env", r#"{"name": "HTTP_PROXY", "value": "http://proxy:3129"}"#),
        ("Container", "/env", r#"{"name": "NO_PROXY", "value": "10.0.0.0/8"}"#),
        ("Container", "/env", r#"{"name": "A", "value": "b"}"#),
    ]
)]
#[case(
    CONTROL_PLANE,
    "x",
    "n",
    "--set nodeSelector.disk=ssd,tolerations[0].operator=Exists,affinity.podAffinity.a=b,\
    topologySpreadConstraints[0].topologyKey=zone,podLabels.a=b,podAnnotations.c=d,\
    commonLabels.team=data,commonAnnotations.e=f",
    "",
    &[
        ("Pod", "/spec/nodeSelector/disk", "ssd"),
        ("Pod", "/spec/tolerations", r#"{"operator": "Exists"}"#),
        ("Pod", "/spec/affinity/podAffinity/a", "b"),
        ("Pod", "/spec/topologySpreadConstraints/0/topologyKey", "zone"),
        ("Pod", "/metadata/labels/a", "b"),
        ("Pod", "/metadata/annotations/c", "d"),
        ("Service", "/metadata/labels/team", "data"),
        ("Deployment", "/metadata/annotations/e", "f"),
    ]
)]
#[case(
    CONTROL_PLANE,
    "x",
    "n",
    "--set networkPolicy.enabled=true,networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.a=b,\
    definitions.k8ssandra=true",
    "+NetworkPolicy",
    &[
        ("NetworkPolicy", "/spec/ingress/0/from/0/namespaceSelector/matchLabels/a", "b"),
        ("CustomResourceDefinition", "/metadata/name", "k8ssandraclusters.k8ssandra.io"),
    ]
)]
#[case(
    CONTROL_PLANE,
    "x",
    "n",
    "--set metrics.serviceMonitor.enabled=true,metrics.serviceMonitor.labels.release=p,\
    metrics.serviceMonitor.interval=15s,metrics.service.annotations.a=b",
    "+ServiceMonitor",
    &[
        ("ServiceMonitor", "/metadata/labels/release", "p"),
        ("ServiceMonitor", "/spec/endpoints/0/interval", "15s"),
        ("Service", "/metadata/annotations/a", "b"),
    ]
)]
#[case(
    CONTROL_PLANE,
    "x",
    "n",
    "--set serviceAccount.create=false,serviceAccount.name=mine,rbac.create=false,rbac.aggregate=false,\
    metrics.service.enabled=false,podDisruptionBudget.enabled=false,definitions.fleet=false,\
    definitions.medusa=false",
    "-ServiceAccount -ClusterRole -ClusterRoleBinding -Role -RoleBinding -Service -PodDisruptionBudget \
    -CustomResourceDefinition",
    &[("Pod", "/spec/serviceAccountName", "mine")]
)]
#[case(
    DATA_PLANE,
    "medusa-fleet",
    "medusa-fleet",
    "",
    "",
    &[
        ("Deployment", "/spec/replicas", "2"),
        ("Container", "/args", r#"["data-plane", "--log-format=json", "--leader-elect"]"#),
    ]
)]
#[case(
    DATA_PLANE,
    "medusa-fleet-data-plane",
    "elsewhere",
    "--set takeOver=true,replicas=1,leaderElection=false",
    "-PodDisruptionBudget",
    &[
        ("Deployment", "/metadata/name", "medusa-fleet-data-plane"),
        ("Deployment", "/spec/replicas", "1"),
        ("Deployment", "/spec/strategy/type", "Recreate"),
        ("Container", "/args", r#"["data-plane", "--log-format=json", "--take-over"]"#),
    ]
)]
#[case(
    DATA_PLANE,
    "x",
    "n",
    "--set watchNamespaces={shop,billing},networkPolicy.enabled=true,\
    metrics.serviceMonitor.enabled=true,definitions.medusa=false",
    "-ClusterRole -ClusterRoleBinding -CustomResourceDefinition +NetworkPolicy +ServiceMonitor",
    &[
        ("Container", "/args", "--watch-namespace=shop,billing"),
        ("NetworkPolicy", "/spec/ingress/0/ports", r#"{"port": "http"}"#),
        ("ServiceMonitor", "/spec/endpoints/0/interval", "30s"),
    ]
)]
fn what_is_rendered_is_whole_and_stays_in_its_namespace(
    #[case] name: &str,
    #[case] release: &str,
    #[case] namespace: &str,
    #[case] flags: &str,
    #[case] changes: &str,
    #[case] seen: &[(&str, &str, &str)],
) {
    let all = documents(&rendered(name, release, namespace, flags).unwrap());
    assert_chosen(&all, changes, seen);
    let role = if name == DATA_PLANE { "data-plane" } else { "control-plane" };
    assert_whole(&all, role, namespace);
}

/// What is made is all there, belongs together, stays in its namespace, and starts the role.
fn assert_whole(all: &[Value], role: &str, namespace: &str) {
    assert!(
        of_kind(all, "Namespace").is_empty(),
        "a namespace that goes with a release takes others with it"
    );

    let deployments = of_kind(all, "Deployment");
    let [deployment] = deployments[..] else { panic!("{} Deployments", deployments.len()) };
    let labels = deployment.pointer("/spec/template/metadata/labels").unwrap();
    let chosen = |selector: &Value| {
        selector.as_object().unwrap().iter().all(|(key, value)| labels.get(key) == Some(value))
    };
    let selectors = [
        ("Deployment", "/spec/selector/matchLabels"),
        ("Service", "/spec/selector"),
        ("PodDisruptionBudget", "/spec/selector/matchLabels"),
        ("NetworkPolicy", "/spec/podSelector/matchLabels"),
    ];
    for (kind, selector) in selectors {
        for object in of_kind(all, kind) {
            assert!(chosen(object.pointer(selector).unwrap()), "{kind} chooses other pods");
        }
    }

    let account = text(deployment, "/spec/template/spec/serviceAccountName");
    let has = |kind: &str, name: &str| {
        of_kind(all, kind).iter().any(|object| text(object, "/metadata/name") == name)
    };
    for binding in all.iter().filter(|document| text(document, "/kind").ends_with("Binding")) {
        assert!(has(text(binding, "/roleRef/kind"), text(binding, "/roleRef/name")), "{binding}");
        assert_eq!(text(binding, "/subjects/0/name"), account);
        assert_eq!(text(binding, "/subjects/0/namespace"), namespace);
    }

    for object in all {
        let (kind, name) = (text(object, "/kind"), text(object, "/metadata/name"));
        assert!(
            name.len() <= 63 || kind.starts_with("Cluster") || kind == "CustomResourceDefinition",
            "{kind} {name}"
        );
        if kind == "CustomResourceDefinition" {
            assert_eq!(text(object, "/metadata/annotations/helm.sh~1resource-policy"), "keep", "{name}");
        } else if !(kind.starts_with("Cluster") || kind.starts_with("Role") && name.ends_with("-n")) {
            assert_eq!(text(object, "/metadata/namespace"), namespace, "{kind} {name}");
        }
    }

    let container = deployment.pointer("/spec/template/spec/containers/0").unwrap();
    let args: Vec<String> = serde_json::from_value(container.get("args").unwrap().clone()).unwrap();
    let words = std::iter::once("medusa-fleet".to_owned()).chain(args);
    let parsed = medusa_fleet::cli::command(None).try_get_matches_from(words).unwrap();
    assert_eq!(parsed.subcommand_name(), Some(role));
}

#[test]
fn the_definitions_a_chart_brings_are_those_of_crds() {
    let flags = "--set definitions.k8ssandra=true";
    let all = documents(&rendered(CONTROL_PLANE, "x", "n", flags).unwrap());
    let mut brought: Vec<Value> = of_kind(&all, "CustomResourceDefinition").into_iter().cloned().collect();
    for definition in &mut brought {
        definition.pointer_mut("/metadata").unwrap().as_object_mut().unwrap().remove("annotations");
    }
    let ours: Vec<Value> = medusa_fleet::api::crds::all()
        .unwrap()
        .iter()
        .map(|crd| serde_json::to_value(crd).unwrap())
        .collect();
    assert_eq!(brought.len(), ours.len());
    for mut definition in ours {
        definition.as_object_mut().unwrap().remove("status");
        let name = text(&definition, "/metadata/name").to_owned();
        let found = brought.iter().find(|other| text(other, "/metadata/name") == name);
        assert_eq!(found, Some(&definition), "{name}");
    }
}

#[rstest]
#[case(CONTROL_PLANE, "rbac.namespaces")]
#[case(DATA_PLANE, "watchNamespaces")]
fn without_rights_in_all_namespaces_a_controller_has_them_where_it_works(
    #[case] name: &str,
    #[case] value: &str,
) {
    let flags = format!("--set {value}={{shop,billing}},rbac.aggregate=false");
    let flags = if name == DATA_PLANE { flags.replace(",rbac.aggregate=false", "") } else { flags };
    let all = documents(&rendered(name, "x", "n", &flags).unwrap());
    for kind in ["Role", "RoleBinding"] {
        let mut places: Vec<&str> =
            of_kind(&all, kind).iter().map(|object| text(object, "/metadata/namespace")).collect();
        places.sort_unstable();
        assert_eq!(places, ["billing", "n", "shop"], "{kind}");
    }
    let everywhere: Vec<&Value> =
        of_kind(&all, "ClusterRole").into_iter().filter_map(|role| role.get("rules")).collect();
    let identity = json!([{
        "apiGroups": [""], "resources": ["namespaces"], "resourceNames": ["kube-system"], "verbs": ["get"],
    }]);
    let expected = if name == CONTROL_PLANE { vec![&identity] } else { Vec::new() };
    assert_eq!(everywhere, expected);
}
