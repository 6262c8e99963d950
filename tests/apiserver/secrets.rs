//! Where Secrets go, and where never, whoever asks; what is shared with others; what one unreadable object holds up.

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{
    ResourceExt as _,
    api::{Patch, PatchParams},
};
use medusa_fleet::api::{fleet::DataPlane, medusa::MedusaConfiguration};
use serde_json::{Value, json};

use crate::support::{
    CASS, Cluster, ControlPlane, FLEET, Fleet, assert_unseen, condition, configuration, eventually, secret,
};

const LABEL: &str = "fleet.k8ssandra.io/control-plane";

fn annotate(targets: Option<&str>) -> Value {
    json!({"metadata": {"annotations": {"fleet.k8ssandra.io/targets": targets}}})
}

/// Waits until `Replicated` has this status and its reason or message says every one of `words`; returns its message.
async fn replicated(home: &Cluster, namespace: &str, name: &str, status: &str, words: &[&str]) -> String {
    eventually(format!("MedusaConfiguration {namespace}/{name}: Replicated={status} {words:?}"), async || {
        let source: MedusaConfiguration = home.get(namespace, name).await;
        let seen = condition(&source.status.unwrap_or_default().conditions, "Replicated");
        let said = format!("{} {}", seen.1, seen.2);
        let is_so = seen.0 == status && words.iter().all(|word| said.contains(word));
        if is_so { Ok(seen.2) } else { Err(format!("{seen:?}")) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_opens_a_cluster_is_never_copied_and_nothing_goes_where_a_controller_lives() {
    let fleet = Fleet::start(2).await;
    let (home, there) = (fleet.home(), fleet.dp(2));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    let mut token =
        secret(FLEET, "bootstrap-token-abcdef", &[("token-id", "abcdef"), ("token-secret", "canary-1")]);
    token["type"] = json!("bootstrap.kubernetes.io/token");
    home.create(token).await;
    home.create(secret(FLEET, "plain", &[("credentials", "canary-2")])).await;

    // The kubeconfig of one data plane for somebody in another, and what means something by its type.
    home.create(configuration("theft", "dp-1", Some("dp-2/cass"))).await;
    home.create(configuration("token", "bootstrap-token-abcdef", Some("dp-2/cass"))).await;
    // Namespaces of Kubernetes and of controllers, in every cluster.
    let places =
        ["dp-1/kube-system", "local/kube-public", "dp-2/kube-node-lease", "dp-2/medusa-fleet", "dp-2/cass"];
    home.create(configuration("places", "plain", Some(&places.join(" ")))).await;
    replicated(home, FLEET, "theft", "False", &["SecretRefused", "`dp-1`", "never copied"]).await;
    replicated(home, FLEET, "token", "False", &["SecretRefused", "bootstrap.kubernetes.io/token"]).await;
    let refused = ["`kube-system`", "`kube-public`", "`kube-node-lease`", "`medusa-fleet`", "TargetRefused"];
    replicated(home, FLEET, "places", "False", &refused).await;
    home.event("MedusaConfiguration", "theft", "SecretRefused").await;
    home.event("MedusaConfiguration", "places", "TargetRefused").await;
    // The one that is refused holds up nothing else.
    for name in ["theft", "token", "places"] {
        there.appears::<MedusaConfiguration>(CASS, name).await;
    }
    there.appears::<Secret>(CASS, "plain").await;

    // By a K8ssandraCluster; nothing has to be where it says.
    home.create(json!({
        "apiVersion": "k8ssandra.io/v1alpha1", "kind": "K8ssandraCluster",
        "metadata": {"name": "thief", "namespace": FLEET},
        "spec": {
            "cassandra": {"datacenters": [
                {"metadata": {"name": "dc1", "namespace": "kube-system"}, "k8sContext": "dp-2", "size": 1},
                {"metadata": {"name": "dc2", "namespace": CASS}, "k8sContext": "dp-1", "size": 1},
            ]},
            "medusa": {
                "cassandraUserSecretRef": {"name": "dp-2"}, "certificatesSecretRef": {"name": "plain"},
                "storageProperties": {"storageProvider": "s3", "bucketName": "b", "prefix": "thief",
                                      "storageSecretRef": {"name": "bootstrap-token-abcdef"}},
            },
        },
    }))
    .await;
    home.event("K8ssandraCluster", "thief", "TargetRefused").await;
    home.event("K8ssandraCluster", "thief", "SecretRefused").await;
    fleet.dp(1).appears::<Secret>(CASS, "plain").await;

    // What becomes a way in later is taken back where it is.
    let plane = json!({"apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "DataPlane",
        "metadata": {"name": "later", "namespace": FLEET}, "spec": {"kubeconfigSecretRef": {"name": "plain"}}});
    home.create(plane).await;
    there.disappears::<Secret>(CASS, "plain").await;
    fleet.dp(1).disappears::<Secret>(CASS, "plain").await;
    replicated(home, FLEET, "places", "False", &["DataPlane `later`"]).await;

    for cluster in fleet.clusters() {
        for namespace in ["kube-system", "kube-public", "kube-node-lease", FLEET, CASS] {
            for object in cluster.list::<Secret>(namespace).await {
                assert!(
                    !object.labels().contains_key(LABEL),
                    "{}: {namespace}/{}",
                    cluster.name,
                    object.name_any()
                );
            }
        }
    }
    controller.assert_running();
    assert_unseen(&fleet, &controller, &["canary-1", "canary-2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_somebody_else_put_there_is_shared_while_it_is_the_same() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut theirs = secret(CASS, "bucket", &[("credentials", "canary-same")]);
    theirs["metadata"]["labels"] = json!({"k8ssandra.io/replicated-by": "k8ssandracluster-controller"});
    let theirs = there.create(theirs).await;
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    home.create(secret(FLEET, "bucket", &[("credentials", "canary-same")])).await;
    home.create(configuration("shared", "bucket", Some("dp-1/cass"))).await;
    let message = replicated(home, FLEET, "shared", "True", &["Replicated", "shared with"]).await;
    assert!(
        message.contains("Secret cass/bucket in data plane `dp-1` is shared with k8ssandra-operator"),
        "{message}"
    );
    let now: Secret = there.get(CASS, "bucket").await;
    assert_eq!(now.resource_version(), theirs.resource_version(), "what is not ours was written to");

    // A rotation reaches the source first, and them later.
    home.patch::<Secret>(FLEET, "bucket", json!({"stringData": {"credentials": "canary-next"}})).await;
    let message = replicated(home, FLEET, "shared", "False", &["NameConflict", "`credentials`"]).await;
    assert!(message.contains("exists and is not ours") && !message.contains("delete"), "{message}");
    let theirs: Secret =
        there.patch(CASS, "bucket", json!({"stringData": {"credentials": "canary-next"}})).await;
    replicated(home, FLEET, "shared", "True", &["shared with k8ssandra-operator"]).await;

    // Nothing of it goes when we no longer want it.
    home.patch::<MedusaConfiguration>(FLEET, "shared", annotate(None)).await;
    there.disappears::<MedusaConfiguration>(CASS, "shared").await;
    replicated(home, FLEET, "shared", "True", &["NoTargets"]).await;
    let now: Secret = there.get(CASS, "bucket").await;
    assert_eq!((now.uid(), now.resource_version()), (theirs.uid(), theirs.resource_version()));

    // Before one is taken back it is looked at: what is no copy by its annotations any more is somebody's.
    home.create(secret(FLEET, "taken", &[("credentials", "canary-same")])).await;
    home.create(configuration("taken", "taken", Some("dp-1/cass"))).await;
    let label = there.appears::<Secret>(CASS, "taken").await.labels()[LABEL].clone();
    let annotation = |key: &str| format!("fleet.k8ssandra.io/{key}");
    let mut copy = secret(CASS, "left", &[("credentials", "canary-same")]);
    copy["metadata"]["labels"] = json!({LABEL: label});
    copy["metadata"]["annotations"] = json!({annotation("source-uid"): "u", annotation("content-hash"): "h"});
    let left = there.create(copy.clone()).await;
    copy["metadata"]["name"] = json!("right");
    copy["metadata"]["annotations"][annotation("source")] = json!("medusa-fleet/right");
    there.create(copy).await;
    there.disappears::<Secret>(CASS, "right").await;
    home.patch::<MedusaConfiguration>(FLEET, "taken", annotate(None)).await;
    there.disappears::<Secret>(CASS, "taken").await;
    let now: Secret = there.get(CASS, "left").await;
    assert_eq!((now.uid(), now.resource_version()), (left.uid(), left.resource_version()));
    controller.assert_running();
    assert_unseen(&fleet, &controller, &["canary-same", "canary-next"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_cannot_be_read_keeps_what_is_its_own_and_holds_up_nobody_else() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    for name in ["good", "odd"] {
        home.create(secret(FLEET, name, &[("credentials", name)])).await;
        home.create(configuration(name, name, Some("dp-1/cass"))).await;
        replicated(home, FLEET, name, "True", &["Replicated"]).await;
    }
    // A number of bytes is a size to Kubernetes; of a shared configuration nobody reads it.
    let odd = json!({"spec": {"storageProperties": {"podStorage": {"size": 10_737_418_240_u64}}}});
    patch_odd(home, "odd", &odd).await;
    let field = ["InvalidObject", "spec.storageProperties.podStorage.size"];
    odd_is(home, "odd", &field).await;
    home.event("MedusaConfiguration", "odd", "InvalidObject").await;
    // While it is remembered what it said, and after a restart.
    for _ in 0..2 {
        home.delete::<MedusaConfiguration>(FLEET, "good").await;
        there.disappears::<MedusaConfiguration>(CASS, "good").await;
        there.disappears::<Secret>(CASS, "good").await;
        there.get::<Secret>(CASS, "odd").await;
        there.get::<MedusaConfiguration>(CASS, "odd").await;
        controller.restart();
        // Made, deleted and made again in one moment: the second one is told how it is, too.
        home.create(configuration("good", "good", Some("dp-1/cass"))).await;
        replicated(home, FLEET, "good", "True", &["Replicated"]).await;
        home.delete::<MedusaConfiguration>(FLEET, "good").await;
        home.create(configuration("good", "good", Some("dp-1/cass"))).await;
        replicated(home, FLEET, "good", "True", &["Replicated"]).await;
        odd_is(home, "odd", &field).await;
    }
    // A data plane is unregistered all the same.
    home.delete::<Secret>(FLEET, "dp-1").await;
    home.disappears::<DataPlane>(FLEET, "dp-1").await;
    for name in ["good", "odd"] {
        assert!(there.find::<Secret>(CASS, name).await.is_none(), "{name} was left behind");
    }
    controller.assert_running();
}

/// Merges `patch` into a MedusaConfiguration that cannot be read afterwards.
async fn patch_odd(home: &Cluster, name: &str, patch: &Value) {
    let api = home.dynamic::<MedusaConfiguration>(FLEET);
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("patch");
}

/// Waits until both conditions of a MedusaConfiguration that cannot be read say so.
async fn odd_is(home: &Cluster, name: &str, words: &[&str]) {
    let api = home.dynamic::<MedusaConfiguration>(FLEET);
    eventually(format!("MedusaConfiguration {name} says {words:?}"), async || {
        let object = api.get(name).await.expect("get");
        let conditions = object.data.pointer("/status/conditions").cloned().unwrap_or_default();
        let conditions: Vec<Condition> = serde_json::from_value(conditions).unwrap();
        let says = |type_: &str| {
            let (status, reason, message) = condition(&conditions, type_);
            status == "False" && words.iter().all(|word| format!("{reason} {message}").contains(word))
        };
        if says("Ready") && says("Replicated") { Ok(()) } else { Err(format!("{conditions:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_named_namespaces_are_followed_and_what_came_from_others_is_taken_back() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    home.namespace("tenant").await.unwrap();
    let mut first = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    for (namespace, name) in [(FLEET, "ours"), ("tenant", "theirs")] {
        home.create(secret(namespace, name, &[("credentials", name)])).await;
        let mut source = configuration(name, name, Some("dp-1/cass"));
        source["metadata"]["namespace"] = json!(namespace);
        home.create(source).await;
        replicated(home, namespace, name, "True", &["Replicated"]).await;
    }
    first.kill9();
    let mut second = ControlPlane::spawn_with(&fleet, &["--source-namespaces", FLEET]);
    there.disappears::<Secret>(CASS, "theirs").await;
    there.disappears::<MedusaConfiguration>(CASS, "theirs").await;
    home.patch::<Secret>(FLEET, "ours", json!({"stringData": {"credentials": "new"}})).await;
    eventually("what is followed is kept current", async || {
        let copy: Secret = there.get(CASS, "ours").await;
        let held = copy.data.unwrap_or_default().remove("credentials").map(|value| value.0);
        if held.as_deref() == Some(b"new") { Ok(()) } else { Err("it is old") }
    })
    .await;
    second.assert_running();
}
