//! Values that nobody could want.

use rstest::rstest;

use super::{CONTROL_PLANE, DATA_PLANE, rendered};

/// A value that nobody could want is refused, with its name.
#[rstest]
#[case(CONTROL_PLANE, "replica=3", "replica")]
#[case(CONTROL_PLANE, "image.tga=1", "tga")]
#[case(CONTROL_PLANE, "image.digest=latest", "digest")]
#[case(CONTROL_PLANE, "replicas=2,leaderElection=false", "leaderElection")]
#[case(CONTROL_PLANE, "shards=4,replicas=1,leaderElection=false", "leaderElection is needed for shards")]
#[case(CONTROL_PLANE, "shards=513", "shards")]
#[case(CONTROL_PLANE, "serviceAccount.create=false", "serviceAccount.name")]
#[case(
    CONTROL_PLANE,
    "metrics.service.enabled=false,metrics.serviceMonitor.enabled=true",
    "metrics.service.enabled"
)]
#[case(CONTROL_PLANE, "sourceNamespaces={Not_A_Namespace}", "sourceNamespaces")]
#[case(CONTROL_PLANE, "rbac.namespaces={a},sourceNamespaces={b}", "rbac.namespaces")]
#[case(DATA_PLANE, "replicas=2,leaderElection=false", "leaderElection")]
#[case(DATA_PLANE, "sourceNamespaces={a}", "sourceNamespaces")]
#[case(DATA_PLANE, "logFormat=xml", "logFormat")]
fn a_wrong_value_is_refused_by_its_name(#[case] name: &str, #[case] values: &str, #[case] said: &str) {
    let why = rendered(name, "x", "n", &format!("--set {values}")).unwrap_err();
    assert!(why.contains(said), "{why}");
}
