//! A lab of API servers, and one control plane at a time over some of its clusters.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, api::DeleteParams};
use medusa_fleet::api::{
    Conditions as _,
    fleet::{DataPlane, FleetBackupJob, Phase},
    medusa::{MedusaBackup, MedusaBackupJob, MedusaConfiguration},
};

use crate::{
    clusters::{self, Requests, apply, clean, client, datacenters, namespace, prepare},
    objects::{MARKER, SHOP, registration},
    recorder::{Place, Recorder},
    support::{Failure, Result, pause},
    testbed::{Process, Testbed},
};

/// Datacenters in the whole fleet.
pub const DATACENTERS: usize = 100;
/// The control plane's own place among the recorder's clusters.
pub const HOME: usize = 0;

/// Every API server there is.
pub struct Lab {
    testbed: Testbed,
    clients: Vec<Client>,
    binary: PathBuf,
    dir: PathBuf,
    stages: usize,
}

impl Lab {
    /// Starts a control plane's API server and `planes` others.
    pub async fn up(testbed: &Path, binary: &Path, dir: &Path, planes: usize) -> Result<Self> {
        let testbed = Testbed::up(testbed, dir, planes).await?;
        let (binary, dir) = (binary.to_owned(), dir.to_owned());
        let mut lab = Self { testbed, clients: Vec::new(), binary, dir, stages: 0 };
        lab.prepare().await?;
        Ok(lab)
    }

    /// Starts more API servers, up to `planes`.
    pub async fn grow(&mut self, planes: usize) -> Result<()> {
        for number in self.testbed.clusters.len()..=planes {
            self.testbed.add(&format!("dp-{number}")).await?;
        }
        self.prepare().await
    }

    async fn prepare(&mut self) -> Result<()> {
        let mut new = Vec::new();
        for cluster in self.testbed.clusters.iter().skip(self.clients.len()) {
            new.push(client(&cluster.kubeconfig).await?);
        }
        stream::iter(new.clone())
            .map(|c| async move { prepare(&c).await })
            .buffer_unordered(4)
            .try_collect::<()>()
            .await?;
        self.clients.extend(new);
        Ok(())
    }

    /// Ends everything.
    pub async fn down(self) {
        self.testbed.down().await;
    }

    /// The control plane's cluster.
    pub fn home(&self) -> Result<Client> {
        self.clients.first().cloned().ok_or_else(|| "the testbed has no control plane".into())
    }

    /// Client and kubeconfig of a data plane, by number from one.
    pub fn plane(&self, number: usize) -> Result<(Client, PathBuf)> {
        let client = self.clients.get(number).cloned().ok_or("no such data plane")?;
        let cluster = self.testbed.clusters.get(number).ok_or("no such data plane")?;
        Ok((client, cluster.kubeconfig.clone()))
    }

    /// Where logs go.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The release binary.
    pub fn binary(&self) -> &Path {
        &self.binary
    }
}

/// A data plane of a stage.
pub struct Plane {
    /// Its name.
    pub name: String,
    /// Straight to the API server.
    pub near: Client,
    /// As medusa-fleet reaches it.
    pub far: Client,
    /// What is registered.
    kubeconfig: String,
}

/// A control plane that runs with some data planes registered.
pub struct Stage {
    /// Data planes, in order.
    pub planes: Vec<Plane>,
    /// Milliseconds added to each round trip to them.
    pub delay: u32,
    /// The control plane's cluster.
    pub home: Client,
    /// Namespace of this stage's fleet objects; every stage has its own.
    pub namespace: String,
    /// What is seen everywhere.
    pub recorder: Recorder,
    process: Option<Process>,
    binary: PathBuf,
    log: PathBuf,
    kubeconfig: String,
}

impl Stage {
    /// Registers `count` data planes with a fresh control plane, and waits until all are ready.
    pub async fn start(lab: &mut Lab, count: usize, delay: u32) -> Result<Self> {
        lab.stages += 1;
        let name = format!("fleet-{}", lab.stages);
        let home = lab.home()?;
        namespace(&home, &name).await?;
        let kubeconfig = lab.testbed.clusters.first().map(|c| c.kubeconfig.display().to_string());
        let mut stage = Self {
            planes: Vec::new(),
            delay,
            namespace: name.clone(),
            recorder: Recorder::new(),
            process: None,
            binary: lab.binary.clone(),
            log: lab.dir.join(format!("{name}.log")),
            kubeconfig: kubeconfig.unwrap_or_default(),
            home,
        };
        for number in 1..=count {
            let (near, direct) = lab.plane(number)?;
            let name = format!("dp-{number}");
            let path = if delay == 0 { direct } else { lab.testbed.delay(&name, delay).await? };
            let far = client(&path).await?;
            stage.planes.push(Plane { name, near, far, kubeconfig: fs::read_to_string(path)? });
        }
        let per_plane = DATACENTERS.div_ceil(count);
        stream::iter(&stage.planes)
            .map(|plane| async move {
                clean(&plane.near).await?;
                datacenters(&plane.near, &plane.name, per_plane).await
            })
            .buffer_unordered(4)
            .try_collect::<()>()
            .await?;
        for plane in &stage.planes {
            apply(&stage.home, &stage.namespace, &registration(&plane.name, &plane.kubeconfig)).await?;
        }
        stage.record();
        stage.launch().await?;
        Ok(stage)
    }

    fn record(&mut self) {
        let recorder = &mut self.recorder;
        let ready = |plane: &DataPlane| {
            let conditions = plane.status.as_ref().map(|s| s.conditions.clone()).unwrap_or_default();
            conditions.of_type("Ready").map(|c| c.status.clone()).unwrap_or_default()
        };
        recorder.watch::<DataPlane>(
            HOME,
            "DataPlane",
            Api::namespaced(self.home.clone(), &self.namespace),
            ready,
        );
        let phase = |job: &FleetBackupJob| {
            let phase = job.status.as_ref().and_then(|status| status.run.phase);
            phase.map(Phase::as_str).unwrap_or_default().to_owned()
        };
        let jobs = Api::namespaced(self.home.clone(), &self.namespace);
        recorder.watch::<FleetBackupJob>(HOME, "FleetBackupJob", jobs, phase);
        for (number, plane) in (1..).zip(&self.planes) {
            let client = plane.near.clone();
            recorder.watch::<Secret>(number, "Secret", Api::namespaced(client.clone(), SHOP), marker);
            recorder.watch::<MedusaConfiguration>(
                number,
                "MedusaConfiguration",
                Api::namespaced(client.clone(), SHOP),
                |_| String::new(),
            );
            recorder.watch::<MedusaBackupJob>(
                number,
                "MedusaBackupJob",
                Api::namespaced(client.clone(), SHOP),
                |_| String::new(),
            );
            recorder.watch::<MedusaBackup>(number, "MedusaBackup", Api::namespaced(client, SHOP), |_| {
                String::new()
            });
        }
    }

    /// Starts the control plane and waits until every data plane is ready.
    pub async fn launch(&mut self) -> Result<()> {
        let args = [
            "control-plane",
            "--kubeconfig",
            &self.kubeconfig,
            "--namespace",
            &self.namespace,
            "--metrics-addr",
            "",
        ];
        self.process = Some(Process::start(&self.binary, &args, &self.log)?);
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

    /// The control plane's process id.
    pub fn pid(&self) -> Result<u32> {
        self.process.as_ref().map(|p| p.pid).ok_or_else(|| "the control plane does not run".into())
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
        let secret = registration(&plane.name, &plane.kubeconfig);
        let secrets: Api<Secret> = Api::namespaced(self.home.clone(), &self.namespace);
        secrets.delete(&plane.name, &DeleteParams::default()).await?;
        self.recorder.until_gone([state.clone(), (number, "Secret", copy.to_owned())]).await?;
        pause(700).await;
        let start = Instant::now();
        clusters::apply(&self.home, &self.namespace, &secret).await?;
        let ready = self.recorder.until_marked([state], "True").await?;
        let copied = self.recorder.until_there([(number, "Secret", copy.to_owned())]).await?;
        Ok(((ready - start).as_secs_f64(), (copied - start).as_secs_f64()))
    }
}

/// Which version of a bucket Secret this is.
fn marker(secret: &Secret) -> String {
    let value = secret.data.as_ref().and_then(|data| data.get(MARKER));
    value.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned()).unwrap_or_default()
}
