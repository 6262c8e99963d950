//! Who owns which field of an object, as its `metadata.managedFields` say. Pure.

use serde_json::{Map, Value};

use crate::{
    api::labels::MANAGER_DEPLOYMENT,
    control_plane::deployment::pod::fields::{FieldPath, PathStep},
};

/// The managers of an object's fields.
#[derive(Debug)]
pub struct Owners<'a>(Vec<Entry<'a>>);

#[derive(Debug)]
struct Entry<'a> {
    manager: &'a str,
    /// Whether the fields were applied; an update by the same manager is another owner's, as it is to the API server.
    applied: bool,
    fields: &'a Value,
}

impl<'a> Owners<'a> {
    /// Those of `object`; who only writes a subresource owns nothing here.
    #[must_use]
    pub fn of(object: &'a Value) -> Self {
        let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
        let text = |entry: &'a Value, field: &str| entry.get(field).and_then(Value::as_str);
        let whole = |entry: &&'a Value| text(entry, "subresource").is_none_or(str::is_empty);
        let read = |entry: &'a Value| {
            Some(Entry {
                manager: text(entry, "manager")?,
                applied: text(entry, "operation") == Some("Apply"),
                fields: entry.get("fieldsV1")?,
            })
        };
        Self(entries.into_iter().flatten().filter(whole).filter_map(read).collect())
    }

    /// Whether `manager` applied what `path` leads to, or a part of it.
    #[must_use]
    pub fn owns(&self, manager: &str, path: &FieldPath) -> bool {
        self.0.iter().any(|entry| entry.is_applied_by(manager) && mentions(entry.fields, path))
    }

    /// Who else owns what `path` leads to, or a part of it, than `manager` with what it applied.
    #[must_use]
    pub fn other_than(&self, manager: &str, path: &FieldPath) -> Option<&'a str> {
        let mut others = self.0.iter().filter(|entry| !entry.is_applied_by(manager));
        others.find(|entry| mentions(entry.fields, path)).map(|entry| entry.manager)
    }

    /// Who else owns what `path` leads to, or a part of it, and may write it again by itself.
    #[must_use]
    pub fn living(&self, manager: &str, path: &FieldPath) -> Option<&'a str> {
        let mut others =
            self.0.iter().filter(|entry| !entry.is_applied_by(manager) && entry.may_write_again());
        others.find(|entry| mentions(entry.fields, path)).map(|entry| entry.manager)
    }

    /// Who else than `manager` owns what `path` leads to, or the smallest part around it that has one owner as a whole: a
    /// list without keys has.
    #[must_use]
    pub fn around(&self, manager: &str, path: &FieldPath) -> Option<&'a str> {
        let is_owned = |part: &FieldPath| {
            self.0.iter().any(|entry| {
                let below = below(entry.fields, part);
                below.is_some_and(|below| part == path || below.as_object().is_none_or(Map::is_empty))
            })
        };
        let parts = (1..=path.0.len()).rev();
        let mut parts = parts.map(|steps| FieldPath(path.0.iter().take(steps).cloned().collect()));
        let owned = parts.find(is_owned)?;
        self.other_than(manager, &owned)
    }
}

/// The field manager that wrote `object`'s metadata or spec last, other than ourselves; `None` when there is none.
#[must_use]
pub fn last_writer(object: &Value) -> Option<&str> {
    let entries = object.pointer("/metadata/managedFields")?.as_array()?;
    let text =
        |entry: &Value, field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let theirs = entries.iter().filter(|entry| {
        let manager = text(entry, "manager");
        text(entry, "subresource").is_empty() && manager != MANAGER_DEPLOYMENT && !manager.is_empty()
    });
    // RFC 3339 in UTC sorts as text.
    theirs.max_by_key(|entry| text(entry, "time")).and_then(|entry| entry.get("manager")?.as_str())
}

impl Entry<'_> {
    fn is_applied_by(&self, manager: &str) -> bool {
        self.applied && self.manager == manager
    }

    /// Who applied a field applies it again; who wrote it once does so too, unless it is known that it does not.
    fn may_write_again(&self) -> bool {
        self.applied || !AT_REST.contains(&self.manager)
    }
}

/// Field managers that write a field once and not again by themselves: people at a command line, and k8ssandra-operator,
/// which leaves a datacenter alone that does not bear its marks. Its program is called `manager`; so is cass-operator's,
/// which writes no containers or volumes there (upstream: Rules for Medusa in a datacenter).
const AT_REST: [&str; 4] = ["k8ssandra-operator", "kubectl-edit", "kubectl-patch", "manager"];

/// Objects that belong to one manager as a whole. Any other field without parts in a set is an empty object or
/// list, and what somebody else puts there is not its owner's.
const OF_ONE_PIECE: [&str; 5] =
    ["configMap", "configMapKeyRef", "fieldRef", "resourceFieldRef", "secretKeyRef"];

/// Whether a set of fields in the form of `FieldsV1` holds `path`.
fn mentions(fields: &Value, path: &FieldPath) -> bool {
    below(fields, path).is_some()
}

/// What such a set holds of what `path` leads to; of something of one piece, that.
fn below<'f>(fields: &'f Value, path: &FieldPath) -> Option<&'f Value> {
    let mut set = fields;
    for step in &path.0 {
        set = set.get(key(step))?;
        if matches!(step, PathStep::Field(name) if OF_ONE_PIECE.contains(&name.as_str())) {
            break;
        }
    }
    Some(set)
}

fn key(step: &PathStep) -> String {
    match step {
        PathStep::Field(name) => format!("f:{name}"),
        PathStep::Item(keys) => {
            let keys: Vec<String> = keys.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
            format!("k:{{{}}}", keys.join(","))
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn object() -> Value {
        json!({
            "metadata": {"managedFields": [
                {"manager": "us", "operation": "Apply", "fieldsV1": {"f:spec": {"f:containers": {
                    "k:{\"name\":\"medusa\"}": {".": {}, "f:name": {}, "f:image": {},
                        "f:ports": {"k:{\"containerPort\":1,\"protocol\":\"TCP\"}": {".": {}}}},
                }, "f:fieldRef": {}}}},
                {"manager": "us", "operation": "Update", "fieldsV1": {"f:spec": {"f:users": {}}}},
                {"manager": "edit", "operation": "Update", "fieldsV1": {"f:spec": {"f:size": {}, "f:volumes": {}}}},
                {"manager": "status", "operation": "Update", "subresource": "status",
                 "fieldsV1": {"f:spec": {"f:stopped": {}}}},
            ]},
            "spec": {"users": [], "size": 3, "stopped": true, "volumes": [{"name": "v"}], "fieldRef": {"a": 1}, "containers": [
                {"name": "medusa", "image": "i", "ports": [{"containerPort": 1, "protocol": "TCP"}]},
            ]},
        })
    }

    #[rstest]
    #[case(".spec.size", false, Some("edit"))]
    #[case(".spec.stopped", false, None)]
    #[case(".spec.users", false, Some("us"))]
    #[case(".spec.volumes", false, Some("edit"))]
    #[case(r#".spec.volumes[name="v"].name"#, false, None)]
    #[case(".spec.fieldRef.a", true, None)]
    #[case(r#".spec.containers[name="medusa"].image"#, true, None)]
    #[case(r#".spec.containers[name="medusa"].ports[containerPort=1,protocol="TCP"]"#, true, None)]
    #[case(r#".spec.containers[name="medusa"].ports[containerPort=1,protocol="TCP"].protocol"#, false, None)]
    fn fields_have_owners(#[case] text: &str, #[case] ours: bool, #[case] other: Option<&str>) {
        let object = object();
        let path = FieldPath::find(text, &object).unwrap();
        let owners = Owners::of(&object);
        assert_eq!((owners.owns("us", &path), owners.other_than("us", &path)), (ours, other));
    }

    #[rstest]
    #[case::applied_again_and_again("argocd-controller", "Apply", Some("argocd-controller"))]
    #[case::applied_by_hand("kubectl-edit", "Apply", Some("kubectl-edit"))]
    #[case::written_by_a_person("kubectl-edit", "Update", None)]
    #[case::written_by_k8ssandra_operator("manager", "Update", None)]
    #[case::nobody_knows("helm", "Update", Some("helm"))]
    fn who_may_write_a_field_again(
        #[case] manager: &str,
        #[case] operation: &str,
        #[case] living: Option<&str>,
    ) {
        let object = json!({"metadata": {"managedFields": [
            {"manager": "us", "operation": "Apply", "fieldsV1": {"f:spec": {"f:size": {}}}},
            {"manager": manager, "operation": operation, "fieldsV1": {"f:spec": {"f:size": {}}}},
        ]}});
        let owners = Owners::of(&object);
        assert_eq!(owners.living("us", &FieldPath::of(&["spec", "size"])), living);
        assert_eq!(owners.living("us", &FieldPath::of(&["spec", "stopped"])), None);
    }

    #[test]
    fn a_field_in_a_list_without_keys_is_its_owners() {
        let object = object();
        let owners = Owners::of(&object);
        assert_eq!(owners.around("us", &FieldPath::of(&["spec", "users", "secretName"])), Some("us"));
        assert_eq!(owners.around("us", &FieldPath::of(&["spec", "volumes", "x"])), Some("edit"));
        let ours = FieldPath::of(&["spec", "fieldRef", "a"]);
        assert_eq!((owners.around("us", &ours), owners.around("other", &ours)), (None, Some("us")));
        assert_eq!(Owners::of(&json!({})).around("us", &ours), None);
    }

    #[test]
    fn who_wrote_last_is_neither_us_nor_who_writes_a_status() {
        let entry = |manager: &str, time: &str, subresource: &str| json!({"manager": manager, "time": time, "subresource": subresource, "operation": "Update"});
        let object = json!({"metadata": {"managedFields": [
            entry("kubectl", "2026-01-01T00:00:00Z", ""), entry("argocd-controller", "2026-01-02T00:00:00Z", ""),
            entry("cass-operator", "2026-01-04T00:00:00Z", "status"), entry(MANAGER_DEPLOYMENT, "2026-01-03T00:00:00Z", ""),
        ]}});
        assert_eq!(last_writer(&object), Some("argocd-controller"));
        assert_eq!(last_writer(&json!({"metadata": {"managedFields": ["x", {"manager": 1}]}})), None);
        assert_eq!(last_writer(&json!({})), None);
    }

    #[test]
    fn an_object_without_managers_has_no_owners() {
        let path = FieldPath::of(&["spec"]);
        assert!(!Owners::of(&json!({"spec": {}})).owns("us", &path));
        let broken = json!({"metadata": {"managedFields": [{"manager": 1}, "x", {"manager": "us"}]}});
        assert!(!Owners::of(&broken).owns("us", &path));
    }
}
