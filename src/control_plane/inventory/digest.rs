//! What a cluster's restore points come to: enough to judge the cluster without looking at them again. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::{
    points::{FOREIGN_PHASE, RestorePoint},
    verdict::is_timeless,
};
use crate::api::fleet::InventoryDrift;

/// How many differences are listed.
const MAX_DRIFT: usize = 20;

/// A datacenter's newest successful backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Newest {
    /// Name of the MedusaBackup.
    pub backup: Option<String>,
    pub finish: Option<Timestamp>,
    pub duration: Option<SignedDuration>,
    /// Its size in bytes.
    pub size: Option<i64>,
}

/// A cluster's restore points in short.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Digest {
    /// How many are complete.
    pub complete: i64,
    /// How many MedusaBackups its datacenters show that are of datacenters outside the cluster.
    pub foreign: i64,
    /// Name and start of the newest complete one. A restore brings back what was there when the first datacenter
    /// took its snapshot.
    pub last: Option<(String, Timestamp)>,
    /// Start of the newest one of which nobody knows whether it is complete.
    pub unknown: Option<Timestamp>,
    /// The newest successful backup by data plane, namespace and name of the datacenter.
    pub newest: BTreeMap<(String, String, String), Newest>,
    /// Differences, the newest restore points first, cut at a limit.
    pub drift: Vec<InventoryDrift>,
    /// How many there are.
    pub drift_total: usize,
}

impl Digest {
    /// Of all restore points of a cluster, in any order, at `now`.
    #[must_use]
    pub fn of(points: &[RestorePoint], now: Timestamp) -> Self {
        let start = |point: &RestorePoint| point.status.start_time.as_ref().map(|t| t.0);
        let complete = points.iter().filter(|p| p.status.complete);
        let past = complete.clone().filter(|p| !is_timeless(&p.status, now));
        let last = past.max_by_key(|p| (start(p), &p.name));
        let foreign = points.iter().filter(|p| p.status.phase == FOREIGN_PHASE);
        let foreign: usize = foreign.map(|p| p.status.datacenters.len()).sum();
        let unknown = points.iter().filter(|p| p.status.phase == "Unknown").filter_map(start).max();
        let mut newest: BTreeMap<(String, String, String), Newest> = BTreeMap::new();
        let entries = points.iter().flat_map(|p| &p.status.datacenters).filter(|e| e.status == "SUCCESS");
        for entry in entries {
            let (begin, end) =
                (entry.start_time.as_ref().map(|t| t.0), entry.finish_time.as_ref().map(|t| t.0));
            let found = Newest {
                backup: entry.medusa_backup.clone(),
                finish: end,
                duration: begin.zip(end).map(|(begin, end)| end.duration_since(begin)),
                size: entry.size_bytes,
            };
            let place = (entry.data_plane.clone(), entry.namespace.clone(), entry.name.clone());
            let known = newest.entry(place).or_default();
            if (found.finish, &found.backup) > (known.finish, &known.backup) {
                *known = found;
            }
        }
        let mut drifting: Vec<&RestorePoint> = points.iter().filter(|p| !p.drift.is_empty()).collect();
        drifting.sort_by(|a, b| (start(b), &b.name).cmp(&(start(a), &a.name)));
        Self {
            complete: i64::try_from(complete.count()).unwrap_or(i64::MAX),
            foreign: i64::try_from(foreign).unwrap_or(i64::MAX),
            last: last.and_then(|p| Some((p.name.clone(), start(p)?))),
            unknown,
            newest,
            drift_total: drifting.iter().map(|p| p.drift.len()).sum(),
            drift: drifting.iter().flat_map(|p| p.drift.iter().cloned()).take(MAX_DRIFT).collect(),
        }
    }
}
