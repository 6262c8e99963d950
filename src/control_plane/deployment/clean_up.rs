//! What is taken back when nobody wants Medusa any more: schedules, and the ConfigMap that its pods mounted.
//!
//! The ConfigMap goes when no pod restarts any more and **no datacenter beside it refers to it or to a Secret that goes after
//! it**. Until then it stands for what is still to be done: by it the cluster is looked at again, also by another process, and
//! who holds something up is told.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use serde_json::Value;

use super::{
    apply,
    config::config_map,
    in_use,
    observe::{deployed_for, schedule_for},
    ownership::references::{Reference, Referred, still_in_use},
    pass::Pass,
    pod::purge,
    report::DatacenterReport,
    rollout::{self, Stability},
};
use crate::{
    api::{
        Seen, cassandra::CassandraDatacenter, fleet::DeploymentState, labels, medusa::MedusaBackupSchedule,
        operator_names,
    },
    control_plane::{
        data_planes::{fleet::Snapshot, membership::DatacenterPlace, view::ObjectKey},
        sources::secrets_needed,
    },
};

/// What came of it.
pub(super) struct CleanedUp {
    /// Whether all that is due is done.
    pub(super) is_done: bool,
    /// Datacenters that keep something from being deleted.
    pub(super) in_use: Vec<DatacenterReport>,
}

/// Takes back schedules and ConfigMaps nobody wants any more.
pub(super) async fn run(pass: &Pass<'_>) -> CleanedUp {
    let mut all = CleanedUp { is_done: true, in_use: Vec::new() };
    if !pass.inputs.may_remove {
        return all;
    }
    for of_plane in join_all(pass.inputs.holders.iter().map(|plane| clean_plane(pass, plane))).await {
        all.is_done &= of_plane.is_done;
        all.in_use.extend(of_plane.in_use);
    }
    all
}

async fn clean_plane(pass: &Pass<'_>, plane: &Snapshot) -> CleanedUp {
    let (mut done, mut told) = (true, Vec::new());
    let Some(remote) = &plane.remote else { return CleanedUp { is_done: done, in_use: told } };
    let inputs = pass.inputs;
    let medusa = inputs.cluster.as_ref().and_then(|cluster| cluster.spec.medusa.as_ref());
    let sanitized = inputs.cluster.as_ref().map(|cluster| cluster.sanitized_name()).unwrap_or_default();
    let wanted: Vec<&ObjectKey> = inputs
        .targets
        .iter()
        .filter(|target| {
            target.wanted.is_some() && target.claimed_by.is_none() && target.place.plane == plane.name
        })
        .map(|target| &target.place.object)
        .collect();
    let is_ours = |meta: &kube::api::ObjectMeta| {
        let has = |map: &Option<BTreeMap<String, String>>, key: &str, value: &str| {
            map.as_ref().and_then(|all| all.get(key)).is_some_and(|held| held == value)
        };
        pass.context.control_plane.wrote(meta)
            && has(&meta.annotations, labels::SOURCE, &inputs.key.to_string())
    };
    // What an earlier installation made for a K8ssandraCluster that may be created again.
    let is_gone = inputs.cluster.is_none();
    let stays_inherited =
        |meta: &kube::api::ObjectMeta| is_gone && pass.context.control_plane.is_inherited(meta);
    for (key, schedule) in plane.view.schedules.last_known() {
        let ours = schedule_for(schedule, &pass.context.control_plane).as_ref() == Some(&inputs.key);
        let of = ObjectKey::new(&key.namespace, &schedule.spec.backup_spec.cassandra_datacenter);
        let is_of_its_datacenter = match plane.view.seen(&plane.view.datacenters, &of) {
            Seen::Known(dc) => purge::name(&sanitized, dc) == key.name,
            Seen::Absent => false,
            Seen::Unknown { .. } => true,
        };
        let stays = medusa.is_some_and(purge::is_wanted) && wanted.contains(&&of) && is_of_its_datacenter;
        if ours && !stays && !stays_inherited(&schedule.metadata) {
            let uid = schedule.uid().unwrap_or_default();
            done &= apply::delete::<MedusaBackupSchedule>(remote, key, &uid, is_ours).await.is_ok();
        }
    }
    for (key, map) in plane.view.config_maps.last_known() {
        let stays = map.source != inputs.key.to_string()
            || (is_gone && pass.context.control_plane.is_earlier(&map.installation))
            || (wanted.iter().any(|dc| dc.namespace == key.namespace)
                && key.name == config_map::name(&sanitized));
        if stays {
            continue;
        }
        let datacenters = plane.view.listing(&plane.view.datacenters).known();
        let unreadable = plane.view.datacenters.unreadable().keys();
        if datacenters.is_none_or(|all| all.values().any(|dc| uses(dc, key, pass)))
            || unreadable.map(|dc| &dc.namespace).any(|namespace| *namespace == key.namespace)
        {
            done = false;
            continue;
        }
        match in_use::find(remote, &key.namespace, &going(pass, plane, key)).await {
            Ok(users) if users.is_empty() => {
                done &= apply::delete::<ConfigMap>(remote, key, &map.uid, is_ours).await.is_ok();
            }
            Ok(users) => {
                done = false;
                told.extend(
                    users
                        .iter()
                        .filter_map(|(datacenter, references)| report(pass, plane, datacenter, references)),
                );
            }
            Err(_) => done = false,
        }
    }
    CleanedUp { is_done: done, in_use: told }
}

/// What goes with a ConfigMap: itself, and the copies of Secrets that nothing asks for any more. Replication deletes these when
/// the ConfigMap is gone, so that what still needs one of them is said here.
fn going(pass: &Pass<'_>, plane: &Snapshot, map: &ObjectKey) -> BTreeSet<Referred> {
    let needed = secrets_needed(pass.sources);
    let of_this =
        |source: &ObjectKey| source.namespace == pass.inputs.key.namespace && !needed.contains(source);
    let copies = plane.view.secrets.last_known().iter().filter(|(key, copy)| {
        key.namespace == map.namespace && ObjectKey::read(&copy.source).is_some_and(|source| of_this(&source))
    });
    let secrets = copies.map(|(key, _)| Referred::Secret(key.name.clone()));
    secrets.chain([Referred::ConfigMap(map.name.clone())]).collect()
}

/// What is said of a datacenter that keeps something from being deleted; nothing where Medusa still has to be taken out of
/// it, or is wanted: then it refers to all that because of us.
fn report(
    pass: &Pass<'_>,
    plane: &Snapshot,
    datacenter: &Value,
    references: &[Reference],
) -> Option<DatacenterReport> {
    let read = serde_json::from_value::<CassandraDatacenter>(datacenter.clone()).ok();
    if read.is_some_and(|datacenter| deployed_for(&datacenter, &pass.context.control_plane).is_some()) {
        return None;
    }
    let text = |pointer: &str| datacenter.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let object = ObjectKey::new(text("/metadata/namespace"), text("/metadata/name"));
    let place = DatacenterPlace { plane: plane.name.clone(), object };
    Some(DatacenterReport::new(&place, DeploymentState::Refused, Some(still_in_use(references))))
}

/// Whether a datacenter's pods may still mount the ConfigMap: a pod that restarts without it does not start.
fn uses(datacenter: &CassandraDatacenter, map: &ObjectKey, pass: &Pass<'_>) -> bool {
    let here = datacenter.namespace().as_deref() == Some(&map.namespace);
    let named = || config_map::name(&operator_names::label(&datacenter.spec.cluster_name)) == map.name;
    let deployed =
        || deployed_for(datacenter, &pass.context.control_plane).as_ref() == Some(&pass.inputs.key);
    let restless = || {
        !matches!(
            rollout::stability(datacenter, None, pass.context.fleet.now()),
            Stability::Stable | Stability::Stopped
        )
    };
    here && named() && (deployed() || restless())
}
