//! What one replica has to publish, and how far it has: of each data plane at most one write is under way, what fails is tried
//! again, and what stays unsaid for long is known. It writes nothing.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::table::Unsaid;
use crate::runtime::backoff::Backoff;

/// First and longest pause before a write that failed is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// For how long something may be unwritten before what was written earlier must not count: the Lease says so then.
const LATE: Duration = Duration::from_secs(10);
/// How soon it is looked again whether a connection is made.
const SOON: Duration = Duration::from_secs(2);

/// What was written last of a data plane.
#[derive(Clone)]
pub struct WrittenView {
    pub uid: String,
    pub version: String,
    pub epoch: i32,
    /// A hash of what is seen, apart from times that say nothing new.
    pub digest: [u8; 32],
}

/// How a write ended.
pub enum Publication {
    /// It is as it should be.
    Is(WrittenView),
    /// There is nothing to say, or another says it.
    Nothing,
    /// There will be something to say soon.
    Soon,
    /// It is tried again, for this reason.
    Again(String),
}

/// What is to be written, and since when.
pub struct Queue {
    /// Data planes of which something may be new, each with when it is looked at.
    due: BTreeMap<String, Instant>,
    /// Those of which something is not written yet, each since when.
    unsaid: BTreeMap<String, Instant>,
    /// Those of which a write is under way, each with the newest version that the watch has told of meanwhile.
    busy: BTreeMap<String, u64>,
    pub known: BTreeMap<String, WrittenView>,
    pauses: Backoff<String>,
}

impl Queue {
    pub fn new() -> Self {
        Self {
            due: BTreeMap::new(),
            unsaid: BTreeMap::new(),
            busy: BTreeMap::new(),
            known: BTreeMap::new(),
            pauses: Backoff::new(RETRY.0, RETRY.1),
        }
    }

    /// Has a data plane looked at, at that time at the latest.
    pub fn want(&mut self, name: String, at: Instant) {
        let due = self.due.entry(name).or_insert(at);
        *due = at.min(*due);
    }

    /// One that is due and of which no write is under way.
    pub fn next(&mut self, now: Instant) -> Option<String> {
        let mut ready = self.due.iter().filter(|(name, at)| **at <= now && !self.busy.contains_key(*name));
        let name = ready.next()?.0.clone();
        self.due.remove(&name);
        self.busy.insert(name.clone(), 0);
        self.unsaid.entry(name.clone()).or_insert(now);
        Some(name)
    }

    /// When the next one is due.
    pub fn wakes(&self) -> Option<Instant> {
        self.due.iter().filter(|(name, _)| !self.busy.contains_key(*name)).map(|(_, at)| *at).min()
    }

    /// A write ended so; returns what is in its way.
    pub fn ended(&mut self, name: String, outcome: Publication, now: Instant) -> Option<String> {
        let told = self.busy.remove(&name).unwrap_or_default();
        match outcome {
            Publication::Again(why) => {
                self.known.remove(&name);
                let pause = self.pauses.failed(&name);
                self.want(name, now + pause);
                return Some(why);
            }
            // Somebody has changed it since.
            Publication::Is(written) if number(&written.version) < told => {
                self.known.remove(&name);
                self.want(name.clone(), now);
            }
            Publication::Is(written) => drop(self.known.insert(name.clone(), written)),
            Publication::Soon => self.want(name.clone(), now + SOON),
            Publication::Nothing => {}
        }
        self.pauses.succeeded(&name);
        self.unsaid.remove(&name);
        None
    }

    /// Somebody changed or deleted the object of a data plane, of which this version is there now.
    pub fn changed_by_others(&mut self, name: &str, version: Option<&str>, now: Instant) {
        let told = version.map_or(u64::MAX, number);
        if let Some(newest) = self.busy.get_mut(name) {
            *newest = told.max(*newest);
            return;
        }
        // The watch tells of our own writes as well.
        let is_news = self.known.get(name).is_some_and(|known| told > number(&known.version));
        if !is_news {
            return;
        }
        self.known.remove(name);
        self.want(name.to_owned(), now);
    }

    /// What could not be published for so long that what was published before must not count.
    pub fn late(&self, now: Instant) -> Unsaid {
        let late = self.unsaid.iter().filter(|(_, since)| now.saturating_duration_since(**since) >= LATE);
        Unsaid::of(late.map(|(name, _)| name.clone()).collect())
    }
}

/// A version as API servers count them.
fn number(version: &str) -> u64 {
    version.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(version: &str) -> WrittenView {
        WrittenView { uid: "u".to_owned(), version: version.to_owned(), epoch: 1, digest: [0; 32] }
    }

    #[test]
    fn what_others_change_or_delete_is_written_again_and_our_own_writes_are_not() {
        let (mut queue, now) = (Queue::new(), Instant::now());
        queue.known.insert("eu".to_owned(), written("7"));
        for version in ["6", "7"] {
            queue.changed_by_others("eu", Some(version), now);
            assert_eq!(queue.next(now), None, "{version} is ours");
        }
        queue.changed_by_others("another", Some("9"), now);
        assert_eq!(queue.next(now), None, "of which nothing was written here");
        queue.changed_by_others("eu", Some("8"), now);
        assert_eq!(queue.next(now).as_deref(), Some("eu"));
        queue.ended("eu".to_owned(), Publication::Is(written("9")), now);
        queue.changed_by_others("eu", None, now);
        assert_eq!(queue.next(now).as_deref(), Some("eu"));
        // What the watch tells during a write may be of that write, or of another after it.
        queue.changed_by_others("eu", Some("10"), now);
        queue.ended("eu".to_owned(), Publication::Is(written("10")), now);
        assert_eq!(queue.next(now), None, "ours");
        queue.want("eu".to_owned(), now);
        queue.next(now);
        queue.changed_by_others("eu", Some("12"), now);
        queue.ended("eu".to_owned(), Publication::Is(written("11")), now);
        assert_eq!(queue.next(now).as_deref(), Some("eu"), "somebody's");
    }

    #[test]
    fn of_what_could_not_be_written_for_long_the_lease_says_so_until_it_is_written() {
        let (mut queue, now) = (Queue::new(), Instant::now());
        let after = |seconds| now + Duration::from_secs(seconds);
        queue.want("eu".to_owned(), now);
        queue.want("us".to_owned(), now);
        let (first, second) = (queue.next(now).unwrap(), queue.next(now).unwrap());
        assert_eq!(queue.next(now), None, "each is under way");
        queue.ended(second, Publication::Is(written("1")), now);
        let why = queue.ended(first, Publication::Again("forbidden".to_owned()), after(1));
        assert_eq!(why.as_deref(), Some("forbidden"));
        assert_eq!(
            (queue.late(after(9)), queue.late(after(10))),
            (Unsaid::Nothing, Unsaid::of(["eu".to_owned()].into()))
        );
        // One that hangs is under way and late all the same; that more is new of it does not write it twice at a time.
        assert_eq!(queue.next(after(10)).as_deref(), Some("eu"));
        queue.want("eu".to_owned(), after(10));
        assert_eq!((queue.next(after(10)), queue.wakes()), (None, None));
        assert!(queue.late(after(11)).covers("eu"));
        queue.ended("eu".to_owned(), Publication::Is(written("2")), after(12));
        assert_eq!(queue.late(after(30)), Unsaid::Nothing);
        assert_eq!(queue.next(after(12)).as_deref(), Some("eu"), "what came meanwhile");
    }
}
