//! What a schedule asks for: its spec, read and checked, and the datacenter it means.
//!
//! Pure. What cannot be used is a [`Problem`] that names the field and what is allowed.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource as _;

use crate::{
    api::{
        Reason,
        cassandra::CassandraDatacenter,
        cron::{CronError, CronExpr},
        medusa::MedusaBackupScheduleSpec,
    },
    data_plane::frame::problem::{self, Problem},
};

/// What to do when a run of the same kind on the same datacenter has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Run beside it.
    Allow,
    /// Wait until it has ended.
    Forbid,
    /// Delete the schedule's own unfinished run, and run.
    Replace,
}

/// A spec that can be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// When.
    pub cron: CronExpr,
    /// Beside what.
    pub policy: Policy,
    /// How late a slot may still run; absent: as late as need be.
    pub deadline: Option<Duration>,
    /// How many runs that ended well are kept; absent: all.
    pub keep_good: Option<usize>,
    /// How many runs that ended badly are kept; absent: all.
    pub keep_bad: Option<usize>,
}

/// Reads `spec`.
///
/// # Errors
/// The first field that cannot be used.
pub fn read(spec: &MedusaBackupScheduleSpec) -> Result<Recipe, Problem> {
    let cron = CronExpr::parse(&spec.cron_schedule, spec.time_zone.as_deref()).map_err(|error| {
        let (reason, field) = match &error {
            CronError::Expression(_) => (Reason::InvalidSpec, "spec.cronSchedule"),
            CronError::TimeZone(_) => (Reason::InvalidSpec, "spec.timeZone"),
            CronError::NeverFires(_) => (Reason::NeverFires, "spec.cronSchedule"),
        };
        Problem::new(reason, format!("{field}: {error}"))
    })?;
    let policy = match spec.concurrency_policy.as_deref() {
        None | Some("" | "Forbid") => Policy::Forbid,
        Some("Allow") => Policy::Allow,
        Some("Replace") => Policy::Replace,
        Some(other) => {
            return Err(invalid(format!(
                "spec.concurrencyPolicy: `{other}` is not one of `Forbid`, `Allow` and `Replace`"
            )));
        }
    };
    let deadline = count("startingDeadlineSeconds", spec.starting_deadline_seconds)?;
    let keep = |field, limit| {
        count(field, limit).map(|limit| limit.map(|n| usize::try_from(n).unwrap_or(usize::MAX)))
    };
    Ok(Recipe {
        cron,
        policy,
        deadline: deadline.map(Duration::from_secs),
        keep_good: keep("successfulJobsHistoryLimit", spec.successful_jobs_history_limit)?,
        keep_bad: keep("failedJobsHistoryLimit", spec.failed_jobs_history_limit)?,
    })
}

fn count(field: &str, value: Option<i64>) -> Result<Option<u64>, Problem> {
    let Some(value) = value else { return Ok(None) };
    let read = u64::try_from(value);
    read.map(Some)
        .map_err(|_| invalid(format!("spec.{field}: {value} is below 0; give 0 or more, or leave it out")))
}

fn invalid(message: String) -> Problem {
    Problem::new(Reason::InvalidSpec, message)
}

/// The datacenter that `name` means, among `datacenters`, which are those of the schedule's `namespace`.
///
/// That is the one of that object name. Upstream's purge schedules give Cassandra's own name instead, also
/// where it differs (upstream: Purge schedule); such a schedule is owned by its datacenter, and so the owner is meant
/// when Cassandra calls it by that name. Without an owner a guess could purge another datacenter.
///
/// # Errors
/// When there is none; with the object name to give, where Cassandra's own was given.
pub fn datacenter<'a>(
    name: &str,
    namespace: &str,
    owners: &[OwnerReference],
    datacenters: &[&'a CassandraDatacenter],
) -> Result<&'a CassandraDatacenter, Problem> {
    let object_name = |dc: &CassandraDatacenter| dc.metadata.name.clone().unwrap_or_default();
    if let Some(datacenter) = datacenters.iter().find(|dc| object_name(dc) == name) {
        return Ok(datacenter);
    }
    let called: Vec<&CassandraDatacenter> =
        datacenters.iter().copied().filter(|dc| dc.display_name() == name).collect();
    let owns = |dc: &CassandraDatacenter| {
        owners.iter().any(|owner| {
            owner.kind == CassandraDatacenter::kind(&()) && Some(&owner.uid) == dc.metadata.uid.as_ref()
        })
    };
    if let Some(owner) = called.iter().find(|dc| owns(dc)) {
        return Ok(owner);
    }
    if called.is_empty() {
        problem::named("spec.backupSpec.cassandraDatacenter", name)?;
    }
    let hint = match called.as_slice() {
        [] => "give the object's name, and create the schedule beside it".to_owned(),
        some => {
            let names: Vec<String> = some.iter().map(|dc| format!("`{}`", object_name(dc))).collect();
            format!("it is Cassandra's own name of {}: give the object's name", names.join(" and "))
        }
    };
    Err(Problem::new(
        Reason::DatacenterNotFound,
        format!(
            "spec.backupSpec.cassandraDatacenter: there is no CassandraDatacenter `{name}` in namespace \
             `{namespace}`; {hint}"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn spec(more: Value) -> MedusaBackupScheduleSpec {
        let mut spec = json!({"cronSchedule": "@daily", "backupSpec": {"cassandraDatacenter": "dc1"}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    #[rstest]
    #[case(json!({"cronSchedule": "0 2 * *"}), Reason::InvalidSpec, "spec.cronSchedule: `0 2 * *` has 4 fields")]
    #[case(json!({"cronSchedule": "0 0 30 2 *"}), Reason::NeverFires, "spec.cronSchedule")]
    #[case(json!({"timeZone": "Berlin"}), Reason::InvalidSpec, "spec.timeZone")]
    #[case(json!({"cronSchedule": "TZ=UTC @daily", "timeZone": "UTC"}), Reason::InvalidSpec, "twice")]
    #[case(json!({"concurrencyPolicy": "replace"}), Reason::InvalidSpec, "spec.concurrencyPolicy: `replace`")]
    #[case(json!({"startingDeadlineSeconds": -1}), Reason::InvalidSpec, "spec.startingDeadlineSeconds")]
    #[case(json!({"successfulJobsHistoryLimit": -1}), Reason::InvalidSpec, "spec.successfulJobsHistoryLimit")]
    #[case(json!({"failedJobsHistoryLimit": -1}), Reason::InvalidSpec, "spec.failedJobsHistoryLimit")]
    fn what_cannot_be_used_is_named(#[case] more: Value, #[case] reason: Reason, #[case] mentions: &str) {
        let problem = read(&spec(more)).unwrap_err();
        assert_eq!(problem.reason, reason);
        assert!(problem.message.contains(mentions), "{}", problem.message);
    }

    #[rstest]
    #[case(json!({}), Policy::Forbid)]
    #[case(json!({"concurrencyPolicy": ""}), Policy::Forbid)]
    #[case(json!({"concurrencyPolicy": "Forbid"}), Policy::Forbid)]
    #[case(json!({"concurrencyPolicy": "Allow"}), Policy::Allow)]
    #[case(json!({"concurrencyPolicy": "Replace"}), Policy::Replace)]
    fn the_policy_is_forbid_unless_another_is_given(#[case] more: Value, #[case] expected: Policy) {
        assert_eq!(read(&spec(more)).unwrap().policy, expected);
    }

    fn dc(name: &str, own: Option<&str>) -> CassandraDatacenter {
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": format!("uid-{name}")},
            "spec": {"clusterName": "shop", "datacenterName": own}
        }))
        .unwrap()
    }

    fn owned_by(name: &str) -> Vec<OwnerReference> {
        vec![crate::data_plane::frame::objects::owner(&dc(name, None))]
    }

    fn found(name: &str, owners: &[OwnerReference], all: &[CassandraDatacenter]) -> Result<String, String> {
        let all: Vec<&CassandraDatacenter> = all.iter().collect();
        match datacenter(name, "ns", owners, &all) {
            Ok(dc) => Ok(dc.metadata.name.clone().unwrap()),
            Err(problem) => Err(problem.message),
        }
    }

    #[test]
    fn an_object_of_that_name_comes_first() {
        let all = [dc("real-dc1", Some("dc1")), dc("dc1", Some("other"))];
        assert_eq!(found("dc1", &owned_by("real-dc1"), &all), Ok("dc1".to_owned()));
    }

    #[test]
    fn upstreams_purge_schedule_finds_the_datacenter_that_owns_it() {
        let all = [dc("a-dc1", Some("dc1")), dc("b-dc1", Some("dc1"))];
        assert_eq!(found("dc1", &owned_by("b-dc1"), &all), Ok("b-dc1".to_owned()));
        assert!(found("dc1", &owned_by("gone"), &all).unwrap_err().contains("`a-dc1` and `b-dc1`"));
        assert!(found("dc2", &owned_by("b-dc1"), &all).is_err(), "the owner is not called that");
    }

    #[test]
    fn what_is_no_objects_name_and_no_datacenters_own_is_refused_as_such() {
        let why = found("Real DC?x", &[], &[dc("dc1", None)]).unwrap_err();
        assert!(why.starts_with("spec.backupSpec.cassandraDatacenter: `Real DC?x` cannot be"), "{why}");
        assert_eq!(found("Real DC", &owned_by("dc1"), &[dc("dc1", Some("Real DC"))]), Ok("dc1".to_owned()));
    }

    #[test]
    fn without_an_owner_the_name_to_give_is_told_and_nothing_guessed() {
        let why = found("dc1", &[], &[dc("real-dc1", Some("dc1"))]).unwrap_err();
        assert!(why.contains("`real-dc1`") && why.contains("spec.backupSpec.cassandraDatacenter"), "{why}");
        assert!(found("dc9", &[], &[dc("real-dc1", Some("dc1"))]).unwrap_err().contains("beside it"));
    }
}
