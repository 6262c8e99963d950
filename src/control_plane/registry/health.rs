//! From what a data plane answered to its DataPlane's conditions. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::kubeconfig::Refusal;
use crate::{
    api::{Reason, condition::set_condition, fleet::MedusaController},
    control_plane::view::{Contact, View},
};

/// How the last question to an API server ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// It was not asked yet.
    #[default]
    None,
    /// It answered.
    Answered,
    /// It did not.
    Unreachable(String),
    /// Its certificate is not one we trust.
    CertificateRejected(String),
    /// It does not accept our credential.
    CredentialRejected(String),
}

impl Answer {
    /// What an error of the Kubernetes client says about the cluster.
    #[must_use]
    pub fn from_error(error: &kube::Error) -> Self {
        if let kube::Error::Api(status) = error {
            return if status.code == 401 {
                Self::CredentialRejected("the API server answered 401 Unauthorized".to_owned())
            } else {
                Self::Answered // Any other answer is an answer.
            };
        }
        let text = error.to_string();
        if text.contains("invalid peer certificate") {
            Self::CertificateRejected(text)
        } else {
            Self::Unreachable(text)
        }
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
    /// Its version.
    pub version: Option<String>,
    /// Who reconciles the Medusa kinds there.
    pub controller: Option<MedusaController>,
    /// Permissions we need and do not have; `None` until asked.
    pub missing_permissions: Option<Vec<String>>,
    /// Definitions we need that are not served; `None` until asked.
    pub missing_definitions: Option<Vec<String>>,
    /// Whether the cluster hosts no datacenters and need not (the control plane's own).
    pub hosts_none: bool,
}

/// Everything a DataPlane's conditions are made of.
pub struct Facts<'a> {
    /// Why the kubeconfig was refused, when it was.
    pub refusal: Option<&'a Refusal>,
    /// Name of the DataPlane that is the same cluster and comes first.
    pub duplicate_of: Option<&'a str>,
    /// Who else asks for its name and is not heard, and why.
    pub unheard: Option<&'a (Reason, String)>,
    /// Whether the user paused it.
    pub paused: bool,
    /// When the credential ends, when it says.
    pub expires_at: Option<Timestamp>,
    /// What is known about reaching it.
    pub health: &'a Health,
    /// What its watches delivered.
    pub view: &'a View,
}

/// Condition that is False while somebody else asks for the DataPlane's name.
const REGISTRATIONS: &str = "RegistrationsAccepted";

type Verdict = (Option<bool>, Reason, String);

/// Writes every condition of a DataPlane (contract §2.2) into `conditions`.
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
    match facts.unheard {
        Some((reason, message)) => {
            set_condition(conditions, REGISTRATIONS, Some(false), *reason, message.clone(), generation, now);
        }
        None => conditions.retain(|condition| condition.type_ != REGISTRATIONS),
    }
}

fn accepted(facts: &Facts<'_>) -> Verdict {
    match facts.refusal {
        Some(refusal) => (Some(false), refusal.reason, refusal.message.clone()),
        None => (Some(true), Reason::KubeconfigAccepted, "the kubeconfig is readable and safe".to_owned()),
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
        Answer::Answered | Answer::CredentialRejected(_) => {
            (Some(true), Reason::Answered, "the API server answers".to_owned())
        }
        Answer::Unreachable(why) => (Some(false), Reason::Unreachable, why.clone()),
        Answer::CertificateRejected(why) => (Some(false), Reason::CertificateRejected, why.clone()),
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
        Answer::CredentialRejected(_) if facts.expires_at.is_some_and(|end| end <= now) => (
            Some(false),
            Reason::CredentialExpired,
            "the credential has expired; register the cluster again with `kubectl medusa register`"
                .to_owned(),
        ),
        Answer::CredentialRejected(why) => (
            Some(false),
            Reason::CredentialRejected,
            format!("{why}; register the cluster again with `kubectl medusa register`"),
        ),
        Answer::None | Answer::Unreachable(_) | Answer::CertificateRejected(_) => {
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
        None => (None, Reason::Connecting, "not asked yet".to_owned()),
        Some(missing) if missing.is_empty() => (Some(true), good.0, good.1.to_owned()),
        Some(missing) => (Some(false), bad.0, format!("{}: {}", bad.1, missing.join(", "))),
    }
}

fn authorized(facts: &Facts<'_>) -> Verdict {
    let verdict = listed(
        facts.health.missing_permissions.as_ref(),
        facts.refusal.is_none() && facts.health.answer == Answer::Answered,
        (Reason::PermissionsGranted, "every permission needed is granted"),
        (Reason::PermissionsMissing, "missing (apply kubeconfigs/data-plane-rbac.yaml there)"),
    );
    let limits = facts.view.capabilities.denied();
    if facts.health.hosts_none || limits.is_empty() {
        return verdict;
    }
    let what = "what backups need is granted";
    limited(verdict, what, &format!("{limits}. Apply kubeconfigs/data-plane-rbac.yaml there"))
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
            let awaited: Vec<String> = facts.view.awaits().into_iter().collect();
            let message = format!("not every watch shows what is there: {}", awaited.join("; "));
            (Some(false), Reason::WatchesStale, message)
        }
        Contact::NotTried => (None, Reason::Connecting, "it was not asked yet".to_owned()),
        Contact::Never { why } => (None, Reason::Connecting, why.clone()),
        Contact::Lost { why, .. } => (None, Reason::Unreachable, why.clone()),
    }
}

fn unique(facts: &Facts<'_>) -> Verdict {
    match (facts.duplicate_of, &facts.health.cluster_id) {
        (Some(first), _) => (
            Some(false),
            Reason::DuplicateCluster,
            format!("DataPlane `{first}` is the same cluster; this one is not used. Unregister one of them"),
        ),
        (None, Some(_)) => {
            (Some(true), Reason::UniqueCluster, "no other DataPlane is this cluster".to_owned())
        }
        (None, None) => (None, Reason::Connecting, "the cluster's identity is not known yet".to_owned()),
    }
}

/// The first thing that is not as it should be, in the order a person would look; a sync that is merely
/// under way counts only when nothing else is wrong.
fn ready(facts: &Facts<'_>, verdicts: &[(&str, Verdict)]) -> Verdict {
    if facts.paused {
        return (Some(false), Reason::Paused, "`spec.paused` is set: nothing is written there".to_owned());
    }
    let wrong = verdicts
        .iter()
        .find(|(_, (status, ..))| *status == Some(false))
        .or_else(|| verdicts.iter().find(|(_, (status, ..))| status.is_none()));
    match wrong {
        Some((_, (status, reason, message))) => (*status, *reason, message.clone()),
        None => (Some(true), Reason::Ready, "the data plane can be used".to_owned()),
    }
}

/// The reason of a summary condition as the word it was made from; `None` for a word that is not ours.
#[must_use]
pub fn summary_reason(ready: &Condition) -> Option<Reason> {
    [
        Reason::Ready,
        Reason::Paused,
        Reason::Connecting,
        Reason::WatchesStale,
        Reason::Unreachable,
        Reason::CertificateRejected,
        Reason::CredentialRejected,
        Reason::CredentialExpired,
        Reason::PermissionsMissing,
        Reason::DefinitionMissing,
        Reason::DuplicateCluster,
        Reason::SecretNotFound,
        Reason::KubeconfigKeyMissing,
        Reason::InvalidKubeconfig,
        Reason::UnsafeKubeconfig,
        Reason::ReservedName,
        Reason::InvalidSpec,
    ]
    .into_iter()
    .find(|reason| reason.as_str() == ready.reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::Conditions as _,
        control_plane::capabilities::{self, Capabilities},
    };

    fn ready_of(facts: &Facts<'_>) -> (String, String) {
        let mut list = Vec::new();
        conditions(&mut list, facts, Some(1), Timestamp::UNIX_EPOCH);
        let ready = list.of_type("Ready").unwrap();
        (ready.status.clone(), ready.reason.clone())
    }

    fn live() -> View {
        let mut view = View::unknown();
        view.set_synced();
        view
    }

    fn healthy() -> Health {
        Health {
            answer: Answer::Answered,
            cluster_id: Some("uid".to_owned()),
            missing_permissions: Some(vec![]),
            missing_definitions: Some(vec![]),
            ..Health::default()
        }
    }

    fn facts<'a>(health: &'a Health, view: &'a View) -> Facts<'a> {
        Facts {
            refusal: None,
            duplicate_of: None,
            unheard: None,
            paused: false,
            expires_at: None,
            health,
            view,
        }
    }

    #[test]
    fn ready_needs_every_condition() {
        let (health, view) = (healthy(), live());
        assert_eq!(ready_of(&facts(&health, &view)), ("True".into(), "Ready".into()));
        let paused = Facts { paused: true, ..facts(&health, &view) };
        assert_eq!(ready_of(&paused), ("False".into(), "Paused".into()));
        let double = Facts { duplicate_of: Some("eu"), ..facts(&health, &view) };
        assert_eq!(ready_of(&double), ("False".into(), "DuplicateCluster".into()));
    }

    #[test]
    fn who_else_asks_for_its_name_is_said_for_as_long_as_it_does_and_does_not_count() {
        let (health, view) = (healthy(), live());
        let unheard = (Reason::NameConflict, "ClientConfig `ops/eu` is not used".to_owned());
        let mut list = Vec::new();
        let asked = Facts { unheard: Some(&unheard), ..facts(&health, &view) };
        conditions(&mut list, &asked, None, Timestamp::UNIX_EPOCH);
        let condition = list.of_type(REGISTRATIONS).unwrap();
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "NameConflict"));
        assert!(list.is_true("Ready"));
        conditions(&mut list, &facts(&health, &view), None, Timestamp::UNIX_EPOCH);
        assert!(list.of_type(REGISTRATIONS).is_none());
    }

    #[test]
    fn a_missing_permission_is_named_and_outranks_what_follows_from_it() {
        let health = Health { missing_permissions: Some(vec!["create secrets".into()]), ..healthy() };
        let mut list = Vec::new();
        let mut view = live();
        view.secrets.trust.begin();
        conditions(&mut list, &facts(&health, &view), None, Timestamp::UNIX_EPOCH);
        assert!(list.of_type("Authorized").unwrap().message.contains("create secrets"));
        assert_eq!(list.of_type("Ready").unwrap().reason, "PermissionsMissing");
    }

    #[test]
    fn a_watch_that_has_failed_for_long_is_named_and_what_cannot_be_read_is_counted() {
        let health = healthy();
        let mut view = live();
        view.backups
            .blur(crate::control_plane::view::ObjectKey::new("ns", "b"), "MedusaBackup ns/b cannot".into());
        let said = |view: &View| {
            let mut list = Vec::new();
            conditions(&mut list, &facts(&health, view), None, Timestamp::UNIX_EPOCH);
            let synced = list.of_type("Synced").unwrap();
            (synced.status.clone(), synced.reason.clone(), synced.message.clone())
        };
        let (status, _, message) = said(&view);
        assert!(
            status == "True" && message.contains("1 object cannot be used: MedusaBackup ns/b"),
            "{message}"
        );
        view.backups.trust.fail(Timestamp::UNIX_EPOCH, "medusabackups cannot be followed: forbidden");
        let (status, reason, message) = said(&view);
        assert_eq!((status.as_str(), reason.as_str()), ("False", "WatchesStale"));
        assert!(message.contains("medusabackups cannot be followed: forbidden"), "{message}");
    }

    #[test]
    fn what_backups_do_without_is_said_and_does_not_count() {
        let (health, mut view) = (healthy(), live());
        let mut capabilities = Capabilities::all();
        capabilities.not_served = Some([capabilities::RESTORES.to_owned()].into());
        capabilities.not_granted = Some([("configmaps".to_owned(), vec!["list".to_owned()])].into());
        view.capabilities = std::sync::Arc::new(capabilities);
        let mut list = Vec::new();
        conditions(&mut list, &facts(&health, &view), None, Timestamp::UNIX_EPOCH);
        let message = |type_| list.of_type(type_).map(|c| (c.status.as_str(), c.message.clone())).unwrap();
        let (status, authorized) = message("Authorized");
        assert!(status == "True" && authorized.contains("no deploying Medusa"), "{authorized}");
        let (status, served) = message("Served");
        assert!(status == "True" && served.contains("no restores"), "{served}");
        assert!(list.is_true("Ready"));
    }

    #[test]
    fn silence_is_unknown_for_everything_but_reachable() {
        let health = Health { answer: Answer::Unreachable("refused".into()), ..healthy() };
        let mut view = live();
        view.contact = Contact::Lost { since: Timestamp::UNIX_EPOCH, why: "refused".into() };
        let mut list = Vec::new();
        conditions(&mut list, &facts(&health, &view), None, Timestamp::UNIX_EPOCH);
        assert_eq!(list.of_type("Reachable").unwrap().status, "False");
        for type_ in ["Authenticated", "Authorized", "Served", "Synced"] {
            assert_eq!(list.of_type(type_).unwrap().status, "Unknown", "{type_}");
        }
    }

    #[test]
    fn an_expired_credential_is_told_from_a_rejected_one() {
        let health = Health { answer: Answer::CredentialRejected("401".into()), ..healthy() };
        let view = live();
        let expired = Facts { expires_at: Some(Timestamp::UNIX_EPOCH), ..facts(&health, &view) };
        assert_eq!(ready_of(&expired).1, "CredentialExpired");
        assert_eq!(ready_of(&facts(&health, &view)).1, "CredentialRejected");
    }
}
