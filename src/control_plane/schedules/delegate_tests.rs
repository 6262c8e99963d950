//! Tests of `delegate.rs`: what is written where, and what is taken back only on complete knowledge.

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
};

use rstest::rstest;

use super::*;
use crate::{
    api::fleet::Limits,
    control_plane::{
        data_planes::{capabilities::Fields, remote::Remote, view::View},
        fanout::tests::{datacenter, live, plane, silent},
        runs::select::ClusterLabels,
        schedules::recipe,
    },
};

static CP: LazyLock<Identity> = LazyLock::new(|| Identity::named("cp"));

fn schedule(more: Value) -> FleetBackupSchedule {
    let mut spec = json!({"schedule": "0 2 * * *", "execution": "Delegated"});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(json!({
        "metadata": {"name": "nightly", "uid": "0b1c2d3e-0000-0000-0000-000000000000"}, "spec": spec
    }))
    .unwrap()
}

/// A data plane that can be written to.
pub(in crate::control_plane::schedules) fn open(name: &str, view: View) -> Snapshot {
    let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    let client = kube::Client::try_from(config).unwrap();
    Snapshot { remote: Some(Arc::new(Remote::new(client, &Limits::default()))), ..plane(name, view) }
}

fn look(schedule: &FleetBackupSchedule, planes: &[Snapshot]) -> Delegation {
    let scope = Scope::of(schedule, planes, &ClusterLabels::new()).unwrap();
    let recipe = recipe::read(&schedule.spec).unwrap();
    plan(schedule, Some((&recipe, &scope)), planes, &CP, Timestamp::UNIX_EPOCH)
}

/// The object of the only action, as the API server would store it.
fn applied(delegation: &Delegation) -> (ObjectKey, MedusaBackupSchedule) {
    let [ScheduleWrite::Apply { key, object, .. }] = delegation.actions.as_slice() else {
        panic!("{:?}", delegation.actions)
    };
    let mut stored: MedusaBackupSchedule = serde_json::from_value(object.clone()).unwrap();
    stored.metadata.uid = Some("stored".to_owned());
    stored.metadata.resource_version = Some("7".to_owned());
    (key.clone(), stored)
}

fn with(mut view: View, (key, object): (ObjectKey, MedusaBackupSchedule)) -> View {
    view.schedules.put(key, Arc::new(object));
    view
}

fn one() -> View {
    live(&[datacenter("dc1", 3)])
}

#[tokio::test]
async fn each_datacenter_gets_its_own_schedule_with_a_local_owner() {
    let delegation = look(&schedule(json!({"template": {"backupType": "full"}})), &[open("eu", one())]);
    let [ScheduleWrite::Apply { object, .. }] = delegation.actions.as_slice() else { panic!("one") };
    insta::assert_yaml_snapshot!(object);
    assert_eq!((delegation.total, delegation.there.len()), (1, 0));
}

#[tokio::test]
async fn what_is_as_it_should_be_is_left_alone_and_drift_is_repaired() {
    let schedule = schedule(json!({}));
    let made = applied(&look(&schedule, &[open("eu", one())]));
    let settled = look(&schedule, &[open("eu", with(one(), made.clone()))]);
    assert_eq!((settled.actions.len(), settled.there.len()), (0, 1));
    let mut unstamped = made.clone();
    unstamped.1.metadata.annotations = None;
    assert_eq!(look(&schedule, &[open("eu", with(one(), unstamped))]).actions.len(), 1);
    let mut edited = made;
    edited.1.spec.disabled = Some(true);
    let repaired = look(&schedule, &[open("eu", with(one(), edited))]);
    let [ScheduleWrite::Apply { object, .. }] = repaired.actions.as_slice() else { panic!("one") };
    assert_eq!(object["metadata"]["resourceVersion"], "7");
    assert_eq!(object["metadata"]["uid"], "stored");
}

#[rstest]
#[case::no_version(Some("u"), None)]
#[case::an_empty_version(Some("u"), Some(""))]
#[case::no_uid(None, Some("7"))]
#[tokio::test]
async fn what_is_shown_in_no_version_is_not_written_over(
    #[case] uid: Option<&str>,
    #[case] version: Option<&str>,
) {
    let schedule = schedule(json!({}));
    let mut edited = applied(&look(&schedule, &[open("eu", one())]));
    edited.1.spec.disabled = Some(true);
    edited.1.metadata.uid = uid.map(str::to_owned);
    edited.1.metadata.resource_version = version.map(str::to_owned);
    let found = look(&schedule, &[open("eu", with(one(), edited))]);
    assert!(found.actions.is_empty(), "{:?}", found.actions);
    let [Refusal { problem, .. }] = found.refused.as_slice() else { panic!("{:?}", found.refused) };
    assert!(problem.message.contains("without uid or resourceVersion"), "{}", problem.message);
}

#[tokio::test]
async fn what_an_earlier_installation_made_is_written_once_and_keeps_since_when_it_is() {
    let schedule = schedule(json!({}));
    let (key, mut object) = applied(&look(&schedule, &[open("eu", one())]));
    let annotations = object.metadata.annotations.as_mut().unwrap();
    annotations.insert(labels::INSTALLATION.to_owned(), "earlier".to_owned());
    annotations.insert(labels::SCHEDULED_SINCE.to_owned(), "2026-01-01T00:00:00Z".to_owned());
    let found = look(&schedule, &[open("eu", with(one(), (key, object)))]);
    assert_eq!(found.there.len(), 1, "it is as asked");
    let (key, object) = applied(&found);
    assert_eq!(
        object.metadata.annotations.as_ref().unwrap()[labels::SCHEDULED_SINCE],
        "2026-01-01T00:00:00Z"
    );
    assert!(look(&schedule, &[open("eu", with(one(), (key, object)))]).actions.is_empty());
}

#[tokio::test]
async fn a_schedule_goes_on_under_the_uid_its_children_bear() {
    let old = "0b1c2d3e-0000-0000-0000-000000000000";
    let mut again = schedule(json!({}));
    again.metadata.uid = Some("ffffffff-0000-0000-0000-000000000000".to_owned());
    again.metadata.annotations = Some([(labels::CONTINUES.to_owned(), format!("nightly/{old}"))].into());
    let made = applied(&look(&schedule(json!({})), &[open("eu", one())]));
    let found = look(&again, &[open("eu", with(one(), made))]);
    assert_eq!((found.actions.len(), found.there.len()), (0, 1), "the same name, the same minute");
}

#[tokio::test]
async fn a_strangers_schedule_of_that_name_is_never_touched() {
    let schedule = schedule(json!({}));
    let (key, mut object) = applied(&look(&schedule, &[open("eu", one())]));
    object.metadata.labels = None;
    let found = look(&schedule, &[open("eu", with(one(), (key, object.clone())))]);
    assert!(found.actions.is_empty());
    assert_eq!(found.refused[0].problem.reason, Reason::NameConflict);
    object.metadata.labels = Some([(labels::FLEET_SCHEDULE_UID.to_owned(), schedule.uid().unwrap())].into());
    assert!(!is_ours(&object, &schedule, &CP), "another control plane's");
}

#[tokio::test]
async fn what_no_longer_belongs_is_taken_back_where_the_data_plane_answers_and_never_on_silence() {
    let all = schedule(json!({}));
    let made = applied(&look(&all, &[open("eu", one())]));
    let fewer = schedule(json!({"template": {"selector": {"datacenters": ["dc9"]}}}));
    let answering = open("eu", with(one(), made.clone()));
    let found = look(&fewer, &[answering]);
    assert!(matches!(found.actions.as_slice(), [ScheduleWrite::Delete(there)] if there.uid == "stored"));

    let mut lost = with(silent(), made.clone());
    lost.schedules.trust.follow();
    let found = look(&fewer, &[open("eu", lost)]);
    assert!(found.actions.is_empty());
    assert_eq!(found.left, ["eu/ns/nightly-dc1-0b1c2d3e"]);

    let mut unlisted = with(one(), made);
    unlisted.datacenters.trust.begin();
    let found = look(&fewer, &[open("eu", unlisted)]);
    assert!(found.actions.is_empty(), "its datacenters are not all listed");
    let deleted = plan(&all, None, &[open("us", silent())], &CP, Timestamp::UNIX_EPOCH);
    assert_eq!((deleted.unknown.as_slice(), deleted.refused.len()), (&["us".to_owned()][..], 0));
}

#[tokio::test]
async fn a_silent_data_plane_waits_while_others_go_on() {
    let found = look(&schedule(json!({})), &[open("eu", one()), open("us", silent())]);
    assert_eq!((found.actions.len(), found.total), (1, 1));
    assert_eq!(
        (found.refused[0].place.as_str(), found.refused[0].problem.reason),
        ("us", Reason::DataPlaneUnreachable)
    );
}

fn older(fields: &[&str]) -> View {
    let mut view = one();
    let named: BTreeSet<String> = fields.iter().map(|field| (*field).to_owned()).collect();
    let all = (*view.capabilities).clone();
    view.capabilities = Arc::new(Capabilities { schedule_fields: Some(Fields::Named(named)), ..all });
    view
}

#[rstest]
#[case(json!({"operation": "purge"}), "operationType")]
#[case(json!({"concurrencyPolicy": "Allow"}), "concurrencyPolicy")]
#[case(json!({"concurrencyPolicy": "Replace"}), "concurrencyPolicy")]
#[tokio::test]
async fn an_older_definition_is_refused_where_it_would_do_something_else(
    #[case] spec: Value,
    #[case] field: &str,
) {
    let found = look(&schedule(spec), &[open("old", older(&[])), open("new", one())]);
    assert_eq!(found.actions.len(), 1, "the other goes on");
    let refused = &found.refused[0];
    assert_eq!((refused.place.as_str(), refused.problem.reason), ("old/ns/dc1", Reason::NotServed));
    assert!(refused.problem.message.contains(field), "{}", refused.problem.message);
}

#[tokio::test]
async fn fields_an_older_definition_lacks_are_left_out_and_the_zone_goes_into_the_expression() {
    let spec =
        json!({"timeZone": "Europe/Berlin", "startingDeadlineSeconds": 60, "successfulJobsHistoryLimit": 2});
    let (_, old) = applied(&look(&schedule(spec.clone()), &[open("eu", older(&["operationType"]))]));
    assert_eq!(old.spec.cron_schedule, "TZ=Europe/Berlin 0 2 * * *");
    let bare = look(&schedule(json!({})), &[open("eu", older(&[]))]);
    let [ScheduleWrite::Apply { object, .. }] = bare.actions.as_slice() else { panic!("one") };
    let fields: Vec<&String> = object["spec"].as_object().unwrap().keys().collect();
    assert_eq!(fields, ["backupSpec", "cronSchedule", "disabled"], "nothing the definition does not declare");
    assert_eq!(
        (old.spec.time_zone, old.spec.starting_deadline_seconds, old.spec.concurrency_policy),
        (None, None, None)
    );
    let (_, new) = applied(&look(&schedule(spec), &[open("eu", one())]));
    assert_eq!(new.spec.cron_schedule, "0 2 * * *");
    assert_eq!(new.spec.time_zone.as_deref(), Some("Europe/Berlin"));
    assert_eq!(
        (new.spec.starting_deadline_seconds, new.spec.successful_jobs_history_limit),
        (Some(60), Some(2))
    );
}

#[tokio::test]
async fn a_data_plane_without_the_kind_is_refused_with_the_reason() {
    let mut view = one();
    let absent = BTreeSet::from([crate::control_plane::data_planes::capabilities::SCHEDULES.to_owned()]);
    let all = (*view.capabilities).clone();
    view.capabilities = Arc::new(Capabilities { not_served: Some(absent), ..all });
    let found = look(&schedule(json!({})), &[open("eu", view)]);
    assert_eq!((found.actions.len(), found.refused[0].problem.reason), (0, Reason::NotServed));
}

#[tokio::test]
async fn what_a_datacenter_has_stays_while_that_cannot_be_read_and_is_said() {
    let schedule = schedule(json!({}));
    let made = applied(&look(&schedule, &[open("eu", one())]));
    let mut view = with(one(), made);
    view.datacenters.blur(ObjectKey::new("ns", "dc1"), "no size".to_owned());
    let found = look(&schedule, &[open("eu", view)]);
    assert_eq!((found.actions.len(), found.total, found.there.len()), (0, 1, 0), "{:?}", found.actions);
    assert_eq!(found.refused[0].problem.reason, Reason::DatacenterUnreadable);
    assert!(found.refused[0].problem.message.contains("no size"));
}

#[tokio::test]
async fn a_suspended_schedule_is_disabled_everywhere() {
    let (_, there) = applied(&look(&schedule(json!({"suspend": true})), &[open("eu", one())]));
    assert_eq!(there.spec.disabled, Some(true));
}

#[tokio::test]
async fn a_clusters_datacenters_share_their_minute_inside_the_window_and_clusters_differ() {
    let labelled = |name: &str, cluster: &str| {
        let mut dc = datacenter(name, 1);
        dc.metadata.labels = Some([(labels::CLUSTER.to_owned(), cluster.to_owned())].into());
        dc
    };
    let clusters: Vec<String> = (0..20).map(|n| format!("c{n}")).collect();
    let view = |plane: usize| {
        let all: Vec<_> =
            clusters.iter().map(|cluster| labelled(&format!("{cluster}-dc{plane}"), cluster)).collect();
        live(&all)
    };
    let found = look(&schedule(json!({"windowSeconds": 3600})), &[open("p1", view(1)), open("p2", view(2))]);
    let minute = |dc: &str| {
        let spec = found.actions.iter().find_map(|action| match action {
            ScheduleWrite::Apply { object, .. }
                if object["spec"]["backupSpec"]["cassandraDatacenter"] == dc =>
            {
                object["spec"]["cronSchedule"].as_str()
            }
            ScheduleWrite::Apply { .. } | ScheduleWrite::Delete(_) => None,
        });
        spec.unwrap().to_owned()
    };
    let mut minutes = BTreeSet::new();
    for cluster in &clusters {
        let one = minute(&format!("{cluster}-dc1"));
        assert_eq!(one, minute(&format!("{cluster}-dc2")));
        assert!(one.ends_with(" 2 * * *"), "{one}");
        minutes.insert(one);
    }
    assert!(minutes.len() > 10, "{minutes:?}");
}

#[tokio::test]
async fn an_expression_that_cannot_be_moved_is_used_as_it_is_and_that_is_said() {
    let found =
        look(&schedule(json!({"schedule": "@every 6h", "windowSeconds": 3600})), &[open("eu", one())]);
    assert_eq!(applied(&found).1.spec.cron_schedule, "@every 6h");
    assert!(found.unspread.unwrap().contains("@every"));
}
