//! Conditions of DataPlanes, by what is known of them.

use super::*;
use crate::{
    api::Conditions as _,
    control_plane::data_planes::capabilities::{self, Capabilities},
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
        stale: None,
        twin: None,
        rejected: None,
        inherited: None,
        paused: false,
        expires_at: None,
        not_renewed: None,
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
    let twin = Twin { name: "eu".into(), evidence: "the same uid".into(), is_allowed: false };
    let double = Facts { twin: Some(&twin), ..facts(&health, &view) };
    assert_eq!(ready_of(&double), ("False".into(), "DuplicateCluster".into()));
    let twin = Twin { is_allowed: true, ..twin };
    let allowed = Facts { twin: Some(&twin), ..facts(&health, &view) };
    assert_eq!(ready_of(&allowed), ("True".into(), "Ready".into()));
}

#[test]
fn who_else_asks_for_its_name_is_said_for_as_long_as_it_does_and_does_not_count() {
    let (health, view) = (healthy(), live());
    let rejected = Why::new(Reason::NameConflict, "ClientConfig `ops/eu` is not used");
    let mut list = Vec::new();
    let asked = Facts { rejected: Some(&rejected), ..facts(&health, &view) };
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
    view.backups.blur(
        crate::control_plane::data_planes::view::ObjectKey::new("ns", "b"),
        "MedusaBackup ns/b cannot".into(),
    );
    let said = |view: &View| {
        let mut list = Vec::new();
        conditions(&mut list, &facts(&health, view), None, Timestamp::UNIX_EPOCH);
        let synced = list.of_type("Synced").unwrap();
        (synced.status.clone(), synced.reason.clone(), synced.message.clone())
    };
    let (status, _, message) = said(&view);
    assert!(status == "True" && message.contains("1 object cannot be used: MedusaBackup ns/b"), "{message}");
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
    let health = Health { answer: Answer::Lost(Cause::new(Kind::Refused, "refused")), ..healthy() };
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
    let health = Health { answer: Answer::Lost(Cause::new(Kind::Credential, "401")), ..healthy() };
    let view = live();
    let expired = Facts { expires_at: Some(Timestamp::UNIX_EPOCH), ..facts(&health, &view) };
    assert_eq!(ready_of(&expired).1, "CredentialExpired");
    assert_eq!(ready_of(&facts(&health, &view)).1, "CredentialRejected");
}

#[test]
fn a_credential_that_could_not_be_renewed_is_good_until_it_ends_and_says_why() {
    let (health, view) = (healthy(), live());
    let failed = Facts {
        expires_at: Some(Timestamp::UNIX_EPOCH),
        not_renewed: Some("it may not"),
        ..facts(&health, &view)
    };
    let mut list = Vec::new();
    conditions(&mut list, &failed, None, Timestamp::UNIX_EPOCH);
    let said = list.of_type("Authenticated").unwrap();
    assert_eq!((said.status.as_str(), said.reason.as_str()), ("True", "RenewalFailed"));
    assert!(said.message.contains("ends at 1970-01-01T00:00:00Z and could not be renewed: it may not"));
    assert_eq!(ready_of(&failed), ("True".into(), "Ready".into()));
}

#[test]
fn each_cause_of_silence_has_a_reason_of_its_own() {
    let silent = [
        (Kind::NameNotFound, "NameNotFound"),
        (Kind::Refused, "ConnectionRefused"),
        (Kind::TimedOut, "TimedOut"),
        (Kind::Certificate, "CertificateRejected"),
        (Kind::Proxy, "ProxyFailed"),
        (Kind::NotKubernetes, "NotKubernetes"),
        (Kind::Unbounded, "AnswerUnbounded"),
        (Kind::RateLimited, "RateLimited"),
        (Kind::Trouble, "ApiServerFailing"),
        (Kind::Unreachable, "Unreachable"),
    ];
    for (kind, reason) in silent {
        let health = Health { answer: Answer::from_cause(Cause::new(kind, "why"), false), ..healthy() };
        let mut list = Vec::new();
        let mut view = live();
        view.contact = Contact::Never { why: "why".into() };
        conditions(&mut list, &facts(&health, &view), None, Timestamp::UNIX_EPOCH);
        let reachable = list.of_type("Reachable").unwrap();
        assert_eq!((reachable.status.as_str(), reachable.reason.as_str()), ("False", reason));
        assert_eq!(list.of_type("Ready").unwrap().reason, reason);
        assert_eq!(list.of_type("Authenticated").unwrap().status, "Unknown");
    }
}

#[test]
fn an_api_server_that_asks_for_patience_keeps_what_is_live_and_refusals_are_answers() {
    let answer = |kind, was_live| Answer::from_cause(Cause::new(kind, "x"), was_live);
    assert_eq!(answer(Kind::RateLimited, true), Answer::Answered);
    assert_ne!(answer(Kind::RateLimited, false), Answer::Answered);
    for was_live in [true, false] {
        assert_eq!(answer(Kind::Forbidden, was_live), Answer::Answered);
        assert_eq!(answer(Kind::Answered, was_live), Answer::Answered);
        assert!(answer(Kind::Trouble, was_live).may_be_luck());
        assert!(!answer(Kind::Certificate, was_live).may_be_luck());
        assert!(!answer(Kind::Credential, was_live).may_be_luck());
    }
}

#[test]
fn a_cluster_that_does_not_say_who_it_is_is_used_and_the_missing_permission_named() {
    let forbidden = Cause::new(Kind::Forbidden, "namespaces \"kube-system\" is forbidden");
    let health = Health { cluster_id: None, no_cluster_id: Some(forbidden), ..healthy() };
    let view = live();
    let mut list = Vec::new();
    conditions(&mut list, &facts(&health, &view), None, Timestamp::UNIX_EPOCH);
    let unique = list.of_type("Unique").unwrap();
    assert_eq!((unique.status.as_str(), unique.reason.as_str()), ("Unknown", "IdentityUnknown"));
    let authorized = list.of_type("Authorized").unwrap();
    assert_eq!(authorized.status, "True");
    assert!(authorized.message.contains("; not permitted: get namespaces/kube-system"), "{authorized:?}");
    assert!(list.is_true("Ready"), "{list:?}");
}

#[test]
fn permissions_that_cannot_be_asked_for_say_why() {
    let denied = Why::new(Reason::DeniedByPolicy, "policy 'x' denied request");
    let health = Health { missing_permissions: None, no_permissions: Some(denied), ..healthy() };
    let view = live();
    let mut list = Vec::new();
    conditions(&mut list, &facts(&health, &view), None, Timestamp::UNIX_EPOCH);
    let authorized = list.of_type("Authorized").unwrap();
    assert_eq!((authorized.status.as_str(), authorized.reason.as_str()), ("Unknown", "DeniedByPolicy"));
    assert_eq!(list.of_type("Ready").unwrap().reason, "DeniedByPolicy");
}

#[test]
fn every_reason_that_can_stand_on_a_data_plane_is_in_its_page() {
    let page = include_str!("../../../../docs/dataplane.md");
    // What is written in the files that judge DataPlanes and their kubeconfigs.
    let sources = [
        include_str!("../health.rs"),
        include_str!("../credential.rs"),
        include_str!("../kubeconfig.rs"),
        include_str!("../controller.rs"),
        include_str!("../sources.rs"),
        include_str!("../registration.rs"),
        include_str!("../unregister.rs"),
        include_str!("../admit.rs"),
        include_str!("../unreadable.rs"),
    ];
    let mut seen = 0;
    for source in sources {
        let shipped = source.split("#[cfg(test)]").next().unwrap();
        for (_, rest) in shipped.match_indices("Reason::").map(|(at, word)| shipped.split_at(at + word.len()))
        {
            let name: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
            if Reason::of(&name).is_some_and(|reason| !OF_EVENTS.contains(&reason)) {
                assert!(page.contains(&format!("`{name}`")), "docs/dataplane.md says nothing of {name}");
                seen += 1;
            }
        }
    }
    assert!(seen > 30, "{seen} is not all");
}

/// Reasons of Events about registering, which stand on no condition.
const OF_EVENTS: [Reason; 1] = [Reason::InvalidObject];
