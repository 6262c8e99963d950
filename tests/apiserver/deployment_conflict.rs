//! Medusa that somebody takes out of a datacenter again each time it was put in, as GitOps with self-heal does.

use kube::{
    Api,
    api::{DynamicObject, PostParams},
};
use medusa_fleet::api::{
    cassandra::CassandraDatacenter,
    fleet::{DeploymentState, FleetCluster},
    k8ssandra::K8ssandraCluster,
};
use serde_json::json;

use crate::{
    deployment_steps::{
        bare, bucket, container, expect_condition, expect_state, k8ssandra, medusa_in, raw, settle,
    },
    support::{CASS, Cluster, ControlPlane, FLEET, Fleet, condition, eventually},
};

/// Datacenters, and how Argo CD writes them.
fn argo(cluster: &Cluster) -> (Api<DynamicObject>, PostParams) {
    let api = cluster.dynamic::<CassandraDatacenter>(CASS);
    (api, PostParams { field_manager: Some("argocd-controller".to_owned()), ..PostParams::default() })
}

/// Puts a datacenter back to what stands in Git, as a whole, as `argocd` does with `Replace=true`.
async fn replace(cluster: &Cluster, name: &str, git: &serde_json::Value) {
    let (api, params) = argo(cluster);
    eventually(format!("{name} is replaced"), async || {
        let mut body = git.clone();
        body["metadata"]["resourceVersion"] = raw(cluster, name).await["metadata"]["resourceVersion"].clone();
        let body: DynamicObject = serde_json::from_value(body).unwrap();
        api.replace(name, &params, &body).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    settle(cluster, name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_medusa_out_twice_is_named_and_not_fought_until_somebody_decides() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    home.create(bucket()).await;
    let git = bare("dc1", "shop");
    // Made by Argo CD as well: who wrote last is known to the second, and another manager of the same second may be named.
    let (api, params) = argo(there);
    api.create(&params, &serde_json::from_value(git.clone()).unwrap()).await.unwrap();
    settle(there, "dc1").await;
    home.create(k8ssandra("shop", &[("dc1", "dp-1")], json!({}))).await;
    for _ in 0..2 {
        medusa_in(there, "dc1").await;
        settle(there, "dc1").await;
        replace(there, "dc1", &git).await;
    }
    let refused = expect_state(&fleet, "shop", "dc1", DeploymentState::Refused, Some("Conflict")).await;
    let (reason, message) = expect_condition(&fleet, "shop", "Conflict", "True").await;
    assert_eq!(reason, "Conflict");
    assert!(message.contains("`argocd-controller`") && message.contains("dp-1/"), "{message}");
    assert!(message.contains(".spec.") || message.contains(".metadata."), "{message}");
    assert_eq!(refused.medusa.undone.map(|undone| undone.times), Some(2));
    home.event("K8ssandraCluster", "shop", "Conflict").await;

    // Neither another round of theirs, nor a start of ours, nor a look that comes by itself is a decision.
    replace(there, "dc1", &git).await;
    controller.kill9();
    let generation = raw(there, "dc1").await["metadata"]["generation"].clone();
    controller.start();
    home.patch_status::<FleetCluster>(FLEET, &format!("shop.{FLEET}"), json!({"conditions": []})).await;
    expect_condition(&fleet, "shop", "Conflict", "True").await;
    let still = raw(there, "dc1").await;
    assert_eq!(still["metadata"]["generation"], generation, "it was written to");
    assert!(container(&still, "containers", "medusa").is_none());

    let decided =
        json!({"metadata": {"annotations": {"fleet.k8ssandra.io/apply-again": "argo ignores it now"}}});
    home.patch::<K8ssandraCluster>(FLEET, "shop", decided).await;
    medusa_in(there, "dc1").await;
    settle(there, "dc1").await;
    expect_state(&fleet, "shop", "dc1", DeploymentState::Deployed, None).await;
    eventually("the conflict is over", async || {
        let status =
            home.get::<FleetCluster>(FLEET, &format!("shop.{FLEET}")).await.status.unwrap_or_default();
        let seen = condition(&status.conditions, "Conflict");
        if seen.0.is_empty() { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    controller.assert_running();
}
