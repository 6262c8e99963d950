//! FleetClusters and FleetBackups that fit into what etcd stores, however many datacenters data planes show and whatever
//! they write into them (ADR 12). Pure.
//!
//! The verdicts always fit. Datacenters are left out last, the same number in each data plane, so that one cannot crowd
//! another's out; how many is said. Those of which something stands here that is known nowhere else stay before all.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    api::fleet::{FleetBackupStatus, FleetClusterStatus},
    control_plane::runs::compact::{BUDGET, cut, size},
};

/// Bytes a status is tried with, one after the other, where the API server finds it too large.
pub const BUDGETS: [usize; 3] = [BUDGET, BUDGET / 8, 0];

/// Longest text of a data plane that is a name, a version or a place.
const WORD: usize = 256;
/// Longest message.
const MESSAGE: usize = 512;
/// Differences that are told in a status that hardly fits.
const FEW: usize = 5;

/// `status` in `budget` bytes, as far as it can be made so small.
#[must_use]
pub fn fit_cluster(mut status: FleetClusterStatus, budget: usize) -> FleetClusterStatus {
    for datacenter in &mut status.datacenters {
        let medusa = &mut datacenter.medusa;
        bound(&mut medusa.image, WORD);
        bound(&mut medusa.message, MESSAGE);
        for change in &mut medusa.changes {
            cut(&mut change.path, WORD);
            bound(&mut change.from, WORD);
            bound(&mut change.to, WORD);
        }
        for kept in &mut medusa.kept {
            cut(&mut kept.path, WORD);
            cut(&mut kept.manager, WORD);
        }
        if let Some(undone) = &mut medusa.undone {
            cut(&mut undone.manager, WORD);
            cut(&mut undone.field, WORD);
        }
        if let Some(storage) = &mut datacenter.storage {
            for text in [&mut storage.provider, &mut storage.bucket, &mut storage.prefix] {
                cut(text, WORD);
            }
        }
    }
    for drift in &mut status.drift {
        cut(&mut drift.message, MESSAGE);
    }
    if size(&status) <= budget {
        return status;
    }
    status.drift.truncate(FEW);
    for datacenter in &mut status.datacenters {
        datacenter.medusa.changes.clear();
        datacenter.medusa.kept.clear();
        bound(&mut datacenter.medusa.message, MESSAGE / 4);
    }
    let all = std::mem::take(&mut status.datacenters);
    let room = budget.saturating_sub(size(&status) + ROOM);
    let (kept, left_out) =
        fair(all, |entry| (entry.medusa.undone.is_none(), entry.data_plane.as_str()), room);
    status.datacenters = kept;
    status.more_datacenters = left_out;
    status
}

/// `status` in `budget` bytes, as far as it can be made so small.
#[must_use]
pub fn fit_backup(mut status: FleetBackupStatus, budget: usize) -> FleetBackupStatus {
    for entry in &mut status.datacenters {
        cut(&mut entry.status, WORD / 4);
        cut(&mut entry.name, WORD);
    }
    if size(&status) <= budget {
        return status;
    }
    let all = std::mem::take(&mut status.datacenters);
    let room = budget.saturating_sub(size(&status) + ROOM);
    let (kept, left_out) = fair(all, |entry| (true, entry.data_plane.as_str()), room);
    status.datacenters = kept;
    status.more_datacenters = left_out;
    status
}

/// What the list itself and the number of those left out take.
const ROOM: usize = 64;

fn bound(text: &mut Option<String>, longest: usize) {
    if let Some(text) = text {
        cut(text, longest);
    }
}

/// As many entries as `room` bytes take, the first of each data plane before the second of any, in the order they were
/// in; and how many were left out. `rank` is whether others go before an entry, and its data plane.
fn fair<T: Serialize>(all: Vec<T>, rank: impl Fn(&T) -> (bool, &str), room: usize) -> (Vec<T>, Option<i64>) {
    let total = all.len();
    let mut seen: BTreeMap<(bool, String), usize> = BTreeMap::new();
    let mut turns: Vec<(bool, usize, usize, usize)> = Vec::with_capacity(total);
    for (number, entry) in all.iter().enumerate() {
        let (is_behind, plane) = rank(entry);
        let turn = seen.entry((is_behind, plane.to_owned())).or_default();
        turns.push((is_behind, *turn, number, size(entry) + 1));
        *turn += 1;
    }
    turns.sort_unstable();
    let mut keeps = vec![false; total];
    let mut used = 0_usize;
    for (_, _, number, bytes) in turns {
        used = used.saturating_add(bytes);
        if used > room {
            break;
        }
        if let Some(keep) = keeps.get_mut(number) {
            *keep = true;
        }
    }
    let kept: Vec<T> = all.into_iter().zip(keeps).filter_map(|(entry, keep)| keep.then_some(entry)).collect();
    let left_out = i64::try_from(total - kept.len()).unwrap_or(i64::MAX);
    (kept, (left_out > 0).then_some(left_out))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::fleet::ClusterDatacenter;

    fn entry(plane: &str, number: usize) -> serde_json::Value {
        json!({
            "dataPlane": plane, "namespace": "n".repeat(63), "name": format!("dc{number}"), "size": 3,
            "medusa": {"deployed": true, "image": "\u{1b}é\"".repeat(5_000), "message": "m".repeat(9_000)},
        })
    }

    fn cluster(hostile: usize) -> FleetClusterStatus {
        let honest = (0..3).map(|n| entry("zz-honest", n));
        let datacenters: Vec<_> = (0..hostile).map(|n| entry("hostile", n)).chain(honest).collect();
        let drift: Vec<_> = (0..20)
            .map(|n| {
                json!({"restorePoint": format!("p{n}"), "dataPlane": "hostile", "namespace": "ns",
                    "datacenter": "dc", "reason": "R", "message": "x".repeat(100_000)})
            })
            .collect();
        let status = json!({
            "size": hostile + 3, "restorePoints": 1, "datacenters": datacenters, "drift": drift,
            "conditions": [{"type": "Protected", "status": "False", "reason": "RecoveryPointStale", "message": "old",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        });
        serde_json::from_value(status).unwrap()
    }

    #[test]
    fn a_cluster_fits_whatever_a_data_plane_shows_and_nobody_else_is_left_out_for_it() {
        let status = cluster(8_000);
        for budget in BUDGETS {
            let fitted = fit_cluster(status.clone(), budget);
            assert!(size(&fitted) <= budget.max(8_000), "{} bytes of {budget}", size(&fitted));
            assert_eq!((&fitted.conditions, fitted.size), (&status.conditions, status.size));
            let left_out = usize::try_from(fitted.more_datacenters.unwrap()).unwrap();
            assert_eq!(fitted.datacenters.len() + left_out, 8_003, "what is left out is counted");
            let honest = |dc: &&ClusterDatacenter| dc.data_plane == "zz-honest";
            assert_eq!(fitted.datacenters.iter().filter(honest).count(), if budget > 0 { 3 } else { 0 });
            assert_eq!(fit_cluster(fitted.clone(), BUDGET).datacenters, fitted.datacenters);
        }
    }

    #[test]
    fn what_fits_loses_nothing_but_very_long_texts() {
        let mut status = cluster(2);
        let undone = json!({"times": 2, "manager": "m".repeat(9_000), "field": "é".repeat(9_000), "uid": "u",
            "decision": "d", "writtenAt": "2026-01-01T00:00:00Z"});
        status.datacenters[0].medusa.undone = Some(serde_json::from_value(undone).unwrap());
        let fitted = fit_cluster(status, BUDGET);
        assert_eq!((fitted.datacenters.len(), fitted.more_datacenters, fitted.drift.len()), (5, None, 20));
        assert!(fitted.datacenters.iter().all(|dc| dc.medusa.image.as_ref().unwrap().len() <= WORD + 3));
        let undone = fitted.datacenters[0].medusa.undone.as_ref().unwrap();
        assert!(undone.manager.len() <= WORD + 3 && undone.field.len() <= WORD + 3);
    }

    #[test]
    fn what_is_known_nowhere_else_of_a_datacenter_stays_first() {
        let mut status = cluster(8_000);
        let undone = json!({"times": 2, "manager": "argocd", "field": ".spec", "uid": "u", "decision": "d",
            "writtenAt": "2026-01-01T00:00:00Z"});
        for number in [3_999, 7_999] {
            status.datacenters[number].medusa.undone = Some(serde_json::from_value(undone.clone()).unwrap());
        }
        let kept = |status: &FleetClusterStatus| {
            let undone = status.datacenters.iter().filter(|dc| dc.medusa.undone.is_some());
            undone.map(|dc| dc.name.clone()).collect::<Vec<_>>()
        };
        for budget in &BUDGETS[..2] {
            let fitted = fit_cluster(status.clone(), *budget);
            assert!(fitted.more_datacenters.is_some() && size(&fitted) <= *budget);
            assert_eq!(kept(&fitted), ["dc3999", "dc7999"]);
        }
    }

    #[test]
    fn so_does_a_restore_point() {
        let part = |plane: &str, n: usize| {
            json!({"name": format!("dc{n}"), "dataPlane": plane, "namespace": "n".repeat(63),
                "medusaBackup": "b".repeat(253), "status": "S".repeat(9_000)})
        };
        let parts: Vec<_> = (0..9_000).map(|n| part("hostile", n)).chain([part("zz-honest", 1)]).collect();
        let status: FleetBackupStatus =
            serde_json::from_value(json!({"cluster": "shop", "phase": "Incomplete", "datacenters": parts}))
                .unwrap();
        let fitted = fit_backup(status, BUDGET);
        assert!(size(&fitted) <= BUDGET && fitted.phase == "Incomplete");
        assert!(fitted.datacenters.iter().any(|e| e.data_plane == "zz-honest"));
        assert_eq!(
            fitted.datacenters.len() + usize::try_from(fitted.more_datacenters.unwrap()).unwrap(),
            9_001
        );
    }
}
