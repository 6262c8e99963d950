//! What a soak runs on: a real API server for the control plane, simulated data planes, and the control plane's program.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use http::Request;
use kube::{
    Api, Client, Config,
    api::{DeleteParams, DynamicObject, Patch, PatchParams},
};
use medusa_fleet::api::crds;
use serde_json::{Value, json};

use crate::{
    harness::{Cluster, Program, Result, Testbed, resource, within},
    ledger::Ledger,
    observed::Open,
};

/// The controller's namespace.
pub const NAMESPACE: &str = "soak";
/// Namespace of the MedusaConfigurations that are copied.
pub const SOURCES: &str = "sources";
/// Namespace of the datacenters.
pub const DATACENTERS: &str = "cassandra";
/// Nodes of each datacenter.
pub const NODES: usize = 3;
/// How long a simulated Medusa takes.
const MEDUSA_TAKES: &str = "1s";
/// How long the beginning may take.
const START: Duration = Duration::from_mins(5);
/// Watches of a data plane, at least.
const WATCHES: i64 = 5;

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The testbed.
    pub testbed: PathBuf,
    /// The control plane.
    pub control_plane: PathBuf,
}

/// Everything that runs.
pub struct Stage {
    /// The control plane's own cluster.
    pub home: Cluster,
    /// Simulated data planes, seen by an administrator.
    pub planes: BTreeMap<String, Cluster>,
    /// The control plane's program.
    pub control_plane: Program,
    /// What is seen of runs.
    pub ledger: Ledger,
    admin: Client,
    _testbeds: [Testbed; 2],
}

impl Stage {
    /// Starts clusters and control plane in `dir`. No data plane is registered yet.
    pub async fn start(programs: &Programs, dir: &Path, planes: usize) -> Result<Self> {
        let real = Testbed::up(Command::new(&programs.testbed), &dir.join("home"), 0, &[])?;
        let more = ["--backups", "3", "--medusa-takes", MEDUSA_TAKES];
        let simulated =
            Testbed::simulate(Command::new(&programs.testbed), &dir.join("planes"), planes, &more)?;
        let described = real.clusters().into_iter().next().ok_or("the testbed has no control plane")?;
        let home = connect(&described).await?;
        home.prepare(&crds::all()?, &[NAMESPACE, SOURCES]).await?;
        let mut clusters = BTreeMap::new();
        for described in simulated.clusters() {
            let cluster = connect(&described).await?;
            clusters.insert(cluster.name.clone(), cluster);
        }
        let admin = simulated.ready.get("admin").and_then(Value::as_str).ok_or("there is no admin port")?;
        let admin = Client::try_from(Config::new(admin.parse()?))?;
        let control_plane =
            Program::start(&programs.control_plane, dir.join("control-plane.log"), |command| {
                command
                    .args([
                        "control-plane",
                        "--namespace",
                        NAMESPACE,
                        "--metrics-addr",
                        "127.0.0.1:0",
                        "--kubeconfig",
                    ])
                    .arg(&home.kubeconfig)
                    .env("MALLOC_ARENA_MAX", "1")
            })?;
        let ledger = Ledger::open(&home.client, NAMESPACE);
        Ok(Self { home, planes: clusters, control_plane, ledger, admin, _testbeds: [real, simulated] })
    }

    /// A data plane's kubeconfig.
    pub fn kubeconfig(&self, plane: &str) -> Result<String> {
        let cluster = self.planes.get(plane).ok_or_else(|| format!("there is no {plane}"))?;
        Ok(fs::read_to_string(&cluster.kubeconfig)?)
    }

    /// Waits until every data plane has the same watches and connections twice in a row: what an idle one has.
    pub async fn idle(&self) -> Result<Open> {
        let mut before: Option<Open> = None;
        within(START, "all data planes have the same watches and connections", async || {
            let open = self.open().await?;
            let first = *open.values().next().ok_or("there is no data plane")?;
            let is_same = open.values().all(|one| *one == first) && first.watches >= WATCHES;
            if is_same && before.replace(first) == Some(first) {
                return Ok::<_, crate::harness::Failure>(first);
            }
            Err(format!("{open:?}").into())
        })
        .await
    }

    /// Watches and connections of each data plane now.
    pub async fn open(&self) -> Result<BTreeMap<String, Open>> {
        let counters = self.ask("/counters").await?;
        let planes = counters.get("planes").and_then(Value::as_object).ok_or("there are no counters")?;
        let number = |of: &Value, key: &str| of.get(key).and_then(Value::as_i64).unwrap_or_default();
        let open =
            |of: &Value| Open { watches: number(of, "watches"), connections: number(of, "connections") };
        Ok(planes.iter().map(|(name, counted)| (name.clone(), open(counted))).collect())
    }

    /// What the simulator's admin port answers.
    pub async fn ask(&self, path: &str) -> Result<Value> {
        Ok(self.admin.request(Request::get(path).body(Vec::new())?).await?)
    }

    /// Sets a fault on some data planes.
    pub async fn fault(&self, fault: &Value, planes: &[String]) -> Result<()> {
        let mut order = fault.as_object().cloned().unwrap_or_default();
        order.insert("planes".to_owned(), json!(planes));
        let request = Request::post("/faults").header("content-type", "application/json");
        self.admin.request::<Value>(request.body(serde_json::to_vec(&order)?)?).await?;
        Ok(())
    }

    /// Applies an object in the control plane's cluster.
    pub async fn apply(&self, namespace: &str, object: &Value) -> Result<()> {
        let (api, name) = self.named(namespace, object)?;
        let whose = PatchParams::apply("soak").force();
        api.patch(&name, &whose, &Patch::Apply(object))
            .await
            .map_err(|error| format!("apply {name}: {error}"))?;
        Ok(())
    }

    /// Changes fields of an object in the control plane's cluster; says whether it is there.
    pub async fn change(&self, namespace: &str, object: &Value) -> Result<bool> {
        let (api, name) = self.named(namespace, object)?;
        found(api.patch(&name, &PatchParams::default(), &Patch::Merge(object)).await)
    }

    /// Deletes an object in the control plane's cluster, if it is there.
    pub async fn delete(&self, namespace: &str, object: &Value) -> Result<bool> {
        let (api, name) = self.named(namespace, object)?;
        found(api.delete(&name, &DeleteParams::default()).await)
    }

    fn named(&self, namespace: &str, object: &Value) -> Result<(Api<DynamicObject>, String)> {
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let api = Api::namespaced_with(self.home.client.clone(), namespace, &resource(object)?);
        Ok((api, name.to_owned()))
    }
}

/// A client that waits: watches are silent for minutes.
async fn connect(described: &Value) -> Result<Cluster> {
    let text = |key: &str| described.get(key).and_then(Value::as_str).unwrap_or_default();
    let (name, kubeconfig) = (text("name").to_owned(), text("kubeconfig").into());
    Cluster::connect_as(name, kubeconfig, |config| config.read_timeout = None).await
}

fn found<T>(answer: std::result::Result<T, kube::Error>) -> Result<bool> {
    match answer {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error.into()),
    }
}
