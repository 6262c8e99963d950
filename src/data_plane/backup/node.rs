//! One node of one backup run: what it answered so far, and what to do next.
//!
//! Pure: everything, the time included, comes in as an argument.
//!
//! # Why a node is not simply asked to start again
//!
//! Medusa (0.29 to 0.31) keeps running backups in its memory and finished ones in the storage. Asked to
//! start a name
//! * it never heard of: it backs the node up;
//! * whose backup is running: it forgets the running one, which goes on, and starts a second beside it.
//!   Both use one snapshot; whichever ends first takes it from the other, and the node says FAILED although
//!   the storage may hold a complete backup;
//! * whose backup is in the storage: it says FAILED from then on, though the backup is untouched;
//! * whose earlier run died before it wrote anything: it backs the node up, as if never asked.
//!
//! NOT_FOUND cannot tell the first, the last, and a running backup that has not written yet apart: Medusa
//! writes only once Cassandra has answered it, which it tries for up to eight minutes.
//!
//! So a node is asked to start only while it says NOT_FOUND, and each run asks it once. Where it may have
//! been asked before, because the run was taken over after a restart or because the answer was lost, it must
//! go on saying NOT_FOUND for a settling time first: short when its pod has been ready long enough that
//! Cassandra cannot be what Medusa waits for, else longer than Medusa's own attempts take. A Medusa that
//! was restarted since has forgotten what it was asked, so it is asked at once. Should a second request
//! have slipped through all the same, a node that says FAILED about a backup it calls finished counts as
//! finished; Medusa's summary of the whole backup has the last word then.

use jiff::Timestamp;

use crate::{
    api::Reason,
    data_plane::{
        frame::{
            retry::{FailureKind, Retry},
            timings::{Timings, after, since},
        },
        medusa::{
            calls::{Need, PodState},
            client::Answer,
            pods::{Instance, PodView},
        },
    },
};

/// Whether this node was asked to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// No: this run claimed the job itself and has not asked yet.
    Never,
    /// Not known; the Medusa that may have been asked.
    Perhaps(Instance),
    /// Yes, then, and that Medusa.
    At(Timestamp, Instance),
}

/// How a node ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its part of the backup is in the storage.
    Finished,
    /// It is not, and will not be.
    Failed(Reason, String),
}

/// What a node can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// How its backup goes: BackupStatus.
    Status,
    /// To start: AsyncBackup.
    Start,
}

/// What the run remembers of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The pod's name.
    pub pod: String,
    /// How it ended, once it has.
    pub verdict: Option<Verdict>,
    sent: Sent,
    /// A second request may have reached it.
    twice: bool,
    /// NOT_FOUND without interruption since.
    missing_since: Option<Timestamp>,
    /// NOT_FOUND as the last answer that can be used since, whatever came in between.
    unknown_since: Option<Timestamp>,
    /// Nothing that can be used since.
    silent_since: Option<Timestamp>,
    /// FAILED without interruption since.
    failed_since: Option<Timestamp>,
    /// Refused to start since.
    refused_since: Option<Timestamp>,
    /// Not listed since.
    absent_since: Option<Timestamp>,
    /// How often it refused to start, for the pause before the next attempt.
    refusals: u32,
    /// Out of reach at some time after it was asked to start.
    lost: bool,
    /// Answers of one sort in a row, for the pause before the next question.
    row: u32,
    sort: Option<Sort>,
    /// The last answer was NOT_FOUND, and the node may be asked to start.
    cleared: bool,
    next: Timestamp,
    trouble: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Clear,
    Troubled,
    Hung,
}

impl Node {
    /// A node of a run this process claimed: it was certainly not asked yet.
    #[must_use]
    pub fn claimed(pod: &str, now: Timestamp) -> Self {
        Self::new(pod, Sent::Never, now)
    }

    /// A node of a run found under way: it may have been asked.
    #[must_use]
    pub fn resumed(pod: &str, view: Option<&PodView>, now: Timestamp) -> Self {
        Self::new(pod, Sent::Perhaps(instance(view)), now)
    }

    /// A node that was decided before.
    #[must_use]
    pub fn decided(pod: &str, verdict: Verdict, now: Timestamp) -> Self {
        Self { verdict: Some(verdict), ..Self::new(pod, Sent::Perhaps(Instance::default()), now) }
    }

    fn new(pod: &str, sent: Sent, now: Timestamp) -> Self {
        Self {
            pod: pod.to_owned(),
            verdict: None,
            sent,
            twice: false,
            missing_since: None,
            unknown_since: None,
            silent_since: None,
            failed_since: None,
            refused_since: None,
            absent_since: None,
            refusals: 0,
            lost: false,
            row: 0,
            sort: None,
            cleared: false,
            next: now,
            trouble: String::new(),
        }
    }

    /// The module documentation's rule. `asked` is when the question was put that was answered NOT_FOUND: an
    /// answer may lie about for a while before it is heard, and speaks only for the time before it.
    fn may_send(&self, view: Option<&PodView>, timings: &Timings, asked: Timestamp) -> bool {
        let Some(missing) = self.missing_since else { return false };
        match &self.sent {
            Sent::Never => true,
            Sent::At(_, before) => before.is_followed_by(&instance(view)),
            Sent::Perhaps(before) => {
                let settled = since(missing, asked);
                let steady =
                    view.and_then(|v| v.ready_since).is_some_and(|t| since(t, asked) >= timings.steady);
                before.is_followed_by(&instance(view))
                    || settled >= timings.settle
                    || (steady && settled >= timings.settle_ready)
            }
        }
    }

    /// Whether an answer about a backup can only be about somebody else's: we have not asked for it, and
    /// nobody who takes our run over would have had the time to.
    fn is_foreign(&self, started: Timestamp, timings: &Timings, now: Timestamp) -> bool {
        self.sent == Sent::Never && since(started, now) < timings.settle_ready
    }

    fn name_taken(&mut self) {
        let why = "the storage already holds a backup of this name for it; a name can be used only once";
        self.verdict = Some(failed(Reason::NameConflict, why.to_owned()));
    }

    /// What FAILED means, once that is known.
    fn failure(&self, complete: bool, confirmed: bool, view: Option<&PodView>) -> Option<Verdict> {
        if complete && (self.twice || matches!(self.sent, Sent::Perhaps(_))) {
            return Some(Verdict::Finished);
        }
        let restarted = match &self.sent {
            Sent::At(_, before) | Sent::Perhaps(before) => before.is_followed_by(&instance(view)),
            Sent::Never => false,
        };
        if restarted {
            let why = "its Medusa restarted during the backup, which cannot be resumed under the same name";
            Some(failed(Reason::MedusaRestarted, why.to_owned()))
        } else if self.lost {
            let why = "its Medusa was out of reach during the backup and has lost it, most likely by a \
                       restart; the backup cannot be resumed under the same name";
            Some(failed(Reason::MedusaRestarted, why.to_owned()))
        } else {
            let why = "its Medusa reports that the backup failed; see its log";
            confirmed.then(|| failed(Reason::NodesFailed, why.to_owned()))
        }
    }

    /// A usable answer ends all trouble.
    fn clear(&mut self) {
        self.silent_since = None;
        self.unknown_since = None;
        self.refused_since = None;
        self.refusals = 0;
        self.trouble.clear();
    }

    fn silent(&mut self, why: String, sort: Sort, timings: &Timings, now: Timestamp) {
        self.silent_since.get_or_insert(now);
        self.lost |= sort == Sort::Troubled && !matches!(self.sent, Sent::Never);
        self.trouble = why;
        self.pause(sort, timings, now);
    }

    fn pause(&mut self, sort: Sort, timings: &Timings, now: Timestamp) {
        self.row = if self.sort == Some(sort) { self.row.saturating_add(1) } else { 0 };
        self.sort = Some(sort);
        let kind = match sort {
            Sort::Clear | Sort::Troubled => FailureKind::NotDone,
            Sort::Hung => FailureKind::Hung,
        };
        self.next = after(now, Retry::of(kind, timings).pause(self.row));
    }
}

impl PodState for Node {
    type Question = Question;
    type Answer = Answer;

    /// Decides what only time can decide.
    fn on_time(&mut self, view: Option<&PodView>, started: Timestamp, timings: &Timings, now: Timestamp) {
        if self.verdict.is_some() {
            return;
        }
        if view.is_some() {
            self.absent_since = None;
        } else {
            self.absent_since.get_or_insert(now);
        }
        if view.is_some_and(|v| v.address.is_none()) && self.silent_since.is_none() {
            self.silent_since = Some(now);
            "the pod has no address".clone_into(&mut self.trouble);
        }
        let over = |from: Option<Timestamp>, budget| from.is_some_and(|t| since(t, now) >= budget);
        let asked = matches!(self.sent, Sent::At(..)) && self.silent_since.is_none();
        self.verdict = if over(Some(started), timings.run) {
            Some(failed(Reason::DeadlineExceeded, format!("not finished after {:?}", timings.run)))
        } else if over(self.absent_since, timings.absence) {
            Some(failed(Reason::PodGone, "the pod went away and did not come back".to_owned()))
        } else if asked && over(self.unknown_since, timings.start) {
            let why = "asked to start, it goes on saying that it has no such backup: Cassandra does not \
                       answer it, or the storage refuses its credentials or has no such bucket";
            Some(failed(Reason::BackupNotStarted, why.to_owned()))
        } else if over(self.refused_since, timings.start) {
            Some(failed(Reason::BackupNotStarted, format!("it could not be started: {}", self.trouble)))
        } else if over(self.silent_since, timings.silence) {
            Some(failed(
                Reason::NodeUnreachable,
                format!("no answer for {:?}: {}", timings.silence, self.trouble),
            ))
        } else {
            None
        };
    }

    fn need(&self, view: Option<&PodView>, timings: &Timings, now: Timestamp) -> Need<Question> {
        if self.verdict.is_some() {
            Need::Nothing
        } else if now < self.next {
            Need::Wait(self.next)
        } else if view.is_none_or(|v| v.address.is_none()) {
            Need::Wait(after(now, timings.pass))
        } else {
            Need::Call(if self.cleared { Question::Start } else { Question::Status })
        }
    }

    fn on_answer(
        &mut self,
        answer: Answer,
        asked: Timestamp,
        view: Option<&PodView>,
        started: Timestamp,
        timings: &Timings,
        now: Timestamp,
    ) {
        let (missing_since, failed_since) = (self.missing_since.take(), self.failed_since.take());
        self.cleared = false;
        match answer {
            Answer::Running => {
                if self.is_foreign(started, timings, now) {
                    return self.name_taken();
                }
                if self.sent == Sent::Never {
                    self.sent = Sent::Perhaps(instance(view));
                }
                self.clear();
                self.pause(Sort::Clear, timings, now);
            }
            Answer::Done => {
                if self.is_foreign(started, timings, now) {
                    return self.name_taken();
                }
                self.verdict = Some(Verdict::Finished);
            }
            Answer::Failed { complete } => {
                if self.is_foreign(started, timings, now) {
                    return self.name_taken();
                }
                let failed_since = failed_since.unwrap_or(now);
                self.failed_since = Some(failed_since);
                let confirmed = since(failed_since, now) >= timings.confirm;
                self.verdict = self.failure(complete, confirmed, view);
                self.pause(Sort::Clear, timings, now);
            }
            Answer::Missing => {
                self.silent_since = None;
                self.unknown_since.get_or_insert(now);
                self.missing_since = missing_since.or(Some(now));
                self.pause(Sort::Clear, timings, now);
                if self.may_send(view, timings, asked) {
                    self.cleared = true;
                    self.next = now;
                }
            }
            Answer::Unreachable(why) | Answer::Error(why) => self.silent(why, Sort::Troubled, timings, now),
            Answer::TimedOut => self.silent("no answer in time".to_owned(), Sort::Hung, timings, now),
            Answer::Accepted => {
                self.twice |= matches!(self.sent, Sent::Perhaps(_));
                self.sent = Sent::At(now, instance(view));
                self.clear();
                self.sort = None;
                self.pause(Sort::Clear, timings, now);
            }
            Answer::NotSent(why) => {
                self.refused_since.get_or_insert(now);
                self.silent(why, Sort::Troubled, timings, now);
                // The question in between is answered well each time, so the row says nothing here.
                self.next = after(now, Retry::of(FailureKind::NotStarted, timings).pause(self.refusals));
                self.refusals = self.refusals.saturating_add(1);
            }
            Answer::PerhapsSent(why) => {
                self.twice |= matches!(self.sent, Sent::Perhaps(_));
                self.sent = Sent::Perhaps(instance(view));
                self.silent(why, Sort::Hung, timings, now);
            }
        }
    }

    fn is_decided(&self) -> bool {
        self.verdict.is_some()
    }

    /// Whether its pod may tell more than the node itself does: when it does not answer, and when it says
    /// NOT_FOUND though it was asked to start, as a restart looks where the connection came back unnoticed.
    fn is_in_doubt(&self) -> bool {
        self.verdict.is_none()
            && (self.silent_since.is_some()
                || self.absent_since.is_some()
                || (self.missing_since.is_some() && self.sent != Sent::Never))
    }

    /// Whether a node failed or was restarted stands in its pod.
    fn is_surprising(answer: &Answer) -> bool {
        matches!(answer, Answer::Failed { .. })
    }
}

fn failed(reason: Reason, why: String) -> Verdict {
    Verdict::Failed(reason, why)
}

/// The Medusa that is in the pod now.
fn instance(view: Option<&PodView>) -> Instance {
    view.map(|v| v.instance.clone()).unwrap_or_default()
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;
