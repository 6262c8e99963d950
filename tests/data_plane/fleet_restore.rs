//! A Cassandra cluster over two clusters restored by both roles, each of them killed in the middle: the end is that of a
//! restore nobody disturbed.

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Secret;
use medusa_fleet::api::{
    Conditions as _,
    fleet::{DataPlane, FleetCluster, FleetRestoreJob, Phase},
    medusa::MedusaRestoreJob,
};
use serde_json::{Value, json};

use crate::{
    restorable_datacenter::{RESTORE, RestorableDatacenter, restore_timings},
    rights,
    scripted_datacenter::{DataPlane as Role, ScriptedDatacenter},
    shared_cluster::Definitions,
    support::{
        eventually, eventually_within,
        gate::{Gate, Stop},
        harness::{BINARY, Program},
        like,
    },
};

/// Writes of the `data-plane` role that are certain in a restore of two pods by a FleetRestoreJob, whose jobs have an
/// owner: see `restore_crash.rs`.
const CERTAIN: usize = 15;

/// The program as control plane, in the namespace of the near datacenter.
async fn control_plane(dc: &RestorableDatacenter) -> Program {
    let ScriptedDatacenter { cluster, ns, .. } = &dc.scripted;
    crate::support::rights::create_roles_in(cluster, ns).await;
    let log = cluster.kubeconfig.with_file_name(format!("control-plane-{ns}.log"));
    let program = Program::start(BINARY, &log, |command| {
        let args = ["--namespace", ns, "control-plane", "--metrics-addr", "127.0.0.1:0"];
        command.arg("--kubeconfig").arg(rights::kubeconfig_file_of(cluster, rights::CONTROL_PLANE)).args(args)
    });
    program.unwrap()
}

/// A cluster of two datacenters: `near` in the control plane's own cluster, `far` in another, with upstream's definitions.
struct TwoDatacenterCluster {
    near: RestorableDatacenter,
    far: RestorableDatacenter,
    controller: Program,
}

impl TwoDatacenterCluster {
    async fn new() -> Self {
        let (near, far) = tokio::join!(
            RestorableDatacenter::under(Definitions::Home, 2),
            RestorableDatacenter::under(Definitions::Upstream, 2)
        );
        let name = format!("whole-{}", near.scripted.ns);
        for dc in [&near, &far] {
            let label = json!({"metadata": {"labels": {"fleet.k8ssandra.io/cluster": name}}});
            dc.scripted.patch_datacenter(label).await;
        }
        let controller = control_plane(&near).await;
        let file = rights::kubeconfig_of(&far.scripted.cluster, rights::CONTROL_PLANE);
        near.scripted
            .create::<Secret>(json!({
                "apiVersion": "v1", "kind": "Secret",
                "metadata": {"name": "far", "labels": {"fleet.k8ssandra.io/register": "true"}},
                "stringData": {"kubeconfig": file},
            }))
            .await;
        let cluster = Self { near, far, controller };
        for plane in ["local", "far"] {
            eventually("the data plane is ready", async || {
                let found =
                    cluster.near.scripted.find::<DataPlane>(plane).await.and_then(|plane| plane.status);
                like(found.unwrap_or_default(), |status| status.conditions.is_true("Ready"))
            })
            .await;
        }
        eventually("the cluster is found", async || {
            let found =
                cluster.near.scripted.find::<FleetCluster>(&name).await.and_then(|cluster| cluster.status);
            like(found.unwrap_or_default(), |status| status.size == 2)
        })
        .await;
        cluster
    }

    fn datacenters(&self) -> [&RestorableDatacenter; 2] {
        [&self.near, &self.far]
    }

    async fn role(dc: &RestorableDatacenter, stop: Option<Stop>) -> Role {
        let gate = stop.map_or_else(Gate::default, Gate::stopping);
        dc.scripted.data_plane_with(gate, restore_timings()).await
    }

    async fn begin(&self) -> FleetRestoreJob {
        let part = |plane: &str, dc: &RestorableDatacenter| json!({"dataPlane": plane, "namespace": dc.scripted.ns, "datacenter": "dc1", "medusaBackup": "b1"});
        let job = json!({
            "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "FleetRestoreJob", "metadata": {"name": "back"},
            "spec": {"datacenters": [part("local", &self.near), part("far", &self.far)]},
        });
        self.near.scripted.create(job).await
    }

    /// Waits for the end, and returns what remains of it, without what differs from run to run.
    async fn end(&self) -> Value {
        let status = eventually_within(RESTORE, "the restore ends", async || {
            let status = self.near.scripted.get::<FleetRestoreJob>("back").await.status.unwrap_or_default();
            like(status, |status| status.phase.is_some_and(Phase::is_final))
        })
        .await;
        for dc in self.datacenters() {
            eventually("its MedusaRestoreJob is deleted", async || {
                like(dc.scripted.list::<MedusaRestoreJob>().await, Vec::is_empty)
            })
            .await;
            dc.assert_restored("b1");
            dc.assert_clean().await;
            dc.ready().await.unwrap();
        }
        let runs: Vec<Value> = status
            .datacenters
            .iter()
            .map(|run| {
                json!([run.data_plane, run.phase, run.reason, run.message, run.nodes, run.job_uid.is_some()])
            })
            .collect();
        let conditions: Vec<Value> =
            status.conditions.iter().map(|c| json!([c.type_, c.status, c.reason, c.message])).collect();
        json!({"phase": status.phase, "done": status.done, "runs": runs, "conditions": conditions})
    }
}

async fn undisturbed() -> Value {
    let cluster = TwoDatacenterCluster::new().await;
    let near = TwoDatacenterCluster::role(&cluster.near, None).await;
    let far = TwoDatacenterCluster::role(&cluster.far, None).await;
    cluster.begin().await;
    let end = cluster.end().await;
    assert_eq!(end["phase"], "Succeeded", "{end:#}");
    for role in [near, far] {
        let writes = role.gate.writes();
        assert!(writes.len() >= CERTAIN, "{writes:#?}");
    }
    end
}

/// Kills the role of both datacenters at these writes, and the control plane each time.
async fn disturbed(near: Stop, far: Stop) -> Value {
    let mut cluster = TwoDatacenterCluster::new().await;
    let first = TwoDatacenterCluster::role(&cluster.near, Some(near)).await;
    let second = TwoDatacenterCluster::role(&cluster.far, Some(far)).await;
    cluster.begin().await;
    let mut roles = Vec::new();
    for (role, is_near) in [(first, true), (second, false)] {
        role.gate.reached().await;
        role.kill();
        cluster.controller.restart().unwrap();
        let dc = if is_near { &cluster.near } else { &cluster.far };
        roles.push(TwoDatacenterCluster::role(dc, None).await);
    }
    let end = cluster.end().await;
    for dc in cluster.datacenters() {
        dc.scripted.disconnected().await;
    }
    end
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_step_of_either_role_a_whole_restore_ends_as_if_undisturbed() {
    let expected = undisturbed().await;
    // The claim, the order to stop, that it has stopped, what to restore, the start, the pods' records, the end.
    let cuts = [
        (Stop::After(1), Stop::Before(14)),
        (Stop::Before(4), Stop::After(11)),
        (Stop::After(5), Stop::Before(9)),
        (Stop::After(7), Stop::After(7)),
        (Stop::Before(9), Stop::After(4)),
        (Stop::After(12), Stop::Before(2)),
        (Stop::Before(15), Stop::After(1)),
    ];
    let cases = cuts.into_iter().map(|(near, far)| {
        let expected = &expected;
        async move { assert_eq!(disturbed(near, far).await, *expected, "{near:?}, {far:?}") }
    });
    stream::iter(cases).buffer_unordered(2).collect::<Vec<()>>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_away_when_the_restore_begins_is_waited_for() {
    let mut cluster = TwoDatacenterCluster::new().await;
    let _near = TwoDatacenterCluster::role(&cluster.near, None).await;
    cluster.begin().await;
    let near_is_done = async || {
        let status = cluster.near.scripted.get::<FleetRestoreJob>("back").await.status.unwrap_or_default();
        let phases: Vec<Phase> = status.datacenters.iter().map(|run| run.phase).collect();
        like(phases, |phases| *phases == [Phase::Succeeded, Phase::Running])
    };
    eventually_within(RESTORE, "the near datacenter is restored", near_is_done).await;
    cluster.controller.restart().unwrap();
    let _far = TwoDatacenterCluster::role(&cluster.far, None).await;
    let end = cluster.end().await;
    assert_eq!((&end["phase"], &end["done"]), (&json!("Succeeded"), &json!("2/2")), "{end:#}");
}
