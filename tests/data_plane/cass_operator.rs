//! A stand-in for cass-operator, the StatefulSet controller and the kubelet, for one datacenter of one rack.
//!
//! What it is true to (upstream: Names): names; `stopped` scales to zero and sets Stopped; a changed pod template
//! reaches the StatefulSet, also while stopped, and running pods are then replaced one at a time; Ready,
//! Updating, `observedGeneration` and progress. The `medusa-restore` of a pod does what the image's
//! entrypoint does with a volume that outlives the pod. What it is not: nothing runs; a "volume" is a
//! record of what was restored into it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::Pod};
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::PartialObjectMeta,
    runtime::{WatchStreamExt as _, watcher},
};
use medusa_fleet::{api::cassandra::CassandraDatacenter, runtime::clock};
use serde_json::{Value, json};

use crate::{
    kubelet::Kubelet,
    support::{Cluster, harness::Kind},
};

pub const SET: &str = "shop-dc1-default-sts";
/// Pause after a pass, so that what changes together is seen together, and longest wait for a change: scripts change unseen.
const PAUSES: (Duration, Duration) = (Duration::from_millis(30), Duration::from_millis(300));
/// How the pod's template is remembered on StatefulSet and pod.
const TEMPLATE: &str = "test/template";

/// What a pod's restore does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    #[default]
    Restores,
    /// Ends with 0 without restoring.
    Skips,
    /// Fails, and was started again that often.
    Crashes(i32),
    /// Never ends.
    Hangs,
    /// Restores, but the log cannot be read.
    Mute,
    /// Restores; its container is then run again in the same pod.
    RunsTwice,
}

/// What the stand-in does.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub never_stops: bool,
    pub ignores_template: bool,
    pub never_ready: bool,
    pub pods: BTreeMap<String, Behaviour>,
}

/// A pod's data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    pub last_restore: Option<String>,
    /// Backup and source host it holds the data of.
    pub holds: Option<(String, String)>,
    /// How often data was restored into it.
    pub restores: usize,
}

type Volumes = Arc<Mutex<BTreeMap<String, Volume>>>;

pub struct CassOperator {
    pub script: Arc<Mutex<Script>>,
    pub volumes: Volumes,
    pub kubelet: Arc<Kubelet>,
    task: tokio::task::JoinHandle<()>,
}

impl CassOperator {
    /// Starts it for `dc1` in `ns`; `ports` are the Medusa ports of its pods.
    pub fn start(cluster: &Cluster, ns: &str, kubelet: Kubelet, ports: Vec<u16>) -> Self {
        let (script, volumes, kubelet) =
            (Arc::<Mutex<Script>>::default(), Volumes::default(), Arc::new(kubelet));
        let mut work = Work {
            datacenters: cluster.dynamic::<CassandraDatacenter>(ns),
            sets: cluster.api(ns),
            pods: cluster.api(ns),
            script: Arc::clone(&script),
            volumes: Arc::clone(&volumes),
            kubelet: Arc::clone(&kubelet),
            ports,
        };
        // A pass for nothing costs an API server that many tests share as much as one that is needed.
        let changes = [
            changes::<PartialObjectMeta<CassandraDatacenter>>(cluster, ns),
            changes::<PartialObjectMeta<StatefulSet>>(cluster, ns),
            changes::<PartialObjectMeta<Pod>>(cluster, ns),
        ];
        let mut changes = stream::select_all(changes).ready_chunks(100);
        let task = tokio::spawn(async move {
            loop {
                // A conflict or a deleted namespace: the next pass sees it.
                let _ = work.pass().await;
                tokio::time::sleep(PAUSES.0).await;
                let _ = tokio::time::timeout(PAUSES.1, changes.next()).await;
            }
        });
        Self { script, volumes, kubelet, task }
    }

    pub fn script(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock().unwrap());
    }

    pub fn volumes(&self) -> BTreeMap<String, Volume> {
        self.volumes.lock().unwrap().clone()
    }
}

impl Drop for CassOperator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Tells when an object of that kind changes.
fn changes<K: Kind + Send + 'static>(cluster: &Cluster, ns: &str) -> BoxStream<'static, ()> {
    watcher(cluster.api::<K>(ns), watcher::Config::default()).default_backoff().map(drop).boxed()
}

struct Work {
    datacenters: Api<DynamicObject>,
    sets: Api<StatefulSet>,
    pods: Api<Pod>,
    script: Arc<Mutex<Script>>,
    volumes: Volumes,
    kubelet: Arc<Kubelet>,
    ports: Vec<u16>,
}

fn labels() -> Value {
    json!({"cassandra.datastax.com/cluster": "Shop", "cassandra.datastax.com/datacenter": "dc1"})
}

impl Work {
    async fn pass(&mut self) -> Result<(), kube::Error> {
        let Some(object) = self.datacenters.get_opt("dc1").await? else { return Ok(()) };
        let generation = object.metadata.generation.unwrap_or_default();
        let dc = object.data;
        let script = self.script.lock().unwrap().clone();
        let stopped = dc["spec"]["stopped"] == true;
        let size = dc["spec"]["size"].as_u64().unwrap();
        let replicas = if stopped && !script.never_stops { 0 } else { size };
        let (set, template) = self.set(&dc, replicas, script.ignores_template).await?;
        let pods =
            self.pods.list(&ListParams::default().labels("cassandra.datastax.com/datacenter=dc1")).await?;
        let mut replaced = 0;
        for pod in &pods.items {
            let name = pod.metadata.name.clone().unwrap();
            let same = pod.metadata.annotations.as_ref().and_then(|a| a.get(TEMPLATE)) == Some(&template);
            // Where they are replaced, one at a time.
            if replicas == 0 || (!same && replaced == 0) {
                self.pods.delete(&name, &DeleteParams::default().grace_period(0)).await?;
                replaced += 1;
            }
        }
        let mut up = 0;
        for ordinal in 0..replicas {
            let name = format!("{SET}-{ordinal}");
            match pods.items.iter().find(|p| p.metadata.name.as_ref() == Some(&name)) {
                Some(pod) => {
                    let same =
                        pod.metadata.annotations.as_ref().and_then(|a| a.get(TEMPLATE)) == Some(&template);
                    up += u64::from(ready(pod) && same);
                    if !ready(pod) {
                        self.run(pod).await?;
                    }
                }
                None => self.create(&name, &set, &template).await?,
            }
        }
        let is_up = up == replicas && pods.items.len() as u64 == replicas;
        let counts = json!({
            "observedGeneration": set.metadata.generation, "replicas": pods.items.len(),
            "readyReplicas": up, "updatedReplicas": up
        });
        let told = serde_json::to_value(&set.status).unwrap();
        // The API server leaves out what is 0, and has counts of its own besides.
        let is_told = |(count, n): (&String, &Value)| told.get(count).unwrap_or(&json!(0)) == n;
        if !counts.as_object().unwrap().iter().all(is_told) {
            let patch = Patch::Merge(json!({"status": counts}));
            self.sets.patch_status(SET, &PatchParams::default(), &patch).await?;
        }
        let is_ready = !stopped && is_up && replicas == size && !script.never_ready;
        let condition = |type_: &str, holds: bool| {
            json!({"type": type_, "status": if holds { "True" } else { "False" }, "reason": "", "message": "",
                   "lastTransitionTime": "2026-01-01T00:00:00Z"})
        };
        let status = json!({
            "observedGeneration": generation,
            "cassandraOperatorProgress": if is_up { "Ready" } else { "Updating" },
            "conditions": [
                condition("Ready", is_ready), condition("Stopped", stopped),
                condition("Updating", !is_up && !stopped)
            ]
        });
        if dc["status"] != status {
            let patch = Patch::Merge(json!({"status": status}));
            self.datacenters.patch_status("dc1", &PatchParams::default(), &patch).await?;
        }
        Ok(())
    }

    /// The StatefulSet as it should be, and what its template is remembered by.
    async fn set(
        &self,
        dc: &Value,
        replicas: u64,
        keeps_template: bool,
    ) -> Result<(StatefulSet, String), kube::Error> {
        let mut template = dc["spec"]["podTemplateSpec"].clone();
        template["metadata"]["labels"] = labels();
        let source = template.to_string();
        let wanted = json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"name": SET, "labels": labels(), "annotations": {TEMPLATE: source}},
            "spec": {"replicas": replicas, "serviceName": "all", "podManagementPolicy": "Parallel",
                     "selector": {"matchLabels": labels()}, "template": template}
        });
        let Some(set) = self.sets.get_opt(SET).await? else {
            let set = serde_json::from_value(wanted).unwrap();
            return Ok((self.sets.create(&PostParams::default(), &set).await?, source));
        };
        let old = set.metadata.annotations.as_ref().unwrap()[TEMPLATE].clone();
        if keeps_template && old != source {
            return Ok((set, old));
        }
        if old == source && set.spec.as_ref().unwrap().replicas.map(i64::from) == i64::try_from(replicas).ok()
        {
            return Ok((set, source));
        }
        let params = PatchParams::apply("cass-operator").force();
        Ok((self.sets.patch(SET, &params, &Patch::Apply(wanted)).await?, source))
    }

    async fn create(&self, name: &str, set: &StatefulSet, template: &str) -> Result<(), kube::Error> {
        let mut spec = serde_json::to_value(set.spec.as_ref().unwrap().template.spec.as_ref()).unwrap();
        spec["nodeName"] = json!(self.kubelet.node);
        spec["terminationGracePeriodSeconds"] = json!(0);
        let ordinal: usize = name.rsplit('-').next().unwrap().parse().unwrap();
        for container in spec["containers"].as_array_mut().unwrap() {
            if container["name"] == "medusa" {
                container["ports"] = json!([{"name": "grpc", "containerPort": self.ports[ordinal]}]);
            }
        }
        let pod = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": labels(), "annotations": {TEMPLATE: template}}, "spec": spec
        }))
        .unwrap();
        match self.pods.create(&PostParams::default(), &pod).await {
            Ok(pod) => self.run(&pod).await,
            Err(error) => Err(error),
        }
    }

    /// Runs the pod's init container and, when that ended well, the others.
    async fn run(&self, pod: &Pod) -> Result<(), kube::Error> {
        let name = pod.metadata.name.clone().unwrap();
        let now = clock::now().to_string();
        let ended =
            |code: i32| json!({"terminated": {"exitCode": code, "finishedAt": now, "startedAt": now}});
        let done = (json!(ended(0)), json!({}), 0);
        let behaviour = self.script.lock().unwrap().pods.get(&name).copied().unwrap_or_default();
        let (state, last, restarts) = match (self.restore(&name, pod, behaviour), behaviour) {
            (true, Behaviour::Hangs) => (json!({"running": {"startedAt": now}}), json!({}), 0),
            (true, Behaviour::Crashes(n)) => {
                (json!({"waiting": {"reason": "CrashLoopBackOff"}}), ended(1), n)
            }
            _ => done,
        };
        let is_up = state.get("terminated").is_some();
        let restore = json!({
            "name": "medusa-restore", "image": "none", "imageID": "none", "ready": is_up, "restartCount": restarts,
            "state": state, "lastState": last
        });
        let medusa = json!({
            "name": "medusa", "containerID": "fake://1", "restartCount": 0, "image": "none", "imageID": "none",
            "ready": is_up, "started": is_up, "lastState": {}, "state": {}
        });
        let status = json!({"status": {
            "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}],
            "initContainerStatuses": [restore], "containerStatuses": [medusa],
            "conditions": [{"type": "Ready", "status": if is_up { "True" } else { "False" }, "lastTransitionTime": now}]
        }});
        let old = serde_json::to_value(&pod.status).unwrap();
        let same = old["initContainerStatuses"][0]["state"].get("terminated").is_some() == is_up
            && old["initContainerStatuses"][0]["restartCount"] == json!(restarts);
        if !same {
            self.pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
        }
        Ok(())
    }

    /// What the entrypoint does; true when it has something to restore.
    fn restore(&self, name: &str, pod: &Pod, behaviour: Behaviour) -> bool {
        let containers = pod.spec.as_ref().unwrap().init_containers.clone().unwrap_or_default();
        let container = containers.into_iter().find(|c| c.name == "medusa-restore").unwrap();
        let env: BTreeMap<String, String> =
            container.env.into_iter().flatten().map(|e| (e.name, e.value.unwrap_or_default())).collect();
        let log = |text: String| self.kubelet.write(name, |logs| logs.latest = Some(text));
        let (Some(backup), Some(key)) = (env.get("BACKUP_NAME"), env.get("RESTORE_KEY")) else {
            log("BACKUP_NAME env var not set, skipping restore operation\n".to_owned());
            return false;
        };
        let mut volumes = self.volumes.lock().unwrap();
        let volume = volumes.entry(name.to_owned()).or_default();
        if volume.last_restore.as_ref() == Some(key) {
            if behaviour != Behaviour::Mute {
                log("Skipping restore operation\n".to_owned());
            }
            return true;
        }
        let mapping: Value = serde_json::from_str(&env["RESTORE_MAPPING"]).unwrap();
        let source = mapping["host_map"][name]["source"][0].as_str().unwrap().to_owned();
        match behaviour {
            Behaviour::Hangs => log(format!("Restoring backup {backup}\n")),
            Behaviour::Crashes(_) => {
                let text = "[2026-01-01 00:00:00,000] ERROR: No such backup\n".to_owned();
                self.kubelet.write(name, |logs| logs.previous = Some(text));
            }
            Behaviour::Skips => {
                log(format!(
                    "[t] INFO: Found 0 backups\n[t] INFO: Skipped restore of missing backup {backup}\n"
                ));
                volume.last_restore = Some(key.clone());
            }
            Behaviour::Restores | Behaviour::Mute | Behaviour::RunsTwice => {
                let text =
                    format!("Restoring backup {backup}\n[t] INFO: Finished restore of backup {backup}\n");
                self.kubelet.write(name, |logs| match behaviour {
                    Behaviour::Mute => logs.latest = None,
                    Behaviour::RunsTwice => {
                        logs.previous = Some(text);
                        logs.latest = Some("Skipping restore operation\n".to_owned());
                    }
                    _ => logs.latest = Some(text),
                });
                volume.last_restore = Some(key.clone());
                volume.holds = Some((backup.clone(), source));
                volume.restores += 1;
            }
        }
        true
    }
}

fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}
