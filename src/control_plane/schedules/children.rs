//! The runs of all schedules, kept by one watch per kind, so that a slot costs no listing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Mutex, MutexGuard},
};

use kube::runtime::watcher::Event;

use super::runs::{Run, RunKind};
use crate::runtime::sync::lock;

/// Kind and name of a run.
type RunKey = (RunKind, String);

#[derive(Default)]
struct Inner {
    /// By the schedule's uid.
    runs: HashMap<String, BTreeMap<RunKey, Run>>,
    owners: HashMap<RunKey, String>,
    /// What a listing that goes on has brought so far.
    listing: HashMap<RunKind, HashSet<RunKey>>,
    listed: BTreeSet<RunKind>,
}

/// The runs. Its lock is held for no longer than a look.
#[derive(Default)]
pub struct Children(Mutex<Inner>);

/// Whom a change is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wake {
    Nobody,
    /// The schedule of that name.
    One(String),
    All,
}

impl Children {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.0)
    }

    /// Whether all runs of `kind` have been listed: before, nothing is known to be absent.
    pub fn is_listed(&self, kind: RunKind) -> bool {
        self.inner().listed.contains(&kind)
    }

    /// The runs of the schedule with that uid.
    pub fn of(&self, uid: &str) -> Vec<Run> {
        self.inner().runs.get(uid).map(|runs| runs.values().cloned().collect()).unwrap_or_default()
    }

    /// Every run, for those whose schedule is gone.
    pub fn held(&self) -> Vec<Run> {
        self.inner().runs.values().flat_map(BTreeMap::values).filter(|run| run.is_held()).cloned().collect()
    }

    /// `run` as the API server has it now.
    pub fn put(&self, run: Run) {
        self.inner().put(run);
    }

    /// The run of that kind and name is gone.
    pub fn remove(&self, run: &Run) {
        let mut inner = self.inner();
        let place = (run.kind, run.name.clone());
        if inner.there(&place).is_some_and(|there| there.uid == run.uid) {
            inner.take(&place);
        }
    }

    /// Takes in what the watch of `kind` says; `id` are an object's name and uid, and `read` makes a run of one, if a
    /// schedule owns it.
    pub fn note<K>(
        &self,
        kind: RunKind,
        event: Event<K>,
        id: impl Fn(&K) -> (String, String),
        read: impl Fn(&K) -> Option<Run>,
    ) -> Wake {
        let mut inner = self.inner();
        let about = |run: Option<Run>| run.map_or(Wake::Nobody, |run| Wake::One(run.schedule.0));
        match event {
            Event::Apply(object) => {
                let run = read(&object);
                run.clone().into_iter().for_each(|run| inner.put(run));
                about(run)
            }
            Event::Delete(object) => {
                let (name, uid) = id(&object);
                let place = (kind, name);
                // One that was made again under its name is another, and may be known already.
                let is_it = inner.there(&place).is_some_and(|there| there.uid == uid);
                about(is_it.then(|| inner.take(&place)).flatten())
            }
            Event::Init => {
                inner.listing.insert(kind, HashSet::new());
                Wake::Nobody
            }
            Event::InitApply(object) => {
                if let Some(run) = read(&object) {
                    inner.put(run);
                }
                Wake::Nobody
            }
            Event::InitDone => {
                let brought = inner.listing.remove(&kind).unwrap_or_default();
                let gone: Vec<RunKey> = inner
                    .owners
                    .keys()
                    .filter(|place| place.0 == kind && !brought.contains(place))
                    .cloned()
                    .collect();
                for place in gone {
                    inner.take(&place);
                }
                inner.listed.insert(kind);
                Wake::All
            }
        }
    }
}

impl Inner {
    /// The run of that name, whoever made it.
    fn there(&self, place: &RunKey) -> Option<&Run> {
        self.runs.get(self.owners.get(place)?)?.get(place)
    }

    /// A watch may show an older version than our own write brought, or an older object of that name.
    fn put(&mut self, run: Run) {
        let place = (run.kind, run.name.clone());
        // A listing that began before a write of ours does not know of it.
        self.listing.values_mut().for_each(|brought| _ = brought.insert(place.clone()));
        let version =
            |run: &Run| run.version.as_deref().and_then(|v| v.parse::<u64>().ok()).unwrap_or_default();
        if self.there(&place).is_some_and(|there| version(there) > version(&run)) {
            return;
        }
        self.take(&place);
        let owner = run.schedule.1.clone();
        self.owners.insert(place.clone(), owner.clone());
        self.runs.entry(owner).or_default().insert(place, run);
    }

    fn take(&mut self, place: &RunKey) -> Option<Run> {
        let owner = self.owners.remove(place)?;
        let runs = self.runs.get_mut(&owner)?;
        let run = runs.remove(place);
        if runs.is_empty() {
            self.runs.remove(&owner);
        }
        run
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::{super::runs::tests::run, *};

    fn at(slot: i64, version: &str) -> Run {
        run(slot, json!({"resourceVersion": version}))
    }

    fn note(children: &Children, event: Event<Run>) -> Wake {
        children.note(
            RunKind::Backup,
            event,
            |run| (run.name.clone(), run.uid.clone()),
            |run| Some(run.clone()),
        )
    }

    fn versions(children: &Children) -> Vec<String> {
        children.of("schedule-uid").into_iter().filter_map(|run| run.version).collect()
    }

    #[test]
    fn what_a_listing_does_not_bring_is_gone_unless_it_was_made_meanwhile() {
        let children = Children::default();
        note(&children, Event::Init);
        note(&children, Event::InitApply(at(1, "1")));
        assert!(!children.is_listed(RunKind::Backup));
        assert_eq!(note(&children, Event::InitDone), Wake::All);
        note(&children, Event::Init);
        children.put(at(2, "5"));
        note(&children, Event::InitDone);
        assert_eq!(versions(&children), ["5"]);
        assert!(children.is_listed(RunKind::Backup) && !children.is_listed(RunKind::Task));
    }

    #[test]
    fn our_own_write_is_newer_than_what_the_watch_still_shows() {
        let children = Children::default();
        children.put(at(1, "10"));
        assert_eq!(note(&children, Event::Apply(at(1, "9"))), Wake::One("nightly".to_owned()));
        assert_eq!(versions(&children), ["10"]);
        note(&children, Event::Apply(at(1, "11")));
        assert_eq!(versions(&children), ["11"]);
        children.remove(&Run { uid: "another".to_owned(), ..at(1, "11") });
        assert_eq!(versions(&children), ["11"]);
        note(&children, Event::Delete(at(1, "12")));
        assert!(versions(&children).is_empty());
    }

    /// What happens to the runs of two names, and what is known of it here.
    #[derive(Clone, Debug)]
    enum Happens {
        /// One is made for a schedule of that uid, unless its name is taken; by us when that is said.
        Made { name: usize, schedule: usize, by_us: bool },
        /// It is written, by us when that is said.
        Written { name: usize, by_us: bool },
        /// It goes.
        Deleted(usize),
        /// The watch brings the next that happened.
        Brought,
        /// The watch lists all anew.
        Listed,
        /// The process starts anew.
        Restarted,
    }

    fn happens() -> impl Strategy<Value = Happens> {
        let (name, schedule) = (0..2_usize, 0..2_usize);
        prop_oneof![
            3 => (name.clone(), schedule, any::<bool>())
                .prop_map(|(name, schedule, by_us)| Happens::Made { name, schedule, by_us }),
            2 => (name.clone(), any::<bool>()).prop_map(|(name, by_us)| Happens::Written { name, by_us }),
            3 => name.prop_map(Happens::Deleted),
            6 => Just(Happens::Brought),
            1 => Just(Happens::Listed),
            1 => Just(Happens::Restarted),
        ]
    }

    fn of_version(name: usize, schedule: usize, uid: u64, version: u64) -> Run {
        let slot = i64::try_from(name).unwrap();
        let (uid, version) = (format!("uid-{uid}"), version.to_string());
        let made = at(slot, &version);
        Run { uid, schedule: ("nightly".to_owned(), format!("schedule-{schedule}")), ..made }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        /// Whatever was deleted and made again, and however far the watch is behind: what we wrote ourselves is known
        /// until it goes, and in the end what is known is what is there, each with the schedule that made it.
        #[test]
        fn runs_that_are_made_again_are_those_of_the_schedule_that_made_them(
            story in prop::collection::vec(happens(), 0..80)
        ) {
            let mut children = Children::default();
            let mut there: BTreeMap<usize, (usize, Run)> = BTreeMap::new();
            let mut ours: BTreeMap<usize, Run> = BTreeMap::new();
            let mut news: std::collections::VecDeque<Event<Run>> = std::collections::VecDeque::new();
            let mut now = 0_u64;
            let list = |children: &Children, there: &BTreeMap<usize, (usize, Run)>| {
                note(children, Event::Init);
                for (_, run) in there.values() {
                    note(children, Event::InitApply(run.clone()));
                }
                note(children, Event::InitDone);
            };
            for step in story {
                now += 1;
                match step {
                    Happens::Made { name, schedule, by_us } => {
                        if there.contains_key(&name) {
                            continue;
                        }
                        let run = of_version(name, schedule, now, now);
                        there.insert(name, (schedule, run.clone()));
                        news.push_back(Event::Apply(run.clone()));
                        if by_us {
                            children.put(run.clone());
                            ours.insert(name, run);
                        }
                    }
                    Happens::Written { name, by_us } => if let Some((_, run)) = there.get_mut(&name) {
                        run.version = Some(now.to_string());
                        news.push_back(Event::Apply(run.clone()));
                        if by_us {
                            children.put(run.clone());
                            ours.insert(name, run.clone());
                        }
                    },
                    Happens::Deleted(name) => if let Some((_, run)) = there.remove(&name) {
                        ours.remove(&name);
                        news.push_back(Event::Delete(Run { version: Some(now.to_string()), ..run }));
                    },
                    Happens::Brought => if let Some(event) = news.pop_front() {
                        note(&children, event);
                    },
                    Happens::Listed => {
                        news.clear();
                        list(&children, &there);
                    }
                    Happens::Restarted => {
                        (children, ours) = (Children::default(), BTreeMap::new());
                        news.clear();
                        list(&children, &there);
                    }
                }
                for run in ours.values() {
                    let known = children.of(&run.schedule.1);
                    prop_assert!(known.iter().any(|known| known.uid == run.uid), "{run:?} in {known:?}");
                }
            }
            while let Some(event) = news.pop_front() {
                note(&children, event);
            }
            for schedule in 0..2 {
                let mut known = children.of(&format!("schedule-{schedule}"));
                let mut expected: Vec<Run> = there
                    .values()
                    .filter(|(of, _)| *of == schedule)
                    .map(|(_, run)| run.clone())
                    .collect();
                known.sort_by(|a, b| a.name.cmp(&b.name));
                expected.sort_by(|a, b| a.name.cmp(&b.name));
                prop_assert_eq!(known, expected);
            }
        }
    }
}
