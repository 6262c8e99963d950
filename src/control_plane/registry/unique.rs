//! Which of several DataPlanes that say they are one cluster is used. Pure.
//!
//! Who came first keeps the cluster, whatever comes after it, for as long as its DataPlane is there: a newcomer that
//! brings the same identity, by mistake, as a clone or on purpose, silences nobody. Who was first stands in the statuses
//! and holds over restarts. A person may say that two of one identity are two clusters.

use jiff::Timestamp;

use crate::api::{Conditions as _, Reason, fleet::DataPlane};

/// A DataPlane that says which cluster it is, now or when it last answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claimant {
    pub(super) name: String,
    pub(super) uid: String,
    /// Uid of its kube-system namespace.
    pub(super) cluster_id: String,
    /// Since when it has had that identity to itself, when it has.
    pub(super) since: Option<Timestamp>,
    /// Whether it answered in this process: only then may it become the first.
    pub(super) is_known: bool,
    pub(super) is_local: bool,
    /// Whether it is used whoever else has its identity.
    pub(super) is_allowed: bool,
    pub(super) created: Option<Timestamp>,
}

impl Claimant {
    /// What a DataPlane and its link say. `cluster_id` is what it answered in this process, `since` since when this
    /// process has known it for the first.
    pub(super) fn of(
        plane: &DataPlane,
        cluster_id: Option<&String>,
        since: Option<(&str, Timestamp)>,
    ) -> Option<Self> {
        let status = plane.status.as_ref();
        let written = status.and_then(|status| status.cluster_id.as_ref());
        let id = cluster_id.or(written)?.clone();
        let unique = status.and_then(|status| status.conditions.of_type("Unique"));
        let stood = unique.filter(|c| {
            written == Some(&id) && c.status == "True" && c.reason == Reason::UniqueCluster.as_str()
        });
        let stood = stood.map(|condition| condition.last_transition_time.0);
        let here = since.filter(|(of, _)| *of == id).map(|(_, since)| since);
        Some(Self {
            name: plane.metadata.name.clone().unwrap_or_default(),
            uid: plane.metadata.uid.clone().unwrap_or_default(),
            since: [stood, here].into_iter().flatten().min(),
            is_known: cluster_id.is_some(),
            is_local: plane.spec.local == Some(true),
            is_allowed: plane.spec.allow_duplicate_cluster_id == Some(true),
            created: plane.metadata.creation_timestamp.as_ref().map(|time| time.0),
            cluster_id: id,
        })
    }

    fn rank(&self) -> impl Ord + '_ {
        // `None` is before any time: who has no claim comes after those who have.
        (self.since.is_none(), self.since, !self.is_local, self.created, &self.name)
    }
}

/// `claimants` with the DataPlane that is being looked at. One that was deleted meanwhile is not among those that stay, and
/// gives way as before until it is let go: what is in the cluster is the other's.
pub(super) fn with_own(mut claimants: Vec<Claimant>, own: Option<Claimant>) -> Vec<Claimant> {
    let is_new = |own: &Claimant| !claimants.iter().any(|one| one.uid == own.uid);
    let own = own.filter(is_new);
    claimants.extend(own);
    claimants
}

/// The one of `claimants` that cluster `id` is used through; `None` while none of them may be.
pub(super) fn first<'a>(claimants: &'a [Claimant], id: &str) -> Option<&'a Claimant> {
    claimants
        .iter()
        .filter(|one| one.cluster_id == id && !one.is_allowed && (one.is_known || one.since.is_some()))
        .min_by(|a, b| a.rank().cmp(&b.rank()))
}

/// The other DataPlane of the same identity that `uid` has to give way to.
pub(super) fn twin_of<'a>(claimants: &'a [Claimant], uid: &str) -> Option<&'a Claimant> {
    let one = claimants.iter().find(|one| one.uid == uid).filter(|one| !one.is_allowed)?;
    first(claimants, &one.cluster_id).filter(|first| first.uid != uid)
}

/// Another DataPlane of the same identity as `uid`, which is used all the same.
pub(super) fn beside<'a>(claimants: &'a [Claimant], uid: &str) -> Option<&'a Claimant> {
    let one = claimants.iter().find(|one| one.uid == uid).filter(|one| one.is_allowed)?;
    claimants.iter().find(|other| other.uid != uid && other.cluster_id == one.cluster_id)
}

/// Whether a DataPlane was last said to be another one's cluster.
pub(super) fn was_duplicate(plane: &DataPlane) -> bool {
    let unique = plane.status.as_ref().and_then(|status| status.conditions.of_type("Unique"));
    unique.is_some_and(|condition| condition.reason == Reason::DuplicateCluster.as_str())
}

/// By what a DataPlane reaches its cluster: two that differ in it may be two clusters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Host and port of the API server.
    pub(super) server: String,
    /// A hash of the authority its certificate is to be signed by; `None` for the system's.
    pub(super) authority: Option<String>,
}

/// What tells `one` from `other`, or why they are held for one, as the end of a sentence.
pub(super) fn evidence(one: Option<&End>, other: Option<&End>) -> String {
    let same = "their kube-system namespaces have the same uid";
    match (one, other) {
        (Some(one), Some(other)) if one == other => {
            format!("{same}, and both reach `{}` and trust the same authority", one.server)
        }
        (Some(one), Some(other)) => {
            let servers = if one.server == other.server {
                format!("both reach `{}`", one.server)
            } else {
                format!("they reach `{}` and `{}`", one.server, other.server)
            };
            let authority = if one.authority == other.authority {
                "trust the same authority"
            } else {
                "trust different authorities"
            };
            format!("{same}, though {servers} and {authority}")
        }
        _ => same.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimant(name: &str, created: i64) -> Claimant {
        Claimant {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            cluster_id: "k".to_owned(),
            since: None,
            is_known: true,
            is_local: false,
            is_allowed: false,
            created: Some(at(created)),
        }
    }

    #[test]
    fn one_that_is_deleted_while_it_is_looked_at_gives_way_until_it_is_let_go() {
        let (first, newcomer) = (claimant("eu", 1), claimant("eu-again", 2));
        let gives_way = |claimants: Vec<Claimant>| {
            let all = with_own(claimants, Some(newcomer.clone()));
            assert_eq!(all.iter().filter(|one| one.uid == newcomer.uid).count(), 1);
            twin_of(&all, &newcomer.uid).map(|other| other.name.clone())
        };
        assert_eq!(gives_way(vec![first.clone(), newcomer.clone()]).as_deref(), Some("eu"));
        assert_eq!(gives_way(vec![first.clone()]).as_deref(), Some("eu"), "it is not among those that stay");
        assert_eq!(gives_way(Vec::new()), None, "the other one is gone");
        assert_eq!(with_own(vec![first.clone()], None), [first], "nobody knows which cluster it is");
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn twins(claimants: &[Claimant]) -> Vec<Option<&str>> {
        claimants.iter().map(|one| twin_of(claimants, &one.uid).map(|first| first.name.as_str())).collect()
    }

    #[test]
    fn a_newcomer_never_silences_one_that_was_there_however_old_its_object_is() {
        let incumbent = Claimant { since: Some(at(100)), ..claimant("young", 50) };
        let newcomer = claimant("old", 1);
        assert_eq!(twins(&[incumbent.clone(), newcomer.clone()]), [None, Some("young")]);
        // Also while it does not answer, and against the control plane's own cluster.
        let silent = Claimant { is_known: false, ..incumbent.clone() };
        let local = Claimant { is_local: true, ..newcomer };
        assert_eq!(twins(&[silent, local]), [None, Some("young")]);
    }

    #[test]
    fn of_two_that_claim_it_the_older_claim_counts_and_then_the_older_object() {
        let a = Claimant { since: Some(at(7)), ..claimant("a", 9) };
        let b = Claimant { since: Some(at(8)), ..claimant("b", 1) };
        assert_eq!(twins(&[a.clone(), b.clone()]), [None, Some("a")]);
        let b = Claimant { since: Some(at(7)), ..b };
        assert_eq!(twins(&[a, b]), [Some("b"), None]);
        assert_eq!(twins(&[claimant("b", 1), claimant("a", 1)]), [Some("a"), None]);
        let local = Claimant { is_local: true, ..claimant("z", 9) };
        assert_eq!(twins(&[claimant("a", 1), local]), [Some("z"), None]);
    }

    #[test]
    fn nobody_gives_way_to_one_of_another_identity_or_that_was_never_asked() {
        let other = Claimant { cluster_id: "other".to_owned(), ..claimant("b", 1) };
        let unasked = Claimant { is_known: false, ..claimant("c", 0) };
        assert_eq!(twins(&[claimant("a", 2), other, unasked]), [None, None, Some("a")]);
    }

    #[test]
    fn who_is_allowed_is_used_and_takes_nothing_from_the_others() {
        let first = Claimant { since: Some(at(1)), ..claimant("a", 1) };
        let clone = Claimant { is_allowed: true, ..claimant("b", 2) };
        let third = claimant("c", 3);
        let all = [first, clone, third];
        assert_eq!(twins(&all), [None, None, Some("a")]);
        assert_eq!(beside(&all, "uid-b").map(|other| other.name.as_str()), Some("a"));
        assert_eq!(beside(&all, "uid-a"), None);
    }

    #[test]
    fn what_was_written_holds_over_a_restart_and_only_for_that_identity() {
        let plane: DataPlane = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "eu", "uid": "u"}, "spec": {"local": true},
            "status": {"clusterId": "k", "conditions": [{
                "type": "Unique", "status": "True", "reason": "UniqueCluster", "message": "",
                "lastTransitionTime": "1970-01-01T00:00:07Z",
            }]},
        }))
        .unwrap();
        let read = Claimant::of(&plane, None, None).unwrap();
        assert_eq!((read.cluster_id.as_str(), read.since, read.is_known), ("k", Some(at(7)), false));
        let read = Claimant::of(&plane, Some(&"k".to_owned()), Some(("k", at(3)))).unwrap();
        assert_eq!((read.since, read.is_known), (Some(at(3)), true));
        let moved = Claimant::of(&plane, Some(&"other".to_owned()), Some(("k", at(3)))).unwrap();
        assert_eq!((moved.cluster_id.as_str(), moved.since), ("other", None));
    }

    #[test]
    fn what_tells_them_apart_is_said() {
        let end = |server: &str, authority: &str| End {
            server: server.to_owned(),
            authority: Some(authority.to_owned()),
        };
        let said = |one, other| evidence(Some(&one), Some(&other));
        assert!(
            said(end("a:6443", "x"), end("a:6443", "x"))
                .contains("both reach `a:6443` and trust the same authority")
        );
        assert!(
            said(end("a:6443", "x"), end("b:6443", "y"))
                .contains("`a:6443` and `b:6443` and trust different authorities")
        );
        assert!(evidence(None, None).contains("kube-system"));
    }
}
