//! Who takes back what we write is noticed at the second time, and not fought (docs/k8ssandracluster.md): GitOps with self-heal, Helm,
//! another operator, an admission webhook. Pure; it must not write, and not decide what is wanted.
//!
//! A write counts as taken back when the very content that was written is to be written once more. What restarts
//! Cassandra then stops until somebody decides; everything else goes on with growing pauses.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use crate::{
    api::{Reason, Why, names},
    runtime::{backoff, sync::lock},
};

/// At this many times in a row it is a conflict, not an accident.
pub const CONFLICT: u32 = 2;
/// What has stood for so long was not taken back by a loop: the count begins anew.
const STOOD: SignedDuration = SignedDuration::from_hours(24);
/// Longest name of a field manager or field that is shown, or kept in a status.
pub const NAME: usize = 128;
/// First and longest pause between writes of something that restarts nothing.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(10));

/// What of an object is to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Uid of the object; of what it is made for, where it is made by us: what is made again was not changed.
    pub uid: String,
    /// What a person decides by: another value begins anew.
    pub decision: String,
    pub content: String,
}

/// The last write to an object, and how often it was taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What was written. The content is not known after a restart.
    pub wish: Wish,
    pub written_at: Timestamp,
    /// How often in a row it was taken back.
    pub times: u32,
    /// Who did that last, as a field manager, and in which field.
    pub by: By,
}

/// Who changed what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct By {
    /// The field manager; empty when it is not known.
    pub manager: String,
    /// The field; empty when it is the whole object.
    pub field: String,
}

impl fmt::Display for By {
    /// `` `argocd-controller` takes back `.spec.x` ``.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.manager.as_str() {
            "" => f.write_str("somebody")?,
            // As the data plane says it is called.
            manager => write!(f, "`{}`", names::shown(manager, NAME))?,
        }
        match self.field.as_str() {
            "" => f.write_str(" takes it back"),
            field => write!(f, " takes back `{}`", names::shown(field, NAME)),
        }
    }
}

/// What follows from the writes before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UndoneVerdict {
    /// It may be written, which is then to be recorded so.
    Write(Record),
    /// It was taken back too often.
    Conflict(Record),
}

/// Whether `wish` may be written, after the write `before`.
#[must_use]
pub fn judge(before: Option<&Record>, wish: Wish, by: By, now: Timestamp) -> UndoneVerdict {
    let known = before.filter(|b| b.wish.uid == wish.uid && b.wish.decision == wish.decision);
    let Some(before) = known else {
        return UndoneVerdict::Write(Record { wish, written_at: now, times: 0, by: By::default() });
    };
    if before.times >= CONFLICT {
        return UndoneVerdict::Conflict(before.clone());
    }
    let times = if now.duration_since(before.written_at) > STOOD { 0 } else { before.times };
    if before.wish.content != wish.content {
        return UndoneVerdict::Write(Record { wish, written_at: now, times, by: before.by.clone() });
    }
    let times = times.saturating_add(1);
    if times >= CONFLICT {
        return UndoneVerdict::Conflict(Record { times, by, ..before.clone() });
    }
    UndoneVerdict::Write(Record { wish, written_at: now, times, by })
}

/// The same for what restarts nothing: who takes it back meets growing pauses, never an end. `by` is who did so now.
#[must_use]
pub fn pace(before: Option<&Record>, wish: Wish, by: By, now: Timestamp) -> UndoneVerdict {
    // One that was written in the future was so by another clock: nothing waits until that comes.
    let is_recent = |at: Timestamp| (SignedDuration::ZERO..=STOOD).contains(&now.duration_since(at));
    let again = before.filter(|b| b.wish == wish && is_recent(b.written_at));
    let Some(before) = again else {
        return UndoneVerdict::Write(Record { wish, written_at: now, times: 0, by: By::default() });
    };
    let times = before.times.saturating_add(1);
    if times >= CONFLICT && now < resumes(before) {
        return UndoneVerdict::Conflict(Record { by, ..before.clone() });
    }
    UndoneVerdict::Write(Record { wish, written_at: now, times, by })
}

/// Until when it is said that what was written so is taken back: who does that seldom would otherwise never be named, and
/// who does it often would be named and forgotten in turn. `None` when it was not taken back twice.
#[must_use]
pub fn contested_until(record: &Record) -> Option<Timestamp> {
    let stands = SignedDuration::try_from(PAUSES.1).ok()?;
    (record.times >= CONFLICT).then(|| record.written_at.checked_add(stands).unwrap_or(record.written_at))
}

/// Whether that is said at `now`.
#[must_use]
pub fn is_contested(record: &Record, now: Timestamp) -> bool {
    // What was written in the future was so by another clock.
    contested_until(record).is_some_and(|until| record.written_at <= now && now < until)
}

/// That `what` is taken back, for the `times`-th time.
#[must_use]
pub fn conflict(what: impl fmt::Display, by: &By, times: u32) -> Why {
    let message = format!(
        "{what}: {by} each time it was written, {times} times in a row; let it alone there (in Argo CD \
         `ignoreDifferences` with `RespectIgnoreDifferences=true`), or ask for nothing there. It is written again with \
         pauses that grow to {} minutes, and this is said until it has stood for as long",
        PAUSES.1.as_secs() / 60
    );
    Why::new(Reason::Conflict, message)
}

/// When something that restarts nothing is written again.
#[must_use]
pub fn resumes(record: &Record) -> Timestamp {
    let pause = backoff::delay(record.times.saturating_sub(1), PAUSES.0, PAUSES.1);
    SignedDuration::try_from(pause)
        .ok()
        .and_then(|p| record.written_at.checked_add(p).ok())
        .unwrap_or(record.written_at)
}

/// The last write to each object, for one kind of object named by `K`.
#[derive(Clone, Debug)]
pub struct WriteMemory<K>(Arc<Mutex<BTreeMap<K, Record>>>);

impl<K> Default for WriteMemory<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Ord + Clone> WriteMemory<K> {
    #[must_use]
    pub fn get(&self, key: &K) -> Option<Record> {
        lock(&self.0).get(key).cloned()
    }

    /// Notes a write, or that it was taken back.
    pub fn set(&self, key: &K, record: Record) {
        lock(&self.0).insert(key.clone(), record);
    }

    /// Forgets what `keep` does not name.
    pub fn retain(&self, keep: impl Fn(&K) -> bool) {
        lock(&self.0).retain(|key, _| keep(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(content: &str) -> Wish {
        Wish { uid: "u".to_owned(), decision: "1".to_owned(), content: content.to_owned() }
    }

    fn argo() -> By {
        By { manager: "argocd-controller".to_owned(), field: ".spec.x".to_owned() }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn written(before: Option<&Record>, wish: Wish, now: i64) -> Record {
        match judge(before, wish, argo(), at(now)) {
            UndoneVerdict::Write(record) => record,
            UndoneVerdict::Conflict(record) => panic!("{record:?}"),
        }
    }

    fn refused(before: &Record, wish: Wish, now: i64) -> Record {
        match judge(Some(before), wish, argo(), at(now)) {
            UndoneVerdict::Conflict(record) => record,
            UndoneVerdict::Write(record) => panic!("{record:?}"),
        }
    }

    #[test]
    fn who_takes_it_back_twice_is_not_fought_until_somebody_decides() {
        let first = written(None, wish("a"), 0);
        assert_eq!(first.times, 0);
        let second = written(Some(&first), wish("a"), 30);
        assert_eq!((second.times, &second.by), (1, &argo()));
        let conflict = refused(&second, wish("a"), 60);
        assert_eq!(
            (conflict.times, conflict.by.to_string().as_str()),
            (2, "`argocd-controller` takes back `.spec.x`")
        );
        // Another content is no decision, nor is time.
        refused(&conflict, wish("b"), 90);
        refused(&conflict, wish("a"), 90 * 86_400);
        let decided = Wish { decision: "2".to_owned(), ..wish("a") };
        assert_eq!(written(Some(&conflict), decided, 90).times, 0);
        let made_again = Wish { uid: "v".to_owned(), ..wish("a") };
        assert_eq!(written(Some(&conflict), made_again, 90).times, 0);
    }

    #[test]
    fn new_content_is_no_undoing_and_does_not_make_one_forgotten() {
        let first = written(None, wish("a"), 0);
        let rotated = written(Some(&first), wish("b"), 30);
        assert_eq!(rotated.times, 0);
        let undone = written(Some(&rotated), wish("b"), 60);
        let rotated = written(Some(&undone), wish("c"), 90);
        assert_eq!(rotated.times, 1);
        refused(&rotated, wish("c"), 120);
    }

    #[test]
    fn what_stood_for_a_day_was_not_taken_back_by_a_loop() {
        let mut record = written(None, wish("a"), 0);
        for day in 1..5 {
            record = written(Some(&record), wish("a"), day * 90_000);
            assert_eq!(record.times, 1);
        }
    }

    #[test]
    fn what_restarts_nothing_goes_on_with_growing_pauses() {
        let (mut record, mut now, mut writes) = (None::<Record>, 0, Vec::new());
        while now < 7200 {
            match pace(record.as_ref(), wish("a"), argo(), at(now)) {
                UndoneVerdict::Write(next) => {
                    writes.push(now);
                    record = Some(next);
                }
                UndoneVerdict::Conflict(_) => {}
            }
            now += 1;
        }
        assert_eq!(writes.get(..3), Some([0, 1, 3].as_slice()), "the first time it may be an accident");
        let pauses: Vec<i64> = writes.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let stepped_back = at(now - 90 * 86_400);
        assert!(matches!(pace(record.as_ref(), wish("a"), argo(), stepped_back), UndoneVerdict::Write(_)));
        assert!(pauses[1..].is_sorted() && writes.len() < 25, "{pauses:?}");
        assert_eq!(pauses.last(), Some(&600));
    }

    #[test]
    fn who_takes_it_back_is_shown_escaped_and_in_few_words() {
        let by = By { manager: "x\u{1b}[2J\n".repeat(10_000), field: ".spec\u{7}".repeat(10_000) };
        let said = conflict("it", &by, 2).message;
        assert!(said.len() < 1_000 && !said.contains(char::is_control), "{said}");
    }

    #[test]
    fn who_takes_it_back_however_seldom_is_said_until_it_has_stood() {
        for every in [1, 30, 180, 540] {
            let (mut record, mut now) = (None::<Record>, 0);
            for round in 0..6 {
                let said = match pace(record.as_ref(), wish("a"), argo(), at(now)) {
                    UndoneVerdict::Write(next) => is_contested(record.insert(next), at(now)),
                    UndoneVerdict::Conflict(held) => held.by == argo(),
                };
                assert_eq!(said, round >= 2, "every {every} s, round {round}");
                now += every;
            }
            let record = record.unwrap();
            assert_eq!(record.by, argo());
            let over = contested_until(&record).unwrap();
            assert!(
                is_contested(&record, over - SignedDuration::from_secs(1)) && !is_contested(&record, over)
            );
        }
    }
}
