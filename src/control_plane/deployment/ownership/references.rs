//! Where a CassandraDatacenter refers to ConfigMaps and Secrets of its namespace. Pure.
//!
//! A pod whose ConfigMap or Secret is gone does not start, and that shows only when it is restarted, perhaps weeks later.
//! So before one of ours is deleted, every datacenter beside it is looked through: whoever wrote the field.

use std::{collections::BTreeSet, fmt};

use serde_json::Value;

use super::managed_fields::Owners;
use crate::{
    api::{
        Reason, Why,
        labels::{CONTROL_PLANE, MANAGER_DEPLOYMENT},
        names,
    },
    control_plane::deployment::pod::fields::{self, FieldPath},
};

/// Most fields that are named in a message.
const NAMED: usize = 3;
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

/// The fields of `datacenter` that refer to one of `going`.
#[must_use]
pub fn to_any_of(datacenter: &Value, going: &BTreeSet<Referred>) -> Vec<Reference> {
    let owners = Owners::of(datacenter);
    let spec = FieldPath::of(&["spec"]);
    let fields = datacenter.get("spec").and_then(Value::as_object).into_iter().flatten();
    let mut found = Vec::new();
    for (name, part) in fields.filter(|(name, _)| *name != CONFIGURATION) {
        collect_field(&spec, name, part, &mut found);
    }
    let mut found: Vec<Reference> = found
        .into_iter()
        .filter(|(_, to)| going.contains(to))
        .map(|(path, to)| {
            let owner = owners.around(MANAGER_DEPLOYMENT, &path).map(str::to_owned);
            Reference { path, to, owner }
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Every reference in `value`, which is at `at`. In a list without keys the path leads through the list.
#[must_use]
pub fn within(at: &FieldPath, value: &Value) -> Vec<(FieldPath, Referred)> {
    let mut found = Vec::new();
    collect(at, value, &mut found);
    found
}

/// Why something is not deleted: what in the datacenter refers to it, whose that is, and what to do.
#[must_use]
pub fn still_in_use(references: &[Reference]) -> Why {
    let named = names::listed(references, NAMED);
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

fn collect(at: &FieldPath, value: &Value, found: &mut Vec<(FieldPath, Referred)>) {
    if let Some(object) = value.as_object() {
        object.iter().for_each(|(name, part)| collect_field(at, name, part, found));
        return;
    }
    let list = at.last_field().unwrap_or_default();
    match fields::items(list, value) {
        Some(items) => {
            for (step, item) in items {
                let path = at.then(step);
                if list == PULL_SECRETS {
                    found.extend(named(item, "name").map(|name| (path.clone(), Referred::Secret(name))));
                }
                collect(&path, item, found);
            }
        }
        None => value.as_array().into_iter().flatten().for_each(|item| collect(at, item, found)),
    }
}

fn collect_field(at: &FieldPath, name: &str, part: &Value, found: &mut Vec<(FieldPath, Referred)>) {
    let path = at.field(name);
    found.extend(referred(name, part).map(|to| (path.clone(), to)));
    collect(&path, part, found);
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
