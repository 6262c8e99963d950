//! What is known about one data plane: the objects its watches delivered, and whether they can be
//! trusted. Pure: the registry writes it, everything else reads snapshots.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use jiff::Timestamp;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use super::{
    capabilities::Capabilities,
    records::RunRecord,
    section::{AnySection, Listing, Section},
    trust::Trust,
    watched::{self, Kind, Wanted, Watched, watched_kinds},
};
use crate::api::{Seen, labels, medusa::ScheduledOperation};

/// Namespace and name of an object in some cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ObjectKey {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ObjectKey {
    /// The key of `namespace`/`name`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object.
    pub fn of(object: &impl ResourceExt) -> Self {
        Self::new(object.namespace().unwrap_or_default(), object.name_any())
    }

    /// Reads `namespace/name`, as it is displayed.
    pub fn read(text: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('/')?;
        Some(Self::new(namespace, name))
    }
}

impl From<ObjectKey> for String {
    fn from(key: ObjectKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for ObjectKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::read(&text).ok_or_else(|| format!("`{text}` is no namespace and name"))
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Whether a data plane answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Contact {
    /// It was not asked yet.
    NotTried,
    /// It has not answered since this process started.
    Never {
        /// Why not, for people.
        why: String,
    },
    /// It answers.
    Live,
    /// It answered before and does not now.
    Lost {
        /// Since when.
        since: Timestamp,
        /// Why, for people.
        why: String,
    },
}

macro_rules! view {
    ($($(#[$doc:meta])* $section:ident: $kind:ident,)*) => {
        /// Everything known about one data plane.
        #[derive(Clone, Debug)]
        pub struct View {
            /// Whether it answers.
            pub contact: Contact,
            /// When its watches were last started.
            pub connected_at: Option<Timestamp>,
            /// When its API server last answered.
            pub last_contact: Option<Timestamp>,
            /// What it serves and permits besides what backups need.
            pub capabilities: Arc<Capabilities>,
            /// The namespaces that are watched; every one when empty.
            pub within: Arc<BTreeSet<String>>,
            $($(#[$doc])* pub $section: Section<<watched::$kind as Watched>::Kept>,)*
        }

        impl View {
            /// Nothing known yet.
            #[must_use]
            pub fn unknown() -> Self {
                Self {
                    contact: Contact::NotTried,
                    connected_at: None,
                    last_contact: None,
                    capabilities: Arc::default(),
                    within: Arc::default(),
                    $($section: Section::default(),)*
                }
            }

            /// The section of that kind.
            #[must_use]
            pub fn section(&self, kind: Kind) -> &dyn AnySection {
                match kind {
                    $(Kind::$kind => &self.$section,)*
                }
            }

            /// The same, to be changed.
            pub fn section_mut(&mut self, kind: Kind) -> &mut dyn AnySection {
                match kind {
                    $(Kind::$kind => &mut self.$section,)*
                }
            }
        }

        $(
            impl Shown for watched::$kind {
                const KIND: Kind = Kind::$kind;

                fn section(view: &mut View) -> &mut Section<Self::Kept> {
                    &mut view.$section
                }
            }
        )*
    };
}
watched_kinds!(view);

/// A kind and where a view shows it.
pub trait Shown: Watched {
    /// The kind.
    const KIND: Kind;

    /// Its section.
    fn section(view: &mut View) -> &mut Section<Self::Kept>;
}

impl View {
    /// What everything waits for: of what delegated schedules made, schedules alone want to know.
    fn relied_on(&self) -> impl Iterator<Item = &dyn AnySection> {
        let kinds = Kind::ALL.iter().filter(|kind| !matches!(kind.wanted(), Wanted::IfDelegated(..)));
        kinds.map(|kind| self.section(*kind))
    }

    /// Whether the cluster answers and no watch is still awaited: only then is it worked with. What is absent, [`Self::seen`]
    /// and [`Self::listing`] say.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.contact == Contact::Live && self.relied_on().all(|section| section.trust().is_settled())
    }

    /// Whether its datacenters and their MedusaBackups are all known, or it hosts none: the rest of the fleet may conclude
    /// something from what is not among them.
    #[must_use]
    pub fn knows_inventory(&self) -> bool {
        let shows = |trust: &Trust| trust.doubt().is_none() || trust.is_given_up();
        self.is_live() && shows(&self.datacenters.trust) && shows(&self.backups.trust)
    }

    /// What the watches do not show, in the API server's words where it has some; each once.
    #[must_use]
    pub fn unshown(&self) -> BTreeSet<String> {
        let unsettled = self.relied_on().map(AnySection::trust).filter(|trust| !trust.is_settled());
        unsettled.filter_map(Trust::doubt).map(|(_, why)| why).collect()
    }

    /// Why objects that are there cannot be read, each named.
    #[must_use]
    pub fn unreadable(&self) -> Vec<&str> {
        self.relied_on().flat_map(|section| section.unreadable().values()).map(String::as_str).collect()
    }

    /// About how many bytes of memory its objects take.
    #[must_use]
    pub fn weight(&self) -> usize {
        Kind::ALL.iter().map(|kind| self.section(*kind).weight()).sum()
    }

    /// Every section complete, everything served and permitted: for tests.
    #[cfg(test)]
    pub(crate) fn set_synced(&mut self) {
        self.contact = Contact::Live;
        for kind in Kind::ALL {
            self.section_mut(*kind).trust_mut().follow();
        }
        self.capabilities = Arc::new(Capabilities::all());
    }

    /// Since when the cluster does not answer, when that is known, and why; nothing while it does.
    fn silence(&self) -> Option<(Option<Timestamp>, String)> {
        match &self.contact {
            Contact::Live => None,
            Contact::NotTried => Some((None, "it was not asked yet".to_owned())),
            Contact::Never { why } => Some((None, why.clone())),
            Contact::Lost { since, why } => Some((Some(*since), why.clone())),
        }
    }

    /// Looks an object up in one of this view's sections. It is absent only when the cluster answers and the section's
    /// watch shows everything there is; an object that is there and cannot be read is unknown, and so is one in a namespace
    /// that is not watched.
    pub fn seen<'a, T>(&self, section: &'a Section<T>, key: &ObjectKey) -> Seen<&'a Arc<T>> {
        if !self.within.is_empty() && !self.within.contains(&key.namespace) {
            let why = format!(
                "namespace `{}` is none of those in `spec.namespaces` of its DataPlane, and is not watched",
                key.namespace
            );
            return Seen::Unknown { since: None, why };
        }
        match self.silence() {
            Some((since, why)) => Seen::Unknown { since, why },
            None => section.seen(key),
        }
    }

    /// Whether it shows what only writes of ours said, until another process has seen it.
    #[must_use]
    pub fn runs_ahead(&self) -> bool {
        Kind::ALL.iter().any(|kind| self.section(*kind).runs_ahead())
    }

    /// Everything in one of this view's sections, under the same conditions.
    pub fn listing<'a, T>(&self, section: &'a Section<T>) -> Listing<'a, T> {
        match self.silence() {
            Some((since, why)) => Listing::Unknown { since, why },
            None => section.listing(),
        }
    }

    /// What delegated schedules of that operation have made; `None` while nobody knows, as where there is no such schedule:
    /// there it is not watched. Nothing but schedules waits for its listing: see [`View::is_live`].
    #[must_use]
    pub fn scheduled_runs(
        &self,
        operation: ScheduledOperation,
    ) -> Option<&BTreeMap<ObjectKey, Arc<RunRecord>>> {
        self.listing(self.scheduled(operation)).known()
    }

    /// Looks up something that a delegated schedule of that operation has made.
    pub fn scheduled_run(&self, operation: ScheduledOperation, key: &ObjectKey) -> Seen<&Arc<RunRecord>> {
        self.seen(self.scheduled(operation), key)
    }

    fn scheduled(&self, operation: ScheduledOperation) -> &Section<RunRecord> {
        match operation {
            ScheduledOperation::Backup => &self.scheduled_jobs,
            ScheduledOperation::Purge => &self.scheduled_tasks,
        }
    }

    /// Whether a delegated schedule of that operation is there.
    #[must_use]
    pub fn delegates(&self, operation: ScheduledOperation) -> bool {
        self.schedules.last_known().values().any(|schedule| {
            schedule.spec.operation_type == operation
                && schedule.labels().contains_key(labels::FLEET_SCHEDULE_UID)
        })
    }

    /// Namespaces that host a datacenter, also one that cannot be read.
    pub fn datacenter_namespaces(&self) -> impl Iterator<Item = &str> {
        let keys = self.datacenters.last_known().keys().chain(self.datacenters.unreadable().keys());
        keys.map(|key| key.namespace.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::records::BackupRecord, *};
    use crate::api::medusa::{MedusaBackup, MedusaTask};

    #[test]
    fn absence_means_something_only_when_the_cluster_answers() {
        let mut view = View::unknown();
        let key = ObjectKey::new("ns", "b");
        assert!(matches!(view.seen(&view.backups, &key), Seen::Unknown { .. }));
        view.contact = Contact::Live;
        assert!(matches!(view.seen(&view.backups, &key), Seen::Unknown { .. }));
        view.backups.trust.follow();
        assert_eq!(view.seen(&view.backups, &key), Seen::Absent);
        view.contact = Contact::Lost { since: Timestamp::UNIX_EPOCH, why: "gone".to_owned() };
        assert!(matches!(view.seen(&view.backups, &key), Seen::Unknown { since: Some(_), .. }));
    }

    #[test]
    fn what_is_in_a_namespace_that_is_not_watched_is_not_absent() {
        let mut view = View::unknown();
        view.contact = Contact::Live;
        view.backups.trust.follow();
        view.within = Arc::new(BTreeSet::from(["a".to_owned()]));
        assert_eq!(view.seen(&view.backups, &ObjectKey::new("a", "x")), Seen::Absent);
        assert!(matches!(
            view.seen(&view.backups, &ObjectKey::new("b", "x")),
            Seen::Unknown { since: None, .. }
        ));
    }

    #[test]
    fn a_run_ends_well_only_with_a_pod_that_did_its_part_and_none_that_failed() {
        let task = |status: serde_json::Value| {
            let task = serde_json::json!({
                "metadata": {"name": "t"}, "spec": {"cassandraDatacenter": "dc1", "operation": "purge"}, "status": status
            });
            RunRecord::from(&serde_json::from_value::<MedusaTask>(task).unwrap())
        };
        let ended = |mut status: serde_json::Value| {
            status["finishTime"] = "2026-03-01T00:00:00Z".into();
            task(status).failure
        };
        let done = serde_json::json!([{"podName": "a"}]);
        assert!(task(serde_json::json!({"failed": ["a"]})).is_active());
        assert_eq!(ended(serde_json::json!({"finished": done})), None);
        assert!(ended(serde_json::json!({})).is_some_and(|why| why.contains("without any pod")));
        let bad = serde_json::json!({"finished": done, "failed": ["b", "c"]});
        assert_eq!(ended(bad).as_deref(), Some("it failed on b, c"));
        let refused = serde_json::json!({"finished": done, "conditions": [{
            "type": "Failed", "status": "True", "reason": "X", "message": "taken",
            "lastTransitionTime": "2026-03-01T00:00:00Z"
        }]});
        assert_eq!(ended(refused).as_deref(), Some("taken"));
    }

    #[test]
    fn what_delegated_schedules_made_is_unknown_until_it_is_listed() {
        let mut view = View::unknown();
        assert!(view.scheduled_runs(ScheduledOperation::Backup).is_none());
        view.set_synced();
        assert!(view.scheduled_runs(ScheduledOperation::Backup).is_some());
        assert!(view.scheduled_runs(ScheduledOperation::Purge).is_some());
        view.scheduled_tasks.trust.begin();
        assert!(view.scheduled_runs(ScheduledOperation::Purge).is_none());
        view.contact = Contact::Lost { since: Timestamp::UNIX_EPOCH, why: "gone".to_owned() };
        assert!(view.scheduled_runs(ScheduledOperation::Backup).is_none());
    }

    #[test]
    fn a_backup_without_status_is_a_record_without_status() {
        let record = BackupRecord::from(&MedusaBackup::default());
        assert_eq!(record, BackupRecord::default());
    }
}
