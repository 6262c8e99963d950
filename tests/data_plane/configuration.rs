//! MedusaConfigurations: conditions that come and go with the storage secret.

use k8s_openapi::{api::core::v1::Secret, api::events::v1::Event};
use medusa_fleet::api::{Conditions as _, medusa::MedusaConfiguration};
use serde_json::{Value, json};

use crate::{fake_medusa::Script, scripted_datacenter::ScriptedDatacenter, support::eventually};

impl ScriptedDatacenter {
    async fn configuration(&self, name: &str, storage: Value) {
        self.create::<MedusaConfiguration>(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaConfiguration",
            "metadata": {"name": name}, "spec": {"storageProperties": storage}
        }))
        .await;
    }

    async fn secret(&self, name: &str, key: &str) {
        self.create::<Secret>(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {key: "hunter2"}
        }))
        .await;
    }

    /// Waits until condition `Ready` has that status and reason; returns its message.
    async fn configuration_is(&self, name: &str, status: &str, reason: &str) -> String {
        eventually(reason, async || {
            let found = self.get::<MedusaConfiguration>(name).await;
            let conditions = found.status.unwrap_or_default().conditions;
            let available = conditions.of_type("SecretAvailable").is_some_and(|c| c.status == status);
            match conditions.of_type("Ready") {
                Some(ready) if ready.status == status && ready.reason == reason && available => {
                    Ok(ready.message.clone())
                }
                _ => Err(format!("{conditions:?}")),
            }
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_goes_with_the_secret_and_comes_back_with_it() {
    let dc = ScriptedDatacenter::new(0, Script::default()).await;
    let _data_plane = dc.data_plane().await;
    dc.configuration("shared", json!({"storageSecretRef": {"name": "bucket"}})).await;
    let message = dc.configuration_is("shared", "False", "SecretNotFound").await;
    assert!(message.contains("`bucket`") && message.contains(&dc.ns), "{message}");

    dc.secret("bucket", "credentials").await;
    dc.configuration_is("shared", "True", "Ready").await;

    let renamed = json!({"data": {"credentials": null}, "stringData": {"creds": "hunter2"}});
    dc.patch::<Secret>("bucket", renamed).await;
    let message = dc.configuration_is("shared", "False", "SecretKeyMissing").await;
    assert!(message.contains("`credentials`"), "{message}");

    dc.delete::<Secret>("bucket").await;
    dc.configuration_is("shared", "False", "SecretNotFound").await;
    dc.secret("bucket", "credentials").await;
    dc.configuration_is("shared", "True", "Ready").await;

    dc.event("shared", "SecretKeyMissing").await;
    let events = dc.list::<Event>().await;
    assert!(!serde_json::to_string(&events).unwrap().contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_needs_no_secret_and_excludes_one() {
    let dc = ScriptedDatacenter::new(0, Script::default()).await;
    let _data_plane = dc.data_plane().await;
    dc.configuration("role", json!({"credentialsType": "role-based"})).await;
    dc.configuration("none", json!({"bucketName": "b"})).await;
    let both = json!({"credentialsType": "role-based", "storageSecretRef": {"name": "bucket"}});
    dc.configuration("both", both).await;
    dc.configuration_is("role", "True", "Ready").await;
    dc.configuration_is("none", "True", "Ready").await;
    let message = dc.configuration_is("both", "False", "InvalidSpec").await;
    assert!(message.contains("credentialsType") && message.contains("storageSecretRef"), "{message}");
}
