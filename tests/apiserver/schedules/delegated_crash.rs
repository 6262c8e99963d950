//! Ending the control plane at any write while Delegated schedules are made, followed and taken back.

use futures::{FutureExt as _, StreamExt as _, stream};
use medusa_fleet::api::medusa::MedusaBackupSchedule;

use super::*;
use crate::support::{Cluster, datacenter, gate::Stop};

/// Writes an undisturbed run makes at least.
const WRITES: usize = 14;

/// A datacenter in each of two data planes, in a namespace of the same name.
pub(super) async fn clocked<'a>(fleet: &'a Fleet, ns: &str) -> ClockedNamespace<'a> {
    let clocked = ClockedNamespace::new(fleet, ns).await;
    for number in 1..=2 {
        fleet.dp(number).namespace(ns).await.unwrap();
        let mut dc = datacenter(&format!("dc{number}"), "shop", 1);
        dc["metadata"]["namespace"] = json!(ns);
        fleet.dp(number).create(dc).await;
    }
    clocked
}

/// The MedusaBackupSchedules in both data planes: data plane, datacenter and expression.
async fn there(clocked: &ClockedNamespace<'_>) -> Value {
    let mut found = Vec::new();
    for number in 1..=2 {
        let cluster: &Cluster = clocked.fleet.dp(number);
        for schedule in cluster.list::<MedusaBackupSchedule>(&clocked.ns).await {
            let spec = schedule.spec;
            found.push(json!([cluster.name, spec.backup_spec.cassandra_datacenter, spec.cron_schedule]));
        }
    }
    json!(found)
}

pub(super) async fn expect(clocked: &ClockedNamespace<'_>, wanted: Value) {
    eventually(format!("{}: {wanted} is there", clocked.ns), async || {
        let found = there(clocked).await;
        if found == wanted { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
}

/// Waits until `Ready` is about the schedule as it is now and has that reason, with so many datacenters scheduled;
/// returns what does not differ from run to run.
pub(super) async fn settled(clocked: &ClockedNamespace<'_>, reason: &str, scheduled: i64) -> Value {
    let now = clocked.schedules().get("nightly").await.unwrap().metadata.generation;
    let status = clocked
        .until("nightly", "it is settled", |s| {
            let ready = s.conditions.iter().find(|c| c.type_ == "Ready")?;
            let is_now = ready.reason == reason && ready.observed_generation == now;
            (is_now && s.datacenters.is_some_and(|dcs| dcs.scheduled == scheduled)).then(|| s.clone())
        })
        .await;
    let conditions: Vec<Value> =
        status.conditions.iter().map(|c| json!([c.type_, c.status, c.reason, c.message])).collect();
    json!({
        "conditions": conditions, "missed": status.missed_slots, "active": status.active.len(),
        "datacenters": status.datacenters,
    })
}

pub(super) fn nightly(clocked: &ClockedNamespace<'_>) -> Value {
    json!({"schedule": "0 2 * * *", "execution": "Delegated", "template": {"selector": {"namespaces": [clocked.ns]}}})
}

/// Makes one, edits it, selects fewer datacenters, takes it back and gives it out again, and deletes it. Returns what
/// was seen on the way.
async fn scenario(clocked: &ClockedNamespace<'_>) -> Vec<Value> {
    let mut seen = Vec::new();
    clocked.schedule("nightly", nightly(clocked)).await;
    expect(clocked, json!([["dp-1", "dc1", "0 2 * * *"], ["dp-2", "dc2", "0 2 * * *"]])).await;
    seen.push(settled(clocked, "Scheduled", 2).await);
    clocked.edit("nightly", json!({"schedule": "0 4 * * *"})).await;
    expect(clocked, json!([["dp-1", "dc1", "0 4 * * *"], ["dp-2", "dc2", "0 4 * * *"]])).await;
    seen.push(settled(clocked, "Scheduled", 2).await);
    clocked.edit("nightly", json!({"template": {"selector": {"datacenters": ["dc2"]}}})).await;
    expect(clocked, json!([["dp-2", "dc2", "0 4 * * *"]])).await;
    seen.push(settled(clocked, "Scheduled", 1).await);
    clocked.edit("nightly", json!({"execution": "Coordinated"})).await;
    expect(clocked, json!([])).await;
    seen.push(settled(clocked, "Scheduled", 1).await);
    clocked.edit("nightly", nightly(clocked)).await;
    clocked.edit("nightly", json!({"template": {"selector": {"datacenters": null}}})).await;
    expect(clocked, json!([["dp-1", "dc1", "0 2 * * *"], ["dp-2", "dc2", "0 2 * * *"]])).await;
    seen.push(settled(clocked, "Scheduled", 2).await);
    clocked.schedules().delete("nightly", &DeleteParams::default()).await.unwrap();
    expect(clocked, json!([])).await;
    eventually("the schedule is gone", async || {
        match clocked.schedules().get_opt("nightly").await.unwrap() {
            None => Ok(()),
            Some(schedule) => Err(format!("{:?}", schedule.metadata)),
        }
    })
    .await;
    assert!(clocked.runs().await.is_empty(), "no slot has come");
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_write_delegated_schedules_end_as_if_undisturbed() {
    let fleet = Fleet::start(2).await;
    let undisturbed = clocked(&fleet, "undisturbed").await;
    let controller = undisturbed.controller_over(Gate::default(), 2);
    let expected = scenario(&undisturbed).await;
    let writes = controller.gate.writes();
    assert!(writes.len() >= WRITES, "{writes:#?}");
    controller.kill();

    let points =
        (1..=writes.len()).flat_map(|write| [(write, Stop::Before(write)), (write, Stop::After(write))]);
    let cases = points.map(|(write, stop)| {
        let (fleet, expected) = (&fleet, &expected);
        async move {
            let ns = format!("{stop:?}").to_lowercase().replace(['(', ')'], "-");
            let clocked = clocked(fleet, ns.trim_end_matches('-')).await;
            let first = clocked.controller_over(Gate::stopping(stop), 2);
            let mut scenario = std::pin::pin!(scenario(&clocked).fuse());
            let reached = first.gate.clone();
            let found = tokio::select! {
                // How news are gathered differs, and so may the number of statuses that are written.
                found = &mut scenario => {
                    assert!(write > WRITES, "{stop:?} was not reached: {:#?}", first.gate.writes());
                    found
                }
                () = reached.reached() => {
                    first.kill();
                    let _second = clocked.controller_over(Gate::default(), 2);
                    scenario.await
                }
            };
            assert_eq!(&found, expected, "{stop:?}");
        }
    });
    stream::iter(cases).buffer_unordered(6).collect::<Vec<()>>().await;
}

/// Says of a data plane's only MedusaBackupSchedule when it ran last and what comes next.
pub(super) async fn dealt_with(
    clocked: &ClockedNamespace<'_>,
    number: usize,
    last: Option<Timestamp>,
    next: Timestamp,
) {
    let cluster = clocked.fleet.dp(number);
    let [schedule] = cluster.list::<MedusaBackupSchedule>(&clocked.ns).await.try_into().unwrap();
    let status = json!({"lastExecution": last.map(|at| at.to_string()), "nextSchedule": next.to_string()});
    cluster.patch_status::<MedusaBackupSchedule>(&clocked.ns, &schedule.name_any(), status).await;
}

/// The slots after noon of tomorrow, and that noon. The clock stands there.
pub(super) fn days(clocked: &ClockedNamespace<'_>) -> [Timestamp; 4] {
    const DAY: SignedDuration = SignedDuration::from_hours(24);
    let today = clocked.fake_clock.clock().now().as_second().div_euclid(DAY.as_secs());
    let noon = Timestamp::from_second(today * DAY.as_secs()).unwrap() + SignedDuration::from_hours(36);
    clocked.fake_clock.set(noon);
    [0, 1, 2, 3].map(|day| noon + SignedDuration::from_hours(14) + DAY * day)
}

/// Sets the clock to half an hour after a slot: what became of it is certain.
pub(super) fn later(clocked: &ClockedNamespace<'_>, slot: Timestamp) {
    clocked.fake_clock.set(slot + SignedDuration::from_mins(30));
}

/// Waits until the slots of so many data planes are counted up to `slot`.
async fn counted(
    clocked: &ClockedNamespace<'_>,
    planes: usize,
    slot: Timestamp,
) -> FleetBackupScheduleStatus {
    clocked
        .until("nightly", "all are counted", |s| {
            let until = s.data_planes.iter().filter_map(|plane| plane.counted_until.as_ref());
            let counted = until.filter(|until| until.0 == slot).count();
            (counted == planes).then(|| s.clone())
        })
        .await
}

/// Two slots pass, each while no control plane runs or just before one is killed. Neither ran in dp-1, both in dp-2. Then
/// a third runs in both. At least one status is written for each of the two.
async fn misses(fleet: &Fleet, stop: Option<Stop>) {
    let ns = format!("{stop:?}").to_lowercase().replace(['(', ')'], "-");
    let clocked = clocked(fleet, ns.trim_end_matches('-')).await;
    let slots = days(&clocked);
    let maker = clocked.controller_over(Gate::default(), 2);
    clocked.schedule("nightly", nightly(&clocked)).await;
    settled(&clocked, "Scheduled", 2).await;
    maker.kill();
    let pass = async |slot: usize| {
        later(&clocked, slots[slot]);
        dealt_with(&clocked, 1, None, slots[slot + 1]).await;
        dealt_with(&clocked, 2, Some(slots[slot]), slots[slot + 1]).await;
    };

    pass(0).await;
    if let Some(stop) = stop {
        let killed = clocked.controller_over(Gate::stopping(stop), 2);
        tokio::select! {
            () = killed.gate.reached() => {}
            _ = counted(&clocked, 2, slots[0]) => {
                pass(1).await;
                killed.gate.reached().await;
            }
        }
        killed.kill();
    }
    let _controller = clocked.controller_over(Gate::default(), 2);
    let first =
        clocked.until("nightly", "the first is counted", |s| (s.data_planes.len() == 2).then(|| s.clone()));
    assert!(first.await.missed_slots >= 1, "{stop:?}");
    pass(1).await;
    let status = counted(&clocked, 2, slots[1]).await;
    let (missed, _, message) = condition(&status.conditions, "Missed");
    assert_eq!((status.missed_slots, missed.as_str()), (2, "True"), "{stop:?}: {message}");
    assert!(message.contains(&format!("dp-1/{}/dc1: 2 slots passed", clocked.ns)), "{message}");

    later(&clocked, slots[2]);
    dealt_with(&clocked, 1, Some(slots[2]), slots[3]).await;
    dealt_with(&clocked, 2, Some(slots[2]), slots[3]).await;
    let missed = clocked
        .until("nightly", "the third ran", |s| {
            (condition(&s.conditions, "Missed").0 == "False").then_some(s.missed_slots)
        })
        .await;
    assert_eq!(missed, 2, "{stop:?}: counted once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missed_slot_is_counted_once_wherever_the_control_plane_was_killed() {
    let fleet = Fleet::start(2).await;
    let stops = [Stop::Before(1), Stop::After(1), Stop::Before(2), Stop::After(2)].map(Some);
    let cases = std::iter::once(None).chain(stops).map(|stop| misses(&fleet, stop));
    stream::iter(cases).buffer_unordered(5).collect::<Vec<()>>().await;
}
