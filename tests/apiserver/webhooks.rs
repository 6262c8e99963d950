//! Webhooks that deny writes in a data plane, and such that cannot be asked and let nothing through then: the reason has the
//! API server's own words, only what needs that write waits, and it goes on when the webhook is gone.

use k8s_openapi::api::{admissionregistration::v1::ValidatingWebhookConfiguration, core::v1::Secret};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use medusa_fleet::api::fleet::{DeploymentState, FleetCluster};
use rstest::rstest;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    denied_steps::{ask_for_writes, goes_on, held_up, prepare},
    deployment_steps::expect_state,
    front::Front,
    support::{CASS, Cluster, ControlPlane, FLEET, Fleet, eventually, secret},
};

/// What the webhook says beside its no: it may quote what it denies, and is not repeated.
const QUOTED: &str = "canary-quoted";

/// What a webhook is.
#[derive(Clone, Copy, Debug)]
enum Hook {
    /// It denies everything.
    Denies,
    /// Nothing listens at its address.
    IsDown,
    /// It takes connections, and never answers.
    Hangs,
}

/// An AdmissionReview that says no.
fn deny(_: &str, body: &str) -> Option<String> {
    let review: Value = serde_json::from_str(body).ok()?;
    let answer = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "response": {"uid": review["request"]["uid"], "allowed": false, "status": {"code": 403, "message": QUOTED}},
    })
    .to_string();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
    Some(format!("{head}\r\nContent-Length: {}\r\n\r\n{answer}", answer.len()))
}

/// Puts a webhook at `url` before what we write of a cluster, and waits until it has its word.
async fn install(cluster: &Cluster, url: &str, words: &str) {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let authority = std::fs::read(cluster.kubeconfig.with_extension("").join("ca.crt")).unwrap();
    cluster
        .create(json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "gate"},
            "webhooks": [{
                "name": "gate.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "failurePolicy": "Fail", "timeoutSeconds": 2,
                "clientConfig": {"url": url, "caBundle": BASE64_STANDARD.encode(authority)},
                "rules": [{
                    "apiGroups": ["", "medusa.k8ssandra.io", "cassandra.datastax.com"], "apiVersions": ["*"],
                    "operations": ["CREATE", "UPDATE"],
                    "resources": [
                        "secrets", "configmaps", "medusaconfigurations", "medusabackupjobs", "cassandradatacenters",
                    ],
                }],
            }],
        }))
        .await;
    let probe: Secret = serde_json::from_value(secret(CASS, "probe", &[])).unwrap();
    let params = PostParams { dry_run: true, ..PostParams::default() };
    eventually("the webhook is asked", async || {
        match cluster.api::<Secret>(CASS).create(&params, &probe).await {
            Err(error) if error.to_string().contains(words) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[rstest]
#[case(Hook::Denies, "admission webhook \"gate.example.com\" denied the request")]
#[case(Hook::IsDown, "failed calling webhook \"gate.example.com\": connection refused")]
#[case(Hook::Hangs, "failed calling webhook \"gate.example.com\": context deadline exceeded")]
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_lets_nothing_through_is_named_and_holds_up_only_what_it_is_asked_about(
    #[case] hook: Hook,
    #[case] words: &str,
) {
    let fleet = Fleet::start(2).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    let _finishers = prepare(&fleet).await;
    let front = Front::webhook(there, deny).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = match hook {
        Hook::Denies => format!("{}/", front.server),
        Hook::IsDown => "https://127.0.0.1:1/".to_owned(),
        // What nobody accepts is answered by nobody.
        Hook::Hangs => format!("https://{}/", listener.local_addr().unwrap()),
    };
    let name = words.split(": ").next().unwrap();
    install(there, &url, name).await;

    ask_for_writes(&fleet).await;
    let said = fleet.expect_replicated("shared", "False", "DeniedByPolicy").await;
    assert!(said.contains(words) && said.contains("dp-1") && !said.contains("dp-2"), "{said}");
    let event = home.event("MedusaConfiguration", "shared", "DeniedByPolicy").await;
    assert!(event.contains(words), "{event}");
    let held = held_up(&fleet).await;
    let message = held.message.unwrap_or_default();
    assert!(held.datacenter == "dc1" && message.contains(name), "{message}");
    let refused = expect_state(&fleet, "till", "dc9", DeploymentState::Refused, Some("DeniedByPolicy")).await;
    let message = refused.medusa.message.unwrap_or_default();
    assert!(message.contains(words) && !message.contains(QUOTED), "{message}");
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;

    let hooks: Api<ValidatingWebhookConfiguration> = Api::all(there.client.clone());
    hooks.delete("gate", &DeleteParams::default()).await.unwrap();
    goes_on(&fleet).await;
    let found: FleetCluster = home.get(FLEET, &format!("till.{FLEET}")).await;
    assert!(!serde_json::to_string(&found.status).unwrap().contains(QUOTED));
    controller.assert_running();
    drop(listener);
}
