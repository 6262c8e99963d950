//! Medusa is taken out of datacenters of which others declare a part, or that refer to what is deleted with it: nothing that
//! is deleted is left referred to, and pods restart once.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{ResourceExt as _, api::PostParams};
use medusa_fleet::api::{
    cassandra::CassandraDatacenter, fleet::DeploymentState, k8ssandra::K8ssandraCluster,
    medusa::MedusaConfiguration,
};
use serde_json::{Value, json};

use crate::{
    deployment_steps::{
        BUCKET, bare, bucket, edit, expect_condition, expect_state, k8ssandra, medusa_in, names, raw, settle,
    },
    support::{CASS, Cluster, ControlPlane, FLEET, Fleet, configuration, eventually, secret},
};

/// Annotation that says for whom Medusa is deployed in a datacenter.
const MEDUSA_FOR: &str = "fleet.k8ssandra.io/medusa-for";

/// One data plane with Medusa in `dc1`, and what keeps it there.
async fn deployed(fleet: &Fleet) -> ControlPlane {
    let controller = ControlPlane::spawn(fleet);
    fleet.register_all().await;
    let there = fleet.dp(1);
    there.create(bare("dc1", "shop")).await;
    settle(there, "dc1").await;
    fleet.home().create(bucket()).await;
    fleet.home().create(k8ssandra("shop", &[("dc1", "dp-1")], json!({}))).await;
    medusa_in(there, "dc1").await;
    settle(there, "dc1").await;
    expect_state(fleet, "shop", "dc1", DeploymentState::Deployed, None).await;
    controller
}

/// Nobody wants Medusa any more.
async fn take_out(fleet: &Fleet) {
    fleet.home().patch::<K8ssandraCluster>(FLEET, "shop", json!({"spec": {"medusa": null}})).await;
}

/// Kills the controller and waits until another process of it is at work.
async fn start_again(controller: &mut ControlPlane) {
    let since = controller.log().len();
    controller.restart();
    controller.ready(since).await;
}

/// What pods of `dc1` mount is there.
async fn assert_all_there(there: &Cluster) {
    there.get::<ConfigMap>(CASS, "shop-medusa").await;
    there.get::<Secret>(CASS, "shop-medusa").await;
    there.get::<Secret>(CASS, BUCKET).await;
}

/// Waits until the containers of `dc1` are these, and cass-operator has finished with them.
async fn expect_containers(there: &Cluster, wanted: &[&str]) {
    eventually(format!("the containers of dc1 are {wanted:?}"), async || {
        let found = names(&raw(there, "dc1").await, "containers");
        if found == wanted { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    settle(there, "dc1").await;
}

/// Waits until everything is gone that was put beside the datacenter.
async fn expect_nothing_left(there: &Cluster) {
    there.disappears::<ConfigMap>(CASS, "shop-medusa").await;
    there.disappears::<Secret>(CASS, "shop-medusa").await;
    there.disappears::<Secret>(CASS, BUCKET).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_k8ssandra_operator_left_goes_with_medusa_and_with_one_restart() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = deployed(&fleet).await;

    // The datacenter as k8ssandra-operator leaves it when its marks are taken off: with the same Medusa in it, which is its own.
    let medusa = raw(there, "dc1").await["spec"]["podTemplateSpec"]["spec"].clone();
    controller.kill9();
    there.delete::<CassandraDatacenter>(CASS, "dc1").await;
    there.disappears::<CassandraDatacenter>(CASS, "dc1").await;
    let mut left = bare("dc1", "shop");
    left["spec"]["podTemplateSpec"]["spec"] = medusa;
    let manager = PostParams { field_manager: Some("manager".to_owned()), ..PostParams::default() };
    let left = serde_json::from_value(left).unwrap();
    there.dynamic::<CassandraDatacenter>(CASS).create(&manager, &left).await.unwrap();
    settle(there, "dc1").await;
    controller.start();
    eventually("Medusa in dc1 is taken over", async || {
        let found: CassandraDatacenter = there.get(CASS, "dc1").await;
        if found.annotations().contains_key(MEDUSA_FOR) { Ok(()) } else { Err("it is not") }
    })
    .await;
    settle(there, "dc1").await;
    expect_state(&fleet, "shop", "dc1", DeploymentState::Deployed, None).await;
    let users = raw(there, "dc1").await["spec"]["users"].clone();
    assert_eq!(users.as_array().map(Vec::len), Some(2), "{users}");
    let before = there.get::<CassandraDatacenter>(CASS, "dc1").await.metadata.generation.unwrap();

    take_out(&fleet).await;
    expect_containers(there, &["cassandra", "sidecar"]).await;
    expect_nothing_left(there).await;
    let now = raw(there, "dc1").await;
    assert_eq!(names(&now, "initContainers"), ["first", "server-config-init"]);
    assert_eq!(names(&now, "volumes"), ["mine"]);
    assert_eq!(now["metadata"]["annotations"], json!({"mine": "yes"}));
    assert_eq!(now["metadata"]["generation"], before + 2, "once for the users, and once for the pods");
    let note = home.event("K8ssandraCluster", "shop", "Removing").await;
    assert!(note.contains(r#"containers[name="medusa"]"#), "{note}");
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn while_somebody_applies_a_part_of_medusa_all_of_it_stays_and_runs() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = deployed(&fleet).await;
    let memory = json!([{"name": "medusa", "resources": {"limits": {"memory": "9Gi"}}}]);
    edit(there, "dc1", json!({"podTemplateSpec": {"spec": {"containers": memory}}})).await;
    settle(there, "dc1").await;
    expect_state(&fleet, "shop", "dc1", DeploymentState::Deployed, Some("FieldsKept")).await;
    let before = raw(there, "dc1").await;

    take_out(&fleet).await;
    for _ in 0..2 {
        let held = expect_state(&fleet, "shop", "dc1", DeploymentState::Refused, Some("StillInUse")).await;
        let message = held.medusa.message.unwrap();
        for words in [r#"containers[name="medusa"]` (declared by `somebody`)"#, "goes on running"] {
            assert!(message.contains(words), "{message}");
        }
        let (reason, _) = expect_condition(&fleet, "shop", "MedusaDeployed", "False").await;
        assert_eq!(reason, "StillInUse");
        // A start of ours is no reason to go on, nor to forget it.
        start_again(&mut controller).await;
    }
    home.event("K8ssandraCluster", "shop", "StillInUse").await;
    assert_eq!(raw(there, "dc1").await["spec"], before["spec"], "all or nothing");
    assert_all_there(there).await;

    edit(there, "dc1", json!({})).await;
    expect_containers(there, &["cassandra", "sidecar"]).await;
    expect_nothing_left(there).await;
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_datacenter_refers_to_is_not_deleted_and_who_refers_to_it_is_named() {
    let fleet = Fleet::start(1).await;
    let there = fleet.dp(1);
    let mut controller = deployed(&fleet).await;
    let password = json!({"secretKeyRef": {"name": "shop-medusa", "key": "password"}});
    let reader =
        json!({"name": "reader", "image": "r", "env": [{"name": "PASSWORD", "valueFrom": password}]});
    let ini = json!({"name": "ini", "configMap": {"name": "shop-medusa"}});
    let pods =
        |volumes: Value| json!({"podTemplateSpec": {"spec": {"containers": [reader], "volumes": volumes}}});
    edit(there, "dc1", pods(json!([ini]))).await;
    settle(there, "dc1").await;

    take_out(&fleet).await;
    expect_containers(there, &["cassandra", "sidecar", "reader"]).await;
    for _ in 0..2 {
        let held = expect_state(&fleet, "shop", "dc1", DeploymentState::Refused, Some("StillInUse")).await;
        let message = held.medusa.message.unwrap();
        let field =
            r#".env[name="PASSWORD"].valueFrom.secretKeyRef` to Secret `shop-medusa` (set by `somebody`)"#;
        for words in
            [field, r#".volumes[name="ini"].configMap` to ConfigMap `shop-medusa` (set by `somebody`)"#]
        {
            assert!(message.contains(words), "{message}");
        }
        assert_all_there(there).await;
        start_again(&mut controller).await;
    }

    // A Secret alone keeps everything as well.
    edit(there, "dc1", pods(json!([]))).await;
    settle(there, "dc1").await;
    eventually("only the Secret is still named", async || {
        let held = expect_state(&fleet, "shop", "dc1", DeploymentState::Refused, Some("StillInUse")).await;
        let message = held.medusa.message.unwrap();
        if message.contains("ConfigMap `shop-medusa`,") { Err(message) } else { Ok(()) }
    })
    .await;
    assert_all_there(there).await;
    edit(there, "dc1", json!({})).await;
    expect_containers(there, &["cassandra", "sidecar"]).await;
    expect_nothing_left(there).await;
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_copied_by_annotation_stays_while_a_datacenter_beside_it_refers_to_it() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    home.create(secret(FLEET, BUCKET, &[("credentials", "x")])).await;
    home.create(configuration("shared", BUCKET, Some("dp-1/cass"))).await;
    let copy: Secret = there.appears(CASS, BUCKET).await;
    let mut reading = bare("dc1", "shop");
    let key = json!({"secretKeyRef": {"name": BUCKET, "key": "credentials"}});
    let reader = json!({"name": "reader", "image": "r", "env": [{"name": "KEY", "valueFrom": key}]});
    reading["spec"]["podTemplateSpec"]["spec"]["containers"] = json!([reader]);
    there.create(reading).await;

    // Nobody wants the copy any more, but the pods would not start without it.
    home.delete::<MedusaConfiguration>(FLEET, "shared").await;
    there.disappears::<MedusaConfiguration>(CASS, "shared").await;
    let note = home.event("DataPlane", "dp-1", "StillInUse").await;
    for words in
        ["Secret cass/", "CassandraDatacenter cass/dc1", "secretKeyRef", "fleet.k8ssandra.io/control-plane"]
    {
        assert!(note.contains(words), "{note}");
    }
    assert_eq!(there.get::<Secret>(CASS, BUCKET).await.uid(), copy.uid());
    there.delete::<CassandraDatacenter>(CASS, "dc1").await;
    // It is looked at again after minutes, or by the next one that leads.
    controller.restart();
    there.disappears::<Secret>(CASS, BUCKET).await;
    controller.assert_running();
}
