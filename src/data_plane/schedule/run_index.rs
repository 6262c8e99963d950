//! What all schedules look at together: the datacenters, backup jobs and tasks of the cluster, kept by three
//! watches, so that a slot costs no listing.
//!
//! A run that is about to be created is put here first, under one lock with the look whether another goes on:
//! two schedules of one datacenter that are due together do not both find it free.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt::Debug,
    hash::Hash,
    sync::{Mutex, MutexGuard},
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Resource,
    api::ObjectMeta,
    runtime::watcher::{Error as WatchError, Event},
};

use super::{
    recipe::{self, Policy},
    runs::{ScheduleRun, ScheduledWork},
};
use crate::{
    api::{
        cassandra::{CassandraDatacenter, CassandraDatacenterSpec},
        names,
    },
    data_plane::frame::problem::Problem,
    runtime::sync::lock,
};

/// A namespace that is watched, or all of them.
pub type Scope = Option<String>;

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// CassandraDatacenters.
    Datacenters,
    /// MedusaBackupJobs.
    Jobs,
    /// MedusaTasks.
    Tasks,
}

/// Schedules that may have something to do because of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Nobody.
    Nobody,
    /// All of a namespace, or all there are.
    All(Scope),
    /// Those of a namespace that have these names, or whose label value is the last.
    Some(String, BTreeSet<String>, Option<String>),
}

/// Whether a run may be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It may, after these runs of the same schedule were deleted; it is in the index.
    Free(Vec<ScheduleRun>),
    /// Another goes on; the schedule is woken when one ends. One without a uid is only just being created,
    /// and may come to nothing.
    Busy(Box<ScheduleRun>),
}

/// Namespace, source, and name of something in the index.
type IndexKey = (String, Source, String);
/// Runs of one sort on one datacenter: namespace, datacenter, what they do.
type Lane = (String, String, ScheduledWork);

#[derive(Default)]
struct Inner {
    datacenters: BTreeMap<IndexKey, CassandraDatacenter>,
    runs: HashMap<IndexKey, ScheduleRun>,
    /// What a listing that goes on has brought so far.
    listing: HashMap<(Scope, Source), HashSet<IndexKey>>,
    listed: HashSet<(Scope, Source)>,
    /// Schedules that wait for a run to end.
    waiting: HashMap<Lane, BTreeSet<String>>,
}

/// The index. Its lock is held for no longer than a look.
#[derive(Default)]
pub struct RunIndex(Mutex<Inner>);

impl RunIndex {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.0)
    }

    /// Whether everything in `namespace` has been listed: before, nothing is known to be absent.
    pub fn is_listed(&self, namespace: &str) -> bool {
        let inner = self.inner();
        [None, Some(namespace.to_owned())].iter().any(|scope| {
            [Source::Datacenters, Source::Jobs, Source::Tasks]
                .iter()
                .all(|source| inner.listed.contains(&(scope.clone(), *source)))
        })
    }

    /// The datacenter that `name` means to a schedule in `namespace` with those owners: see
    /// [`recipe::datacenter`].
    pub fn datacenter(
        &self,
        name: &str,
        namespace: &str,
        owners: &[OwnerReference],
    ) -> Result<CassandraDatacenter, Problem> {
        let inner = self.inner();
        let here = inner.datacenters.iter().filter(|((ns, ..), _)| ns == namespace);
        let here: Vec<&CassandraDatacenter> = here.map(|(_, datacenter)| datacenter).collect();
        recipe::datacenter(name, namespace, owners, &here).cloned()
    }

    /// The runs that bear the label of `schedule`.
    pub fn runs_of(&self, namespace: &str, schedule: &str) -> Vec<ScheduleRun> {
        let inner = self.inner();
        let label = names::label_value(schedule);
        let is_meant =
            |run: &&ScheduleRun| run.schedule.as_ref() == Some(&label) && run.namespace == namespace;
        inner.runs.values().filter(is_meant).cloned().collect()
    }

    /// Puts `run`, which is to be created for a slot of `schedule`, in the index, if `policy` lets it.
    pub fn claim(&self, run: &ScheduleRun, schedule: &str, policy: Policy) -> Claim {
        let mut inner = self.inner();
        let mut others: Vec<ScheduleRun> = inner
            .runs
            .values()
            .filter(|other| {
                (&other.namespace, &other.datacenter, other.work)
                    == (&run.namespace, &run.datacenter, run.work)
                    && other.name != run.name
                    && other.is_active()
            })
            .cloned()
            .collect();
        match policy {
            Policy::Allow => others.clear(),
            Policy::Replace => others.retain(|other| other.is_of(schedule)),
            Policy::Forbid => {
                if let Some(oldest) =
                    others.into_iter().min_by_key(|other| (other.created, other.name.clone()))
                {
                    inner.waiting.entry(lane(run)).or_default().insert(schedule.to_owned());
                    return Claim::Busy(Box::new(oldest));
                }
                others = Vec::new();
            }
        }
        inner.runs.entry(place(run)).or_insert_with(|| run.clone());
        Claim::Free(others)
    }

    /// `run` as the API server has it now.
    pub fn settle(&self, run: ScheduleRun) {
        let mut inner = self.inner();
        let place = place(&run);
        // A listing that began before this write does not know of it.
        inner.listing.values_mut().for_each(|brought| _ = brought.insert(place.clone()));
        inner.runs.insert(place, run);
    }

    /// Takes a claimed run whose creation failed out of the index again.
    pub fn release(&self, run: &ScheduleRun) {
        let mut inner = self.inner();
        let place = place(run);
        if inner.runs.get(&place).is_some_and(|there| there.uid.is_empty()) {
            inner.runs.remove(&place);
        }
    }

    /// Takes in what a watch of runs says; `read` makes a run of an object that can be read.
    pub fn note_run<K>(
        &self,
        scope: &Scope,
        source: Source,
        event: Result<Event<K>, WatchError>,
        read: impl Fn(&K) -> Option<ScheduleRun>,
    ) -> Wake
    where
        K: Resource<DynamicType = ()>,
    {
        let mut inner = self.inner();
        match event {
            // One that cannot be read is still there: what is known of it stays.
            Ok(Event::Apply(object)) => read(&object).map_or(Wake::Nobody, |run| inner.put_run(run)),
            Ok(Event::Delete(object)) => {
                let (meta, made) = (object.meta(), object.meta().creation_timestamp.as_ref());
                inner.drop_run(
                    &of_meta(meta, source),
                    meta.uid.as_deref().unwrap_or_default(),
                    made.map(|at| at.0),
                )
            }
            Ok(Event::Init) => inner.begin(scope, source),
            Ok(Event::InitApply(object)) => {
                inner.bring(scope, source, of_meta(object.meta(), source));
                read(&object).map_or(Wake::Nobody, |run| inner.put_run(run))
            }
            Ok(Event::InitDone) => inner.end(scope, source),
            Err(error) => inner.failed(scope, source, &error),
        }
    }

    /// Takes in what a watch of datacenters says.
    pub fn note_datacenter<K>(
        &self,
        scope: &Scope,
        event: Result<Event<K>, WatchError>,
        read: impl Fn(&K) -> Option<CassandraDatacenter>,
    ) -> Wake
    where
        K: Resource<DynamicType = ()>,
    {
        let source = Source::Datacenters;
        let mut inner = self.inner();
        match event {
            Ok(Event::Apply(object)) => read(&object).map_or(Wake::Nobody, |datacenter| {
                inner.put_datacenter(of_meta(object.meta(), source), Some(datacenter))
            }),
            Ok(Event::Delete(object)) => inner.put_datacenter(of_meta(object.meta(), source), None),
            Ok(Event::Init) => inner.begin(scope, source),
            Ok(Event::InitApply(object)) => {
                let place = of_meta(object.meta(), source);
                inner.bring(scope, source, place.clone());
                read(&object).map_or(Wake::Nobody, |dc| inner.put_datacenter(place, Some(dc)))
            }
            Ok(Event::InitDone) => inner.end(scope, source),
            Err(error) => inner.failed(scope, source, &error),
        }
    }
}

impl Inner {
    fn put_run(&mut self, run: ScheduleRun) -> Wake {
        let is_former = |there: &ScheduleRun| {
            is_former(&run.uid, run.created, there) || (run.is_deleted && is_other(&run.uid, there))
        };
        if self.runs.get(&place(&run)).is_some_and(is_former) {
            return Wake::Nobody;
        }
        let wake = if run.is_active() { Wake::Nobody } else { self.ended(&run) };
        self.runs.insert(place(&run), run);
        wake
    }

    /// One that is in the index for a name that was another's, made or only claimed, stays.
    fn drop_run(&mut self, place: &IndexKey, uid: &str, created: Option<Timestamp>) -> Wake {
        let stays = |there: &ScheduleRun| is_other(uid, there) || is_former(uid, created, there);
        if self.runs.get(place).is_some_and(stays) {
            return Wake::Nobody;
        }
        self.runs.remove(place).map_or(Wake::Nobody, |run| self.ended(&run))
    }

    /// Who waits for the end of `run`, or has more of its like than it keeps.
    fn ended(&mut self, run: &ScheduleRun) -> Wake {
        let waiting = self.waiting.remove(&lane(run)).unwrap_or_default();
        if waiting.is_empty() && run.schedule.is_none() {
            return Wake::Nobody;
        }
        Wake::Some(run.namespace.clone(), waiting, run.schedule.clone())
    }

    /// Only what schedules look at counts as a change.
    fn put_datacenter(&mut self, place: IndexKey, new: Option<CassandraDatacenter>) -> Wake {
        let new = new.map(|datacenter| trim(&datacenter));
        let namespace = place.0.clone();
        let old = match new.clone() {
            Some(datacenter) => self.datacenters.insert(place, datacenter),
            None => self.datacenters.remove(&place),
        };
        if old == new { Wake::Nobody } else { Wake::All(Some(namespace)) }
    }

    fn begin(&mut self, scope: &Scope, source: Source) -> Wake {
        self.listing.insert((scope.clone(), source), HashSet::new());
        Wake::Nobody
    }

    fn bring(&mut self, scope: &Scope, source: Source, place: IndexKey) {
        self.listing.entry((scope.clone(), source)).or_default().insert(place);
    }

    /// What the listing did not bring is gone.
    fn end(&mut self, scope: &Scope, source: Source) -> Wake {
        let key = (scope.clone(), source);
        let brought = self.listing.remove(&key).unwrap_or_default();
        let stays = |place: &IndexKey| {
            place.1 != source || scope.as_ref().is_some_and(|ns| *ns != place.0) || brought.contains(place)
        };
        self.datacenters.retain(|place, _| stays(place));
        // A run that is just being created has no uid yet.
        self.runs.retain(|place, run| run.uid.is_empty() || stays(place));
        self.listed.insert(key);
        self.waiting.clear();
        Wake::All(scope.clone())
    }

    /// A definition that is not served has no objects. Any other failure says nothing.
    fn failed(&mut self, scope: &Scope, source: Source, error: &WatchError) -> Wake {
        match error {
            WatchError::InitialListFailed(kube::Error::Api(status))
                if status.is_not_found() && self.listed.insert((scope.clone(), source)) =>
            {
                Wake::All(scope.clone())
            }
            WatchError::InitialListFailed(_)
            | WatchError::WatchStartFailed(_)
            | WatchError::WatchError(_)
            | WatchError::WatchFailed(_)
            | WatchError::NoResourceVersion => {
                tracing::warn!(?scope, ?source, %error, "a watch that schedules rely on failed; it is begun again");
                Wake::Nobody
            }
        }
    }
}

/// Whether `there` is known to be another object than the one of that uid.
fn is_other(uid: &str, there: &ScheduleRun) -> bool {
    !there.uid.is_empty() && there.uid != uid
}

/// Whether one with that uid, made then, had its name before `there`, of which we know by our own claim or write: the
/// watch is behind.
fn is_former(uid: &str, created: Option<Timestamp>, there: &ScheduleRun) -> bool {
    there.uid != uid && created.zip(there.created).is_some_and(|(created, claimed)| created < claimed)
}

fn place(run: &ScheduleRun) -> IndexKey {
    let source = match run.work {
        ScheduledWork::Backup => Source::Jobs,
        ScheduledWork::Purge | ScheduledWork::Other => Source::Tasks,
    };
    (run.namespace.clone(), source, run.name.clone())
}

fn lane(run: &ScheduleRun) -> Lane {
    (run.namespace.clone(), run.datacenter.clone(), run.work)
}

fn of_meta(meta: &ObjectMeta, source: Source) -> IndexKey {
    (meta.namespace.clone().unwrap_or_default(), source, meta.name.clone().unwrap_or_default())
}

/// What schedules need of a datacenter.
fn trim(datacenter: &CassandraDatacenter) -> CassandraDatacenter {
    CassandraDatacenter {
        metadata: ObjectMeta {
            name: datacenter.metadata.name.clone(),
            namespace: datacenter.metadata.namespace.clone(),
            uid: datacenter.metadata.uid.clone(),
            ..ObjectMeta::default()
        },
        spec: CassandraDatacenterSpec {
            cluster_name: datacenter.spec.cluster_name.clone(),
            datacenter_name: datacenter.spec.datacenter_name.clone(),
            ..CassandraDatacenterSpec::default()
        },
        status: None,
    }
}

#[cfg(test)]
mod tests;
