//! Which slots run: time zones, absence, clocks that step, policies, and what keeps a schedule from running.

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_runs_and_what_is_wrong_is_said() {
    let fleet = Fleet::start(0).await;
    let clocked = ClockedNamespace::new(&fleet, "slots").await;
    let _controller = clocked.controller();
    an_absence(&clocked).await;
    clocked.to_the_present();
    a_clock_that_steps(&clocked).await;
    clocked.to_the_present();
    policies(&clocked).await;
    clocked.to_the_present();
    suspension(&clocked).await;
    clocked.to_the_present();
    time_zones(&clocked).await;
    clocked.to_the_present();
    bad_input(&clocked).await;
    clocked.to_the_present();
    other_operations(&clocked).await;
}

/// A day away: no storm, and what was left out is said.
async fn an_absence(clocked: &ClockedNamespace<'_>) {
    clocked.schedule("latest", json!({})).await;
    clocked.schedule("none", json!({"catchUp": "None"})).await;
    clocked.schedule("late", json!({"startingDeadlineSeconds": 30})).await;
    let first = clocked.next("latest", None).await;
    for name in ["none", "late"] {
        clocked.next(name, None).await;
    }
    clocked.fake_clock.set(first);
    clocked.fake_clock.turn(86_400 + 61);
    let slot = first + SignedDuration::from_secs(86_400);
    clocked.ran("latest", slot).await;
    let missed = async |name: &str| {
        let status =
            clocked.until(name, "slots were missed", |s| (s.missed_slots > 0).then(|| s.clone())).await;
        let (is_missed, reason, message) = condition(&status.conditions, "Missed");
        assert_eq!((is_missed.as_str(), reason.as_str()), ("True", "SlotsMissed"), "{message}");
        assert!(status.next_schedule_time.unwrap().0 > slot);
        status.missed_slots
    };
    assert_eq!(missed("latest").await, 100);
    assert_eq!((missed("none").await, missed("late").await), (100, 100));
    let own: Vec<String> = clocked.runs().await.into_iter().collect();
    assert_eq!(own, [of("latest", slot)], "one run for the whole day");
    let note = clocked.fleet.home().event("FleetBackupSchedule", "none", "SlotsMissed").await;
    assert!(note.contains("100 slots or more"), "{note}");
    for name in ["latest", "none", "late"] {
        clocked.schedules().delete(name, &DeleteParams::default()).await.unwrap();
    }
}

/// An hour forward and back again: nothing runs twice, and it is said that the last slot is in the future.
async fn a_clock_that_steps(clocked: &ClockedNamespace<'_>) {
    clocked.schedule("steps", json!({"concurrencyPolicy": "Allow"})).await;
    let before = clocked.run_next("steps").await;
    clocked.fake_clock.turn(3_600);
    let ahead = before + SignedDuration::from_secs(3_600);
    clocked.ran("steps", ahead).await;
    clocked.fake_clock.set(before);
    let message = clocked.ready("steps", "ClockSteppedBack").await;
    assert!(message.contains(&ahead.to_string()), "{message}");
    let runs = clocked.runs().await;
    clocked.fake_clock.set(ahead - SignedDuration::from_secs(1));
    clocked.ready("steps", "Scheduled").await;
    assert_eq!(clocked.runs().await, runs);
    clocked.fake_clock.set(ahead);
    let next = clocked.run_next("steps").await;
    assert_eq!(next, ahead + SignedDuration::from_secs(300));
    clocked.schedules().delete("steps", &DeleteParams::default()).await.unwrap();
}

async fn policies(clocked: &ClockedNamespace<'_>) {
    clocked.schedule("waits", json!({})).await;
    let first = clocked.run_next("waits").await;
    let second = clocked.next("waits", Some(first)).await;
    clocked.fake_clock.set(second);
    let message = clocked.ready("waits", "PreviousRunUnfinished").await;
    assert!(message.contains(&of("waits", first)), "{message}");
    assert!(!clocked.runs().await.contains(&of("waits", second)));
    clocked.end(&of("waits", first), "PartiallyFailed").await;
    clocked.ran("waits", second).await;
    let status = clocked.status("waits").await;
    assert_eq!(condition(&status.conditions, "Succeeded").1, "Failed");
    assert_eq!(status.active.len(), 1);
    // A person's deletion of the run that is waited for is an end, too.
    let third = clocked.next("waits", Some(second)).await;
    clocked.fake_clock.set(third);
    clocked.ready("waits", "PreviousRunUnfinished").await;
    clocked.delete_run(&of("waits", second)).await;
    clocked.ran("waits", third).await;
    clocked.schedules().delete("waits", &DeleteParams::default()).await.unwrap();
}

async fn suspension(clocked: &ClockedNamespace<'_>) {
    clocked.schedule("pauses", json!({"concurrencyPolicy": "Allow"})).await;
    let first = clocked.run_next("pauses").await;
    clocked.edit("pauses", json!({"suspend": true})).await;
    clocked.ready("pauses", "Paused").await;
    assert_eq!(clocked.status("pauses").await.next_schedule_time, None);
    clocked.fake_clock.turn(3_000);
    clocked.edit("pauses", json!({"suspend": false})).await;
    clocked.ready("pauses", "Scheduled").await;
    let next = clocked.next("pauses", None).await;
    assert_eq!(next, first + SignedDuration::from_secs(3_300), "nothing of that time is caught up with");
    assert_eq!(clocked.status("pauses").await.missed_slots, 0);
    clocked.schedules().delete("pauses", &DeleteParams::default()).await.unwrap();
}

/// By the clock on the wall: 02:30 is skipped in spring, and comes twice in autumn.
async fn time_zones(clocked: &ClockedNamespace<'_>) {
    clocked.fake_clock.set(at("2027-03-27T12:00:00Z"));
    let spec = json!({"schedule": "30 2 * * *", "timeZone": "Europe/Berlin", "concurrencyPolicy": "Allow"});
    clocked.schedule("berlin", spec).await;
    // The schedule is older than the clock: what counts is the next slot from now on.
    clocked.edit("berlin", json!({"suspend": true})).await;
    clocked.ready("berlin", "Paused").await;
    clocked.edit("berlin", json!({"suspend": false})).await;
    let mut slots = Vec::new();
    for _ in 0..2 {
        slots.push(clocked.next("berlin", slots.last().copied()).await);
        clocked.fake_clock.set(*slots.last().unwrap());
        clocked.ran("berlin", *slots.last().unwrap()).await;
    }
    assert_eq!(slots, [at("2027-03-29T00:30:00Z"), at("2027-03-30T00:30:00Z")], "28 March has no 02:30");
    clocked.edit("berlin", json!({"suspend": true})).await;
    clocked.ready("berlin", "Paused").await;
    clocked.fake_clock.set(at("2027-10-30T12:00:00Z"));
    clocked.edit("berlin", json!({"suspend": false})).await;
    for _ in 0..2 {
        let last = *slots.last().unwrap();
        slots.push(clocked.next("berlin", Some(last)).await);
        clocked.fake_clock.set(*slots.last().unwrap());
        clocked.ran("berlin", *slots.last().unwrap()).await;
    }
    assert_eq!(
        slots[2..],
        [at("2027-10-31T00:30:00Z"), at("2027-10-31T01:30:00Z")],
        "31 October has it twice"
    );
    clocked.schedules().delete("berlin", &DeleteParams::default()).await.unwrap();
}

async fn bad_input(clocked: &ClockedNamespace<'_>) {
    let home = clocked.fleet.home();
    let refused = async |spec: Value, mentions: &str| {
        let error = home.try_create(schedule(&clocked.ns, "bad", spec)).await.unwrap_err().to_string();
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

    clocked.schedule("zone", json!({"timeZone": "Berlin"})).await;
    assert!(clocked.ready("zone", "InvalidSpec").await.contains("spec.timeZone"));
    clocked.schedule("never", json!({"schedule": "0 0 30 2 *"})).await;
    assert!(clocked.ready("never", "NeverFires").await.contains("spec.schedule"));
    let selector = json!({"template": {"selector": {"datacenterSelector": {
        "matchExpressions": [{"key": "tier", "operator": "In"}]
    }}}});
    clocked.schedule("labels", selector).await;
    assert!(clocked.ready("labels", "InvalidSelector").await.contains("spec.template.selector"));
    // Of a name in use by somebody else nothing is touched, and it is said.
    clocked.schedule("taken", json!({})).await;
    let slot = clocked.next("taken", None).await;
    let mut other = crate::support::backup_job(&of("taken", slot), json!({}));
    other["metadata"]["namespace"] = clocked.ns.clone().into();
    home.create(other).await;
    clocked.fake_clock.set(slot);
    assert!(clocked.ready("taken", "NameConflict").await.contains(&of("taken", slot)));
    for name in ["zone", "never", "labels", "taken"] {
        clocked.schedules().delete(name, &DeleteParams::default()).await.unwrap();
    }
}

/// Purges and syncs are FleetTasks.
async fn other_operations(clocked: &ClockedNamespace<'_>) {
    let spec = json!({"operation": "purge", "windowSeconds": 600, "template": {"unreachablePolicy": "Skip"}});
    clocked.schedule("tidy", spec).await;
    let slot = clocked.next("tidy", None).await;
    clocked.fake_clock.set(slot);
    clocked
        .until("tidy", "the slot ran", |s| s.last_schedule_time.clone().filter(|last| last.0 == slot))
        .await;
    let task: medusa_fleet::api::fleet::FleetTask =
        clocked.fleet.home().get(&clocked.ns, &of("tidy", slot)).await;
    assert_eq!(task.spec.operation.as_str(), "purge");
    assert_eq!(task.spec.run.rollout.unwrap().stagger_window_seconds, Some(600));
    let active = clocked.status("tidy").await.active;
    assert_eq!((active[0].kind.as_str(), active[0].name.as_str()), ("FleetTask", of("tidy", slot).as_str()));
}
