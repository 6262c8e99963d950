//! What a Pod object says about the Medusa inside it.
//!
//! Pure: nothing here may read the API server or a clock.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::api::cassandra::MEDUSA_CONTAINER;

/// Medusa's port where the container does not declare one (upstream §3.2).
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
    /// Which run of the Medusa container this is: another value means its memory is another one.
    pub instance: Option<String>,
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
        let ready_since = status
            .and_then(|s| s.conditions.as_ref())
            .and_then(|conditions| conditions.iter().find(|c| c.type_ == "Ready" && c.status == "True"))
            .and_then(|c| c.last_transition_time.as_ref())
            .map(|time| time.0);
        Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            address: ip.map(|ip| SocketAddr::new(ip, port)),
            has_medusa: container.is_some(),
            ready_since,
            instance: instance(pod),
        }
    }
}

/// The pod's uid and, where the kubelet has reported it, the container's id or number of restarts.
fn instance(pod: &Pod) -> Option<String> {
    let uid = pod.metadata.uid.as_deref()?;
    let medusa = pod
        .status
        .as_ref()
        .and_then(|s| s.container_statuses.as_ref())
        .and_then(|statuses| statuses.iter().find(|s| s.name == MEDUSA_CONTAINER));
    let run = medusa.map_or_else(String::new, |s| {
        format!("{}#{}", s.container_id.as_deref().unwrap_or_default(), s.restart_count)
    });
    Some(format!("{uid}/{run}"))
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

    #[test]
    fn a_restarted_container_and_a_replaced_pod_are_other_instances() {
        let mut first = pod("10.0.0.1", &json!([]));
        let before = PodView::of(&first).instance;
        let restarted =
            json!([{"name": "medusa", "restartCount": 1, "image": "", "imageID": "", "ready": true}]);
        first.status.as_mut().unwrap().container_statuses = serde_json::from_value(restarted).unwrap();
        let after = PodView::of(&first).instance;
        first.metadata.uid = Some("u2".to_owned());
        assert_ne!(before, after);
        assert_ne!(after, PodView::of(&first).instance);
    }

    #[test]
    fn a_pod_without_medusa_or_status_is_seen_as_such() {
        let bare = PodView::of(&Pod::default());
        assert!(!bare.has_medusa && bare.address.is_none() && bare.ready_since.is_none());
        assert_eq!(views(&[pod("1.1.1.1", &json!([])), pod("1.1.1.1", &json!([]))]).len(), 1);
    }
}
