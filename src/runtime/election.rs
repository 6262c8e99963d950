//! Who leads, decided from what a Lease says and from when this process saw it say so. Pure.
//!
//! Times are those of a monotonic clock of this process alone, counted from any moment: what clocks show elsewhere, and
//! in the Lease, decides nothing. A leader leads until [`RENEW_WITHIN`] after it *sent* its last successful write; a
//! candidate takes over [`DURATION`] after it *received* a Lease that has not changed since. The write was carried out
//! between the two, so there are at least `DURATION - RENEW_WITHIN` seconds in which nobody leads. Who makes a Lease in
//! the place of one that was deleted leads [`RENEW_WITHIN`] after it is there: by the one that is gone somebody may
//! lead until then.

use std::time::Duration;

/// How long a Lease has to stay as it is before another may take it.
pub const DURATION: Duration = Duration::from_secs(15);
/// How long after sending its last successful write a leader leads.
pub const RENEW_WITHIN: Duration = Duration::from_secs(10);
/// Pause between two writes of a leader, and between two looks of a candidate.
pub const RENEW_EVERY: Duration = Duration::from_secs(2);
/// Longest time a Lease may ask to be left alone: one that was written wrong must not rule for ever.
const LONGEST: Duration = Duration::from_mins(1);
/// What a Lease asks for that its leader gave back, when nothing of it was under way any more.
pub const GIVEN_BACK: Duration = Duration::from_secs(1);

// Whatever anybody makes of these figures, a leader stops before another may begin, and has time to renew more than once.
const _: () = assert!(RENEW_WITHIN.as_millis() < DURATION.as_millis());
const _: () = assert!(2 * RENEW_EVERY.as_millis() < RENEW_WITHIN.as_millis());

/// What a Lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Uid of the Lease.
    pub uid: String,
    /// Its resourceVersion.
    pub version: String,
    /// Who holds it; empty when it was given back.
    pub holder: String,
    /// When it was renewed, by the holder's clock, in microseconds since 1970: only compared for being the same.
    pub renewed: Option<i64>,
    /// How often it has changed hands.
    pub transitions: i32,
    /// How long it asks to be left alone.
    pub duration: Duration,
}

impl Record {
    /// Whether nobody wrote the Lease between this record and `other`. Its resourceVersion does not count: whoever puts
    /// a label on it does not renew it.
    fn says_the_same(&self, other: &Self) -> bool {
        (&self.uid, &self.holder, self.renewed, self.transitions)
            == (&other.uid, &other.holder, other.renewed, other.transitions)
    }
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the Lease.
    Create,
    /// Write our name and the time over exactly this record.
    Write(Record),
    /// Look again.
    Wait,
    /// Another leads, or may: stop.
    Lost,
}

/// One candidate's part in an election.
#[derive(Clone, Debug)]
pub struct Election {
    me: String,
    /// Whether nobody can have led before.
    is_first: bool,
    /// What was seen last, and when it was seen first.
    seen: Option<(Record, Duration)>,
    /// Whether a Lease with our name may be one that we made: once asked for, it may be made at any time after.
    makes: bool,
    /// Until when somebody may lead by the Lease in whose place we made ours, and the uid of ours.
    quiet_until: Option<(String, Duration)>,
    /// The Lease as we wrote it last, and until when we lead by it.
    held: Option<(Record, Duration)>,
}

impl Election {
    /// A candidate whose name no other process has, nor an earlier one of the same pod. `is_first` says that nobody can
    /// have led before.
    #[must_use]
    pub fn new(me: String, is_first: bool) -> Self {
        Self { me, is_first, seen: None, makes: false, quiet_until: None, held: None }
    }

    /// Its name.
    #[must_use]
    pub fn me(&self) -> &str {
        &self.me
    }

    /// The Lease was read, or made, and the answer came at `now`: `None` when there is none.
    pub fn read(&mut self, found: Option<Record>, now: Duration) -> Step {
        if let Some((held, _)) = &self.held {
            return match found {
                // A write of ours whose answer was lost.
                Some(found) if found.holder == self.me && found.uid == held.uid => Step::Write(found),
                // A Lease that was deleted is gone for good: who makes it anew does not know of us.
                Some(_) | None => Step::Lost,
            };
        }
        let Some(found) = found else {
            (self.seen, self.makes) = (None, true);
            return Step::Create;
        };
        if found.holder == self.me {
            // One that we made, or wrote over by a request whose answer was lost.
            let is_made = self.makes && !self.is_first;
            let until = match &self.quiet_until {
                Some((uid, until)) if *uid == found.uid => *until,
                Some(_) | None if is_made => now + RENEW_WITHIN,
                Some(_) | None => now,
            };
            self.quiet_until = Some((found.uid.clone(), until));
            return if now >= until { Step::Write(found) } else { Step::Wait };
        }
        (self.quiet_until, self.is_first) = (None, false);
        let since = match &self.seen {
            Some((before, since)) if before.says_the_same(&found) => *since,
            Some(_) | None => now,
        };
        self.seen = Some((found.clone(), since));
        let is_free = found.holder.is_empty() && found.duration == GIVEN_BACK;
        let is_silent = now.saturating_sub(since) >= DURATION.max(found.duration.min(LONGEST));
        if is_free || is_silent { Step::Write(found) } else { Step::Wait }
    }

    /// A write of ours, which was sent at `sent`, was carried out and left this record.
    pub fn wrote(&mut self, record: Record, sent: Duration) {
        self.held = Some((record, sent.saturating_add(RENEW_WITHIN)));
    }

    /// It does not lead, and stands again.
    pub fn rest(&mut self) {
        self.held = None;
    }

    /// The next write of a leader.
    #[must_use]
    pub fn renewal(&self) -> Step {
        self.held.as_ref().map_or(Step::Wait, |(record, _)| Step::Write(record.clone()))
    }

    /// Until when it leads; nothing when it does not.
    #[must_use]
    pub fn leads_until(&self) -> Option<Duration> {
        self.held.as_ref().map(|(_, until)| *until)
    }
}

/// When a write says that it was made: by the clock, but always later than what it writes over, or a clock that stands
/// or was set back would make a renewal look like none. In microseconds since 1970.
#[must_use]
pub fn renewed(over: Option<i64>, clock: i64) -> i64 {
    over.map_or(clock, |before| clock.max(before.saturating_add(1)))
}

#[cfg(test)]
#[path = "election_tests.rs"]
mod tests;
