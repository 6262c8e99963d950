//! The program's two roles as a person installs them: both charts of what `make release` makes, by the real Helm, with two
//! replicas each, in pods of the image of the program under test. The testbed runs these pods as a kubelet would.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use futures::future::join_all;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::api::DeleteParams;
use medusa_fleet::{control_plane, data_plane};
use tokio::task::block_in_place;

use super::{
    cassandra_fleet::said,
    datacenter::pod_name,
    support::{Cluster, FLEET, container, eventually, harness::testbed},
};

/// Name of the releases, and how everything in them begins.
const RELEASE: &str = "medusa-fleet";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How many replicas the charts have.
const REPLICAS: usize = 2;

/// The folder of what `make release` makes; it is made once.
fn folder() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
        testbed::sweep(tmp, "e2e-release-");
        let dir = tmp.join(format!("e2e-release-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        container::release(&dir)
    })
}

/// The image by the name that the charts give it, and the archive that it is in: what `testbed up` is told of it.
pub fn image() -> String {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut archives = files.filter(|path| path.to_string_lossy().ends_with("-image.tar"));
    let archive = archives.next().expect("a release has an image");
    format!("medusa-fleet:{VERSION}={}", archive.display())
}

fn is_home(cluster: &Cluster) -> bool {
    cluster.name == "control-plane"
}

fn deployment(cluster: &Cluster) -> String {
    format!("{RELEASE}-{}", if is_home(cluster) { "control-plane" } else { "data-plane" })
}

/// One of the testbed's own programs, as an administrator of a cluster.
fn program(name: &str, cluster: &Cluster) -> Command {
    let mut command = testbed::command();
    command.args([name, "--namespace", FLEET, "--kubeconfig"]).arg(&cluster.kubeconfig);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Installs the control plane's chart in its cluster and the data plane's in the others, and waits until all replicas are
/// ready.
pub fn install(clusters: &[Cluster]) {
    let chart = |name: &str| folder().join(format!("{name}-{VERSION}.tgz"));
    let start = |cluster: &Cluster| {
        let mut helm = program("helm", cluster);
        helm.args(["install", RELEASE, "--create-namespace", "--wait", "--timeout", "3m"]);
        if is_home(cluster) {
            helm.arg(chart("medusa-fleet"));
            helm.args(["--set", "definitions.k8ssandra=true"]);
        } else {
            helm.arg(chart("medusa-fleet-data-plane"));
        }
        helm.spawn().unwrap()
    };
    let starting: Vec<_> = clusters.iter().map(start).collect();
    for (cluster, helm) in clusters.iter().zip(starting) {
        let output = block_in_place(|| helm.wait_with_output()).unwrap();
        assert!(output.status.success(), "install in {}: {}", cluster.name, said(&output));
    }
}

fn kubectl(cluster: &Cluster, args: &[&str]) {
    let output = block_in_place(|| program("kubectl", cluster).args(args).output()).unwrap();
    assert!(output.status.success(), "kubectl {args:?} in {}: {}", cluster.name, said(&output));
}

/// Name of the pod that leads in a cluster.
async fn leader(cluster: &Cluster) -> String {
    let name = if is_home(cluster) { control_plane::LEASE } else { data_plane::LEADER_LEASE };
    let holder = cluster.get::<Lease>(FLEET, name).await.spec.and_then(|spec| spec.holder_identity);
    let holder = holder.expect("somebody leads");
    let (pod, _) = holder.rsplit_once('_').expect("a pod's name, and what tells its processes apart");
    pod.to_owned()
}

/// Kills the leader in each cluster, as `kubectl delete pod --grace-period=0 --force` does, and rolls out all replicas anew.
/// Says who the leaders were.
pub async fn disturb(clusters: &[Cluster]) -> Vec<String> {
    let leaders = join_all(clusters.iter().map(leader)).await;
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    for (cluster, leader) in clusters.iter().zip(&leaders) {
        cluster.api::<Pod>(FLEET).delete(leader, &at_once).await.expect("kill the leader");
    }
    for cluster in clusters {
        kubectl(cluster, &["rollout", "restart", "deployment", &deployment(cluster)]);
    }
    leaders
}

/// Waits until all replicas are rolled out and one of them leads, in each cluster. `killed` are those that led before.
pub async fn settle(clusters: &[Cluster], killed: &[String]) {
    for (cluster, killed) in clusters.iter().zip(killed) {
        kubectl(cluster, &["rollout", "status", "deployment", &deployment(cluster), "--timeout=3m"]);
        eventually(format!("a pod that is there leads in {}", cluster.name), async || {
            let leader = leader(cluster).await;
            let is_there = cluster.list::<Pod>(FLEET).await.iter().any(|pod| pod_name(pod) == leader);
            if is_there && leader != *killed { Ok(()) } else { Err(leader) }
        })
        .await;
    }
}

/// All replicas are ready, and no container has ever been started again: not for a probe, not for its memory limit.
pub async fn expect_untroubled(clusters: &[Cluster]) {
    for cluster in clusters {
        let pods = cluster.list::<Pod>(FLEET).await;
        assert_eq!(pods.len(), REPLICAS, "{pods:#?}");
        for pod in pods {
            let statuses = pod.status.unwrap_or_default().container_statuses.unwrap_or_default();
            let is_well = statuses.iter().all(|status| status.ready && status.restart_count == 0);
            assert!(is_well && statuses.len() == 1, "in {}: {statuses:#?}", cluster.name);
        }
    }
}
