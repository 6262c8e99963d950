//! Fields that somebody else set on a CassandraDatacenter stay theirs: they are taken out of what we apply. Pure.
//!
//! Two ways lead there. The API server answers an apply that is not forced with 409 and names every field that
//! another manager owns with another value ([`leave`]). And where a value has kinds, such as the source of a volume,
//! somebody's other kind is no conflict to the API server, although both at once are no valid pod ([`yield_kinds`]).

use std::fmt;

use kube::core::Status;
use serde_json::Value;

use super::managed_fields::Owners;
use crate::{
    api::labels::MANAGER_DEPLOYMENT,
    control_plane::deployment::pod::{
        fields::{self, FieldPath},
        template,
    },
};

/// What the API server calls such a conflict.
const FIELD_MANAGER_CONFLICT: &str = "FieldManagerConflict";
/// Stands for an owner whose name is not known.
const SOMEBODY: &str = "somebody else";

/// A field that is left to its owner.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kept {
    /// The field's path.
    pub path: String,
    /// The field manager that set it, such as `kubectl-edit`.
    pub owner: String,
}

/// Why a conflict is not settled by leaving fields to their owners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsettled {
    /// The answer is about something else, such as another uid: read the object again.
    NoFieldConflict,
    /// The answer names a field that is not in what was applied.
    Unreadable(String),
    /// Somebody owns a whole list of the pod template, which this definition does not let them share.
    WholeList(Kept),
}

impl fmt::Display for Unsettled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFieldConflict => f.write_str("the conflict is not about fields"),
            Self::Unreadable(field) => write!(f, "the conflict is about `{field}`, which was not applied"),
            Self::WholeList(kept) => write!(
                f,
                "`{}` belongs to `{}` as a whole; install cass-operator's definition of CassandraDatacenter, whose \
                 lists are maps",
                kept.path, kept.owner
            ),
        }
    }
}

/// `body` without the fields that `answer`, a 409, says belong to others; and those fields, by path.
///
/// # Errors
/// When the answer is not such a conflict, or cannot be followed: then nothing may be applied.
pub fn leave(body: &Value, answer: &Status) -> Result<(Value, Vec<Kept>), Unsettled> {
    let causes = answer.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    let conflicts: Vec<_> = causes.iter().filter(|cause| cause.reason == FIELD_MANAGER_CONFLICT).collect();
    if conflicts.is_empty() {
        return Err(Unsettled::NoFieldConflict);
    }
    let mut reduced = body.clone();
    let mut kept = Vec::new();
    for cause in conflicts {
        let path = FieldPath::find(&cause.field, body)
            .filter(|path| !path.0.is_empty())
            .ok_or_else(|| Unsettled::Unreadable(cause.field.clone()))?;
        let left = Kept { path: path.to_string(), owner: owner(&cause.message) };
        if !path.is_in_an_item() && !template::is_annotation(&path) {
            return Err(Unsettled::WholeList(left));
        }
        path.remove(&mut reduced);
        kept.push(left);
    }
    kept.sort();
    kept.dedup();
    Ok((reduced, kept))
}

/// The first part of `body` that `result`, the API server's answer to applying it, does not have: an admission webhook
/// took it out again.
#[must_use]
pub fn taken_out(body: &Value, result: &Value) -> Option<FieldPath> {
    let spec = FieldPath::of(&["spec"]);
    let asked = spec.get(body).map(|part| fields::leaves(&spec, part)).unwrap_or_default();
    asked.into_keys().find(|path| path.get(result).is_none())
}

/// The manager a message such as `conflict with "kubectl-edit" using v1` names.
fn owner(message: &str) -> String {
    let name = message.split('"').nth(1).filter(|name| !name.is_empty());
    name.unwrap_or(SOMEBODY).to_owned()
}

/// `body` with nothing but the names of the volumes and variables of which `live` has another kind; and those.
///
/// A name stays, as everything does that holds a field left to others: what is no longer applied goes, also with
/// somebody's field in it.
#[must_use]
pub fn yield_kinds(live: &Value, body: &Value) -> (Value, Vec<Kept>) {
    let owners = Owners::of(live);
    let mut reduced = body.clone();
    let mut kept = Vec::new();
    for (list, path) in kinded(body) {
        let Some(ours) = path.get(body).and_then(|value| fields::items(list, value)) else { continue };
        for (step, item) in ours {
            let item_path = path.then(step);
            let theirs = item_path.get(live).and_then(Value::as_object).into_iter().flat_map(|o| o.keys());
            let other = theirs
                .filter(|name| item.get(name.as_str()).is_none())
                .find_map(|name| owners.other_than(MANAGER_DEPLOYMENT, &item_path.field(name)));
            if let Some(owner) = other {
                let fields = item.as_object().into_iter().flat_map(|object| object.keys());
                for field in fields.filter(|field| *field != "name") {
                    item_path.field(field).remove(&mut reduced);
                }
                kept.push(Kept { path: item_path.to_string(), owner: owner.to_owned() });
            }
        }
    }
    (reduced, kept)
}

/// The lists in `body` whose items have one of several kinds.
fn kinded(body: &Value) -> Vec<(&'static str, FieldPath)> {
    let spec = template::pod_spec();
    let mut found = vec![("volumes", spec.field("volumes"))];
    for list in ["containers", "initContainers"] {
        let path = spec.field(list);
        let items = path.get(body).and_then(|value| fields::items(list, value)).unwrap_or_default();
        found.extend(items.into_iter().map(|(step, _)| ("env", path.then(step).field("env"))));
    }
    found
}

#[cfg(test)]
mod tests {
    use kube::core::response::{StatusCause, StatusDetails};
    use proptest::{prelude::*, sample::subsequence};
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::control_plane::deployment::pod::{fields::leaves, template::tests::everything};

    fn answer(fields: &[String]) -> Status {
        let causes = fields.iter().map(|field| StatusCause {
            reason: FIELD_MANAGER_CONFLICT.to_owned(),
            message: "conflict with \"kubectl-edit\" using cassandra.datastax.com/v1beta1".to_owned(),
            field: field.clone(),
        });
        let details = StatusDetails {
            name: "dc1".to_owned(),
            group: "cassandra.datastax.com".to_owned(),
            kind: "cassandradatacenters".to_owned(),
            uid: String::new(),
            causes: causes.collect(),
            retry_after_seconds: 0,
        };
        Status { code: 409, details: Some(details), ..Status::default() }
    }

    #[test]
    fn a_users_edit_is_left_to_them_and_the_rest_is_applied() {
        let body = everything();
        let memory = r#".spec.podTemplateSpec.spec.containers[name="medusa"].resources.limits.memory"#;
        let (reduced, kept) = leave(&body, &answer(&[memory.to_owned(), memory.to_owned()])).unwrap();
        assert_eq!(kept, [Kept { path: memory.to_owned(), owner: "kubectl-edit".to_owned() }]);
        assert_eq!(FieldPath::find(memory, &reduced), None);
        let image = r#".spec.podTemplateSpec.spec.containers[name="medusa"].image"#;
        assert!(FieldPath::find(image, &reduced).is_some());
    }

    #[rstest]
    #[case(".spec.size")]
    #[case("")]
    #[case(r#".spec.podTemplateSpec.spec.containers[name="else"].image"#)]
    #[case("{{invalid path element}}")]
    fn an_answer_that_cannot_be_followed_applies_nothing(#[case] field: &str) {
        let found = leave(&everything(), &answer(&[field.to_owned()]));
        assert_eq!(found, Err(Unsettled::Unreadable(field.to_owned())));
    }

    #[test]
    fn a_list_that_cannot_be_shared_is_not_left_to_its_owner() {
        let list = ".spec.podTemplateSpec.spec.containers".to_owned();
        let found = leave(&everything(), &answer(std::slice::from_ref(&list)));
        let owner = "kubectl-edit".to_owned();
        assert_eq!(found, Err(Unsettled::WholeList(Kept { path: list, owner })));
    }

    #[test]
    fn what_a_webhook_takes_out_again_is_found_and_what_it_adds_or_changes_is_not() {
        let body = everything();
        assert_eq!(taken_out(&body, &body), None);
        let mut result = body.clone();
        let image = r#".spec.podTemplateSpec.spec.containers[name="medusa"].image"#;
        *result.pointer_mut("/spec/podTemplateSpec/spec/containers/0/image").unwrap() =
            json!("mirror/medusa");
        result["spec"]["size"] = json!(3);
        assert_eq!(taken_out(&body, &result), None);
        FieldPath::find(image, &body).unwrap().remove(&mut result);
        assert_eq!(taken_out(&body, &result).map(|path| path.to_string()).as_deref(), Some(image));
        assert!(taken_out(&body, &json!({"spec": {}})).is_some());
        assert_eq!(taken_out(&Value::Null, &Value::Null), None);
    }

    #[test]
    fn other_conflicts_are_not_about_fields() {
        let uid = Status { code: 409, message: "uid mismatch".to_owned(), ..Status::default() };
        assert_eq!(leave(&everything(), &uid), Err(Unsettled::NoFieldConflict));
        assert_eq!(leave(&everything(), &answer(&[])), Err(Unsettled::NoFieldConflict));
    }

    #[test]
    fn an_owner_without_a_name_is_somebody() {
        assert_eq!(owner("conflict"), SOMEBODY);
        assert_eq!(owner("conflict with \"argo\" with subresource \"x\" using v1"), "argo");
    }

    #[test]
    fn anothers_kind_of_volume_or_variable_is_left_to_them() {
        let spec = |volume: Value, env: Value| {
            json!({"spec": {"podTemplateSpec": {"spec": {
                "containers": [{"name": "medusa", "env": [env]}], "volumes": [volume],
            }}}})
        };
        let body = spec(
            json!({"name": "medusa-tmp", "emptyDir": {}}),
            json!({"name": "CQL_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}}),
        );
        let mut live = spec(
            json!({"name": "medusa-tmp", "persistentVolumeClaim": {"claimName": "big"}}),
            json!({"name": "CQL_PASSWORD", "value": "x"}),
        );
        let managed = |manager: &str| {
            json!([{"manager": manager, "operation": "Apply", "fieldsV1": {"f:spec": {"f:podTemplateSpec": {"f:spec": {
                "f:volumes": {"k:{\"name\":\"medusa-tmp\"}": {"f:persistentVolumeClaim": {}}},
                "f:containers": {"k:{\"name\":\"medusa\"}": {"f:env": {
                    "k:{\"name\":\"CQL_PASSWORD\"}": {"f:value": {}}}}},
            }}}}}])
        };
        live["metadata"] = json!({"managedFields": managed("kubectl-edit")});
        let (reduced, kept) = yield_kinds(&live, &body);
        assert_eq!(kept.iter().map(|k| k.owner.as_str()).collect::<Vec<_>>(), ["kubectl-edit"; 2]);
        let left = spec(json!({"name": "medusa-tmp"}), json!({"name": "CQL_PASSWORD"}));
        assert_eq!(reduced, left);
        // What we applied ourselves in another version is ours to change.
        live["metadata"] = json!({"managedFields": managed(MANAGER_DEPLOYMENT)});
        assert_eq!(yield_kinds(&live, &body), (body.clone(), Vec::new()));
        assert_eq!(yield_kinds(&body, &body), (body, Vec::new()));
    }

    proptest! {
        #[test]
        fn what_is_left_never_mentions_what_is_anothers_and_loses_nothing_else(
            chosen in subsequence((0..400).collect::<Vec<usize>>(), 0..12),
        ) {
            let body = everything();
            let spec = FieldPath::of(&["spec"]);
            let all = leaves(&FieldPath::default(), &body);
            let applied: Vec<&FieldPath> = all.keys().filter(|path| path.is_within(&spec)).collect();
            let mut theirs: Vec<&FieldPath> =
                chosen.iter().filter_map(|i| applied.get(i % applied.len()).copied()).collect();
            theirs.retain(|path| path.is_in_an_item() && !is_key(path));
            let fields: Vec<String> = theirs.iter().map(ToString::to_string).collect();
            prop_assume!(!fields.is_empty());
            let (reduced, kept) = leave(&body, &answer(&fields)).unwrap();
            let left = leaves(&FieldPath::default(), &reduced);
            for (path, value) in &all {
                let gone = theirs.contains(&path);
                prop_assert_eq!(left.get(path), (!gone).then_some(value), "{}", path);
            }
            // What held only theirs is empty; nothing else is new.
            let is_empty = |value: &Value| *value == json!({}) || *value == json!([]);
            prop_assert!(left.iter().all(|(path, value)| all.contains_key(path) || is_empty(value)));
            prop_assert!(fields.iter().all(|field| kept.iter().any(|k| k.path == *field)));
        }
    }

    /// Keys stay with their items: nobody can have another value there.
    fn is_key(path: &FieldPath) -> bool {
        let [.., fields::PathStep::Item(keys), fields::PathStep::Field(last)] = path.0.as_slice() else {
            return false;
        };
        keys.iter().any(|(key, _)| key == last)
    }
}
