//! From what a data plane answered to its DataPlane's conditions. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::{
    api::{Reason, Why, condition::set_condition, fleet::MedusaController},
    control_plane::data_planes::view::{Contact, View},
    runtime::cause::{Cause, Kind},
};

/// How the last question to an API server ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// It was not asked yet.
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
}

/// What is known about reaching one data plane.
#[derive(Clone, Debug, Default, PartialEq)]
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
    /// Its version.
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
    /// Whether the user paused it.
    pub paused: bool,
    /// When the credential ends, when it says.
    pub expires_at: Option<Timestamp>,
    /// What is known about reaching it.
    pub health: &'a Health,
    /// What its watches delivered.
    pub view: &'a View,
}

/// Another DataPlane that says it is the same cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twin {
    /// Its name.
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
/// What to do about a missing permission.
const GRANT: &str = "Apply kubeconfigs/data-plane-rbac.yaml there, for the account of this kubeconfig";

type Verdict = (Option<bool>, Reason, String);

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
}

fn accepted(facts: &Facts<'_>) -> Verdict {
    match (facts.refusal, facts.stale) {
        (Some(refusal), _) => (Some(false), refusal.reason, refusal.message.clone()),
        (None, Some(stale)) => (
            Some(true),
            Reason::KubeconfigAccepted,
            format!("the kubeconfig that was read before is used on; {}", stale.message),
        ),
        (None, None) => {
            (Some(true), Reason::KubeconfigAccepted, "the kubeconfig is readable and safe".to_owned())
        }
    }
}

fn not_asked(facts: &Facts<'_>) -> Verdict {
    let why = if facts.refusal.is_some() { "its kubeconfig is not accepted" } else { "it was not asked yet" };
    (None, Reason::Connecting, why.to_owned())
}

fn reachable(facts: &Facts<'_>) -> Verdict {
    if facts.refusal.is_some() {
        return not_asked(facts);
    }
    match &facts.health.answer {
        Answer::None => not_asked(facts),
        Answer::Lost(cause) if cause.kind != Kind::Credential => {
            (Some(false), Kind::reason(cause.kind), cause.words.clone())
        }
        Answer::Answered | Answer::Lost(_) => {
            (Some(true), Reason::Answered, "the API server answers".to_owned())
        }
    }
}

fn authenticated(facts: &Facts<'_>, now: Timestamp) -> Verdict {
    if facts.refusal.is_some() {
        return not_asked(facts);
    }
    match &facts.health.answer {
        Answer::Answered => {
            (Some(true), Reason::CredentialAccepted, "the API server accepts the credential".to_owned())
        }
        Answer::Lost(cause)
            if cause.kind == Kind::Credential && facts.expires_at.is_some_and(|end| end <= now) =>
        {
            (
                Some(false),
                Reason::CredentialExpired,
                "the credential has expired; register the cluster again with `kubectl medusa register`"
                    .to_owned(),
            )
        }
        Answer::Lost(cause) if cause.kind == Kind::Credential => (
            Some(false),
            Reason::CredentialRejected,
            format!("{}; register the cluster again with `kubectl medusa register`", cause.words),
        ),
        Answer::None | Answer::Lost(_) => {
            (None, Reason::Unreachable, "the API server does not answer".to_owned())
        }
    }
}

fn listed(
    missing: Option<&Vec<String>>,
    answered: bool,
    good: (Reason, &str),
    bad: (Reason, &str),
) -> Verdict {
    match missing {
        _ if !answered => (None, Reason::Unreachable, "the API server does not answer".to_owned()),
        None => (None, Reason::Connecting, "it was not asked yet".to_owned()),
        Some(missing) if missing.is_empty() => (Some(true), good.0, good.1.to_owned()),
        Some(missing) => (Some(false), bad.0, format!("{}: {}", bad.1, missing.join(", "))),
    }
}

fn authorized(facts: &Facts<'_>) -> Verdict {
    let verdict = listed(
        facts.health.missing_permissions.as_ref(),
        facts.refusal.is_none() && facts.health.answer == Answer::Answered,
        (Reason::PermissionsGranted, "every permission needed is granted"),
        (
            Reason::PermissionsMissing,
            "missing (apply kubeconfigs/data-plane-rbac.yaml there, for the account of this kubeconfig)",
        ),
    );
    let verdict = match (&facts.health.missing_permissions, &facts.health.no_permissions) {
        (None, Some(Why { reason, message })) if facts.health.answer == Answer::Answered => {
            (None, *reason, format!("what it permits cannot be asked for: {message}"))
        }
        _ => verdict,
    };
    let hosts = !facts.health.hosts_none;
    let denied = facts.view.capabilities.denied();
    let hidden = facts.health.controller_hidden.as_ref();
    let hidden = hidden.map(|verb| format!("who runs the backups there cannot be told without {verb}"));
    let nameless = facts.health.no_cluster_id.as_ref().filter(|cause| cause.kind == Kind::Forbidden);
    let nameless = nameless.map(|_| NAMELESS.to_owned());
    let limits: Vec<String> =
        [Some(denied).filter(|d| hosts && !d.is_empty()), hidden.filter(|_| hosts), nameless]
            .into_iter()
            .flatten()
            .collect();
    if limits.is_empty() {
        return verdict;
    }
    let what = "what backups need is granted";
    limited(verdict, what, &format!("{}. {GRANT}", limits.join("; ")))
}

/// A verdict that holds for backups, with what else does not work; any other as it is.
fn limited((status, reason, message): Verdict, what: &str, limits: &str) -> Verdict {
    match status {
        Some(true) if !limits.is_empty() => (status, reason, format!("{what}; {limits}")),
        Some(_) | None => (status, reason, message),
    }
}

fn served(facts: &Facts<'_>) -> Verdict {
    if facts.health.hosts_none {
        return (
            Some(true),
            Reason::HostsNoDatacenters,
            "no CassandraDatacenter definition here: the cluster hosts no datacenters".to_owned(),
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

fn synced(facts: &Facts<'_>) -> Verdict {
    if facts.view.is_live() {
        let said = match facts.view.unreadable().as_slice() {
            [] => String::new(),
            [one] => format!("; 1 object cannot be used: {one}"),
            [first, ..] => {
                format!("; {} objects cannot be used, the first: {first}", facts.view.unreadable().len())
            }
        };
        return (Some(true), Reason::WatchesLive, format!("every watch has caught up{said}"));
    }
    match &facts.view.contact {
        Contact::Live => {
            let awaited: Vec<String> = facts.view.unshown().into_iter().collect();
            let message = format!("not every watch shows what is there: {}", awaited.join("; "));
            (Some(false), Reason::WatchesStale, message)
        }
        Contact::NotTried => (None, Reason::Connecting, "it was not asked yet".to_owned()),
        Contact::Never { why } => (None, Reason::Connecting, why.clone()),
        Contact::Lost { why, .. } => (None, Reason::Unreachable, why.clone()),
    }
}

fn unique(facts: &Facts<'_>) -> Verdict {
    match (facts.twin, &facts.health.cluster_id) {
        (Some(twin), _) if twin.is_allowed => (
            Some(true),
            Reason::DuplicateAllowed,
            format!(
                "it is used beside DataPlane `{}`, as `spec.allowDuplicateClusterId` is set: {}",
                twin.name, twin.evidence
            ),
        ),
        (Some(twin), _) => (
            Some(false),
            Reason::DuplicateCluster,
            format!(
                "it is held for the same cluster as DataPlane `{}`, which came first, and is not used: {}. Unregister one \
                 of them, or, if they are two clusters, such as clones of one image, set \
                 `spec.allowDuplicateClusterId: true`",
                twin.name, twin.evidence
            ),
        ),
        (None, Some(_)) => {
            (Some(true), Reason::UniqueCluster, "no other DataPlane is this cluster".to_owned())
        }
        (None, None) if facts.health.no_cluster_id.is_some() => {
            let cause =
                facts.health.no_cluster_id.iter().map(|cause| cause.words.as_str()).collect::<String>();
            let words = format!(
                "the uid of its namespace kube-system cannot be read; it is used all the same: {cause}"
            );
            (None, Reason::IdentityUnknown, words)
        }
        (None, None) => (None, Reason::Connecting, "the cluster's identity is not known yet".to_owned()),
    }
}

/// The first thing that is not as it should be, in the order a person would look; a sync that is merely
/// under way counts only when nothing else is wrong, and an identity that may not be asked for never does.
fn ready(facts: &Facts<'_>, verdicts: &[(&str, Verdict)]) -> Verdict {
    if facts.paused {
        return (Some(false), Reason::Paused, "`spec.paused` is set: nothing is written there".to_owned());
    }
    let wrong = verdicts.iter().find(|(_, (status, ..))| *status == Some(false)).or_else(|| {
        let mut open = verdicts.iter().filter(|(_, (status, ..))| status.is_none());
        open.find(|(_, (_, reason, _))| *reason != Reason::IdentityUnknown)
    });
    match wrong {
        Some((_, (status, reason, message))) => (*status, *reason, message.clone()),
        None => (Some(true), Reason::Ready, "the data plane can be used".to_owned()),
    }
}

#[cfg(test)]
mod tests;
