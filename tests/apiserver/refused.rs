//! Kinds that a data plane does not let the control plane see for a while: what cannot be seen is not gone.

use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::{
    Api,
    api::{ListParams, PostParams},
    core::DynamicObject,
    discovery::ApiResource,
};
use medusa_fleet::api::{
    fleet::Phase,
    medusa::{MedusaBackup, MedusaBackupJob, MedusaRestoreJob},
};
use serde_json::json;

use crate::support::{
    CASS, Cluster, ControlPlane, Fleet, backup_job, client, datacenter, eventually, finish,
    restores::{backed_up, child_of, expect_end, expect_restore, ours, restore_job, work},
    token,
    wire::Wire,
    with_token,
};

/// A data plane that is reached through a wire, with the rights that the control plane asks for and no more.
struct Place<'a> {
    cluster: &'a Cluster,
    wire: Wire,
    kubeconfig: String,
}

impl<'a> Place<'a> {
    async fn register(fleet: &'a Fleet, number: usize) -> Self {
        let cluster = fleet.dp(number);
        let wire = Wire::to(cluster).await;
        let kubeconfig = wire.through(&with_token(cluster, &token(cluster, "first").await));
        fleet.register_as(&cluster.name, "kubeconfig", &kubeconfig).await;
        fleet.expect_data_plane(&cluster.name, "Ready", "True", "Ready").await;
        Self { cluster, wire, kubeconfig }
    }

    /// Takes the right to list and watch a kind away, and ends every watch; returns the role as it was.
    async fn hide<K: kube::Resource<DynamicType = ()>>(&self) -> ClusterRole {
        let plural = K::plural(&()).into_owned();
        let api: Api<ClusterRole> = Api::all(self.cluster.client.clone());
        let full = api.get("medusa-fleet-control-plane").await.unwrap();
        let mut small = full.clone();
        let rules = small.rules.get_or_insert_default();
        let mut own =
            rules.iter().find(|rule| rule.resources.iter().flatten().any(|r| *r == plural)).unwrap().clone();
        for rule in rules.iter_mut() {
            rule.resources.get_or_insert_default().retain(|resource| *resource != plural);
        }
        rules.retain(|rule| {
            rule.resources.as_ref().is_some_and(|r| !r.is_empty()) || rule.non_resource_urls.is_some()
        });
        own.resources = Some(vec![plural]);
        own.verbs.retain(|verb| verb != "list" && verb != "watch");
        if !own.verbs.is_empty() {
            rules.push(own);
        }
        api.replace("medusa-fleet-control-plane", &PostParams::default(), &small).await.unwrap();
        let client = client(&self.kubeconfig).await;
        let all: Api<DynamicObject> = Api::all_with(client, &ApiResource::erase::<K>(&()));
        eventually("the API server refuses the kind", async || {
            match all.list(&ListParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 403 => Ok(()),
                answer => Err(format!("{:?}", answer.map(|list| list.items.len()))),
            }
        })
        .await;
        self.wire.cut();
        full
    }

    /// Gives it back.
    async fn show(&self, full: ClusterRole) {
        let api: Api<ClusterRole> = Api::all(self.cluster.client.clone());
        let now = api.get("medusa-fleet-control-plane").await.unwrap();
        let role = ClusterRole { metadata: now.metadata, ..full };
        api.replace("medusa-fleet-control-plane", &PostParams::default(), &role).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_medusabackup_that_may_not_be_seen_is_not_missing() {
    let fleet = Fleet::start(1).await;
    let home = fleet.home();
    let mut controller = ControlPlane::spawn(&fleet);
    controller.lacks_rights();
    let place = Place::register(&fleet, 1).await;
    place.cluster.create(datacenter("dc1", "shop", 1)).await;
    fleet.expect_size("shop", 1).await;
    let mut job = backup_job("all", json!({}));
    job["spec"]["rollout"] = json!({"retriesPerDatacenter": 3});
    let made = home.create(job).await;
    let child: MedusaBackupJob = place.cluster.appears(CASS, &child_of(&made, "dc1")).await;
    let full = place.hide::<MedusaBackup>().await;
    finish(place.cluster, &child).await;
    let said = fleet.expect_data_plane("dp-1", "Synced", "False", "WatchesStale").await;
    assert!(said.contains("medusabackups.medusa.k8ssandra.io") && said.contains("forbidden"), "{said}");
    let entry = fleet.job("all").await.status.unwrap().datacenters.remove(0);
    assert_eq!((entry.phase, entry.attempts), (Phase::Running, 1), "{entry:?}");
    place.show(full).await;
    let status = fleet.expect_phase("all", Phase::Succeeded).await.status.unwrap();
    assert_eq!(status.datacenters[0].attempts, 1, "{status:?}");
    assert_eq!(place.cluster.list::<MedusaBackupJob>(CASS).await.len(), 1);
    fleet.expect_data_plane("dp-1", "Synced", "True", "WatchesLive").await;
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_whose_job_may_not_be_seen_goes_on_and_the_next_keeps_its_turn() {
    let fleet = Fleet::start(2).await;
    let home = fleet.home();
    let mut controller = ControlPlane::spawn(&fleet);
    controller.lacks_rights();
    let place = Place::register(&fleet, 1).await;
    fleet.register(2).await;
    fleet.expect_data_plane("dp-2", "Ready", "True", "Ready").await;
    backed_up(&fleet).await;
    let made =
        home.create(restore_job("back", json!({"backup": "b-0a0a0a0a.shop", "order": "Serial"}))).await;
    let name = child_of(&made, "dc1");
    place.cluster.appears::<MedusaRestoreJob>(CASS, &name).await;
    expect_restore(&fleet, "back", "the job is recorded", |job| {
        job.status.as_ref().is_some_and(|s| s.datacenters.iter().any(|run| run.job_uid.is_some()))
    })
    .await;
    let full = place.hide::<MedusaRestoreJob>().await;
    // It has to list again, too.
    fleet.stop("dp-1");
    fleet.expect_data_plane("dp-1", "Reachable", "False", "Unreachable").await;
    fleet.start_again("dp-1");
    let waits = expect_restore(&fleet, "back", "it waits to see its job", |job| {
        let run = job.status.as_ref().and_then(|s| s.datacenters.first());
        run.is_some_and(|run| run.reason.as_deref() == Some("WatchesStale"))
    })
    .await
    .status
    .unwrap();
    let said = waits.datacenters[0].message.clone().unwrap_or_default();
    assert!(said.contains("medusarestorejobs.medusa.k8ssandra.io"), "{said}");
    assert!(waits.datacenters.iter().all(|run| !run.phase.is_final()), "{waits:?}");
    assert_eq!(fleet.dp(2).list::<MedusaRestoreJob>(CASS).await.len(), 0);
    place.show(full).await;
    work(place.cluster, &name, ours("dc1", 2, true)).await;
    let second: MedusaRestoreJob = fleet.dp(2).appears(CASS, &child_of(&made, "dc2")).await;
    work(fleet.dp(2), &second.metadata.name.unwrap(), ours("dc2", 2, true)).await;
    expect_end(&fleet, "back", Phase::Succeeded).await;
    controller.assert_running();
}
