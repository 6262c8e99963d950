//! Medusa's user in a CassandraDatacenter's `spec.users`. Pure.
//!
//! The list has no keys, so that server-side apply would own all of it. It is the user's: an entry is put behind
//! theirs, or taken out again, by a patch that holds to the version it was read from; an annotation written with it
//! says which entry is ours.

use serde_json::{Value, json};

use crate::api::labels::MEDUSA_USER;

/// The merge patch after which cass-operator makes the user of `secret`, or no user of ours when that is `None`;
/// `None` when `live` is like that already. The patch fails when the datacenter has changed since.
#[must_use]
pub fn patch(live: &Value, secret: Option<&str>) -> Option<Value> {
    let before = live.pointer("/spec/users").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let marked =
        live.pointer("/metadata/annotations").and_then(|a| a.get(MEDUSA_USER)).and_then(Value::as_str);
    // An entry somebody has changed is theirs.
    let others: Vec<&Value> =
        before.iter().filter(|user| marked.is_none_or(|name| **user != entry(name))).collect();
    // Who has that user in their list already needs none of ours.
    let added = secret.filter(|name| !others.iter().any(|user| is_of(user, name)));
    let after: Vec<Value> = others.into_iter().cloned().chain(added.map(entry)).collect();
    if after == before && added == marked {
        return None;
    }
    // A list that is empty without us was none before.
    let users = if after.is_empty() { Value::Null } else { Value::from(after) };
    let metadata = live.get("metadata")?;
    Some(json!({
        "metadata": {
            "uid": metadata.get("uid")?,
            "resourceVersion": metadata.get("resourceVersion")?,
            "annotations": {MEDUSA_USER: added},
        },
        "spec": {"users": users},
    }))
}

fn entry(secret: &str) -> Value {
    json!({"secretName": secret, "superuser": true})
}

fn is_of(user: &Value, secret: &str) -> bool {
    user.get("secretName").and_then(Value::as_str) == Some(secret)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn live(users: Value, marked: Option<&str>) -> Value {
        json!({
            "metadata": {"uid": "u1", "resourceVersion": "7", "annotations": {MEDUSA_USER: marked, "mine": "yes"}},
            "spec": {"users": users, "size": 3},
        })
    }

    /// What a merge patch makes of it.
    fn patched(live: &Value, patch: Option<Value>) -> Value {
        fn merge(into: &mut Value, patch: Value) {
            let Value::Object(patch) = patch else { return *into = patch };
            for (key, value) in patch {
                let into = into.as_object_mut().unwrap();
                if value.is_null() {
                    into.remove(&key);
                } else {
                    merge(into.entry(key).or_insert(json!({})), value);
                }
            }
        }
        let mut after = live.clone();
        merge(&mut after, patch.unwrap_or(json!({})));
        after
    }

    fn mine() -> Value {
        json!({"secretName": "mine", "superuser": false, "unknown": 1})
    }

    #[rstest]
    #[case(json!(null))]
    #[case(json!([mine()]))]
    fn the_user_comes_behind_the_others_and_goes_without_a_trace(#[case] before: Value) {
        let before = live(before, None);
        let with = patched(&before, patch(&before, Some("shop-medusa")));
        let users = with["spec"]["users"].as_array().unwrap();
        assert_eq!(users.last(), Some(&entry("shop-medusa")));
        assert_eq!(users.len(), before["spec"]["users"].as_array().map_or(0, Vec::len) + 1);
        assert_eq!(with["metadata"]["annotations"][MEDUSA_USER], "shop-medusa");
        assert_eq!(patch(&with, Some("shop-medusa")), None, "it is there");
        let without = patched(&with, patch(&with, None));
        assert_eq!(without["spec"].get("users"), before["spec"].get("users").filter(|u| !u.is_null()));
        assert_eq!(without["metadata"]["annotations"], json!({"mine": "yes"}));
    }

    #[test]
    fn a_patch_holds_to_the_version_it_was_made_from() {
        let patch = patch(&live(json!([]), None), Some("s")).unwrap();
        assert_eq!(
            (&patch["metadata"]["uid"], &patch["metadata"]["resourceVersion"]),
            (&json!("u1"), &json!("7"))
        );
        assert_eq!(super::patch(&json!({"spec": {}}), Some("s")), None, "nothing to hold to");
    }

    #[test]
    fn who_has_the_user_already_keeps_it() {
        let theirs = live(json!([{"secretName": "shop-medusa", "superuser": true}]), None);
        assert_eq!(patch(&theirs, Some("shop-medusa")), None);
        assert_eq!(patch(&theirs, None), None);
    }

    #[test]
    fn an_entry_somebody_changed_is_theirs() {
        let changed = json!([{"secretName": "shop-medusa", "superuser": false}]);
        let before = live(changed.clone(), Some("shop-medusa"));
        let after = patched(&before, patch(&before, Some("shop-medusa")));
        assert_eq!(
            (&after["spec"]["users"], after["metadata"]["annotations"].get(MEDUSA_USER)),
            (&changed, None)
        );
    }

    #[test]
    fn another_secret_takes_the_place_of_the_first() {
        let before = live(json!([mine(), entry("old")]), Some("old"));
        let after = patched(&before, patch(&before, Some("new")));
        assert_eq!(after["spec"]["users"], json!([mine(), entry("new")]));
        assert_eq!(after["metadata"]["annotations"][MEDUSA_USER], "new");
    }

    #[test]
    fn a_user_somebody_dropped_comes_again() {
        let before = live(json!([mine()]), Some("shop-medusa"));
        let after = patched(&before, patch(&before, Some("shop-medusa")));
        assert_eq!(after["spec"]["users"], json!([mine(), entry("shop-medusa")]));
    }
}
