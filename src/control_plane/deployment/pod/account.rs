//! The name of the Azure storage account, which Medusa without a credentials file finds in its environment only, and which
//! no field of `spec.medusa` or of a MedusaConfiguration holds (upstream: medusa.ini). Pure.

use serde_json::Value;

use super::request::RESTORE;
use crate::{
    api::{Reason, Why, cassandra::MEDUSA_CONTAINER, medusa::StorageProvider},
    control_plane::{data_planes::view::ObjectKey, deployment::config::storage::Settings},
};

/// Variable with the storage account's name.
const ACCOUNT: &str = "AZURE_STORAGE_ACCOUNT";

/// Why the Medusa in `datacenter`, which is read as `live`, cannot use its storage: it does not know the storage account.
#[must_use]
pub fn lack(settings: &Settings, datacenter: &ObjectKey, live: &Value) -> Option<Why> {
    // A credentials file has the account's name in it.
    if settings.provider != StorageProvider::AzureBlobs || settings.secret.is_some() {
        return None;
    }
    let containers = [("containers", MEDUSA_CONTAINER), ("initContainers", RESTORE)];
    let lacking: Vec<String> = containers
        .iter()
        .filter(|(list, name)| !knows(live, list, name))
        .map(|(list, name)| format!("`{name}` (in `{list}`)"))
        .collect();
    if lacking.is_empty() {
        return None;
    }
    let ObjectKey { namespace, name } = datacenter;
    let message = format!(
        "Medusa is deployed, and with `azure_blobs` and `role-based` it needs variable `{ACCOUNT}`, the name of the storage \
         account, which spec.medusa has no field for: every backup fails unless something else, such as a webhook, sets \
         it in the pods. In the data plane, `kubectl -n \
         {namespace} edit cassandradatacenter {name}`, and add it in spec.podTemplateSpec to `env` of {} \
         (docs/storage-identity.md)",
        lacking.join(" and ")
    );
    Some(Why::new(Reason::StorageAccountMissing, message))
}

/// Whether a container has the variable, or takes variables over from other objects, in which it may be.
fn knows(live: &Value, list: &str, name: &str) -> bool {
    let list = live.pointer(&format!("/spec/podTemplateSpec/spec/{list}")).and_then(Value::as_array);
    let is_it = |entry: &&Value| entry.get("name").and_then(Value::as_str) == Some(name);
    let Some(container) = list.and_then(|all| all.iter().find(is_it)) else { return false };
    let entries = |field: &str| container.get(field).and_then(Value::as_array).into_iter().flatten();
    let has_name = |entry: &Value| {
        // One that is empty is taken for a name.
        let is_said = entry.get("value").and_then(Value::as_str).is_some_and(|value| !value.is_empty());
        is_said || entry.get("valueFrom").is_some_and(|from| !from.is_null())
    };
    let is_account = |entry: &Value| entry.get("name").and_then(Value::as_str) == Some(ACCOUNT);
    entries("env").any(|entry| is_account(entry) && has_name(entry)) || entries("envFrom").next().is_some()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn settings(storage: Value) -> Settings {
        Settings::of(&serde_json::from_value(storage).unwrap(), "shop").unwrap()
    }

    fn by_role(provider: &str) -> Settings {
        settings(json!({"storageProvider": provider, "bucketName": "b", "credentialsType": "role-based"}))
    }

    /// A datacenter whose two containers have these fields.
    fn datacenter(medusa: &Value, restore: &Value) -> Value {
        let named = |name: &str, fields: &Value| {
            let mut container = fields.clone();
            container["name"] = json!(name);
            container
        };
        json!({"spec": {"podTemplateSpec": {"spec": {
            "containers": [{"name": "cassandra"}, named("medusa", medusa)],
            "initContainers": [named("medusa-restore", restore)],
        }}}})
    }

    fn lacking(settings: &Settings, live: &Value) -> Option<String> {
        lack(settings, &ObjectKey::new("cass", "dc1"), live).map(|why| why.message)
    }

    fn account(value: Value) -> Value {
        let mut entry = value;
        entry["name"] = json!("AZURE_STORAGE_ACCOUNT");
        json!({"env": [{"name": "MEDUSA_MODE", "value": "GRPC"}, entry]})
    }

    #[rstest]
    #[case::value(account(json!({"value": "shopbackups"})))]
    #[case::from_an_object(account(json!({"valueFrom": {"configMapKeyRef": {"name": "azure", "key": "account"}}})))]
    #[case::with_others(json!({"envFrom": [{"configMapRef": {"name": "azure"}}]}))]
    fn who_has_the_variable_lacks_nothing(#[case] fields: Value) {
        assert_eq!(lacking(&by_role("azure_blobs"), &datacenter(&fields, &fields)), None);
    }

    #[test]
    fn each_container_without_the_variable_is_named_with_what_to_do() {
        let (with, without) = (account(json!({"value": "shopbackups"})), json!({"env": []}));
        let said = |medusa: &Value, restore: &Value| {
            lacking(&by_role("azure_blobs"), &datacenter(medusa, restore)).unwrap()
        };
        let both = said(&without, &json!({}));
        for word in ["`medusa` (in", "`medusa-restore` (in", "kubectl -n cass edit cassandradatacenter dc1"] {
            assert!(both.contains(word), "{word}: {both}");
        }
        let one = said(&with, &without);
        assert!(one.contains("`medusa-restore` (in") && !one.contains("`medusa` (in"), "{one}");
        assert!(
            said(&account(json!({"value": ""})), &with).contains("`medusa` (in"),
            "an empty name is none"
        );
    }

    #[test]
    fn others_need_no_such_variable() {
        let nothing = datacenter(&json!({}), &json!({}));
        for provider in ["s3", "s3_compatible", "google_storage"] {
            assert_eq!(lacking(&by_role(provider), &nothing), None, "{provider}");
        }
        let by_secret = settings(
            json!({"storageProvider": "azure_blobs", "bucketName": "b", "storageSecretRef": {"name": "key"}}),
        );
        assert_eq!(lacking(&by_secret, &nothing), None);
    }
}
