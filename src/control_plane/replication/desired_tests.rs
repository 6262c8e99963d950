//! Which copies are wanted, of whom, and where they may not go.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::{
    api::{k8ssandra::K8ssandraCluster, medusa::MedusaConfiguration},
    control_plane::sources::{Malformed, Never, SecretState, Standing},
};

fn configuration(targets: Option<&str>, secret: &str) -> Arc<MedusaConfiguration> {
    let mut annotations = serde_json::Map::new();
    if let Some(targets) = targets {
        annotations.insert(labels::TARGETS.to_owned(), json!(targets));
    }
    Arc::new(
        serde_json::from_value(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaConfiguration",
            "metadata": {"name": "s3", "namespace": "src", "uid": "c", "annotations": annotations},
            "spec": {"storageProperties": {"bucketName": "b", "storageSecretRef": {"name": secret}}}
        }))
        .unwrap(),
    )
}

fn read(never: Option<Never>) -> SecretState {
    SecretState::Read { uid: "s".into(), hash: "h".into(), keys: BTreeSet::new(), never }
}

fn sources(targets: Option<&str>) -> SourceObjects {
    let mut sources = SourceObjects {
        home: "ops".to_owned(),
        secrets: BTreeMap::from([(ObjectKey::new("src", "key"), read(None))]),
        secrets_listed: true,
        planes_listed: true,
        ..SourceObjects::default()
    };
    sources.configurations.standing = Standing::Listed;
    sources.client_configs.standing = Standing::Listed;
    sources.configurations.items.insert(ObjectKey::new("src", "s3"), configuration(targets, "key"));
    sources.clusters.standing = Standing::Listed;
    sources
}

fn places() -> Places {
    let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    Places {
        hosting: BTreeMap::from([
            ("eu".to_owned(), set(&["cass", "src"])),
            ("us".to_owned(), set(&[])),
            (LOCAL.to_owned(), set(&["src"])),
        ]),
        listed: set(&["eu", "us", LOCAL]),
        ..Places::default()
    }
}

fn planned(desired: &Desired) -> Vec<String> {
    desired.copies.iter().flat_map(|(p, c)| c.keys().map(move |k| format!("{p}: {k}"))).collect()
}

#[test]
fn a_star_reaches_every_namespace_that_hosts_a_datacenter() {
    let desired = desired(&sources(Some("*")), &places());
    assert_eq!(
        planned(&desired),
        [
            "eu: Secret cass/key",
            "eu: Secret src/key",
            "eu: MedusaConfiguration cass/s3",
            "eu: MedusaConfiguration src/s3"
        ]
    );
}

#[test]
fn a_list_reaches_what_it_names_and_says_what_it_cannot_read() {
    let desired = desired(&sources(Some("us/backup, nowhere/x bad a/b/c")), &places());
    assert_eq!(planned(&desired), ["us: Secret backup/key", "us: MedusaConfiguration backup/s3"]);
    let problems = &desired.problems[&ObjectKey::new("src", "s3")];
    let reasons: Vec<_> = problems.iter().map(|p| p.reason).collect();
    assert_eq!(reasons, [Reason::UnknownDataPlane, Reason::InvalidTargets, Reason::InvalidTargets]);
}

#[test]
fn without_annotation_or_cluster_nothing_is_copied() {
    assert!(planned(&desired(&sources(None), &places())).is_empty());
}

#[test]
fn a_cluster_brings_its_configuration_and_secrets_to_its_datacenters() {
    let mut sources = sources(None);
    let cluster: K8ssandraCluster = serde_json::from_value(json!({
        "metadata": {"name": "demo", "namespace": "src"},
        "spec": {
            "cassandra": {"datacenters": [
                {"metadata": {"name": "dc1"}},
                {"metadata": {"name": "dc2", "namespace": "cass"}, "k8sContext": "eu"}
            ]},
            "medusa": {
                "medusaConfigurationRef": {"name": "s3"},
                "cassandraUserSecretRef": {"name": "user"},
                "storageProperties": {"prefix": "demo"}
            }
        }
    }))
    .unwrap();
    sources.clusters.items.insert(ObjectKey::new("src", "demo"), Arc::new(cluster));
    let desired = desired(&sources, &places());
    assert_eq!(
        planned(&desired),
        ["eu: Secret cass/key", "eu: Secret cass/user", "eu: MedusaConfiguration cass/s3"]
    );
    let user = CopyKey { kind: CopyKind::Secret, object: ObjectKey::new("cass", "user") };
    assert_eq!(desired.copies["eu"][&user].content, None, "not read yet, so neither written nor removed");

    let leaving = Places { leaving: BTreeSet::from(["eu".to_owned()]), ..places() };
    assert_eq!(planned(&super::desired(&sources, &leaving)), Vec::<String>::new(), "it is unregistered");
}

#[test]
fn a_source_secret_that_is_gone_is_not_wanted_anywhere() {
    let mut sources = sources(Some("us/backup"));
    sources.secrets.insert(ObjectKey::new("src", "key"), SecretState::Absent);
    assert_eq!(planned(&desired(&sources, &places())), ["us: MedusaConfiguration backup/s3"]);
}

fn cluster(namespace: &str) -> Arc<K8ssandraCluster> {
    let cluster = json!({
        "metadata": {"name": "demo", "namespace": "src", "uid": "k"},
        "spec": {
            "cassandra": {"datacenters": [{"metadata": {"name": "dc", "namespace": namespace}, "k8sContext": "eu"}]},
            "medusa": {"medusaConfigurationRef": {"name": "s3"}, "cassandraUserSecretRef": {"name": "key"}},
        }
    });
    Arc::new(serde_json::from_value(cluster).unwrap())
}

#[test]
fn nothing_goes_where_kubernetes_or_a_controller_lives_whoever_asks() {
    let places = places();
    for namespace in ["kube-system", "kube-public", "kube-node-lease", "ops", "medusa-fleet"] {
        let refused = |problems: &[Why]| {
            let named = |why: &&Why| why.reason == Reason::TargetRefused && why.message.contains(namespace);
            assert_eq!(problems.iter().filter(named).count(), 1, "{namespace}: {problems:?}");
        };
        let by_annotation = desired(&sources(Some(&format!("eu/{namespace}"))), &places);
        assert!(planned(&by_annotation).is_empty(), "{namespace}");
        refused(&by_annotation.problems[&ObjectKey::new("src", "s3")]);
        let mut sources = sources(None);
        sources.clusters.items.insert(ObjectKey::new("src", "demo"), cluster(namespace));
        let by_cluster = desired(&sources, &places);
        assert!(planned(&by_cluster).is_empty(), "{namespace}");
        refused(&by_cluster.cluster_problems[&ObjectKey::new("src", "demo")]);
    }
    let mut hosting = places;
    hosting.hosting.insert("eu".to_owned(), ["kube-system", "cass"].map(str::to_owned).into());
    let everywhere = desired(&sources(Some("*")), &hosting);
    assert_eq!(planned(&everywhere), ["eu: Secret cass/key", "eu: MedusaConfiguration cass/s3"]);
}

#[test]
fn a_secret_that_is_never_copied_stops_nothing_but_itself_and_is_named() {
    for never in [Never::Registers, Never::Type("bootstrap.kubernetes.io/token".to_owned())] {
        let mut sources = sources(Some("us/backup"));
        sources.secrets.insert(ObjectKey::new("src", "key"), read(Some(never.clone())));
        sources.clusters.items.insert(ObjectKey::new("src", "demo"), cluster("cass"));
        let desired = desired(&sources, &places());
        assert_eq!(
            planned(&desired),
            ["eu: MedusaConfiguration cass/s3", "us: MedusaConfiguration backup/s3"],
            "{never:?}"
        );
        for problems in [
            &desired.problems[&ObjectKey::new("src", "s3")],
            &desired.cluster_problems[&ObjectKey::new("src", "demo")],
        ] {
            let [why] = problems.as_slice() else { panic!("{problems:?}") };
            assert!(why.reason == Reason::SecretRefused && why.message.contains("`key`"), "{why:?}");
        }
        assert_eq!(desired.ways_in.contains(&ObjectKey::new("src", "key")), never == Never::Registers);
    }
}

#[test]
fn a_secret_named_later_as_a_way_in_is_taken_back() {
    let mut sources = sources(Some("us/backup"));
    assert!(desired(&sources, &places()).ways_in.is_empty());
    sources.named.insert("eu".to_owned(), ObjectKey::new("src", "key"));
    let desired = desired(&sources, &places());
    assert_eq!(planned(&desired), ["us: MedusaConfiguration backup/s3"]);
    assert_eq!(desired.ways_in, BTreeSet::from([ObjectKey::new("src", "key")]));
}

#[test]
fn what_cannot_be_read_keeps_what_it_mentions_and_holds_up_nobody_else() {
    let mut sources = sources(None);
    let key = ObjectKey::new("src", "odd");
    let mentions = BTreeSet::from(["cql".to_owned()]);
    sources.clusters.unreadable.insert(key.clone(), "spec.x: no".to_owned());
    sources.clusters.malformed.insert(key, Arc::new(Malformed { mentions, ..Malformed::default() }));
    let desired = desired(&sources, &places());
    assert_eq!(desired.complete_for, places().listed);
    assert_eq!(desired.in_doubt, BTreeSet::from([ObjectKey::new("src", "cql")]));
}

#[test]
fn a_data_plane_that_is_unregistered_is_cleared_whatever_is_known_of_the_sources() {
    let leaving = Places { leaving: BTreeSet::from(["eu".to_owned()]), ..places() };
    let desired = desired(&SourceObjects::default(), &leaving);
    assert_eq!(desired.complete_for, BTreeSet::from(["eu".to_owned()]));
}

#[test]
fn nothing_is_copied_where_a_data_plane_is_not_worked_in() {
    let sources = sources(Some("eu/cass eu/other us/other"));
    let within = Arc::new(BTreeSet::from(["cass".to_owned()]));
    let places = Places { within: BTreeMap::from([("eu".to_owned(), within)]), ..places() };
    let desired = desired(&sources, &places);
    assert_eq!(
        planned(&desired),
        [
            "eu: Secret cass/key",
            "eu: MedusaConfiguration cass/s3",
            "us: Secret other/key",
            "us: MedusaConfiguration other/s3"
        ]
    );
    let problems = &desired.problems[&ObjectKey::new("src", "s3")];
    let named = |why: &&Why| why.reason == Reason::TargetRefused && why.message.contains("`spec.namespaces`");
    assert_eq!(problems.iter().filter(named).count(), 1, "{problems:?}");
}
