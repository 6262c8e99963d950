//! Scenarios: what the data planes show, step by step, and what becomes of the task.

use std::{fmt::Write as _, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::{
    api::{
        Reason,
        fleet::{DatacenterTask, FleetTask, FleetTaskStatus, Phase},
        medusa::{MedusaTask, TaskOperation},
    },
    control_plane::{
        data_planes::{
            fleet::{Snapshot, Usable},
            records::BackupRecord,
            view::ObjectKey,
        },
        fanout::tests::{datacenter, live, plane},
        identity::Identity,
        runs::{
            Fanned as _,
            buckets::Buckets,
            child::{child_key, place, task},
            compact::Detail,
            ending::end,
            engine::{
                FirstSeen, RunInputs,
                adapter::Adapter as _,
                advance::{advance, note},
                load::load,
                plan::{Work, plan, repairs},
            },
            in_flight::Outcomes,
            outcome::Outcome,
            select::{ClusterLabels, select},
        },
    },
};

/// A task, its data planes, and what the outside has done so far.
struct Play {
    task: FleetTask,
    planes: Vec<Snapshot>,
    outcomes: Outcomes,
    first_seen: FirstSeen,
    now: i64,
    log: String,
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

impl Play {
    /// One data plane per name, each with one datacenter of two nodes, `dc-<name>`.
    fn new(spec: Value, names: &[&str]) -> Self {
        let task = serde_json::from_value(json!({
            "metadata": {"name": "weekly", "namespace": "medusa-fleet", "generation": 1,
                "uid": "0b1c2d3e-0000-0000-0000-000000000000"}, "spec": spec,
        }))
        .unwrap();
        let planes = names.iter().map(|name| plane(name, live(&[datacenter(&format!("dc-{name}"), 2)])));
        let (outcomes, first_seen) = (Outcomes::new(), FirstSeen::default());
        Self { task, planes: planes.collect(), outcomes, first_seen, now: 1_000, log: String::new() }
    }

    fn spec(&mut self, field: &str, value: Value) {
        let mut spec = serde_json::to_value(&self.task.spec).unwrap();
        spec[field] = value;
        self.task.spec = serde_json::from_value(spec).unwrap();
    }

    fn edit(&mut self, name: &str, edit: impl FnOnce(&mut Snapshot)) {
        edit(self.planes.iter_mut().find(|p| p.name == name).unwrap());
    }

    /// One look. Children are made at once, unless `refuse` says what becomes of that datacenter's.
    fn look(&mut self, what: &str, refuse: impl Fn(&str) -> Option<Outcome>) {
        let old = self.task.status.clone().unwrap_or_default();
        let begun = old.run.start_time.as_ref().map_or(at(self.now), |t| t.0);
        let buckets = Buckets::default();
        let inputs = RunInputs::new(&self.task, &self.planes, &buckets, begun, at(self.now));
        let known: Vec<_> = old.datacenters.iter().map(|e| e.run.clone()).collect();
        let selector = self.task.spec.run.selector.clone().unwrap_or_default();
        let chosen = select(&selector, &self.planes, &ClusterLabels::new(), &known).unwrap();
        let chosen: Vec<_> = chosen
            .into_iter()
            .map(|run| {
                let known = old.datacenters.iter().find(|e| place(&e.run) == place(&run));
                FleetTask::entry(run, known)
            })
            .collect();
        note(&inputs, &chosen, &mut self.first_seen, |_, _| false);
        let outcomes = self.outcomes.clone();
        // As `InFlightWrites` does: what came to an end is handed out once.
        self.outcomes.retain(|_, outcome| outcome.retry().is_some());
        let mut entries = advance(&inputs, &chosen, &outcomes, &self.first_seen);
        end(&inputs.terms, &mut entries, inputs.terms.begun, |_| false);
        let mut actions = repairs(&inputs, &entries, &outcomes, &self.first_seen, |_, _| false);
        let mut load = load(&inputs, &entries, &[], &[]);
        actions.extend(plan(&inputs, &mut entries, &mut load, |_, _| false).actions);
        let status = FleetTask::summarize(&inputs, &old, entries, None, inputs.terms.begun);
        let mut done = Vec::new();
        for action in actions {
            let run = &action.entry;
            let there = (run.data_plane.clone(), action.key.clone());
            let outcome = refuse(&run.datacenter).unwrap_or(match action.work {
                Work::Withdraw(_) => Outcome::Withdrawn,
                Work::Start | Work::FollowUp => Outcome::There(None),
            });
            let dc =
                inputs.planes[run.data_plane.as_str()].view.datacenters.last(&place(run)).unwrap().clone();
            let operation = match action.work {
                Work::FollowUp => TaskOperation::Sync,
                Work::Start | Work::Withdraw(_) => self.task.spec.operation.into(),
            };
            let made = task(&self.task, action.key.clone(), operation, &dc, &Identity::named("cp"));
            done.push((there, action.work, outcome, made));
        }
        self.write(what, &status, done.iter().map(|(there, work, ..)| (there, work)));
        for ((name, key), _, outcome, mut made) in done {
            made.metadata.uid = Some(format!("uid-{}", key.name));
            made.metadata.resource_version = Some("7".to_owned());
            self.edit(&name, |snapshot| {
                let items = Arc::make_mut(&mut snapshot.view).tasks.items_mut();
                if matches!(outcome, Outcome::There(_)) {
                    items.insert(key.clone(), Arc::new(made));
                } else if matches!(outcome, Outcome::Withdrawn) {
                    items.remove(&key);
                }
            });
            self.outcomes.insert((name, key), outcome);
        }
        self.task.status = Some(status);
    }

    fn write<'a>(
        &mut self,
        what: &str,
        status: &FleetTaskStatus,
        done: impl Iterator<Item = (&'a (String, ObjectKey), &'a Work)>,
    ) {
        let log = &mut self.log;
        let phase = status.run.phase.unwrap_or_default().as_str();
        let _ = writeln!(
            log,
            "{} s, {what}: {phase} {}",
            self.now - 1_000,
            status.run.done.as_deref().unwrap_or("")
        );
        for DatacenterTask { run, sync, keeps, purged } in &status.datacenters {
            let _ = write!(log, "  {}/{}: {}", run.data_plane, run.datacenter, run.phase.as_str());
            for (word, text) in
                [("reason", &run.reason), ("sync", sync), ("keeps", keeps), ("says", &run.message)]
            {
                if let Some(text) = text {
                    let _ = write!(log, " {word}={text}");
                }
            }
            let backups = purged.map_or_else(String::new, |p| format!(" purged={}", p.backups));
            let _ = writeln!(log, "{backups}");
        }
        for ((name, key), work) in done {
            let _ = writeln!(log, "  -> {work:?} {name} {}", key.name);
        }
    }

    /// The data plane writes a status for the child of a datacenter, or for the sync after it.
    fn play(&mut self, name: &str, sync: bool, status: &Value) {
        let task = self.task.clone();
        let entries = &task.status.as_ref().unwrap().datacenters;
        let run = entries.iter().map(|e| &e.run).find(|r| r.data_plane == name).unwrap();
        let own = child_key(&task, run, run.attempts());
        let key = if sync { super::adapter::sync_key(&own) } else { own.clone() };
        self.edit(name, |snapshot| {
            let items = Arc::make_mut(&mut snapshot.view).tasks.items_mut();
            let mut object: MedusaTask = (**items.get(&key).unwrap_or_else(|| &items[&own])).clone();
            object.metadata.name = Some(key.name.clone());
            if sync {
                object.spec.operation = TaskOperation::Sync;
            }
            object.status = serde_json::from_value(status.clone()).unwrap();
            items.insert(key, Arc::new(object));
        });
    }

    /// The task's verdict is made known.
    fn verdict(mut self) -> String {
        let status = self.task.status.clone().unwrap();
        let complete = status.run.conditions.iter().find(|c| c.type_ == "Complete").unwrap();
        let _ = writeln!(self.log, "{}: {}", complete.reason, complete.message);
        if let Some(purged) = status.purged {
            let _ = writeln!(self.log, "{purged:?} {}", status.freed.unwrap());
        }
        self.log
    }
}

fn ended(pods: &[&str], failed: &[&str], backups: i64) -> Value {
    let finished: Vec<Value> = pods
        .iter()
        .map(|pod| {
            json!({"podName": pod, "nbBackupsPurged": backups, "nbObjectsPurged": 10, "totalPurgedSize": 1024,
                "totalObjectsWithinGcGrace": 1})
        })
        .collect();
    json!({"startTime": "2026-01-01T00:00:00Z", "finishTime": "2026-01-01T00:01:00Z",
        "finished": finished, "failed": failed})
}

fn made(_: &str) -> Option<Outcome> {
    None
}

#[test]
fn a_purge_waits_for_the_sync_after_it_and_makes_one_where_nobody_does() {
    let mut play = Play::new(json!({"operation": "purge"}), &["eu", "us"]);
    play.look("asked for", made);
    play.now += 1;
    play.look("children are there", made);
    play.play("eu", false, &ended(&["a", "b"], &[], 2));
    play.play("eu", true, &json!({"startTime": "2026-01-01T00:01:00Z"}));
    play.play("us", false, &ended(&["a", "b"], &[], 1));
    play.now += 10;
    play.look("eu syncs, us is done", made);
    play.play("eu", true, &ended(&["a"], &[], 0));
    play.now += 61;
    play.look("nobody syncs in us", made);
    play.play("us", true, &ended(&["a"], &[], 0));
    play.now += 1;
    play.look("both have synced", made);
    insta::assert_snapshot!(play.verdict());
}

#[test]
fn what_is_refused_fails_and_what_waits_waits_and_the_rest_goes_on() {
    let refused = Outcome::Refused(Reason::WouldRemoveLastRestorePoint, "back it up first".to_owned());
    let waits = Outcome::NotNow(Reason::BackupRunning, "waits for a backup".to_owned());
    let mut play = Play::new(json!({"operation": "purge"}), &["eu", "us", "ap"]);
    let answer = |dc: &str| match dc {
        "dc-eu" => Some(refused.clone()),
        "dc-us" => Some(waits.clone()),
        _ => None,
    };
    play.look("asked for", answer);
    play.now += 1;
    play.look("answers are in", answer);
    play.play("ap", false, &ended(&["a"], &["b"], 1));
    play.now += 1;
    play.look("a pod failed in ap", made);
    play.look("us is made", made);
    play.play("us", false, &ended(&["a", "b"], &[], 1));
    play.play("us", true, &ended(&["a"], &[], 0));
    play.now += 1;
    play.look("us is purged", made);
    insta::assert_snapshot!(play.verdict());
}

#[test]
fn a_failed_attempt_is_followed_by_another_whose_figures_are_added() {
    let spec = json!({"operation": "purge", "rollout": {"retriesPerDatacenter": 1}});
    let mut play = Play::new(spec, &["eu"]);
    play.look("asked for", made);
    play.look("the child is there", made);
    play.play("eu", false, &ended(&["a"], &["b"], 3));
    play.now += 5;
    play.look("a pod failed", made);
    play.now += 11;
    play.look("the pause is over", made);
    play.look("the second child is there", made);
    play.play("eu", false, &ended(&["a", "b"], &[], 1));
    play.play("eu", true, &ended(&["a"], &[], 0));
    play.look("it went well", made);
    insta::assert_snapshot!(play.verdict());
}

#[test]
fn the_sum_stays_right_when_a_shortened_status_is_all_a_new_controller_finds() {
    let mut play = Play::new(json!({"operation": "purge"}), &["eu", "us"]);
    play.look("asked for", made);
    play.look("the children are there", made);
    for (name, backups) in [("eu", 2), ("us", 1)] {
        play.play(name, false, &ended(&["a", "b"], &[], backups));
    }
    play.play("eu", true, &ended(&["a"], &[], 0));
    play.look("eu is purged, us has to sync", made);
    let status = play.task.status.as_mut().unwrap();
    assert_eq!(status.purged.map(|p| p.backups), Some(6));
    FleetTask::shorten(status, Detail::Least);
    assert_eq!(status.purged.map(|p| p.backups), Some(4), "what us purged is read again");
    assert!(status.datacenters.iter().all(|e| e.purged.is_none() && e.run.job.is_none()));
    play.look("a new controller looks", made);
    assert_eq!(play.task.status.as_ref().unwrap().purged.map(|p| p.backups), Some(6));
    play.play("us", true, &ended(&["a"], &[], 0));
    play.look("us has synced", made);
    let status = play.task.status.unwrap();
    assert_eq!((status.run.phase, status.purged.map(|p| p.backups)), (Some(Phase::Succeeded), Some(6)));
}

#[test]
fn the_figures_of_an_attempt_are_not_lost_when_its_datacenter_ends_before_another() {
    let spec = json!({"operation": "purge", "rollout": {"retriesPerDatacenter": 1}});
    let mut play = Play::new(spec, &["eu"]);
    play.look("asked for", made);
    play.look("the child is there", made);
    play.play("eu", false, &ended(&["a"], &["b"], 3));
    play.look("a pod failed", made);
    let status = play.task.status.as_mut().unwrap();
    assert_eq!((status.datacenters[0].run.phase, status.datacenters[0].run.attempts()), (Phase::Pending, 1));
    FleetTask::shorten(status, Detail::Least);
    assert_eq!(status.purged.map(|p| p.backups), Some(0), "what it purged is read again");
    play.spec("cancel", json!(true));
    play.look("a new controller looks at a cancelled task", made);
    let status = play.task.status.unwrap();
    assert_eq!((status.datacenters[0].run.phase, status.purged.map(|p| p.backups)), (Phase::Failed, Some(3)));
}

#[test]
fn limits_hold_a_budget_ends_the_rest_and_silence_is_no_failure() {
    let spec = json!({"operation": "sync", "rollout": {"maxConcurrentDatacenters": 2, "maxFailures": 1}});
    let mut play = Play::new(spec, &["a", "b", "c", "d"]);
    play.look("asked for", made);
    play.now += 1;
    play.look("two are at work", made);
    play.edit("b", |snapshot| {
        snapshot.usable = Usable::Unreachable { since: Some(at(1_001)), why: "no route".to_owned() };
    });
    play.play("a", false, &ended(&["p"], &[], 0));
    play.now += 1;
    play.look("a is done, b is silent", made);
    play.look("c starts", made);
    play.play("c", false, &ended(&[], &[], 0));
    play.now += 1;
    play.look("nobody answered in c", made);
    play.edit("b", |snapshot| snapshot.usable = Usable::Ready);
    play.play("b", false, &ended(&["p"], &[], 0));
    play.now += 1;
    play.look("b is back and done", made);
    insta::assert_snapshot!(play.verdict());
}

#[test]
fn a_cancelled_task_takes_back_what_nobody_began_with_and_waits_for_the_rest() {
    let spec = json!({"operation": "purge", "rollout": {"maxConcurrentDatacenters": 2}});
    let mut play = Play::new(spec, &["a", "b", "c"]);
    play.look("asked for", made);
    play.look("two are made", made);
    play.play("a", false, &json!({"startTime": "2026-01-01T00:00:00Z", "inProgress": ["p", "q"]}));
    play.spec("cancel", json!(true));
    play.now += 1;
    play.look("cancelled", made);
    play.now += 1;
    play.look("b was taken back", made);
    play.play("a", false, &ended(&["p", "q"], &[], 1));
    play.play("a", true, &ended(&["p"], &[], 0));
    play.look("a ended by itself", made);
    insta::assert_snapshot!(play.verdict());
}

#[test]
fn a_purge_that_does_not_begin_in_time_is_taken_back_because_the_check_no_longer_holds() {
    let mut play = Play::new(json!({"operation": "purge"}), &["eu"]);
    play.look("asked for", made);
    play.look("the child is there", made);
    play.now += 3_599;
    play.look("nearly an hour later", made);
    play.now += 1;
    play.look("an hour later", made);
    play.now += 1;
    play.look("it is gone", made);
    insta::assert_snapshot!(play.verdict());
}

#[test]
fn a_dry_run_says_what_would_be_done_and_what_not_and_ends() {
    let refused = Outcome::Refused(Reason::WouldRemoveLastRestorePoint, "back it up first".to_owned());
    let waits = Outcome::NotNow(Reason::BackupRunning, "waits for a backup".to_owned());
    let spec = json!({"operation": "purge", "dryRun": true,
        "rollout": {"maxConcurrentDatacenters": 1, "staggerWindowSeconds": 600}});
    let mut play = Play::new(spec, &["ap", "eu", "us"]);
    let answer = |dc: &str| match dc {
        "dc-eu" => Some(refused.clone()),
        "dc-us" => Some(waits.clone()),
        _ => Some(Outcome::Would(Some("nightly.shop".to_owned()))),
    };
    play.look("asked for", answer);
    play.look("answers are in", answer);
    insta::assert_snapshot!(play.verdict());
}

#[test]
fn a_strangers_object_is_left_alone_and_a_deleted_child_is_missed() {
    let mut play = Play::new(json!({"operation": "sync"}), &["eu", "us"]);
    play.look("asked for", |dc| (dc == "dc-eu").then_some(Outcome::Conflict));
    play.look("answers are in", made);
    play.edit("us", |snapshot| Arc::make_mut(&mut snapshot.view).tasks.clear());
    play.now += 4;
    play.look("us is not listed for a moment", made);
    play.now += 5;
    play.look("somebody deleted it", made);
    insta::assert_snapshot!(play.verdict());
}

#[test]
fn a_child_carries_name_labels_and_a_local_owner() {
    let play = Play::new(json!({"operation": "purge"}), &["eu"]);
    let key = ObjectKey::new("ns", "weekly-dc-eu-0b1c2d3e");
    let made = task(
        &play.task,
        key,
        play.task.spec.operation.into(),
        &datacenter("dc-eu", 2),
        &Identity::named("cp"),
    );
    insta::assert_yaml_snapshot!(made);
    assert_eq!(super::adapter::sync_key(&ObjectKey::of(&made)).name, format!("{}-sync", made.name_any()));
}

/// A sync, the child or the one after it, ends without the word of a pod and has imported one MedusaBackup.
fn end_early(play: &mut Play, sync: bool) {
    play.play("eu", sync, &json!({"finishTime": "1970-01-01T00:16:40Z", "finished": []}));
    play.edit("eu", |snapshot| {
        let view = Arc::make_mut(&mut snapshot.view);
        for task in view.tasks.items_mut().values_mut() {
            Arc::make_mut(task).metadata.creation_timestamp = Some(Time(at(0)));
        }
        let record =
            BackupRecord { datacenter: "dc-eu".to_owned(), created: Some(at(0)), ..BackupRecord::default() };
        view.backups.put(ObjectKey::new("ns", "imported"), Arc::new(record));
    });
}

#[test]
fn a_sync_that_ends_after_each_import_is_followed_by_another_until_one_is_whole() {
    let mut play = Play::new(json!({"operation": "sync"}), &["eu"]);
    play.look("asked for", made);
    play.look("made", made);
    for _ in 0..3 {
        end_early(&mut play, false);
        play.look("it imported one", made);
        play.now += 3_600;
        play.look("the next is asked for", made);
        play.look("the next is made", made);
    }
    play.play("eu", false, &ended(&["a"], &[], 0));
    play.look("nothing was left", made);
    let status = play.task.status.clone().unwrap();
    assert_eq!(status.run.phase, Some(Phase::Succeeded), "{}", play.log);
    assert_eq!(status.datacenters[0].run.attempts(), 4, "{}", play.log);

    let mut play = Play::new(json!({"operation": "purge"}), &["eu"]);
    play.look("asked for", made);
    play.look("made", made);
    play.play("eu", false, &ended(&["a", "b"], &[], 1));
    play.look("purged", made);
    end_early(&mut play, true);
    play.now += 60;
    play.look("the sync after it imported one and is deleted", made);
    play.look("it is missed", made);
    play.look("it is made again", made);
    play.play("eu", true, &ended(&["a"], &[], 0));
    play.look("it is whole", made);
    let status = play.task.status.clone().unwrap();
    assert_eq!(status.run.phase, Some(Phase::Succeeded), "{}", play.log);
}

#[test]
fn a_task_that_cannot_be_seen_is_waited_for() {
    for operation in ["sync", "purge"] {
        let mut play = Play::new(json!({"operation": operation}), &["eu"]);
        play.look("asked for", made);
        play.look("made", made);
        play.edit("eu", |snapshot| {
            let view = Arc::make_mut(&mut snapshot.view);
            view.tasks.clear();
            assert!(view.tasks.trust.refuse("medusatasks cannot be followed: forbidden"));
        });
        play.now += 100_000;
        play.look("nobody sees it", made);
        let entry = play.task.status.clone().unwrap().datacenters.remove(0).run;
        assert_eq!(
            (entry.phase, entry.reason.as_deref()),
            (Phase::Running, Some("WatchesStale")),
            "{}",
            play.log
        );
        play.edit("eu", |snapshot| {
            Arc::make_mut(&mut snapshot.view).tasks.trust.follow();
        });
        play.look("it is gone", made);
        play.now += 5;
        play.look("it is still gone", made);
        let entry = play.task.status.clone().unwrap().datacenters.remove(0).run;
        assert_eq!(entry.reason.as_deref(), Some("JobDeleted"), "{}", play.log);
    }
}
