//! How Medusa is taken out of a CassandraDatacenter again. Pure.
//!
//! Applying nothing would take out what we applied, but not well: where somebody changed a part of one of our
//! containers, that part is theirs and would stay, a container of a name and a memory limit that makes no pod; and a
//! list that was empty before would be `null`. So the removal is a patch of the difference between the datacenter and
//! the same without everything that is ours alone, holding to the version it was made from.

use serde_json::{Map, Value, json};

use super::{
    diff::{self, Diff, UnsafeApply},
    managed_fields::Owners,
};
use crate::{
    api::labels::MANAGER_DEPLOYMENT,
    control_plane::deployment::pod::{
        fields::{self, FieldPath, Step},
        request, template,
    },
};

/// Lists whose items of ours go whole, with what others changed in them.
const WHOLE: [&str; 3] = ["containers", "initContainers", "volumes"];

/// What a removal does.
#[derive(Clone, Debug, PartialEq)]
pub struct Removal {
    /// The merge patch; `None` when nothing of ours is there.
    pub patch: Option<Value>,
    /// Containers and volumes of ours in which others changed something that goes with them.
    pub pieces: Vec<FieldPath>,
}

/// Plans the removal from `live`, as it was read, with its `managedFields`.
#[must_use]
pub fn plan(live: &Value) -> Removal {
    let mut stripping = Stripping { owners: Owners::of(live), pieces: Vec::new() };
    let metadata = live.get("metadata").unwrap_or(&Value::Null);
    let mut part = |path: FieldPath| {
        let before = path.get(live).cloned().unwrap_or(json!({}));
        let after = stripping.strip(&path, &before).unwrap_or(json!({}));
        merge_patch(&before, &after)
    };
    let annotations = part(FieldPath::of(&["metadata", "annotations"]));
    let spec = part(FieldPath::of(&["spec"]));
    let is_empty = |patch: &Value| patch.as_object().is_some_and(Map::is_empty);
    let nothing = is_empty(&annotations) && is_empty(&spec);
    let patch = (!nothing).then(|| {
        json!({
            "metadata": {
                "uid": metadata.get("uid"),
                "resourceVersion": metadata.get("resourceVersion"),
                "annotations": annotations,
            },
            "spec": spec,
        })
    });
    Removal { patch, pieces: stripping.pieces }
}

impl Removal {
    /// What it changes in `live`, of which it was planned; `result` is the API server's answer to a dry run.
    ///
    /// # Errors
    /// When something that belongs to others would be lost, changed or reordered.
    pub fn diff(&self, live: &Value, result: &Value) -> Result<Diff, UnsafeApply> {
        diff::compare_with(live, result, &Value::Null, &self.pieces)
    }
}

struct Stripping<'a> {
    owners: Owners<'a>,
    pieces: Vec<FieldPath>,
}

impl Stripping<'_> {
    fn is_ours(&self, path: &FieldPath) -> bool {
        self.owners.owns(MANAGER_DEPLOYMENT, path)
    }

    fn is_anothers(&self, path: &FieldPath) -> bool {
        self.owners.other_than(MANAGER_DEPLOYMENT, path).is_some()
    }

    /// `value`, which is at `path`, without what is ours alone; `None` when nothing of it is left.
    fn strip(&mut self, path: &FieldPath, value: &Value) -> Option<Value> {
        let emptied = |this: &Self| this.is_ours(path) && !this.is_anothers(path);
        if let Some(object) = value.as_object().filter(|object| !object.is_empty()) {
            let parts = object
                .iter()
                .filter_map(|(name, part)| Some((name.clone(), self.strip(&path.field(name), part)?)));
            let mut left: Map<String, Value> = parts.collect();
            if *path == template::pod_spec() && !left.is_empty() {
                // cass-operator's definition requires the list.
                left.entry("containers").or_insert_with(|| json!([]));
            }
            return (!left.is_empty() || !emptied(self)).then_some(Value::Object(left));
        }
        let list = path.last_field().unwrap_or_default();
        if let Some(items) = fields::items(list, value) {
            let left: Vec<Value> = items
                .into_iter()
                .filter_map(|(step, item)| self.strip_item(list, &path.then(step.clone()), &step, item))
                .collect();
            return (!left.is_empty() || !emptied(self)).then_some(Value::Array(left));
        }
        (!emptied(self)).then(|| value.clone())
    }

    fn strip_item(&mut self, list: &str, path: &FieldPath, step: &Step, item: &Value) -> Option<Value> {
        let Step::Item(keys) = step else { return Some(item.clone()) };
        let is_key = |name: &str| keys.iter().any(|(key, _)| *key == name);
        let declared = keys.iter().any(|(key, _)| self.is_anothers(&path.field(key)));
        let made_by_us = self.is_ours(path) && !declared;
        let rest: Map<String, Value> = item
            .as_object()?
            .iter()
            .filter(|(name, _)| !is_key(name))
            .filter_map(|(name, part)| Some((name.clone(), self.strip(&path.field(name), part)?)))
            .collect();
        // cass-operator's container is only named by us: what others say of it is not about Medusa.
        let is_named = |name: &str| item.get("name").and_then(Value::as_str) == Some(name);
        let whole = WHOLE.contains(&list) && !is_named(request::SERVER_CONFIG);
        if made_by_us && (rest.is_empty() || whole) {
            if !rest.is_empty() {
                self.pieces.push(path.clone());
            }
            return None;
        }
        let keys = item.as_object()?.iter().filter(|(name, _)| is_key(name));
        Some(Value::Object(keys.map(|(name, key)| (name.clone(), key.clone())).chain(rest).collect()))
    }
}

/// The merge patch that makes `to` of `from`.
fn merge_patch(from: &Value, to: &Value) -> Value {
    let (Some(old), Some(new)) = (from.as_object(), to.as_object()) else { return to.clone() };
    let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let changed = new
        .iter()
        .filter(|(key, value)| old.get(*key) != Some(value))
        .map(|(key, value)| (key.clone(), merge_patch(old.get(key).unwrap_or(&Value::Null), value)));
    Value::Object(gone.chain(changed).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A datacenter of which others own a part of what we made.
    fn live(theirs: Value) -> Value {
        json!({
            "metadata": {"uid": "u1", "resourceVersion": "7", "annotations": {"ours": "x", "mine": "y"}, "managedFields": [
                {"manager": MANAGER_DEPLOYMENT, "operation": "Apply", "fieldsV1": {
                    "f:metadata": {"f:annotations": {"f:ours": {}}},
                    "f:spec": {"f:podTemplateSpec": {"f:spec": {
                        "f:containers": {"k:{\"name\":\"medusa\"}": {".": {}, "f:name": {}, "f:image": {}}},
                        "f:initContainers": {"k:{\"name\":\"server-config-init\"}": {".": {}, "f:name": {}}},
                    }}}}},
                {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {
                    "f:size": {}, "f:podTemplateSpec": {"f:spec": {
                    "f:containers": {"k:{\"name\":\"medusa\"}": theirs, "k:{\"name\":\"mine\"}": {".": {}, "f:name": {}}},
                    "f:initContainers": {"k:{\"name\":\"server-config-init\"}": {"f:resources": {}}},
                }}}}},
            ]},
            "spec": {"size": 3, "podTemplateSpec": {"spec": {
                "containers": [
                    {"name": "mine"}, {"name": "medusa", "image": "i", "resources": {"limits": {"memory": "1Gi"}}},
                ],
                "initContainers": [{"name": "server-config-init", "resources": {}}],
            }}},
        })
    }

    fn containers(containers: Value) -> Value {
        json!({
            "metadata": {"uid": "u1", "resourceVersion": "7", "annotations": {"ours": null}},
            "spec": {"podTemplateSpec": {"spec": {"containers": containers}}},
        })
    }

    #[test]
    fn what_is_left_of_a_container_of_ours_goes_with_it() {
        let removal = plan(&live(json!({"f:resources": {"f:limits": {"f:memory": {}}}})));
        assert_eq!(removal.pieces.len(), 1);
        assert_eq!(removal.patch, Some(containers(json!([{"name": "mine"}]))));
    }

    #[test]
    fn a_container_somebody_declared_themselves_stays_theirs() {
        let removal =
            plan(&live(json!({".": {}, "f:name": {}, "f:resources": {"f:limits": {"f:memory": {}}}})));
        assert_eq!(removal.pieces, []);
        let left = json!([{"name": "mine"}, {"name": "medusa", "resources": {"limits": {"memory": "1Gi"}}}]);
        assert_eq!(removal.patch, Some(containers(left)));
    }

    #[test]
    fn nothing_else_may_go() {
        let live = live(json!({"f:resources": {"f:limits": {"f:memory": {}}}}));
        let removal = plan(&live);
        let mut result = live.clone();
        result["spec"]["podTemplateSpec"]["spec"]["containers"] = json!([{"name": "mine"}]);
        let diff = removal.diff(&live, &result).unwrap();
        assert!(diff.restarts_pods && diff.changes.len() == 1, "{diff:?}");
        result["spec"]["podTemplateSpec"]["spec"]["containers"] = json!([]);
        let lost = removal.diff(&live, &result).unwrap_err().lost;
        assert_eq!(lost, [r#".spec.podTemplateSpec.spec.containers[name="mine"].name"#]);
    }

    #[test]
    fn where_nothing_is_ours_nothing_is_done() {
        let mut other = live(json!({}));
        other["metadata"]["managedFields"][0]["manager"] = json!("somebody");
        assert_eq!(plan(&other), Removal { patch: None, pieces: Vec::new() });
        assert_eq!(plan(&json!({})).patch, None);
    }

    #[test]
    fn a_list_somebody_left_empty_is_empty_again() {
        let object = |theirs: Value, spec: Value| {
            json!({
                "metadata": {"uid": "u1", "resourceVersion": "7", "managedFields": [
                    {"manager": MANAGER_DEPLOYMENT, "operation": "Apply", "fieldsV1": {"f:spec": {"f:podTemplateSpec": {"f:spec": {
                        "f:containers": {"k:{\"name\":\"medusa\"}": {".": {}, "f:name": {}}}}}}}},
                    {"manager": "user", "fieldsV1": {"f:spec": theirs}},
                ]},
                "spec": spec,
            })
        };
        let pods = |spec: Value| json!({"podTemplateSpec": {"spec": spec}});
        let ours = json!([{"name": "medusa"}]);
        let theirs = json!({"f:podTemplateSpec": {"f:spec": {"f:containers": {}}}});
        let empty = plan(&object(theirs, pods(json!({"containers": ours}))));
        assert_eq!(empty.patch.unwrap()["spec"], pods(json!({"containers": []})));
        let theirs = json!({"f:podTemplateSpec": {"f:spec": {"f:hostNetwork": {}}}});
        let other = plan(&object(theirs, pods(json!({"containers": ours, "hostNetwork": true}))));
        assert_eq!(other.patch.unwrap()["spec"], pods(json!({"containers": []})), "it is required");
        let none = plan(&object(json!({"f:size": {}}), pods(json!({"containers": ours}))));
        assert_eq!(none.patch.unwrap()["spec"], json!({"podTemplateSpec": null}));
    }
}
