//! One pod's state in a task: it is asked one thing, again and again, until it has answered, or has had its
//! chances.
//!
//! Pure. Everything a task asks may be asked twice: a listing changes nothing, a purge finds less to purge,
//! and preparing a restore writes the same file. But what was asked may still be under way when nobody waits
//! for it any more (Medusa carries on, and a storage that is out of reach holds a call for minutes), so
//! after a silence a pod is left alone for a while.

use std::fmt::Debug;

use jiff::Timestamp;

use crate::{
    api::Reason,
    data_plane::{
        frame::{
            retry::{self, Retry},
            timings::{Timings, after, since},
        },
        medusa::{
            calls::{Need, PodState},
            client::CallError,
            pods::PodView,
        },
    },
};

/// How Medusa says that there is no backup of a name.
const NO_SUCH_BACKUP: &str = "does not exist";

/// Why a pod has not done as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No connection, or no answer in time. What was asked for may still be carried out.
    Silent(String),
    /// Medusa answered that it cannot.
    Refused(String),
    /// Medusa answered that it cannot, and asking again will not help.
    Final(Reason, String),
}

impl From<CallError> for Trouble {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Silent(why) => Self::Silent(why),
            CallError::Refused(why) => Self::Refused(why),
        }
    }
}

/// Why a question about one backup was not answered. That there is no such backup is an answer.
#[must_use]
pub fn about_backup(error: CallError) -> Trouble {
    match error {
        CallError::Refused(why) if why.contains(NO_SUCH_BACKUP) => {
            Trouble::Final(Reason::BackupNotFound, why)
        }
        other @ (CallError::Refused(_) | CallError::Silent(_)) => other.into(),
    }
}

/// One pod of a task whose answer is a `T`.
#[derive(Clone, Debug)]
pub struct Pod<T> {
    /// How it ended, once it has: what it answered, or why it is not asked again.
    pub verdict: Option<Result<T, (Reason, String)>>,
    next: Timestamp,
    failures: u32,
    troubled_since: Option<Timestamp>,
    trouble: String,
    gone_since: Option<Timestamp>,
    nowhere_since: Option<Timestamp>,
}

impl<T> Pod<T> {
    /// A pod that is asked at `next` for the first time.
    #[must_use]
    pub fn new(next: Timestamp) -> Self {
        Self {
            verdict: None,
            next,
            failures: 0,
            troubled_since: None,
            trouble: String::new(),
            gone_since: None,
            nowhere_since: None,
        }
    }

    /// A pod that was decided before.
    #[must_use]
    pub fn decided(verdict: Result<T, (Reason, String)>, now: Timestamp) -> Self {
        Self { verdict: Some(verdict), ..Self::new(now) }
    }

    /// When it is asked next, unless it is decided or has been asked before.
    #[must_use]
    pub fn waits_until(&self) -> Option<Timestamp> {
        (self.verdict.is_none() && self.failures == 0).then_some(self.next)
    }

    /// It need not wait any longer.
    pub fn hurry(&mut self, now: Timestamp) {
        self.next = self.next.min(now);
    }

    /// Its failure, if it failed.
    #[must_use]
    pub fn failure(&self) -> Option<(Reason, &str)> {
        let (reason, why) = self.verdict.as_ref()?.as_ref().err()?;
        Some((*reason, why))
    }

    /// Its result, if it has one.
    #[must_use]
    pub fn result(&self) -> Option<&T> {
        self.verdict.as_ref()?.as_ref().ok()
    }

    fn fail(&mut self, reason: Reason, why: String) {
        self.verdict = Some(Err((reason, why)));
    }
}

impl<T: Debug + Send + 'static> PodState for Pod<T> {
    type Question = ();
    type Answer = Result<T, Trouble>;

    fn on_time(&mut self, pod: Option<&PodView>, started: Timestamp, timings: &Timings, now: Timestamp) {
        if self.verdict.is_some() {
            return;
        }
        let Some(pod) = pod else {
            let gone = *self.gone_since.get_or_insert(now);
            if since(gone, now) >= timings.absence {
                self.fail(Reason::PodGone, format!("the pod has been gone for {:?}", timings.absence));
            }
            return;
        };
        self.gone_since = None;
        if pod.address.is_some() {
            self.nowhere_since = None;
        } else if since(*self.nowhere_since.get_or_insert(now), now) >= timings.silence {
            self.fail(
                Reason::NodeUnreachable,
                format!("the pod has had no address for {:?}", timings.silence),
            );
        }
        if self.verdict.is_none() && since(started, now) >= timings.run {
            let why = if self.trouble.is_empty() { "it has not answered" } else { &self.trouble };
            self.fail(Reason::DeadlineExceeded, format!("not done after {:?}: {why}", timings.run));
        }
    }

    fn need(&self, pod: Option<&PodView>, timings: &Timings, now: Timestamp) -> Need<()> {
        if self.verdict.is_some() {
            Need::Nothing
        } else if now < self.next {
            Need::Wait(self.next)
        } else if pod.is_none_or(|pod| pod.address.is_none()) {
            Need::Wait(after(now, timings.pass))
        } else {
            Need::Call(())
        }
    }

    fn on_answer(
        &mut self,
        answer: Self::Answer,
        _asked: Timestamp,
        _pod: Option<&PodView>,
        _started: Timestamp,
        timings: &Timings,
        now: Timestamp,
    ) {
        if self.verdict.is_some() {
            return;
        }
        let (reason, why, kind) = match answer {
            Ok(result) => {
                self.verdict = Some(Ok(result));
                return;
            }
            Err(Trouble::Final(reason, why)) => return self.fail(reason, why),
            Err(Trouble::Refused(why)) => (Reason::CallRefused, why, retry::FailureKind::Refused),
            Err(Trouble::Silent(why)) => (Reason::NodeUnreachable, why, retry::FailureKind::Hung),
        };
        let retry = Retry::of(kind, timings);
        self.next = after(now, retry.pause(self.failures));
        self.failures = self.failures.saturating_add(1);
        self.trouble.clone_from(&why);
        if since(*self.troubled_since.get_or_insert(now), now) >= retry.budget {
            self.fail(reason, why);
        }
    }

    fn is_decided(&self) -> bool {
        self.verdict.is_some()
    }

    fn is_in_doubt(&self) -> bool {
        let doubts = [self.troubled_since, self.gone_since, self.nowhere_since];
        self.verdict.is_none() && doubts.iter().any(Option::is_some)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::data_plane::medusa::pods::Instance;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn view(address: Option<&str>) -> PodView {
        PodView {
            name: "p".to_owned(),
            address: address.map(|a| a.parse().unwrap()),
            has_medusa: true,
            ready_since: None,
            instance: Instance::default(),
        }
    }

    fn there() -> PodView {
        view(Some("10.0.0.1:50051"))
    }

    fn silent() -> Result<u8, Trouble> {
        Err(Trouble::Silent("no answer".to_owned()))
    }

    fn refused(why: &str) -> Result<u8, Trouble> {
        Err(Trouble::Refused(why.to_owned()))
    }

    /// A pod that answers `answers` at those seconds.
    fn after_answers(answers: &[(i64, Result<u8, Trouble>)]) -> Pod<u8> {
        let mut pod = Pod::new(at(0));
        for (second, answer) in answers {
            pod.on_answer(answer.clone(), at(0), Some(&there()), at(0), &Timings::default(), at(*second));
        }
        pod
    }

    #[test]
    fn it_is_asked_when_its_time_has_come_and_it_can_be_reached() {
        let timings = Timings::default();
        let mut pod = Pod::<u8>::new(at(60));
        assert_eq!(pod.need(Some(&there()), &timings, at(0)), Need::Wait(at(60)));
        assert_eq!(pod.need(Some(&there()), &timings, at(60)), Need::Call(()));
        assert!(matches!(pod.need(Some(&view(None)), &timings, at(60)), Need::Wait(_)));
        assert!(matches!(pod.need(None, &timings, at(60)), Need::Wait(_)));
        pod.hurry(at(5));
        assert_eq!(pod.need(Some(&there()), &timings, at(5)), Need::Call(()));
        pod.on_answer(Ok(3), at(5), Some(&there()), at(0), &timings, at(6));
        assert_eq!(pod.result(), Some(&3));
        assert_eq!(pod.need(Some(&there()), &timings, at(6)), Need::Nothing);
    }

    #[test]
    fn after_a_silence_it_is_left_alone_longer_and_longer() {
        let mut pod = after_answers(&[]);
        let timings = Timings::default();
        let pauses: Vec<i64> = (0..4)
            .map(|_| {
                pod.on_answer(silent(), at(0), Some(&there()), at(0), &timings, at(0));
                pod.next.as_second()
            })
            .collect();
        assert_eq!(pauses, [30, 60, 120, 180]);
        assert!(pod.is_in_doubt() && pod.waits_until().is_none());
    }

    #[rstest]
    #[case::once(&[(0, silent())], None)]
    #[case::in_time(&[(0, silent()), (1799, silent())], None)]
    #[case::for_too_long(&[(0, silent()), (1800, silent())], Some(Reason::NodeUnreachable))]
    #[case::refused_once(&[(0, refused("no"))], None)]
    #[case::refused_for_too_long(&[(0, refused("no")), (300, refused("no"))], Some(Reason::CallRefused))]
    #[case::no_such_backup(
        &[(0, Err(about_backup(CallError::Refused("'The backup b does not exist'".to_owned()))))],
        Some(Reason::BackupNotFound)
    )]
    #[case::cannot_look(&[(0, Err(about_backup(CallError::Refused("no key".to_owned()))))], None)]
    #[case::late(&[(0, silent()), (1000, Ok(1))], None)]
    fn failures_are_believed_when_their_budget_is_spent(
        #[case] answers: &[(i64, Result<u8, Trouble>)],
        #[case] expected: Option<Reason>,
    ) {
        assert_eq!(after_answers(answers).failure().map(|(reason, _)| reason), expected);
    }

    #[rstest]
    #[case::gone_for_a_while(None, 299, None)]
    #[case::gone_for_good(None, 300, Some(Reason::PodGone))]
    #[case::without_an_address(Some(view(None)), 1800, Some(Reason::NodeUnreachable))]
    #[case::working(Some(there()), 86_399, None)]
    #[case::working_for_too_long(Some(there()), 86_400, Some(Reason::DeadlineExceeded))]
    fn time_decides_too(#[case] pod: Option<PodView>, #[case] second: i64, #[case] expected: Option<Reason>) {
        let mut state = Pod::<u8>::new(at(0));
        for now in [0, second] {
            state.on_time(pod.as_ref(), at(0), &Timings::default(), at(now));
        }
        assert_eq!(state.failure().map(|(reason, _)| reason), expected);
    }

    #[test]
    fn a_pod_that_comes_back_is_not_gone() {
        let mut state = Pod::<u8>::new(at(0));
        let timings = Timings::default();
        state.on_time(None, at(0), &timings, at(0));
        state.on_time(Some(&there()), at(0), &timings, at(200));
        state.on_time(None, at(0), &timings, at(400));
        assert_eq!(state.failure(), None);
    }

    #[test]
    fn what_is_decided_stays_so() {
        let mut state = Pod::decided(Ok(1), at(0));
        state.on_answer(silent(), at(0), None, at(0), &Timings::default(), at(0));
        state.on_time(None, at(0), &Timings::default(), at(1_000_000));
        assert_eq!(state.result(), Some(&1));
    }
}
