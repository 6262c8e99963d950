//! The API servers of a benchmark, and one control plane at a time over some of them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::api::DeleteParams;
use medusa_fleet::api::{
    Conditions as _,
    fleet::{DataPlane, FleetBackupJob, Phase},
    medusa::{MedusaBackup, MedusaBackupJob, MedusaConfiguration},
};
use serde_json::{Value, json};

use crate::{
    clusters::{DATA_PLANE, Requests, apply, clean, connect, datacenters, prepare, start},
    harness::{Cluster, Failure, Program, Result, Testbed},
    objects::{MARKER, SHOP, registration},
    recorder::{Place, Recorder},
    support::pause,
};

/// Datacenters in the whole fleet.
pub const DATACENTERS: usize = 100;
/// The control plane's own place among the recorder's clusters.
pub const HOME: usize = 0;

/// Every API server there is.
pub struct BenchClusters {
    testbed: Testbed,
    clusters: Vec<Cluster>,
    binary: PathBuf,
    dir: PathBuf,
    fleets: usize,
}

impl BenchClusters {
    /// Starts a control plane's API server and `planes` others.
    pub async fn up(testbed: &Path, binary: &Path, dir: &Path, planes: usize) -> Result<Self> {
        let testbed = Testbed::up(Command::new(testbed), dir, planes, &[])?;
        let described = testbed.clusters();
        let (binary, dir) = (binary.to_owned(), dir.to_owned());
        let mut clusters = Self { testbed, clusters: Vec::new(), binary, dir, fleets: 0 };
        clusters.prepare(described).await?;
        Ok(clusters)
    }

    /// Starts more API servers, up to `planes`.
    pub async fn grow(&mut self, planes: usize) -> Result<()> {
        let mut added = Vec::new();
        for number in self.clusters.len()..=planes {
            let answer = self.testbed.command("add", &format!("dp-{number}"))?;
            added.extend(answer.get("cluster").cloned());
        }
        self.prepare(added).await
    }

    async fn prepare(&mut self, described: Vec<Value>) -> Result<()> {
        let mut new = Vec::new();
        for cluster in &described {
            let text = |key: &str| cluster[key].as_str().unwrap_or_default().to_owned();
            new.push(connect(text("name"), text("kubeconfig").into()).await?);
        }
        stream::iter(&new).map(prepare).buffer_unordered(4).try_collect::<()>().await?;
        self.clusters.extend(new);
        Ok(())
    }

    /// The control plane's cluster.
    pub fn home(&self) -> Result<Cluster> {
        self.clusters.first().cloned().ok_or_else(|| "the testbed has no control plane".into())
    }

    /// A data plane's cluster, by number from one.
    pub fn plane(&self, number: usize) -> Result<Cluster> {
        self.clusters.get(number).cloned().ok_or_else(|| "no such data plane".into())
    }

    /// Starts a data plane's controller in a cluster.
    pub fn data_plane(&self, cluster: &Cluster) -> Result<Program> {
        start(&self.binary, "data-plane", cluster, DATA_PLANE, &self.dir.join("data-plane.log"))
    }
}

/// A data plane of a fleet.
pub struct Plane {
    /// Its name.
    pub name: String,
    /// Straight to the API server.
    pub near: Cluster,
    /// As medusa-fleet reaches it.
    pub far: Cluster,
}

impl Plane {
    /// The Secret that registers it.
    fn registration(&self) -> Result<Value> {
        Ok(registration(&self.name, &fs::read_to_string(&self.far.kubeconfig)?))
    }
}

/// A control plane that runs with some data planes registered.
pub struct RegisteredFleet {
    /// Data planes, in order.
    pub planes: Vec<Plane>,
    /// Milliseconds added to each round trip to them.
    pub delay: u32,
    /// The control plane's cluster.
    pub home: Cluster,
    /// Namespace of what people ask for; every fleet has its own.
    pub namespace: String,
    /// What is seen everywhere.
    pub recorder: Recorder,
    process: Option<Program>,
    binary: PathBuf,
    log: PathBuf,
}

impl RegisteredFleet {
    /// Registers `count` data planes with a fresh control plane, and waits until all are ready.
    pub async fn start(clusters: &mut BenchClusters, count: usize, delay: u32) -> Result<Self> {
        clusters.fleets += 1;
        let name = format!("fleet-{}", clusters.fleets);
        let home = clusters.home()?;
        home.namespace(&name).await?;
        let mut fleet = Self {
            planes: Vec::new(),
            delay,
            namespace: name.clone(),
            recorder: Recorder::new(),
            process: None,
            binary: clusters.binary.clone(),
            log: clusters.dir.join(format!("{name}.log")),
            home,
        };
        for number in 1..=count {
            let near = clusters.plane(number)?;
            let name = format!("dp-{number}");
            let mut kubeconfig = near.kubeconfig.clone();
            if delay != 0 {
                let delayed = json!({"do": "delay", "cluster": name, "millis": delay});
                let answer = clusters.testbed.send(&delayed)?;
                let proxied = answer.get("kubeconfig").and_then(Value::as_str);
                kubeconfig = proxied.ok_or("the proxy has no kubeconfig")?.into();
            }
            let far = connect(name.clone(), kubeconfig).await?;
            fleet.planes.push(Plane { name, near, far });
        }
        let per_plane = DATACENTERS.div_ceil(count);
        stream::iter(&fleet.planes)
            .map(|plane| async move {
                clean(&plane.near).await?;
                datacenters(&plane.near, &plane.name, per_plane).await
            })
            .buffer_unordered(4)
            .try_collect::<()>()
            .await?;
        for plane in &fleet.planes {
            apply(&fleet.home, &fleet.namespace, &plane.registration()?).await?;
        }
        fleet.record();
        fleet.launch().await?;
        Ok(fleet)
    }

    fn record(&mut self) {
        let recorder = &mut self.recorder;
        let ready = |plane: &DataPlane| {
            let conditions = plane.status.as_ref().map(|s| s.conditions.clone()).unwrap_or_default();
            conditions.of_type("Ready").map(|c| c.status.clone()).unwrap_or_default()
        };
        recorder.watch::<DataPlane>(HOME, "DataPlane", self.home.api(&self.namespace), ready);
        let phase = |job: &FleetBackupJob| {
            let phase = job.status.as_ref().and_then(|status| status.run.phase);
            phase.map(Phase::as_str).unwrap_or_default().to_owned()
        };
        recorder.watch::<FleetBackupJob>(HOME, "FleetBackupJob", self.home.api(&self.namespace), phase);
        for (number, Plane { near, .. }) in (1..).zip(&self.planes) {
            recorder.watch::<Secret>(number, "Secret", near.api(SHOP), marker);
            recorder.watch::<MedusaConfiguration>(number, "MedusaConfiguration", near.api(SHOP), unmarked);
            recorder.watch::<MedusaBackupJob>(number, "MedusaBackupJob", near.api(SHOP), unmarked);
            recorder.watch::<MedusaBackup>(number, "MedusaBackup", near.api(SHOP), unmarked);
        }
    }

    /// Starts the control plane and waits until every data plane is ready.
    pub async fn launch(&mut self) -> Result<()> {
        let process = start(&self.binary, "control-plane", &self.home, &self.namespace, &self.log)?;
        self.process = Some(process);
        let planes: Vec<Place> = self.places("DataPlane", |_| HOME, str::to_owned);
        self.recorder.until_marked(planes, "True").await.map_err(|error| -> Failure {
            format!("the data planes did not become ready: {error} (log: {})", self.log.display()).into()
        })?;
        Ok(())
    }

    /// Ends the control plane and starts it anew.
    pub async fn restart(&mut self) -> Result<()> {
        self.halt().await;
        self.launch().await
    }

    async fn halt(&mut self) {
        if let Some(process) = self.process.take() {
            process.stop().await;
        }
    }

    /// Ends the control plane.
    pub async fn stop(mut self) {
        self.halt().await;
    }

    /// The control plane's process.
    pub fn process(&self) -> Result<&Program> {
        self.process.as_ref().ok_or_else(|| "the control plane does not run".into())
    }

    /// One place per data plane.
    fn places(
        &self,
        kind: &'static str,
        cluster: fn(usize) -> usize,
        name: impl Fn(&str) -> String,
    ) -> Vec<Place> {
        (1..).zip(&self.planes).map(|(number, plane)| (cluster(number), kind, name(&plane.name))).collect()
    }

    /// `name` in every data plane.
    pub fn everywhere(&self, kind: &'static str, name: &str) -> Vec<Place> {
        self.places(kind, |number| number, |_| name.to_owned())
    }

    /// The annotation's value for the first `count` data planes.
    pub fn targets(&self, count: usize) -> String {
        let words: Vec<String> =
            self.planes.iter().take(count).map(|p| format!("{}/{SHOP}", p.name)).collect();
        words.join(",")
    }

    /// What all API servers have answered: the control plane's, and the data planes' added up.
    pub async fn requests(&self) -> Result<(Requests, Requests)> {
        let home = Requests::of(&self.home).await?;
        let mut planes = Requests::default();
        for plane in &self.planes {
            planes.add(&Requests::of(&plane.near).await?);
        }
        Ok((home, planes))
    }

    /// Registers the last data plane anew. Returns the seconds until it was ready, and until `copy`, a
    /// Secret, was in it.
    pub async fn register_last(&mut self, copy: &str) -> Result<(f64, f64)> {
        let number = self.planes.len();
        let plane = self.planes.last().ok_or("no data plane")?;
        let state = (HOME, "DataPlane", plane.name.clone());
        let secret = plane.registration()?;
        let secrets = self.home.api::<Secret>(&self.namespace);
        secrets.delete(&plane.name, &DeleteParams::default()).await?;
        self.recorder.until_gone([state.clone(), (number, "Secret", copy.to_owned())]).await?;
        pause(700).await;
        let start = Instant::now();
        apply(&self.home, &self.namespace, &secret).await?;
        let ready = self.recorder.until_marked([state], "True").await?;
        let copied = self.recorder.until_there([(number, "Secret", copy.to_owned())]).await?;
        Ok(((ready - start).as_secs_f64(), (copied - start).as_secs_f64()))
    }
}

/// All versions of an object are alike.
fn unmarked<K>(_: &K) -> String {
    String::new()
}

/// Which version of a bucket Secret this is.
fn marker(secret: &Secret) -> String {
    let value = secret.data.as_ref().and_then(|data| data.get(MARKER));
    value.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned()).unwrap_or_default()
}
