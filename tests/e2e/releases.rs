//! The program's two roles as a person installs and upgrades them: both charts of what `make release` makes, by the real
//! Helm, with two replicas each, in pods of its image: of the program under test, or of the version before it. The testbed
//! runs these pods as a kubelet would.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use futures::future::join_all;
use k8s_openapi::api::{apps::v1::Deployment, coordination::v1::Lease, core::v1::Pod};
use kube::{
    Api,
    api::{DeleteParams, EvictParams},
};
use medusa_fleet::{control_plane, data_plane};
use tokio::task::block_in_place;

use super::{
    cassandra_fleet::said,
    datacenter::pod_name,
    support::{Cluster, FLEET, container, eventually, harness::testbed},
};

/// Name of the releases, and how everything in them begins.
const RELEASE: &str = "medusa-fleet";
/// How many replicas the charts have.
const REPLICAS: usize = 2;

/// Which of two versions of the program. It is also the tag of its image here, as both may have one number.
#[derive(Clone, Copy, Debug)]
pub enum Version {
    /// The one under test.
    This,
    /// The one before it: what `tests/previous` has made.
    Before,
}

impl Version {
    fn tag(self) -> &'static str {
        match self {
            Self::This => "this",
            Self::Before => "before",
        }
    }

    /// The folder of what `make release` makes of it.
    fn folder(self) -> &'static Path {
        match self {
            Self::This => made(),
            Self::Before => {
                let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/target/previous/release"));
                assert!(
                    folder.join("SHA256SUMS").exists(),
                    "the version before is not there: run tests/previous"
                );
                folder
            }
        }
    }

    /// The file of its release whose name is `start`, something that begins with a digit, and `end`.
    fn file(self, start: &str, end: &str) -> PathBuf {
        let is_it = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy();
            let rest = name.strip_prefix(start).and_then(|rest| rest.strip_suffix(end));
            rest.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
        };
        let mut files = fs::read_dir(self.folder()).unwrap().map(|entry| entry.unwrap().path());
        files.find(is_it).unwrap_or_else(|| panic!("no {start}*{end} in the release of {self:?}"))
    }
}

/// The release of the program under test, which is made once.
fn made() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
        testbed::sweep(tmp, "e2e-release-");
        let dir = tmp.join(format!("e2e-release-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        container::release(&dir)
    })
}

/// What `testbed up` is told of the images: their names in the pods, and the archives that they are in.
pub fn images() -> [String; 2] {
    [Version::This, Version::Before].map(|version| {
        let archive = version.file("medusa-fleet-", "-image.tar");
        format!("medusa-fleet:{}={}", version.tag(), archive.display())
    })
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

/// Installs the control plane's chart in its cluster and the data plane's in the others, or upgrades what is installed, and
/// waits until all replicas are ready. Which version comes is what `of` says of a cluster.
pub async fn install(clusters: &[Cluster], of: impl Fn(&Cluster) -> Version) {
    let start = |cluster: &Cluster| {
        let version = of(cluster);
        let mut helm = program("helm", cluster);
        helm.args(["upgrade", RELEASE, "--install", "--create-namespace", "--wait", "--timeout", "3m"]);
        helm.arg("--set").arg(format!("image.tag={}", version.tag()));
        if is_home(cluster) {
            helm.arg(version.file("medusa-fleet-", ".tgz"));
            helm.args(["--set", "definitions.k8ssandra=true"]);
        } else {
            helm.arg(version.file("medusa-fleet-data-plane-", ".tgz"));
        }
        helm.spawn().unwrap()
    };
    let starting: Vec<_> = clusters.iter().map(start).collect();
    for (cluster, helm) in clusters.iter().zip(starting) {
        let output = block_in_place(|| helm.wait_with_output()).unwrap();
        assert!(output.status.success(), "install in {}: {}", cluster.name, said(&output));
    }
    for cluster in clusters {
        let image = format!("medusa-fleet:{}", of(cluster).tag());
        eventually(format!("all pods in {} are of {image}", cluster.name), async || {
            let pods = cluster.list::<Pod>(FLEET).await;
            let images: Vec<_> =
                pods.iter().map(|pod| pod.spec.as_ref().unwrap().containers[0].image.clone()).collect();
            let are_all = images.iter().all(|of_pod| of_pod.as_deref() == Some(&image));
            if are_all && images.len() == REPLICAS { Ok(()) } else { Err(format!("{images:?}")) }
        })
        .await;
    }
}

/// Installs the program under test everywhere.
pub async fn install_this(clusters: &[Cluster]) {
    install(clusters, |_| Version::This).await;
}

/// Installs one version in the control plane's cluster, and another in the data planes.
pub async fn install_skewed(clusters: &[Cluster], control_plane: Version, data_planes: Version) {
    install(clusters, |cluster| if is_home(cluster) { control_plane } else { data_planes }).await;
}

fn kubectl(cluster: &Cluster, args: &[&str]) {
    let output = block_in_place(|| program("kubectl", cluster).args(args).output()).unwrap();
    assert!(output.status.success(), "kubectl {args:?} in {}: {}", cluster.name, said(&output));
}

/// Name of the pod that leads in a cluster, if one does.
async fn leader(cluster: &Cluster) -> Option<String> {
    let name = if is_home(cluster) { control_plane::LEASE } else { data_plane::LEADER_LEASE };
    let holder = cluster.find::<Lease>(FLEET, name).await?.spec?.holder_identity?;
    // After its name stands what tells its processes apart.
    holder.rsplit_once('_').map(|(pod, _)| pod.to_owned())
}

/// Kills the leader in each cluster, as `kubectl delete pod --grace-period=0 --force` does, and rolls out all replicas anew.
/// Says who the leaders were.
pub async fn disturb(clusters: &[Cluster]) -> Vec<String> {
    let found = clusters.iter().map(async |cluster| {
        let what = format!("a pod leads in {}", cluster.name);
        eventually(what, async || leader(cluster).await.ok_or("none does")).await
    });
    let leaders = join_all(found).await;
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    for (cluster, leader) in clusters.iter().zip(&leaders) {
        cluster.api::<Pod>(FLEET).delete(leader, &at_once).await.expect("kill the leader");
    }
    for cluster in clusters {
        let deployments = cluster.api::<Deployment>(FLEET);
        deployments.restart(&deployment(cluster)).await.expect("roll all replicas out anew");
    }
    leaders
}

/// Waits until all replicas are rolled out and one of them leads, in each cluster. `killed` are those that led before.
pub async fn settle(clusters: &[Cluster], killed: &[String]) {
    for (cluster, killed) in clusters.iter().zip(killed) {
        kubectl(cluster, &["rollout", "status", "deployment", &deployment(cluster), "--timeout=3m"]);
        eventually(format!("a pod that is there leads in {}", cluster.name), async || {
            let leader = leader(cluster).await;
            let is_there = cluster.list::<Pod>(FLEET).await.iter().any(|pod| Some(pod_name(pod)) == leader);
            if is_there && leader.as_ref() != Some(killed) { Ok(()) } else { Err(format!("{leader:?}")) }
        })
        .await;
    }
}

/// Drains a node of one pod of each role, and refuses to drain it of the other before that one's successor is ready: the
/// budget of the chart keeps one, by the real disruption controller and the eviction API.
pub async fn expect_budgets(clusters: &[Cluster]) {
    for cluster in clusters {
        let rolled_out = ["rollout", "status", "deployment", &deployment(cluster), "--timeout=3m"];
        // Of pods that are not ready any number may go.
        kubectl(cluster, &rolled_out);
        let pods: Vec<String> = cluster.list::<Pod>(FLEET).await.iter().map(pod_name).collect();
        let of_cluster = Api::<Pod>::namespaced(cluster.impatient().unwrap(), FLEET);
        let evict = async |pod: &String| of_cluster.evict(pod, &EvictParams::default()).await;
        eventually(format!("a pod of {} may go", cluster.name), async || match evict(&pods[0]).await {
            Ok(_) => Ok(()),
            // The controller has not counted the pods yet.
            Err(kube::Error::Api(status)) if status.code == 429 => Err(status.message),
            Err(error) => panic!("evict {} in {}: {error}", pods[0], cluster.name),
        })
        .await;
        match evict(&pods[1]).await {
            Err(kube::Error::Api(status)) if status.code == 429 => {}
            answer => panic!("both replicas in {} may go at once: {answer:?}", cluster.name),
        }
        kubectl(cluster, &rolled_out);
    }
}

/// All replicas are ready, and no container of theirs was started again: not for a probe, not for its memory limit.
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
