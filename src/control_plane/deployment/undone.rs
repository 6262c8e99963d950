//! Medusa that somebody takes out of a datacenter again, over and over: each round would restart Cassandra. What is
//! remembered of it stands in the FleetCluster, so that a restart of ours is no reason to begin anew.
//!
//! It must not decide whether Medusa is wanted, nor write to a data plane.

use std::time::Duration;

use jiff::{Timestamp, Unit};
use kube::{Api, api::ListParams, core::DeserializeGuard};
use serde_json::Value;

use super::{
    apply::Failure, controller::DeploymentContext, diff::Diff, observe::Seat, ownership::last_writer,
    pass::Pass, report::basis,
};
use crate::{
    api::{
        Reason, Why,
        fleet::{FleetCluster, Undone},
        labels, names,
    },
    control_plane::{
        sources::DatacenterPlace,
        undone::{By, CONFLICT, Record, Verdict, Wish, judge, pace, resumes},
        view::ObjectKey,
    },
    runtime::{backoff, clock},
};
use kube::ResourceExt as _;

/// First and longest pause between attempts to read the FleetClusters.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What a write to a datacenter would be: its record, or why it is not made.
///
/// `live` is the datacenter, `body` what is applied, `diff` what that would change.
pub(super) fn check(
    pass: &Pass<'_>,
    place: &DatacenterPlace,
    live: &Value,
    body: &Value,
    diff: &Diff,
) -> Result<Record, Why> {
    let before = pass.context.datacenters_written.get(place);
    let field = diff.changes.first().map_or(".spec.users", |change| change.path.as_str()).to_owned();
    let by = By { manager: last_writer(live).unwrap_or_default().to_owned(), field };
    let wish = Wish {
        uid: live.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default().to_owned(),
        decision: decision(pass),
        content: names::sha256_hex(body.to_string().as_bytes()),
    };
    match judge(before.as_ref(), wish, by, clock::now()) {
        Verdict::Write(record) => Ok(record),
        Verdict::Conflict(record) => {
            let why = conflict(&record.by, record.times);
            pass.context.datacenters_written.set(place, record);
            Err(why)
        }
    }
}

/// What a write of one of our own objects beside the datacenter of `seat` would be: its record, or why it waits. `content`
/// is the hash of what is written. Nobody took back what went with a K8ssandraCluster or datacenter that was made again.
pub(super) fn may_put(
    pass: &Pass<'_>,
    seat: &Seat,
    kind: &'static str,
    key: &ObjectKey,
    content: &str,
) -> Result<impl FnOnce() + use<>, Failure> {
    let written = pass.context.objects_written.clone();
    let at = (seat.place.plane.clone(), kind, key.clone());
    let datacenter = seat.datacenter.known().and_then(|datacenter| datacenter.uid());
    let uid = format!("{:?}", (pass.scene.uid(), datacenter));
    let wish = Wish { uid, content: content.to_owned(), ..Wish::default() };
    match pace(written.get(&at).as_ref(), wish, clock::now()) {
        Verdict::Write(record) => Ok(move || written.set(&at, record)),
        Verdict::Conflict(record) => Err(Failure::Refused(Why::new(
            Reason::Conflict,
            format!(
                "{kind} {key}: somebody changes or deletes it each time it was written ({} times); its managed fields say \
                 who. It is written again after {}",
                record.times,
                resumes(&record).round(Unit::Second).unwrap_or_else(|_| resumes(&record)),
            ),
        ))),
    }
}

/// What a person decides by: the K8ssandraCluster, its MedusaConfiguration, and an annotation for nothing else.
fn decision(pass: &Pass<'_>) -> String {
    let cluster = pass.scene.cluster.as_deref();
    let again = cluster.and_then(|cluster| cluster.annotations().get(labels::APPLY_AGAIN));
    let text = format!("{}{again:?}", basis(cluster, pass.scene.configuration.as_deref()));
    names::sha256_hex(text.as_bytes()).chars().take(16).collect()
}

fn conflict(by: &By, times: u32) -> Why {
    let message = format!(
        "{by}: {times} times in a row what was applied did not stand, and each round restarts Cassandra's pods, so that \
         nothing more is written. Let only one of the two write the field (in Argo CD `ignoreDifferences` with \
         `RespectIgnoreDifferences=true`, or server-side apply); then give annotation `{}` of the K8ssandraCluster \
         another value",
        labels::APPLY_AGAIN
    );
    Why::new(Reason::Conflict, message)
}

/// What a FleetCluster keeps of a record; `None` when nothing was taken back.
pub(super) fn kept(record: &Record) -> Option<Undone> {
    (record.times > 0).then(|| Undone {
        times: i64::from(record.times),
        manager: record.by.manager.clone(),
        field: record.by.field.clone(),
        uid: record.wish.uid.clone(),
        decision: record.wish.decision.clone(),
        written_at: record.written_at.to_string(),
    })
}

/// The record a FleetCluster kept; what exactly was written is not.
fn record(undone: &Undone) -> Record {
    Record {
        wish: Wish { uid: undone.uid.clone(), decision: undone.decision.clone(), content: String::new() },
        written_at: undone.written_at.parse().unwrap_or(Timestamp::UNIX_EPOCH),
        times: u32::try_from(undone.times).unwrap_or(CONFLICT),
        by: By { manager: undone.manager.clone(), field: undone.field.clone() },
    }
}

/// Reads what was remembered before this process started; nothing is written to a datacenter before that is known.
pub(super) async fn recall(context: &DeploymentContext) {
    let clusters: Api<DeserializeGuard<FleetCluster>> =
        Api::namespaced(context.client.clone(), &context.namespace);
    let mut attempt = 0;
    let list = loop {
        match clusters.list(&ListParams::default()).await {
            Ok(list) => break list,
            Err(error) => {
                tracing::warn!(%error, "FleetClusters cannot be listed; nothing is deployed before they are");
            }
        }
        tokio::time::sleep(backoff::delay(attempt, RETRY.0, RETRY.1)).await;
        attempt += 1;
    };
    for cluster in list.items.into_iter().filter_map(|guard| guard.0.ok()) {
        for datacenter in cluster.status.unwrap_or_default().datacenters {
            let object = ObjectKey::new(datacenter.namespace, datacenter.name);
            let place = DatacenterPlace { plane: datacenter.data_plane, object };
            if let Some(undone) = &datacenter.medusa.undone {
                context.datacenters_written.set(&place, record(undone));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_fleet_cluster_keeps_is_what_is_recalled() {
        let by = By { manager: "argocd-controller".to_owned(), field: ".spec.x".to_owned() };
        let wish = Wish { uid: "u".to_owned(), decision: "d".to_owned(), content: "c".to_owned() };
        let written = Record { wish, written_at: Timestamp::from_second(5).unwrap(), times: CONFLICT, by };
        let recalled = record(&kept(&written).unwrap());
        let wish = Wish { content: String::new(), ..written.wish.clone() };
        assert_eq!(recalled, Record { wish: wish.clone(), ..written.clone() });
        let again = Wish { content: "other".to_owned(), ..wish };
        let verdict = judge(Some(&recalled), again, By::default(), Timestamp::from_second(9).unwrap());
        assert!(matches!(verdict, Verdict::Conflict(_)), "a restart is no decision");
        assert_eq!(kept(&Record { times: 0, ..written }), None);
    }
}
