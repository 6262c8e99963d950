//! One Cassandra datacenter: its pods, its rows, and what cass-operator says about it.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod};
use kube::api::LogParams;
use medusa_fleet::api::{cassandra::CassandraDatacenter, medusa::MedusaBackup};
use serde_json::{Value, json};

use super::{
    cassandra_fleet::said,
    support::{Cluster, eventually, eventually_within, harness::testbed},
};

/// Long enough for a datacenter to stop and start on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(10);
/// The keyspaces rows are written to: in `shop` every node has every row; in `single` a row is on one node only, so
/// that what a node lost cannot be had from another.
const KEYSPACES: [&str; 2] = ["shop", "single:1"];

/// A datacenter in a data plane.
#[derive(Clone, Copy)]
pub struct Datacenter<'a> {
    /// The data plane's cluster.
    pub cluster: &'a Cluster,
    /// Its namespace, named like its Cassandra cluster.
    pub namespace: &'static str,
    /// The CassandraDatacenter's name.
    pub name: &'static str,
}

impl Datacenter<'_> {
    /// Its pods, by name. Another datacenter of the namespace has other names.
    pub async fn pods(&self) -> Vec<Pod> {
        let prefix = format!("{}-{}-", self.namespace, self.name);
        let mut pods = self.cluster.list::<Pod>(self.namespace).await;
        pods.retain(|pod| pod_name(pod).starts_with(&prefix));
        pods.sort_by_key(pod_name);
        pods
    }

    /// Names of its pods.
    pub async fn pod_names(&self) -> Vec<String> {
        self.pods().await.iter().map(pod_name).collect()
    }

    /// Runs the testbed's CQL client against the node of pod `number`; says what it printed, or what went wrong.
    pub async fn cql(&self, number: usize, args: &[&str]) -> Result<String, String> {
        let pods = self.pods().await;
        let pod = pods.get(number).ok_or_else(|| format!("there are {} pods", pods.len()))?;
        let address = pod.status.clone().and_then(|s| s.pod_ip).ok_or("the pod has no address")?;
        let output = tokio::task::block_in_place(|| {
            testbed::command().args(["cql", "--address", &address]).args(args).output().unwrap()
        });
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(said(&output))
        }
    }

    /// Writes rows until there are `rows` of them in both keyspaces.
    pub async fn load(&self, rows: usize) {
        let text = rows.to_string();
        let args = [&["load", &text], &KEYSPACES[..]].concat();
        eventually(format!("{rows} rows are written"), async || self.cql(0, &args).await).await;
    }

    /// Waits until the node of pod `number` counts `rows` rows in both keyspaces, at consistency ALL.
    pub async fn expect_rows(&self, number: usize, rows: usize) {
        let args = [&["count"], &KEYSPACES[..]].concat();
        eventually(format!("{} has {rows} rows in both keyspaces", self.name), async || {
            let counted = self.cql(number, &args).await?;
            if counted == format!("{rows}\n{rows}\n") { Ok(()) } else { Err(counted) }
        })
        .await;
    }

    /// Drops the table of `shop` and all of `single`.
    pub async fn drop_tables(&self) {
        self.cql(0, &["execute", "DROP TABLE shop.orders", "DROP KEYSPACE single"]).await.expect("drop");
        let said = self.cql(1, &["count"]).await.expect_err("the table is dropped");
        assert!(said.contains("table orders does not exist"), "{said}");
    }

    /// The id by which the other nodes know the node of pod `number`.
    pub async fn host_id(&self, number: usize) -> String {
        let what = format!("node {number} of {} says its host id", self.name);
        eventually(what, async || self.cql(number, &["execute", "SELECT host_id FROM system.local"]).await)
            .await
    }

    /// Takes the disk of pod `number` away: its claim and itself are deleted. Returns when its successor is there, with
    /// another claim, and its Medusa runs.
    pub async fn lose_volume(&self, number: usize) {
        let pod = self.pods().await.remove(number);
        let name = pod_name(&pod);
        let claim = format!("server-data-{name}");
        self.cluster.delete::<PersistentVolumeClaim>(self.namespace, &claim).await;
        self.cluster.delete::<Pod>(self.namespace, &name).await;
        let what = format!("pod {name} is replaced, and its Medusa runs");
        eventually(what, async || {
            let next = self.cluster.find::<Pod>(self.namespace, &name).await.ok_or("it is gone")?;
            let ready = container_ready(&next, "medusa");
            if next.metadata.uid != pod.metadata.uid && ready { Ok(()) } else { Err("it is not ready") }
        })
        .await;
    }

    /// Writes another `max_backup_count` into medusa.ini, and waits until every Medusa has ended for it and is back, as
    /// it does when k8ssandra-operator changes its configuration.
    pub async fn keep_backups(&self, count: usize) {
        let name = format!("{}-medusa", self.namespace);
        let before = self.cluster.get::<ConfigMap>(self.namespace, &name).await.data.unwrap();
        let ini =
            before["medusa.ini"].replace("max_backup_count = 0", &format!("max_backup_count = {count}"));
        assert_ne!(ini, before["medusa.ini"]);
        let patch = json!({"data": {"medusa.ini": ini}});
        self.cluster.patch::<ConfigMap>(self.namespace, &name, patch).await;
        eventually(format!("the Medusas of {} have restarted", self.name), async || {
            let pods = self.pods().await;
            let back = |pod: &Pod| restarts(pod, "medusa") > 0 && container_ready(pod, "medusa");
            if pods.iter().all(back) { Ok(()) } else { Err("not all") }
        })
        .await;
    }

    /// Replaces the containers of the datacenter's pod template, as its owner might.
    pub async fn set_containers(&self, containers: Value) {
        let patch = json!({"spec": {"podTemplateSpec": {"spec": {"containers": containers}}}});
        self.cluster.patch::<CassandraDatacenter>(self.namespace, self.name, patch).await;
    }

    /// Waits until every pod has a Medusa of `image` that is ready.
    pub async fn expect_medusa(&self, image: &str) {
        let what = format!("{} of {} runs {image}", self.name, self.namespace);
        eventually_within(PATIENCE, what, async || {
            let pods = self.pods().await;
            let is_up = |pod: &Pod| container_ready(pod, "medusa") && medusa_images(pod) == [image, image];
            let up = !pods.is_empty() && pods.iter().all(is_up);
            if up { Ok(()) } else { Err("not in every pod") }
        })
        .await;
    }

    /// Gives the pods another image of Medusa, as their owner does, and waits until all of them run it.
    pub async fn upgrade_medusa(&self, image: &str) {
        let seen = self.cluster.raw::<CassandraDatacenter>(self.namespace, self.name).await;
        let mut pod = seen["spec"]["podTemplateSpec"]["spec"].clone();
        for list in ["containers", "initContainers"] {
            for container in pod[list].as_array_mut().expect("a list") {
                if container["name"].as_str().is_some_and(is_medusa) {
                    container["image"] = json!(image);
                }
            }
        }
        let patch = json!({"spec": {"podTemplateSpec": {"spec": pod}}});
        self.cluster.patch::<CassandraDatacenter>(self.namespace, self.name, patch).await;
        self.expect_medusa(image).await;
        self.expect_clean().await;
    }

    async fn log(&self, pod: &str, container: &str) -> String {
        let params = LogParams { container: Some(container.to_owned()), ..LogParams::default() };
        self.cluster.api::<Pod>(self.namespace).logs(pod, &params).await.expect("read a log")
    }

    /// The MedusaBackup of this datacenter whose name starts with `prefix`.
    pub async fn backup(&self, prefix: &str) -> MedusaBackup {
        let backups = self.cluster.list::<MedusaBackup>(self.namespace).await;
        let found = backups.into_iter().find(|b| {
            b.spec.cassandra_datacenter == self.name
                && b.metadata.name.as_deref().is_some_and(|name| name.starts_with(prefix))
        });
        found.unwrap_or_else(|| panic!("{} has no backup {prefix}…", self.name))
    }

    /// Waits until the datacenter runs, settled, with nothing of a restore left in its spec.
    pub async fn expect_clean(&self) {
        let what = format!("{} is ready and as it was before the restore", self.name);
        eventually_within(PATIENCE, what, async || self.unclean().await.map_or(Ok(()), Err)).await;
        for pod in self.pod_names().await {
            let log = self.log(&pod, "medusa-restore").await;
            assert!(log.contains("BACKUP_NAME env var not set"), "{pod} would restore again: {log}");
        }
    }

    async fn unclean(&self) -> Option<String> {
        let typed: CassandraDatacenter = self.cluster.get(self.namespace, self.name).await;
        if !typed.is_ready() {
            return Some("it is not ready".into());
        }
        let all = self.cluster.raw::<CassandraDatacenter>(self.namespace, self.name).await;
        let status = &all["status"];
        if status["cassandraOperatorProgress"] != "Ready"
            || status["observedGeneration"] != all["metadata"]["generation"]
        {
            return Some(format!("it is being updated: {status}"));
        }
        let spec = &all["spec"];
        if spec["stopped"] == true {
            return Some("it is stopped".into());
        }
        let init = spec["podTemplateSpec"]["spec"]["initContainers"].as_array().cloned().unwrap_or_default();
        let restore = init.into_iter().find(|c| c["name"] == "medusa-restore").expect("medusa-restore");
        let env = restore["env"].as_array().cloned().unwrap_or_default();
        let orders = ["BACKUP_NAME", "RESTORE_KEY", "RESTORE_MAPPING"];
        let left: Vec<_> = env.iter().filter(|e| orders.iter().any(|order| e["name"] == *order)).collect();
        if left.is_empty() { None } else { Some(format!("medusa-restore has {left:?}")) }
    }
}

/// A pod's name.
pub fn pod_name(pod: &Pod) -> String {
    pod.metadata.name.clone().unwrap_or_default()
}

fn statuses(pod: &Pod) -> Vec<k8s_openapi::api::core::v1::ContainerStatus> {
    pod.status.clone().and_then(|s| s.container_statuses).unwrap_or_default()
}

fn is_medusa(container: &str) -> bool {
    container == "medusa" || container == "medusa-restore"
}

/// The images of Medusa's container and of its restore step.
fn medusa_images(pod: &Pod) -> Vec<String> {
    let spec = pod.spec.clone().unwrap_or_default();
    let containers = spec.containers.into_iter().chain(spec.init_containers.unwrap_or_default());
    containers.filter(|c| is_medusa(&c.name)).filter_map(|c| c.image).collect()
}

fn container_ready(pod: &Pod, container: &str) -> bool {
    statuses(pod).iter().any(|s| s.name == container && s.ready)
}

fn restarts(pod: &Pod, container: &str) -> i32 {
    statuses(pod).iter().filter(|s| s.name == container).map(|s| s.restart_count).sum()
}
