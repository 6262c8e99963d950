//! Ten thousand MedusaBackups over fifty datacenters, without API servers: what one look at them costs.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    harness::{Result, memory},
    report::{Report, Row},
};
use jiff::Timestamp;
use medusa_fleet::{
    api::fleet::{FleetBackup, FleetBackupSpec},
    control_plane::{
        data_planes::{
            fleet::{Fleet, Snapshot},
            records::BackupRecord,
            view::{Contact, ObjectKey, View},
        },
        inventory::{
            memo::Inventory,
            observe::{PublishedClusters, PublishedPoints},
        },
    },
    runtime::clock,
};
use serde_json::json;

/// Cassandra clusters.
const CLUSTERS: usize = 10;
/// Datacenters of each, every one in a data plane of its own.
const DATACENTERS: usize = 5;
/// MedusaBackups in every datacenter.
const BACKUPS: usize = 200;
/// Nodes of every datacenter.
const NODES: i64 = 6;

/// Milliseconds of a first look, of one at which nothing has changed, and of one after a MedusaBackup changed; and
/// MiB held.
pub fn inventory(runs: usize, report: &mut Report) -> Result<()> {
    let before = memory(std::process::id(), "VmRSS")?;
    let mut planes = fleet()?;
    let seen = memory(std::process::id(), "VmRSS")?;
    let (nothing, none) = (PublishedPoints::new(), PublishedClusters::new());
    let mut first = Vec::new();
    let mut published = PublishedPoints::new();
    let mut inventory = Inventory::default();
    for _ in 0..runs {
        inventory = Inventory::default();
        let start = Instant::now();
        let look = inventory.look(&planes, &nothing, &none, BTreeMap::new(), clock::now());
        first.push(millis(start.elapsed()));
        published = look
            .unwritten
            .into_iter()
            .map(|(name, status)| {
                let mut object = FleetBackup::new(name, FleetBackupSpec {});
                object.status = Some(status.clone());
                (name.to_owned(), Arc::new(object))
            })
            .collect();
    }
    inventory.look(&planes, &published, &none, BTreeMap::new(), clock::now());
    let held = memory(std::process::id(), "VmRSS")?;
    let (mut idle, mut changed, mut computed) = (Vec::new(), Vec::new(), 0);
    for run in 0..runs {
        let start = Instant::now();
        inventory.look(&planes, &published, &none, BTreeMap::new(), clock::now());
        idle.push(millis(start.elapsed()));
        change(&mut planes, run)?;
        let start = Instant::now();
        computed = inventory.look(&planes, &published, &none, BTreeMap::new(), clock::now()).computed;
        changed.push(millis(start.elapsed()));
    }
    let count = CLUSTERS * DATACENTERS;
    let points = published.len();
    let row = |what: &str, values: &[f64], note: String| {
        Row::new(format!("inventory of {} MedusaBackups, {what}", count * BACKUPS), count, 0, "ms")
            .ours(values)
            .note(note)
    };
    report.add(row("everything", &first, format!("{points} restore points, {CLUSTERS} clusters")));
    report.add(row("nothing changed", &idle, "no cluster computed".to_owned()));
    report.add(row("one changed", &changed, format!("{computed} cluster computed")));
    let note = format!("views {:.1} MiB, published and remembered {:.1} MiB", seen - before, held - seen);
    report.add(Row::new("inventory, memory", count, 0, "MiB").ours(&[held - before]).note(note));
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Data planes that answer, with everything listed.
fn fleet() -> Result<Vec<Snapshot>> {
    let start = Timestamp::from_second(1_700_000_000)?;
    let fleet = Fleet::default();
    for cluster in 0..CLUSTERS {
        for number in 0..DATACENTERS {
            let name = format!("dc{number}");
            let mut view = View::unknown();
            view.contact = Contact::Live;
            view.datacenters.trust.follow();
            view.backups.trust.follow();
            let datacenter = serde_json::from_value(json!({
                "apiVersion": "cassandra.datastax.com/v1beta1", "kind": "CassandraDatacenter",
                "metadata": {"name": name, "namespace": "cass",
                    "labels": {"fleet.k8ssandra.io/cluster": format!("cluster{cluster}")}},
                "spec": {"clusterName": format!("cluster{cluster}"), "size": NODES},
            }))?;
            view.datacenters.put(ObjectKey::new("cass", &name), Arc::new(datacenter));
            for backup in 0..BACKUPS {
                let key = ObjectKey::new("cass", format!("run{backup}-{name}-0b1c2d3e"));
                view.backups.put(key, Arc::new(record(&name, start)));
            }
            let plane = format!("dp{cluster}x{number}");
            fleet.enrol(&plane, &plane, |_| {});
            fleet.member(&plane).ok_or("it was just added")?.view.update(|unknown| *unknown = view);
        }
    }
    Ok(fleet.snapshot())
}

fn record(datacenter: &str, start: Timestamp) -> BackupRecord {
    BackupRecord {
        datacenter: datacenter.to_owned(),
        created: Some(start),
        status: "SUCCESS".to_owned(),
        start_time: Some(start),
        finish_time: Some(start),
        total_nodes: NODES,
        finished_nodes: NODES,
        files: Some(1_000),
        size_bytes: Some(1 << 30),
        node_datacenters: vec![datacenter.to_owned()],
        racks: BTreeMap::from([("default".to_owned(), NODES)]),
        ..BackupRecord::default()
    }
}

/// One MedusaBackup of the first data plane arrives anew.
fn change(planes: &mut [Snapshot], run: usize) -> Result<()> {
    let view = Arc::make_mut(&mut planes.first_mut().ok_or("no data planes")?.view);
    let key = ObjectKey::new("cass", format!("run{run}-dc0-0b1c2d3e"));
    let start = Timestamp::from_second(1_700_000_001)?;
    view.backups.put(key, Arc::new(record("dc0", start)));
    Ok(())
}
