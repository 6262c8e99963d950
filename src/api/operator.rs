//! How k8ssandra-operator is recognised, however it was installed: by Helm, kustomize, OLM or by hand. Pure; shared by
//! the `data-plane` role, which does not run beside it, and by the control plane, which says who is there.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{apps::v1::Deployment, coordination::v1::Lease},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt as _;

use super::labels;

/// The operator's name, as it stands in labels, names and images.
pub const NAME: &str = "k8ssandra-operator";

/// The label that kustomize's manifests carry, and nothing else.
const CONTROL_PLANE: &str = "control-plane";
/// The label of a Helm release's chart, `<name>-<version>`.
const CHART: &str = "helm.sh/chart";
/// The label OLM puts on a Deployment: its ClusterServiceVersion, `<package>.v<version>`.
const OLM_OWNER: &str = "olm.owner";
/// Name of the Lease the operator elects its leader with, where it does.
pub const LEASE: &str = "dcabfccc.k8ssandra.io";
/// Names of its admission webhooks, which let nothing through where nobody answers them (upstream: Admission).
pub const WEBHOOKS: [&str; 3] = ["mpod.kb.io", "vmedusabackupschedule.kb.io", "vk8ssandracluster.kb.io"];
/// What the operator, its chart or its release deploys beside itself, under names or labels that hold its own.
const OTHERS: [&str; 10] = [
    "cass-operator",
    "reaper",
    "stargate",
    "medusa",
    "vector",
    "k8ssandra-client",
    "management-api",
    "logger",
    "config-builder",
    "kube-rbac-proxy",
];

/// k8ssandra-operator, as found in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// What it was recognised by: `namespace/name` of its Deployment, or of the Lease it holds.
    pub place: String,
    /// Its version, when something says it.
    pub version: Option<String>,
}

/// The operator that a Deployment runs, if it does: one scaled to nothing reconciles nothing.
#[must_use]
pub fn of_deployment(deployment: &Deployment) -> Option<Operator> {
    let spec = deployment.spec.as_ref();
    // Unset means one.
    if spec.and_then(|spec| spec.replicas).unwrap_or(1) <= 0 {
        return None;
    }
    let template = spec.and_then(|spec| spec.template.metadata.as_ref());
    let pods = template.and_then(|template| template.labels.as_ref());
    let containers = spec.and_then(|spec| spec.template.spec.as_ref()).map(|pod| pod.containers.as_slice());
    let images = containers.unwrap_or_default().iter().filter_map(|container| container.image.as_deref());
    let image = images.clone().find(|image| is_its_image(image));
    let is_its = image.is_some()
        || is_its_name(&deployment.name_any())
        || [Some(deployment.labels()), pods].into_iter().flatten().any(are_its_labels);
    is_its.then(|| Operator {
        place: place(&deployment.metadata),
        version: version(deployment.labels())
            .or_else(|| image.and_then(tag))
            // An image under a name of somebody's own.
            .or_else(|| pods.and_then(version))
            .or_else(|| images.filter(|image| !is_another(image)).find_map(tag)),
    })
}

/// The operator that holds a Lease, if it does and is alive at `now`.
#[must_use]
pub fn of_lease(lease: &Lease, now: Timestamp) -> Option<Operator> {
    let name = lease.name_any();
    let spec = lease.spec.as_ref()?;
    let is_its = name == LEASE || is_its_name(&name);
    let is_held = spec.holder_identity.as_ref().is_some_and(|holder| !holder.is_empty());
    (is_its && is_held && !is_left_behind(lease, now))
        .then(|| Operator { place: place(&lease.metadata), version: version(lease.labels()) })
}

/// Whether a Lease has not been renewed for so long that no difference of clocks explains it.
#[must_use]
pub fn is_left_behind(lease: &Lease, now: Timestamp) -> bool {
    /// How far the clocks of two clusters may differ.
    const CLOCKS: SignedDuration = SignedDuration::from_mins(5);
    let Some(spec) = &lease.spec else { return false };
    let Some(renewed) = &spec.renew_time else { return false };
    let holds = SignedDuration::from_secs(spec.lease_duration_seconds.unwrap_or_default().into());
    now.duration_since(renewed.0) > holds + CLOCKS
}

fn place(metadata: &ObjectMeta) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}/{}", part(&metadata.namespace), part(&metadata.name))
}

fn is_another(text: &str) -> bool {
    OTHERS.iter().any(|other| text.contains(other))
}

fn is_its_name(name: &str) -> bool {
    // What comes before may be a release's name.
    name.rsplit_once(NAME).is_some_and(|(_, rest)| !is_another(rest))
}

fn are_its_labels(labels: &BTreeMap<String, String>) -> bool {
    let is = |key: &str| labels.get(key).is_some_and(|value| value == NAME);
    // What it deploys, such as Reaper, carries its name too, and says what it is.
    let is_another = labels.get(labels::APP_COMPONENT).is_some_and(|part| is_another(part));
    let is_of_olm = labels.get(OLM_OWNER).is_some_and(|owner| {
        owner.strip_prefix(NAME).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    });
    !is_another && (is(labels::APP_NAME) || is(CONTROL_PLANE) || is_of_olm)
}

/// Whether an image is the operator's: its name is somewhere in the repository's path, whatever registry it comes from.
fn is_its_image(image: &str) -> bool {
    let repository = repository(image);
    let last = repository.rsplit('/').next().unwrap_or_default();
    repository.contains(NAME) && !is_another(last)
}

/// An image without its tag and digest.
fn repository(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or_default();
    match image.rsplit_once(':') {
        // A colon before a slash is that of a registry's port.
        Some((repository, tag)) if !tag.contains('/') => repository,
        Some(_) | None => image,
    }
}

fn tag(image: &str) -> Option<String> {
    let image = image.split('@').next().unwrap_or_default();
    let tag = image.strip_prefix(repository(image))?.strip_prefix(':')?;
    (!tag.is_empty()).then(|| without_v(tag).to_owned())
}

fn without_v(version: &str) -> &str {
    let rest = version.strip_prefix('v').unwrap_or(version);
    if rest.starts_with(|first: char| first.is_ascii_digit()) { rest } else { version }
}

/// The version labels say: the standard one, that of the chart, that of OLM.
fn version(all: &BTreeMap<String, String>) -> Option<String> {
    let of = |key: &str| all.get(key).map(String::as_str).filter(|value| !value.is_empty());
    let chart = || of(CHART)?.strip_prefix(NAME)?.strip_prefix('-');
    let olm = || of(OLM_OWNER)?.strip_prefix(NAME)?.strip_prefix('.');
    let version = of(labels::APP_VERSION).or_else(chart).or_else(olm)?;
    Some(without_v(version).to_owned())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn deployment(name: &str, labels: &Value, image: &str) -> Deployment {
        let template = json!({"metadata": {}, "spec": {"containers": [
            {"name": "proxy", "image": "quay.io/brancz/kube-rbac-proxy:v0.8.0"}, {"name": "manager", "image": image},
        ]}});
        serde_json::from_value(json!({
            "metadata": {"namespace": "k8", "name": name, "labels": labels},
            "spec": {"selector": {}, "template": template},
        }))
        .unwrap()
    }

    #[rstest]
    #[case::helm("prod-k8ssandra-operator", json!({"app.kubernetes.io/name": "k8ssandra-operator", "helm.sh/chart": "k8ssandra-operator-1.32.5"}), "reg:5000/x:y", Some("1.32.5"))]
    #[case::helm_renamed("ops", json!({"app.kubernetes.io/name": "k8ssandra-operator", "app.kubernetes.io/version": "1.33.0", "helm.sh/chart": "k8ssandra-operator-1.32.5"}), "x", Some("1.33.0"))]
    #[case::kustomize("k8ssandra-operator", json!({"control-plane": "k8ssandra-operator"}), "k8ssandra/k8ssandra-operator:v1.22.0", Some("1.22.0"))]
    #[case::by_name("blue-k8ssandra-operator-v2", json!({}), "mirror.corp/op:7", Some("7"))]
    #[case::released_as("medusa-k8ssandra-operator", json!({}), "x", None)]
    #[case::by_label("manager", json!({"control-plane": "k8ssandra-operator"}), "x@sha256:ab", None)]
    #[case::olm("manager", json!({"olm.owner": "k8ssandra-operator.v1.6.1", "olm.owner.kind": "ClusterServiceVersion"}), "x", Some("1.6.1"))]
    #[case::by_image("manager", json!({}), "registry.corp:5000/mirror/k8ssandra/k8ssandra-operator:v1.2.3@sha256:ab", Some("1.2.3"))]
    #[case::by_digest("manager", json!({}), "registry.corp:5000/k8ssandra-operator@sha256:ab", None)]
    #[case::by_path("manager", json!({}), "registry.corp/k8ssandra-operator/manager:main", Some("main"))]
    fn it_is_recognised_however_it_was_installed(
        #[case] name: &str,
        #[case] labels: Value,
        #[case] image: &str,
        #[case] version: Option<&str>,
    ) {
        let found = of_deployment(&deployment(name, &labels, image)).unwrap();
        assert_eq!((found.place, found.version.as_deref()), (format!("k8/{name}"), version));
        let mut idle = deployment(name, &labels, image);
        idle.spec.as_mut().unwrap().replicas = Some(0);
        assert_eq!(of_deployment(&idle), None, "one scaled to nothing reconciles nothing");
    }

    #[rstest]
    #[case::cass_operator("k8ssandra-operator-cass-operator", json!({"app.kubernetes.io/name": "cass-operator", "helm.sh/chart": "cass-operator-0.50.0"}), "k8ssandra/cass-operator:v1.31.0")]
    #[case::of_its_registry("controller", json!({}), "mirror/k8ssandra-operator/cass-operator:v1")]
    #[case::cass_operator_of_olm("cass-operator-controller-manager", json!({"olm.owner": "cass-operator.v1.9.1", "control-plane": "controller-manager"}), "x")]
    #[case::reaper("shop-dc1-reaper", json!({"app.kubernetes.io/name": "k8ssandra-operator", "app.kubernetes.io/component": "reaper"}), "thelastpickle/cassandra-reaper:3.6")]
    #[case::ours("medusa-fleet-data-plane", json!({"app.kubernetes.io/name": "medusa-fleet"}), "medusa-fleet:0.1.0")]
    #[case::nothing("web", json!({}), "")]
    fn what_runs_beside_it_is_not_it(#[case] name: &str, #[case] labels: Value, #[case] image: &str) {
        assert_eq!(of_deployment(&deployment(name, &labels, image)), None);
    }

    #[test]
    fn a_lease_is_left_behind_only_when_it_is_old_for_certain_and_a_held_one_tells_who_runs() {
        let lease = |name: &str, renewed: Option<i64>, holder: &str| -> Lease {
            let renewed = renewed.map(|at| Timestamp::from_second(at).unwrap().to_string());
            let spec = json!({"leaseDurationSeconds": 60, "renewTime": renewed, "holderIdentity": holder});
            let metadata = json!({"namespace": "k8", "name": name});
            serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
        };
        let now = Timestamp::from_second(10_000).unwrap();
        let its = LEASE;
        assert!(is_left_behind(&lease(its, Some(10_000 - 361), "x"), now));
        assert_eq!(of_lease(&lease(its, Some(10_000 - 361), "x"), now), None);
        for fresh in [Some(10_000 - 360), Some(10_000), Some(12_000), None] {
            assert!(!is_left_behind(&lease(its, fresh, "x"), now), "{fresh:?}");
            let found = of_lease(&lease(its, fresh, "x"), now).unwrap();
            assert_eq!(found.place, "k8/dcabfccc.k8ssandra.io");
        }
        assert_eq!(of_lease(&lease(its, Some(10_000), ""), now), None, "it was let go");
        assert_eq!(of_lease(&lease("b569adb7.cassandra.datastax.com", Some(10_000), "x"), now), None);
    }
}
