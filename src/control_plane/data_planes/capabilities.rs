//! What a data plane lets the control plane do besides backups: definitions served, their fields, permissions
//! granted. Pure.
//!
//! Backups need what [`crate::control_plane::registry::capability`] asks of every data plane. Everything here may be missing:
//! then that feature is refused there with a reason, and backups go on.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::{
    Reason, Why,
    fleet::{MedusaController, ROLE},
};

/// Something the control plane does only where it is served and permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// Deploying Medusa into datacenters.
    Deployment,
    /// MedusaBackupSchedules: delegated schedules and purge schedules.
    Schedules,
    Tasks,
    Restores,
}

impl Feature {
    pub const ALL: [Self; 4] = [Self::Deployment, Self::Schedules, Self::Tasks, Self::Restores];

    /// What cannot be done without it, for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Deployment => "deploying Medusa",
            Self::Schedules => "schedules",
            Self::Tasks => "sync and purge tasks",
            Self::Restores => "restores",
        }
    }
}

/// A resource a feature needs.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    pub feature: Feature,
    /// API group; empty for the core group.
    pub group: &'static str,
    pub plural: &'static str,
    /// Verbs on it, in every namespace.
    pub verbs: &'static [&'static str],
}

impl Need {
    /// `plural.group`, or the plural alone in the core group.
    #[must_use]
    pub fn resource(&self) -> String {
        resource(self.group, self.plural)
    }
}

/// `plural.group`, or the plural alone in the core group.
#[must_use]
pub fn resource(group: &str, plural: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

/// MedusaBackupSchedules as a resource.
pub const SCHEDULES: &str = "medusabackupschedules.medusa.k8ssandra.io";
/// MedusaTasks as a resource.
pub const TASKS: &str = "medusatasks.medusa.k8ssandra.io";
/// MedusaRestoreJobs as a resource.
pub const RESTORES: &str = "medusarestorejobs.medusa.k8ssandra.io";
/// ConfigMaps as a resource.
pub const CONFIG_MAPS: &str = "configmaps";

/// What each feature needs in a data plane. `kubeconfigs/data-plane-rbac.yaml` grants it.
pub const NEEDS: [Need; 6] = [
    Need {
        feature: Feature::Deployment,
        group: "cassandra.datastax.com",
        plural: "cassandradatacenters",
        verbs: &["get", "patch"],
    },
    Need {
        feature: Feature::Deployment,
        group: "",
        plural: "configmaps",
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
    },
    Need {
        feature: Feature::Deployment,
        group: "",
        plural: "persistentvolumeclaims",
        verbs: &["get", "create"],
    },
    Need {
        feature: Feature::Schedules,
        group: "medusa.k8ssandra.io",
        plural: "medusabackupschedules",
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
    },
    Need {
        feature: Feature::Tasks,
        group: "medusa.k8ssandra.io",
        plural: "medusatasks",
        verbs: &["get", "list", "watch", "create", "delete"],
    },
    Need {
        feature: Feature::Restores,
        group: "medusa.k8ssandra.io",
        plural: "medusarestorejobs",
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
    },
];

/// Optional fields of MedusaBackupSchedule's spec, and what is done, or not done, where a data plane's
/// definition lacks them.
pub const SCHEDULE_FIELDS: [(&str, &str); 6] = [
    ("operationType", "no purge schedules"),
    ("concurrencyPolicy", "runs of a delegated schedule are not kept apart"),
    ("timeZone", "the time zone goes into the expression"),
    ("startingDeadlineSeconds", "no deadline for late slots of delegated schedules"),
    ("successfulJobsHistoryLimit", "delegated runs that ended well are all kept"),
    ("failedJobsHistoryLimit", "delegated runs that ended badly are all kept"),
];

/// Fields a definition declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fields {
    Any,
    /// These, and the API server drops others.
    Named(BTreeSet<String>),
}

impl Fields {
    /// What `document`, an OpenAPI v3 document, declares in the spec of `kind`; `None` when it does not have the
    /// kind.
    #[must_use]
    pub fn of_spec(document: &Value, kind: &str) -> Option<Self> {
        let is_kind = |schema: &&Value| {
            let kinds = schema.get("x-kubernetes-group-version-kind").and_then(Value::as_array);
            kinds.is_some_and(|list| list.iter().any(|k| k.get("kind").and_then(Value::as_str) == Some(kind)))
        };
        let schemas = document.pointer("/components/schemas")?.as_object()?;
        let spec = schemas.values().find(is_kind)?.pointer("/properties/spec")?;
        if spec.get("x-kubernetes-preserve-unknown-fields").and_then(Value::as_bool) == Some(true) {
            return Some(Self::Any);
        }
        let fields = spec.get("properties").and_then(Value::as_object);
        Some(Self::Named(fields.into_iter().flatten().map(|(name, _)| name.clone()).collect()))
    }

    #[must_use]
    pub fn has(&self, field: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Named(fields) => fields.contains(field),
        }
    }
}

/// What a data plane serves and permits besides what backups need.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Resources of [`NEEDS`] that are not served; `None` until asked.
    pub not_served: Option<BTreeSet<String>>,
    /// Verbs of [`NEEDS`] that are not granted, by resource; `None` until asked.
    pub not_granted: Option<BTreeMap<String, Vec<String>>>,
    /// Resources of [`NEEDS`] whose listing the API server refused, with its words: whatever it says it permits.
    pub refused: BTreeMap<String, String>,
    /// Fields of MedusaBackupSchedule's spec; `None` until asked, or when the API server does not say.
    pub schedule_fields: Option<Fields>,
    /// Who reconciles the Medusa kinds, when somebody was found.
    pub controller: Option<MedusaController>,
}

impl Capabilities {
    /// Everything served and permitted.
    #[must_use]
    pub fn all() -> Self {
        Self {
            not_served: Some(BTreeSet::new()),
            not_granted: Some(BTreeMap::new()),
            schedule_fields: Some(Fields::Any),
            ..Self::default()
        }
    }

    /// Whether every feature is known to be there.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.schedule_fields.is_some() && Feature::ALL.into_iter().all(|feature| self.allow(feature).is_ok())
    }

    /// Whether `feature` can be used, and if not, why.
    ///
    /// # Errors
    /// What is missing and what to do: `NotServed`, `NotAuthorized`, or `Connecting` while nobody knows: then wait.
    pub fn allow(&self, feature: Feature) -> Result<(), Why> {
        let (Some(not_served), Some(not_granted)) = (&self.not_served, &self.not_granted) else {
            let message = "the data plane was not asked yet what it serves and permits";
            return Err(Why::new(Reason::Connecting, message));
        };
        let needs = || NEEDS.iter().filter(|need| need.feature == feature);
        let absent: Vec<String> = needs().map(Need::resource).filter(|r| not_served.contains(r)).collect();
        if !absent.is_empty() {
            let message = format!(
                "the data plane does not serve {}; install it with `medusa-fleet crds`",
                absent.join(", ")
            );
            return Err(Why::new(Reason::NotServed, message));
        }
        let refused = needs().find_map(|need| self.refused.get(&need.resource()));
        if let Some(words) = refused {
            let message = format!("the data plane refuses to list what {} needs: {words}", feature.title());
            return Err(Why::new(Reason::NotAuthorized, message));
        }
        let denied: Vec<String> = needs()
            .filter_map(|need| Some((need.resource(), not_granted.get(&need.resource())?)))
            .map(|(resource, verbs)| format!("{} {resource}", verbs.join("/")))
            .collect();
        if !denied.is_empty() {
            let message = format!("the data plane does not permit {}; apply {ROLE} there", denied.join(", "));
            return Err(Why::new(Reason::NotAuthorized, message));
        }
        Ok(())
    }

    /// Whether MedusaBackupSchedules keep `field` of their spec; `None` while nobody knows. The API server drops
    /// a field that is not declared without a word, so what depends on it must not be written on luck.
    #[must_use]
    pub fn schedule_has(&self, field: &str) -> Option<bool> {
        self.schedule_fields.as_ref().map(|fields| fields.has(field))
    }

    /// Whether objects of `resource` can be listed and watched; `None` while nobody knows.
    #[must_use]
    pub fn watchable(&self, resource: &str) -> Option<bool> {
        let (not_served, not_granted) = (self.not_served.as_ref()?, self.not_granted.as_ref()?);
        let denied = not_granted.get(resource).is_some_and(|v| v.iter().any(|v| v == "list" || v == "watch"));
        Some(!denied && !not_served.contains(resource))
    }

    /// Whether `resource` is served, as far as anybody knows.
    #[must_use]
    pub fn may_serve(&self, resource: &str) -> bool {
        self.not_served.as_ref().is_none_or(|lacking| !lacking.contains(resource))
    }

    /// Why `resource` is not watched, where it is not.
    #[must_use]
    pub fn unwatched(&self, resource: &str) -> String {
        if self.may_serve(resource) {
            format!("the data plane does not permit to list and watch {resource}; apply {ROLE} there")
        } else {
            format!("the data plane does not serve {resource}; install it with `medusa-fleet crds`")
        }
    }

    /// What is not permitted and what cannot be done therefore, in one sentence; else what is refused whatever the cluster says
    /// it permits; empty when nothing is.
    #[must_use]
    pub fn denied(&self) -> String {
        let refused: Vec<&str> = self.refused.values().map(String::as_str).collect();
        let Some(not_granted) = self.not_granted.as_ref().filter(|list| !list.is_empty()) else {
            return refused.join("; ");
        };
        let verbs: Vec<String> =
            not_granted.iter().map(|(resource, verbs)| format!("{} {resource}", verbs.join("/"))).collect();
        let cost: Vec<&str> = Feature::ALL
            .into_iter()
            .filter(|f| NEEDS.iter().any(|n| n.feature == *f && not_granted.contains_key(&n.resource())))
            .map(Feature::title)
            .collect();
        format!("not permitted: {}; without it no {}", verbs.join(", "), cost.join(", no "))
    }

    /// What is not served and what cannot be done therefore, in one sentence; empty when nothing is.
    #[must_use]
    pub fn unserved(&self) -> String {
        let Some(not_served) = &self.not_served else { return String::new() };
        let mut missing: Vec<String> = NEEDS
            .iter()
            .filter(|need| not_served.contains(&need.resource()))
            .map(|need| format!("{} (no {})", need.resource(), need.feature.title()))
            .collect();
        if !not_served.contains(SCHEDULES) {
            let lacking = SCHEDULE_FIELDS.iter().filter(|(f, _)| self.schedule_has(f) == Some(false));
            missing.extend(
                lacking.map(|(field, cost)| format!("MedusaBackupSchedule's `spec.{field}` ({cost})")),
            );
        }
        if missing.is_empty() { String::new() } else { format!("not served: {}", missing.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn without(served: &[&str], granted: &[(&str, &[&str])]) -> Capabilities {
        Capabilities {
            not_served: Some(served.iter().map(|s| (*s).to_owned()).collect()),
            not_granted: Some(
                granted
                    .iter()
                    .map(|(r, verbs)| ((*r).to_owned(), verbs.iter().map(|v| (*v).to_owned()).collect()))
                    .collect(),
            ),
            schedule_fields: Some(Fields::Any),
            ..Capabilities::default()
        }
    }

    #[test]
    fn a_feature_is_refused_with_what_is_missing_and_the_others_are_not() {
        let capabilities = without(&[SCHEDULES], &[("configmaps", &["create", "patch"])]);
        let lack = capabilities.allow(Feature::Schedules).unwrap_err();
        assert_eq!(lack.reason, Reason::NotServed);
        assert!(lack.message.contains(SCHEDULES), "{lack:?}");
        let lack = capabilities.allow(Feature::Deployment).unwrap_err();
        assert_eq!(lack.reason, Reason::NotAuthorized);
        assert!(lack.message.contains("create/patch configmaps"), "{lack:?}");
        assert_eq!(capabilities.allow(Feature::Tasks), Ok(()));
        assert_eq!(capabilities.allow(Feature::Restores), Ok(()));
    }

    #[test]
    fn what_was_not_asked_is_neither_there_nor_missing() {
        let unknown = Capabilities::default();
        for feature in Feature::ALL {
            assert_eq!(unknown.allow(feature).unwrap_err().reason, Reason::Connecting);
        }
        assert_eq!(unknown.watchable(TASKS), None);
        assert_eq!(unknown.schedule_has("operationType"), None);
        assert!(unknown.denied().is_empty() && unknown.unserved().is_empty());
    }

    #[test]
    fn what_may_be_read_is_watched_even_where_it_may_not_be_written() {
        let capabilities = without(&[TASKS], &[(RESTORES, &["create"]), (SCHEDULES, &["watch"])]);
        assert_eq!(capabilities.watchable(RESTORES), Some(true));
        assert_eq!(capabilities.watchable(SCHEDULES), Some(false));
        assert_eq!(capabilities.watchable(TASKS), Some(false));
        assert_eq!(capabilities.watchable(CONFIG_MAPS), Some(true));
    }

    #[test]
    fn a_listing_that_is_refused_outweighs_what_the_cluster_says_it_permits() {
        let mut capabilities = Capabilities::all();
        capabilities.refused.insert(TASKS.to_owned(), "denied by policy".to_owned());
        assert!(capabilities.allow(Feature::Tasks).unwrap_err().message.contains("denied by policy"));
        assert_eq!(capabilities.denied(), "denied by policy");
        assert_eq!(capabilities.watchable(TASKS), Some(true), "it is tried again");
    }

    #[test]
    fn fields_are_read_from_the_published_document() {
        let document = |spec: Value| {
            json!({"components": {"schemas": {
                "other": {"x-kubernetes-group-version-kind": [{"kind": "MedusaTask"}], "properties": {"spec": {}}},
                "it": {"x-kubernetes-group-version-kind": [{"group": "g", "kind": "MedusaBackupSchedule"}],
                    "properties": {"spec": spec}}
            }}})
        };
        let read = |spec| Fields::of_spec(&document(spec), "MedusaBackupSchedule").unwrap();
        let named = read(json!({"properties": {"cronSchedule": {}, "operationType": {}}}));
        assert!(named.has("operationType") && !named.has("timeZone"));
        assert_eq!(read(json!({"x-kubernetes-preserve-unknown-fields": true})), Fields::Any);
        assert_eq!(Fields::of_spec(&json!({}), "MedusaBackupSchedule"), None);
        assert_eq!(Fields::of_spec(&document(json!({})), "MedusaRestoreJob"), None);
    }

    #[test]
    fn the_sentences_say_what_is_missing_and_what_it_costs() {
        let mut capabilities = without(&[RESTORES], &[(TASKS, &["create"])]);
        capabilities.schedule_fields = Some(Fields::Named(["operationType".to_owned()].into()));
        let denied = capabilities.denied();
        assert_eq!(
            denied,
            "not permitted: create medusatasks.medusa.k8ssandra.io; without it no sync and purge tasks"
        );
        let unserved = capabilities.unserved();
        assert!(unserved.contains("medusarestorejobs.medusa.k8ssandra.io (no restores)"), "{unserved}");
        assert!(unserved.contains("`spec.concurrencyPolicy`"), "{unserved}");
        assert!(!unserved.contains("operationType"), "{unserved}");
        assert!(Capabilities::all().denied().is_empty() && Capabilities::all().unserved().is_empty());
    }
}
