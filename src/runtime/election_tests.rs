//! Candidates against one Lease, in whatever order requests are carried out and answered, with clocks that differ.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn record(holder: &str, renewed: i64) -> Record {
    Record {
        uid: "u".to_owned(),
        version: renewed.to_string(),
        holder: holder.to_owned(),
        renewed: Some(renewed),
        transitions: 0,
        duration: DURATION,
    }
}

#[test]
fn a_lease_that_is_renewed_is_not_taken_whatever_its_times_say() {
    let mut election = candidate("b");
    for step in 0_u32..20 {
        // A clock that is an hour behind and creeps.
        assert_eq!(election.read(Some(record("a", i64::from(step))), SECOND * 10 * step), Step::Wait);
    }
    let last = record("a", 19);
    assert_eq!(election.read(Some(last.clone()), SECOND * 204), Step::Wait, "14 s");
    let labelled = Record { version: "labelled".to_owned(), ..last };
    assert_eq!(election.read(Some(labelled.clone()), SECOND * 205), Step::Write(labelled));
}

fn candidate(me: &str) -> Election {
    Election::new(me.to_owned(), false)
}

#[test]
fn one_that_was_given_back_is_taken_at_once_and_one_that_somebody_emptied_is_not() {
    let free = Record { duration: GIVEN_BACK, ..record("", 1) };
    assert_eq!(candidate("b").read(Some(free.clone()), SECOND), Step::Write(free));
    let mut election = candidate("b");
    let emptied = record("", 1);
    assert_eq!(election.read(Some(emptied.clone()), SECOND), Step::Wait, "its leader does not know yet");
    assert_eq!(election.read(Some(emptied.clone()), SECOND * 16), Step::Write(emptied));
}

#[test]
fn who_makes_a_lease_leads_once_nobody_can_lead_by_one_that_was_deleted() {
    let made = |election: &mut Election| {
        assert_eq!(election.read(None, SECOND), Step::Create);
        election.read(Some(record("b", 1)), SECOND * 2)
    };
    assert_eq!(
        made(&mut Election::new("b".to_owned(), true)),
        Step::Write(record("b", 1)),
        "there never was one"
    );
    let mut election = candidate("b");
    assert_eq!(made(&mut election), Step::Wait);
    assert_eq!(election.read(Some(record("b", 1)), SECOND * 11), Step::Wait, "9 s");
    assert_eq!(election.read(Some(record("b", 1)), SECOND * 12), Step::Write(record("b", 1)));
    // Taken by another it is as any other; and what was asked for then may be carried out at any time.
    assert_eq!(made(&mut candidate("b")), Step::Wait);
    assert_eq!(election.read(Some(record("c", 2)), SECOND * 20), Step::Wait);
    assert_eq!(election.read(Some(record("c", 2)), SECOND * 35), Step::Write(record("c", 2)));
    let late = Record { uid: "late".to_owned(), ..record("b", 3) };
    assert_eq!(
        election.read(Some(late.clone()), SECOND * 36),
        Step::Wait,
        "it may be in the place of another's"
    );
    assert_eq!(election.read(Some(late.clone()), SECOND * 46), Step::Write(late.clone()));
    let mut leader = candidate("b");
    leader.wrote(record("b", 1), SECOND);
    assert_eq!(leader.read(Some(late), SECOND * 2), Step::Lost, "that is not the one it leads by");
}

#[test]
fn garbage_in_a_lease_neither_rules_for_ever_nor_makes_it_free() {
    for duration in [Duration::ZERO, GIVEN_BACK, Duration::from_secs(u64::MAX)] {
        let odd = Record { renewed: None, transitions: i32::MAX, duration, ..record("a", 1) };
        let mut election = candidate("b");
        assert_eq!(election.read(Some(odd.clone()), SECOND), Step::Wait);
        assert_eq!(election.read(Some(odd.clone()), SECOND * 15), Step::Wait, "14 s, whatever it asks for");
        assert_eq!(election.read(Some(odd.clone()), SECOND * 61), Step::Write(odd));
    }
}

#[test]
fn a_leader_knows_its_own_lost_write_from_anothers() {
    let mut election = candidate("a");
    election.wrote(record("a", 1), SECOND);
    assert_eq!(election.leads_until(), Some(SECOND + RENEW_WITHIN));
    let lost = record("a", 2);
    assert_eq!(election.read(Some(lost.clone()), SECOND * 3), Step::Write(lost));
    assert_eq!(election.read(Some(record("b", 3)), SECOND * 4), Step::Lost);
    assert_eq!(election.read(None, SECOND * 4), Step::Lost);
    election.rest();
    assert_eq!(election.read(Some(record("b", 3)), SECOND * 5), Step::Wait, "it stands again");
}

#[test]
fn a_renewal_says_something_new_also_when_the_clock_stands() {
    assert_eq!(renewed(None, 5), 5);
    assert_eq!(renewed(Some(5), 5), 6);
    assert_eq!(renewed(Some(9), 5), 10);
}

/// One request of a candidate, sent at `sent`.
#[derive(Clone, Debug)]
struct Request {
    sent: Duration,
    step: Option<Step>,
    /// What came of it, once the API server has carried it out.
    done: Option<Result<Option<Record>, u16>>,
}

/// What happens next to a candidate: its request is carried out, or its answer comes, or is lost, or it is asked to go on;
/// or to the Lease: somebody deletes it, or empties it.
#[derive(Clone, Copy, Debug)]
enum Event {
    GoesOn,
    CarriedOut,
    Answered,
    TimedOut,
    Restarts,
    Deleted,
    Emptied,
}

struct Candidate {
    election: Election,
    /// Its monotonic clock minus the true time, and its wall clock minus the true time, in seconds.
    origin: u64,
    skew: i64,
    requests: Vec<Request>,
    starts: usize,
    lost: bool,
}

impl Candidate {
    fn new(number: usize, starts: usize, origin: u64, skew: i64) -> Self {
        let election = candidate(&format!("{number}.{starts}"));
        Self { election, origin, skew, requests: Vec::new(), starts, lost: false }
    }

    fn clock(&self, now: Duration) -> Duration {
        now + Duration::from_secs(self.origin)
    }

    fn leads(&self, now: Duration) -> bool {
        !self.lost && self.election.leads_until().is_some_and(|until| self.clock(now) < until)
    }

    /// What it does when nothing is under way: a leader renews, a candidate looks.
    fn send(&mut self, now: Duration) {
        let step = match self.election.renewal() {
            Step::Write(over) => Some(Step::Write(over)),
            Step::Create | Step::Wait | Step::Lost => None,
        };
        self.requests.push(Request { sent: self.clock(now), step, done: None });
    }

    fn take(&mut self, request: Request, now: Duration) {
        let answered = self.clock(now);
        let next = match (request.step, request.done) {
            (None | Some(Step::Create), Some(Ok(found))) => self.election.read(found, answered),
            (Some(_), Some(Ok(Some(record)))) => {
                self.election.wrote(record, request.sent);
                return;
            }
            // Refused: look.
            (Some(_), _) => {
                self.requests.push(Request { sent: answered, step: None, done: None });
                return;
            }
            _ => return,
        };
        match next {
            Step::Lost => self.lost = true,
            Step::Wait => {}
            step @ (Step::Create | Step::Write(_)) => {
                self.requests.push(Request { sent: answered, step: Some(step), done: None });
            }
        }
    }
}

#[derive(Default)]
struct Server {
    lease: Option<Record>,
    version: usize,
}

impl Server {
    /// Carries a request out, in the name of `me` whose wall clock shows `clock`.
    fn carry_out(&mut self, step: Option<&Step>, me: &str, clock: i64) -> Result<Option<Record>, u16> {
        let (over, transitions) = match step {
            None | Some(Step::Wait | Step::Lost) => return Ok(self.lease.clone()),
            Some(Step::Create) if self.lease.is_some() => return Err(409),
            Some(Step::Create) => (None, 0),
            Some(Step::Write(over)) if self.lease.as_ref().is_none_or(|l| l.version != over.version) => {
                return Err(409);
            }
            Some(Step::Write(over)) => (over.renewed, over.transitions + i32::from(over.holder != me)),
        };
        self.version += 1;
        self.lease = Some(Record {
            uid: self.lease.as_ref().map_or_else(|| self.version.to_string(), |lease| lease.uid.clone()),
            version: self.version.to_string(),
            holder: me.to_owned(),
            renewed: Some(renewed(over, clock)),
            transitions,
            duration: DURATION,
        });
        Ok(self.lease.clone())
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        20 => Just(Event::GoesOn),
        30 => Just(Event::CarriedOut),
        30 => Just(Event::Answered),
        2 => Just(Event::TimedOut),
        1 => Just(Event::Restarts),
        1 => prop_oneof![Just(Event::Deleted), Just(Event::Emptied)],
    ]
}

/// Milliseconds between two events: short enough for leaders to renew, and now and then long enough for them to lose.
fn pause() -> impl Strategy<Value = u64> {
    prop_oneof![30 => 0_u64..300, 2 => 300_u64..3_000, 1 => 3_000_u64..20_000]
}

/// Who, what, and the milliseconds before it. The others stand still while one goes on for a while.
fn script() -> impl Strategy<Value = Vec<(usize, Event, u64)>> {
    let spell = (0_usize..3, proptest::collection::vec((event(), pause()), 1..20));
    let spells = proptest::collection::vec(spell, 1..60);
    spells.prop_map(|spells| {
        let each =
            |(who, events): (usize, Vec<_>)| events.into_iter().map(move |(event, ms)| (who, event, ms));
        spells.into_iter().flat_map(each).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Requests are carried out long after they were sent, answers come late or never, processes stand still and
    /// restart, clocks are a minute apart, somebody deletes and empties the Lease: there is never more than one leader.
    #[test]
    fn at_most_one_leads_at_any_time(
        skews in proptest::collection::vec((0_u64..1_000, -60_i64..=60), 3),
        script in script(),
    ) {
        let mut server = Server::default();
        let mut candidates: Vec<Candidate> =
            skews.iter().enumerate().map(|(n, (origin, skew))| Candidate::new(n, 0, *origin, *skew)).collect();
        let mut now = Duration::from_secs(100);
        for (who, event, pause) in script {
            // A leader's fence holds by time alone: it is looked at just before the next event too.
            for at in [now, now + Duration::from_millis(pause)] {
                let leaders: Vec<&str> =
                    candidates.iter().filter(|c| c.leads(at)).map(|c| c.election.me()).collect();
                prop_assert!(leaders.len() <= 1, "{leaders:?} at {at:?}");
            }
            now += Duration::from_millis(pause);
            let candidate = &mut candidates[who];
            if candidate.lost || matches!(event, Event::Restarts) {
                let (starts, origin, skew) = (candidate.starts + 1, candidate.origin, candidate.skew);
                // What it had sent may still be carried out, in the name of the one that is gone.
                *candidate = Candidate::new(who, starts, origin + 7, skew);
                continue;
            }
            match event {
                Event::GoesOn if candidate.requests.len() < 3 => candidate.send(now),
                Event::GoesOn | Event::Restarts => {}
                Event::Deleted => server.lease = None,
                Event::Emptied => {
                    server.version += 1;
                    if let Some(lease) = &mut server.lease {
                        (lease.holder, lease.version) = (String::new(), server.version.to_string());
                    }
                }
                Event::CarriedOut => {
                    let clock = i64::try_from(now.as_micros()).unwrap() + candidate.skew * 1_000_000;
                    let me = candidate.election.me().to_owned();
                    if let Some(request) = candidate.requests.iter_mut().find(|r| r.done.is_none()) {
                        request.done = Some(server.carry_out(request.step.as_ref(), &me, clock));
                    }
                }
                Event::Answered => {
                    if let Some(at) = candidate.requests.iter().position(|r| r.done.is_some()) {
                        let request = candidate.requests.remove(at);
                        candidate.take(request, now);
                    }
                }
                Event::TimedOut => {
                    // Its answer is not waited for; it may have been carried out.
                    if !candidate.requests.is_empty() {
                        let request = candidate.requests.remove(0);
                        if request.done.is_none() && pause % 2 == 0 {
                            let clock = i64::try_from(now.as_micros()).unwrap();
                            let me = candidate.election.me().to_owned();
                            let _ = server.carry_out(request.step.as_ref(), &me, clock);
                        }
                    }
                }
            }
        }
    }
}
