//! Policies that deny everything that is written in a data plane, or every status of a kind in the control plane: it is
//! said in the API server's words, costs nobody else anything, and is over when the policy is.

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use medusa_fleet::api::{
    fleet::{FleetCluster, Phase},
    medusa::MedusaBackupJob,
};
use serde_json::json;

use crate::{
    denied_steps::{ask_for_writes, goes_on, held_up, prepare},
    support::{
        BackupFinisher, CASS, Cluster, ControlPlane, FLEET, Fleet, backup_job, client, datacenter,
        eventually, refusals, secret, token, with_token,
    },
};

/// Name of the policy in a data plane: what it says may quote what it denies, and is not repeated.
const POLICY: &str = "closed";
/// What a policy says.
const WORDS: &str = "the auditors are here";

/// Denies service accounts every write, but for those of Kubernetes itself.
async fn deny_everything(cluster: &Cluster) {
    let version = "admissionregistration.k8s.io/v1";
    let policy = json!({
        "apiVersion": version, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "closed"},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"],
            }]},
            "validations": [{
                "expression": "!request.userInfo.username.startsWith('system:serviceaccount:')", "message": WORDS,
            }],
        },
    });
    cluster.create(policy).await;
    cluster
        .create(json!({
            "apiVersion": version, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "closed"},
            "spec": {"policyName": "closed", "validationActions": ["Deny"]},
        }))
        .await;
}

/// Waits until a person with that kubeconfig is denied a Secret there.
async fn closed(kubeconfig: &str, cluster: &Cluster) {
    let secrets = Api::<Secret>::namespaced(client(kubeconfig).await, CASS);
    let probe: Secret = serde_json::from_value(secret(CASS, "probe", &[])).unwrap();
    let params = PostParams { dry_run: true, ..PostParams::default() };
    eventually(format!("{} is closed", cluster.name), async || match secrets.create(&params, &probe).await {
        Err(error) if error.to_string().contains(POLICY) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_plane_in_which_every_write_is_denied_says_so_everywhere_and_goes_on_when_that_is_over() {
    let fleet = Fleet::start(2).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    let token = token(there, "audited").await;
    fleet.register_as("dp-1", "kubeconfig", &with_token(there, &token)).await;
    fleet.register(2).await;
    let _finishers = prepare(&fleet).await;
    deny_everything(there).await;
    closed(&with_token(there, &token), there).await;

    ask_for_writes(&fleet).await;
    let said = fleet.expect_replicated("shared", "False", "DeniedByPolicy").await;
    assert!(said.contains(POLICY) && said.contains("dp-1") && !said.contains("dp-2"), "{said}");
    let held = held_up(&fleet).await;
    assert!(held.datacenter == "dc1" && held.message.unwrap().contains(POLICY));
    let refused = eventually("Medusa cannot be changed", async || {
        let cluster =
            home.find::<FleetCluster>(FLEET, &format!("till.{FLEET}")).await.ok_or("none".to_owned())?;
        let entries = cluster.status.unwrap_or_default().datacenters;
        let entry = entries.first().ok_or("no datacenter".to_owned())?;
        let said = format!("{:?}", entry.medusa);
        if said.contains(POLICY) { Ok(said) } else { Err(said) }
    })
    .await;
    assert!(refused.contains("DeniedByPolicy"), "{refused}");

    refusals::permit(there, "closed").await;
    goes_on(&fleet).await;
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_that_are_denied_hold_up_their_own_objects_and_are_written_when_that_is_over() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let is_other = "!object.metadata.name.startsWith('mute')";
    let kinds = ["fleetbackupjobs/status", "fleetclusters/status", "fleetbackups/status"];
    for (number, kind) in kinds.into_iter().enumerate() {
        refusals::refuse(home, &format!("mute-{number}"), kind, is_other, WORDS).await;
    }
    // One that is there already shows when the last of them holds.
    let clusters = home.api::<FleetCluster>(FLEET);
    home.create(json!({
        "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "FleetCluster",
        "metadata": {"name": "mute", "namespace": FLEET}, "spec": {},
    }))
    .await;
    let params = PatchParams { dry_run: true, ..PatchParams::default() };
    eventually("the policies hold", async || {
        let patch = Patch::Merge(json!({"status": {"size": 7}}));
        clusters.patch_status("mute", &params, &patch).await.map_or(Ok(()), |_| Err("they do not"))
    })
    .await;
    for (dc, cluster) in [("dc1", "shop"), ("dc2", "mute")] {
        there.create(datacenter(dc, cluster, 1)).await;
    }
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    fleet.expect_size("shop", 1).await;
    let _finisher = BackupFinisher::start(there);
    // What cannot be written is no reason not to be ready.
    controller.ready(0).await;
    home.create(backup_job("mute", json!({"clusters": ["shop"]}))).await;
    home.create(backup_job("loud", json!({"clusters": ["shop"]}))).await;
    fleet.expect_phase("loud", Phase::Succeeded).await;
    let note = home.event("FleetBackupJob", "mute", "DeniedByPolicy").await;
    assert!(note.contains("its status cannot be written") && note.contains("mute-0"), "{note}");

    for number in 0..kinds.len() {
        refusals::permit(home, &format!("mute-{number}")).await;
    }
    let job = fleet.expect_phase("mute", Phase::Succeeded).await;
    let children = there.list::<MedusaBackupJob>(CASS).await;
    let own = children.iter().filter(|child| child.name_any().ends_with(&job.uid().unwrap()[..8])).count();
    assert_eq!(own, 1, "{:?}", children.iter().map(kube::ResourceExt::name_any).collect::<Vec<_>>());
    fleet.expect_size("mute", 1).await;
    controller.assert_running();
}
