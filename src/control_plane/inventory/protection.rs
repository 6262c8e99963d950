//! How old a cluster's newest complete restore point may be, and whether it is younger. Pure.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;

use super::expectation::Expectation;
use crate::api::{
    Reason,
    cron::CronExpr,
    medusa::{MedusaBackupSchedule, ScheduledOperation},
};

/// How late a backup may be for its interval's sake: a quarter of it, and an hour to run in.
const ALLOWANCE: SignedDuration = SignedDuration::from_hours(1);

/// The age above which the newest complete restore point no longer protects, by what schedules promise. Without a
/// schedule it is `objective`.
#[must_use]
pub fn limit(promise: Expectation, objective: SignedDuration) -> SignedDuration {
    match promise.interval {
        Some(interval) => interval.saturating_add(interval / 4).saturating_add(ALLOWANCE),
        None => objective,
    }
}

/// Intervals of cron expressions, which are long to compute and always the same.
#[derive(Debug, Default)]
pub struct Intervals(HashMap<(String, Option<String>), Option<SignedDuration>>);

impl Intervals {
    /// Expressions that are remembered at most.
    const MAX: usize = 10_000;

    fn of(&mut self, schedule: &MedusaBackupSchedule, now: Timestamp) -> Option<SignedDuration> {
        if self.0.len() > Self::MAX {
            self.0.clear();
        }
        let (cron, zone) = (&schedule.spec.cron_schedule, &schedule.spec.time_zone);
        *self.0.entry((cron.clone(), zone.clone())).or_insert_with(|| {
            CronExpr::parse(cron, zone.as_deref()).ok().and_then(|cron| cron.longest_gap(now))
        })
    }
}

/// What the MedusaBackupSchedules of a cluster's datacenters promise. Purges, schedules that are disabled, and those
/// that cannot be read promise nothing.
#[must_use]
pub fn expected(
    schedules: &[&MedusaBackupSchedule],
    intervals: &mut Intervals,
    now: Timestamp,
) -> Expectation {
    schedules
        .iter()
        .filter(|s| s.spec.operation_type == ScheduledOperation::Backup && s.spec.disabled != Some(true))
        .map(|schedule| Expectation { interval: intervals.of(schedule, now), next: next(schedule, now) })
        .fold(Expectation::default(), Expectation::and)
}

/// The next slot: as its controller says, or as the expression says where that lies behind.
fn next(schedule: &MedusaBackupSchedule, now: Timestamp) -> Option<Timestamp> {
    let status = schedule.status.as_ref();
    let said = status.and_then(|s| s.next_schedule.as_ref()).map(|t| t.0).filter(|next| *next > now);
    said.or_else(|| {
        let cron = CronExpr::parse(&schedule.spec.cron_schedule, schedule.spec.time_zone.as_deref()).ok()?;
        let last = status.and_then(|s| s.last_execution.as_ref()).map(|t| t.0);
        let anchor = last.or(schedule.creation_timestamp().map(|t| t.0)).unwrap_or(now);
        cron.next_after(anchor, now)
    })
}

/// What is known about a cluster's newest restore points.
#[derive(Clone, Copy, Debug)]
pub struct ProtectionFacts {
    /// What the newest complete one restores to.
    pub newest: Option<Timestamp>,
    /// What the newest complete one there ever was restores to, as far as that is remembered.
    pub ever: Option<Timestamp>,
    /// Start of the newest one of which nobody knows whether it is complete.
    pub unknown: Option<Timestamp>,
    /// Whether no data plane of the cluster answers.
    pub silent: bool,
}

/// The verdict: whether the newest complete restore point is younger than `limit`, why, and the same for people.
#[must_use]
pub fn judge(
    evidence: ProtectionFacts,
    limit: SignedDuration,
    now: Timestamp,
) -> (Option<bool>, Reason, String) {
    let is_young = |point: &Timestamp| now.duration_since(*point) <= limit;
    let allowed = length(limit);
    if evidence.newest.is_some_and(|point| is_young(&point)) {
        let message = format!("the newest complete restore point is younger than {allowed}");
        return (Some(true), Reason::RecoveryPointFresh, message);
    }
    let known = match evidence.newest {
        Some(point) => format!("the newest complete restore point is of {point:.0}, more than {allowed} ago"),
        None => match evidence.ever {
            Some(point) => {
                format!("there is no complete restore point any more; the last one was of {point:.0}")
            }
            None => "there is no complete restore point".to_owned(),
        },
    };
    if evidence.silent {
        let message = format!("no data plane of the cluster answers; as last seen, {known}");
        return (None, Reason::RecoveryPointUnknown, message);
    }
    if evidence.unknown.as_ref().is_some_and(is_young) {
        let message = format!("a data plane does not answer that has a part in a younger one; {known}");
        return (None, Reason::RecoveryPointUnknown, message);
    }
    let reason = match (evidence.newest, evidence.ever) {
        (Some(_), _) => Reason::RecoveryPointStale,
        (None, Some(_)) => Reason::NoCompleteRestorePoint,
        (None, None) => Reason::NeverBackedUp,
    };
    (Some(false), reason, known)
}

/// A length of time for people.
fn length(of: SignedDuration) -> String {
    match of.as_mins() {
        minutes if minutes < 120 => format!("{minutes} min"),
        minutes => format!("{} h", minutes / 60),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn hours(hours: i64) -> SignedDuration {
        SignedDuration::from_hours(hours)
    }

    fn schedule(cron: &str, change: serde_json::Value) -> MedusaBackupSchedule {
        let mut spec = json!({"cronSchedule": cron, "backupSpec": {"cassandraDatacenter": "dc1"}});
        spec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        serde_json::from_value(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackupSchedule",
            "metadata": {"name": "s"}, "spec": spec,
        }))
        .unwrap()
    }

    #[test]
    fn the_schedule_that_runs_most_often_says_how_old_a_restore_point_may_be() {
        let all = [
            schedule("0 0 * * 0", json!({})),
            schedule("@daily", json!({})),
            schedule("* * * * *", json!({"operationType": "purge"})),
            schedule("*/5 * * * *", json!({"disabled": true})),
            schedule("garbage", json!({})),
        ];
        let found = expected(&all.iter().collect::<Vec<_>>(), &mut Intervals::default(), at(3_600));
        assert_eq!(found, Expectation { interval: Some(hours(24)), next: Some(at(86_400)) });
        assert_eq!(limit(found, hours(26)), hours(31));
        assert_eq!(limit(Expectation::default(), hours(26)), hours(26));
    }

    #[test]
    fn on_working_days_the_weekend_counts() {
        let working = schedule("0 2 * * 1-5", json!({}));
        let found = expected(&[&working], &mut Intervals::default(), at(0));
        assert_eq!(found.interval, Some(hours(72)));
    }

    #[test]
    fn the_next_slot_is_what_the_controller_says_while_that_lies_ahead() {
        let mut one = schedule("0 0 * * *", json!({}));
        one.status = serde_json::from_value(json!({"nextSchedule": "1970-01-01T06:00:00Z"})).unwrap();
        assert_eq!(next(&one, at(0)), Some(at(6 * 3_600)));
        assert_eq!(next(&one, at(7 * 3_600)), Some(at(86_400)));
    }

    #[rstest]
    #[case(Some(0), None, false, 10, Some(true), Reason::RecoveryPointFresh)]
    #[case(Some(0), None, true, 10, Some(true), Reason::RecoveryPointFresh)]
    #[case(Some(0), None, false, 11, Some(false), Reason::RecoveryPointStale)]
    #[case(None, None, false, 11, Some(false), Reason::NeverBackedUp)]
    // What is not known is neither there nor missing.
    #[case(Some(0), Some(5), false, 11, None, Reason::RecoveryPointUnknown)]
    #[case(Some(0), Some(0), false, 11, Some(false), Reason::RecoveryPointStale)]
    #[case(Some(0), None, true, 11, None, Reason::RecoveryPointUnknown)]
    #[case(None, None, true, 11, None, Reason::RecoveryPointUnknown)]
    fn protection_ends_with_the_limit(
        #[case] newest: Option<i64>,
        #[case] unknown: Option<i64>,
        #[case] silent: bool,
        #[case] now: i64,
        #[case] verdict: Option<bool>,
        #[case] reason: Reason,
    ) {
        let evidence = ProtectionFacts {
            newest: newest.map(at),
            ever: newest.map(at),
            unknown: unknown.map(at),
            silent,
        };
        let (found, why, _) = judge(evidence, SignedDuration::from_secs(10), at(now));
        assert_eq!((found, why), (verdict, reason));
    }

    #[test]
    fn never_is_said_only_where_there_never_was_one() {
        let evidence = ProtectionFacts { newest: None, ever: Some(at(5)), unknown: None, silent: false };
        let (verdict, why, message) = judge(evidence, SignedDuration::from_secs(10), at(6));
        assert_eq!((verdict, why), (Some(false), Reason::NoCompleteRestorePoint));
        assert!(message.contains("1970-01-01T00:00:05Z"), "{message}");
    }
}
