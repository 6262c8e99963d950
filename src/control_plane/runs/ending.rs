//! What ends datacenters of a run for the run's sake: it was cancelled, too many failed, or nothing goes on; and when
//! each may start and has to end. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    rollout::{is_spent, retry_pause, stagger},
    select::{is_left_out, is_placeholder},
};
use crate::{
    api::{
        Reason,
        fleet::{DatacenterRun, Phase, Rollout, UnreachablePolicy, limit},
    },
    control_plane::data_planes::view::ObjectKey,
};

/// What a run goes by, at one moment.
#[derive(Clone, Debug)]
pub struct Terms {
    pub rollout: Rollout,
    /// Datacenters whose failure ends the run for their own data plane only: they are in it by that one's word.
    pub apart: BTreeSet<(String, ObjectKey)>,
    /// What happens to a datacenter that nobody can reach.
    pub unreachable_policy: UnreachablePolicy,
    /// Whether nothing more may start.
    pub is_cancelled: bool,
    pub begun: Timestamp,
    pub now: Timestamp,
}

/// Puts an entry into a phase for a reason.
pub fn set(entry: &mut DatacenterRun, phase: Phase, reason: Reason, message: Option<String>) {
    entry.phase = phase;
    entry.reason = Some(reason.as_str().to_owned());
    entry.message = message;
}

/// Notes when an entry was decided, and removes what only an entry at work needs.
pub fn finish(entry: &mut DatacenterRun, now: Timestamp) {
    entry.finish_time.get_or_insert(Time(now));
    entry.created_time = None;
}

/// An entry a cancelled run does not go on with.
pub fn cancelled(entry: &mut DatacenterRun, why: &str) {
    set(entry, Phase::Cancelled, Reason::Cancelled, Some(why.to_owned()));
}

/// Whether the run's cancelling ended an entry: also one that failed before, and whose next attempt it kept from starting.
#[must_use]
pub fn is_cancelled(entry: &DatacenterRun) -> bool {
    entry.phase == Phase::Cancelled || entry.has_reason(Reason::Cancelled)
}

/// Ends what the run does not go on with. `progress` is when something last went on. An entry whose child is being
/// made in this moment (`is_starting`) is decided when that is known.
pub fn end<E: AsRef<DatacenterRun> + AsMut<DatacenterRun>>(
    terms: &Terms,
    entries: &mut [E],
    progress: Timestamp,
    is_starting: impl Fn(&DatacenterRun) -> bool,
) {
    let each = |entries: &mut [E], change: &dyn Fn(&mut DatacenterRun)| {
        let open = |entry: &&mut DatacenterRun| !entry.phase.is_final() && !is_starting(entry);
        for entry in entries.iter_mut().map(AsMut::as_mut).filter(open) {
            change(entry);
            if entry.phase.is_final() {
                finish(entry, terms.now);
            }
        }
    };
    if terms.is_cancelled {
        each(entries, &cancel);
        return;
    }
    let failures = Failures::of(terms, entries);
    each(entries, &|entry| {
        let failed = failures.that_count_for(&entry.data_plane);
        if is_spent(&terms.rollout, failed) {
            let why = format!("{failed} datacenters failed, as many as `spec.rollout.maxFailures` allows");
            spend(entry, &why);
        }
    });
    if let Some(end) = gives_up_at(terms, entries, progress).filter(|end| terms.now >= *end) {
        let why = format!(
            "no datacenter went on until {end:.0}, longer than `spec.rollout.progressDeadlineSeconds` allows"
        );
        each(entries, &|entry| give_up(entry, &why));
    }
}

/// How many datacenters failed.
#[derive(Default)]
struct Failures {
    /// Those that count for all.
    shared: usize,
    /// Those that count for their own data plane, by its name.
    apart: BTreeMap<String, usize>,
}

impl Failures {
    fn of<E: AsRef<DatacenterRun>>(terms: &Terms, entries: &[E]) -> Self {
        let mut failures = Self::default();
        for entry in entries.iter().map(AsRef::as_ref).filter(|e| e.phase == Phase::Failed) {
            let place = ObjectKey::new(&entry.namespace, &entry.datacenter);
            if is_left_out(entry) || terms.apart.contains(&(entry.data_plane.clone(), place)) {
                *failures.apart.entry(entry.data_plane.clone()).or_default() += 1;
            } else {
                failures.shared += 1;
            }
        }
        failures
    }

    fn that_count_for(&self, data_plane: &str) -> usize {
        self.shared + self.apart.get(data_plane).copied().unwrap_or_default()
    }
}

/// What has not started does not start. What runs ends by itself and is waited for, unless nobody answers.
fn cancel(entry: &mut DatacenterRun) {
    let is_silent =
        entry.has_reason(Reason::DataPlaneUnreachable) || entry.has_reason(Reason::DataPlaneNotReady);
    match entry.phase {
        Phase::Pending if entry.attempts() > 0 => {
            let message = entry.message.take().unwrap_or_default();
            set(entry, Phase::Failed, Reason::Cancelled, Some(format!("cancelled; {message}")));
        }
        Phase::Pending => cancelled(entry, "cancelled before it started"),
        Phase::Running if is_silent => {
            cancelled(entry, "cancelled while its data plane does not answer; what was begun there goes on");
        }
        Phase::Running if entry.start_time.is_some() && is_stalled(entry) => {
            cancelled(
                entry,
                "cancelled although its data plane says of no end; what was begun there may go on",
            );
        }
        Phase::Running
        | Phase::Succeeded
        | Phase::PartiallyFailed
        | Phase::Failed
        | Phase::Skipped
        | Phase::Cancelled => {}
    }
}

/// How long nobody may have begun with a child before that is said.
const BEGUN_WITHIN: SignedDuration = SignedDuration::from_mins(10);
/// How long a child may be at work before somebody should ask whether anybody still is: as long as backups wait for a
/// purge.
pub const ENDS_WITHIN: SignedDuration = SignedDuration::from_hours(24);

/// Since when what was made for an entry stands still, if it does: by our own clock, as its data plane may say anything.
fn stands_since(entry: &DatacenterRun, now: Timestamp) -> Option<Timestamp> {
    let made = entry.created_time.as_ref().filter(|_| entry.phase == Phase::Running)?.0;
    let limit = if entry.start_time.is_some() { ENDS_WITHIN } else { BEGUN_WITHIN };
    (now.duration_since(made) >= limit).then_some(made)
}

/// Says of an entry at work that it stands still, and what a person can do. `child` is the object that is at work for it.
pub fn stall(terms: &Terms, entry: &mut DatacenterRun, child: &str) {
    let Some(made) = stands_since(entry, terms.now) else { return };
    let what = if entry.start_time.is_some() {
        format!(
            "{child} of {made:.0} has no end; if nobody is at work on it any more, `spec.cancel` ends this datacenter's \
             part, and deleting it there frees the cluster"
        )
    } else {
        format!(
            "nobody has begun with {child} since {made:.0}: is `medusa-fleet data-plane` or k8ssandra-operator at work in \
             data plane `{}`? `spec.cancel` takes it back",
            entry.data_plane
        )
    };
    let message = entry.message.take().map_or_else(|| what.clone(), |said| format!("{said}; {what}"));
    set(entry, Phase::Running, Reason::Stalled, Some(message));
}

/// Whether an entry stands still.
fn is_stalled(entry: &DatacenterRun) -> bool {
    entry.phase == Phase::Running && entry.has_reason(Reason::Stalled)
}

/// Why a run is not over, for machines, and what its message adds for people about the first entry that stands still.
#[must_use]
pub fn going<'a>(entries: impl Iterator<Item = &'a DatacenterRun> + Clone) -> (Reason, String) {
    let is_silent = |e: &DatacenterRun| !e.phase.is_final() && e.has_reason(Reason::DataPlaneUnreachable);
    let stalled = entries.clone().find(|entry| is_stalled(entry));
    let reason = match stalled {
        _ if entries.clone().any(is_silent) => Reason::DataPlaneUnreachable,
        Some(_) => Reason::Stalled,
        None => Reason::Running,
    };
    let said = stalled.and_then(|e| Some(format!("; {}: {}", e.place(), e.message.as_ref()?)));
    (reason, said.unwrap_or_default())
}

fn spend(entry: &mut DatacenterRun, why: &str) {
    match (entry.phase, entry.attempts()) {
        (Phase::Pending, 0) => {
            set(entry, Phase::Skipped, Reason::FailureBudgetSpent, Some(why.to_owned()));
        }
        (Phase::Pending, _) => {
            let message = format!("{}; {why}", entry.message.take().unwrap_or_default());
            set(entry, Phase::Failed, Reason::FailureBudgetSpent, Some(message));
        }
        _ => {}
    }
}

fn give_up(entry: &mut DatacenterRun, why: &str) {
    let before = entry.message.take().map(|message| format!(": {message}")).unwrap_or_default();
    let rest = if entry.phase == Phase::Running { "; it may still be going on" } else { "" };
    let message = format!("{why}{rest}{before}");
    set(entry, Phase::Failed, Reason::ProgressDeadlineExceeded, Some(message));
}

/// The moment before which the next attempt at an entry does not start: the end of its pause, or its place in the stagger
/// window.
#[must_use]
pub fn not_before(terms: &Terms, entry: &DatacenterRun) -> Timestamp {
    let (from, pause) = if let (attempts @ 1.., Some(end)) = (entry.attempts(), &entry.finish_time) {
        (end.0, retry_pause(attempts))
    } else {
        let place = stagger(&terms.rollout, &entry.data_plane, &entry.namespace, &entry.datacenter);
        (terms.begun, place)
    };
    from.saturating_add(pause).unwrap_or(Timestamp::MAX)
}

fn seconds(field: Option<i32>) -> Option<SignedDuration> {
    i64::try_from(limit(field)?).ok().map(SignedDuration::from_secs)
}

/// When the run is given up unless something goes on. Waiting for a place in the stagger window or for the next
/// attempt is no standstill.
#[must_use]
pub fn gives_up_at<E: AsRef<DatacenterRun>>(
    terms: &Terms,
    entries: &[E],
    progress: Timestamp,
) -> Option<Timestamp> {
    let deadline = seconds(terms.rollout.progress_deadline_seconds)?;
    let waiting =
        entries.iter().map(AsRef::as_ref).filter(|e| e.phase == Phase::Pending && !is_placeholder(e));
    let expected = waiting.map(|entry| not_before(terms, entry));
    expected.fold(progress, Timestamp::max).checked_add(deadline).ok()
}

/// Whether any datacenter made progress between two passes.
#[must_use]
pub fn went_on<E: AsRef<DatacenterRun>>(before: &[E], after: &[E]) -> bool {
    let mark = |e: &DatacenterRun| {
        let ended = e.nodes.map(|nodes| (nodes.finished, nodes.failed));
        (e.phase.is_final(), e.attempts(), e.start_time.is_some(), ended)
    };
    before.len() != after.len() || before.iter().zip(after).any(|(b, a)| mark(b.as_ref()) != mark(a.as_ref()))
}

/// When the attempt under way is given up.
#[must_use]
pub fn times_out_at(terms: &Terms, entry: &DatacenterRun) -> Option<Timestamp> {
    let since = entry.created_time.as_ref().filter(|_| entry.phase == Phase::Running)?.0;
    since.checked_add(seconds(terms.rollout.datacenter_timeout_seconds)?).ok()
}

/// Gives up an attempt that takes longer than allowed. It may still be going on: Medusa cannot stop it, so no other
/// attempt is made beside it.
pub fn time_out(terms: &Terms, entry: &mut DatacenterRun) {
    if times_out_at(terms, entry).is_none_or(|end| terms.now < end) {
        return;
    }
    let limit = terms.rollout.datacenter_timeout_seconds.unwrap_or_default();
    let message = format!(
        "not over within {limit} s (`spec.rollout.datacenterTimeoutSeconds`); it may still be going on"
    );
    set(entry, Phase::Failed, Reason::DeadlineExceeded, Some(message));
}

/// The next moment at which a deadline passes.
#[must_use]
pub fn next_deadline<E: AsRef<DatacenterRun>>(
    terms: &Terms,
    entries: &[E],
    progress: Timestamp,
) -> Option<Timestamp> {
    let timeouts = entries.iter().filter_map(|entry| times_out_at(terms, entry.as_ref()));
    timeouts.chain(gives_up_at(terms, entries, progress)).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_still_says_so_and_can_be_called_off() {
        let at = |hours: i64| Timestamp::from_second(hours * 3_600).unwrap();
        let looked = |start: Option<i64>, hours: i64, is_cancelled: bool| {
            let terms = Terms {
                rollout: Rollout::default(),
                apart: BTreeSet::new(),
                unreachable_policy: UnreachablePolicy::Wait,
                is_cancelled,
                begun: at(0),
                now: at(hours),
            };
            let mut entries = [DatacenterRun {
                data_plane: "eu".to_owned(),
                job: Some("weekly-dc1".to_owned()),
                phase: Phase::Running,
                reason: Some("JobCreated".to_owned()),
                created_time: Some(Time(at(0))),
                start_time: start.map(|hours| Time(at(hours))),
                ..DatacenterRun::default()
            }];
            stall(&terms, &mut entries[0], "MedusaTask ns/weekly-dc1");
            end(&terms, &mut entries, at(0), |_| false);
            let [entry] = entries;
            (entry.phase, entry.reason.unwrap(), entry.message.unwrap_or_default())
        };
        let (phase, reason, message) = looked(None, 1, false);
        assert_eq!((phase, reason.as_str()), (Phase::Running, "Stalled"));
        assert!(message.contains("weekly-dc1") && message.contains("`spec.cancel`"), "{message}");
        assert_eq!(looked(Some(0), 23, false).1, "JobCreated");
        assert_eq!(looked(Some(0), 24, false).1, "Stalled");
        assert_eq!(looked(Some(9_999), 24, false).1, "Stalled", "whatever its data plane says when it began");
        assert_eq!(looked(Some(0), 24, true).0, Phase::Cancelled);
        assert_eq!(looked(Some(0), 23, true).0, Phase::Running, "it is at work, and ends by itself");
        assert_eq!(looked(None, 24, true).0, Phase::Running, "it is taken back first");
    }

    #[test]
    fn a_failure_that_is_a_data_planes_word_ends_the_run_for_that_one_alone() {
        let entry = |plane: &str, datacenter: &str, phase: Phase| DatacenterRun {
            data_plane: plane.to_owned(),
            namespace: "ns".to_owned(),
            datacenter: datacenter.to_owned(),
            phase,
            ..DatacenterRun::default()
        };
        let phases_of = |apart: &[&str], reason: Option<Reason>| {
            let places = apart.iter().map(|name| ("us".to_owned(), ObjectKey::new("ns", *name)));
            let terms = Terms {
                rollout: Rollout { max_failures: Some(1), ..Rollout::default() },
                apart: places.collect(),
                unreachable_policy: UnreachablePolicy::Wait,
                is_cancelled: false,
                begun: Timestamp::UNIX_EPOCH,
                now: Timestamp::UNIX_EPOCH,
            };
            let mut entries = [
                entry("us", "x", Phase::Failed),
                entry("us", "y", Phase::Pending),
                entry("eu", "dc1", Phase::Pending),
            ];
            entries[0].reason = reason.map(|reason| reason.as_str().to_owned());
            end(&terms, &mut entries, Timestamp::UNIX_EPOCH, |_| false);
            entries.map(|e| e.phase)
        };
        let phases = |apart: &[&str]| phases_of(apart, None);
        assert_eq!(phases(&["x"]), [Phase::Failed, Phase::Skipped, Phase::Pending]);
        assert_eq!(phases(&["y"]), [Phase::Failed, Phase::Skipped, Phase::Skipped]);
        for left_out in [Reason::DatacenterUnreadable, Reason::TooManyDatacenters] {
            let phases = phases_of(&[], Some(left_out));
            assert_eq!(phases, [Phase::Failed, Phase::Skipped, Phase::Pending], "{left_out}");
        }
    }
}
