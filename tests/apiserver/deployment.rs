//! Medusa comes into datacenters as a K8ssandraCluster asks, and leaves them as they were.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt as _;
use medusa_fleet::api::{
    cassandra::CassandraDatacenter, fleet::DeploymentState, k8ssandra::K8ssandraCluster,
    medusa::MedusaBackupSchedule,
};
use serde_json::{Value, json};

use crate::{
    deployment_steps::{
        BUCKET, bare, bucket, container, edit, expect_condition, expect_state, k8ssandra, medusa_in, names,
        raw, settle,
    },
    support::{CASS, ControlPlane, FLEET, Fleet, assert_unseen, eventually, secret},
};

/// Waits until a datacenter's pods have another checksum of their Secrets than `old`; returns it.
async fn new_checksum(fleet: &Fleet, number: usize, dc: &str, old: Option<&str>) -> String {
    eventually(format!("{dc} has a new checksum"), async || {
        let datacenter = raw(fleet.dp(number), dc).await;
        let seen = checksum(&datacenter);
        seen.clone().filter(|sum| Some(sum.as_str()) != old).ok_or_else(|| format!("{seen:?}"))
    })
    .await
}

fn checksum(datacenter: &Value) -> Option<String> {
    let annotations = &datacenter["spec"]["podTemplateSpec"]["metadata"]["annotations"];
    annotations["fleet.k8ssandra.io/medusa-secrets"].as_str().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story, from nothing to nothing")]
async fn medusa_comes_to_one_datacenter_after_the_other_and_leaves_without_a_trace() {
    let fleet = Fleet::start(2).await;
    let (home, first, second) = (fleet.home(), fleet.dp(1), fleet.dp(2));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    first.create(bare("dc1", "shop")).await;
    second.create(bare("dc2", "shop")).await;
    for (cluster, dc) in [(first, "dc1"), (second, "dc2")] {
        settle(cluster, dc).await;
    }
    let before = [raw(first, "dc1").await, raw(second, "dc2").await];
    home.create(bucket()).await;
    home.create(k8ssandra("shop", &[("dc1", "dp-1"), ("dc2", "dp-2")], json!({}))).await;

    // The first at once; the second when the first is settled.
    let dc1 = medusa_in(first, "dc1").await;
    let held =
        expect_state(&fleet, "shop", "dc2", DeploymentState::Waiting, Some("DatacenterNotReady")).await;
    assert!(held.medusa.message.unwrap().contains("cass/dc1 in data plane `dp-1`"));
    assert_eq!(held.medusa.restarts_pods, Some(true));
    assert!(!held.medusa.changes.is_empty(), "the plan is shown");
    assert_eq!(raw(second, "dc2").await["spec"], before[1]["spec"], "nothing of dc2's is touched");
    settle(first, "dc1").await;
    let dc2 = medusa_in(second, "dc2").await;
    settle(second, "dc2").await;
    for dc in ["dc1", "dc2"] {
        expect_state(&fleet, "shop", dc, DeploymentState::Deployed, None).await;
    }
    expect_condition(&fleet, "shop", "MedusaDeployed", "True").await;
    expect_condition(&fleet, "shop", "CredentialsInSync", "True").await;
    expect_condition(&fleet, "shop", "PrefixUnique", "True").await;

    // What the user had is there, in its order, and Medusa beside it.
    for datacenter in [&dc1, &dc2] {
        assert_eq!(names(datacenter, "containers"), ["cassandra", "sidecar", "medusa"]);
        assert_eq!(names(datacenter, "initContainers"), ["first", "server-config-init", "medusa-restore"]);
        assert_eq!(names(datacenter, "volumes")[0], "mine");
        assert_eq!(datacenter["spec"]["users"][0]["secretName"], "mine");
        assert_eq!(datacenter["spec"]["users"][1], json!({"secretName": "shop-medusa", "superuser": true}));
        let sidecar = container(datacenter, "containers", "sidecar").unwrap();
        assert_eq!(sidecar, container(&before[0], "containers", "sidecar").unwrap());
    }
    let user: Secret = home.get(FLEET, "shop-medusa").await;
    let copy: Secret = first.get(CASS, "shop-medusa").await;
    assert_eq!(user.data, copy.data);
    let ini: ConfigMap = first.get(CASS, "shop-medusa").await;
    assert!(ini.data.unwrap()["medusa.ini"].contains("bucket_name = backups"));
    for (cluster, dc) in [(first, "dc1"), (second, "dc2")] {
        let purge = cluster.appears::<MedusaBackupSchedule>(CASS, &format!("shop-{dc}-medusa-purge")).await;
        assert_eq!(purge.spec.backup_spec.cassandra_datacenter, dc);
        assert_eq!(purge.owner_references()[0].name, dc);
    }

    // An edit of our own container stays, and is told; other changes go on.
    edit(
        first,
        "dc1",
        json!({"podTemplateSpec": {"spec": {"containers": [
        {"name": "medusa", "resources": {"limits": {"memory": "9Gi"}}}]}}}),
    )
    .await;
    settle(first, "dc1").await;
    let kept = expect_state(&fleet, "shop", "dc1", DeploymentState::Deployed, Some("FieldsKept")).await;
    assert_eq!(kept.medusa.kept[0].manager, "somebody");
    let port = json!({"spec": {"medusa": {"serviceProperties": {"grpcPort": 55055}}}});
    home.patch::<K8ssandraCluster>(FLEET, "shop", port).await;
    let changed = eventually("dc1 listens elsewhere", async || {
        let datacenter = raw(first, "dc1").await;
        let port =
            container(&datacenter, "containers", "medusa").unwrap()["ports"][0]["containerPort"].clone();
        if port == 55055 { Ok(datacenter) } else { Err(port.to_string()) }
    })
    .await;
    let medusa = container(&changed, "containers", "medusa").unwrap();
    assert_eq!(medusa["resources"]["limits"]["memory"], "9Gi");
    settle(first, "dc1").await;
    expect_state(&fleet, "shop", "dc2", DeploymentState::Progressing, None).await;
    settle(second, "dc2").await;
    for dc in ["dc1", "dc2"] {
        expect_state(&fleet, "shop", dc, DeploymentState::Deployed, None).await;
    }

    // A new password restarts the pods, one datacenter at a time; a new bucket secret none.
    let old = checksum(&raw(first, "dc1").await);
    home.patch::<Secret>(FLEET, BUCKET, json!({"stringData": {"credentials": "canary-bucket"}})).await;
    home.patch::<Secret>(FLEET, "shop-medusa", json!({"stringData": {"password": "canary-password"}})).await;
    new_checksum(&fleet, 1, "dc1", old.as_deref()).await;
    assert_eq!(checksum(&raw(second, "dc2").await), old);
    settle(first, "dc1").await;
    new_checksum(&fleet, 2, "dc2", old.as_deref()).await;
    settle(second, "dc2").await;
    for dc in ["dc1", "dc2"] {
        expect_state(&fleet, "shop", dc, DeploymentState::Deployed, None).await;
    }

    // The edit is taken back, then Medusa: everything is as before, field for field.
    edit(first, "dc1", json!({})).await;
    settle(first, "dc1").await;
    home.patch::<K8ssandraCluster>(FLEET, "shop", json!({"spec": {"medusa": null}})).await;
    for (cluster, dc, before) in [(first, "dc1", &before[0]), (second, "dc2", &before[1])] {
        eventually(format!("{dc} is as it was"), async || {
            let now = raw(cluster, dc).await;
            settle(cluster, dc).await;
            let same = now["spec"] == before["spec"]
                && now["metadata"]["annotations"] == before["metadata"]["annotations"];
            if same { Ok(()) } else { Err(format!("{:#}", now["spec"])) }
        })
        .await;
        cluster.disappears::<ConfigMap>(CASS, "shop-medusa").await;
        cluster.disappears::<MedusaBackupSchedule>(CASS, &format!("shop-{dc}-medusa-purge")).await;
        cluster.disappears::<Secret>(CASS, "shop-medusa").await;
        cluster.disappears::<Secret>(CASS, BUCKET).await;
    }
    controller.assert_running();
    assert_unseen(&fleet, &controller, &["canary-password", "canary-bucket"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn datacenters_of_one_namespace_share_a_config_map_and_do_not_fight_over_it() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    for dc in ["dc1", "dc2"] {
        let mut datacenter = bare(dc, "shop");
        if dc == "dc2" {
            datacenter["spec"]["datacenterName"] = json!("Real_DC2");
        }
        there.create(datacenter).await;
        settle(there, dc).await;
    }
    // Somebody else's objects stand in the way.
    there
        .create(json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "shop-medusa", "namespace": CASS}, "data": {"theirs": "yes"}}))
        .await;
    let tls = [("ca.crt", "a"), ("tls.crt", "b"), ("tls.key", "c")];
    home.create(bucket()).await;
    home.create(secret(FLEET, "mgmt-client", &tls)).await;
    let mut cluster = k8ssandra("shop", &[("dc1", "dp-1"), ("dc2", "dp-1")], json!({}));
    let auth = json!({"manual": {"clientSecretName": "mgmt-client", "serverSecretName": "mgmt-server"}});
    cluster["spec"]["cassandra"]["datacenters"][1]["managementApiAuth"] = auth;
    cluster["spec"]["cassandra"]["datacenters"][1]["datacenterName"] = json!("Real_DC2");
    home.create(cluster).await;
    let conflict = expect_state(&fleet, "shop", "dc1", DeploymentState::Refused, Some("NameConflict")).await;
    assert!(conflict.medusa.message.unwrap().contains("ConfigMap cass/shop-medusa"));
    assert!(container(&raw(there, "dc1").await, "containers", "medusa").is_none(), "half deployed");
    home.event("K8ssandraCluster", "shop", "NameConflict").await;
    there.delete::<ConfigMap>(CASS, "shop-medusa").await;

    medusa_in(there, "dc1").await;
    settle(there, "dc1").await;
    let dc2 = medusa_in(there, "dc2").await;
    settle(there, "dc2").await;
    expect_state(&fleet, "shop", "dc2", DeploymentState::Deployed, None).await;
    let ini: ConfigMap = there.get(CASS, "shop-medusa").await;
    let data = ini.data.clone().unwrap();
    assert!(data["medusa.ini"].contains("http://127.0.0.1") && data["dc2.ini"].contains("https://127.0.0.1"));
    let volumes = dc2["spec"]["podTemplateSpec"]["spec"]["volumes"].as_array().unwrap();
    let own = volumes.iter().find(|volume| volume["name"] == "shop-medusa").unwrap();
    assert_eq!(own["configMap"]["items"], json!([{"key": "dc2.ini", "path": "medusa.ini"}]));
    let purge = there.appears::<MedusaBackupSchedule>(CASS, "shop-real-dc2-medusa-purge").await;
    assert_eq!(purge.spec.backup_spec.cassandra_datacenter, "dc2", "the object's name, not Cassandra's");
    assert_eq!(there.get::<ConfigMap>(CASS, "shop-medusa").await.resource_version(), ini.resource_version());

    // Drift of the file is repaired; an edited schedule is left; schedules go when they are turned off.
    there.patch::<ConfigMap>(CASS, "shop-medusa", json!({"data": {"medusa.ini": "changed"}})).await;
    eventually("the file is repaired", async || {
        let now = there.get::<ConfigMap>(CASS, "shop-medusa").await.data;
        if now.as_ref() == Some(&data) { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    let cron = json!({"spec": {"cronSchedule": "7 7 * * *"}});
    there.patch::<MedusaBackupSchedule>(CASS, "shop-dc1-medusa-purge", cron).await;
    home.patch::<K8ssandraCluster>(FLEET, "shop", json!({"spec": {"medusa": {"purgeBackups": false}}})).await;
    for name in ["shop-dc1-medusa-purge", "shop-real-dc2-medusa-purge"] {
        there.disappears::<MedusaBackupSchedule>(CASS, name).await;
    }
    there
        .create(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackupSchedule",
            "metadata": {"name": "shop-dc1-medusa-purge", "namespace": CASS},
            "spec": {"cronSchedule": "1 1 * * *", "backupSpec": {"cassandraDatacenter": "dc1"}},
        }))
        .await;
    home.patch::<K8ssandraCluster>(FLEET, "shop", json!({"spec": {"medusa": {"purgeBackups": true}}})).await;
    there.appears::<MedusaBackupSchedule>(CASS, "shop-real-dc2-medusa-purge").await;
    expect_state(&fleet, "shop", "dc1", DeploymentState::Refused, Some("NameConflict")).await;
    let theirs: MedusaBackupSchedule = there.get(CASS, "shop-dc1-medusa-purge").await;
    assert_eq!(theirs.spec.cron_schedule, "1 1 * * *");

    // The cluster goes as a whole.
    home.delete::<K8ssandraCluster>(FLEET, "shop").await;
    for dc in ["dc1", "dc2"] {
        eventually(format!("{dc} has no Medusa"), async || {
            settle(there, dc).await;
            let found = container(&raw(there, dc).await, "containers", "medusa").is_some();
            if found { Err("it has") } else { Ok(()) }
        })
        .await;
        settle(there, dc).await;
    }
    there.disappears::<ConfigMap>(CASS, "shop-medusa").await;
    there.get::<MedusaBackupSchedule>(CASS, "shop-dc1-medusa-purge").await;
    there.get::<CassandraDatacenter>(CASS, "dc1").await;
    controller.assert_running();
}
