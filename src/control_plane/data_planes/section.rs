//! The objects of one kind in a data plane, and what may be concluded from them. Pure.
//!
//! What is not in a section is absent only where its watch shows everything there is, which nobody but
//! [`super::view::View`] can ask: [`Section::last_known`] has no way to say that something is not there.

use std::{
    collections::{BTreeMap, VecDeque, btree_map},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{trust::Trust, view::ObjectKey, weight::weight};
use crate::api::Seen;

/// How many are kept of those that went: more than go while the answer to one write is on its way.
const GONE: usize = 256;
/// Longest namespace and name together that Kubernetes allows. Nothing of ours has a longer one, and what a data plane makes
/// up is not kept: it would weigh as much as it likes.
const LONGEST_KEY: usize = 63 + 253;

/// How long what another process watched may lack what we wrote ourselves.
const LAG: SignedDuration = SignedDuration::from_secs(60);

/// All objects of one kind in a data plane, as far as its watch has delivered them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Section<T> {
    /// Shared with the snapshots: who changes a data plane's jobs does not copy its backups for that.
    items: Arc<BTreeMap<ObjectKey, Arc<T>>>,
    unreadable: BTreeMap<ObjectKey, String>,
    #[serde(skip)]
    weight: usize,
    /// What its watch saw go last, with the version it went at.
    gone: VecDeque<(ObjectKey, u64)>,
    /// What writes of ours made last, of which version and when.
    #[serde(skip)]
    written: VecDeque<(ObjectKey, u64, Timestamp)>,
    /// How far its watch can be trusted.
    pub trust: Trust,
}

impl<T> Default for Section<T> {
    fn default() -> Self {
        Self {
            items: Arc::default(),
            unreadable: BTreeMap::new(),
            weight: 0,
            gone: VecDeque::new(),
            written: VecDeque::new(),
            trust: Trust::default(),
        }
    }
}

/// What a whole listing says.
#[derive(Debug, PartialEq, Eq)]
pub enum Listing<'a, T> {
    /// These are there, and no others that can be read.
    Known(&'a BTreeMap<ObjectKey, Arc<T>>),
    /// Nobody knows what is there.
    Unknown {
        /// Since when, when that is known.
        since: Option<Timestamp>,
        why: String,
    },
}

impl<'a, T> Listing<'a, T> {
    /// The objects, when they are known to be all.
    #[must_use]
    pub fn known(self) -> Option<&'a BTreeMap<ObjectKey, Arc<T>>> {
        match self {
            Self::Known(items) => Some(items),
            Self::Unknown { .. } => None,
        }
    }
}

/// What is there as far as anybody knows: for what counts while it is seen, and for showing. It says nothing of what it
/// does not hold.
#[derive(Debug)]
pub struct LastKnown<'a, T>(&'a BTreeMap<ObjectKey, Arc<T>>);

impl<T> Clone for LastKnown<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for LastKnown<'_, T> {}

impl<'a, T> LastKnown<'a, T> {
    pub fn iter(self) -> btree_map::Iter<'a, ObjectKey, Arc<T>> {
        self.0.iter()
    }

    pub fn keys(self) -> btree_map::Keys<'a, ObjectKey, Arc<T>> {
        self.0.keys()
    }

    pub fn values(self) -> btree_map::Values<'a, ObjectKey, Arc<T>> {
        self.0.values()
    }
}

impl<'a, T> IntoIterator for LastKnown<'a, T> {
    type Item = (&'a ObjectKey, &'a Arc<T>);
    type IntoIter = btree_map::Iter<'a, ObjectKey, Arc<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T> Section<T> {
    /// What is there as far as anybody knows.
    #[must_use]
    pub fn last_known(&self) -> LastKnown<'_, T> {
        LastKnown(&self.items)
    }

    /// An object as it was last seen. Without one nothing is known: only [`super::view::View::seen`] tells absence.
    #[must_use]
    pub fn last(&self, key: &ObjectKey) -> Option<&Arc<T>> {
        self.items.get(key)
    }

    /// Objects that are there and cannot be read, each with why.
    #[must_use]
    pub fn unreadable(&self) -> &BTreeMap<ObjectKey, String> {
        &self.unreadable
    }

    /// About how many bytes of memory its objects take, readable or not.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// What a listing is known to hold, as far as the watch is concerned.
    pub(super) fn listing(&self) -> Listing<'_, T> {
        match self.trust.doubt() {
            None => Listing::Known(&self.items),
            Some((since, why)) => Listing::Unknown { since, why },
        }
    }

    /// Looks an object up, as far as the watch is concerned.
    pub(super) fn seen(&self, key: &ObjectKey) -> Seen<&Arc<T>> {
        let items = match self.listing() {
            Listing::Known(items) => items,
            Listing::Unknown { since, why } => return Seen::Unknown { since, why },
        };
        match (items.get(key), self.unreadable.get(key)) {
            (_, Some(why)) => Seen::Unknown { since: None, why: why.clone() },
            (Some(object), None) => Seen::Known(object),
            (None, None) => Seen::Absent,
        }
    }

    /// The objects, for tests to change.
    #[cfg(test)]
    pub(crate) fn items_mut(&mut self) -> &mut BTreeMap<ObjectKey, Arc<T>> {
        Arc::make_mut(&mut self.items)
    }
}

/// A section of whatever kind.
pub trait AnySection {
    /// Whether it shows what only writes of ours said, until another process has seen it.
    fn runs_ahead(&self) -> bool;

    /// How far its watch can be trusted.
    fn trust(&self) -> &Trust;

    fn trust_mut(&mut self) -> &mut Trust;

    /// Objects that are there and cannot be read, with why.
    fn unreadable(&self) -> &BTreeMap<ObjectKey, String>;

    /// About how many bytes of memory its objects take.
    fn weight(&self) -> usize;

    /// Forgets all objects.
    fn clear(&mut self);
}

impl<T: Serialize> AnySection for Section<T> {
    fn runs_ahead(&self) -> bool {
        !self.written.is_empty()
    }

    fn trust(&self) -> &Trust {
        &self.trust
    }

    fn trust_mut(&mut self) -> &mut Trust {
        &mut self.trust
    }

    fn unreadable(&self) -> &BTreeMap<ObjectKey, String> {
        self.unreadable()
    }

    fn weight(&self) -> usize {
        self.weight()
    }

    fn clear(&mut self) {
        self.clear();
    }
}

impl<T: Serialize> Section<T> {
    /// A listing is complete.
    pub fn fill(&mut self, items: BTreeMap<ObjectKey, Arc<T>>, unreadable: BTreeMap<ObjectKey, String>) {
        let read = items.values().map(|object| weight(object.as_ref()));
        self.weight = read.chain(unreadable.values().map(weight)).sum();
        (self.items, self.unreadable) = (Arc::new(items), unreadable);
        self.trust.follow();
    }

    /// Puts in an object that is there; returns what was kept of it before.
    pub fn put(&mut self, key: ObjectKey, object: Arc<T>) -> Option<Arc<T>> {
        let before = self.remove(&key);
        self.weight += weight(object.as_ref());
        Arc::make_mut(&mut self.items).insert(key, object);
        before
    }

    /// Notes an object that is there and cannot be read; returns what was kept of it before.
    pub fn blur(&mut self, key: ObjectKey, why: String) -> Option<Arc<T>> {
        let before = self.remove(&key);
        self.weight += weight(&why);
        self.unreadable.insert(key, why);
        before
    }

    /// Takes an object out; returns what was kept of it.
    pub fn remove(&mut self, key: &ObjectKey) -> Option<Arc<T>> {
        let why = self.unreadable.remove(key);
        self.written.retain(|(written, ..)| written != key);
        // What is not there is no reason to copy the others.
        let is_there = self.items.contains_key(key);
        let before = is_there.then(|| Arc::make_mut(&mut self.items).remove(key)).flatten();
        let gone = why.as_ref().map_or(0, weight) + before.as_deref().map_or(0, weight);
        self.weight = self.weight.saturating_sub(gone);
        before
    }

    /// The watch saw an object go, at this version; returns what was kept of it.
    pub fn went(&mut self, key: &ObjectKey, version: &str) -> Option<Arc<T>> {
        let is_sane = key.namespace.len() + key.name.len() <= LONGEST_KEY;
        self.gone.extend(version.parse().ok().filter(|_| is_sane).map(|version| (key.clone(), version)));
        if self.gone.len() > GONE {
            self.gone.pop_front();
        }
        self.remove(key)
    }

    /// Puts what a write of ours made at `now`, of this version, unless the watch has seen that go already: it will not say
    /// so again.
    pub fn show(&mut self, key: ObjectKey, version: u64, object: Arc<T>, now: Timestamp) {
        if !self.saw_go(&key, version) {
            self.written.retain(|(_, _, at)| now.duration_since(*at) < LAG);
            self.put(key.clone(), object);
            self.written.push_back((key, version, now));
        }
    }

    fn saw_go(&self, key: &ObjectKey, version: u64) -> bool {
        self.gone.iter().any(|(gone, at)| gone == key && *at >= version)
    }

    /// Takes the place of what is known by what another process knew when it watched, which may be of before a write of ours
    /// was made; returns what was known. `version` reads the version of an object.
    pub fn succeed(&mut self, mut by: Self, version: impl Fn(&T) -> Option<u64>, now: Timestamp) -> Self {
        let read = by.items.values().map(|object| weight(object.as_ref()));
        by.weight = read.chain(by.unreadable.values().map(weight)).sum();
        for (key, written, at) in std::mem::take(&mut self.written) {
            let has_seen = by.items.get(&key).is_some_and(|known| version(known) >= Some(written))
                || by.unreadable.contains_key(&key)
                || by.saw_go(&key, written);
            if let Some(ours) = self.items.get(&key).filter(|_| !has_seen && now.duration_since(at) < LAG) {
                by.put(key.clone(), ours.clone());
                by.written.push_back((key, written, at));
            }
        }
        std::mem::replace(self, by)
    }

    pub fn clear(&mut self) {
        self.items = Arc::default();
        self.unreadable.clear();
        self.weight = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Timestamp = Timestamp::UNIX_EPOCH;

    fn key() -> ObjectKey {
        ObjectKey::new("ns", "a")
    }

    fn why(section: &Section<u8>, key: &ObjectKey) -> String {
        match section.seen(key) {
            Seen::Unknown { why, .. } => why,
            Seen::Known(_) | Seen::Absent => panic!("{key} is known"),
        }
    }

    #[test]
    fn what_the_watch_saw_go_does_not_come_back_by_the_answer_to_its_write() {
        let mut section = Section::<u8>::default();
        section.trust.follow();
        section.went(&key(), "12");
        section.show(key(), 11, Arc::new(1), NEVER);
        assert_eq!(section.seen(&key()), Seen::Absent);
        section.show(key(), 13, Arc::new(1), NEVER);
        assert_eq!(section.seen(&key()), Seen::Known(&Arc::new(1)), "that was made again");
        for number in 0..2 * GONE {
            section.went(&ObjectKey::new("ns", number.to_string()), "14");
        }
        assert_eq!(section.gone.len(), GONE);
        section.went(&ObjectKey::new("ns", "x".repeat(1 << 20)), "15");
        assert!(section.gone.iter().all(|(key, _)| key.name.len() <= 253), "made up names are not kept");
    }

    #[test]
    fn only_a_watch_that_shows_everything_tells_absence() {
        type Change = (&'static str, fn(&mut Trust));
        let mut section = Section::<u8>::default();
        section.trust.follow();
        assert_eq!(section.seen(&key()), Seen::Absent);
        let changes: [Change; 4] = [
            ("not listed", |trust| trust.begin()),
            ("denied", |trust| assert!(trust.refuse("denied"))),
            ("reset", |trust| assert!(trust.fail(NEVER, "reset"))),
            ("not served", |trust| assert!(trust.give_up("not served"))),
        ];
        for (expected, change) in changes {
            section.trust.follow();
            section.put(ObjectKey::new("ns", "b"), Arc::new(1));
            change(&mut section.trust);
            for name in ["a", "b"] {
                assert!(why(&section, &ObjectKey::new("ns", name)).contains(expected));
            }
            assert!(section.listing().known().is_none());
            assert_eq!(
                section.last_known().iter().count(),
                1,
                "{expected}: what was seen can still be shown"
            );
        }
    }

    #[test]
    fn what_cannot_be_read_is_there_and_makes_nothing_else_unknown() {
        let mut section = Section::<u8>::default();
        section.trust.follow();
        section.put(key(), Arc::new(1));
        assert_eq!(section.blur(key(), "field `spec`".to_owned()).as_deref(), Some(&1));
        assert!(why(&section, &key()).contains("field `spec`"));
        assert_eq!(section.seen(&ObjectKey::new("ns", "b")), Seen::Absent);
        section.put(key(), Arc::new(2));
        assert_eq!(section.seen(&key()), Seen::Known(&Arc::new(2)), "it was mended");
        section.blur(key(), "field `spec`".to_owned());
        section.remove(&key());
        assert_eq!(section.seen(&key()), Seen::Absent);
    }

    #[test]
    fn what_comes_and_goes_weighs_what_it_weighed() {
        let mut section = Section::<String>::default();
        let text = |length: usize| Arc::new("x".repeat(length));
        section.put(key(), text(10));
        let one = section.weight();
        section.put(key(), text(1000));
        assert_eq!(section.weight(), one + 990, "the earlier one is gone");
        section.blur(key(), "x".repeat(10));
        assert_eq!(section.weight(), one);
        section.remove(&key());
        assert_eq!(section.weight(), 0);
        section.fill([(key(), text(10))].into(), [(ObjectKey::new("ns", "b"), "x".repeat(10))].into());
        assert_eq!(section.weight(), 2 * one);
        section.clear();
        assert_eq!(section.weight(), 0);
    }
}
