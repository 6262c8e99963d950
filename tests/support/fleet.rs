//! A fleet: one control-plane cluster and its data planes.

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::future::join_all;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use medusa_fleet::api::{
    crds,
    fleet::{DataPlane, FleetBackupJob, FleetCluster, Phase},
    medusa,
};
use serde_json::json;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Cluster, FLEET, condition, eventually, secret, testbed::Testbed};

/// Fleets that run at a time: an API server takes seconds of processor time to start and 300 MB.
static PLACES: Semaphore = Semaphore::const_new(3);
/// Numbers the directories of this process.
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// A running fleet. Its clusters are `control-plane` and `dp-1`, `dp-2`, …; in each, the definitions it needs and the
/// namespaces [`FLEET`] and [`super::CASS`].
pub struct Fleet {
    dir: PathBuf,
    home: Cluster,
    data_planes: Vec<Cluster>,
    testbed: Mutex<Option<Testbed>>,
    _place: SemaphorePermit<'static>,
}

impl Fleet {
    /// Starts one with `data_planes` data planes. Nothing is registered yet.
    pub async fn start(data_planes: usize) -> Self {
        Self::start_with(&vec![medusa_definitions(); data_planes]).await
    }

    /// Starts one whose data planes serve these definitions each, and cass-operator's.
    pub async fn start_with(served: &[Vec<CustomResourceDefinition>]) -> Self {
        let data_planes = served.len();
        let place = PLACES.acquire().await.unwrap();
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let dir =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fleet-{}-{number}", std::process::id()));
        let (testbed, described) = tokio::task::block_in_place(|| Testbed::up(&dir, data_planes, &[]));
        let mut clusters = join_all(described.iter().map(Cluster::connect)).await;
        let all = crds::all().unwrap();
        let each = std::iter::once(&all).chain(served);
        join_all(clusters.iter().zip(each).map(|(cluster, definitions)| cluster.prepare(definitions))).await;
        let home = clusters.remove(0);
        assert_eq!(home.name, "control-plane");
        Self { dir, home, data_planes: clusters, testbed: Mutex::new(Some(testbed)), _place: place }
    }

    /// The directory that holds everything of this fleet.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The control plane's own cluster.
    pub fn home(&self) -> &Cluster {
        &self.home
    }

    /// The cluster of data plane `dp-<number>`, counted from 1.
    pub fn dp(&self, number: usize) -> &Cluster {
        &self.data_planes[number - 1]
    }

    /// Every cluster.
    pub fn clusters(&self) -> impl Iterator<Item = &Cluster> {
        std::iter::once(&self.home).chain(&self.data_planes)
    }

    /// Kills a data plane's API server with SIGKILL.
    pub fn stop(&self, cluster: &str) {
        self.command("stop", cluster);
    }

    /// Starts it again after [`Self::stop`], at the same address.
    pub fn start_again(&self, cluster: &str) {
        self.command("start", cluster);
    }

    /// Makes it accept connections and never answer, by SIGSTOP.
    pub fn pause(&self, cluster: &str) {
        self.command("pause", cluster);
    }

    /// Undoes [`Self::pause`].
    pub fn resume(&self, cluster: &str) {
        self.command("resume", cluster);
    }

    /// Makes the store of every cluster refuse writes as it does on a full disk, or accept them again: etcd's own alarm,
    /// which reads survive.
    pub fn set_full(&self, full: bool) {
        let url =
            self.testbed.lock().unwrap().as_ref().unwrap().ready["etcd"]["url"].as_str().unwrap().to_owned();
        let address = url.strip_prefix("http://").unwrap();
        let action = if full { "ACTIVATE" } else { "DEACTIVATE" };
        let body = json!({"action": action, "memberID": 0, "alarm": "NOSPACE"}).to_string();
        let answer = super::answer_of(address, "POST", "/v3/maintenance/alarm", &body).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    fn command(&self, verb: &str, cluster: &str) {
        tokio::task::block_in_place(|| {
            self.testbed.lock().unwrap().as_mut().unwrap().command(verb, cluster);
        });
    }

    /// Waits until a FleetCluster has that many datacenters.
    pub async fn expect_size(&self, cluster: &str, size: i64) {
        eventually(format!("{cluster} has {size} datacenters"), async || {
            let found = self.home.find::<FleetCluster>(FLEET, cluster).await.and_then(|c| c.status);
            let seen = found.map_or(0, |s| s.size);
            if seen == size { Ok(()) } else { Err(seen) }
        })
        .await;
    }

    /// Registers data plane `dp-<number>` with an administrator's kubeconfig in a labelled Secret.
    pub async fn register(&self, number: usize) {
        let cluster = self.dp(number);
        let kubeconfig = std::fs::read_to_string(&cluster.kubeconfig).unwrap();
        self.register_as(&cluster.name, "kubeconfig", &kubeconfig).await;
    }

    /// Registers a kubeconfig in a labelled Secret, under `key`.
    pub async fn register_as(&self, name: &str, key: &str, kubeconfig: &str) {
        let mut object = secret(FLEET, name, &[(key, kubeconfig)]);
        object["metadata"]["labels"] = json!({"fleet.k8ssandra.io/register": "true"});
        self.home.create(object).await;
    }

    /// Registers every data plane and waits until all are ready.
    pub async fn register_all(&self) {
        for number in 1..=self.data_planes.len() {
            self.register(number).await;
        }
        for cluster in &self.data_planes {
            self.expect_data_plane(&cluster.name, "Ready", "True", "Ready").await;
        }
    }

    /// Waits until a DataPlane's condition has this status and reason; returns its message.
    pub async fn expect_data_plane(&self, name: &str, type_: &str, status: &str, reason: &str) -> String {
        eventually(format!("DataPlane {name}: {type_} is {status} because of {reason}"), async || {
            let plane = self.home.find::<DataPlane>(FLEET, name).await.ok_or("there is no such DataPlane")?;
            let conditions = plane.status.unwrap_or_default().conditions;
            let (seen_status, seen_reason, message) = condition(&conditions, type_);
            if (seen_status.as_str(), seen_reason.as_str()) == (status, reason) {
                Ok(message)
            } else {
                let all: Vec<String> = conditions
                    .iter()
                    .map(|c| format!("{}={} {} ({})", c.type_, c.status, c.reason, c.message))
                    .collect();
                Err(all.join("; "))
            }
        })
        .await
    }

    /// A FleetBackupJob.
    pub async fn job(&self, name: &str) -> FleetBackupJob {
        self.home.get(FLEET, name).await
    }

    /// Waits until a FleetBackupJob is in `phase`, or in another it does not come back from; returns it.
    pub async fn expect_phase(&self, name: &str, phase: Phase) -> FleetBackupJob {
        let job = eventually(format!("FleetBackupJob {name} is {}", phase.as_str()), async || {
            let job = self.job(name).await;
            let status = job.status.clone().unwrap_or_default();
            let reached = status.phase.is_some_and(|seen| seen == phase || seen.is_final());
            if reached { Ok(job) } else { Err(format!("{status:#?}")) }
        })
        .await;
        let status = job.status.clone().unwrap_or_default();
        assert_eq!(status.phase, Some(phase), "{status:#?}");
        job
    }
}

/// Our definitions of the Medusa kinds.
pub fn medusa_definitions() -> Vec<CustomResourceDefinition> {
    crds::all().unwrap().into_iter().filter(|d| d.spec.group == medusa::GROUP).collect()
}

impl Drop for Fleet {
    fn drop(&mut self) {
        drop(self.testbed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
        if std::thread::panicking() {
            eprintln!("--- the fleet's files are in {}", self.dir.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}
