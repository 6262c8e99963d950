//! The object a run makes for one datacenter: its name, its labels, its owner, how far it is. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::{Resource, ResourceExt, core::ObjectMeta};
use serde::Serialize;

use crate::{
    api::{
        cassandra::CassandraDatacenter,
        fleet::DatacenterRun,
        labels,
        medusa::{MedusaBackupJob, MedusaRestoreJob, MedusaTask, MedusaTaskSpec, TaskOperation},
        names,
    },
    control_plane::{
        data_planes::{
            fleet::Snapshot,
            section::Section,
            view::{ObjectKey, View},
        },
        identity::{Identity, uid_of},
    },
    runtime::follow::Followed,
};

/// A kind of object that is made in a data plane for a run.
pub trait Child: Followed + Serialize {
    /// The section of a view that holds this kind.
    fn section(view: &View) -> &Section<Self>;

    /// The same section, mutable.
    fn section_mut(view: &mut View) -> &mut Section<Self>;

    /// Name of the CassandraDatacenter it is about.
    fn datacenter(&self) -> &str;

    /// When the data plane began with it, by the data plane's clock.
    fn started(&self) -> Option<Time>;

    /// Whether the data plane has begun with it.
    fn is_started(&self) -> bool {
        self.started().is_some()
    }

    /// Whether the data plane is done with it.
    fn is_finished(&self) -> bool;

    /// Whether `self`, in the view under `key`, is all that tells of what the data plane's nodes hold because of it. A run that
    /// is deleted leaves it behind.
    fn is_only_trace(&self, _: &View, _: &ObjectKey) -> bool {
        false
    }

    /// Whether `self`, which was found under the name of `wanted`, is what we made or would have made.
    fn stands_for(&self, wanted: &Self) -> bool {
        self.meta().labels.as_ref().and_then(|l| l.get(labels::JOB_UID))
            == wanted.meta().labels.as_ref().and_then(|l| l.get(labels::JOB_UID))
    }
}

/// A kind's section of a view, and where its status says when it began and ended.
macro_rules! child {
    ($section:ident) => {
        fn section(view: &View) -> &Section<Self> {
            &view.$section
        }

        fn section_mut(view: &mut View) -> &mut Section<Self> {
            &mut view.$section
        }

        fn datacenter(&self) -> &str {
            &self.spec.cassandra_datacenter
        }

        fn started(&self) -> Option<Time> {
            self.status.as_ref()?.start_time.clone()
        }

        fn is_finished(&self) -> bool {
            self.status.as_ref().is_some_and(|status| status.finish_time.is_some())
        }
    };
}

impl Child for MedusaBackupJob {
    child!(jobs);

    // Nodes hold their parts also of a backup that failed, and a purge counts them.
    fn is_only_trace(&self, view: &View, key: &ObjectKey) -> bool {
        self.is_started() && view.backups.last(key).is_none()
    }
}

impl Child for MedusaRestoreJob {
    child!(restores);
}

impl Child for MedusaTask {
    child!(tasks);

    // A data plane makes the sync after a purge itself, with the purge's labels.
    fn stands_for(&self, wanted: &Self) -> bool {
        self.labels().get(labels::JOB_UID) == wanted.labels().get(labels::JOB_UID) && self.spec == wanted.spec
    }
}

/// An object in a data plane, in exactly the version that was seen: one that is changed, or begun with, in this moment
/// stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExactObject {
    pub data_plane: String,
    pub key: ObjectKey,
    pub uid: String,
    pub version: String,
}

impl ExactObject {
    /// `object` as `plane` shows it. `None` when it does not say which one it is, or in which version: an empty precondition
    /// would be none.
    #[must_use]
    pub fn of(plane: &Snapshot, object: &impl ResourceExt) -> Option<Self> {
        Some(Self {
            data_plane: plane.name.clone(),
            key: ObjectKey::of(object),
            uid: object.uid().filter(|uid| !uid.is_empty())?,
            version: object.resource_version().filter(|version| !version.is_empty())?,
        })
    }
}

/// Where the datacenter of an entry is in its data plane.
#[must_use]
pub fn place(entry: &DatacenterRun) -> ObjectKey {
    ObjectKey::new(&entry.namespace, &entry.datacenter)
}

/// Name of the child of `run` for attempt number `attempt`, from 1, at an entry.
#[must_use]
pub fn child_key(run: &impl Resource, entry: &DatacenterRun, attempt: usize) -> ObjectKey {
    let uid = uid_of(run).unwrap_or_default();
    let name = run.meta().name.as_deref().unwrap_or_default();
    ObjectKey::new(&entry.namespace, names::attempt(name, &entry.datacenter, uid, attempt))
}

/// Whether `child` was made for `run`, by us or as a follow-up with the same labels.
#[must_use]
pub fn is_of(child: &impl ResourceExt, run: &impl Resource) -> bool {
    uid_of(run).is_some_and(|uid| child.labels().get(labels::JOB_UID).is_some_and(|of| of == uid))
}

/// The MedusaTask that is made for `run` in one datacenter.
#[must_use]
pub fn task(
    run: &impl ResourceExt,
    key: ObjectKey,
    operation: TaskOperation,
    datacenter: &CassandraDatacenter,
    control_plane: &Identity,
) -> MedusaTask {
    MedusaTask {
        metadata: metadata(run, key, datacenter, control_plane),
        spec: MedusaTaskSpec {
            cassandra_datacenter: datacenter.name_any(),
            operation,
            backup_name: None,
            restore_key: None,
        },
        status: None,
    }
}

/// Metadata of the child of `run` for one datacenter.
#[must_use]
pub fn metadata(
    run: &impl ResourceExt,
    key: ObjectKey,
    datacenter: &CassandraDatacenter,
    control_plane: &Identity,
) -> ObjectMeta {
    let own = [
        (labels::JOB, names::label_value(&run.name_any())),
        (labels::JOB_UID, uid_of(run).unwrap_or_default().to_owned()),
    ];
    beside(datacenter, key, own, control_plane)
}

/// Metadata of an object that is made for a datacenter, with `own` labels: owned by the CassandraDatacenter beside it,
/// never by an object of another cluster, which the garbage collector there would not find (upstream: Backups).
#[must_use]
pub fn beside(
    datacenter: &CassandraDatacenter,
    key: ObjectKey,
    own: [(&str, String); 2],
    control_plane: &Identity,
) -> ObjectMeta {
    let own = own.map(|(label, value)| (label.to_owned(), value));
    let all = datacenter.datacenter_labels().into_iter().chain(own).chain([control_plane.label()]);
    ObjectMeta {
        name: Some(key.name),
        namespace: Some(key.namespace),
        labels: Some(all.filter(|(_, value)| !value.is_empty()).collect()),
        annotations: control_plane.mark().map(|mark| [mark].into()),
        owner_references: Some(vec![OwnerReference {
            api_version: CassandraDatacenter::api_version(&()).into_owned(),
            kind: CassandraDatacenter::kind(&()).into_owned(),
            name: datacenter.name_any(),
            uid: datacenter.uid().unwrap_or_default(),
            controller: None,
            block_owner_deletion: None,
        }]),
        ..ObjectMeta::default()
    }
}
