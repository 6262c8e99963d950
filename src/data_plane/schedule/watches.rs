//! The watches behind the index, and whom their changes wake.
//!
//! Streams of their own, as an error in one of a controller's own triggers slows all of them down, and a
//! cluster may lack a definition.

use std::{collections::BTreeSet, sync::Arc};

use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use kube::{
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt as _,
        reflector::{ObjectRef, Store},
        watcher,
    },
};

use super::{
    Schedule,
    run_index::{RunIndex, Scope, Source, Wake},
    runs::ScheduleRun,
};
use crate::{
    api::{
        cassandra::CassandraDatacenter,
        medusa::{MedusaBackupJob, MedusaTask},
        names,
    },
    data_plane::frame::{
        context::{Guarded, Tools},
        controllers::{Triggers, scoped},
        objects,
    },
    runtime::follow::Followed,
};

/// Keeps the index, and wakes those whom a change concerns.
pub fn changes(
    tools: &Tools,
    run_index: &Arc<RunIndex>,
    scope: &Scope,
    schedules: Store<Guarded<Schedule>>,
) -> Triggers<Schedule> {
    let datacenters = watch::<CassandraDatacenter>(tools, scope, {
        let (run_index, scope) = (Arc::clone(run_index), scope.clone());
        move |event| run_index.note_datacenter(&scope, event, |guarded| guarded.0.as_ref().ok().cloned())
    });
    let jobs = watch::<MedusaBackupJob>(tools, scope, {
        let (run_index, scope) = (Arc::clone(run_index), scope.clone());
        move |event| {
            run_index
                .note_run(&scope, Source::Jobs, event, |job| job.0.as_ref().ok().map(ScheduleRun::of_job))
        }
    });
    let tasks = watch::<MedusaTask>(tools, scope, {
        let (run_index, scope) = (Arc::clone(run_index), scope.clone());
        move |event| {
            run_index
                .note_run(&scope, Source::Tasks, event, |task| task.0.as_ref().ok().map(ScheduleRun::of_task))
        }
    });
    stream::select_all([datacenters, jobs, tasks])
        .flat_map(move |wake| stream::iter(concerned(&wake, &schedules)))
        .boxed()
}

/// One watch, made into whom its events concern.
fn watch<K: Followed>(
    tools: &Tools,
    scope: &Scope,
    note: impl FnMut(Result<watcher::Event<DeserializeGuard<K>>, watcher::Error>) -> Wake + Send + 'static,
) -> BoxStream<'static, Wake> {
    let api = scoped::<DeserializeGuard<K>>(&tools.client, scope.as_deref());
    watcher(api, watcher::Config::default()).default_backoff().map(note).boxed()
}

/// The schedules in the store that `wake` means.
fn concerned(wake: &Wake, schedules: &Store<Guarded<Schedule>>) -> Vec<ObjectRef<Guarded<Schedule>>> {
    let of = |namespace: &str, named: &BTreeSet<String>, label: Option<&String>| {
        let is_meant = |ns: &str, name: &str| {
            ns == namespace
                && (named.contains(name) || label.is_some_and(|label| *label == names::label_value(name)))
        };
        let all = schedules.state();
        let meant =
            all.iter().filter(|s| is_meant(objects::namespace(s.as_ref()), objects::name(s.as_ref())));
        meant.map(|s| ObjectRef::from_obj(s.as_ref())).collect()
    };
    match wake {
        Wake::Nobody => Vec::new(),
        Wake::Some(namespace, named, label) => of(namespace, named, label.as_ref()),
        Wake::All(scope) => {
            let all = schedules.state();
            let here = all
                .iter()
                .filter(|s| scope.as_ref().is_none_or(|scope| scope == objects::namespace(s.as_ref())));
            here.map(|s| ObjectRef::from_obj(s.as_ref())).collect()
        }
    }
}
