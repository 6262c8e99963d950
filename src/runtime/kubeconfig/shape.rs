//! Which field of a kubeconfig is not of its type, when the file cannot be read for that. Pure.

use serde_json::{Map, Value};

use super::Fault;

/// What a field has to be.
#[derive(Clone, Copy)]
enum Type {
    /// Text; numbers and truths are read as such.
    Text,
    /// `true` or `false`.
    Truth,
    /// A list of text.
    Texts,
    /// A map of lists of text.
    ListsByKey,
    /// A list of maps.
    Maps,
}

const TOP: [(&str, Type); 3] =
    [("kind", Type::Text), ("apiVersion", Type::Text), ("current-context", Type::Text)];
const CONTEXT: [(&str, Type); 3] = [("cluster", Type::Text), ("user", Type::Text), ("namespace", Type::Text)];
const CLUSTER: [(&str, Type); 7] = [
    ("server", Type::Text),
    ("tls-server-name", Type::Text),
    ("insecure-skip-tls-verify", Type::Truth),
    ("certificate-authority", Type::Text),
    ("certificate-authority-data", Type::Text),
    ("proxy-url", Type::Text),
    ("extensions", Type::Maps),
];
const USER: [(&str, Type); 12] = [
    ("token", Type::Text),
    ("tokenFile", Type::Text),
    ("client-certificate", Type::Text),
    ("client-certificate-data", Type::Text),
    ("client-key", Type::Text),
    ("client-key-data", Type::Text),
    ("username", Type::Text),
    ("password", Type::Text),
    ("as", Type::Text),
    ("as-uid", Type::Text),
    ("as-groups", Type::Texts),
    ("as-user-extra", Type::ListsByKey),
];
type Field = (&'static str, Type);
type TypedList = (&'static str, &'static str, &'static [Field]);

/// A list, what each of its entries holds, and the fields of that.
const LISTS: [TypedList; 3] =
    [("contexts", "context", &CONTEXT), ("clusters", "cluster", &CLUSTER), ("users", "user", &USER)];

/// The first field of `file` that is not of its type.
pub(super) fn misfit(file: &Value) -> Option<Fault> {
    let file = file.as_object()?;
    of_fields(file, &TOP)
        .or_else(|| LISTS.iter().find_map(|(list, item, fields)| of_list(file, list, item, fields)))
}

fn of_list(
    file: &Map<String, Value>,
    list: &'static str,
    item: &'static str,
    fields: &'static [Field],
) -> Option<Fault> {
    let entries = match file.get(list)? {
        Value::Null => return None,
        Value::Array(entries) => entries,
        other @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => {
            return Some(wrong(list, other, "a list"));
        }
    };
    entries.iter().find_map(|entry| {
        let Some(named) = entry.as_object() else { return Some(wrong(list, entry, "a list of maps")) };
        let name =
            named.get("name").filter(|name| !fits(name, Type::Text)).map(|name| wrong("name", name, "text"));
        name.or_else(|| match named.get(item)? {
            Value::Null => None,
            Value::Object(map) => of_fields(map, fields),
            other @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
                Some(wrong(item, other, "a map"))
            }
        })
    })
}

fn of_fields(map: &Map<String, Value>, fields: &[Field]) -> Option<Fault> {
    fields.iter().find_map(|(field, type_)| {
        let value = map.get(*field).filter(|value| !fits(value, *type_))?;
        let expected = match type_ {
            Type::Text => "text",
            Type::Truth => "true or false",
            Type::Texts => "a list of text",
            Type::ListsByKey => "a map of lists of text",
            Type::Maps => "a list of maps",
        };
        Some(wrong(field, value, expected))
    })
}

fn fits(value: &Value, type_: Type) -> bool {
    const TRUTHS: [&str; 8] = ["true", "false", "yes", "no", "on", "off", "y", "n"];
    match (value, type_) {
        (Value::Null | Value::String(_) | Value::Number(_) | Value::Bool(_), Type::Text)
        | (Value::Null, _)
        | (Value::Bool(_), Type::Truth) => true,
        (Value::String(word), Type::Truth) => TRUTHS.contains(&word.to_ascii_lowercase().as_str()),
        (Value::Array(items), Type::Texts) => items.iter().all(|item| fits(item, Type::Text)),
        (Value::Array(items), Type::Maps) => items.iter().all(Value::is_object),
        (Value::Object(map), Type::ListsByKey) => map.values().all(|value| fits(value, Type::Texts)),
        _ => false,
    }
}

/// Says what it is, and never its value.
fn wrong(field: &'static str, value: &Value, expected: &str) -> Fault {
    let is = match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    };
    let is = if is == expected || expected.starts_with(is) { "something else" } else { is };
    Fault::new(field, format!("is {is}, and has to be {expected}"))
}
