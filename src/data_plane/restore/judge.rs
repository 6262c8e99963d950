//! What has become of each pod's restore.
//!
//! Pure. A pod has restored when its own record says so, and only then: its container ends with 0 also when
//! it found nothing to restore.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    record::LogRecord,
    template::{CONTAINER, Holds},
    view::{Restore, RestorePod},
};
use crate::{
    api::{
        Reason,
        medusa::{MappedHost, MedusaRestoreJobStatus},
    },
    data_plane::frame::timings::{Timings, since},
};

/// How often a failing container is started again before the restore is given up. With the kubelet's pauses
/// that is ten minutes of failing at once, and more where Medusa itself retries for minutes.
pub const MAX_RESTARTS: i32 = 6;

/// What was read of one pod's record, the last time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The log could be read.
    Read(LogRecord),
    /// It could not, and why.
    Unreadable(String),
    /// The log of a container that failed, and the cause it names, if we know it.
    Failing(Option<&'static str>),
}

/// Readings by the uid of their pod.
pub type Readings = BTreeMap<String, Reading>;

/// How one pod stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stand {
    Restored,
    Failed(Reason, String),
    /// Not decided. Giving up now would kill a restore in the middle.
    Busy(String),
    /// Not decided, and nothing runs.
    Idle(String),
    /// Its container ended with 0; its record has to be read.
    Unread(String),
}

/// How all pods stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Pods that restored.
    pub finished: Vec<String>,
    /// Pods that did not.
    pub failed: Vec<String>,
    /// The others.
    pub in_progress: Vec<String>,
    /// Pods whose record should be read now.
    pub unread: Vec<String>,
    /// Whether a restore runs, or one that has ended waits to be read.
    pub is_busy: bool,
    /// When something was last seen to move.
    pub moved: Option<Timestamp>,
    /// Why pods failed.
    pub failures: Vec<(Reason, String)>,
    /// What the others are doing.
    pub pending: Vec<String>,
    /// Whether one of them has a problem.
    pub is_troubled: bool,
}

impl Report {
    /// Whether nothing can change the outcome any more that is worth waiting for.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        self.in_progress.is_empty() || (!self.failed.is_empty() && !self.is_busy)
    }
}

/// What to know to judge.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The job's status. What it lists as finished is, whatever becomes of the pod; what it lists as failed
    /// is looked at again, as only the pod says why.
    pub status: &'a MedusaRestoreJobStatus,
    /// The datacenter's pods.
    pub pods: &'a [RestorePod],
    /// What their records said.
    pub readings: &'a Readings,
    /// Deadlines.
    pub timings: &'a Timings,
    /// The time.
    pub now: Timestamp,
}

/// How the pods of the mapping stand.
#[must_use]
pub fn judge(case: Case<'_>) -> Report {
    let empty = BTreeMap::<String, MappedHost>::new();
    let expected = case.status.restore_mapping.as_ref().map_or(&empty, |m| &m.host_map);
    let mut report = Report::default();
    for name in expected.keys() {
        let pod = case.pods.iter().find(|p| p.name == *name);
        report.moved = report.moved.max(pod.and_then(RestorePod::moved));
        let stand = stand(name, pod, case);
        match &stand {
            Stand::Restored => report.finished.push(name.clone()),
            Stand::Failed(reason, why) => {
                report.failed.push(name.clone());
                report.failures.push((*reason, format!("{name}: {why}")));
            }
            Stand::Busy(what) | Stand::Idle(what) | Stand::Unread(what) => {
                report.in_progress.push(name.clone());
                report.pending.push(format!("{name}: {what}"));
            }
        }
        if matches!(stand, Stand::Unread(_)) {
            report.unread.push(name.clone());
        }
        report.is_troubled |= pod.is_some_and(|p| {
            matches!(p.restore, Restore::Failing { .. })
                || matches!(case.readings.get(&p.uid), Some(Reading::Unreadable(_)))
        });
        report.is_busy |= matches!(stand, Stand::Busy(_) | Stand::Unread(_));
    }
    report
}

fn stand(name: &str, pod: Option<&RestorePod>, case: Case<'_>) -> Stand {
    if case.status.finished.iter().any(|n| n == name) {
        return Stand::Restored;
    }
    let Some(pod) = pod else { return Stand::Idle("the pod does not exist yet".to_owned()) };
    if pod.orders != Holds::These {
        return Stand::Idle("the pod was made without this restore's variables".to_owned());
    }
    match &pod.restore {
        Restore::Pending(why) => Stand::Idle(format!("{CONTAINER}: {why}")),
        Restore::Running(_) => Stand::Busy(format!("{CONTAINER} runs")),
        Restore::Failing { restarts, how, .. } => {
            let cause = match case.readings.get(&pod.uid) {
                Some(Reading::Failing(Some(cause))) => format!(", as {cause}"),
                _ => String::new(),
            };
            let what = format!(
                "{CONTAINER} failed {} times, last with {how}{cause}; see kubectl logs {name} -c {CONTAINER}",
                restarts.saturating_add(1),
            );
            if *restarts >= MAX_RESTARTS {
                Stand::Failed(Reason::NodesFailed, what)
            } else {
                Stand::Idle(what)
            }
        }
        Restore::Exited(at) => {
            let ended = at.or(pod.created).unwrap_or(case.now);
            read(case.readings.get(&pod.uid), ended, case)
        }
    }
}

fn read(reading: Option<&Reading>, ended: Timestamp, case: Case<'_>) -> Stand {
    let why = match reading {
        Some(Reading::Read(LogRecord::Restored)) => return Stand::Restored,
        Some(Reading::Read(LogRecord::Skipped(why))) => {
            return Stand::Failed(Reason::RestoreSkipped, format!("nothing was restored: {why}"));
        }
        Some(Reading::Read(LogRecord::RunBefore)) => {
            "the pod was started again after it ran this restore, and its log no longer says how that went"
                .to_owned()
        }
        Some(Reading::Read(LogRecord::Silent)) => format!(
            "the log of {CONTAINER} does not have Medusa's line `Finished restore of backup …`; Medusa \
             writes it at log level INFO or DEBUG"
        ),
        Some(Reading::Unreadable(why)) => why.clone(),
        Some(Reading::Failing(_)) | None => {
            return Stand::Unread("its record has not been read yet".to_owned());
        }
    };
    if since(ended, case.now) >= case.timings.record {
        return Stand::Failed(Reason::RestoreUnconfirmed, why);
    }
    Stand::Unread(why)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn pod(name: &str, restore: Restore) -> RestorePod {
        RestorePod {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            created: Some(at(1)),
            orders: Holds::These,
            ready_since: None,
            restore,
        }
    }

    fn status(pods: &[&str]) -> MedusaRestoreJobStatus {
        let map: BTreeMap<&str, serde_json::Value> =
            pods.iter().map(|p| (*p, json!({"source": [p], "seed": false}))).collect();
        serde_json::from_value(json!({"restoreKey": "k", "restoreMapping": {"host_map": map}})).unwrap()
    }

    fn judged(pods: &[RestorePod], readings: &[(&str, Reading)], second: i64) -> Report {
        let readings: Readings = readings.iter().map(|(n, r)| (format!("uid-{n}"), r.clone())).collect();
        let timings = Timings::default();
        let status = status(&["a", "b"]);
        judge(Case { status: &status, pods, readings: &readings, timings: &timings, now: at(second) })
    }

    const EXITED: Restore = Restore::Exited(None);

    #[test]
    fn an_exit_with_0_alone_confirms_nothing() {
        let report = judged(&[pod("a", EXITED), pod("b", EXITED)], &[], 10);
        assert_eq!(report.unread, ["a", "b"]);
        assert!(report.finished.is_empty() && !report.is_decided());
    }

    #[test]
    fn every_pods_own_record_decides() {
        let good = Reading::Read(LogRecord::Restored);
        let pods = [pod("a", EXITED), pod("b", EXITED)];
        let report = judged(&pods, &[("a", good.clone())], 10);
        assert_eq!((report.finished, report.in_progress), (vec!["a".to_owned()], vec!["b".to_owned()]));
        let report = judged(&pods, &[("a", good.clone()), ("b", good)], 10);
        assert!(report.is_decided() && report.failed.is_empty());
    }

    #[rstest]
    #[case(Reading::Read(LogRecord::Silent))]
    #[case(Reading::Read(LogRecord::RunBefore))]
    #[case(Reading::Unreadable("pods/log is forbidden".to_owned()))]
    fn a_record_that_says_nothing_is_asked_for_again_and_then_given_up(#[case] reading: Reading) {
        let pods = [pod("a", Restore::Exited(Some(at(100)))), pod("b", Restore::Running(None))];
        let early = judged(&pods, &[("a", reading.clone())], 101);
        assert_eq!((early.unread.len(), early.failed.len()), (1, 0));
        let late = judged(&pods, &[("a", reading)], 100 + 600);
        assert_eq!(late.failed, ["a"]);
        assert_eq!(late.failures[0].0, Reason::RestoreUnconfirmed);
    }

    #[test]
    fn a_record_that_was_never_asked_for_is_not_given_up() {
        let late = judged(&[pod("a", Restore::Exited(Some(at(0))))], &[], 100_000);
        assert_eq!((late.unread.len(), late.failed.len()), (1, 0));
    }

    #[test]
    fn a_skipped_restore_is_a_failed_one() {
        let skipped = Reading::Read(LogRecord::Skipped("no backup".to_owned()));
        let report = judged(&[pod("a", EXITED), pod("b", Restore::Running(None))], &[("a", skipped)], 10);
        assert_eq!(report.failures[0].0, Reason::RestoreSkipped);
        assert!(!report.is_decided(), "the other pod is in the middle of its restore");
    }

    #[test]
    fn a_failing_container_is_told_while_it_is_retried_and_then_given_up() {
        let failing = |restarts| {
            let how = "exit code 1 (Error)".to_owned();
            [pod("a", Restore::Failing { restarts, how, at: None }), pod("b", EXITED)]
        };
        let good = ("b", Reading::Read(LogRecord::Restored));
        let early = judged(&failing(1), std::slice::from_ref(&good), 10);
        assert!(early.pending[0].contains("failed 2 times") && !early.is_decided(), "{early:?}");
        let late = judged(&failing(MAX_RESTARTS), &[good], 10);
        assert!(late.is_decided());
        assert_eq!(late.failed, ["a"]);
    }

    #[test]
    fn pods_of_another_time_do_not_count() {
        let mut old = pod("a", EXITED);
        old.orders = Holds::Nothing;
        let report = judged(&[old], &[("a", Reading::Read(LogRecord::Restored))], 10);
        assert_eq!(report.in_progress, ["a", "b"]);
        assert!(report.unread.is_empty() && !report.is_busy);
    }

    #[test]
    fn a_pod_that_is_listed_as_finished_is_whatever_becomes_of_it_and_a_failed_one_is_judged_again() {
        let mut status = status(&["a", "b"]);
        status.finished = vec!["a".to_owned()];
        status.failed = vec!["b".to_owned()];
        let (timings, pods) = (Timings::default(), [pod("b", EXITED)]);
        let skipped = Reading::Read(LogRecord::Skipped("no backup".to_owned()));
        let readings = Readings::from([("uid-b".to_owned(), skipped)]);
        let report =
            judge(Case { status: &status, pods: &pods, readings: &readings, timings: &timings, now: at(1) });
        assert!(report.is_decided());
        assert_eq!((report.finished.len(), report.failures[0].0), (1, Reason::RestoreSkipped));
    }
}
