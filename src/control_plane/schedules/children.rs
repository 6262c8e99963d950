//! The runs of all schedules, kept by one watch per kind, so that a slot costs no listing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use kube::runtime::watcher::Event;

use super::runs::{Run, RunKind};

/// Kind and name of a run.
type Place = (RunKind, String);

#[derive(Default)]
struct Inner {
    /// By the schedule's uid.
    runs: HashMap<String, BTreeMap<Place, Run>>,
    owners: HashMap<Place, String>,
    /// What a listing that goes on has brought so far.
    listing: HashMap<RunKind, HashSet<Place>>,
    listed: BTreeSet<RunKind>,
}

/// The runs. Its lock is held for no longer than a look.
#[derive(Default)]
pub struct Children(Mutex<Inner>);

/// Whom a change is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Nobody.
    Nobody,
    /// The schedule of that name.
    One(String),
    /// All.
    All,
}

impl Children {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let is_same = |there: &Run| there.uid == run.uid;
        if inner.runs.get(&run.schedule.1).and_then(|runs| runs.get(&place)).is_some_and(is_same) {
            inner.take(&place);
        }
    }

    /// Takes in what the watch of `kind` says; `read` makes a run of an object, if a schedule owns it.
    pub fn note<K>(
        &self,
        kind: RunKind,
        event: Event<K>,
        name: impl Fn(&K) -> String,
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
            Event::Delete(object) => about(inner.take(&(kind, name(&object)))),
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
                let gone: Vec<Place> = inner
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
    /// A watch may show an older version than our own write brought.
    fn put(&mut self, run: Run) {
        let place = (run.kind, run.name.clone());
        // A listing that began before a write of ours does not know of it.
        self.listing.values_mut().for_each(|brought| _ = brought.insert(place.clone()));
        let version =
            |run: &Run| run.version.as_deref().and_then(|v| v.parse::<u64>().ok()).unwrap_or_default();
        let owner = run.schedule.1.clone();
        if self.owners.insert(place.clone(), owner.clone()).is_some_and(|before| before != owner) {
            self.runs.values_mut().for_each(|runs| _ = runs.remove(&place));
        }
        let runs = self.runs.entry(owner).or_default();
        if runs.get(&place).is_none_or(|there| version(there) <= version(&run)) {
            runs.insert(place, run);
        }
    }

    fn take(&mut self, place: &Place) -> Option<Run> {
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
    use serde_json::json;

    use super::{super::runs::tests::run, *};

    fn at(slot: i64, version: &str) -> Run {
        run(slot, json!({"resourceVersion": version}))
    }

    fn note(children: &Children, event: Event<Run>) -> Wake {
        children.note(RunKind::Backup, event, |run| run.name.clone(), |run| Some(run.clone()))
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
}
