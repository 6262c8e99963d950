//! Objects as an API server would let them through, for tests: made from the definitions themselves. Their rules in CEL
//! are not followed, as somebody may have stored an object under a definition without them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::crds;

/// Text with a chance of meaning something.
pub(crate) fn text() -> BoxedStrategy<String> {
    prop_oneof![
        3 => select(vec!["", "dc1", "eu", "shop", "@daily", "*/5 * * * *", "50MB/s", "s3", "Europe/Berlin", "../..", "a b", "*"])
            .prop_map(str::to_owned),
        2 => "\\PC{0,12}",
        1 => ".{0,12}",
        1 => "[a-z.:/*-]{0,300}",
    ]
    .boxed()
}

pub(crate) fn time() -> BoxedStrategy<Value> {
    select(vec!["2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-30T22:00:00.999999Z"])
        .prop_map(Value::from)
        .boxed()
}

/// What an API server lets through where this schema stands.
fn value(schema: &JSONSchemaProps) -> BoxedStrategy<Value> {
    if let Some(words) = &schema.enum_ {
        return select(words.iter().map(|word| word.0.clone()).collect::<Vec<_>>()).boxed();
    }
    let number = prop_oneof![any::<i64>(), -3..90_i64];
    if schema.x_kubernetes_int_or_string == Some(true) {
        return prop_oneof![number.prop_map(Value::from), text().prop_map(Value::from)].boxed();
    }
    match schema.type_.as_deref() {
        Some("string") if schema.format.as_deref() == Some("date-time") => time(),
        Some("string") => text().prop_map(Value::from).boxed(),
        Some("integer") => number.prop_map(Value::from).boxed(),
        Some("number") => any::<f64>().prop_map(|number| json!(number)).boxed(),
        Some("boolean") => any::<bool>().prop_map(Value::from).boxed(),
        Some("array") => match &schema.items {
            Some(JSONSchemaPropsOrArray::Schema(items)) => {
                vec(value(items), 0..3).prop_map(Value::from).boxed()
            }
            Some(JSONSchemaPropsOrArray::Schemas(_)) | None => Just(json!([])).boxed(),
        },
        _ => object(schema),
    }
}

fn object(schema: &JSONSchemaProps) -> BoxedStrategy<Value> {
    let required = schema.required.clone().unwrap_or_default();
    let fields: Vec<BoxedStrategy<Option<(String, Value)>>> = schema
        .properties
        .iter()
        .flatten()
        .map(|(name, schema)| {
            let (name, is_required) = (name.clone(), required.contains(name));
            let field = value(schema).prop_map(move |value| (name.clone(), value));
            if is_required { field.prop_map(Some).boxed() } else { option::of(field).boxed() }
        })
        .collect();
    let more = match &schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(schema)) => vec((text(), value(schema)), 0..3).boxed(),
        Some(JSONSchemaPropsOrBool::Bool(_)) | None => Just(Vec::new()).boxed(),
    };
    (fields, more)
        .prop_map(|(fields, more)| Value::Object(fields.into_iter().flatten().chain(more).collect()))
        .boxed()
}

pub(crate) fn kind(name: &str) -> impl Strategy<Value = Value> {
    let all = crds::all().unwrap();
    let version = all.iter().find(|crd| crd.spec.names.kind == name).unwrap().spec.versions[0].clone();
    let mut schema = version.schema.unwrap().open_api_v3_schema.unwrap();
    schema.properties.iter_mut().for_each(|fields| drop(fields.remove("metadata")));
    (object(&schema), text(), text(), option::of(time())).prop_map(|(mut object, name, namespace, created)| {
        object["metadata"] = json!({
            "name": name, "namespace": namespace, "uid": "u", "resourceVersion": "1", "creationTimestamp": created,
        });
        object
    })
}

/// The object, when it is one: what cannot be read is told of elsewhere.
pub(crate) fn read<K: DeserializeOwned>(object: Value) -> Option<K> {
    serde_json::from_value(object).ok()
}
