//! What a Pod object says about the Medusa inside it.
//!
//! Pure: nothing here may read the API server or a clock.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::api::cassandra::MEDUSA_CONTAINER;

/// Medusa's port where the container does not declare one (upstream: Backups).
pub const DEFAULT_PORT: u16 = 50051;
/// Name of the container port that is Medusa's.
const PORT_NAME: &str = "grpc";

/// The part of a pod a backup cares about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    /// Its name, which is also the node's name in Medusa.
    pub name: String,
    /// Where its Medusa listens; `None` while it has no address.
    pub address: Option<SocketAddr>,
    /// Whether it has a container called `medusa`.
    pub has_medusa: bool,
    /// Since when it is ready, if it is.
    pub ready_since: Option<Timestamp>,
    /// Which run of the Medusa container this is.
    pub instance: Instance,
}

/// One life of a Medusa process: what it keeps in memory is gone in the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    /// The pod's uid; empty when it was not seen.
    pub pod: String,
    /// The container's id, once the kubelet has reported it.
    pub container: Option<String>,
}

impl Instance {
    /// Whether `later` is certainly another life. An id that was not known, or is not any more, proves
    /// nothing: the kubelet reports late.
    #[must_use]
    pub fn is_followed_by(&self, later: &Self) -> bool {
        if self.pod.is_empty() || later.pod.is_empty() {
            return false;
        }
        self.pod != later.pod
            || matches!((&self.container, &later.container), (Some(before), Some(now)) if before != now)
    }
}

impl PodView {
    /// Reads `pod`. A pod without a name cannot come from an API server and gets an empty one.
    #[must_use]
    pub fn of(pod: &Pod) -> Self {
        let status = pod.status.as_ref();
        let container =
            pod.spec.as_ref().and_then(|s| s.containers.iter().find(|c| c.name == MEDUSA_CONTAINER));
        let port = container
            .and_then(|c| c.ports.as_ref())
            .and_then(|ports| ports.iter().find(|p| p.name.as_deref() == Some(PORT_NAME)))
            .and_then(|p| u16::try_from(p.container_port).ok())
            .unwrap_or(DEFAULT_PORT);
        let ip: Option<IpAddr> = status.and_then(|s| s.pod_ip.as_deref()).and_then(|ip| ip.parse().ok());
        Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            address: ip.map(|ip| SocketAddr::new(ip, port)),
            has_medusa: container.is_some(),
            ready_since: ready_since(pod),
            instance: instance(pod),
        }
    }
}

/// Since when `pod` is ready; nothing when it is not.
#[must_use]
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|c| c.type_ == "Ready" && c.status == "True")?;
    ready.last_transition_time.as_ref().map(|time| time.0)
}

fn instance(pod: &Pod) -> Instance {
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
    let container = statuses
        .and_then(|statuses| statuses.iter().find(|s| s.name == MEDUSA_CONTAINER))
        .and_then(|s| s.container_id.clone())
        .filter(|id| !id.is_empty());
    Instance { pod: pod.metadata.uid.clone().unwrap_or_default(), container }
}

/// Views of `pods`, sorted by name, each name once.
#[must_use]
pub fn views(pods: &[Pod]) -> Vec<PodView> {
    let mut views: Vec<PodView> = pods.iter().map(PodView::of).collect();
    views.sort_by(|a, b| a.name.cmp(&b.name));
    views.dedup_by(|a, b| a.name == b.name);
    views
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn pod(ip: &str, ports: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "dc1-0", "uid": "u1"},
            "spec": {"containers": [{"name": "cassandra"}, {"name": "medusa", "ports": ports}]},
            "status": {"podIP": ip}
        }))
        .unwrap()
    }

    #[rstest]
    #[case("10.0.0.1", json!([]), Some("10.0.0.1:50051"))]
    #[case("10.0.0.1", json!([{"name": "http", "containerPort": 80}]), Some("10.0.0.1:50051"))]
    #[case("10.0.0.1", json!([{"name": "grpc", "containerPort": 1234}]), Some("10.0.0.1:1234"))]
    #[case("10.0.0.1", json!([{"name": "grpc", "containerPort": 123_456}]), Some("10.0.0.1:50051"))]
    #[case("fd00::1", json!([]), Some("[fd00::1]:50051"))]
    #[case("", json!([]), None)]
    #[case("not an address", json!([]), None)]
    fn the_address_is_the_pods_ip_and_the_port_named_grpc(
        #[case] ip: &str,
        #[case] ports: Value,
        #[case] expected: Option<&str>,
    ) {
        assert_eq!(PodView::of(&pod(ip, &ports)).address.map(|a| a.to_string()).as_deref(), expected);
    }

    #[rstest]
    #[case::same(("u1", Some("c1")), ("u1", Some("c1")), false)]
    #[case::restarted(("u1", Some("c1")), ("u1", Some("c2")), true)]
    #[case::replaced(("u1", Some("c1")), ("u2", None), true)]
    #[case::reported_late(("u1", None), ("u1", Some("c1")), false)]
    #[case::not_reported(("u1", Some("c1")), ("u1", None), false)]
    #[case::never_seen(("", None), ("u1", Some("c1")), false)]
    fn only_a_proof_makes_it_another_life(
        #[case] before: (&str, Option<&str>),
        #[case] after: (&str, Option<&str>),
        #[case] other: bool,
    ) {
        let life = |(pod, container): (&str, Option<&str>)| Instance {
            pod: pod.to_owned(),
            container: container.map(str::to_owned),
        };
        assert_eq!(life(before).is_followed_by(&life(after)), other);
    }

    #[test]
    fn the_life_is_read_from_the_medusa_container() {
        let mut pod = pod("10.0.0.1", &json!([]));
        assert_eq!(PodView::of(&pod).instance, Instance { pod: "u1".to_owned(), container: None });
        let statuses = json!([
            {"name": "cassandra", "containerID": "x", "restartCount": 0, "image": "", "imageID": "", "ready": true},
            {"name": "medusa", "containerID": "c1", "restartCount": 1, "image": "", "imageID": "", "ready": true}
        ]);
        pod.status.as_mut().unwrap().container_statuses = serde_json::from_value(statuses).unwrap();
        assert_eq!(PodView::of(&pod).instance.container.as_deref(), Some("c1"));
    }

    #[test]
    fn a_pod_without_medusa_or_status_is_seen_as_such() {
        let bare = PodView::of(&Pod::default());
        assert!(!bare.has_medusa && bare.address.is_none() && bare.ready_since.is_none());
        assert_eq!(views(&[pod("1.1.1.1", &json!([])), pod("1.1.1.1", &json!([]))]).len(), 1);
    }
}
