//! Copies of configurations and their Secrets.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::{Resource as _, ResourceExt as _};
use medusa_fleet::api::{
    k8ssandra::K8ssandraCluster,
    medusa::{MedusaConfiguration, MedusaConfigurationSpec},
};
use serde_json::{Value, json};

use crate::support::{
    CASS, Cluster, ControlPlane, FLEET, Fleet, assert_unseen, condition, configuration, datacenter,
    eventually, secret,
};

const LABEL: &str = "fleet.k8ssandra.io/control-plane";

/// Waits until the copy in `cluster` holds exactly the source's data and carries our label; returns it.
async fn expect_secret(cluster: &Cluster, namespace: &str, name: &str, data: &[(&str, &str)]) -> Secret {
    let wanted: BTreeMap<String, Vec<u8>> =
        data.iter().map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec())).collect();
    eventually(format!("Secret {namespace}/{name} in {} is as it should be", cluster.name), async || {
        let copy = cluster.find::<Secret>(namespace, name).await.ok_or("it is not there")?;
        let held: BTreeMap<String, Vec<u8>> =
            copy.data.clone().unwrap_or_default().into_iter().map(|(k, v)| (k, v.0)).collect();
        match (held == wanted, copy.labels().contains_key(LABEL)) {
            (true, true) => Ok(copy),
            (false, _) => Err("its data differs"),
            (true, false) => Err("its label is gone"),
        }
    })
    .await
}

/// Waits until the copy of a MedusaConfiguration holds the source's spec; returns it.
async fn expect_configuration(
    cluster: &Cluster,
    name: &str,
    spec: &MedusaConfigurationSpec,
) -> MedusaConfiguration {
    eventually(format!("MedusaConfiguration {name} in {} is as it should be", cluster.name), async || {
        let copy = cluster.find::<MedusaConfiguration>(CASS, name).await.ok_or("it is not there")?;
        if copy.spec == *spec { Ok(copy) } else { Err("its spec differs") }
    })
    .await
}

fn annotate(targets: Option<&str>) -> Value {
    json!({"metadata": {"annotations": {"fleet.k8ssandra.io/targets": targets}}})
}

fn sum(writes: &BTreeMap<String, u64>) -> u64 {
    writes.values().sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_follow_their_source_and_their_targets_with_one_write_each() {
    let fleet = Fleet::start(2).await;
    let home = fleet.home();
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    for number in [1, 2] {
        fleet.dp(number).create(datacenter(&format!("dc{number}"), "shop", 1)).await;
    }
    let mut before = Vec::new();
    for number in [1, 2] {
        let cluster = fleet.dp(number);
        before.push((
            sum(&cluster.writes("secrets").await),
            sum(&cluster.writes("medusaconfigurations").await),
        ));
    }

    // Everywhere.
    home.create(secret(FLEET, "bucket", &[("credentials", "canary-first"), ("extra", "1")])).await;
    let source = home.create(configuration("shared", "bucket", Some("*"))).await;
    let spec = home.get::<MedusaConfiguration>(FLEET, "shared").await.spec;
    let secret_uid = home.get::<Secret>(FLEET, "bucket").await.uid().unwrap();
    let first = [("credentials", "canary-first"), ("extra", "1")];
    for number in [1, 2] {
        let copy = expect_secret(fleet.dp(number), CASS, "bucket", &first).await;
        let annotations = copy.annotations();
        assert_eq!(annotations["fleet.k8ssandra.io/source"], "medusa-fleet/bucket");
        assert_eq!(annotations["fleet.k8ssandra.io/source-uid"], secret_uid);
        assert_eq!(annotations["fleet.k8ssandra.io/content-hash"].len(), 64);
        assert!(copy.owner_references().is_empty(), "an owner in another cluster");
        let managers: Vec<_> = copy.managed_fields().iter().filter_map(|m| m.manager.clone()).collect();
        assert_eq!(managers, ["medusa-fleet/control-plane"]);
        let copy = expect_configuration(fleet.dp(number), "shared", &spec).await;
        assert_eq!(copy.annotations()["fleet.k8ssandra.io/source-uid"], source.uid().unwrap());
        assert!(!copy.annotations().contains_key("fleet.k8ssandra.io/targets"), "a copy asks for no copies");
    }
    fleet.expect_replicated("shared", "True", "Replicated").await;
    let available = condition(
        &home.get::<MedusaConfiguration>(FLEET, "shared").await.status.unwrap().conditions,
        "SecretAvailable",
    );
    assert_eq!(available.0, "True", "{available:?}");

    // Rotated.
    let rotate = json!({"stringData": {"credentials": "canary-second"}, "data": {"extra": null}});
    home.patch::<Secret>(FLEET, "bucket", rotate).await;
    let second = [("credentials", "canary-second")];
    for number in [1, 2] {
        expect_secret(fleet.dp(number), CASS, "bucket", &second).await;
    }
    home.patch::<MedusaConfiguration>(
        FLEET,
        "shared",
        json!({"spec": {"storageProperties": {"bucketName": "other"}}}),
    )
    .await;
    let spec = home.get::<MedusaConfiguration>(FLEET, "shared").await.spec;
    for number in [1, 2] {
        expect_configuration(fleet.dp(number), "shared", &spec).await;
    }
    fleet.expect_replicated("shared", "True", "Replicated").await;
    for (number, (secrets, configurations)) in (1..).zip(before) {
        let cluster = fleet.dp(number);
        let writes = cluster.writes("secrets").await;
        assert_eq!(sum(&writes) - secrets, 2, "one write to make and one to rotate: {writes:?}");
        let writes = cluster.writes("medusaconfigurations").await;
        assert_eq!(sum(&writes) - configurations, 2, "one write to make and one to change: {writes:?}");
    }

    drift(&fleet, &second, &spec).await;

    // A list of targets, with mistakes in it.
    let wrong = annotate(Some("dp-2/cass, nowhere/cass dp-1/cass/x junk"));
    home.patch::<MedusaConfiguration>(FLEET, "shared", wrong).await;
    eventually("each mistake is named", async || {
        let source: MedusaConfiguration = home.get(FLEET, "shared").await;
        let seen = condition(&source.status.unwrap_or_default().conditions, "Replicated");
        let named = ["`nowhere`", "`dp-1/cass/x`", "`junk`"].iter().all(|word| seen.2.contains(word));
        if seen.0 == "False" && named { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    home.event("MedusaConfiguration", "shared", "UnknownDataPlane").await;
    home.event("MedusaConfiguration", "shared", "InvalidTargets").await;
    fleet.dp(1).disappears::<Secret>(CASS, "bucket").await;
    fleet.dp(1).disappears::<MedusaConfiguration>(CASS, "shared").await;
    expect_secret(fleet.dp(2), CASS, "bucket", &second).await;

    // No targets; one again; its Secret goes and comes back; the source goes.
    home.patch::<MedusaConfiguration>(FLEET, "shared", annotate(None)).await;
    fleet.dp(2).disappears::<Secret>(CASS, "bucket").await;
    fleet.expect_replicated("shared", "True", "NoTargets").await;
    home.patch::<MedusaConfiguration>(FLEET, "shared", annotate(Some("dp-2/cass"))).await;
    expect_secret(fleet.dp(2), CASS, "bucket", &second).await;
    home.delete::<Secret>(FLEET, "bucket").await;
    fleet.dp(2).disappears::<Secret>(CASS, "bucket").await;
    home.create(secret(FLEET, "bucket", &second)).await;
    expect_secret(fleet.dp(2), CASS, "bucket", &second).await;
    expect_configuration(fleet.dp(2), "shared", &spec).await;
    home.delete::<MedusaConfiguration>(FLEET, "shared").await;
    fleet.dp(2).disappears::<Secret>(CASS, "bucket").await;
    fleet.dp(2).disappears::<MedusaConfiguration>(CASS, "shared").await;
    controller.assert_running();
    assert_unseen(&fleet, &controller, &["canary-first", "canary-second", "canary-third"]).await;
}

/// Changes the copies in dp-1 in every way and waits until each is undone. The source is rotated before each change: who
/// takes back the same content again and again meets growing pauses. In the end it holds `data` again.
async fn drift(fleet: &Fleet, data: &[(&str, &str)], spec: &MedusaConfigurationSpec) {
    let cluster = fleet.dp(1);
    let mut contents = [[("credentials", "canary-third")].as_slice(), data].into_iter().cycle();
    let mut rotate = async || {
        let content = contents.next().unwrap();
        let source: BTreeMap<_, _> = content.iter().copied().collect();
        fleet.home().patch::<Secret>(FLEET, "bucket", json!({"stringData": source})).await;
        expect_secret(cluster, CASS, "bucket", content).await;
        content
    };
    let label = json!({"metadata": {"labels": {LABEL: null}}});
    for change in [
        json!({"stringData": {"credentials": "changed by hand"}}),
        json!({"stringData": {"added": "by hand"}}),
        json!({"data": {"credentials": null}}),
        label.clone(),
        json!({"metadata": {"labels": {LABEL: null}}, "stringData": {"added": "by hand"}}),
    ] {
        let content = rotate().await;
        let changed: Secret = cluster.patch(CASS, "bucket", change.clone()).await;
        let mended = expect_secret(cluster, CASS, "bucket", content).await;
        assert_eq!(changed.uid(), mended.uid(), "it is mended, not made anew: {change}");
    }
    rotate().await;
    let old = cluster.get::<Secret>(CASS, "bucket").await;
    cluster.delete::<Secret>(CASS, "bucket").await;
    let new = expect_secret(cluster, CASS, "bucket", data).await;
    assert_ne!(old.uid(), new.uid());
    let change = json!({"spec": {"storageProperties": {"bucketName": "changed-by-hand", "region": "added"}}});
    cluster.patch::<MedusaConfiguration>(CASS, "shared", change).await;
    eventually("the changed field is mended", async || {
        let copy: MedusaConfiguration = cluster.get(CASS, "shared").await;
        let bucket = copy.spec.storage_properties.and_then(|s| s.bucket_name);
        if bucket.as_deref() == Some("other") { Ok(()) } else { Err(format!("{bucket:?}")) }
    })
    .await;
    expect_configuration(cluster, "shared", spec).await;
    cluster.delete::<MedusaConfiguration>(CASS, "shared").await;
    expect_configuration(cluster, "shared", spec).await;
    expect_secret(fleet.dp(2), CASS, "bucket", data).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ours_is_left_alone_and_obstacles_heal_by_themselves() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    let foreign = there.create(secret(CASS, "bucket", &[("credentials", "somebody else's")])).await;
    home.create(secret(FLEET, "bucket", &[("credentials", "ours")])).await;
    home.create(configuration("shared", "bucket", Some("dp-1/cass dp-1/later"))).await;

    eventually("both obstacles are named", async || {
        let source: MedusaConfiguration = home.get(FLEET, "shared").await;
        let seen = condition(&source.status.unwrap_or_default().conditions, "Replicated");
        let named = ["Secret cass/bucket exists and is not ours", "namespace `later` does not exist"];
        if named.iter().all(|word| seen.2.contains(word)) { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    home.event("MedusaConfiguration", "shared", "NameConflict").await;
    home.event("MedusaConfiguration", "shared", "NamespaceMissing").await;
    // The one obstacle holds up nothing else.
    there.appears::<MedusaConfiguration>(CASS, "shared").await;
    there.namespace("later").await.unwrap();
    expect_secret(there, "later", "bucket", &[("credentials", "ours")]).await;
    fleet.expect_replicated("shared", "False", "NameConflict").await;
    let now: Secret = there.get(CASS, "bucket").await;
    assert_eq!(foreign.resource_version(), now.resource_version(), "a foreign Secret was written to");

    there.delete::<Secret>(CASS, "bucket").await;
    expect_secret(there, CASS, "bucket", &[("credentials", "ours")]).await;
    fleet.expect_replicated("shared", "True", "Replicated").await;

    // An immutable copy cannot be changed in place.
    there.patch::<Secret>(CASS, "bucket", json!({"immutable": true})).await;
    home.patch::<Secret>(FLEET, "bucket", json!({"stringData": {"credentials": "new"}})).await;
    expect_secret(there, "later", "bucket", &[("credentials", "new")]).await;
    fleet.expect_replicated("shared", "False", "Immutable").await;
    there.delete::<Secret>(CASS, "bucket").await;
    expect_secret(there, CASS, "bucket", &[("credentials", "new")]).await;
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_k8ssandra_cluster_gets_everything_it_refers_to_where_its_datacenters_are() {
    let fleet = Fleet::start(2).await;
    let home = fleet.home();
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    fleet.dp(2).namespace("shop").await.unwrap();
    for name in ["bucket", "own-bucket", "cql", "client-tls", "server-tls", "unrelated"] {
        home.create(secret(FLEET, name, &[("credentials", name)])).await;
    }
    home.create(configuration("shared", "bucket", None)).await;
    let dc = |name: &str, context: Option<&str>, namespace: &str| {
        let mut dc = json!({"metadata": {"name": name, "namespace": namespace}, "size": 3});
        if let Some(context) = context {
            dc["k8sContext"] = json!(context);
        }
        dc
    };
    home.create(json!({
        "apiVersion": "k8ssandra.io/v1alpha1", "kind": "K8ssandraCluster",
        "metadata": {"name": "shop", "namespace": FLEET},
        "spec": {
            "cassandra": {"datacenters": [
                dc("dc1", Some("dp-1"), CASS), dc("dc2", Some("dp-2"), "shop"), dc("dc3", None, CASS),
                dc("dc4", Some("nowhere"), CASS),
            ]},
            "medusa": {
                "medusaConfigurationRef": {"name": "shared"},
                "storageProperties": {"prefix": "shop", "storageSecretRef": {"name": "own-bucket"}},
                "cassandraUserSecretRef": {"name": "cql"},
                "serviceProperties": {"encryption":
                    {"clientSecretName": "client-tls", "serverSecretName": "server-tls"}},
            },
        },
    }))
    .await;
    let copied = ["bucket", "own-bucket", "cql", "client-tls", "server-tls"];
    let places = [(fleet.dp(1), CASS), (fleet.dp(2), "shop"), (home, CASS)];
    for (cluster, namespace) in places {
        for name in copied {
            expect_secret(cluster, namespace, name, &[("credentials", name)]).await;
        }
        cluster.appears::<MedusaConfiguration>(namespace, "shared").await;
        assert!(cluster.find::<Secret>(namespace, "unrelated").await.is_none());
    }
    assert!(fleet.dp(2).find::<Secret>(CASS, "bucket").await.is_none(), "no datacenter is there");
    let message = fleet.expect_replicated("shared", "False", "UnknownDataPlane").await;
    assert!(message.contains("`nowhere`"), "{message}");
    for name in copied {
        let source: Secret = home.get(FLEET, name).await;
        assert!(source.meta().labels.is_none(), "a source is not a copy");
    }

    // A datacenter moves out, a reference goes, the cluster goes.
    let left = json!({"spec": {
        "cassandra": {"datacenters": [dc("dc1", Some("dp-1"), CASS)]},
        "medusa": {"serviceProperties": null},
    }});
    home.patch::<K8ssandraCluster>(FLEET, "shop", left).await;
    for name in copied {
        fleet.dp(2).disappears::<Secret>("shop", name).await;
        home.disappears::<Secret>(CASS, name).await;
    }
    fleet.dp(1).disappears::<Secret>(CASS, "server-tls").await;
    expect_secret(fleet.dp(1), CASS, "cql", &[("credentials", "cql")]).await;
    fleet.expect_replicated("shared", "True", "Replicated").await;
    home.delete::<K8ssandraCluster>(FLEET, "shop").await;
    fleet.dp(1).disappears::<Secret>(CASS, "cql").await;
    fleet.dp(1).disappears::<MedusaConfiguration>(CASS, "shared").await;
    home.get::<MedusaConfiguration>(FLEET, "shared").await;
    controller.assert_running();
}
