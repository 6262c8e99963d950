//! What the doctor finds of runs and restores.

use rstest::rstest;
use serde_json::{Value, json};

use super::{
    DoctorInput, findings,
    tests::{LONG_AGO, all, condition, fine, object, words},
};
use crate::cli::views::fixtures::now;

#[rstest]
#[case::fresh("2026-11-02T11:55:00Z", "DataPlaneUnreachable", None)]
#[case::waits("2026-11-02T11:00:00Z", "DataPlaneUnreachable", Some("DataPlaneUnreachable"))]
#[case::works("2026-11-02T09:00:00Z", "Running", None)]
#[case::stands("2026-11-02T05:00:00Z", "Running", Some("Stuck"))]
#[case::behind_a_purge("2026-11-02T11:00:00Z", "PurgeRunning", Some("PurgeRunning"))]
#[case::behind_a_backup("2026-11-02T11:00:00Z", "BackupRunning", Some("BackupRunning"))]
#[case::just_behind_a_backup("2026-11-02T11:55:00Z", "BackupRunning", None)]
#[case::nobody_begins("2026-11-02T11:00:00Z", "JobCreated", Some("JobCreated"))]
#[case::just_made("2026-11-02T11:55:00Z", "JobCreated", None)]
fn runs_that_do_not_come_on(#[case] moved: &str, #[case] reason: &str, #[case] expected: Option<&str>) {
    let run = json!({"dataPlane": "eu", "namespace": "ns", "datacenter": "dc1", "phase": "Running", "reason": reason});
    let status =
        json!({"phase": "Running", "startTime": LONG_AGO, "lastProgressTime": moved, "datacenters": [run]});
    let task = object("t", json!({"operation": "sync"}), status.clone());
    let evidence = DoctorInput {
        jobs: all(json!([object("j", json!({}), status)])),
        tasks: all(json!([task])),
        ..fine()
    };
    let expected: Vec<String> = expected
        .into_iter()
        .flat_map(|reason| ["job/j", "task/t"].map(|object| format!("Warning {object} {reason}")))
        .collect();
    let found = findings(&evidence, now());
    assert_eq!(words(&found), expected);
    assert!(found.iter().all(|f| f.reason != "JobCreated" || f.what.contains("runs Medusa")), "{found:?}");
}

#[rstest]
#[case::a_moment_ago("False", "2026-11-02T11:59:59Z", None)]
#[case::for_long("False", "2026-11-02T11:40:00Z", Some("DataPlaneUnreachable"))]
#[case::not_known("Unknown", "2026-11-02T11:40:00Z", Some("DataPlaneUnreachable"))]
#[case::back_again("True", "2026-11-02T11:59:59Z", None)]
#[case::only_a_request_was_lost("True", LONG_AGO, None)]
fn silence_counts_from_when_it_began(
    #[case] ready: &str,
    #[case] since: &str,
    #[case] expected: Option<&str>,
) {
    let mut said = condition("Ready", ready, "Paused");
    said["lastTransitionTime"] = json!(since);
    // Paused, so that the data plane itself is no trouble.
    let plane = object("eu", json!({}), json!({"conditions": [said]}));
    let run = json!({"dataPlane": "eu", "namespace": "ns", "datacenter": "dc1", "phase": "Running",
        "reason": "DataPlaneUnreachable", "job": "c", "jobUid": "u", "startTime": "2026-11-02T09:00:00Z"});
    let status = json!({"phase": "Running", "startTime": LONG_AGO, "lastProgressTime": "2026-11-02T09:00:00Z",
        "datacenters": [run], "cluster": "shop"});
    let evidence = DoctorInput {
        data_planes: all(json!([plane])),
        jobs: all(json!([object("j", json!({}), status.clone())])),
        restores: all(json!([object("r", json!({"backup": "b"}), status.clone())])),
        tasks: all(json!([object("t", json!({"operation": "sync"}), status)])),
        ..fine()
    };
    let found = words(&findings(&evidence, now()));
    let found: Vec<&String> = found.iter().filter(|f| !f.contains("dataplane/")).collect();
    let expected: Vec<String> = expected
        .into_iter()
        .flat_map(|reason| {
            ["job/j", "restore/r", "task/t"].map(|object| format!("Warning {object} {reason}"))
        })
        .collect();
    assert_eq!(found, expected.iter().collect::<Vec<_>>());
}

fn restored(name: &str, created: &str, phase: &str, datacenters: Value) -> Value {
    let reason = if phase == "Pending" { "BackupRunning" } else { phase };
    let status = json!({
        "phase": phase, "cluster": "shop", "startTime": created, "datacenters": datacenters,
        "conditions": [condition("Complete", "Unknown", reason)],
    });
    let mut job = object(name, json!({"backup": "b"}), status);
    job["metadata"]["creationTimestamp"] = json!(created);
    job
}

#[test]
fn restores_that_wait_for_a_person() {
    let run = |phase: &str, reason: &str| {
        json!({"dataPlane": "eu", "namespace": "ns", "datacenter": "dc1", "job": "c", "jobUid": "u", "phase": phase,
            "reason": reason})
    };
    let early = "2026-11-02T08:00:00Z";
    let found = |jobs: Value| words(&findings(&DoctorInput { restores: all(jobs), ..fine() }, now()));
    assert_eq!(
        found(json!([
            restored("waits", early, "Pending", json!([])),
            restored("silent", early, "Running", json!([run("Running", "DataPlaneUnreachable")])),
            restored("behind", early, "Running", json!([run("Pending", "PurgeRunning")])),
            restored("works", early, "Running", json!([run("Running", "Restoring")])),
        ])),
        [
            "Warning restore/behind PurgeRunning",
            "Warning restore/silent DataPlaneUnreachable",
            "Warning restore/waits BackupRunning",
        ]
    );
    let mut moves = restored("moves", LONG_AGO, "Running", json!([run("Running", "Restoring")]));
    assert_eq!(found(json!([moves])), ["Warning restore/moves Stuck"]);
    moves["status"]["datacenters"][0]["stoppedTime"] = json!("2026-11-02T11:00:00Z");
    assert_eq!(found(json!([moves])), Vec::<String>::new());
    let half = restored("half", early, "PartiallyFailed", json!([run("Failed", "NodesFailed")]));
    assert_eq!(found(json!([half])), ["Error restore/half PartiallyFailed"]);
    let again =
        restored("again", "2026-11-02T09:00:00Z", "Succeeded", json!([run("Succeeded", "Succeeded")]));
    assert_eq!(found(json!([half, again])), Vec::<String>::new(), "the next restore mended it");
    let refused = restored("refused", "2026-11-02T10:00:00Z", "Failed", json!([]));
    assert_eq!(
        found(json!([half, refused])),
        ["Error restore/half PartiallyFailed"],
        "one that touched nothing did not"
    );
}
