//! The control plane itself: its definitions, and whether a controller leads. Pure.

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::Lease,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::ResourceExt as _;
use serde_json::Value;

use super::{Finding, Read, Severity, release};
use crate::{
    api::{Reason, crds, fleet, k8ssandra, labels, medusa, names},
    control_plane::LEASE,
};

/// What to do about a control plane that does not work.
pub(super) const RUN_IT: &str = "see that the control plane runs, and what it logs: `kubectl -n NAMESPACE logs deployment/medusa-fleet-control-plane`";
/// Most missing fields that are named.
const NAMED: usize = 3;

/// Definitions that are absent, not served, or of another version. Of the kinds that are upstream's, any version will do.
pub(super) fn definitions(read: &Read<CustomResourceDefinition>) -> Vec<Finding> {
    let installed = read.objects();
    let all = crds::all().unwrap_or_default();
    let needed = all.into_iter().filter(|d| {
        let plural = d.spec.names.plural.as_str();
        d.spec.group == fleet::GROUP
            || (d.spec.group == medusa::GROUP && plural == "medusaconfigurations")
            || d.spec.group == k8ssandra::GROUP
    });
    needed
        .filter_map(|ours| {
            let is_ours = ours.spec.group == fleet::GROUP;
            let Some(theirs) = installed.iter().find(|d| d.name_any() == ours.name_any()) else {
                return read
                    .is_whole()
                    .then(|| missing(&ours.spec.names.plural, &ours.spec.group, installed));
            };
            if let Some(why) = ineffective(theirs) {
                return Some(unserved(&ours.spec.names.plural, &ours.spec.group, &why, installed));
            }
            let lacking = if is_ours { lacking(&ours, theirs) } else { Vec::new() };
            if lacking.is_empty() {
                return None;
            }
            let what = format!(
                "is of another version: it has no {}, and the API server drops what it does not know",
                names::listed(&lacking, NAMED)
            );
            let object = definition(&ours.spec.names.plural, &ours.spec.group);
            let fix = release::advice(&ours.spec.names.plural, &ours.spec.group, installed);
            Some(Finding::new(Severity::Error, object, Reason::DefinitionOutdated, what, fix))
        })
        .collect()
}

/// A definition that is not there; `installed` are those that are.
pub(super) fn missing(plural: &str, group: &str, installed: &[CustomResourceDefinition]) -> Finding {
    let (severity, what) = if group == fleet::GROUP {
        (Severity::Error, "is not installed: the control plane cannot work without it")
    } else {
        (Severity::Warning, "is not installed: Medusa cannot be configured from here")
    };
    let reason = Reason::DefinitionMissing;
    let fix = release::advice(plural, group, installed);
    Finding::new(severity, definition(plural, group), reason, what, fix)
}

/// A definition that is there, and whose objects the API server does not serve.
pub(super) fn unserved(
    plural: &str,
    group: &str,
    why: &str,
    installed: &[CustomResourceDefinition],
) -> Finding {
    let missing = missing(plural, group, installed);
    let fix = format!(
        "`kubectl describe customresourcedefinition {plural}.{group}` says what is in its way; after that {}",
        missing.fix
    );
    let what = format!("is installed, and objects of it are not served: {why}");
    Finding { reason: Reason::NotServed.as_str().to_owned(), what, fix, ..missing }
}

/// Why the API server does not serve this definition as it should, where it says so.
fn ineffective(definition: &CustomResourceDefinition) -> Option<String> {
    if definition.metadata.deletion_timestamp.is_some() {
        return Some("it is being deleted, and every object of it too".to_owned());
    }
    if !definition.spec.versions.iter().any(|version| version.served) {
        return Some("no version of it is served".to_owned());
    }
    let conditions = definition.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut refused = conditions
        .filter(|c| ["NamesAccepted", "Established"].contains(&c.type_.as_str()) && c.status == "False");
    refused.next().map(|c| c.message.clone().or(c.reason.clone()).unwrap_or_else(|| c.type_.clone()))
}

pub(super) fn definition(plural: &str, group: &str) -> String {
    format!("customresourcedefinition/{plural}.{group}")
}

/// Fields that our definition has and the installed one has not.
fn lacking(ours: &CustomResourceDefinition, theirs: &CustomResourceDefinition) -> Vec<String> {
    let mut found = Vec::new();
    for version in &ours.spec.versions {
        let schema = |list: &CustomResourceDefinition| {
            let same = list.spec.versions.iter().find(|v| v.name == version.name && v.served)?;
            serde_json::to_value(same.schema.as_ref()?.open_api_v3_schema.as_ref()?).ok()
        };
        match (schema(ours), schema(theirs)) {
            (Some(ours), Some(theirs)) => compare(&ours, &theirs, "", &mut found),
            (Some(_), None) => found.push(format!("version {}", version.name)),
            (None, _) => {}
        }
    }
    found
}

fn compare(ours: &Value, theirs: &Value, path: &str, found: &mut Vec<String>) {
    for part in ["items", "additionalProperties"] {
        if let (Some(ours), Some(theirs)) = (ours.get(part), theirs.get(part)) {
            compare(ours, theirs, path, found);
        }
    }
    let Some(fields) = ours.get("properties").and_then(Value::as_object) else { return };
    for (field, schema) in fields {
        let path = if path.is_empty() { field.clone() } else { format!("{path}.{field}") };
        match theirs.get("properties").and_then(|fields| fields.get(field)) {
            Some(theirs) => compare(schema, theirs, &path, found),
            None => found.push(path),
        }
    }
}

/// An election that nobody wins. Where there is no Lease, nobody is elected, and the controller's silence shows elsewhere.
pub(super) fn leader(leases: &[Lease], now: Timestamp) -> Option<Finding> {
    let lease = leases.iter().find(|lease| lease.name_any() == LEASE)?;
    let spec = lease.spec.clone().unwrap_or_default();
    let limit = i64::from(spec.lease_duration_seconds.unwrap_or_default());
    let renewed = spec.renew_time.as_ref().map(|time| time.0);
    let is_fresh = renewed.is_some_and(|at| now.as_second().saturating_sub(at.as_second()) <= limit.max(1));
    let holder = spec.holder_identity.filter(|holder| !holder.is_empty());
    let what = match (&holder, is_fresh) {
        (Some(_), true) => return None,
        (Some(holder), false) => format!("{holder} led last and is silent"),
        (None, _) => "nobody leads".to_owned(),
    };
    let since = renewed.map(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time);
    Some(Finding::new(Severity::Error, format!("lease/{LEASE}"), Reason::NotLed, what, RUN_IT).since(since))
}

/// Version of the control plane that leads now. Nothing where nobody leads, or who leads does not say it.
#[must_use]
pub fn version(leases: &[Lease], now: Timestamp) -> Option<String> {
    let lease = leases.iter().find(|lease| lease.name_any() == LEASE)?;
    let leads = leader(leases, now).is_none();
    let holder = lease.spec.as_ref()?.holder_identity.as_deref()?;
    let (who, version) = lease.annotations().get(labels::LEADER)?.split_once(' ')?;
    (leads && who == holder).then(|| version.to_owned())
}
