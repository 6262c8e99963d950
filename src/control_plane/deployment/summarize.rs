//! What a datacenter's report says. Pure.

use std::collections::BTreeMap;

use super::{
    ownership::{conflict::Kept, diff::Diff},
    pod::{fields::FieldPath, template},
    report::DatacenterReport,
    rollout::Stability,
};
use crate::{
    api::{
        Reason, Why,
        fleet::{CredentialsState, DeploymentState, KeptField, MedusaChange},
        names,
    },
    control_plane::data_planes::membership::DatacenterPlace,
};

/// Most owners that are named in a message.
const NAMED: usize = 3;

/// What has been found out about a datacenter that shall be changed.
pub struct Found<'a> {
    pub place: &'a DatacenterPlace,
    /// What an apply would change.
    pub diff: &'a Diff,
    /// What is left to others.
    pub kept: &'a [Kept],
    /// The user that would be added (`to`) or taken out (`from`).
    pub user: Option<MedusaChange>,
    /// Content hashes of its Secrets, by name; `None` when Medusa is taken out.
    pub secrets: Option<&'a BTreeMap<String, String>>,
}

/// A report of what was found, with a state and why.
#[must_use]
pub fn report(found: &Found<'_>, state: DeploymentState, why: Option<Why>) -> DatacenterReport {
    let changes = found.diff.changes.iter().map(|change| MedusaChange {
        path: change.path.clone(),
        from: change.from.clone(),
        to: change.to.clone(),
    });
    let changes: Vec<MedusaChange> = found.user.clone().into_iter().chain(changes).collect();
    let hash = |secrets: &BTreeMap<String, String>| {
        template::checksum(secrets.iter().map(|(name, hash)| (name.as_str(), hash.as_str())))
    };
    DatacenterReport {
        more_changes: found.diff.more,
        restarts_pods: (!changes.is_empty()).then_some(found.diff.restarts_pods),
        kept: found
            .kept
            .iter()
            .map(|k| KeptField { path: k.path.clone(), manager: k.owner.clone() })
            .collect(),
        credentials: found.secrets.map(|secrets| CredentialsState { synced: true, hash: hash(secrets) }),
        changes,
        ..DatacenterReport::new(found.place, state, why)
    }
}

/// The change of `spec.users` that a merge patch of [`super::users`] makes.
#[must_use]
pub fn user_change(patch: Option<&serde_json::Value>) -> Option<MedusaChange> {
    let marked =
        patch?.pointer("/metadata/annotations").and_then(|a| a.as_object()?.values().next().cloned());
    let name = marked.and_then(|value| value.as_str().map(str::to_owned));
    let (from, to) = match &name {
        Some(name) => (None, Some(name.clone())),
        None => (Some("Medusa's user".to_owned()), None),
    };
    Some(MedusaChange { path: ".spec.users".to_owned(), from, to })
}

/// The report of a datacenter that is as asked for.
#[must_use]
pub fn in_place(found: &Found<'_>, stability: &Stability, remark: Option<Why>) -> DatacenterReport {
    let (state, why) = match stability {
        Stability::Stable | Stability::Stopped => {
            (DeploymentState::Deployed, remark.or_else(|| kept(found.kept)))
        }
        Stability::Unstable(why) | Stability::Unknown(why) => {
            let message = format!("everything is applied; the datacenter is not settled: {why}");
            (DeploymentState::Progressing, Some(Why::new(Reason::DatacenterNotReady, message)))
        }
        Stability::Missing => {
            (DeploymentState::NotFound, Some(Why::new(Reason::DatacenterNotFound, "the datacenter is gone")))
        }
    };
    report(found, state, why)
}

/// What is said when Medusa was taken out: `pieces` are those in which others had a part.
#[must_use]
pub fn removing(pieces: &[FieldPath]) -> String {
    let named = names::listed(pieces.iter().map(|piece| format!("`{piece}`")), NAMED);
    let with =
        if named.is_empty() { String::new() } else { format!(", with what others had set in {named}") };
    format!("Medusa was taken out{with}; cass-operator is at work")
}

fn kept(kept: &[Kept]) -> Option<Why> {
    if kept.is_empty() {
        return None;
    }
    let named = names::listed(kept.iter().map(|field| format!("{} of {}", field.path, field.owner)), NAMED);
    let message = format!("fields that others set are left as they are: {named}");
    Some(Why::new(Reason::FieldsKept, message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::control_plane::{data_planes::view::ObjectKey, deployment::pod::users};

    fn place() -> DatacenterPlace {
        DatacenterPlace { plane: "eu".to_owned(), object: ObjectKey::new("cass", "dc1") }
    }

    #[test]
    fn what_is_in_place_is_deployed_when_the_datacenter_is_settled() {
        let (place, diff) = (place(), Diff::default());
        let kept = [Kept { path: ".spec.x".to_owned(), owner: "kubectl-edit".to_owned() }];
        let found = Found { place: &place, diff: &diff, kept: &kept, user: None, secrets: None };
        let report = in_place(&found, &Stability::Stable, None);
        assert_eq!(report.state, DeploymentState::Deployed);
        assert_eq!(report.why.as_ref().map(|why| why.reason), Some(Reason::FieldsKept));
        assert_eq!((report.restarts_pods, report.kept[0].manager.as_str()), (None, "kubectl-edit"));
        let restless = in_place(&found, &Stability::Unstable("it is not Ready".to_owned()), None);
        assert_eq!(restless.state, DeploymentState::Progressing);
        assert!(restless.why.unwrap().message.contains("it is not Ready"));
    }

    #[test]
    fn what_others_lost_with_medusa_is_named() {
        assert_eq!(removing(&[]), "Medusa was taken out; cass-operator is at work");
        let pieces = ["a", "b", "c", "d", "e"].map(|name| FieldPath::of(&["spec", name]));
        let message = removing(&pieces);
        assert!(
            message.contains("with what others had set in `.spec.a`, `.spec.b`, `.spec.c` and 2 more;"),
            "{message}"
        );
    }

    #[test]
    fn a_change_of_the_users_alone_restarts_nothing() {
        let live = json!({"metadata": {"uid": "u", "resourceVersion": "1"}, "spec": {}});
        let patch = users::patch(&live, Some("shop-medusa"));
        let (place, diff) = (place(), Diff::default());
        let user = user_change(patch.as_ref());
        let found = Found { place: &place, diff: &diff, kept: &[], user, secrets: Some(&BTreeMap::new()) };
        let report = report(&found, DeploymentState::Paused, None);
        assert_eq!((report.changes[0].path.as_str(), report.restarts_pods), (".spec.users", Some(false)));
        assert_eq!(report.changes[0].to.as_deref(), Some("shop-medusa"));
        assert!(report.credentials.unwrap().synced);
        assert_eq!(user_change(None), None);
    }
}
