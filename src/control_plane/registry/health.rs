//! From what a data plane answered to its DataPlane's conditions. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::{Deserialize, Serialize};

use crate::{
    api::{
        Reason, Why,
        condition::{ConditionVerdict, set_condition},
        fleet::{MedusaController, ROLE},
    },
    control_plane::{
        data_planes::view::{Contact, View},
        identity,
    },
    runtime::cause::{Cause, Kind},
};

/// How the last question to an API server ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// None was asked yet.
    #[default]
    None,
    /// It answered.
    Answered,
    /// It did not, or not so that it can be used.
    Lost(Cause),
}

impl Answer {
    /// What an unanswered or refused question says about a cluster that `was_live` until then.
    #[must_use]
    pub fn from_cause(cause: Cause, was_live: bool) -> Self {
        match cause.kind {
            Kind::Answered | Kind::Forbidden => Self::Answered,
            // To drop what goes on, and list it all again, would be the last thing it needs.
            Kind::RateLimited if was_live => Self::Answered,
            Kind::NameNotFound
            | Kind::Refused
            | Kind::TimedOut
            | Kind::Certificate
            | Kind::Proxy
            | Kind::NotKubernetes
            | Kind::Unbounded
            | Kind::Credential
            | Kind::RateLimited
            | Kind::Trouble
            | Kind::Unreachable => Self::Lost(cause),
        }
    }

    /// Whether it may have been bad luck, so that another question is worth asking before anything is concluded.
    #[must_use]
    pub fn may_be_luck(&self) -> bool {
        matches!(self, Self::Lost(cause) if !matches!(cause.kind, Kind::Credential | Kind::Certificate))
    }

    /// Whether nothing was said in time.
    #[must_use]
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Lost(cause) if cause.kind == Kind::TimedOut)
    }
}

/// What is known about reaching one data plane.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// How the last question ended.
    pub answer: Answer,
    /// When the API server last answered.
    pub last_contact: Option<Timestamp>,
    /// Since when it does not.
    pub disconnected_since: Option<Timestamp>,
    /// When it is asked again, while it does not.
    pub next_attempt: Option<Timestamp>,
    /// Uid of its kube-system namespace.
    pub cluster_id: Option<String>,
    /// Why that cannot be known, when it was asked for.
    pub no_cluster_id: Option<Cause>,
    /// Version of its API server.
    pub version: Option<String>,
    /// Who reconciles the Medusa kinds there.
    pub controller: Option<MedusaController>,
    /// What would have to be permitted to tell who does, while that is why nobody knows.
    pub controller_hidden: Option<String>,
    /// Permissions we need and do not have; `None` until asked.
    pub missing_permissions: Option<Vec<String>>,
    /// Why those could not be asked for, when that is so.
    pub no_permissions: Option<Why>,
    /// Definitions we need that are not served; `None` until asked.
    pub missing_definitions: Option<Vec<String>>,
    /// Whether the cluster hosts no datacenters and need not (the control plane's own).
    pub hosts_none: bool,
}

impl Health {
    /// What of it is news when it changes: not when it was asked last, and is asked next.
    #[must_use]
    pub fn without_times(&self) -> Self {
        Self { last_contact: None, next_attempt: None, ..self.clone() }
    }
}

/// Everything a DataPlane's conditions are made of.
pub struct Facts<'a> {
    /// Why the kubeconfig was refused, when it was.
    pub refusal: Option<&'a Why>,
    /// Why its Secret or its DataPlane could not be looked after, while it is used as it was before.
    pub stale: Option<&'a Why>,
    /// The DataPlane that says it is the same cluster, when one does.
    pub twin: Option<&'a Twin>,
    /// Who else asks for its name and is not heard, and why.
    pub rejected: Option<&'a Why>,
    /// What an earlier installation left there, and what to do.
    pub inherited: Option<String>,
    /// Whether the user paused it.
    pub paused: bool,
    /// When the credential ends, when it says.
    pub expires_at: Option<Timestamp>,
    /// Why it could not be renewed, where it was to be, and what to do.
    pub not_renewed: Option<&'a str>,
    /// What is known about reaching it.
    pub health: &'a Health,
    /// What its watches delivered.
    pub view: &'a View,
}

/// Another DataPlane that says it is the same cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twin {
    pub name: String,
    /// What tells the two apart, or why they are held for one.
    pub evidence: String,
    /// Whether a person said that they are two.
    pub is_allowed: bool,
}

/// Condition that is False while somebody else asks for the DataPlane's name.
const REGISTRATIONS: &str = "RegistrationsAccepted";

/// What a cluster whose identity may not be asked for does without.
const NAMELESS: &str = "not permitted: get namespaces/kube-system; without it nobody can tell whether another DataPlane is the same cluster";

fn holds(reason: Reason, message: impl Into<String>) -> ConditionVerdict {
    (Some(true), reason, message.into())
}

fn fails(reason: Reason, message: impl Into<String>) -> ConditionVerdict {
    (Some(false), reason, message.into())
}

fn unknown(reason: Reason, message: impl Into<String>) -> ConditionVerdict {
    (None, reason, message.into())
}

/// Writes every condition of a DataPlane (docs/dataplane.md) into `conditions`.
pub fn conditions(
    conditions: &mut Vec<Condition>,
    facts: &Facts<'_>,
    generation: Option<i64>,
    now: Timestamp,
) {
    let verdicts = [
        ("Accepted", accepted(facts)),
        ("Reachable", reachable(facts)),
        ("Authenticated", authenticated(facts, now)),
        ("Authorized", authorized(facts)),
        ("Served", served(facts)),
        ("Synced", synced(facts)),
        ("Unique", unique(facts)),
    ];
    let ready = ready(facts, &verdicts);
    for (type_, (status, reason, message)) in verdicts {
        set_condition(conditions, type_, status, reason, message, generation, now);
    }
    let (status, reason, message) = ready;
    set_condition(conditions, "Ready", status, reason, message, generation, now);
    // No fault of the data plane, which goes on: it is there only while there is something to say.
    match facts.rejected {
        Some(Why { reason, message }) => {
            set_condition(conditions, REGISTRATIONS, Some(false), *reason, message.clone(), generation, now);
        }
        None => conditions.retain(|condition| condition.type_ != REGISTRATIONS),
    }
    match &facts.inherited {
        Some(said) => {
            set_condition(
                conditions,
                identity::INHERITED,
                Some(true),
                Reason::Inherited,
                said.clone(),
                generation,
                now,
            );
        }
        None => conditions.retain(|condition| condition.type_ != identity::INHERITED),
    }
}

fn accepted(facts: &Facts<'_>) -> ConditionVerdict {
    match (facts.refusal, facts.stale) {
        (Some(refusal), _) => fails(refusal.reason, &refusal.message),
        (None, Some(stale)) => holds(
            Reason::KubeconfigAccepted,
            format!("the kubeconfig that was read before is used on; {}", stale.message),
        ),
        (None, None) => holds(Reason::KubeconfigAccepted, "the kubeconfig is readable and safe"),
    }
}

fn not_asked(facts: &Facts<'_>) -> ConditionVerdict {
    let why = if facts.refusal.is_some() { "its kubeconfig is not accepted" } else { "it was not asked yet" };
    unknown(Reason::Connecting, why)
}

fn reachable(facts: &Facts<'_>) -> ConditionVerdict {
    if facts.refusal.is_some() {
        return not_asked(facts);
    }
    match &facts.health.answer {
        Answer::None => not_asked(facts),
        Answer::Lost(cause) if cause.kind != Kind::Credential => fails(cause.kind.reason(), &cause.words),
        Answer::Answered | Answer::Lost(_) => holds(Reason::Answered, "the API server answers"),
    }
}

fn authenticated(facts: &Facts<'_>, now: Timestamp) -> ConditionVerdict {
    if facts.refusal.is_some() {
        return not_asked(facts);
    }
    match &facts.health.answer {
        Answer::Answered => match facts.not_renewed {
            None => holds(Reason::CredentialAccepted, "the API server accepts the credential"),
            Some(why) => {
                let ends = facts.expires_at.map(|at| format!("ends at {at} and ")).unwrap_or_default();
                holds(
                    Reason::RenewalFailed,
                    format!("the API server accepts the credential; it {ends}could not be renewed: {why}"),
                )
            }
        },
        Answer::Lost(cause) if cause.kind == Kind::Credential => {
            let has_expired = facts.expires_at.is_some_and(|end| end <= now);
            let (reason, words) = if has_expired {
                (Reason::CredentialExpired, "the credential has expired")
            } else {
                (Reason::CredentialRejected, cause.words.as_str())
            };
            fails(reason, format!("{words}; register the cluster again with `kubectl medusa register`"))
        }
        Answer::None | Answer::Lost(_) => unknown(Reason::Unreachable, "the API server does not answer"),
    }
}

fn listed(
    missing: Option<&Vec<String>>,
    answered: bool,
    good: (Reason, &str),
    bad: (Reason, &str),
) -> ConditionVerdict {
    match missing {
        _ if !answered => unknown(Reason::Unreachable, "the API server does not answer"),
        None => unknown(Reason::Connecting, "it was not asked yet"),
        Some(missing) if missing.is_empty() => holds(good.0, good.1),
        Some(missing) => fails(bad.0, format!("{}: {}", bad.1, missing.join(", "))),
    }
}

fn authorized(facts: &Facts<'_>) -> ConditionVerdict {
    let verdict = listed(
        facts.health.missing_permissions.as_ref(),
        facts.refusal.is_none() && facts.health.answer == Answer::Answered,
        (Reason::PermissionsGranted, "every permission needed is granted"),
        (
            Reason::PermissionsMissing,
            &format!("apply {ROLE} there, for the account of this kubeconfig. Missing"),
        ),
    );
    let verdict = match (&facts.health.missing_permissions, &facts.health.no_permissions) {
        (None, Some(Why { reason, message })) if facts.health.answer == Answer::Answered => {
            unknown(*reason, format!("what it permits cannot be asked for: {message}"))
        }
        _ => verdict,
    };
    let hosts = !facts.health.hosts_none;
    let denied = facts.view.capabilities.denied();
    let hidden = facts.health.controller_hidden.as_ref();
    let hidden = hidden.map(|verb| format!("who runs the backups there cannot be told without {verb}"));
    let nameless = facts.health.no_cluster_id.as_ref().filter(|cause| cause.kind == Kind::Forbidden);
    let nameless = nameless.map(|_| NAMELESS.to_owned());
    let limits = [Some(denied).filter(|d| hosts && !d.is_empty()), hidden.filter(|_| hosts), nameless];
    let limits: Vec<String> = limits.into_iter().flatten().collect();
    if limits.is_empty() {
        return verdict;
    }
    limited(
        verdict,
        "what backups need is granted",
        &format!("{}. Apply {ROLE} there, for the account of this kubeconfig", limits.join("; ")),
    )
}

/// A verdict that holds for backups, with what else does not work; any other as it is.
fn limited((status, reason, message): ConditionVerdict, what: &str, limits: &str) -> ConditionVerdict {
    match status {
        Some(true) if !limits.is_empty() => (status, reason, format!("{what}; {limits}")),
        Some(_) | None => (status, reason, message),
    }
}

fn served(facts: &Facts<'_>) -> ConditionVerdict {
    if facts.health.hosts_none {
        return holds(
            Reason::HostsNoDatacenters,
            "no CassandraDatacenter definition here: the cluster hosts no datacenters",
        );
    }
    let verdict = listed(
        facts.health.missing_definitions.as_ref(),
        facts.refusal.is_none() && facts.health.answer == Answer::Answered,
        (Reason::DefinitionsServed, "every definition needed is served"),
        (
            Reason::DefinitionMissing,
            "not served (install cass-operator, and the Medusa definitions with `medusa-fleet crds`)",
        ),
    );
    limited(verdict, "what backups need is served", &facts.view.capabilities.unserved())
}

fn synced(facts: &Facts<'_>) -> ConditionVerdict {
    if facts.view.is_live() {
        let said = match facts.view.unreadable().as_slice() {
            [] => String::new(),
            [one] => format!("; 1 object cannot be used: {one}"),
            all @ [first, ..] => format!("; {} objects cannot be used, the first: {first}", all.len()),
        };
        return holds(Reason::WatchesLive, format!("every watch has caught up{said}"));
    }
    match &facts.view.contact {
        Contact::Live => {
            let awaited: Vec<String> = facts.view.unshown().into_iter().collect();
            let message = format!("not every watch shows what is there: {}", awaited.join("; "));
            fails(Reason::WatchesStale, message)
        }
        Contact::NotTried => unknown(Reason::Connecting, "it was not asked yet"),
        Contact::Never { why } => unknown(Reason::Connecting, why),
        Contact::Lost { why, .. } => unknown(Reason::Unreachable, why),
    }
}

fn unique(facts: &Facts<'_>) -> ConditionVerdict {
    match (facts.twin, &facts.health.cluster_id, &facts.health.no_cluster_id) {
        (Some(twin), ..) if twin.is_allowed => holds(
            Reason::DuplicateAllowed,
            format!(
                "it is used beside DataPlane `{}`, as `spec.allowDuplicateClusterId` is set: {}",
                twin.name, twin.evidence
            ),
        ),
        (Some(twin), ..) => fails(
            Reason::DuplicateCluster,
            format!(
                "it is held for the same cluster as DataPlane `{}`, which came first, and is not used: {}. Unregister one \
                 of them, or, if they are two clusters, such as clones of one image, set \
                 `spec.allowDuplicateClusterId: true`",
                twin.name, twin.evidence
            ),
        ),
        (None, Some(_), _) => holds(Reason::UniqueCluster, "no other DataPlane is this cluster"),
        (None, None, Some(cause)) => unknown(
            Reason::IdentityUnknown,
            format!(
                "the uid of its namespace kube-system cannot be read; it is used all the same: {}",
                cause.words
            ),
        ),
        (None, None, None) => unknown(Reason::Connecting, "the cluster's identity is not known yet"),
    }
}

/// The first thing that is not as it should be, in the order a person would look; a sync that is merely
/// under way counts only when nothing else is wrong, and an identity that may not be asked for never does.
fn ready(facts: &Facts<'_>, verdicts: &[(&str, ConditionVerdict)]) -> ConditionVerdict {
    if facts.paused {
        return fails(Reason::Paused, "`spec.paused` is set: nothing is written there");
    }
    let wrong = verdicts.iter().find(|(_, (status, ..))| *status == Some(false)).or_else(|| {
        let mut open = verdicts.iter().filter(|(_, (status, ..))| status.is_none());
        open.find(|(_, (_, reason, _))| *reason != Reason::IdentityUnknown)
    });
    match wrong {
        Some((_, (status, reason, message))) => (*status, *reason, message.clone()),
        None => holds(Reason::Ready, "the data plane can be used"),
    }
}

#[cfg(test)]
mod tests;
