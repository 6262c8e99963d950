//! The house rules of ARCHITECTURE.md as tests, and the freshness of generated files.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that cannot go on should say so and end"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str, ending: &str) -> Vec<(String, String)> {
    fn collect(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                collect(&path, ending, found);
            } else if path.extension().is_some_and(|e| e == ending) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    collect(&root().join(folder), ending, &mut found);
    found.sort();
    found
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect()
}

/// The part of a file that ships: everything before its unit tests.
fn shipped(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

fn offenders(folder: &str, words: &[&str], allowed: impl Fn(&str) -> bool) -> Vec<String> {
    files(folder, "rs")
        .iter()
        .filter(|(name, _)| !allowed(name))
        .flat_map(|(name, text)| {
            shipped(text)
                .lines()
                .enumerate()
                .filter(|(_, line)| !line.trim_start().starts_with("//"))
                .filter(|(_, line)| words.iter().any(|word| line.contains(word)))
                .map(|(number, line)| format!("{name}:{}: {}", number + 1, line.trim()))
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn modules_import_downwards_only() {
    let rules: [(&str, &[&str]); 5] = [
        ("src/api", &["crate::runtime", "crate::control_plane", "crate::data_plane", "crate::cli"]),
        (
            "src/runtime",
            &["crate::control_plane", "crate::data_plane", "crate::cli", "api::medusa", "api::fleet"],
        ),
        ("src/control_plane", &["crate::data_plane", "crate::cli"]),
        ("src/data_plane", &["crate::control_plane", "crate::cli"]),
        ("src/cli/views", &["kube::Client", "kube::Api"]),
    ];
    for (folder, words) in rules {
        assert_eq!(offenders(folder, words, |_| false), Vec::<String>::new(), "in {folder}");
    }
}

/// Files that decide. They take `now` and what was seen as arguments and return what to do.
const PURE: &[&str] = &[
    "src/control_plane/capabilities.rs",
    "src/control_plane/deployment/ini.rs",
    "src/control_plane/deployment/storage.rs",
    "src/control_plane/deployment/validate.rs",
    "src/control_plane/deployment/written.rs",
    "src/control_plane/deployment/config_map.rs",
    "src/control_plane/deployment/objects.rs",
    "src/control_plane/deployment/observe.rs",
    "src/control_plane/deployment/plan.rs",
    "src/control_plane/deployment/prefix.rs",
    "src/control_plane/deployment/report.rs",
    "src/control_plane/deployment/rollout.rs",
    "src/control_plane/deployment/secrets.rs",
    "src/control_plane/deployment/status.rs",
    "src/control_plane/inventory/deployed.rs",
    "src/control_plane/section.rs",
    "src/control_plane/view.rs",
    "src/control_plane/registry/health.rs",
    "src/control_plane/registry/kinds.rs",
    "src/control_plane/registry/kubeconfig.rs",
    "src/runtime/kubeconfig/access.rs",
    "src/runtime/kubeconfig/choice.rs",
    "src/runtime/kubeconfig/credential.rs",
    "src/runtime/kubeconfig/key.rs",
    "src/runtime/kubeconfig/pem.rs",
    "src/runtime/kubeconfig/text.rs",
    "src/runtime/kubeconfig/tls.rs",
    "src/control_plane/registry/registration.rs",
    "src/control_plane/sources/guard.rs",
    "src/control_plane/sources/objects.rs",
    "src/control_plane/sources/spoilt.rs",
    "src/control_plane/sources/payload.rs",
    "src/control_plane/replication/content.rs",
    "src/control_plane/replication/desired.rs",
    "src/control_plane/replication/plan.rs",
    "src/control_plane/replication/status.rs",
    "src/control_plane/replication/targets.rs",
    "src/control_plane/deployment/conflict.rs",
    "src/control_plane/deployment/containers.rs",
    "src/control_plane/deployment/diff.rs",
    "src/control_plane/deployment/fields.rs",
    "src/control_plane/deployment/image.rs",
    "src/control_plane/deployment/ownership.rs",
    "src/control_plane/deployment/purge.rs",
    "src/control_plane/deployment/removal.rs",
    "src/control_plane/deployment/template.rs",
    "src/control_plane/deployment/users.rs",
    "src/control_plane/deployment/volumes.rs",
    "src/control_plane/fanout/child.rs",
    "src/control_plane/fanout/load.rs",
    "src/control_plane/fanout/summary.rs",
    "src/control_plane/fanout/rehearsal.rs",
    "src/control_plane/fanout/holds.rs",
    "src/control_plane/fanout/write.rs",
    "src/control_plane/fanout/plan.rs",
    "src/control_plane/fanout/judge.rs",
    "src/control_plane/fanout/rollup.rs",
    "src/control_plane/runs/child.rs",
    "src/control_plane/runs/compact.rs",
    "src/control_plane/runs/ending.rs",
    "src/control_plane/runs/kind.rs",
    "src/control_plane/runs/reach.rs",
    "src/control_plane/runs/rollout.rs",
    "src/control_plane/runs/select.rs",
    "src/control_plane/tasks/advance.rs",
    "src/control_plane/tasks/child.rs",
    "src/control_plane/tasks/gate.rs",
    "src/control_plane/tasks/judge.rs",
    "src/control_plane/tasks/limits.rs",
    "src/control_plane/tasks/plan.rs",
    "src/control_plane/tasks/retention.rs",
    "src/control_plane/tasks/traces.rs",
    "src/control_plane/tasks/rollup.rs",
    "src/control_plane/tasks/sweep.rs",
    "src/control_plane/schedules/recipe.rs",
    "src/control_plane/schedules/runs.rs",
    "src/control_plane/schedules/tick.rs",
    "src/control_plane/schedules/status.rs",
    "src/control_plane/schedules/scope.rs",
    "src/control_plane/schedules/delegate.rs",
    "src/control_plane/schedules/history.rs",
    "src/control_plane/schedules/missed.rs",
    "src/control_plane/schedules/results.rs",
    "src/control_plane/restores/active.rs",
    "src/control_plane/restores/check.rs",
    "src/control_plane/restores/checks.rs",
    "src/control_plane/restores/children.rs",
    "src/control_plane/restores/execute.rs",
    "src/control_plane/restores/judge.rs",
    "src/control_plane/restores/machine.rs",
    "src/control_plane/restores/plan.rs",
    "src/control_plane/restores/resolve.rs",
    "src/control_plane/restores/status.rs",
    "src/control_plane/restores/sweep.rs",
    "src/control_plane/inventory/grouping.rs",
    "src/control_plane/inventory/digest.rs",
    "src/control_plane/inventory/drift.rs",
    "src/control_plane/inventory/memo.rs",
    "src/control_plane/inventory/origin.rs",
    "src/control_plane/inventory/points.rs",
    "src/control_plane/inventory/protection.rs",
    "src/control_plane/inventory/survey.rs",
    "src/control_plane/inventory/verdict.rs",
    "src/control_plane/inventory/clusters.rs",
    "src/data_plane/machine.rs",
    "src/data_plane/pods.rs",
    "src/data_plane/timings.rs",
    "src/data_plane/outcome.rs",
    "src/data_plane/problem.rs",
    "src/data_plane/progress.rs",
    "src/data_plane/summaries.rs",
    "src/data_plane/backup/admit.rs",
    "src/data_plane/backup/status.rs",
    "src/data_plane/backup/summary.rs",
    "src/data_plane/turn.rs",
    "src/data_plane/task/admit.rs",
    "src/data_plane/task/guard.rs",
    "src/data_plane/task/pod.rs",
    "src/data_plane/task/status.rs",
    "src/data_plane/task/sync_plan.rs",
    "src/data_plane/schedule/recipe.rs",
    "src/data_plane/schedule/runs.rs",
    "src/data_plane/schedule/status.rs",
    "src/data_plane/restore/hostmap.rs",
    "src/data_plane/restore/judge.rs",
    "src/data_plane/restore/lock.rs",
    "src/data_plane/restore/machine.rs",
    "src/data_plane/restore/names.rs",
    "src/data_plane/restore/preflight.rs",
    "src/data_plane/restore/record.rs",
    "src/data_plane/restore/template.rs",
    "src/data_plane/restore/view.rs",
    "src/api/names.rs",
    "src/runtime/election.rs",
    "src/runtime/cause.rs",
    "src/runtime/wire/answer.rs",
    "src/control_plane/undone.rs",
    "src/cli/doctor/mod.rs",
    "src/cli/doctor/clusters.rs",
    "src/cli/doctor/home.rs",
    "src/cli/doctor/planes.rs",
    "src/cli/doctor/runs.rs",
    "src/cli/doctor/schedules.rs",
];

#[test]
fn decisions_are_pure() {
    for name in PURE {
        let text = fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let text = text.replace("ClientConfig", ""); // A kind, not a client.
        for word in ["async ", ".await", "clock::now", "Client", "tokio::", "Instant::now"] {
            assert!(!shipped(&text).contains(word), "{name} contains `{word}`");
        }
    }
    let api = offenders("src/api", &["async fn", ".await", "kube::Client", "clock::"], |_| false);
    assert_eq!(api, Vec::<String>::new());
}

#[test]
fn every_write_is_an_apply_except_where_a_reason_is_given() {
    // Finalizers, and single keys of objects we must not own as a whole; a Lease, which is its holder's as a whole.
    let allowed = [
        "src/runtime/lease.rs",
        "src/control_plane/leaving.rs",
        "src/control_plane/registry/admit.rs",
        // An object that cannot be read cannot be applied either.
        "src/control_plane/registry/unreadable.rs",
        "src/control_plane/replication/write.rs",
        "src/control_plane/restores/apply.rs",
        "src/control_plane/schedules/write.rs",
        "src/control_plane/deployment/apply.rs",
        "src/data_plane/",
        "src/cli/",
    ];
    let found =
        offenders("src", &["Patch::Merge", "Patch::Strategic", "Patch::Json", ".replace(&"], |name| {
            allowed.iter().any(|a| name.starts_with(a))
        });
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn labels_are_spelled_in_one_place() {
    let found = offenders(
        "src",
        &["\"fleet.k8ssandra.io/re", "\"cassandra.datastax.com/cl", "\"k8ssandra.io/"],
        |name| name == "src/api/labels.rs",
    );
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn the_wall_clock_is_read_in_one_place() {
    let found =
        offenders("src", &["Timestamp::now(", "SystemTime::now("], |name| name == "src/runtime/clock.rs");
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn source_files_are_short_and_say_what_they_are() {
    for (name, text) in files("src", "rs").into_iter().chain(files("tests", "rs")) {
        let lines = text.lines().count();
        assert!(lines <= 500, "{name} has {lines} lines");
        assert!(text.starts_with("//!"), "{name} does not begin with a module comment");
        assert!(!text.contains(concat!("#[", "ignore")), "{name} ignores a test");
    }
    for (name, text) in files("tests/testbed", "go") {
        assert!(text.lines().count() <= 500, "{name} is too long");
    }
}

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

/// Optional fields that upstream's definitions lack (contract §2.1). What clusters drop must not be needed.
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
    assert_eq!(added, Vec::<&String>::new(), "additions that contract §2.1 does not know");
}

/// Tests and files that are named as proofs in the last cells of these rows, and do not exist.
fn lacking<'a>(rows: impl Iterator<Item = &'a str>) -> (usize, Vec<&'a str>) {
    let code: String =
        files("src", "rs").into_iter().chain(files("tests", "rs")).map(|(_, text)| text).collect();
    let proofs = rows.filter_map(|line| line.rsplit('|').nth(1));
    let mut named = 0;
    let mut lacking = Vec::new();
    for name in proofs.flat_map(|cell| cell.split('`').skip(1).step_by(2)) {
        named += 1;
        let exists = if name.contains('/') {
            let folder = name.split('*').next().unwrap_or(name).trim_end_matches('/');
            root().join(folder).exists() || !files(folder, "rs").is_empty()
        } else {
            code.contains(&format!("fn {name}("))
        };
        if !exists {
            lacking.push(name);
        }
    }
    (named, lacking)
}

#[test]
fn what_parity_names_exists() {
    let page = fs::read_to_string(root().join("tests/PARITY.md")).unwrap();
    let (named, lacking) = lacking(page.lines().filter(|line| line.starts_with("| ☑")));
    assert!(named > 30, "only {named} proofs");
    assert_eq!(lacking, Vec::<&str>::new(), "tests/PARITY.md names tests that are not there");
}

#[test]
fn every_claim_about_security_names_tests_that_exist() {
    let page = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let is_claim =
        |line: &&str| line.starts_with("| ") && !line.starts_with("| claim") && !line.starts_with("| who");
    let claims: Vec<&str> = page.lines().filter(is_claim).collect();
    let unproved: Vec<&&str> = claims.iter().filter(|row| lacking(std::iter::once(**row)).0 == 0).collect();
    assert_eq!(unproved, Vec::<&&str>::new(), "claims without a proof in their last cell");
    let (named, lacking) = lacking(claims.into_iter());
    assert!(named > 15, "only {named} proofs");
    assert_eq!(lacking, Vec::<&str>::new(), "docs/security.md names tests that are not there");
}
