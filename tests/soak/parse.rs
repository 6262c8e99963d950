//! Objects as JSON become what the oracle judges. Pure.

use jiff::Timestamp;
use medusa_fleet::api::labels;
use serde_json::Value;

use crate::observed::{End, Made, Run, RunPart};

/// On a FleetRestoreJob: the data planes it is about.
pub const ABOUT: &str = "soak/data-planes";

fn text(of: &Value, path: &str) -> String {
    of.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn time(of: &Value, path: &str) -> Option<Timestamp> {
    of.pointer(path)?.as_str()?.parse().ok()
}

fn items<'a>(of: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    of.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

/// A FleetBackupJob, FleetTask or FleetRestoreJob.
pub fn run(kind: &str, object: &Value) -> Run {
    let about =
        object.pointer("/metadata/annotations").and_then(|all| all.get(ABOUT)).and_then(Value::as_str);
    let selected = items(object, "/spec/selector/dataPlanes").filter_map(Value::as_str);
    let policy = text(object, "/spec/unreachablePolicy");
    let complete = items(object, "/status/conditions").find(|one| text(one, "/type") == "Complete");
    Run {
        kind: kind.to_owned(),
        name: text(object, "/metadata/name"),
        uid: text(object, "/metadata/uid"),
        created: time(object, "/metadata/creationTimestamp").unwrap_or_default(),
        is_gone: false,
        named: selected.chain(about.into_iter().flat_map(|all| all.split(' '))).map(str::to_owned).collect(),
        policy: if policy.is_empty() { "Wait".to_owned() } else { policy },
        is_cancelled: object.pointer("/spec/cancel") == Some(&Value::Bool(true)),
        phase: text(object, "/status/phase"),
        message: complete.map(|one| text(one, "/message")).unwrap_or_default(),
        finished: time(object, "/status/finishTime"),
        entries: items(object, "/status/datacenters").map(part).collect(),
    }
}

fn part(entry: &Value) -> RunPart {
    let attempts = entry.pointer("/attempts").and_then(Value::as_u64);
    RunPart {
        plane: text(entry, "/dataPlane"),
        datacenter: text(entry, "/datacenter"),
        job: text(entry, "/job"),
        attempts: attempts.and_then(|count| usize::try_from(count).ok()).unwrap_or_default(),
        phase: text(entry, "/phase"),
        reason: text(entry, "/reason"),
        message: text(entry, "/message"),
        finished: time(entry, "/finishTime"),
    }
}

/// What a line of the simulator's journal tells was made.
pub fn made(line: &Value) -> Made {
    let label = |name: &str| {
        let all = line.pointer("/labels").and_then(|all| all.get(name)).and_then(Value::as_str);
        all.unwrap_or_default().to_owned()
    };
    let owners = [labels::JOB_UID, labels::FLEET_SCHEDULE_UID].map(label);
    Made {
        plane: text(line, "/plane"),
        resource: text(line, "/resource"),
        name: text(line, "/name"),
        uid: text(line, "/uid"),
        owner: owners.into_iter().find(|owner| !owner.is_empty()).unwrap_or_default(),
        datacenter: label(labels::CASSANDRA_DATACENTER),
        at: time(line, "/at").unwrap_or_default(),
        deleted: None,
        end: End::Untouched,
    }
}

/// What an object of Medusa's kinds has come to, by its own status alone: all `nodes` pods are in `finished`, none in
/// `failed`.
pub fn end(object: &Value, nodes: usize) -> End {
    let is_there = |path: &str| !text(object, path).is_empty();
    let count = |path: &str| items(object, path).count();
    match (is_there("/status/startTime"), is_there("/status/finishTime")) {
        (_, true) if count("/status/finished") == nodes && count("/status/failed") == 0 => End::Good,
        (_, true) => End::Bad,
        (true, false) => End::Going,
        (false, false) => End::Untouched,
    }
}
