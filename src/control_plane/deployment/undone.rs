//! Medusa that somebody takes out of a datacenter again, over and over: each round would restart Cassandra. What is
//! remembered of it stands in the FleetCluster, so that a restart of ours is no reason to begin anew.
//!
//! It must not decide whether Medusa is wanted, nor write to a data plane.

use std::time::Duration;

use jiff::Timestamp;
use kube::{Api, api::ListParams, core::DeserializeGuard};
use serde_json::Value;

use super::{
    apply::Failure,
    config::config_map,
    context::DeploymentContext,
    observe::{ClusterInputs, DatacenterTarget},
    ownership::{diff::Diff, managed_fields::last_writer},
    pass::Pass,
    pod::purge,
    report::basis,
};
use crate::{
    api::{
        Reason, Why,
        fleet::{FleetCluster, Undone},
        labels, names,
    },
    control_plane::data_planes::{
        membership::DatacenterPlace,
        undone::{By, CONFLICT, NAME, Record, UndoneVerdict, Wish, conflict, is_contested, judge, pace},
        view::ObjectKey,
    },
    runtime::backoff,
};
use kube::ResourceExt as _;

/// First and longest pause between attempts to read the FleetClusters.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// One of our own objects beside a datacenter: data plane, kind and object.
pub(super) type OwnObject = (String, &'static str, ObjectKey);
/// FleetClusters asked for at a time: each may be large.
const PAGE: u32 = 50;

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
    let wish = Wish {
        uid: live.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default().to_owned(),
        decision: decision(pass),
        content: names::sha256_hex(body.to_string().as_bytes()),
    };
    match judge(before.as_ref(), wish, changed_by(live, diff), pass.context.fleet.now()) {
        UndoneVerdict::Write(record) => Ok(record),
        UndoneVerdict::Conflict(record) => {
            let why = not_fought(&record.by, record.times);
            pass.context.datacenters_written.set(place, record);
            Err(why)
        }
    }
}

/// Who changed the datacenter last, and what of ours with that. Both are kept in a status, and are as short here as there,
/// so that after a restart the same is said of them.
fn changed_by(live: &Value, diff: &Diff) -> By {
    let field = diff.changes.first().map_or(".spec.users", |change| change.path.as_str());
    let manager = last_writer(live).unwrap_or_default();
    By { manager: names::shorten(manager, NAME), field: names::shorten(field, NAME) }
}

/// What a write of one of our own objects beside the datacenter of `target` would be: its record, or why it waits. `content`
/// is the hash of what is written, `by` who changed it if it was written before. Nobody took back what went with a
/// K8ssandraCluster or datacenter that was made again.
pub(super) fn may_put(
    pass: &Pass<'_>,
    target: &DatacenterTarget,
    kind: &'static str,
    key: &ObjectKey,
    content: &str,
    by: By,
) -> Result<impl FnOnce() + use<>, Failure> {
    let written = pass.context.objects_written.clone();
    let at = (target.place.plane.clone(), kind, key.clone());
    let datacenter = target.datacenter.known().and_then(|datacenter| datacenter.uid());
    let uid = format!("{:?}", (pass.inputs.uid(), datacenter));
    let wish = Wish { uid, content: content.to_owned(), ..Wish::default() };
    match pace(written.get(&at).as_ref(), wish, by, pass.context.fleet.now()) {
        UndoneVerdict::Write(record) => Ok(move || written.set(&at, record)),
        UndoneVerdict::Conflict(record) => {
            let times = record.times.saturating_add(1);
            Err(Failure::Refused(conflict(format_args!("{kind} {key}"), &record.by, times)))
        }
    }
}

/// Our ConfigMap and our schedule of the datacenter of `target`, as their last writes are remembered.
fn beside(inputs: &ClusterInputs, target: &DatacenterTarget) -> Vec<OwnObject> {
    let (Some(cluster), Some(datacenter)) = (&inputs.cluster, target.datacenter.known()) else {
        return Vec::new();
    };
    let sanitized = cluster.sanitized_name();
    let names = [
        ("ConfigMap", config_map::name(&sanitized)),
        ("MedusaBackupSchedule", purge::name(&sanitized, datacenter)),
    ];
    let place = |(kind, name): (&'static str, String)| {
        (target.place.plane.clone(), kind, ObjectKey::new(&target.place.object.namespace, &name))
    };
    names.into_iter().map(place).collect()
}

/// Whether one of them was written at `since` or later.
pub(super) fn has_written(context: &DeploymentContext, inputs: &ClusterInputs, since: Timestamp) -> bool {
    let places = inputs.targets.iter().flat_map(|target| beside(inputs, target));
    let mut written = places.filter_map(|at| context.objects_written.get(&at));
    written.any(|record| record.written_at >= since)
}

/// Who takes one of them back although it was written again: nothing is held up by that.
pub(super) fn contested(pass: &Pass<'_>, target: &DatacenterTarget) -> Option<Why> {
    beside(pass.inputs, target).into_iter().find_map(|at| {
        let record = pass.context.objects_written.get(&at)?;
        let (_, kind, key) = at;
        is_contested(&record, pass.context.fleet.now())
            .then(|| conflict(format_args!("{kind} {key}"), &record.by, record.times))
    })
}

/// What a person decides by: the K8ssandraCluster, its MedusaConfiguration, and an annotation for nothing else.
fn decision(pass: &Pass<'_>) -> String {
    let cluster = pass.inputs.cluster.as_deref();
    let again = cluster.and_then(|cluster| cluster.annotations().get(labels::APPLY_AGAIN));
    let text = format!("{}{again:?}", basis(cluster, pass.inputs.configuration.as_deref()));
    names::sha256_hex(text.as_bytes()).chars().take(16).collect()
}

fn not_fought(by: &By, times: u32) -> Why {
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

/// Reads what was remembered before this process started. Nothing is written to a datacenter before that is known: a list
/// that is refused does not say that nobody took Medusa out.
pub(super) async fn recall(context: &DeploymentContext) {
    let api: Api<DeserializeGuard<FleetCluster>> =
        Api::namespaced(context.client.clone(), &context.namespace);
    for cluster in remembered(&api, RETRY).await {
        let Ok(cluster) = cluster.0 else { continue };
        for datacenter in cluster.status.unwrap_or_default().datacenters {
            let object = ObjectKey::new(datacenter.namespace, datacenter.name);
            let place = DatacenterPlace { plane: datacenter.data_plane, object };
            if let Some(undone) = &datacenter.medusa.undone {
                context.datacenters_written.set(&place, record(undone));
            }
        }
    }
}

/// The FleetClusters there are. `retry` is the first and the longest pause between attempts.
async fn remembered(
    api: &Api<DeserializeGuard<FleetCluster>>,
    retry: (Duration, Duration),
) -> Vec<DeserializeGuard<FleetCluster>> {
    let mut found = Vec::new();
    let (mut page, mut attempt) = (ListParams::default().limit(PAGE), 0);
    loop {
        match api.list(&page).await {
            Ok(list) => {
                found.extend(list.items);
                match list.metadata.continue_.filter(|next| !next.is_empty()) {
                    Some(next) => page = page.continue_token(&next),
                    None => return found,
                }
                continue;
            }
            // The next page is not there any more: from the beginning.
            Err(kube::Error::Api(answer)) if answer.code == 410 => {
                (page, found) = (ListParams::default().limit(PAGE), Vec::new());
            }
            Err(error) => {
                tracing::warn!(
                    %error,
                    "FleetClusters cannot be listed; nothing is deployed before they are: grant `list` on fleetclusters"
                );
            }
        }
        tokio::time::sleep(backoff::delay(attempt, retry.0, retry.1)).await;
        attempt += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Request, Response, StatusCode};
    use kube::{Client, client::Body};
    use serde_json::json;
    use tower::service_fn;

    use super::*;
    use crate::control_plane::deployment::ownership::diff::ChangedField;

    /// What is listed of an API server that answers with these codes, each page with one FleetCluster and the last code
    /// for ever; and how often it was asked.
    async fn listed(codes: Vec<u16>) -> (usize, usize) {
        let asked = Arc::new(Mutex::new(0_usize));
        let seen = asked.clone();
        let service = service_fn(move |_: Request<Body>| {
            let number = {
                let mut asked = seen.lock().unwrap();
                *asked += 1;
                *asked
            };
            let code = codes.get(number - 1).or(codes.last()).copied().unwrap();
            let next = if number < codes.len() { "next" } else { "" };
            let page = json!({"metadata": {"continue": next}, "items": [{
                "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "FleetCluster",
                "metadata": {"name": format!("c{number}")}, "spec": {},
            }]});
            let refusal =
                json!({"kind": "Status", "status": "Failure", "message": "no", "reason": "x", "code": code});
            let body = if code == 200 { page } else { refusal };
            let mut answer = Response::new(Body::from(body.to_string().into_bytes()));
            *answer.status_mut() = StatusCode::from_u16(code).unwrap();
            async move { Ok::<_, kube::Error>(answer) }
        });
        let api = Api::namespaced(Client::new(service, "medusa-fleet"), "medusa-fleet");
        let pause = Duration::from_millis(1);
        let found = remembered(&api, (pause, pause)).await.len();
        let asked = *asked.lock().unwrap();
        (found, asked)
    }

    #[tokio::test]
    async fn what_was_remembered_is_waited_for_whoever_refuses_it_and_every_page_is_read() {
        for code in [403, 503] {
            let refused = [code; 30].into_iter().chain([200, 200]).collect();
            assert_eq!(listed(refused).await, (2, 32), "{code}");
        }
        assert_eq!(listed(vec![200, 410, 200, 200]).await.0, 2, "a list that is too old begins anew");
    }

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
        assert!(matches!(verdict, UndoneVerdict::Conflict(_)), "a restart is no decision");
        assert_eq!(kept(&Record { times: 0, ..written }), None);
    }

    #[test]
    fn however_long_names_are_what_is_kept_of_them_is_short_and_says_the_same_after_a_restart() {
        let entry = json!({"manager": "m\n".repeat(9_000), "time": "2026-01-01T00:00:00Z"});
        let live = json!({"metadata": {"managedFields": [entry]}});
        let change = ChangedField { path: r#".spec.x[name="y"]"#.repeat(900), from: None, to: None };
        let by = changed_by(&live, &Diff { changes: vec![change], ..Diff::default() });
        let written =
            Record { wish: Wish::default(), written_at: Timestamp::UNIX_EPOCH, times: CONFLICT, by };
        let short = kept(&written).unwrap();
        assert!(short.manager.starts_with('m') && short.manager.len() <= NAME, "{short:?}");
        assert!(short.field.starts_with(".spec.x") && short.field.len() <= NAME, "{short:?}");
        assert_eq!(record(&short), written);
    }
}
