//! A rule of the node machine per test, on a made-up clock of whole seconds.

use std::time::Duration;

use rstest::rstest;

use super::*;

const TIMINGS: Timings = Timings {
    connect: Duration::from_secs(1),
    call: Duration::from_secs(1),
    summary_call: Duration::from_secs(1),
    list_call: Duration::from_secs(1),
    purge_call: Duration::from_secs(1),
    list_hedge: Duration::from_secs(1),
    poll_first: Duration::from_secs(1),
    poll_max: Duration::from_secs(4),
    hung_first: Duration::from_secs(10),
    hung_max: Duration::from_secs(40),
    pass: Duration::from_secs(1),
    pods: Duration::from_secs(1),
    settle_ready: Duration::from_secs(30),
    steady: Duration::from_secs(100),
    settle: Duration::from_mins(5),
    confirm: Duration::from_secs(2),
    start: Duration::from_secs(400),
    silence: Duration::from_secs(1000),
    absence: Duration::from_secs(50),
    summary: Duration::from_secs(50),
    input: Duration::from_secs(50),
    input_retry_max: Duration::from_secs(5),
    run: Duration::from_secs(10_000),
    restore_poll: Duration::from_secs(1),
    stop: Duration::from_secs(1),
    template: Duration::from_secs(1),
    restore: Duration::from_secs(1),
    record: Duration::from_secs(1),
    stall: Duration::from_secs(1),
    skew: Duration::from_secs(10),
    schedule_check: Duration::from_mins(1),
    secret: Duration::from_secs(1),
    lease: Duration::from_secs(1),
    definition: Duration::from_secs(1),
};

/// The job starts at 1000.
const START: i64 = 1000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn pod(instance: &str, ready_since: Option<i64>) -> PodView {
    PodView {
        name: "dc1-0".to_owned(),
        address: Some("10.0.0.1:50051".parse().unwrap()),
        has_medusa: true,
        ready_since: ready_since.map(at),
        instance: Instance { pod: "uid".to_owned(), container: Some(instance.to_owned()) },
    }
}

/// A node and the pod it is on, driven by answers at given seconds.
struct Story {
    node: Node,
    pod: Option<PodView>,
}

impl Story {
    fn claimed() -> Self {
        Self { node: Node::claimed("dc1-0", at(START)), pod: Some(pod("a", Some(0))) }
    }

    fn resumed() -> Self {
        let pod = pod("a", Some(0));
        Self { node: Node::resumed("dc1-0", Some(&pod), at(START)), pod: Some(pod) }
    }

    fn on(mut self, pod: Option<PodView>) -> Self {
        self.pod = pod;
        self
    }

    fn hears(self, second: i64, answer: Answer) -> Self {
        self.hears_late(second, second, answer)
    }

    fn hears_late(mut self, asked: i64, heard: i64, answer: Answer) -> Self {
        self.node.on_answer(answer, at(asked), self.pod.as_ref(), at(START), &TIMINGS, at(heard));
        self
    }

    fn at(&mut self, second: i64) -> Need<Question> {
        self.node.on_time(self.pod.as_ref(), at(START), &TIMINGS, at(second));
        self.node.need(self.pod.as_ref(), &TIMINGS, at(second))
    }

    fn reason(&self) -> Option<Reason> {
        match &self.node.verdict {
            Some(Verdict::Failed(reason, _)) => Some(*reason),
            Some(Verdict::Finished) | None => None,
        }
    }
}

fn out_of_reach() -> Answer {
    Answer::Unreachable("connection refused".to_owned())
}

#[test]
fn a_node_is_asked_before_it_is_told_to_start_and_then_asked_again_soon() {
    let mut story = Story::claimed();
    assert_eq!(story.at(1000), Need::Call(Question::Status));
    let mut story = story.hears(1000, Answer::Missing);
    assert_eq!(story.at(1000), Need::Call(Question::Start));
    let mut story = story.hears(1000, Answer::Accepted);
    assert_eq!(story.at(1000), Need::Wait(at(1001)));
    assert_eq!(story.at(1001), Need::Call(Question::Status));
    let mut story = story.hears(1001, Answer::Done);
    assert_eq!(story.at(1001), Need::Nothing);
    assert_eq!(story.node.verdict, Some(Verdict::Finished));
}

#[test]
fn an_early_not_found_is_no_failure_and_no_reason_to_send_again() {
    let mut story = Story::claimed().hears(1000, Answer::Missing).hears(1000, Answer::Accepted);
    for second in (1001..1390).step_by(10) {
        story = story.hears(second, Answer::Missing);
        assert_ne!(story.at(second + 5), Need::Call(Question::Start));
    }
    let story = story.hears(1390, Answer::Done);
    assert_eq!(story.node.verdict, Some(Verdict::Finished));
}

#[test]
fn a_node_that_never_starts_fails_within_the_budget() {
    let mut story = Story::claimed().hears(1000, Answer::Missing).hears(1000, Answer::Accepted);
    story = story.hears(1001, Answer::Missing).hears(1200, out_of_reach()).hears(1400, Answer::Missing);
    story.at(1400);
    assert_eq!(story.reason(), None);
    story.at(1401);
    assert_eq!(story.reason(), Some(Reason::BackupNotStarted));
}

#[test]
fn a_long_backup_that_is_not_found_for_a_moment_goes_on() {
    let mut story = Story::claimed()
        .hears(1000, Answer::Missing)
        .hears(1000, Answer::Accepted)
        .hears(5000, Answer::Running)
        .hears(5001, Answer::Missing);
    story.at(5002);
    assert_eq!(story.reason(), None);
    story.at(5401);
    assert_eq!(story.reason(), Some(Reason::BackupNotStarted));
}

#[rstest]
#[case::ready_for_long(Some(0), 1030)]
#[case::ready_lately(Some(995), 1095)]
#[case::not_ready(None, 1300)]
fn a_run_that_was_taken_over_sends_only_after_settling(#[case] ready: Option<i64>, #[case] first: i64) {
    let mut story = Story::resumed().on(Some(pod("a", ready))).hears(1000, Answer::Missing);
    let mut sends = Vec::new();
    for second in 1001..=first + 5 {
        match story.at(second) {
            Need::Call(Question::Start) => {
                sends.push(second);
                break;
            }
            Need::Call(Question::Status) => story = story.hears(second, Answer::Missing),
            Need::Wait(_) => {}
            Need::Nothing => panic!("decided"),
        }
    }
    assert_eq!(sends.len(), 1, "{sends:?}");
    assert!(sends[0] >= first && sends[0] <= first + 4, "{sends:?} soon after {first}");
}

#[test]
fn an_answer_heard_late_settles_only_the_time_before_its_question() {
    let mut story = Story::resumed().hears(1000, Answer::Missing).hears_late(1005, 1060, Answer::Missing);
    assert_ne!(story.at(1065), Need::Call(Question::Start));
    let mut story = story.hears(1066, Answer::Missing);
    assert_eq!(story.at(1066), Need::Call(Question::Start));
}

#[test]
fn a_taken_over_node_that_shows_up_is_never_sent_to() {
    let mut story = Story::resumed()
        .hears(1000, Answer::Missing)
        .hears(1020, Answer::Running)
        .hears(1025, Answer::Missing);
    assert_ne!(story.at(1050), Need::Call(Question::Start), "settling begins anew after any other answer");
}

#[test]
fn a_lost_answer_to_asyncbackup_counts_as_perhaps_sent() {
    let mut story = Story::claimed()
        .hears(1000, Answer::Missing)
        .hears(1000, Answer::PerhapsSent("deadline".to_owned()))
        .hears(1010, Answer::Missing);
    assert_eq!(story.at(1020), Need::Call(Question::Status));
    let mut story = story.hears(1041, Answer::Missing);
    assert_eq!(story.at(1041), Need::Call(Question::Start));
}

#[test]
fn a_restarted_medusa_that_knows_nothing_is_told_at_once() {
    let told = Story::claimed().hears(1000, Answer::Missing).hears(1000, Answer::Accepted);
    let mut story = told.on(Some(pod("b", None))).hears(1003, Answer::Missing);
    assert_eq!(story.at(1003), Need::Call(Question::Start));
    let mut story = Story::resumed().on(Some(pod("b", None))).hears(1003, Answer::Missing);
    assert_eq!(story.at(1003), Need::Call(Question::Start));
}

#[test]
fn a_node_in_doubt_is_a_reason_to_look_at_its_pod() {
    let told = Story::claimed().hears(1000, Answer::Missing).hears(1000, Answer::Accepted);
    assert!(!told.node.is_in_doubt());
    let missing = told.hears(1001, Answer::Missing);
    assert!(missing.node.is_in_doubt());
    let running = missing.hears(1002, Answer::Running);
    assert!(!running.node.is_in_doubt());
    assert!(running.hears(1003, out_of_reach()).node.is_in_doubt());
}

#[test]
fn a_medusa_restarted_during_the_backup_is_named_as_the_cause() {
    let told = Story::claimed().hears(1000, Answer::Missing).hears(1000, Answer::Accepted);
    let running = told.hears(1001, Answer::Running);
    let lost = Story { node: running.node.clone(), pod: running.pod.clone() };
    let story = running.on(Some(pod("b", None))).hears(1010, Answer::Failed { complete: false });
    assert_eq!(story.reason(), Some(Reason::MedusaRestarted));
    let story = lost.hears(1005, out_of_reach()).hears(1010, Answer::Failed { complete: false });
    assert_eq!(story.reason(), Some(Reason::MedusaRestarted));
}

#[test]
fn a_plain_failure_is_a_failure_even_with_a_finish_time() {
    for complete in [false, true] {
        let story = Story::claimed()
            .hears(1000, Answer::Missing)
            .hears(1000, Answer::Accepted)
            .hears(1005, Answer::Failed { complete });
        assert_eq!(story.reason(), None, "it may have restarted, which the pod will tell soon");
        assert_eq!(story.hears(1007, Answer::Failed { complete }).reason(), Some(Reason::NodesFailed));
    }
}

#[test]
fn a_complete_backup_that_a_second_request_spoiled_counts() {
    let story = Story::resumed().hears(1000, Answer::Failed { complete: true });
    assert_eq!(story.node.verdict, Some(Verdict::Finished));
    let failed = Answer::Failed { complete: false };
    let story = Story::resumed().hears(1000, failed.clone()).hears(1002, failed);
    assert_eq!(story.reason(), Some(Reason::NodesFailed));
}

#[rstest]
#[case(Answer::Done)]
#[case(Answer::Running)]
#[case(Answer::Failed { complete: true })]
fn a_backup_nobody_asked_for_means_the_name_is_taken(#[case] answer: Answer) {
    assert_eq!(Story::claimed().hears(1001, answer.clone()).reason(), Some(Reason::NameConflict));
    assert_ne!(Story::claimed().hears(1031, answer.clone()).reason(), Some(Reason::NameConflict));
    assert_ne!(Story::resumed().hears(1001, answer).reason(), Some(Reason::NameConflict));
}

#[test]
fn an_unreachable_node_is_retried_until_the_budget_is_spent() {
    let mut story = Story::claimed().hears(1000, Answer::Missing).hears(1000, Answer::Accepted);
    for second in (1001..2000).step_by(100) {
        story = story.hears(second, out_of_reach());
        story.at(second);
        assert_eq!(story.reason(), None);
    }
    story.at(2001);
    assert_eq!(story.reason(), Some(Reason::NodeUnreachable));
}

#[test]
fn one_usable_answer_ends_the_silence() {
    let mut story = Story::claimed()
        .hears(1000, Answer::Missing)
        .hears(1000, Answer::Accepted)
        .hears(1001, out_of_reach())
        .hears(1900, Answer::Running)
        .hears(1901, out_of_reach());
    story.at(2500);
    assert_eq!(story.reason(), None);
}

#[test]
fn empty_answers_are_bounded_as_silence_is() {
    let mut story = Story::claimed().hears(1000, Answer::Missing).hears(1000, Answer::Accepted);
    story = story.hears(1001, Answer::Error("empty".to_owned()));
    story.at(2001);
    assert_eq!(story.reason(), Some(Reason::NodeUnreachable));
}

#[test]
fn a_medusa_that_refuses_to_start_fails_within_the_budget() {
    let mut story = Story::claimed();
    for second in (1000..1400).step_by(50) {
        story = story.hears(second, Answer::Missing).hears(second, Answer::NotSent("INTERNAL".to_owned()));
        assert_ne!(story.at(second), Need::Nothing);
    }
    assert_eq!(story.at(1400), Need::Nothing);
    assert_eq!(story.reason(), Some(Reason::BackupNotStarted));
}

#[test]
fn hung_calls_are_repeated_rarely_and_refused_ones_often() {
    let mut story = Story::claimed().hears(1000, Answer::TimedOut);
    assert_eq!(story.at(1000), Need::Wait(at(1010)));
    let mut story = story.hears(1011, Answer::TimedOut);
    assert_eq!(story.at(1011), Need::Wait(at(1031)));
    let mut story = Story::claimed().hears(1000, out_of_reach());
    assert_eq!(story.at(1000), Need::Wait(at(1001)));
}

#[test]
fn a_pod_that_comes_back_is_waited_for_and_one_that_stays_away_is_reported() {
    let mut story = Story::claimed().hears(1000, Answer::Missing).hears(1000, Answer::Accepted).on(None);
    assert!(matches!(story.at(1010), Need::Wait(_)));
    let mut story = story.on(Some(pod("b", None)));
    assert_eq!(story.at(1040), Need::Call(Question::Status));
    let mut story = story.on(None);
    story.at(1050);
    story.at(1099);
    assert_eq!(story.reason(), None);
    story.at(1100);
    assert_eq!(story.reason(), Some(Reason::PodGone));
}

#[test]
fn a_pod_without_an_address_is_not_dialled() {
    let mut bare = pod("a", None);
    bare.address = None;
    let mut story = Story::claimed().on(Some(bare));
    assert!(matches!(story.at(1000), Need::Wait(_)));
    story.at(2000);
    assert_eq!(story.reason(), Some(Reason::NodeUnreachable));
}

#[test]
fn a_backup_that_runs_for_ever_ends_with_the_run() {
    let mut story = Story::claimed().hears(1000, Answer::Missing).hears(1000, Answer::Accepted);
    story = story.hears(10_999, Answer::Running);
    story.at(10_999);
    assert_eq!(story.reason(), None);
    story.at(11_000);
    assert_eq!(story.reason(), Some(Reason::DeadlineExceeded));
}
