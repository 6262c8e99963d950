//! Reads what the oracle judges: from the control plane's cluster, from every data plane, and from the simulator.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::try_join_all;
use k8s_openapi::{NamespaceResourceScope, api::core::v1::Secret, api::events::v1::Event};
use kube::{Client, Resource, ResourceExt, api::ListParams};
use medusa_fleet::api::{
    Conditions as _,
    fleet::{DataPlane, FleetBackup, FleetBackupSchedule},
    labels,
    medusa::{MedusaBackup, MedusaBackupJob, MedusaConfiguration, MedusaRestoreJob, MedusaTask},
};
use serde_json::Value;

use crate::{
    harness::{Cluster, Kind, Result},
    ledger::{KINDS, fleet_api},
    observed::{End, HomeNow, Made, Observed, Open, PlaneNow},
    parse,
    perform::Record,
    sockets::by_port,
    stage::{DATACENTERS, NAMESPACE, NODES, SOURCES, Stage},
};

/// What runs and schedules make. Copies may be made again and again.
const JUDGED: [&str; 4] = ["medusabackupjobs", "medusatasks", "medusarestorejobs", "medusabackupschedules"];

/// The simulator's journal, as far as it was read.
#[derive(Default)]
pub struct Journal {
    read: usize,
    made: Vec<Made>,
}

impl Journal {
    /// Reads on.
    async fn read(&mut self, stage: &Stage) -> Result<()> {
        let answer = stage.ask(&format!("/journal?since={}", self.read)).await?;
        let lines = answer.get("entries").and_then(Value::as_array).ok_or("the simulator has no journal")?;
        self.read += lines.len();
        for line in lines {
            let told = parse::made(line);
            if !JUDGED.contains(&told.resource.as_str()) {
                continue;
            }
            if line.get("deleted") != Some(&Value::Bool(true)) {
                self.made.push(told);
                continue;
            }
            let is_it = |made: &&mut Made| made.uid == told.uid;
            if let Some(made) = self.made.iter_mut().rev().find(is_it) {
                made.deleted = Some(told.at);
                made.end = line.get("object").map_or(End::Untouched, |object| parse::end(object, NODES));
            }
        }
        Ok(())
    }
}

/// Everything as it is now.
pub async fn observe(stage: &Stage, journal: &mut Journal, record: &Record, idle: Open) -> Result<Observed> {
    let mut there = Vec::new();
    for kind in KINDS {
        let runs = fleet_api(&stage.home.client, NAMESPACE, kind).list(&ListParams::default()).await?;
        for run in runs {
            there.push(stage.ledger.note(kind, &serde_json::to_value(run)?));
        }
    }
    let open = stage.open().await?;
    // Connections of our own would be counted with those that are judged: they end with the client.
    let clients = stage.planes.values().map(anew).collect::<Result<Vec<Cluster>>>()?;
    let read = try_join_all(clients.iter().map(plane)).await?;
    drop(clients);
    let held = by_port(stage.control_plane.pid())?;
    journal.read(stage).await?;
    let mut made = journal.made.clone();
    let mut planes = BTreeMap::new();
    for (name, (mut now, ends)) in stage.planes.keys().zip(read) {
        now.open = open.get(name).copied().unwrap_or_default();
        let port = stage.planes.get(name).and_then(|cluster| cluster.config.cluster_url.port_u16());
        now.held = port.and_then(|port| held.get(&port)).copied().unwrap_or_default();
        let still = made.iter_mut().filter(|one| one.deleted.is_none() && one.plane == *name);
        still.for_each(|one| one.end = ends.get(&one.uid).copied().unwrap_or_default());
        planes.insert(name.clone(), now);
    }
    Ok(Observed {
        runs: stage.ledger.runs(&there),
        made,
        planes,
        home: home(&stage.home).await?,
        disturbances: record.disturbances.clone(),
        idle,
        starts: record.starts,
        done: record.done.clone(),
    })
}

/// A cluster, with connections of its own.
pub fn anew(cluster: &Cluster) -> Result<Cluster> {
    Ok(Cluster { client: Client::try_from(cluster.config.clone())?, ..cluster.clone() })
}

async fn list<K: Kind>(cluster: &Cluster, namespace: &str) -> Result<Vec<K>> {
    let listed = cluster.api::<K>(namespace).list(&ListParams::default()).await;
    Ok(listed.map_err(|error| format!("list {} in {}: {error}", K::plural(&()), cluster.name))?.items)
}

/// A data plane, and by uid what the objects there have come to.
async fn plane(cluster: &Cluster) -> Result<(PlaneNow, BTreeMap<String, End>)> {
    let mut ends = BTreeMap::new();
    ends_of::<MedusaBackupJob>(cluster, &mut ends).await?;
    ends_of::<MedusaTask>(cluster, &mut ends).await?;
    ends_of::<MedusaRestoreJob>(cluster, &mut ends).await?;
    let backups = list::<MedusaBackup>(cluster, DATACENTERS).await?;
    let now = PlaneNow {
        secrets: secrets(cluster, DATACENTERS).await?,
        configurations: configurations(cluster, DATACENTERS).await?,
        backups: backups.iter().map(ResourceExt::name_any).collect(),
        open: Open::default(),
        held: 0,
    };
    Ok((now, ends))
}

async fn ends_of<K>(cluster: &Cluster, ends: &mut BTreeMap<String, End>) -> Result<()>
where
    K: Kind + Resource<DynamicType = (), Scope = NamespaceResourceScope> + serde::Serialize,
{
    for object in list::<K>(cluster, DATACENTERS).await? {
        ends.insert(object.uid().unwrap_or_default(), parse::end(&serde_json::to_value(&object)?, NODES));
    }
    Ok(())
}

/// Names and contents of the Secrets in a namespace.
async fn secrets(cluster: &Cluster, namespace: &str) -> Result<BTreeMap<String, String>> {
    let all = list::<Secret>(cluster, namespace).await?;
    let content = |secret: &Secret| format!("{:?}", secret.data);
    Ok(all.iter().map(|secret| (secret.name_any(), content(secret))).collect())
}

async fn configurations(cluster: &Cluster, namespace: &str) -> Result<BTreeMap<String, String>> {
    let all = list::<MedusaConfiguration>(cluster, namespace).await?;
    all.iter().map(|one| Ok((one.name_any(), serde_json::to_string(&one.spec)?))).collect()
}

async fn home(home: &Cluster) -> Result<HomeNow> {
    let secrets_here = list::<Secret>(home, NAMESPACE).await?;
    let registered = secrets_here.iter().filter(|secret| secret.labels().contains_key(labels::REGISTER));
    let backups = list::<FleetBackup>(home, NAMESPACE).await?;
    let parts =
        backups.iter().filter_map(|backup| backup.status.as_ref()).flat_map(|status| &status.datacenters);
    let told = parts.filter(|part| !["MISSING", ""].contains(&part.status.as_str()));
    let mut events = BTreeMap::new();
    for event in list::<Event>(home, NAMESPACE).await? {
        let about = event.regarding.unwrap_or_default();
        let key = (
            about.kind.unwrap_or_default(),
            about.name.unwrap_or_default(),
            event.reason.unwrap_or_default(),
        );
        *events.entry(key).or_insert(0) += 1;
    }
    Ok(HomeNow {
        registered: registered.map(ResourceExt::name_any).collect(),
        data_planes: list::<DataPlane>(home, NAMESPACE).await?.iter().map(readiness).collect(),
        secrets: secrets(home, SOURCES).await?,
        configurations: configurations(home, SOURCES).await?,
        backups: told
            .map(|part| (part.data_plane.clone(), part.medusa_backup.clone().unwrap_or_default()))
            .collect(),
        schedules: list::<FleetBackupSchedule>(home, NAMESPACE)
            .await?
            .iter()
            .map(ResourceExt::name_any)
            .collect(),
        events,
    })
}

/// A DataPlane's name, and why it is not ready.
fn readiness(plane: &DataPlane) -> (String, String) {
    let ready = plane.status.as_ref().and_then(|status| status.conditions.of_type("Ready"));
    let words = match ready {
        Some(ready) if ready.status == "True" => String::new(),
        Some(ready) => format!("{}: {}", ready.reason, ready.message),
        None => "it says nothing".to_owned(),
    };
    (plane.name_any(), words)
}

/// DataPlanes that are not ready, and why.
pub async fn not_ready(stage: &Stage, wanted: &BTreeSet<String>) -> Result<Vec<String>> {
    let all: BTreeMap<String, String> =
        list::<DataPlane>(&stage.home, NAMESPACE).await?.iter().map(readiness).collect();
    let lacks = |name: &String| match all.get(name) {
        None => Some(format!("{name} is not there")),
        Some(words) if words.is_empty() => None,
        Some(words) => Some(format!("{name}: {words}")),
    };
    Ok(wanted.iter().filter_map(lacks).collect())
}
