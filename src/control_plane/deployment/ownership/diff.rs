//! What an apply would change in a CassandraDatacenter, from the object as it is and the API server's answer to a
//! dry run. Pure.
//!
//! The same comparison guards what belongs to others: when the answer lacks any of it, nothing may be applied. What
//! is shown of a change is only what we applied ourselves; nobody else's values are ever quoted.

use std::fmt;

use serde_json::Value;

use super::managed_fields::Owners;
use crate::{
    api::{labels::MANAGER_DEPLOYMENT, names},
    control_plane::deployment::pod::{
        fields::{self, FieldPath, PathStep, leaves},
        template,
    },
};

/// Most changes that are listed.
const MAX_CHANGES: usize = 40;
/// Longest value that is shown.
const MAX_VALUE: usize = 160;

/// What an apply would change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// The changes, in the order of their paths; the first few when there are many.
    pub changes: Vec<ChangedField>,
    /// How many more there are.
    pub more: usize,
    /// Whether Cassandra's pods would restart.
    pub restarts_pods: bool,
}

/// One changed field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedField {
    /// Its path.
    pub path: String,
    /// Its value now; `None` when it is not there.
    pub from: Option<String>,
    /// Its value afterwards; `None` when it goes.
    pub to: Option<String>,
}

impl Diff {
    /// Whether nothing would change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// An apply that would cost others something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsafeApply {
    /// Paths that would be lost, changed or reordered; never their values.
    pub lost: Vec<String>,
}

impl fmt::Display for UnsafeApply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = names::listed(self.lost.iter().map(|path| format!("`{path}`")), 3);
        write!(
            f,
            "it would change {named}, which others own; the definition of CassandraDatacenter must declare the \
             lists of a pod template as maps, as cass-operator's does, and what somebody changed in what has to go \
             must be taken back first"
        )
    }
}

/// Compares `live` with `result`, the answer to a dry run of applying `body`.
///
/// # Errors
/// When something that belongs to others would be lost, changed or reordered.
pub fn compare(live: &Value, result: &Value, body: &Value) -> Result<Diff, UnsafeApply> {
    compare_with(live, result, body, &[])
}

/// [`compare`], where others lose `pieces`.
///
/// # Errors
/// The same.
pub fn compare_with(
    live: &Value,
    result: &Value,
    body: &Value,
    pieces: &[FieldPath],
) -> Result<Diff, UnsafeApply> {
    let ours = Ours { body, owners: Owners::of(live), pieces };
    let mut lost = Vec::new();
    let mut changes = Vec::new();
    for part in [&["metadata", "annotations"][..], &["metadata", "labels"], &["spec"]] {
        let part = FieldPath::of(part);
        let (before, after) = (part.get(live), part.get(result));
        if let Some(before) = before {
            guard(&part, before, after.unwrap_or(&Value::Null), result, &ours, &mut lost);
        }
        walk(&part, before, after, &mut changes);
    }
    if !lost.is_empty() {
        lost.sort();
        lost.dedup();
        return Err(UnsafeApply { lost });
    }
    let restarts_pods = changes.iter().any(|(path, ..)| path.is_within(&template::pod_template()));
    let more = changes.len().saturating_sub(MAX_CHANGES);
    let changes = changes
        .into_iter()
        .take(MAX_CHANGES)
        .map(|(path, from, to)| ChangedField {
            from: from.map(|value| shown(&path, value)),
            to: to.map(|value| shown(&path, value)),
            path: path.to_string(),
        })
        .collect();
    Ok(Diff { changes, more, restarts_pods })
}

/// What we may change.
struct Ours<'a> {
    body: &'a Value,
    owners: Owners<'a>,
    pieces: &'a [FieldPath],
}

impl Ours<'_> {
    /// Whether a field is ours alone: we apply it, or applied it, and nobody else owns it. So are the pieces.
    fn has(&self, path: &FieldPath) -> bool {
        if self.pieces.iter().any(|piece| path.is_within(piece)) {
            return true;
        }
        let applied = path.get(self.body).is_some() || self.owners.owns(MANAGER_DEPLOYMENT, path);
        applied && self.owners.other_than(MANAGER_DEPLOYMENT, path).is_none()
    }
}

/// Collects what of `before` is neither ours nor the same in `result`, `after` being the same part of it.
fn guard(
    part: &FieldPath,
    before: &Value,
    after: &Value,
    result: &Value,
    ours: &Ours<'_>,
    lost: &mut Vec<String>,
) {
    let (before_leaves, after_leaves) = (leaves(part, before), leaves(part, after));
    for (path, value) in before_leaves {
        let same = after_leaves.get(&path) == Some(&value);
        // An empty object or list may have been filled.
        let filled = is_empty(value) && path.get(result).is_some_and(|v| !v.is_null());
        if !same && !filled && !ours.has(&path) {
            lost.push(path.to_string());
        }
    }
    reordered(part, before, result, ours, lost);
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(serde_json::Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

/// Collects the lists below `at` in which what is not ours stands in another order in `result`.
fn reordered(at: &FieldPath, before: &Value, result: &Value, ours: &Ours<'_>, lost: &mut Vec<String>) {
    if let Some(object) = before.as_object() {
        object.iter().for_each(|(name, value)| reordered(&at.field(name), value, result, ours, lost));
        return;
    }
    let list = at.last_field().unwrap_or_default();
    let Some(items) = fields::items(list, before) else { return };
    let after = at.get(result).and_then(|value| fields::items(list, value)).unwrap_or_default();
    let theirs: Vec<&PathStep> =
        items.iter().map(|(step, _)| step).filter(|step| !ours.has(&at.then((*step).clone()))).collect();
    let kept = theirs.iter().filter(|step| after.iter().any(|(s, _)| s == **step));
    let found = after.iter().map(|(step, _)| step).filter(|step| theirs.contains(step));
    if !found.eq(kept.copied()) {
        lost.push(format!("{at} (its order)"));
    }
    for (step, item) in items {
        reordered(&at.then(step), item, result, ours, lost);
    }
}

type Difference<'a> = (FieldPath, Option<&'a Value>, Option<&'a Value>);

/// Collects the differences below `at`. An item that comes or goes is one difference.
fn walk<'a>(
    at: &FieldPath,
    before: Option<&'a Value>,
    after: Option<&'a Value>,
    found: &mut Vec<Difference<'a>>,
) {
    if before == after {
        return;
    }
    let parts = |value: Option<&'a Value>| parts(at, value);
    let is_item = matches!(at.0.last(), Some(PathStep::Item(_)));
    let whole = (before.is_none() || after.is_none()) && (is_item || at.is_in_an_item());
    match (parts(before), parts(after)) {
        (Some(old), Some(new)) if !(whole || old.is_empty() && new.is_empty()) => {
            let mut steps: Vec<&PathStep> = old.iter().map(|(step, _)| step).collect();
            steps.extend(new.iter().map(|(step, _)| step).filter(|s| !old.iter().any(|(o, _)| o == *s)));
            let of = |side: &[(PathStep, &'a Value)], step: &PathStep| {
                side.iter().find(|(s, _)| s == step).map(|(_, value)| *value)
            };
            for step in steps {
                walk(&at.then(step.clone()), of(&old, step), of(&new, step), found);
            }
        }
        _ => found.push((at.clone(), before, after)),
    }
}

/// The parts of a value at `at`; nothing has none, and what is of one piece is `None`.
fn parts<'a>(at: &FieldPath, value: Option<&'a Value>) -> Option<Vec<(PathStep, &'a Value)>> {
    match value {
        None => Some(Vec::new()),
        Some(Value::Object(object)) => {
            Some(object.iter().map(|(name, value)| (PathStep::Field(name.clone()), value)).collect())
        }
        Some(Value::Array(list)) if list.is_empty() => Some(Vec::new()),
        Some(list) => fields::items(at.last_field()?, list),
    }
}

/// A value for people: a container is its image, anything with parts is JSON, and all of it is short.
fn shown(path: &FieldPath, value: &Value) -> String {
    let image = value.get("image").and_then(Value::as_str);
    let text = match (value, path.0.last()) {
        (Value::String(text), _) => text.clone(),
        (_, Some(PathStep::Item(_))) if image.is_some() => image.unwrap_or_default().to_owned(),
        _ => value.to_string(),
    };
    if text.chars().count() <= MAX_VALUE {
        return text;
    }
    text.chars().take(MAX_VALUE).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::control_plane::deployment::pod::template::tests::everything;

    /// A datacenter with things of a user.
    fn bare() -> Value {
        json!({
            "metadata": {"name": "dc1", "annotations": {"mine": "yes"}, "managedFields": [
                {"manager": "user", "operation": "Apply", "fieldsV1": {"f:spec": {"f:size": {}}}}
            ]},
            "spec": {"size": 3, "config": {"a": [1, 2]}, "podTemplateSpec": {"spec": {
                "initContainers": [{"name": "first", "image": "a"}, {"name": "second", "image": "b"}],
                "containers": [{"name": "sidecar", "image": "s", "env": [{"name": "KEY", "value": "hidden"}]}],
                "volumes": [{"name": "mine", "emptyDir": {}}],
            }}},
        })
    }

    /// `live` with `body` merged in as the API server does where lists are maps.
    fn applied(live: &Value, body: &Value) -> Value {
        let mut result = live.clone();
        merge(&mut result, body, "");
        result
    }

    fn merge(into: &mut Value, from: &Value, field: &str) {
        match (into, from) {
            (Value::Object(into), Value::Object(from)) => {
                for (name, value) in from {
                    merge(into.entry(name).or_insert(Value::Null), value, name);
                }
            }
            (into @ Value::Array(_), from) if fields::items(field, from).is_some() => {
                for (step, item) in fields::items(field, from).unwrap() {
                    let place =
                        fields::items(field, into).and_then(|i| i.iter().position(|(s, _)| *s == step));
                    let list = into.as_array_mut().unwrap();
                    match place {
                        Some(place) => merge(&mut list[place], item, ""),
                        None => list.push(item.clone()),
                    }
                }
            }
            (into, from) => *into = from.clone(),
        }
    }

    #[test]
    fn a_deployment_is_listed_without_anything_of_others() {
        let (live, body) = (bare(), everything());
        let diff = compare(&live, &applied(&live, &body), &body).unwrap();
        assert!(diff.restarts_pods && diff.more == 0);
        let text = format!("{diff:?}");
        assert!(!text.contains("hidden") && !text.contains("sidecar"), "{text}");
        let medusa = diff.changes.iter().find(|c| c.path.ends_with(r#".containers[name="medusa"]"#)).unwrap();
        assert_eq!((&medusa.from, medusa.to.as_deref()), (&None, Some("docker.io/k8ssandra/medusa:0.29.1")));
    }

    #[test]
    fn nothing_changes_when_it_is_there_already() {
        let body = everything();
        let live = applied(&bare(), &body);
        assert_eq!(compare(&live, &live, &body), Ok(Diff::default()));
    }

    #[test]
    fn one_field_is_one_change() {
        let body = everything();
        let mut live = applied(&bare(), &body);
        live["spec"]["podTemplateSpec"]["spec"]["containers"][1]["image"] = json!("old");
        let diff = compare(&live, &applied(&live, &body), &body).unwrap();
        let change = ChangedField {
            path: r#".spec.podTemplateSpec.spec.containers[name="medusa"].image"#.to_owned(),
            from: Some("old".to_owned()),
            to: Some("docker.io/k8ssandra/medusa:0.29.1".to_owned()),
        };
        assert_eq!(diff, Diff { changes: vec![change], more: 0, restarts_pods: true });
    }

    #[test]
    fn an_annotation_of_the_datacenter_restarts_nothing() {
        let body = everything();
        let mut live = applied(&bare(), &body);
        live["metadata"]["annotations"] = json!({"mine": "yes"});
        let diff = compare(&live, &applied(&live, &body), &body).unwrap();
        assert!(!diff.restarts_pods && diff.changes.len() >= 2, "{diff:?}");
    }

    #[rstest]
    #[case::a_container(|spec: &mut Value| spec["containers"].as_array_mut().unwrap().retain(|c| c["name"] == "medusa"))]
    #[case::a_field(|spec: &mut Value| spec["containers"][0]["image"] = json!("other"))]
    #[case::a_variable(|spec: &mut Value| spec["containers"][0]["env"] = json!([]))]
    #[case::the_order(|spec: &mut Value| spec["initContainers"].as_array_mut().unwrap().swap(0, 1))]
    #[case::a_volume(|spec: &mut Value| spec["volumes"][0] = json!({"name": "mine", "hostPath": {"path": "/"}}))]
    #[case::everything(|spec: &mut Value| *spec = json!({}))]
    fn nothing_of_others_may_be_lost(#[case] damage: fn(&mut Value)) {
        let (live, body) = (bare(), everything());
        let mut result = applied(&live, &body);
        damage(&mut result["spec"]["podTemplateSpec"]["spec"]);
        let refused = compare(&live, &result, &body).unwrap_err();
        assert!(!refused.to_string().contains("hidden"));
    }

    #[test]
    fn what_stands_elsewhere_in_the_spec_is_guarded_as_well() {
        let (live, body) = (bare(), everything());
        let mut result = applied(&live, &body);
        result["spec"]["config"]["a"] = json!([1]);
        result["metadata"]["annotations"].as_object_mut().unwrap().remove("mine");
        let refused = compare(&live, &result, &body).unwrap_err();
        assert_eq!(refused.lost, [".metadata.annotations.mine", ".spec.config.a"]);
    }

    #[test]
    fn what_we_applied_may_go_again_and_what_another_shares_may_not() {
        let live = json!({
            "metadata": {"managedFields": [
                {"manager": MANAGER_DEPLOYMENT, "operation": "Apply", "fieldsV1": {"f:spec": {"f:podTemplateSpec": {
                    "f:spec": {"f:containers": {"k:{\"name\":\"medusa\"}": {".": {}, "f:name": {}, "f:image": {}}}}}}}},
            ]},
            "spec": {"podTemplateSpec": {"spec": {"containers": [{"name": "medusa", "image": "i"}]}}},
        });
        let result = json!({"metadata": {}, "spec": {"podTemplateSpec": {"spec": {"containers": []}}}});
        let diff = compare(&live, &result, &json!({})).unwrap();
        assert_eq!(diff.changes.len(), 1);
        assert_eq!((diff.changes[0].from.as_deref(), &diff.changes[0].to), (Some("i"), &None));
        let mut shared = live.clone();
        let mut theirs = live["metadata"]["managedFields"][0].clone();
        theirs["manager"] = json!("user");
        shared["metadata"]["managedFields"].as_array_mut().unwrap().push(theirs);
        assert!(compare(&shared, &result, &json!({})).is_err());
    }

    #[test]
    fn what_is_shown_is_bounded() {
        let annotations: serde_json::Map<String, Value> =
            (0..90).map(|n| (format!("a{n}"), json!("x".repeat(1000)))).collect();
        let body = json!({"metadata": {"annotations": annotations}, "spec": {}});
        let diff = compare(&json!({"spec": {}}), &body, &body).unwrap();
        assert_eq!((diff.changes.len(), diff.more), (MAX_CHANGES, 50));
        assert_eq!(diff.changes[0].to.as_ref().unwrap().chars().count(), MAX_VALUE + 1);
    }
}
