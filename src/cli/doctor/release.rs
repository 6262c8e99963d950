//! Whether Helm brought a definition, and so how it is installed or upgraded. Pure.

use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt as _;

use crate::api::{labels, names};

/// Annotations that Helm puts on everything a release makes.
const RELEASE_NAME: &str = "meta.helm.sh/release-name";
const RELEASE_NAMESPACE: &str = "meta.helm.sh/release-namespace";
/// Helm's value of the label for the tool that looks after an object, and its field manager.
const HELM: (&str, &str) = ("Helm", "helm");

/// What says that Helm brought an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HelmMark<'a> {
    /// It belongs to this release.
    Release { name: &'a str, namespace: &'a str },
    /// Helm wrote it, and no release is named on it.
    Unnamed,
}

/// How to install or upgrade a definition; `installed` are those that are there. One that is missing comes with the
/// release that has the others of its group.
pub(super) fn advice(plural: &str, group: &str, installed: &[CustomResourceDefinition]) -> String {
    let name = format!("{plural}.{group}");
    let own = installed.iter().find(|definition| definition.name_any() == name);
    let found = if let Some(own) = own {
        mark(&own.metadata)
    } else {
        let others = installed.iter().filter(|definition| definition.spec.group == group);
        others.filter_map(|other| mark(&other.metadata)).find(|mark| *mark != HelmMark::Unnamed)
    };
    match found {
        Some(HelmMark::Release { name, namespace }) => {
            let what = if own.is_some() { "brought it" } else { "brings the others of its group" };
            format!(
                "`helm -n {namespace} upgrade {name} CHART --reset-then-reuse-values` with the chart of this version: \
                 Helm release `{name}` {what}, and a `kubectl apply` would conflict with it"
            )
        }
        Some(HelmMark::Unnamed) => "Helm wrote it, and no release is named on it: find the release with `helm list -A` \
             and upgrade that, or hand the definition over to yours (docs/upgrade.md, Definitions); a `kubectl apply` \
             would conflict with it"
            .to_owned(),
        None => format!(
            "`medusa-fleet crds --group {group} | kubectl apply --server-side -f -` installs those of this version"
        ),
    }
}

/// Helm's mark on an object, if it has one.
fn mark(meta: &ObjectMeta) -> Option<HelmMark<'_>> {
    let annotation = |key: &str| meta.annotations.as_ref().and_then(|all| all.get(key)).map(String::as_str);
    let (name, namespace) = (annotation(RELEASE_NAME), annotation(RELEASE_NAMESPACE));
    // They are put into a command that people copy.
    if let (Some(name), Some(namespace)) = (name, namespace)
        && names::is_object_name(name)
        && names::is_namespace(namespace)
    {
        return Some(HelmMark::Release { name, namespace });
    }
    let (label, manager) = HELM;
    let is_labelled =
        meta.labels.as_ref().and_then(|all| all.get(labels::MANAGED_BY)).is_some_and(|by| by == label);
    let wrote = meta.managed_fields.iter().flatten().any(|entry| entry.manager.as_deref() == Some(manager));
    (name.is_some() || is_labelled || wrote).then_some(HelmMark::Unnamed)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::api::crds;

    const TASKS: &str = "fleettasks.fleet.k8ssandra.io";

    fn of_release(name: &str) -> Value {
        json!({"annotations": {RELEASE_NAME: name, RELEASE_NAMESPACE: "ops"},
            "labels": {labels::MANAGED_BY: "Helm"}})
    }

    /// Our definitions, of which `marked` has this metadata besides its name.
    fn installed(marked: &str, metadata: &Value) -> Vec<CustomResourceDefinition> {
        let mut all = crds::all().unwrap();
        let one = all.iter_mut().find(|definition| definition.name_any() == marked).unwrap();
        let mut metadata = metadata.clone();
        metadata["name"] = json!(marked);
        one.metadata = serde_json::from_value(metadata).unwrap();
        all
    }

    #[rstest]
    #[case::release(of_release("fleet"), "`helm -n ops upgrade fleet CHART")]
    #[case::handed_over(json!({"annotations": {RELEASE_NAME: "fleet", RELEASE_NAMESPACE: "ops"}}), "`helm -n ops upgrade")]
    #[case::label_only(json!({"labels": {labels::MANAGED_BY: "Helm"}}), "`helm list -A`")]
    #[case::manager_only(json!({"managedFields": [{"manager": "helm"}]}), "`helm list -A`")]
    #[case::no_name_of_a_release(of_release("x; rm -rf /"), "`helm list -A`")]
    #[case::kubectl(json!({"managedFields": [{"manager": "kubectl"}]}), "`medusa-fleet crds --group fleet.k8ssandra.io |")]
    fn who_brought_a_definition_upgrades_it(#[case] metadata: Value, #[case] begins: &str) {
        let said = advice("fleettasks", "fleet.k8ssandra.io", &installed(TASKS, &metadata));
        assert!(said.contains(begins), "{said}");
        let by_helm = begins.contains("helm ");
        assert_eq!(said.contains("medusa-fleet crds"), !by_helm, "{said}");
        assert_eq!(said.contains("a `kubectl apply` would conflict"), by_helm, "{said}");
        assert!(!said.contains("rm -rf"), "{said}");
    }

    #[test]
    fn one_that_is_missing_comes_with_the_release_of_its_group() {
        let without = |metadata: &Value| {
            let mut all = installed("dataplanes.fleet.k8ssandra.io", metadata);
            all.retain(|definition| definition.name_any() != TASKS);
            all
        };
        let of = |plural: &str, group: &str, metadata: &Value| advice(plural, group, &without(metadata));
        let said = of("fleettasks", "fleet.k8ssandra.io", &of_release("fleet"));
        assert!(said.contains("`helm -n ops upgrade fleet CHART"), "{said}");
        let said = of("medusatasks", "medusa.k8ssandra.io", &of_release("fleet"));
        assert!(said.contains("medusa-fleet crds --group medusa.k8ssandra.io"), "another group: {said}");
        // What is not there conflicts with nothing, and no release is known.
        let said = of("fleettasks", "fleet.k8ssandra.io", &json!({"labels": {labels::MANAGED_BY: "Helm"}}));
        assert!(said.contains("medusa-fleet crds"), "{said}");
    }
}
