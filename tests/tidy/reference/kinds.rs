//! docs/reference/kinds.md, from the definitions of the fleet's kinds.

use std::fmt::Write as _;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use medusa_fleet::api::{crds, fleet};
use serde_json::Value;

use super::{sentence, wrap};

pub fn page() -> String {
    let mut page = "# The fleet's kinds, field by field\n\n".to_owned();
    page += &wrap(
        "",
        "",
        "Every field of the kinds of `fleet.k8ssandra.io`, as the definitions in [crds](../../crds) have them. `[]` stands for \
         each entry of a list. What a kind is for and how it is used says its page.",
    );
    let all = crds::all().unwrap();
    for definition in all.iter().filter(|definition| definition.spec.group == fleet::GROUP) {
        kind(definition, &mut page);
    }
    page
}

fn kind(definition: &CustomResourceDefinition, page: &mut String) {
    let (spec, names) = (&definition.spec, &definition.spec.names);
    writeln!(page, "\n## {}\n", names.kind).unwrap();
    let short: Vec<String> =
        names.short_names.iter().flatten().map(|name| format!(", short `{name}`")).collect();
    let [version] = spec.versions.as_slice() else { panic!("{} has several versions", names.kind) };
    *page += &wrap(
        "",
        "",
        &format!(
            "`{}`{}, `{}/{}`, {}. How it is used: [{}](../{}.md).",
            names.plural,
            short.concat(),
            spec.group,
            version.name,
            if spec.scope == "Namespaced" { "in a namespace" } else { "without a namespace" },
            names.kind,
            names.kind.to_lowercase(),
        ),
    );
    let version = serde_json::to_value(version).unwrap();
    let columns = version["additionalPrinterColumns"].as_array().cloned().unwrap_or_default();
    let columns: Vec<String> = columns.iter().map(column).collect();
    if !columns.is_empty() {
        page.push('\n');
        *page += &wrap("", "", &format!("`kubectl get` shows {}.", columns.join(", ")));
    }
    let schema = &version["schema"]["openAPIV3Schema"];
    for part in ["spec", "status"] {
        let node = &schema["properties"][part];
        if node.is_object() {
            writeln!(page, "\n### {}: {part}\n", names.kind).unwrap();
            field(node, part, is_required(schema, part), page);
        }
    }
    let mut rules = Vec::new();
    refusals(schema, &mut rules);
    if !rules.is_empty() {
        writeln!(page, "\n### {}: what is refused when it is written\n", names.kind).unwrap();
        for rule in rules {
            *page += &wrap("- ", "  ", &sentence(rule));
        }
    }
}

fn column(column: &Value) -> String {
    let wide = if column["priority"].as_i64().unwrap_or_default() > 0 { " (with `-o wide`)" } else { "" };
    format!("{}{wide}", column["name"].as_str().unwrap_or_default())
}

fn is_required(node: &Value, name: &str) -> bool {
    node["required"].as_array().is_some_and(|required| required.iter().any(|of| of == name))
}

/// A field, and the fields below it.
fn field(node: &Value, path: &str, required: bool, page: &mut String) {
    let required = if required { ", required" } else { "" };
    let said = [node, &node["items"]].into_iter().find_map(|node| node["description"].as_str());
    let said = said.map(|said| format!(": {}", sentence(said))).unwrap_or_default();
    *page += &wrap("- ", "  ", &format!("`{path}` ({}{}{required}){said}", type_of(node), bounds(node)));
    if is_standard(node) {
        return;
    }
    for (name, child) in node["properties"].as_object().into_iter().flatten() {
        field(child, &format!("{path}.{name}"), is_required(node, name), page);
    }
    let items = &node["items"];
    for (name, child) in items["properties"].as_object().into_iter().flatten() {
        field(child, &format!("{path}[].{name}"), is_required(items, name), page);
    }
}

/// Whether it is a type of Kubernetes, of which nothing more is said here.
fn is_standard(node: &Value) -> bool {
    is_selector(node) || is_conditions(node)
}

fn is_selector(node: &Value) -> bool {
    node["properties"].as_object().is_some_and(|of| of.len() == 2 && of.contains_key("matchExpressions"))
}

fn is_conditions(node: &Value) -> bool {
    node["items"]["properties"].as_object().is_some_and(|of| of.contains_key("lastTransitionTime"))
}

fn type_of(node: &Value) -> String {
    match node["type"].as_str() {
        _ if is_selector(node) => "label selector".to_owned(),
        _ if is_conditions(node) => "list of [conditions](conditions.md)".to_owned(),
        Some("array") => format!("list of {}s", type_of(&node["items"])),
        Some("string") if node["format"] == "date-time" => "time".to_owned(),
        word => word.unwrap_or("anything").to_owned(),
    }
}

/// What is allowed, and what holds without the field.
fn bounds(node: &Value) -> String {
    let mut text = String::new();
    if let Some(choices) = node["enum"].as_array() {
        let choices: Vec<String> =
            choices.iter().filter_map(Value::as_str).map(|c| format!("`{c}`")).collect();
        write!(text, ": {}", choices.join(", ")).unwrap();
    }
    match (node["minimum"].as_f64(), node["maximum"].as_f64()) {
        (Some(least), Some(most)) => write!(text, ", {least} to {most}").unwrap(),
        (Some(least), None) if least > 0.0 => write!(text, ", at least {least}").unwrap(),
        (None, Some(most)) => write!(text, ", at most {most}").unwrap(),
        (_, None) => {}
    }
    match &node["default"] {
        Value::Null => {}
        Value::String(word) if word.is_empty() => text += ", default empty",
        Value::String(word) => write!(text, ", default `{word}`").unwrap(),
        other => write!(text, ", default `{other}`").unwrap(),
    }
    text
}

/// What the API server answers to what is refused by the definition, each once.
fn refusals<'a>(node: &'a Value, found: &mut Vec<&'a str>) {
    match node {
        Value::Object(map) => {
            for rule in map.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                let message = rule["message"].as_str().unwrap_or_default();
                if !found.contains(&message) {
                    found.push(message);
                }
            }
            map.values().for_each(|child| refusals(child, found));
        }
        Value::Array(list) => list.iter().for_each(|child| refusals(child, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
