//! What is taken back when nobody wants Medusa any more: schedules, and the ConfigMap that its pods mounted.
//!
//! The ConfigMap goes when no pod restarts any more and **no datacenter beside it refers to it or to a Secret that goes after
//! it**. Until then it stands for what is still to be done: by it the cluster is looked at again, also by another process, and
//! who holds something up is told.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;

use super::{
    apply,
    config::config_map,
    in_use::{self, UsedBy, Uses, too_large},
    observe::{Holder, deployed_for, wanted_elsewhere},
    ownership::references::{Referred, still_in_use},
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
        data_planes::{fleet::Snapshot, membership::DatacenterPlace, records::CopyRecord, view::ObjectKey},
        sources::secrets_needed,
    },
};

/// Most ConfigMaps of one namespace that are deleted in one pass.
const AT_ONCE: usize = 16;

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
    for of_plane in join_all(pass.inputs.holders.iter().map(|holder| clean_plane(pass, holder))).await {
        all.is_done &= of_plane.is_done;
        all.in_use.extend(of_plane.in_use);
    }
    all
}

async fn clean_plane(pass: &Pass<'_>, Holder { plane, pieces }: &Holder) -> CleanedUp {
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
    for key in &pieces.schedules {
        let Some(schedule) = plane.view.schedules.last(key) else { continue };
        let of = ObjectKey::new(&key.namespace, &schedule.spec.backup_spec.cassandra_datacenter);
        let is_of_its_datacenter = match plane.view.seen(&plane.view.datacenters, &of) {
            Seen::Known(dc) => purge::name(&sanitized, dc) == key.name,
            Seen::Absent => false,
            Seen::Unknown { .. } => true,
        };
        let stays = medusa.is_some_and(purge::is_wanted) && wanted.contains(&&of) && is_of_its_datacenter;
        if !stays && !stays_inherited(&schedule.metadata) {
            let uid = schedule.uid().unwrap_or_default();
            done &= apply::delete::<MedusaBackupSchedule>(remote, key, &uid, is_ours).await.is_ok();
        }
    }
    let mut leaving: BTreeMap<&str, Vec<(&ObjectKey, &CopyRecord)>> = BTreeMap::new();
    for key in &pieces.config_maps {
        let Some(map) = plane.view.config_maps.last(key) else { continue };
        let stays = (is_gone && pass.context.control_plane.is_earlier(&map.installation))
            || (wanted.iter().any(|dc| dc.namespace == key.namespace)
                && key.name == config_map::name(&sanitized));
        if !stays {
            leaving.entry(&key.namespace).or_default().push((key, map));
        }
    }
    let listed = plane.view.listing(&plane.view.datacenters).known();
    for (namespace, maps) in leaving {
        // Somebody may have made any number of them. What is left over is found again.
        done &= maps.len() <= AT_ONCE;
        let maps = maps.get(..AT_ONCE).unwrap_or(&maps);
        let mut unreadable = plane.view.datacenters.unreadable().keys();
        let is_used = |key: &ObjectKey| listed.is_none_or(|all| all.values().any(|dc| uses(dc, key, pass)));
        if maps.iter().any(|(key, _)| is_used(key)) || unreadable.any(|dc| dc.namespace == namespace) {
            done = false;
            continue;
        }
        match in_use::find(remote, namespace, &going(pass, plane, namespace, maps)).await {
            Ok(users) if users.is_empty() => {
                let deleted =
                    maps.iter().map(|(key, map)| apply::delete::<ConfigMap>(remote, key, &map.uid, is_ours));
                done &= join_all(deleted).await.iter().all(Result::is_ok);
            }
            Ok(users) => {
                done = false;
                told.extend(users.iter().filter_map(|user| report(pass, plane, user)));
            }
            Err(error) => {
                tracing::info!(data_plane = plane.name, namespace, %error, "who refers to what is left there is not known");
                done = false;
            }
        }
    }
    CleanedUp { is_done: done, in_use: told }
}

/// What goes with ConfigMaps of a namespace: they, and the copies of Secrets that nothing asks for any more. Replication deletes
/// these when the ConfigMaps are gone, so that what still needs one of them is said here.
fn going(
    pass: &Pass<'_>,
    plane: &Snapshot,
    namespace: &str,
    maps: &[(&ObjectKey, &CopyRecord)],
) -> BTreeSet<Referred> {
    let needed = secrets_needed(pass.sources);
    let of_this =
        |source: &ObjectKey| source.namespace == pass.inputs.key.namespace && !needed.contains(source);
    let copies = plane.view.secrets.last_known().iter().filter(|(key, copy)| {
        key.namespace == namespace && ObjectKey::read(&copy.source).is_some_and(|source| of_this(&source))
    });
    let secrets = copies.map(|(key, _)| Referred::Secret(key.name.clone()));
    secrets.chain(maps.iter().map(|(key, _)| Referred::ConfigMap(key.name.clone()))).collect()
}

/// What is said of a datacenter that keeps something from being deleted; nothing where Medusa still has to be taken out of
/// it, or another K8ssandraCluster asks for it: then it refers to all that because of us, or has a report of its own.
fn report(pass: &Pass<'_>, plane: &Snapshot, user: &UsedBy) -> Option<DatacenterReport> {
    let is_anothers = wanted_elsewhere(plane, &user.datacenter, &pass.inputs.key, pass.sources);
    let why = match &user.uses {
        Uses::Fields(_, meta) if deployed_for(meta, &pass.context.control_plane).is_some() => return None,
        Uses::Fields(fields, _) => still_in_use(fields),
        Uses::Unknown => too_large(),
    };
    let place = DatacenterPlace { plane: plane.name.clone(), object: user.datacenter.clone() };
    (!is_anothers).then(|| DatacenterReport::new(&place, DeploymentState::Refused, Some(why)))
}

/// Whether a datacenter's pods may still mount the ConfigMap: a pod that restarts without it does not start.
fn uses(datacenter: &CassandraDatacenter, map: &ObjectKey, pass: &Pass<'_>) -> bool {
    let here = datacenter.namespace().as_deref() == Some(&map.namespace);
    let named = || config_map::name(&operator_names::label(&datacenter.spec.cluster_name)) == map.name;
    let deployed =
        || deployed_for(&datacenter.metadata, &pass.context.control_plane).as_ref() == Some(&pass.inputs.key);
    let restless = || {
        !matches!(
            rollout::stability(datacenter, None, pass.context.fleet.now()),
            Stability::Stable | Stability::Stopped
        )
    };
    here && named() && (deployed() || restless())
}
