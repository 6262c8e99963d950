//! Starting the role: beside whom it refuses to, and how it makes itself known.

use std::time::Duration;

use k8s_openapi::api::{apps::v1::Deployment, coordination::v1::Lease, core::v1::Secret};
use kube::{Api, Client, api::ListParams};
use medusa_fleet::data_plane::{self, RunError};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    fake_medusa::Script,
    rights,
    scripted_datacenter::{ScriptedDatacenter, timings},
    support::{eventually, harness::Program, like},
};

#[tokio::test(flavor = "multi_thread")]
async fn it_refuses_to_run_beside_k8ssandra_operator() {
    let dc = ScriptedDatacenter::new(0, Script::default()).await;
    let pod =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "none"}]}});
    dc.create::<Deployment>(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        // As kustomize makes it: without the standard labels.
        "metadata": {"name": "operator", "labels": {"control-plane": "k8ssandra-operator"}},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": pod}
    }))
    .await;
    let config = data_plane::Config {
        client: Client::try_from(rights::act(dc.cluster.config.clone())).unwrap(),
        namespace: dc.ns.clone(),
        leader_elect: false,
        watch_namespaces: vec![dc.ns.clone()],
        take_over: false,
        metrics_addr: None,
        clock: medusa_fleet::runtime::clock::Clock::system(),
        timings: timings(),
    };
    let refused = data_plane::run(config, CancellationToken::new()).await.unwrap_err();
    let message = refused.to_string();
    assert!(matches!(refused, RunError::OperatorRuns(_)));
    assert!(message.contains(&format!("{}/operator", dc.ns)) && message.contains("--take-over"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_holds_a_lease_that_says_who_runs_here() {
    let dc = ScriptedDatacenter::new(0, Script::default()).await;
    let _data_plane = dc.data_plane().await;
    let name = "medusa-fleet-data-plane";
    let lease = dc.cluster.appears::<Lease>(&dc.ns, name).await;
    let labels = lease.metadata.labels.unwrap();
    assert_eq!(labels["app.kubernetes.io/name"], "medusa-fleet");
    assert_eq!(labels["app.kubernetes.io/component"], "data-plane");
    assert_eq!(labels["app.kubernetes.io/version"], env!("CARGO_PKG_VERSION"));
    let renewed = lease.spec.unwrap().renew_time;
    eventually("it is renewed", async || {
        let lease = dc.get::<Lease>(name).await;
        like(lease.spec.unwrap().renew_time, |time| *time > renewed)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_when_told_to() {
    let dc = ScriptedDatacenter::new(0, Script::default()).await;
    let shutdown = CancellationToken::new();
    let config = data_plane::Config {
        // An administrator's: nobody else is told that a namespace is missing.
        client: dc.cluster.client.clone(),
        namespace: "does-not-exist".to_owned(),
        leader_elect: false,
        watch_namespaces: vec![dc.ns.clone()],
        take_over: true,
        metrics_addr: Some("127.0.0.1:0".parse().unwrap()),
        clock: medusa_fleet::runtime::clock::Clock::system(),
        timings: timings(),
    };
    let role = tokio::spawn(data_plane::run(config, shutdown.clone()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!role.is_finished(), "a missing namespace does not end it");
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(10), role).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_may_read_a_secret_by_name_and_list_none() {
    let dc = ScriptedDatacenter::new(0, Script::default()).await;
    let config = rights::act(dc.cluster.config.clone());
    let secrets = Api::<Secret>::namespaced(Client::try_from(config).unwrap(), &dc.ns);
    assert!(secrets.get_opt("any").await.unwrap().is_none());
    let refused = secrets.list(&ListParams::default()).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.is_forbidden()), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_replicas_one_works_and_the_other_goes_on_when_it_ends_or_dies() {
    let dc = ScriptedDatacenter::new(1, Script::default()).await;
    let mut first = dc.replica("first", &["--leader-elect"]);
    says(&first, "leading").await;
    let second = dc.replica("second", &["--leader-elect"]);
    says(&second, "waiting to lead").await;
    dc.job("nightly", "dc1").await;
    dc.finished("nightly").await;
    assert!(!second.said().contains(" leading"), "{}", second.said());

    first.signal("TERM").unwrap();
    says(&second, " leading").await;
    let ended = eventually("it ends", async || first.ended().unwrap().ok_or("it runs")).await;
    assert!(ended.success());

    let third = dc.replica("third", &["--leader-elect"]);
    says(&third, "waiting to lead").await;
    dc.job("weekly", "dc1").await;
    dc.finished("weekly").await;
    assert!(!third.said().contains(" leading"), "{}", third.said());
    drop(second);
    // Nobody gave the Lease back: it has to run out.
    says(&third, " leading").await;
    dc.job("monthly", "dc1").await;
    dc.finished("monthly").await;
    assert_eq!(dc.starts().into_values().sum::<usize>(), 3, "each backup is begun once");
}

/// Waits until the program's log has that.
async fn says(program: &Program, words: &str) {
    eventually(format!("it says `{words}`"), async || like(program.said(), |said| said.contains(words)))
        .await;
}
