//! Carries the plan out, and keeps a record of what was done and when.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use kube::{
    api::{DeleteParams, ListParams},
    config::Kubeconfig,
};
use medusa_fleet::api::{
    fleet::{FleetBackup, FleetRestoreJob, Phase},
    labels,
    medusa::MedusaBackup,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    action::{Action, Order, OrderKind},
    harness::{Cluster, Result},
    latency::{Probe, Spell},
    observed::{Disturbance, What},
    reading::anew,
    stage::{DATACENTERS, NAMESPACE, SOURCES, Stage},
};

/// MedusaBackups that stay of each datacenter.
const RETAINED: usize = 25;
/// How long the removal of others may take in one data plane.
const RETAINING: Duration = Duration::from_secs(20);
/// How long after a kill, or after it goes on, the control plane counts as away: it has to know the fleet first.
const AWAY: jiff::SignedDuration = jiff::SignedDuration::from_secs(10);

/// What was done.
#[derive(Default)]
pub struct Record {
    /// What was done to data planes.
    pub disturbances: Vec<Disturbance>,
    /// Faults of the simulator.
    pub spells: Vec<Spell>,
    /// When the control plane was not there.
    pub down: Vec<(Timestamp, Timestamp)>,
    /// FleetBackupJobs by which the latency is measured.
    pub probes: Vec<Probe>,
    /// How often the control plane was started.
    pub starts: usize,
    /// How often something was done to an object, by its name.
    pub done: BTreeMap<String, usize>,
    /// Actions that could not be carried out, and why.
    pub troubles: Vec<String>,
    contents: usize,
    background: JoinSet<()>,
}

/// What time it is.
pub fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "a measuring program reads the clock")]
    Timestamp::now()
}

impl Record {
    /// Carries out one action.
    pub async fn perform(&mut self, stage: &mut Stage, action: &Action) -> Result<()> {
        for name in subjects(action) {
            *self.done.entry(name).or_default() += 1;
        }
        match action {
            Action::Run(order) => self.run(stage, order).await,
            Action::Cancel(name) => {
                let change = fleet("FleetBackupJob", name, json!({"cancel": true}));
                stage.change(NAMESPACE, &change).await.map(drop)
            }
            Action::Schedule(timetable) => stage.apply(NAMESPACE, &timetable.object()).await,
            Action::Suspend(name, suspend) => {
                let change = fleet("FleetBackupSchedule", name, json!({"suspend": suspend}));
                stage.change(NAMESPACE, &change).await.map(drop)
            }
            Action::Unschedule(name) => {
                stage.delete(NAMESPACE, &fleet("FleetBackupSchedule", name, json!({}))).await.map(drop)
            }
            Action::Rotate(name) => stage.apply(SOURCES, &self.secret(name)).await,
            Action::Configure(name) => {
                stage.apply(SOURCES, &self.secret(name)).await?;
                stage.apply(SOURCES, &configuration(name)).await
            }
            Action::Unconfigure(name) => {
                stage.delete(SOURCES, &configuration(name)).await?;
                stage.delete(SOURCES, &self.secret(name)).await.map(drop)
            }
            Action::Register(plane) => {
                let kubeconfig = stage.kubeconfig(plane)?;
                stage.apply(NAMESPACE, &registration(plane, &kubeconfig)).await?;
                self.ends(What::Unregistered, plane);
                Ok(())
            }
            Action::Unregister(plane) => {
                self.begins(What::Unregistered, plane);
                stage.delete(NAMESPACE, &registration(plane, "")).await.map(drop)
            }
            Action::Rewrite(plane) => {
                self.contents += 1;
                let name = format!("context-{}", self.contents);
                let kubeconfig = with_context(&stage.kubeconfig(plane)?, &name)?;
                stage.apply(NAMESPACE, &registration(plane, &kubeconfig)).await
            }
            Action::Break(plane) => {
                self.begins(What::Fault, plane);
                let kubeconfig = with_token(&stage.kubeconfig(plane)?, "sim-nobody-knows-this-one")?;
                stage.apply(NAMESPACE, &registration(plane, &kubeconfig)).await
            }
            Action::Mend(plane) => {
                let kubeconfig = stage.kubeconfig(plane)?;
                stage.apply(NAMESPACE, &registration(plane, &kubeconfig)).await?;
                self.ends(What::Fault, plane);
                Ok(())
            }
            Action::Fault(fault, planes) => self.fault(stage, fault, planes).await,
            Action::Heal(planes) => {
                stage.fault(&json!({"fault": "none"}), planes).await?;
                for plane in planes {
                    self.ends(What::Fault, plane);
                }
                let at = now();
                // Spells that are open are those of these data planes: a phase ends as a whole.
                self.spells
                    .iter_mut()
                    .filter(|spell| spell.until == Timestamp::MAX)
                    .for_each(|spell| spell.until = at);
                Ok(())
            }
            Action::Kill => {
                stage.control_plane.restart()?;
                self.starts += 1;
                self.down.push((now(), now() + AWAY));
                Ok(())
            }
            Action::Stop => {
                self.down.push((now(), Timestamp::MAX));
                stage.control_plane.signal("STOP")
            }
            Action::Continue => {
                stage.control_plane.signal("CONT")?;
                let stopped = self.down.iter_mut().filter(|(_, until)| *until == Timestamp::MAX);
                stopped.for_each(|(_, until)| *until = now() + AWAY);
                Ok(())
            }
            Action::Retain => self.retain(stage).await,
        }
    }

    async fn run(&mut self, stage: &Stage, order: &Order) -> Result<()> {
        let backup = match (order.kind, order.planes.as_slice()) {
            (OrderKind::Restore, [plane]) => restore_point(stage, plane).await?,
            _ => None,
        };
        if order.kind == OrderKind::Restore && backup.is_none() {
            return Err("there is no restore point".into());
        }
        let object = order.object(backup.as_deref());
        if order.is_probe {
            self.probes.push(Probe { name: order.name.clone(), at: now() });
        }
        stage.apply(NAMESPACE, &object).await
    }

    async fn fault(&mut self, stage: &Stage, fault: &Value, planes: &[String]) -> Result<()> {
        let name = fault.get("fault").and_then(Value::as_str).unwrap_or_default();
        for plane in planes {
            self.begins(What::Fault, plane);
        }
        stage.fault(fault, planes).await?;
        self.spells.push(Spell { fault: name.to_owned(), from: now(), until: Timestamp::MAX });
        Ok(())
    }

    /// The Secret of a MedusaConfiguration, with a content that it never had.
    fn secret(&mut self, name: &str) -> Value {
        self.contents += 1;
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "Opaque",
            "stringData": {"credentials": format!("[default]\naws_access_key_id = content {}\n", self.contents)},
        })
    }

    fn begins(&mut self, what: What, plane: &str) {
        self.disturbances.push(Disturbance { plane: plane.to_owned(), what, from: now(), until: None });
    }

    fn ends(&mut self, what: What, plane: &str) {
        let open = |one: &&mut Disturbance| one.plane == plane && one.what == what && one.until.is_none();
        self.disturbances.iter_mut().filter(open).for_each(|one| one.until = Some(now()));
    }

    /// Of each datacenter to which nothing is done now, the newest MedusaBackups stay; FleetRestoreJobs, which nobody else
    /// deletes, go when they are over.
    async fn retain(&mut self, stage: &Stage) -> Result<()> {
        let is_disturbed =
            |name: &str| self.disturbances.iter().any(|one| one.plane == name && one.until.is_none());
        for (_, cluster) in stage.planes.iter().filter(|(name, _)| !is_disturbed(name)) {
            let cluster = anew(cluster)?;
            self.background.spawn(async move {
                let _ = tokio::time::timeout(RETAINING, retain_newest(&cluster)).await;
            });
        }
        let restores = stage.home.api::<FleetRestoreJob>(NAMESPACE);
        for job in restores.list(&ListParams::default()).await? {
            let is_over = job.status.as_ref().and_then(|status| status.phase).is_some_and(Phase::is_final);
            if let Some(name) = job.metadata.name.filter(|_| is_over) {
                restores.delete(&name, &DeleteParams::default()).await?;
            }
        }
        Ok(())
    }

    /// Waits for what goes on beside the plan.
    pub async fn finish(&mut self) {
        while self.background.join_next().await.is_some() {}
    }
}

/// Names of what an action is about.
fn subjects(action: &Action) -> Vec<String> {
    match action {
        Action::Fault(_, planes) | Action::Heal(planes) => planes.clone(),
        Action::Run(order) => order.planes.clone(),
        Action::Schedule(timetable) => vec![timetable.name.clone()],
        Action::Cancel(name)
        | Action::Suspend(name, _)
        | Action::Unschedule(name)
        | Action::Rotate(name)
        | Action::Configure(name)
        | Action::Unconfigure(name)
        | Action::Register(name)
        | Action::Unregister(name)
        | Action::Rewrite(name)
        | Action::Break(name)
        | Action::Mend(name) => vec![name.clone()],
        Action::Kill | Action::Stop | Action::Continue | Action::Retain => Vec::new(),
    }
}

async fn retain_newest(cluster: &Cluster) -> Result<()> {
    let backups = cluster.api::<MedusaBackup>(DATACENTERS);
    let started = |backup: &MedusaBackup| backup.metadata.creation_timestamp.clone().map(|at| at.0);
    let mut all = backups.list(&ListParams::default()).await?.items;
    all.sort_by_key(|backup| std::cmp::Reverse(started(backup)));
    for name in all.into_iter().skip(RETAINED).filter_map(|backup| backup.metadata.name) {
        backups.delete(&name, &DeleteParams::default()).await?;
    }
    Ok(())
}

/// The newest FleetBackup from which a data plane's datacenter can be restored.
async fn restore_point(stage: &Stage, plane: &str) -> Result<Option<String>> {
    let all = stage.home.api::<FleetBackup>(NAMESPACE).list(&ListParams::default()).await?;
    let points = all.items.into_iter().filter_map(|backup| {
        let status = backup.status?;
        let is_its = status.datacenters.iter().all(|part| part.data_plane == plane);
        let start = status.start_time.map(|at| at.0)?;
        (is_its && status.complete && status.restorable).then_some((start, backup.metadata.name?))
    });
    Ok(points.max().map(|(_, name)| name))
}

/// A MedusaConfiguration that is copied wherever there is a datacenter.
pub fn configuration(name: &str) -> Value {
    json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaConfiguration",
        "metadata": {"name": name, "annotations": {labels::TARGETS: "*"}},
        "spec": {"storageProperties": {
            "storageProvider": "s3", "bucketName": "backups", "region": "eu-central-1",
            "storageSecretRef": {"name": name},
        }},
    })
}

/// The Secret that registers a data plane.
pub fn registration(plane: &str, kubeconfig: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": plane, "labels": {labels::REGISTER: "true"}},
        "stringData": {"kubeconfig": kubeconfig},
    })
}

fn fleet(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// A kubeconfig whose context has another name.
fn with_context(kubeconfig: &str, name: &str) -> Result<String> {
    let mut file = Kubeconfig::from_yaml(kubeconfig)?;
    file.contexts.iter_mut().for_each(|context| name.clone_into(&mut context.name));
    file.current_context = Some(name.to_owned());
    Ok(serde_json::to_string(&file)?)
}

/// A kubeconfig with another token.
fn with_token(kubeconfig: &str, token: &str) -> Result<String> {
    let mut file = Kubeconfig::from_yaml(kubeconfig)?;
    let users = file.auth_infos.iter_mut().filter_map(|user| user.auth_info.as_mut());
    users.for_each(|user| user.token = Some(token.to_owned().into()));
    Ok(serde_json::to_string(&file)?)
}
