//! Fields of an object as server-side apply names them: `.spec.containers[name="medusa"].image`. Pure.
//!
//! Lists of a pod template are maps: an item is known by its keys, not by its place.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

/// One step from a value to a part of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathStep {
    Field(String),
    /// The item with these keys, whose values are written as JSON; in the order of the keys' names.
    Item(Vec<(&'static str, String)>),
}

/// The way from an object to a part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldPath(pub Vec<PathStep>);

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| step.fmt(f))
    }
}

impl fmt::Display for PathStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Item(keys) => {
                let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
                write!(f, "[{}]", keys.join(","))
            }
        }
    }
}

impl FieldPath {
    #[must_use]
    pub fn of(fields: &[&str]) -> Self {
        Self(fields.iter().map(|name| PathStep::Field((*name).to_owned())).collect())
    }

    /// This path and one step more.
    #[must_use]
    pub fn then(&self, step: PathStep) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// This path and one field more.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        self.then(PathStep::Field(name.to_owned()))
    }

    /// Whether it leads into `part`, or to it.
    #[must_use]
    pub fn is_within(&self, part: &Self) -> bool {
        self.0.starts_with(&part.0)
    }

    /// Whether it leads through an item of a list.
    #[must_use]
    pub fn is_in_an_item(&self) -> bool {
        self.0.iter().any(|step| matches!(step, PathStep::Item(_)))
    }

    /// The last field's name, when it ends with a field.
    #[must_use]
    pub fn last_field(&self) -> Option<&str> {
        match self.0.last()? {
            PathStep::Field(name) => Some(name),
            PathStep::Item(_) => None,
        }
    }

    /// Reads a path as the API server prints it, as a path into `root`. Field names may hold dots and are
    /// not quoted there, so that only what is in `root` tells where one ends; `None` when nothing there fits.
    #[must_use]
    pub fn find(text: &str, root: &Value) -> Option<Self> {
        let mut steps = Vec::new();
        find(text, root, "", &mut steps).then(|| {
            steps.reverse();
            Self(steps)
        })
    }

    /// The part of `root` it leads to.
    #[must_use]
    pub fn get<'a>(&self, root: &'a Value) -> Option<&'a Value> {
        let mut value = root;
        let mut list = "";
        for step in &self.0 {
            value = match step {
                PathStep::Field(name) => {
                    list = name;
                    value.get(name)?
                }
                PathStep::Item(_) => items(list, value)?.into_iter().find(|(s, _)| s == step)?.1,
            };
        }
        Some(value)
    }

    /// Takes the part it leads to out of `root`. What it was in stays, also when it is empty then; an item that
    /// would lose one of its keys goes whole.
    pub fn remove(&self, root: &mut Value) {
        cut(root, "", &self.0);
    }
}

/// Finds `text` below `value`, the content of the field `list`; pushes the steps, last first.
fn find(text: &str, value: &Value, list: &str, steps: &mut Vec<PathStep>) -> bool {
    if text.is_empty() {
        return true;
    }
    if let Some(rest) = text.strip_prefix('.') {
        let Some(object) = value.as_object() else { return false };
        let mut names: Vec<&String> = object.keys().filter(|name| rest.starts_with(name.as_str())).collect();
        names.sort_by_key(|name| std::cmp::Reverse(name.len()));
        return names.into_iter().any(|name| {
            let rest = rest.get(name.len()..).unwrap_or_default();
            let ends = rest.is_empty() || rest.starts_with(['.', '[']);
            let found = ends && object.get(name).is_some_and(|value| find(rest, value, name, steps));
            if found {
                steps.push(PathStep::Field(name.clone()));
            }
            found
        });
    }
    items(list, value).into_iter().flatten().any(|(step, item)| {
        let found = text.strip_prefix(&step.to_string()).is_some_and(|rest| find(rest, item, "", steps));
        if found {
            steps.push(step);
        }
        found
    })
}

fn cut(value: &mut Value, list: &str, steps: &[PathStep]) {
    let Some((step, rest)) = steps.split_first() else { return };
    match step {
        PathStep::Field(name) => {
            let Some(object) = value.as_object_mut() else { return };
            if rest.is_empty() {
                object.remove(name);
            } else if let Some(child) = object.get_mut(name) {
                cut(child, name, rest);
            }
        }
        PathStep::Item(keys) => {
            let found = items(list, value).and_then(|items| items.iter().position(|(s, _)| s == step));
            let (Some(found), Some(array)) = (found, value.as_array_mut()) else { return };
            let is_key =
                |step: &PathStep| matches!(step, PathStep::Field(f) if keys.iter().any(|(key, _)| key == f));
            if rest.first().is_none_or(is_key) {
                array.remove(found);
            } else if let Some(item) = array.get_mut(found) {
                cut(item, "", rest);
            }
        }
    }
}

/// The keys by which items of the list `field` are told apart, as the CassandraDatacenter's definition has
/// them.
fn keys(field: &str) -> &'static [&'static str] {
    match field {
        "containers" | "initContainers" | "volumes" | "imagePullSecrets" | "env" | "claims" => &["name"],
        "volumeMounts" => &["mountPath"],
        "volumeDevices" => &["devicePath"],
        "ports" => &["containerPort", "protocol"],
        _ => &[],
    }
}

/// The items of the list in `field`, by their keys; `None` when it is no such list, or two items have the
/// same keys: then it is one value.
#[must_use]
pub fn items<'a>(field: &str, list: &'a Value) -> Option<Vec<(PathStep, &'a Value)>> {
    let keys = keys(field);
    let mut found: Vec<(PathStep, &Value)> = Vec::new();
    for item in list.as_array().filter(|list| !keys.is_empty() && !list.is_empty())? {
        let step: Option<Vec<_>> = keys.iter().map(|key| Some((*key, item.get(*key)?.to_string()))).collect();
        found.push((PathStep::Item(step?), item));
    }
    let mut steps: Vec<&PathStep> = found.iter().map(|(step, _)| step).collect();
    steps.sort_unstable();
    let has_twins = steps.windows(2).any(|pair| matches!(pair, [one, other] if one == other));
    (!has_twins).then_some(found)
}

/// Most parts that an object may have, and longest key of an item, so that it can be looked through: a datacenter has a few
/// thousand, most of them in `managedFields`. Whoever may write one decides how many.
const MOST_PARTS: usize = 100_000;
const LONGEST_KEY: usize = 4096;

/// Whether an object can be looked through part by part in reasonable time.
#[must_use]
pub fn is_bounded(object: &Value) -> bool {
    fn spend(left: &mut usize, list: &str, value: &Value) -> bool {
        let Some(rest) = left.checked_sub(1) else { return false };
        *left = rest;
        let is_key = |field: &&str| keys(list).contains(field);
        match value {
            Value::Object(fields) => fields.iter().all(|(name, part)| {
                let is_short = |text: &str| text.len() <= LONGEST_KEY;
                is_short(name)
                    && (!is_key(&name.as_str()) || part.as_str().is_none_or(is_short))
                    && spend(left, name, part)
            }),
            Value::Array(items) => items.iter().all(|item| spend(left, list, item)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
        }
    }
    spend(&mut MOST_PARTS.clone(), "", object)
}

/// Every value below `value` that has no parts of its own: scalars, lists without keys, empty objects.
#[must_use]
pub fn leaves<'a>(at: &FieldPath, value: &'a Value) -> BTreeMap<FieldPath, &'a Value> {
    let mut found = BTreeMap::new();
    collect(at, value, &mut found);
    found
}

fn collect<'a>(at: &FieldPath, value: &'a Value, found: &mut BTreeMap<FieldPath, &'a Value>) {
    if let Some(object) = value.as_object().filter(|object| !object.is_empty()) {
        for (name, value) in object {
            collect(&at.field(name), value, found);
        }
    } else if let Some(items) = items(at.last_field().unwrap_or_default(), value) {
        for (step, item) in items {
            collect(&at.then(step), item, found);
        }
    } else {
        found.insert(at.clone(), value);
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn body() -> Value {
        json!({
            "metadata": {"annotations": {"fleet.k8ssandra.io/medusa-for": "ns/shop", "fleet.k8ssandra": "x"}},
            "spec": {"containers": [
                {"name": "medusa", "image": "i", "ports": [{"containerPort": 1, "protocol": "TCP", "name": "grpc"}],
                 "resources": {"limits": {"memory": "8Gi"}}},
            ]},
        })
    }

    #[rstest]
    #[case(".metadata.annotations.fleet.k8ssandra.io/medusa-for")]
    #[case(".metadata.annotations.fleet.k8ssandra")]
    #[case(r#".spec.containers[name="medusa"]"#)]
    #[case(r#".spec.containers[name="medusa"].image"#)]
    #[case(r#".spec.containers[name="medusa"].ports[containerPort=1,protocol="TCP"].name"#)]
    #[case(".spec.containers")]
    fn paths_are_read_as_the_api_server_prints_them(#[case] text: &str) {
        let path = FieldPath::find(text, &body()).unwrap();
        assert_eq!(path.to_string(), text);
        assert!(path.get(&body()).is_some());
    }

    #[rstest]
    #[case(".metadata.annotations.fleet")]
    #[case(r#".spec.containers[name="other"].image"#)]
    #[case(".spec.containers[0]")]
    #[case("spec")]
    #[case(".spec.containers[name=")]
    #[case(".spec.containersX")]
    fn a_path_to_nothing_is_none(#[case] text: &str) {
        assert_eq!(FieldPath::find(text, &body()), None);
    }

    #[test]
    fn what_takes_too_long_to_look_through_is_known_before() {
        assert!(is_bounded(&body()));
        let many: Vec<Value> = (0..MOST_PARTS).map(|_| json!({"a": 1})).collect();
        assert!(!is_bounded(&json!({"spec": {"config": many}})));
        let long = "x".repeat(LONGEST_KEY + 1);
        assert!(!is_bounded(&json!({"spec": {"containers": [{"name": long}]}})));
        assert!(is_bounded(&json!({"spec": {"containers": [{"name": "a", "command": [long]}]}})));
        assert!(!is_bounded(&json!({"spec": {long: 1}})));
    }

    #[test]
    fn two_items_with_the_same_keys_make_a_list_one_value() {
        let list = json!([{"name": "a"}, {"name": "b"}, {"name": "a"}]);
        assert!(items("containers", &list).is_none());
        assert_eq!(items("containers", &json!([{"name": "b"}, {"name": "a"}])).unwrap().len(), 2);
    }

    #[test]
    fn what_is_removed_leaves_the_rest_in_its_place() {
        let mut body = body();
        let mut remove = |path: &str| {
            FieldPath::find(path, &body).unwrap().remove(&mut body);
            body["spec"]["containers"].clone()
        };
        let left = remove(r#".spec.containers[name="medusa"].resources.limits.memory"#);
        assert_eq!(left[0]["resources"], json!({"limits": {}}));
        let left =
            remove(r#".spec.containers[name="medusa"].ports[containerPort=1,protocol="TCP"].protocol"#);
        assert_eq!(left[0]["ports"], json!([]), "a key takes its item along");
        assert_eq!(remove(r#".spec.containers[name="medusa"]"#), json!([]));
        FieldPath::of(&["spec", "other", "deep"]).remove(&mut body);
        assert_eq!(body["spec"], json!({"containers": []}));
    }

    #[test]
    fn lists_that_are_no_maps_are_one_value() {
        let twice = json!({"env": [{"name": "a"}, {"name": "a"}], "command": ["x", "y"], "none": {}});
        assert_eq!(leaves(&FieldPath::default(), &twice).len(), 3);
        let once = json!({"env": [{"name": "a", "value": "1"}, {"name": "b"}]});
        let paths: Vec<String> =
            leaves(&FieldPath::default(), &once).keys().map(ToString::to_string).collect();
        assert_eq!(paths, [r#".env[name="a"].name"#, r#".env[name="a"].value"#, r#".env[name="b"].name"#]);
    }
}
