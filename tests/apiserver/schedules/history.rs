//! History limits: what ended runs made in the data planes goes with them, whoever is killed or silent.

use medusa_fleet::api::{fleet::FleetTask, medusa::MedusaTask};

use super::*;
use crate::support::{CASS, gate::Stop, node_names};

/// A schedule of syncs that keeps no ended run.
fn syncs() -> Value {
    json!({"operation": "sync", "template": {}, "successfulJobsHistoryLimit": 0, "concurrencyPolicy": "Allow"})
}

async fn task(clocked: &ClockedNamespace<'_>, slot: Timestamp) -> Option<FleetTask> {
    clocked.fleet.home().find(&clocked.ns, &of("syncs", slot)).await
}

/// Waits until the run of `slot` is let go.
async fn made(clocked: &ClockedNamespace<'_>, slot: Timestamp) -> FleetTask {
    eventually("the run is let go", async || {
        let task = task(clocked, slot).await.ok_or("it is not there")?;
        if labels::is_held(task.finalizers()) { Err("it is held") } else { Ok(task) }
    })
    .await
}

/// Name of the run's MedusaTask of a data plane.
fn child(task: &FleetTask, number: usize) -> String {
    let digits: String = task.uid().unwrap().chars().take(8).collect();
    format!("{}-dc{number}-{digits}", task.name_any())
}

/// Makes the run's MedusaTasks in both data planes and ends them, as all that work there do.
async fn work(clocked: &ClockedNamespace<'_>, task: &FleetTask) {
    let at = clocked.fake_clock.clock().now().to_string();
    for number in 1..=2 {
        let (name, dc) = (child(task, number), format!("dc{number}"));
        let object = json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaTask",
            "metadata": {"name": name, "namespace": CASS, "labels": {
                labels::JOB: task.name_any(), labels::JOB_UID: task.uid(), labels::CONTROL_PLANE: clocked.ns,
            }},
            "spec": {"operation": "sync", "cassandraDatacenter": dc},
        });
        clocked.fleet.dp(number).create(object).await;
        let finished = json!([{"podName": node_names(&dc, 1)[0]}]);
        let status = json!({"startTime": at, "finishTime": at, "finished": finished});
        clocked.fleet.dp(number).patch_status::<MedusaTask>(CASS, &name, status).await;
    }
}

/// Ends the run, as the tasks' controller does when both have ended well.
async fn end(clocked: &ClockedNamespace<'_>, task: &FleetTask) {
    let at = clocked.fake_clock.clock().now().to_string();
    let entries = [1, 2].map(|number| {
        json!({
            "dataPlane": format!("dp-{number}"), "namespace": CASS, "datacenter": format!("dc{number}"),
            "cluster": "shop", "job": child(task, number), "phase": "Succeeded", "attempts": 1,
        })
    });
    let status = json!({"phase": "Succeeded", "startTime": at, "finishTime": at, "datacenters": entries});
    clocked.fleet.home().patch_status::<FleetTask>(&clocked.ns, &task.name_any(), status).await;
}

/// The MedusaTasks of `task` that are there.
async fn children(clocked: &ClockedNamespace<'_>, task: &FleetTask) -> Vec<usize> {
    let mut found = Vec::new();
    for number in 1..=2 {
        if clocked.fleet.dp(number).find::<MedusaTask>(CASS, &child(task, number)).await.is_some() {
            found.push(number);
        }
    }
    found
}

async fn gone(clocked: &ClockedNamespace<'_>, slot: Timestamp) {
    eventually("the run is gone", async || match task(clocked, slot).await {
        None => Ok(()),
        Some(task) => Err(format!("{:?}", task.metadata)),
    })
    .await;
}

async fn next(clocked: &ClockedNamespace<'_>, last: Option<Timestamp>) -> Timestamp {
    let slot = clocked.next("syncs", last).await;
    clocked.fake_clock.set(slot);
    slot
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_task_goes_with_what_it_made_wherever_the_control_plane_was_killed() {
    let fleet = Fleet::start(2).await;
    // The ended run is written down, its MedusaTask of each data plane deleted, and then the run.
    for write in 1..=4 {
        for stop in [Stop::Before(write), Stop::After(write)] {
            let ns = format!("{stop:?}").to_lowercase().replace(['(', ')'], "-");
            let clocked = ClockedNamespace::new(&fleet, ns.trim_end_matches('-')).await;
            let maker = clocked.controller_over(Gate::default(), 2);
            clocked.schedule("syncs", syncs()).await;
            let slot = next(&clocked, None).await;
            let run = made(&clocked, slot).await;
            clocked.until("syncs", "it is active", |s| (s.active.len() == 1).then_some(())).await;
            maker.kill();
            work(&clocked, &run).await;
            end(&clocked, &run).await;
            let killed = clocked.controller_over(Gate::stopping(stop), 2);
            killed.gate.reached().await;
            killed.kill();
            let _controller = clocked.controller_over(Gate::default(), 2);
            gone(&clocked, slot).await;
            assert_eq!(children(&clocked, &run).await, [0; 0], "{stop:?}");
            let status = clocked.status("syncs").await;
            assert!(
                status.last_successful_time.is_some() && status.active.is_empty(),
                "{stop:?}: {status:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_data_plane_delays_the_end_of_a_task_and_not_the_schedule() {
    let fleet = Fleet::start(2).await;
    let clocked = ClockedNamespace::new(&fleet, "silent").await;
    let _controller = clocked.controller_over(Gate::default(), 2);
    clocked.schedule("syncs", syncs()).await;
    let slot = next(&clocked, None).await;
    let run = made(&clocked, slot).await;
    work(&clocked, &run).await;
    fleet.stop("dp-2");
    end(&clocked, &run).await;
    clocked.until("syncs", "it ended", |s| s.active.is_empty().then_some(())).await;
    // Slots are five minutes apart: the next comes before the data plane is given up.
    let second = next(&clocked, Some(slot)).await;
    made(&clocked, second).await;
    assert!(task(&clocked, slot).await.is_some(), "what it made in dp-2 is still there");
    clocked.fake_clock.set(slot + SignedDuration::from_mins(11));
    gone(&clocked, slot).await;
    let note = fleet.home().event("FleetTask", &run.name_any(), "LeftBehind").await;
    assert!(note.contains("dp-2"), "{note}");
}
