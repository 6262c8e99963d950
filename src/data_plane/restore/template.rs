//! The three variables of the init container `medusa-restore` in a CassandraDatacenter's pod template.
//!
//! Pure. Works on the object as it is, not on a type of ours: what we do not know must survive. A list in a
//! merge patch replaces the whole list, so a patch made from these lists holds to the version they were read
//! from.

use serde_json::{Value, json};

/// Name of the init container that restores (upstream: Containers).
pub const CONTAINER: &str = "medusa-restore";
/// Where the storage's credentials are mounted in it (upstream: Containers).
pub const CREDENTIALS_PATH: &str = "/etc/medusa-secrets";

const BACKUP_NAME: &str = "BACKUP_NAME";
const RESTORE_KEY: &str = "RESTORE_KEY";
const RESTORE_MAPPING: &str = "RESTORE_MAPPING";
const OURS: [&str; 3] = [BACKUP_NAME, RESTORE_KEY, RESTORE_MAPPING];

/// What a restore tells the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orders<'a> {
    /// The backup's name.
    pub backup: &'a str,
    /// `status.restoreKey`.
    pub key: &'a str,
    /// `status.restoreMapping` as JSON.
    pub mapping: &'a str,
}

/// Whose orders a pod spec holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Holds {
    /// None.
    #[default]
    Nothing,
    /// Those asked about: key and backup are the same.
    These,
    /// Others, or only a part.
    Others,
}

/// Whether `spec` (a pod's, a pod template's) has the container at all.
#[must_use]
pub fn has_container(spec: &Value) -> bool {
    container(spec).is_some()
}

/// Whose orders `spec` holds, seen from the restore with that key.
#[must_use]
pub fn holds(spec: &Value, backup: &str, key: &str) -> Holds {
    let Some(container) = container(spec) else { return Holds::Nothing };
    let value = |name: &str| {
        let mut env = container.get("env").and_then(Value::as_array).into_iter().flatten();
        env.find(|e| e.get("name").and_then(Value::as_str) == Some(name))
    };
    let is = |name: &str, wanted: &str| {
        value(name).is_some_and(|e| e.get("value").and_then(Value::as_str) == Some(wanted))
    };
    if OURS.iter().all(|name| value(name).is_none()) {
        Holds::Nothing
    } else if is(BACKUP_NAME, backup) && is(RESTORE_KEY, key) && value(RESTORE_MAPPING).is_some() {
        Holds::These
    } else {
        Holds::Others
    }
}

/// The init containers of `spec` with these orders, or nothing when the container is missing.
#[must_use]
pub fn with(spec: &Value, orders: Orders<'_>) -> Option<Value> {
    rewritten(spec, |env| {
        for (name, value) in
            [(BACKUP_NAME, orders.backup), (RESTORE_KEY, orders.key), (RESTORE_MAPPING, orders.mapping)]
        {
            let entry = json!({"name": name, "value": value});
            match env.iter_mut().find(|e| is_named(e, &[name])) {
                Some(old) => *old = entry,
                None => env.push(entry),
            }
        }
    })
}

/// The init containers of `spec` without orders, whoever gave them.
#[must_use]
pub fn without(spec: &Value) -> Option<Value> {
    rewritten(spec, |env| env.retain(|entry| !is_named(entry, &OURS)))
}

/// Name of the Secret mounted as the storage's credentials, if one is.
#[must_use]
pub fn credentials_secret(spec: &Value) -> Option<String> {
    let mounts = container(spec)?.get("volumeMounts")?.as_array()?;
    let mount =
        mounts.iter().find(|m| m.get("mountPath").and_then(Value::as_str) == Some(CREDENTIALS_PATH))?;
    let volume = mount.get("name")?.as_str()?;
    let volumes = spec.get("volumes")?.as_array()?;
    let volume = volumes.iter().find(|v| is_named(v, &[volume]))?;
    volume.pointer("/secret/secretName")?.as_str().map(str::to_owned)
}

fn container(spec: &Value) -> Option<&Value> {
    spec.get("initContainers")?.as_array()?.iter().find(|c| is_named(c, &[CONTAINER]))
}

fn rewritten(spec: &Value, change: impl FnOnce(&mut Vec<Value>)) -> Option<Value> {
    let mut containers = spec.get("initContainers")?.clone();
    let found = containers.as_array_mut()?.iter_mut().find(|c| is_named(c, &[CONTAINER]))?;
    let container = found.as_object_mut()?;
    let mut env = container.get("env").and_then(Value::as_array).cloned().unwrap_or_default();
    change(&mut env);
    // A container that had no variables has no empty list of them afterwards.
    if env.is_empty() {
        container.remove("env");
    } else {
        container.insert("env".to_owned(), Value::Array(env));
    }
    Some(containers)
}

fn is_named(item: &Value, names: &[&str]) -> bool {
    item.get("name").and_then(Value::as_str).is_some_and(|name| names.contains(&name))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const ORDERS: Orders<'_> = Orders { backup: "b1", key: "k1", mapping: "{}" };

    fn spec(env: Value) -> Value {
        json!({
            "initContainers": [
                {"name": "mine", "image": "x", "env": [{"name": "BACKUP_NAME", "value": "not yours"}]},
                {"name": "server-config-init"},
                {"name": "medusa-restore", "env": env, "unknownField": {"kept": true},
                 "volumeMounts": [{"name": "bucket", "mountPath": "/etc/medusa-secrets"}]},
            ],
            "containers": [{"name": "medusa"}],
            "volumes": [{"name": "bucket", "secret": {"secretName": "bucket-key"}}],
        })
    }

    fn patched(spec: &Value, containers: Value) -> Value {
        let mut spec = spec.clone();
        spec["initContainers"] = containers;
        spec
    }

    #[rstest]
    #[case(json!([{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]))]
    #[case(json!([{"name": "A", "value": "1"}]))]
    fn orders_come_and_go_and_everything_else_stays(#[case] env: Value) {
        let before = spec(env);
        assert_eq!(holds(&before, "b1", "k1"), Holds::Nothing);
        let ordered = patched(&before, with(&before, ORDERS).unwrap());
        assert_eq!(holds(&ordered, "b1", "k1"), Holds::These);
        assert_eq!(ordered["initContainers"][0], before["initContainers"][0]);
        let ours = ordered["initContainers"][2]["env"].as_array().unwrap();
        assert_eq!(ours.len(), before["initContainers"][2]["env"].as_array().unwrap().len() + 3);
        assert_eq!(patched(&ordered, without(&ordered).unwrap()), before);
    }

    #[test]
    fn a_container_without_variables_has_none_again() {
        let mut before = spec(json!([]));
        before["initContainers"][2].as_object_mut().unwrap().remove("env");
        let ordered = patched(&before, with(&before, ORDERS).unwrap());
        assert_eq!(patched(&ordered, without(&ordered).unwrap()), before);
    }

    #[test]
    fn what_an_earlier_restore_left_behind_is_replaced_in_place() {
        let left = spec(json!([
            {"name": "RESTORE_KEY", "valueFrom": {"fieldRef": {"fieldPath": "x"}}},
            {"name": "A", "value": "1"},
            {"name": "BACKUP_NAME", "value": "b0"}
        ]));
        assert_eq!(holds(&left, "b1", "k1"), Holds::Others);
        let ordered = patched(&left, with(&left, ORDERS).unwrap());
        assert_eq!(
            ordered["initContainers"][2]["env"],
            json!([
                {"name": "RESTORE_KEY", "value": "k1"},
                {"name": "A", "value": "1"},
                {"name": "BACKUP_NAME", "value": "b1"},
                {"name": "RESTORE_MAPPING", "value": "{}"}
            ])
        );
        let clean = patched(&ordered, without(&ordered).unwrap());
        assert_eq!(clean["initContainers"][2]["env"], json!([{"name": "A", "value": "1"}]));
    }

    #[rstest]
    #[case("b1", "k1", Holds::These)]
    #[case("b2", "k1", Holds::Others)]
    #[case("b1", "k2", Holds::Others)]
    fn orders_are_told_apart_by_key_and_backup(
        #[case] backup: &str,
        #[case] key: &str,
        #[case] found: Holds,
    ) {
        let before = spec(json!([]));
        let ordered = patched(&before, with(&before, ORDERS).unwrap());
        assert_eq!(holds(&ordered, backup, key), found);
    }

    #[rstest]
    #[case(json!(null))]
    #[case(json!({}))]
    #[case(json!({"initContainers": [{"name": "other"}]}))]
    fn a_template_without_the_container_cannot_be_ordered(#[case] spec: Value) {
        assert!(!has_container(&spec));
        assert_eq!(with(&spec, ORDERS), None);
        assert_eq!(without(&spec), None);
        assert_eq!(holds(&spec, "b1", "k1"), Holds::Nothing);
        assert_eq!(credentials_secret(&spec), None);
    }

    #[test]
    fn the_credentials_are_found_through_their_mount() {
        assert_eq!(credentials_secret(&spec(json!([]))).as_deref(), Some("bucket-key"));
        let mut role_based = spec(json!([]));
        role_based["initContainers"][2]["volumeMounts"] = json!([]);
        assert_eq!(credentials_secret(&role_based), None);
    }
}
