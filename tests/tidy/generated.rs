//! What is generated is fresh, and the kinds we share with others are theirs.

use std::{collections::BTreeMap, fs};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

use crate::source::{files, root};

#[test]
fn the_definitions_in_crds_are_those_of_the_types() {
    let mut expected = BTreeMap::new();
    for crd in medusa_fleet::api::crds::all().unwrap() {
        let name = format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural);
        expected.insert(name, serde_json::to_value(&crd).unwrap());
    }
    let found: BTreeMap<String, Value> = files("crds", "yaml")
        .into_iter()
        .map(|(name, text)| {
            let crd: CustomResourceDefinition = serde_saphyr::from_str(&text).unwrap();
            (name.trim_start_matches("crds/").to_owned(), serde_json::to_value(&crd).unwrap())
        })
        .collect();
    let names = |map: &BTreeMap<String, Value>| map.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&expected), "run `make crds`");
    for (name, crd) in expected {
        assert!(found[&name] == crd, "{name} is stale: run `make crds`");
    }
}

#[test]
fn what_charts_share_is_copied_into_each() {
    let (of_control_plane, of_data_plane) =
        ("deploy/charts/medusa-fleet", "deploy/charts/medusa-fleet-data-plane");
    let mut sources = BTreeMap::from([
        (
            format!("{of_control_plane}/files/data-plane-rbac.yaml"),
            "kubeconfigs/data-plane-rbac.yaml".to_owned(),
        ),
        (
            format!("{of_data_plane}/templates/_common.tpl"),
            format!("{of_control_plane}/templates/_common.tpl"),
        ),
    ]);
    for (source, _) in files("crds", "yaml") {
        if source.starts_with("crds/medusa.") {
            sources.insert(format!("{of_data_plane}/files/{source}"), source.clone());
        }
        sources.insert(format!("{of_control_plane}/files/{source}"), source);
    }
    let read = |name: &String| fs::read_to_string(root().join(name)).unwrap_or_default();
    let stale: Vec<&String> =
        sources.iter().filter(|(copy, source)| read(copy) != read(source)).map(|(copy, _)| copy).collect();
    assert_eq!(stale, Vec::<&String>::new(), "run `make manifests`");
    let copies = files("deploy/charts", "yaml").into_iter().filter(|(name, _)| name.contains("/files/"));
    let left: Vec<String> = copies.map(|(name, _)| name).filter(|name| !sources.contains_key(name)).collect();
    assert_eq!(left, Vec::<String>::new(), "not a copy of anything any more: run `make manifests`");
}

/// What our version stands behind: tags of the image, its label, the objects' label, the charts' fields, names of files.
const VERSIONED: [&str; 7] = [
    "medusa-fleet:",
    "image.version=",
    "app.kubernetes.io/version: \"",
    "\nversion: ",
    "\nappVersion: ",
    "medusa-fleet-",
    "medusa-fleet-data-plane-",
];

/// The versions that a text says are ours, and where.
fn versions(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for mark in VERSIONED {
        for (before, _) in text.match_indices(mark) {
            let at = before + mark.len();
            let number = text[at..].split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap();
            let version = number.trim_end_matches('.');
            if version.contains('.') {
                found.push((at, version));
            }
        }
    }
    found
}

#[test]
fn every_version_of_ours_is_that_of_cargo_toml() {
    let version = env!("CARGO_PKG_VERSION").split(['-', '+']).next().unwrap();
    let others = ["README.md", "deploy/Dockerfile"]
        .map(|name| (name.to_owned(), fs::read_to_string(root().join(name)).unwrap()));
    let texts = files("deploy", "yaml").into_iter().chain(files("deploy", "md")).chain(others);
    let (mut named, mut stale) = (0, Vec::new());
    for (name, text) in texts {
        for (at, found) in versions(&text) {
            named += 1;
            if found != version {
                stale.push(format!("{name}:{}: {found}", text[..at].lines().count()));
            }
        }
    }
    assert!(named > 50, "only {named} versions");
    assert_eq!(
        stale,
        Vec::<String>::new(),
        "Cargo.toml has {version}; `make manifests` renders what is rendered"
    );
}

#[test]
fn a_version_of_ours_is_told_from_a_name_and_from_others() {
    let text = "name: x\nversion: 0.1.0\nimage: medusa-fleet:2.3.4\nserverVersion: 5.0.4\nnote: medusa-fleet-control-plane\n\
                see target/dist/medusa-fleet-0.1.1-linux-amd64.tar.gz.\n";
    let found: Vec<&str> = versions(text).into_iter().map(|(_, version)| version).collect();
    assert_eq!(found, ["2.3.4", "0.1.0", "0.1.1"]);
}

/// One line per field: path, type, and every constraint that changes what the API server accepts.
fn flatten(node: &Value, path: &str, required: bool, lines: &mut Vec<String>) {
    let text = |key: &str| node.get(key).and_then(Value::as_str);
    let any = if node.get("x-kubernetes-int-or-string").is_some() { "int-or-string" } else { "any" };
    let mut line = format!("{path} {}", text("type").unwrap_or(any));
    let mut add = |part: String| {
        line.push(' ');
        line.push_str(&part);
    };
    if let Some(format) = text("format") {
        add(format!("format={format}"));
    }
    if let Some(choices) = node.get("enum").and_then(Value::as_array) {
        let mut choices: Vec<&str> = choices.iter().filter_map(Value::as_str).collect();
        choices.sort_unstable();
        add(format!("enum={}", choices.join("|")));
    }
    if let Some(default) = node.get("default") {
        add(format!("default={}", default.as_str().map_or_else(|| default.to_string(), str::to_owned)));
    }
    for key in ["minLength", "maxLength", "minimum"] {
        if let Some(limit) = node.get(key).and_then(Value::as_f64) {
            add(format!("{key}={limit}"));
        }
    }
    for (key, name) in [("x-kubernetes-map-type", "map-type"), ("x-kubernetes-list-type", "list-type")] {
        if let Some(value) = text(key) {
            add(format!("{name}={value}"));
        }
    }
    if required {
        add("required".to_owned());
    }
    lines.push(line);
    let is_required = |name: &str| {
        node.get("required").and_then(Value::as_array).is_some_and(|r| r.iter().any(|n| n == name))
    };
    for (name, child) in node.get("properties").and_then(Value::as_object).into_iter().flatten() {
        flatten(child, &format!("{path}.{name}"), is_required(name), lines);
    }
    if let Some(items) = node.get("items") {
        flatten(items, &format!("{path}[]"), false, lines);
    }
    if let Some(values) = node.get("additionalProperties").filter(|v| v.is_object()) {
        flatten(values, &format!("{path}{{}}"), false, lines);
    }
}

/// Optional fields that upstream's definitions lack. What clusters drop must not be needed.
const ADDED: [&str; 7] = [
    ".status.conditions",
    ".status.message ",
    "ttlSecondsAfterFinished integer",
    ".spec.timeZone string",
    ".spec.startingDeadlineSeconds integer",
    ".spec.successfulJobsHistoryLimit integer",
    ".spec.failedJobsHistoryLimit integer",
];

#[test]
fn the_medusa_kinds_are_upstreams_field_for_field() {
    let mut ours = Vec::new();
    for crd in medusa_fleet::api::crds::all().unwrap() {
        if crd.spec.group != "medusa.k8ssandra.io" {
            continue;
        }
        let plural = crd.spec.names.plural.clone();
        let version = serde_json::to_value(&crd.spec.versions[0]).unwrap();
        flatten(&version["schema"]["openAPIV3Schema"], &plural, false, &mut ours);
        for column in version["additionalPrinterColumns"].as_array().into_iter().flatten() {
            let field = |key: &str| column[key].as_str().unwrap_or_default().to_owned();
            ours.push(format!("{plural} column {} {} {}", field("name"), field("type"), field("jsonPath")));
        }
    }
    let golden = fs::read_to_string(root().join("tests/golden/medusa-schema.txt")).unwrap();
    let lacking: Vec<&str> = golden
        .lines()
        .map(str::trim_end)
        .filter(|line| !ours.iter().any(|o| o.trim_end() == *line))
        .collect();
    assert_eq!(lacking, Vec::<&str>::new(), "fields of upstream that ours lack or define otherwise");
    let added: Vec<&String> = ours
        .iter()
        .filter(|line| !golden.lines().any(|g| g.trim_end() == line.trim_end()))
        .filter(|line| !ADDED.iter().any(|field| line.contains(field)))
        .collect();
    assert_eq!(added, Vec::<&String>::new(), "additions that nobody decided on");
}
