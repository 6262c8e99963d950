//! Which slots run: time zones, absence, clocks that step, policies, and what keeps a schedule from running.

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_runs_and_what_is_wrong_is_said() {
    let fleet = Fleet::start(0).await;
    let stage = Stage::new(&fleet, "slots").await;
    let _controller = stage.controller();
    an_absence(&stage).await;
    stage.to_the_present();
    a_clock_that_steps(&stage).await;
    stage.to_the_present();
    policies(&stage).await;
    stage.to_the_present();
    suspension(&stage).await;
    stage.to_the_present();
    time_zones(&stage).await;
    stage.to_the_present();
    bad_input(&stage).await;
    stage.to_the_present();
    other_operations(&stage).await;
}

/// A day away: no storm, and what was left out is said.
async fn an_absence(stage: &Stage<'_>) {
    stage.schedule("latest", json!({})).await;
    stage.schedule("none", json!({"catchUp": "None"})).await;
    stage.schedule("late", json!({"startingDeadlineSeconds": 30})).await;
    let first = stage.next("latest", None).await;
    for name in ["none", "late"] {
        stage.next(name, None).await;
    }
    stage.fake_clock.set(first);
    stage.fake_clock.turn(86_400 + 61);
    let slot = first + SignedDuration::from_secs(86_400);
    stage.ran("latest", slot).await;
    let missed = async |name: &str| {
        let status =
            stage.until(name, "slots were missed", |s| (s.missed_slots > 0).then(|| s.clone())).await;
        let (is_missed, reason, message) = condition(&status.conditions, "Missed");
        assert_eq!((is_missed.as_str(), reason.as_str()), ("True", "SlotsMissed"), "{message}");
        assert!(status.next_schedule_time.unwrap().0 > slot);
        status.missed_slots
    };
    assert_eq!(missed("latest").await, 100);
    assert_eq!((missed("none").await, missed("late").await), (100, 100));
    let own: Vec<String> = stage.runs().await.into_iter().collect();
    assert_eq!(own, [of("latest", slot)], "one run for the whole day");
    let note = stage.fleet.home().event("FleetBackupSchedule", "none", "SlotsMissed").await;
    assert!(note.contains("100 slots or more"), "{note}");
    for name in ["latest", "none", "late"] {
        stage.schedules().delete(name, &DeleteParams::default()).await.unwrap();
    }
}

/// An hour forward and back again: nothing runs twice, and it is said that the last slot is in the future.
async fn a_clock_that_steps(stage: &Stage<'_>) {
    stage.schedule("steps", json!({"concurrencyPolicy": "Allow"})).await;
    let before = stage.run_next("steps").await;
    stage.fake_clock.turn(3_600);
    let ahead = before + SignedDuration::from_secs(3_600);
    stage.ran("steps", ahead).await;
    stage.fake_clock.set(before);
    let message = stage.ready("steps", "ClockSteppedBack").await;
    assert!(message.contains(&ahead.to_string()), "{message}");
    let runs = stage.runs().await;
    stage.fake_clock.set(ahead - SignedDuration::from_secs(1));
    stage.ready("steps", "Scheduled").await;
    assert_eq!(stage.runs().await, runs);
    stage.fake_clock.set(ahead);
    let next = stage.run_next("steps").await;
    assert_eq!(next, ahead + SignedDuration::from_secs(300));
    stage.schedules().delete("steps", &DeleteParams::default()).await.unwrap();
}

async fn policies(stage: &Stage<'_>) {
    stage.schedule("waits", json!({})).await;
    let first = stage.run_next("waits").await;
    let second = stage.next("waits", Some(first)).await;
    stage.fake_clock.set(second);
    let message = stage.ready("waits", "PreviousRunUnfinished").await;
    assert!(message.contains(&of("waits", first)), "{message}");
    assert!(!stage.runs().await.contains(&of("waits", second)));
    stage.end(&of("waits", first), "PartiallyFailed").await;
    stage.ran("waits", second).await;
    let status = stage.status("waits").await;
    assert_eq!(condition(&status.conditions, "Succeeded").1, "Failed");
    assert_eq!(status.active.len(), 1);
    // A person's deletion of the run that is waited for is an end, too.
    let third = stage.next("waits", Some(second)).await;
    stage.fake_clock.set(third);
    stage.ready("waits", "PreviousRunUnfinished").await;
    stage.delete_run(&of("waits", second)).await;
    stage.ran("waits", third).await;
    stage.schedules().delete("waits", &DeleteParams::default()).await.unwrap();
}

async fn suspension(stage: &Stage<'_>) {
    stage.schedule("pauses", json!({"concurrencyPolicy": "Allow"})).await;
    let first = stage.run_next("pauses").await;
    stage.edit("pauses", json!({"suspend": true})).await;
    stage.ready("pauses", "Paused").await;
    assert_eq!(stage.status("pauses").await.next_schedule_time, None);
    stage.fake_clock.turn(3_000);
    stage.edit("pauses", json!({"suspend": false})).await;
    stage.ready("pauses", "Scheduled").await;
    let next = stage.next("pauses", None).await;
    assert_eq!(next, first + SignedDuration::from_secs(3_300), "nothing of that time is caught up with");
    assert_eq!(stage.status("pauses").await.missed_slots, 0);
    stage.schedules().delete("pauses", &DeleteParams::default()).await.unwrap();
}

/// By the clock on the wall: 02:30 is skipped in spring, and comes twice in autumn.
async fn time_zones(stage: &Stage<'_>) {
    stage.fake_clock.set(at("2027-03-27T12:00:00Z"));
    let spec = json!({"schedule": "30 2 * * *", "timeZone": "Europe/Berlin", "concurrencyPolicy": "Allow"});
    stage.schedule("berlin", spec).await;
    // The schedule is older than the clock: what counts is the next slot from now on.
    stage.edit("berlin", json!({"suspend": true})).await;
    stage.ready("berlin", "Paused").await;
    stage.edit("berlin", json!({"suspend": false})).await;
    let mut slots = Vec::new();
    for _ in 0..2 {
        slots.push(stage.next("berlin", slots.last().copied()).await);
        stage.fake_clock.set(*slots.last().unwrap());
        stage.ran("berlin", *slots.last().unwrap()).await;
    }
    assert_eq!(slots, [at("2027-03-29T00:30:00Z"), at("2027-03-30T00:30:00Z")], "28 March has no 02:30");
    stage.edit("berlin", json!({"suspend": true})).await;
    stage.ready("berlin", "Paused").await;
    stage.fake_clock.set(at("2027-10-30T12:00:00Z"));
    stage.edit("berlin", json!({"suspend": false})).await;
    for _ in 0..2 {
        let last = *slots.last().unwrap();
        slots.push(stage.next("berlin", Some(last)).await);
        stage.fake_clock.set(*slots.last().unwrap());
        stage.ran("berlin", *slots.last().unwrap()).await;
    }
    assert_eq!(
        slots[2..],
        [at("2027-10-31T00:30:00Z"), at("2027-10-31T01:30:00Z")],
        "31 October has it twice"
    );
    stage.schedules().delete("berlin", &DeleteParams::default()).await.unwrap();
}

async fn bad_input(stage: &Stage<'_>) {
    let home = stage.fleet.home();
    let refused = async |spec: Value, mentions: &str| {
        let error = home.try_create(schedule(&stage.ns, "bad", spec)).await.unwrap_err().to_string();
        assert!(error.contains(mentions), "{error}");
    };
    refused(json!({"schedule": "0 2 * *"}), "five fields").await;
    refused(json!({"schedule": "TZ=UTC @daily", "timeZone": "UTC"}), "twice").await;
    refused(json!({"operation": "purge"}), "template.backupType").await;
    refused(json!({"template": {"operation": "purge"}}), "template.operation").await;
    let no_type = json!({"operation": "sync", "execution": "Delegated", "template": {}});
    refused(no_type, "cannot sync").await;
    let rollout = json!({"execution": "Delegated", "template": {"rollout": {"maxFailures": 1}}});
    refused(rollout, "leave out rollout").await;
    refused(json!({"concurrencyPolicy": "replace"}), "Replace").await;
    refused(json!({"windowSeconds": -1}), "windowSeconds").await;
    refused(json!({"startingDeadlineSeconds": -1}), "startingDeadlineSeconds").await;

    stage.schedule("zone", json!({"timeZone": "Berlin"})).await;
    assert!(stage.ready("zone", "InvalidSpec").await.contains("spec.timeZone"));
    stage.schedule("never", json!({"schedule": "0 0 30 2 *"})).await;
    assert!(stage.ready("never", "NeverFires").await.contains("spec.schedule"));
    let selector = json!({"template": {"selector": {"datacenterSelector": {
        "matchExpressions": [{"key": "tier", "operator": "In"}]
    }}}});
    stage.schedule("labels", selector).await;
    assert!(stage.ready("labels", "InvalidSelector").await.contains("spec.template.selector"));
    // Of a name in use by somebody else nothing is touched, and it is said.
    stage.schedule("taken", json!({})).await;
    let slot = stage.next("taken", None).await;
    let mut other = crate::support::backup_job(&of("taken", slot), json!({}));
    other["metadata"]["namespace"] = stage.ns.clone().into();
    home.create(other).await;
    stage.fake_clock.set(slot);
    assert!(stage.ready("taken", "NameConflict").await.contains(&of("taken", slot)));
    for name in ["zone", "never", "labels", "taken"] {
        stage.schedules().delete(name, &DeleteParams::default()).await.unwrap();
    }
}

/// Purges and syncs are FleetTasks.
async fn other_operations(stage: &Stage<'_>) {
    let spec = json!({"operation": "purge", "windowSeconds": 600, "template": {"unreachablePolicy": "Skip"}});
    stage.schedule("tidy", spec).await;
    let slot = stage.next("tidy", None).await;
    stage.fake_clock.set(slot);
    stage.until("tidy", "the slot ran", |s| s.last_schedule_time.clone().filter(|last| last.0 == slot)).await;
    let task: medusa_fleet::api::fleet::FleetTask =
        stage.fleet.home().get(&stage.ns, &of("tidy", slot)).await;
    assert_eq!(task.spec.operation.as_str(), "purge");
    assert_eq!(task.spec.run.rollout.unwrap().stagger_window_seconds, Some(600));
    let active = stage.status("tidy").await.active;
    assert_eq!((active[0].kind.as_str(), active[0].name.as_str()), ("FleetTask", of("tidy", slot).as_str()));
}
