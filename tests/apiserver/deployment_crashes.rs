//! The roll-out of Medusa goes on over killed controllers and silent data planes, and never restarts two datacenters.

use std::collections::BTreeSet;

use kube::ResourceExt;
use medusa_fleet::api::{
    cassandra::CassandraDatacenter, fleet::DeploymentState, k8ssandra::K8ssandraCluster,
    medusa::MedusaBackupSchedule,
};
use serde_json::json;

use crate::{
    deployment_steps::{bare, bucket, container, expect_state, k8ssandra, medusa_in, raw, settle},
    support::{CASS, ControlPlane, FLEET, Fleet, eventually},
};

/// Datacenters cass-operator has not finished with: the number of those that restart right now.
async fn restless(fleet: &Fleet, all: &[(usize, &str)]) -> usize {
    let mut count = 0;
    for (number, name) in all {
        let datacenter: CassandraDatacenter = fleet.dp(*number).get(CASS, name).await;
        let observed = datacenter.status.as_ref().and_then(|status| status.observed_generation);
        count += usize::from(observed < datacenter.metadata.generation);
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn a_roll_out_survives_kill_9_between_any_two_writes() {
    let fleet = Fleet::start(2).await;
    let home = fleet.home();
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    let all = [(1, "dc1"), (2, "dc2")];
    for (number, dc) in all {
        fleet.dp(number).create(bare(dc, "shop")).await;
        settle(fleet.dp(number), dc).await;
    }
    let before = [raw(fleet.dp(1), "dc1").await, raw(fleet.dp(2), "dc2").await];
    home.create(bucket()).await;
    controller.kill9();
    home.create(k8ssandra("shop", &[("dc1", "dp-1"), ("dc2", "dp-2")], json!({}))).await;

    // Killed as soon as each thing it writes is there.
    controller.start();
    home.appears::<k8s_openapi::api::core::v1::Secret>(FLEET, "shop-medusa").await;
    controller.restart();
    fleet.dp(1).appears::<k8s_openapi::api::core::v1::ConfigMap>(CASS, "shop-medusa").await;
    controller.restart();
    eventually("the user is in dc1", async || {
        let users = raw(fleet.dp(1), "dc1").await["spec"]["users"].clone();
        if users.as_array().is_some_and(|u| u.len() == 2) { Ok(()) } else { Err(users.to_string()) }
    })
    .await;
    controller.restart();
    medusa_in(fleet.dp(1), "dc1").await;
    controller.restart();
    let first: MedusaBackupSchedule = fleet.dp(1).appears(CASS, "shop-dc1-medusa-purge").await;
    controller.restart();
    expect_state(&fleet, "shop", "dc2", DeploymentState::Waiting, None).await;
    assert!(container(&raw(fleet.dp(2), "dc2").await, "containers", "medusa").is_none());
    assert!(restless(&fleet, &all).await <= 1);
    controller.kill9();
    settle(fleet.dp(1), "dc1").await;
    controller.start();
    medusa_in(fleet.dp(2), "dc2").await;
    controller.restart();
    settle(fleet.dp(2), "dc2").await;
    for (_, dc) in all {
        expect_state(&fleet, "shop", dc, DeploymentState::Deployed, None).await;
    }
    for (number, dc) in all {
        let datacenter = raw(fleet.dp(number), dc).await;
        assert_eq!(datacenter["spec"]["users"].as_array().unwrap().len(), 2, "the user is there once");
    }
    let now: MedusaBackupSchedule = fleet.dp(1).get(CASS, "shop-dc1-medusa-purge").await;
    assert_eq!((now.uid(), now.resource_version()), (first.uid(), first.resource_version()), "written once");

    // The same on the way out.
    home.delete::<K8ssandraCluster>(FLEET, "shop").await;
    controller.restart();
    for (at, (number, dc)) in all.into_iter().enumerate() {
        eventually(format!("{dc} is as it was"), async || {
            let now = raw(fleet.dp(number), dc).await;
            if now["spec"] == before[at]["spec"] { Ok(()) } else { Err(format!("{:#}", now["spec"])) }
        })
        .await;
        controller.restart();
        settle(fleet.dp(number), dc).await;
    }
    for (number, _) in all {
        fleet.dp(number).disappears::<k8s_openapi::api::core::v1::ConfigMap>(CASS, "shop-medusa").await;
        assert!(fleet.dp(number).list::<MedusaBackupSchedule>(CASS).await.is_empty());
    }
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_data_plane_holds_restarts_up_and_nothing_else() {
    let fleet = Fleet::start(2).await;
    let home = fleet.home();
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    for (number, dc) in [(1, "dc1"), (2, "dc2"), (2, "alone")] {
        fleet.dp(number).create(bare(dc, if dc == "alone" { "alone" } else { "shop" })).await;
        settle(fleet.dp(number), dc).await;
    }
    home.create(bucket()).await;
    home.create(k8ssandra("shop", &[("dc1", "dp-1"), ("dc2", "dp-2")], json!({}))).await;
    medusa_in(fleet.dp(1), "dc1").await;
    settle(fleet.dp(1), "dc1").await;
    medusa_in(fleet.dp(2), "dc2").await;
    settle(fleet.dp(2), "dc2").await;
    for dc in ["dc1", "dc2"] {
        expect_state(&fleet, "shop", dc, DeploymentState::Deployed, None).await;
    }

    fleet.pause("dp-1");
    fleet.expect_data_plane("dp-1", "Ready", "False", "TimedOut").await;
    home.create(k8ssandra("alone", &[("alone", "dp-2")], json!({}))).await;
    medusa_in(fleet.dp(2), "alone").await;
    let port = json!({"spec": {"medusa": {"serviceProperties": {"grpcPort": 55055}}}});
    home.patch::<K8ssandraCluster>(FLEET, "shop", port).await;
    expect_state(&fleet, "shop", "dc1", DeploymentState::Unknown, Some("DataPlaneUnreachable")).await;
    let held =
        expect_state(&fleet, "shop", "dc2", DeploymentState::Waiting, Some("DataPlaneUnreachable")).await;
    assert!(held.medusa.message.unwrap().contains("dc1"));
    fleet.resume("dp-1");
    let listens = async |number: usize, dc: &str| {
        eventually(format!("{dc} listens elsewhere"), async || {
            let datacenter = raw(fleet.dp(number), dc).await;
            let port =
                container(&datacenter, "containers", "medusa").unwrap()["ports"][0]["containerPort"].clone();
            if port == 55055 { Ok(()) } else { Err(port.to_string()) }
        })
        .await;
    };
    listens(1, "dc1").await;
    settle(fleet.dp(1), "dc1").await;
    listens(2, "dc2").await;
    let of: BTreeSet<String> =
        fleet.dp(1).list::<CassandraDatacenter>(CASS).await.iter().map(ResourceExt::name_any).collect();
    assert_eq!(of, BTreeSet::from(["dc1".to_owned()]));
    controller.assert_running();
}
