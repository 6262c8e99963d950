//! Where a CassandraDatacenter refers to ConfigMaps and Secrets of its namespace. Pure.
//!
//! A pod whose ConfigMap or Secret is gone does not start, and that shows only when it is restarted, perhaps weeks later.
//! So before one of ours is deleted, every datacenter beside it is looked through: whoever wrote the field.

use std::{collections::BTreeSet, fmt, ops::ControlFlow};

use serde_json::Value;

use super::managed_fields::Owners;
use crate::{
    api::{
        Reason, Why,
        labels::{CONTROL_PLANE, MANAGER_DEPLOYMENT},
        names,
    },
    control_plane::deployment::pod::fields::{self, FieldPath, PathStep},
};

/// Most fields that are named in a message.
const NAMED: usize = 3;
/// Most fields of one datacenter that are found.
const FOUND: usize = 32;
/// Field of `spec` that holds Cassandra's own configuration: nothing in it is Kubernetes'.
const CONFIGURATION: &str = "config";
/// The list whose items are Secrets by their names.
const PULL_SECRETS: &str = "imagePullSecrets";

/// What a datacenter may refer to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Referred {
    ConfigMap(String),
    Secret(String),
}

impl Referred {
    /// The object's name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::ConfigMap(name) | Self::Secret(name) => name,
        }
    }
}

impl fmt::Display for Referred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConfigMap(name) => write!(f, "ConfigMap `{name}`"),
            Self::Secret(name) => write!(f, "Secret `{name}`"),
        }
    }
}

/// A field that refers to something that is to be deleted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    pub path: FieldPath,
    pub to: Referred,
    /// The field manager that set it; `None` where nobody else than we did, or nobody knows.
    pub owner: Option<String>,
}

/// The fields of `datacenter` that refer to one of `going`, at most [`FOUND`] of them.
#[must_use]
pub fn to_any_of(datacenter: &Value, going: &BTreeSet<Referred>) -> Vec<Reference> {
    let owners = Owners::of(datacenter);
    let mut at = FieldPath::of(&["spec"]);
    let fields = datacenter.get("spec").and_then(Value::as_object).into_iter().flatten();
    let mut found = BTreeSet::new();
    let mut note = |path: &FieldPath, to: Referred| {
        if going.contains(&to) {
            let owner = owners.around(MANAGER_DEPLOYMENT, path).map(str::to_owned);
            found.insert(Reference { path: path.clone(), to, owner });
        }
        if found.len() < FOUND { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    for (name, part) in fields.filter(|(name, _)| *name != CONFIGURATION) {
        if visit_field(&mut at, name, part, &mut note).is_break() {
            break;
        }
    }
    found.into_iter().collect()
}

/// Whether `is_it` holds for the path of a reference in `value`, which is at `at`. In a list without keys the path leads
/// through the list.
#[must_use]
pub fn any(at: &FieldPath, value: &Value, is_it: impl Fn(&FieldPath) -> bool) -> bool {
    let mut look =
        |path: &FieldPath, _| if is_it(path) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    visit(&mut at.clone(), value, &mut look).is_break()
}

/// The first of some references, in words.
#[must_use]
pub fn listed(references: &[Reference]) -> String {
    names::listed(references, NAMED)
}

/// Why something is not deleted: what in the datacenter refers to it, whose that is, and what to do.
#[must_use]
pub fn still_in_use(references: &[Reference]) -> Why {
    let named = listed(references);
    let message = format!(
        "Medusa was taken out, and what it used is not deleted, because the datacenter refers to it and its pods would \
         not start without it: {named}. Take the field out where its owner keeps it, and the rest is deleted; or take \
         label `{CONTROL_PLANE}` off the ConfigMap or Secret, and it is yours"
    );
    Why::new(Reason::StillInUse, message)
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` to {}", self.path, self.to)?;
        self.owner.as_ref().map_or(Ok(()), |owner| write!(f, " (set by `{owner}`)"))
    }
}

/// Hands every reference in `value` to `found`, with the way to it, until that has enough. One path serves for all.
fn visit(
    at: &mut FieldPath,
    value: &Value,
    found: &mut impl FnMut(&FieldPath, Referred) -> ControlFlow<()>,
) -> ControlFlow<()> {
    if let Some(object) = value.as_object() {
        return object.iter().try_for_each(|(name, part)| visit_field(at, name, part, found));
    }
    let list = at.last_field().unwrap_or_default().to_owned();
    let Some(items) = fields::items(&list, value) else {
        return value.as_array().into_iter().flatten().try_for_each(|item| visit(at, item, found));
    };
    for (step, item) in items {
        at.0.push(step);
        let pulled = named(item, "name").filter(|_| list == PULL_SECRETS);
        let mut flow = pulled.map_or(ControlFlow::Continue(()), |name| found(at, Referred::Secret(name)));
        if flow.is_continue() {
            flow = visit(at, item, found);
        }
        at.0.pop();
        flow?;
    }
    ControlFlow::Continue(())
}

fn visit_field(
    at: &mut FieldPath,
    name: &str,
    part: &Value,
    found: &mut impl FnMut(&FieldPath, Referred) -> ControlFlow<()>,
) -> ControlFlow<()> {
    at.0.push(PathStep::Field(name.to_owned()));
    let mut flow = referred(name, part).map_or(ControlFlow::Continue(()), |to| found(at, to));
    if flow.is_continue() {
        flow = visit(at, part, found);
    }
    at.0.pop();
    flow
}

/// What the field of that name refers to. Kubernetes and cass-operator spell such fields alike wherever they stand, so that
/// those are found too that a later release adds.
fn referred(field: &str, value: &Value) -> Option<Referred> {
    let word = field.to_ascii_lowercase();
    let ends = |endings: &[&str]| endings.iter().any(|ending| word.ends_with(ending));
    if let Some(name) = value.as_str() {
        return ends(&["secretname", "configsecret"]).then(|| Referred::Secret(name.to_owned()));
    }
    if ends(&["configmap", "configmapref", "configmapkeyref"]) {
        return named(value, "name").map(Referred::ConfigMap);
    }
    let is_secret = ends(&["secret", "secretref", "secretkeyref"]);
    named(value, "name").filter(|_| is_secret).map(Referred::Secret)
}

fn named(object: &Value, field: &str) -> Option<String> {
    object.get(field).and_then(Value::as_str).filter(|name| !name.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::control_plane::deployment::pod::template::tests::everything;

    fn going(names: &[&str]) -> BTreeSet<Referred> {
        let both =
            |name: &&str| [Referred::ConfigMap((*name).to_owned()), Referred::Secret((*name).to_owned())];
        names.iter().flat_map(both).collect()
    }

    fn found(spec: Value) -> Vec<String> {
        let all = to_any_of(&json!({"spec": spec}), &going(&["gone"]));
        all.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_place_is_found_in_which_kubernetes_refers_to_a_config_map_or_secret() {
        let all = found(json!({
            "clusterName": "gone", "superuserSecretName": "gone", "configSecret": "gone",
            "users": [{"secretName": "kept"}, {"secretName": "gone"}],
            "managementApiAuth": {"manual": {"clientSecretName": "gone", "serverSecretName": "kept"}},
            "storageConfig": {"additionalVolumes": [{"name": "gone", "volumeSource": {"configMap": {"name": "gone"}}}]},
            "podTemplateSpec": {"metadata": {"name": "gone"}, "spec": {
                "imagePullSecrets": [{"name": "gone"}, {"name": "kept"}],
                "containers": [{
                    "name": "gone", "image": "gone",
                    "env": [
                        {"name": "A", "value": "gone"},
                        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "gone", "key": "k"}}},
                        {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "gone", "key": "k", "optional": true}}},
                    ],
                    "envFrom": [{"configMapRef": {"name": "kept"}}, {"secretRef": {"name": "gone"}}],
                    "volumeMounts": [{"name": "gone", "mountPath": "/gone"}],
                }],
                "volumes": [
                    {"name": "gone", "emptyDir": {}},
                    {"name": "a", "secret": {"secretName": "gone"}},
                    {"name": "b", "configMap": {"name": "gone"}},
                    {"name": "c", "projected": {"sources": [{"secret": {"name": "gone"}}, {"configMap": {"name": "gone"}}]}},
                    {"name": "d", "csi": {"driver": "x", "nodePublishSecretRef": {"name": "gone"}}},
                ],
            }},
        }));
        let pods = ".spec.podTemplateSpec.spec";
        let expected = [
            "`.spec.configSecret` to Secret `gone`".to_owned(),
            "`.spec.managementApiAuth.manual.clientSecretName` to Secret `gone`".to_owned(),
            format!(
                r#"`{pods}.containers[name="gone"].env[name="B"].valueFrom.secretKeyRef` to Secret `gone`"#
            ),
            format!(
                r#"`{pods}.containers[name="gone"].env[name="C"].valueFrom.configMapKeyRef` to ConfigMap `gone`"#
            ),
            format!(r#"`{pods}.containers[name="gone"].envFrom.secretRef` to Secret `gone`"#),
            format!(r#"`{pods}.imagePullSecrets[name="gone"]` to Secret `gone`"#),
            format!(r#"`{pods}.volumes[name="a"].secret.secretName` to Secret `gone`"#),
            format!(r#"`{pods}.volumes[name="b"].configMap` to ConfigMap `gone`"#),
            format!(r#"`{pods}.volumes[name="c"].projected.sources.configMap` to ConfigMap `gone`"#),
            format!(r#"`{pods}.volumes[name="c"].projected.sources.secret` to Secret `gone`"#),
            format!(r#"`{pods}.volumes[name="d"].csi.nodePublishSecretRef` to Secret `gone`"#),
            "`.spec.storageConfig.additionalVolumes.volumeSource.configMap` to ConfigMap `gone`".to_owned(),
            "`.spec.superuserSecretName` to Secret `gone`".to_owned(),
            "`.spec.users.secretName` to Secret `gone`".to_owned(),
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn cassandras_own_configuration_refers_to_nothing() {
        assert_eq!(found(json!({"config": {"secretName": "gone", "secret": {"name": "gone"}}})), [""; 0]);
        assert_eq!(found(json!(null)), [""; 0]);
        assert_eq!(to_any_of(&json!({}), &going(&["gone"])), []);
    }

    #[test]
    fn everything_medusa_uses_is_referred_to_where_it_is_deployed() {
        let names = ["shop-medusa", "medusa-bucket-key", "certs", "grpc-server", "mgmt-client", "registry"];
        let body = everything();
        for name in names {
            assert!(!to_any_of(&body, &going(&[name])).is_empty(), "{name}");
        }
    }

    #[test]
    fn whose_the_field_is_is_said_and_what_to_do() {
        let volume = json!({"name": "mine", "secret": {"secretName": "gone"}});
        let datacenter = json!({
            "metadata": {"managedFields": [{"manager": "argocd-controller", "operation": "Apply", "fieldsV1": {
                "f:spec": {"f:podTemplateSpec": {"f:spec": {"f:volumes": {"k:{\"name\":\"mine\"}": {
                    ".": {}, "f:name": {}, "f:secret": {"f:secretName": {}},
                }}}}},
            }}]},
            "spec": {"users": [{"secretName": "gone"}], "podTemplateSpec": {"spec": {"volumes": [volume]}}},
        });
        let why = still_in_use(&to_any_of(&datacenter, &going(&["gone"])));
        assert_eq!(why.reason, Reason::StillInUse);
        let field =
            r#".volumes[name="mine"].secret.secretName` to Secret `gone` (set by `argocd-controller`)"#;
        for words in [
            field,
            "`.spec.users.secretName` to Secret `gone`.",
            "label `fleet.k8ssandra.io/control-plane` off",
        ] {
            assert!(why.message.contains(words), "{}", why.message);
        }
    }
}
