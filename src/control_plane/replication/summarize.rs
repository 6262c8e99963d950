//! A MedusaConfiguration's conditions: `SecretAvailable` and `Ready` as upstream names them, and our
//! `Replicated`. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{
    desired::Desired,
    plan::{Failures, Settled, in_place, shared_with},
};
use crate::{
    api::{
        Reason, Why,
        condition::{ConditionVerdict, set_condition},
        medusa::{
            CREDENTIALS_KEY, MedusaConfiguration, READY, SECRET_AVAILABLE, Storage, StorageSecret, readiness,
        },
        names,
    },
    control_plane::{
        data_planes::{
            fleet::{Snapshot, Usable},
            view::ObjectKey,
        },
        deployment::report::Reports,
        sources::{Malformed, SecretState, SourceObjects},
    },
};

/// Most shared copies that are named.
const NAMED: usize = 3;
/// Condition: every copy is in place.
const REPLICATED: &str = "Replicated";

/// Everything the conditions are made of.
pub struct CopyFacts<'a> {
    pub sources: &'a SourceObjects,
    pub desired: &'a Desired,
    pub planes: &'a BTreeMap<String, Snapshot>,
    /// What went wrong with single copies.
    pub failures: &'a Failures,
    /// What API servers made of our copies.
    pub settled: &'a BTreeMap<String, Settled>,
    /// What the deployment of Medusa has come to.
    pub reports: &'a Reports,
}

/// The conditions of one MedusaConfiguration; conditions of other types are left as they are.
#[must_use]
pub fn conditions(
    key: &ObjectKey,
    configuration: &MedusaConfiguration,
    facts: &CopyFacts<'_>,
    now: Timestamp,
) -> Vec<Condition> {
    let mut list = configuration.status.clone().unwrap_or_default().conditions;
    let generation = configuration.metadata.generation;
    let secret = storage_secret(key, configuration, facts.sources);
    let [secret, mut ready] = readiness(&configuration.spec, &key.namespace, secret);
    // What only a cluster that uses it shows.
    let faults = facts.reports.faults_of(key);
    if let (Some(true), Some(first)) = (ready.1.0, faults.first()) {
        let messages: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
        ready.1 = (Some(false), first.reason, messages.join("; "));
    }
    for (type_, (status, reason, message)) in [secret, ready, (REPLICATED, replicated(key, facts))] {
        set_condition(&mut list, type_, status, reason, message, generation, now);
    }
    list
}

fn storage_secret(
    key: &ObjectKey,
    configuration: &MedusaConfiguration,
    sources: &SourceObjects,
) -> StorageSecret {
    let name = configuration.spec.storage_properties.as_ref().and_then(Storage::secret_name);
    // What no Secret can be called does not exist: it is never asked for.
    if name.is_some_and(|name| !names::is_object_name(name)) {
        return StorageSecret::Absent;
    }
    match name.and_then(|name| sources.secrets.get(&ObjectKey::new(&key.namespace, name))) {
        Some(SecretState::Read { keys, .. }) => {
            StorageSecret::Present { has_credentials: keys.contains(CREDENTIALS_KEY) }
        }
        Some(SecretState::Absent) => StorageSecret::Absent,
        Some(SecretState::NotRead) | None => StorageSecret::Unread,
    }
}

fn replicated(key: &ObjectKey, facts: &CopyFacts<'_>) -> ConditionVerdict {
    let empty = BTreeSet::new();
    let claims = facts.desired.claims.get(key).unwrap_or(&empty);
    let mut wrong: Vec<Why> = facts.desired.problems.get(key).cloned().unwrap_or_default();
    let mut silent: Vec<&str> = Vec::new();
    let mut shared: Vec<String> = Vec::new();
    let (mut waiting, nothing_settled) = (0, Settled::new());
    for (plane, copy) in claims {
        let Some(snapshot) = facts.planes.get(plane) else {
            let message = format!("data plane `{plane}` is not registered");
            wrong.push(Why::new(Reason::UnknownDataPlane, message));
            continue;
        };
        let wanted = facts.desired.copies.get(plane).and_then(|copies| copies.get(copy));
        let settled = facts.settled.get(plane).unwrap_or(&nothing_settled);
        let there = wanted.is_some_and(|wanted| in_place(&snapshot.view, copy, wanted, settled));
        match (&snapshot.usable, facts.failures.get(plane).and_then(|f| f.get(copy))) {
            (Usable::Unreachable { .. }, _) => silent.push(plane),
            (Usable::NotReady { reason, why }, _) => {
                wrong.push(Why::new(*reason, format!("data plane `{plane}` is not ready: {why}")));
            }
            (Usable::Ready, Some(problem)) => {
                wrong.push(Why::new(problem.reason, format!("data plane `{plane}`: {}", problem.message)));
            }
            (Usable::Ready, None) if there => {
                let with = shared_with(&snapshot.view, copy, settled);
                shared
                    .extend(with.map(|with| format!("{copy} in data plane `{plane}` is shared with {with}")));
            }
            (Usable::Ready, None) | (Usable::Connecting, _) => waiting += 1,
        }
    }
    silent.dedup();
    wrong.dedup();
    if let Some(first) = wrong.first() {
        let messages: Vec<&str> = wrong.iter().map(|p| p.message.as_str()).collect();
        return (Some(false), first.reason, messages.join("; "));
    }
    if waiting > 0 {
        let message = format!("{waiting} of {} copies are on their way", claims.len());
        return (Some(false), Reason::Replicating, message);
    }
    if !silent.is_empty() {
        let message =
            format!("no answer from data plane {}; the other copies are in place", silent.join(", "));
        return (None, Reason::DataPlaneUnreachable, message);
    }
    if claims.is_empty() {
        return (Some(true), Reason::NoTargets, "nothing asks for copies of it".to_owned());
    }
    let mut parts = vec![format!("all {} copies are in place", claims.len())];
    let more = shared.len().saturating_sub(NAMED);
    parts.extend(shared.into_iter().take(NAMED));
    if more > 0 {
        parts.push(format!("{more} more are shared"));
    }
    (Some(true), Reason::Replicated, parts.join("; "))
}

/// Conditions of a MedusaConfiguration that cannot be read; conditions of other types are left as they are.
#[must_use]
pub fn unreadable(malformed: &Malformed, now: Timestamp) -> Vec<Condition> {
    let mut list = malformed.conditions.clone();
    list.retain(|condition| condition.type_ != SECRET_AVAILABLE);
    let stays = "what was copied because of it stays as it is until then";
    let message = format!("it cannot be read: {}; correct that field. {}", malformed.why, stays);
    for type_ in [READY, REPLICATED] {
        let generation = malformed.metadata.generation;
        set_condition(&mut list, type_, Some(false), Reason::InvalidObject, message.clone(), generation, now);
    }
    list
}
