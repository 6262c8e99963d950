//! Who says no to a write in a data plane is told apart, by what the API server itself answers: a policy, a quota, a
//! namespace that ends. Each is waited for, and work goes on when it lets go.

use k8s_openapi::api::{
    admissionregistration::v1::ValidatingAdmissionPolicyBinding,
    core::v1::{Namespace, ResourceQuota, Secret},
};
use kube::{Api, api::DeleteParams};
use medusa_fleet::api::{
    fleet::{DatacenterRun, DeploymentState, Phase},
    medusa::MedusaBackupJob,
};
use serde_json::{Value, json};

use crate::{
    deployment_steps::{bare, bucket, expect_condition, expect_state, k8ssandra, medusa_in, settle},
    support::{
        CASS, Cluster, ControlPlane, Fleet, backup_job, datacenter, eventually, finish, restores::child_of,
        secret,
    },
};

/// What a quota counts MedusaBackupJobs as.
const RESOURCE: &str = "count/medusabackupjobs.medusa.k8ssandra.io";

/// Denies every new MedusaBackupJob.
async fn deny(cluster: &Cluster) {
    deny_new(cluster, "medusa.k8ssandra.io", "medusabackupjobs").await;
}

/// Denies every new object of a kind.
async fn deny_new(cluster: &Cluster, group: &str, resource: &str) {
    let version = "admissionregistration.k8s.io/v1";
    let policy = json!({
        "apiVersion": version, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "no-backups"},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [group], "apiVersions": ["*"], "operations": ["CREATE"], "resources": [resource],
            }]},
            "validations": [{"expression": "false", "message": "the freeze is on"}],
        },
    });
    cluster.create(policy).await;
    let binding = json!({
        "apiVersion": version, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "no-backups"},
        "spec": {"policyName": "no-backups", "validationActions": ["Deny"]},
    });
    cluster.create(binding).await;
}

/// Waits until the API server refuses a MedusaBackupJob, in these words.
async fn refused(cluster: &Cluster, namespace: &str, words: &str) {
    eventually(format!("a MedusaBackupJob is refused: {words}"), async || {
        let probe = json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackupJob",
            "metadata": {"name": "probe", "namespace": namespace}, "spec": {"cassandraDatacenter": "nobody"},
        });
        match cluster.try_create(probe).await {
            Err(error) if error.to_string().contains(words) => Ok(()),
            Err(error) => Err(error.to_string()),
            Ok(_) => {
                cluster.delete::<MedusaBackupJob>(namespace, "probe").await;
                Err("it is let through".to_owned())
            }
        }
    })
    .await;
}

/// Waits until the only datacenter of a run is held up for this reason.
async fn held_up(fleet: &Fleet, job: &str, reason: &str) -> DatacenterRun {
    eventually(format!("{job} is held up: {reason}"), async || {
        let entries = fleet.job(job).await.status.unwrap_or_default().datacenters;
        let entry = entries.first().cloned().unwrap_or_default();
        let is_so = entry.reason.as_deref() == Some(reason) && !entry.phase.is_final();
        if is_so { Ok(entry) } else { Err(format!("{entries:?}")) }
    })
    .await
}

fn job(name: &str, datacenter: &str) -> Value {
    backup_job(name, json!({"datacenters": [datacenter]}))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_denies_a_backup_is_told_and_it_goes_on_when_that_is_over() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    there.create(datacenter("dc1", "shop", 1)).await;
    there.namespace("ending").await.unwrap();
    let mut leaving = datacenter("dc9", "gone", 1);
    leaving["metadata"]["namespace"] = json!("ending");
    there.create(leaving).await;
    fleet.expect_size("shop", 1).await;

    deny(there).await;
    refused(there, CASS, "no-backups").await;
    let made = home.create(job("policy", "dc1")).await;
    let entry = held_up(&fleet, "policy", "DeniedByPolicy").await;
    assert!(entry.message.as_deref().is_some_and(|words| words.contains("no-backups")), "{entry:?}");
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(there.client.clone());
    bindings.delete("no-backups", &DeleteParams::default()).await.unwrap();
    let child: MedusaBackupJob = there.appears(CASS, &child_of(&made, "dc1")).await;
    finish(there, &child).await;
    fleet.expect_phase("policy", Phase::Succeeded).await;

    // Nobody counts what is used: the quota's status is written here.
    there
        .create(json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few", "namespace": CASS},
            "spec": {"hard": {RESOURCE: "0"}},
        }))
        .await;
    let counted = json!({"hard": {RESOURCE: "0"}, "used": {RESOURCE: "0"}});
    there.patch_status::<ResourceQuota>(CASS, "few", counted).await;
    refused(there, CASS, "exceeded quota").await;
    let made = home.create(job("quota", "dc1")).await;
    let entry = held_up(&fleet, "quota", "QuotaExceeded").await;
    assert!(entry.message.as_deref().is_some_and(|words| words.contains("few")), "{entry:?}");
    there.delete::<ResourceQuota>(CASS, "few").await;
    there.appears::<MedusaBackupJob>(CASS, &child_of(&made, "dc1")).await;

    // It ends for as long as the datacenter is in it: nobody takes that away here.
    let namespaces: Api<Namespace> = Api::all(there.client.clone());
    namespaces.delete("ending", &DeleteParams::default()).await.unwrap();
    refused(there, "ending", "being terminated").await;
    home.create(job("ending", "dc9")).await;
    held_up(&fleet, "ending", "NamespaceTerminating").await;
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_denies_a_copy_is_told_where_medusa_waits_for_it() {
    let fleet = Fleet::start(2).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    deny_new(there, "", "secrets").await;
    let probe = secret(CASS, "probe", &[]);
    eventually("a Secret is refused", async || match there.try_create(probe.clone()).await {
        Err(error) if error.to_string().contains("no-backups") => Ok(()),
        Err(error) => Err(error.to_string()),
        Ok(_) => {
            there.delete::<Secret>(CASS, "probe").await;
            Err("it is let through".to_owned())
        }
    })
    .await;
    home.create(bucket()).await;
    for (number, dc, cluster) in [(1, "dc1", "shop"), (2, "dc3", "shop"), (2, "dc2", "till")] {
        fleet.dp(number).create(bare(dc, cluster)).await;
        settle(fleet.dp(number), dc).await;
    }
    home.create(k8ssandra("shop", &[("dc1", "dp-1"), ("dc3", "dp-2")], json!({}))).await;
    home.create(k8ssandra("till", &[("dc2", "dp-2")], json!({}))).await;
    let waits = expect_state(&fleet, "shop", "dc1", DeploymentState::Waiting, Some("DeniedByPolicy")).await;
    let message = waits.medusa.message.unwrap_or_default();
    for word in ["is not yet copied", "Secret cass/", "'no-backups'"] {
        assert!(message.contains(word), "{message}");
    }
    let (reason, message) = expect_condition(&fleet, "shop", "CredentialsInSync", "False").await;
    assert!(reason == "DeniedByPolicy" && message.contains("dp-1/cass/dc1"), "{reason}: {message}");
    home.event("K8ssandraCluster", "shop", "DeniedByPolicy").await;
    // Who denies in one data plane keeps Medusa from no other, of the same cluster neither.
    medusa_in(fleet.dp(2), "dc2").await;
    medusa_in(fleet.dp(2), "dc3").await;
    settle(fleet.dp(2), "dc3").await;

    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(there.client.clone());
    bindings.delete("no-backups", &DeleteParams::default()).await.unwrap();
    medusa_in(there, "dc1").await;
    controller.assert_running();
}
