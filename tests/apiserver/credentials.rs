//! Credentials are rotated, revoked and small; clusters that go take their copies along.

use k8s_openapi::api::{core::v1::Secret, rbac::v1::ClusterRole};
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use medusa_fleet::api::{
    fleet::{DataPlane, Phase},
    medusa::MedusaConfiguration,
};
use serde_json::json;

use crate::support::{
    BackupFinisher, CASS, Cluster, ControlPlane, FLEET, Fleet, assert_unseen, backup_job, configuration,
    datacenter, eventually, medusa_fleet,
    refusals::{permit, refuse},
    rights, secret, token, with_token,
};

/// Waits until the bucket secret's copy holds `value`.
async fn expect_copy(cluster: &Cluster, value: &str) {
    eventually(format!("the bucket secret in {} is {value}", cluster.name), async || {
        let copy = cluster.find::<Secret>(CASS, "bucket").await.ok_or("it is not there")?;
        let data = copy.data.unwrap_or_default();
        if data.get("credentials").is_some_and(|held| held.0 == value.as_bytes()) {
            Ok(())
        } else {
            Err("it holds something else")
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_credential_stops_one_cluster_until_it_is_rotated() {
    let fleet = Fleet::start(2).await;
    let home = fleet.home();
    let mut controller = ControlPlane::spawn(&fleet);
    let mut tokens = Vec::new();
    for number in [1, 2] {
        let cluster = fleet.dp(number);
        let first = token(cluster, "first").await;
        fleet.register_as(&cluster.name, "kubeconfig", &with_token(cluster, &first)).await;
        tokens.push(first);
    }
    home.create(secret(FLEET, "bucket", &[("credentials", "canary-one")])).await;
    home.create(configuration("shared", "bucket", Some("dp-1/cass dp-2/cass"))).await;
    expect_copy(fleet.dp(1), "canary-one").await;
    expect_copy(fleet.dp(2), "canary-one").await;
    fleet.expect_data_plane("dp-2", "Ready", "True", "Ready").await;
    let other_before: DataPlane = home.get(FLEET, "dp-2").await;
    let old: DataPlane = home.get(FLEET, "dp-1").await;

    // Revoked: named, and nobody else waits.
    fleet.dp(1).delete::<Secret>(FLEET, "first").await;
    fleet.expect_data_plane("dp-1", "Authenticated", "False", "CredentialRejected").await;
    home.event("DataPlane", "dp-1", "CredentialRejected").await;
    let rotated = json!({"stringData": {"credentials": "canary-two"}});
    home.patch::<Secret>(FLEET, "bucket", rotated).await;
    expect_copy(fleet.dp(2), "canary-two").await;
    expect_copy(fleet.dp(1), "canary-one").await;

    // Rotated: it catches up, without a restart.
    let second = token(fleet.dp(1), "second").await;
    let kubeconfig = with_token(fleet.dp(1), &second);
    home.patch::<Secret>(FLEET, "dp-1", json!({"stringData": {"kubeconfig": kubeconfig}})).await;
    expect_copy(fleet.dp(1), "canary-two").await;
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;
    let hash = |plane: &DataPlane| plane.status.clone().unwrap().credential.unwrap().hash.unwrap();
    let new: DataPlane = home.get(FLEET, "dp-1").await;
    assert_ne!(hash(&old), hash(&new));
    let other_after: DataPlane = home.get(FLEET, "dp-2").await;
    let times = |plane: &DataPlane| {
        let conditions = plane.status.clone().unwrap().conditions;
        conditions.into_iter().map(|c| (c.type_, c.status, c.last_transition_time)).collect::<Vec<_>>()
    };
    assert_eq!(times(&other_before), times(&other_after), "dp-2 was disturbed");

    // Removed: the copies are taken back there and stay elsewhere.
    home.delete::<Secret>(FLEET, "dp-1").await;
    home.disappears::<DataPlane>(FLEET, "dp-1").await;
    assert!(fleet.dp(1).find::<Secret>(CASS, "bucket").await.is_none(), "the Secret was left behind");
    let left = fleet.dp(1).find::<MedusaConfiguration>(CASS, "shared").await;
    assert!(left.is_none(), "the MedusaConfiguration was left behind");
    expect_copy(fleet.dp(2), "canary-two").await;

    // Also when the control plane is not there at the time.
    controller.kill9();
    let retire = json!({"metadata": {"labels": {"fleet.k8ssandra.io/register": "false"}}});
    home.patch::<Secret>(FLEET, "dp-2", retire).await;
    home.delete::<DataPlane>(FLEET, "dp-2").await;
    controller.start();
    home.disappears::<DataPlane>(FLEET, "dp-2").await;
    assert!(fleet.dp(2).find::<Secret>(CASS, "bucket").await.is_none(), "the Secret was left behind");
    controller.assert_running();
    let values = [tokens[0].as_str(), tokens[1].as_str(), second.as_str(), "canary-one", "canary-two"];
    assert_unseen(&fleet, &controller, &values).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_cluster_delays_its_unregistering_by_the_grace_period_only() {
    let fleet = Fleet::start(1).await;
    let home = fleet.home();
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    home.create(secret(FLEET, "bucket", &[("credentials", "x")])).await;
    home.create(configuration("shared", "bucket", Some("dp-1/cass"))).await;
    expect_copy(fleet.dp(1), "x").await;
    fleet.dp(1).appears::<MedusaConfiguration>(CASS, "shared").await;

    fleet.stop("dp-1");
    fleet.expect_data_plane("dp-1", "Reachable", "False", "ConnectionRefused").await;
    home.delete::<Secret>(FLEET, "dp-1").await;
    eventually("its DataPlane is being deleted", async || {
        let plane: DataPlane = home.find(FLEET, "dp-1").await.ok_or("it went at once")?;
        plane.metadata.deletion_timestamp.map(drop).ok_or("it is not")
    })
    .await;
    home.disappears::<DataPlane>(FLEET, "dp-1").await;
    let note = home.event("DataPlane", "dp-1", "LeftBehind").await;
    for left in ["Secret cass/bucket", "MedusaConfiguration cass/shared"] {
        assert!(note.contains(left), "{note}");
    }
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_plane_that_retains_keeps_its_copies_however_long_its_going_takes() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    home.create(secret(FLEET, "bucket", &[("credentials", "x")])).await;
    home.create(configuration("shared", "bucket", Some("dp-1/cass"))).await;
    expect_copy(there, "x").await;
    let copies = async || (there.get::<Secret>(CASS, "bucket").await.uid(), there.writes("secrets").await);
    let before = copies().await;
    home.patch::<DataPlane>(FLEET, "dp-1", json!({"spec": {"deletionPolicy": "Retain"}})).await;

    // It wants to go, and may not for a while.
    let allowed = "has(object.metadata.finalizers) || !has(oldObject.metadata.finalizers)";
    refuse(home, "stay", "dataplanes", allowed, "not to be let go").await;
    eventually("it may not be let go", async || {
        let params = PatchParams { dry_run: true, ..PatchParams::default() };
        let bare = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        match home.api::<DataPlane>(FLEET).patch("dp-1", &params, &bare).await {
            Err(error) if error.to_string().contains("not to be let go") => Ok(()),
            answer => Err(format!("{answer:?}")),
        }
    })
    .await;
    home.delete::<Secret>(FLEET, "dp-1").await;
    eventually("it was refused twice", async || {
        let refused = controller.log().matches("not to be let go").count();
        if refused >= 2 { Ok(()) } else { Err(refused) }
    })
    .await;
    assert_eq!(copies().await, before);
    permit(home, "stay").await;
    home.disappears::<DataPlane>(FLEET, "dp-1").await;
    assert_eq!(copies().await, before);
    controller.assert_running();
}

/// Takes `verb` on `resource` out of the role the control plane has in a data plane, or gives it back.
async fn change_role(cluster: &Cluster, changes: &[(&str, &str)], grant: bool) {
    let api: Api<ClusterRole> = Api::all(cluster.client.clone());
    let mut role = api.get("medusa-fleet-control-plane").await.unwrap();
    for rule in role.rules.iter_mut().flatten() {
        for (verb, resource) in changes {
            if rule.resources.iter().flatten().any(|r| r == resource) {
                rule.verbs.retain(|v| v != verb);
                if grant {
                    rule.verbs.push((*verb).to_owned());
                }
            }
        }
    }
    let patch = Patch::Merge(json!({"rules": role.rules}));
    api.patch(&role.name_any(), &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_register_grants_is_enough_and_a_missing_verb_is_named() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.expect_data_plane("local", "Ready", "True", "Ready").await;
    rights::revoke(there).await;
    let file = there.kubeconfig.display().to_string();
    let output = medusa_fleet(
        &fleet.home().kubeconfig,
        &["register", "dp-1", "--from-kubeconfig", &file, "--timeout", "90s"],
    );
    assert!(output.status.success(), "{output:?}");
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;
    there.create(datacenter("dc1", "shop", 1)).await;
    let _finisher = BackupFinisher::start(there);
    home.create(secret(FLEET, "bucket", &[("credentials", "one")])).await;
    home.create(configuration("shared", "bucket", Some("*"))).await;
    expect_copy(there, "one").await;
    home.create(backup_job("allowed", json!({}))).await;
    fleet.expect_phase("allowed", Phase::Succeeded).await;
    home.patch::<Secret>(FLEET, "bucket", json!({"stringData": {"credentials": "two"}})).await;
    expect_copy(there, "two").await;

    // The start looks at what is allowed.
    controller.lacks_rights();
    let missing = [("create", "medusabackupjobs"), ("patch", "secrets")];
    controller.kill9();
    change_role(there, &missing, false).await;
    controller.start();
    let message = fleet.expect_data_plane("dp-1", "Authorized", "False", "PermissionsMissing").await;
    let (_, named) = message.split_once("Missing: ").expect("a list of verbs");
    assert_eq!(named, "create medusabackupjobs.medusa.k8ssandra.io, patch secrets");
    fleet.expect_data_plane("dp-1", "Ready", "False", "PermissionsMissing").await;
    home.create(backup_job("refused", json!({}))).await;
    eventually("the run says why it waits", async || {
        let status = fleet.job("refused").await.status.unwrap_or_default();
        let said = status.datacenters.first().and_then(|e| e.message.clone()).unwrap_or_default();
        if said.contains("medusabackupjobs") { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;

    change_role(there, &missing, true).await;
    fleet.expect_data_plane("dp-1", "Authorized", "True", "PermissionsGranted").await;
    fleet.expect_phase("refused", Phase::Succeeded).await;
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_credential_goes_on_with_what_is_watched_and_lists_nothing_again() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    let first = token(there, "first").await;
    fleet.register_as("dp-1", "kubeconfig", &with_token(there, &first)).await;
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;
    let kinds = ["cassandradatacenters", "medusabackups", "medusabackupjobs", "medusaconfigurations"];
    let lists = async || futures::future::join_all(kinds.map(|kind| there.lists(kind))).await;
    let before = lists().await;
    assert!(before.iter().all(|count| *count > 0), "{before:?}");

    let second = token(there, "second").await;
    let kubeconfig = with_token(there, &second);
    home.patch::<Secret>(FLEET, "dp-1", json!({"stringData": {"kubeconfig": kubeconfig}})).await;
    eventually("the new token is used", async || {
        if controller.log().contains("goes on with another credential") { Ok(()) } else { Err("not yet") }
    })
    .await;
    there.delete::<Secret>(FLEET, "first").await;
    home.create(secret(FLEET, "bucket", &[("credentials", "canary-one")])).await;
    home.create(configuration("shared", "bucket", Some("dp-1/cass"))).await;
    expect_copy(there, "canary-one").await;
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;
    assert_eq!(lists().await, before, "it was listed again");
    controller.assert_running();
    assert_unseen(&fleet, &controller, &[first.as_str(), second.as_str(), "canary-one"]).await;
}
