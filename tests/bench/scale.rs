//! A fleet of hundreds of data planes: when it is ready, what it costs while nothing happens, and how fast it is then.
//!
//! The data planes are simulated, all in one process (`testbed sim`, which says what it simulates); the control plane's own
//! API server is a real one. Everything shares this machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::Request;
use kube::{Client, Config};
use medusa_fleet::api::{
    Conditions as _,
    fleet::{DataPlane, FleetBackupJob, Phase},
};
use serde_json::{Value, json};

use crate::{
    clusters::{IN_FLIGHT, Requests, apply, connect, is_write, prepare},
    harness::{Cluster, Program, Result, Testbed, within},
    objects::{bucket_secret, configuration, fleet_backup_job, registration},
    recorder::{Place, Recorder},
    registered_fleet::HOME,
    report::{Report, Row},
    shards::one_is_killed,
    support::{load, pause, processor_time, say},
};

/// How long what is measured may take.
const PATIENCE: Duration = Duration::from_mins(10);
/// How long the fleet is left alone before and while its cost is measured, in milliseconds.
const QUIET: u64 = 60_000;
/// How long it is left alone after each of several runs of the same: what the one before leaves to do is done by then.
const BETWEEN_RUNS: u64 = 5_000;
/// MedusaBackups of each datacenter.
const BACKUPS: &str = "10";
/// Shards for each of several replicas.
const SHARDS_EACH: usize = 4;
/// How long a simulated Medusa takes for a backup.
const MEDUSA_TAKES: &str = "1s";

/// Measures fleets of so many data planes, one after the other, watched by so many replicas.
pub async fn scale(
    (testbed, binary): (&Path, &Path),
    dir: &Path,
    planes: &[usize],
    replicas: usize,
    report: &mut Report,
) -> Result<()> {
    for &count in planes {
        say(format!("{count} simulated data planes, {replicas} replicas"));
        let dir = dir.join(format!("scale-{count}-{replicas}"));
        let measured = async {
            let mut fleet = Large::start(testbed, binary, &dir, count, replicas).await?;
            if replicas == 1 {
                return fleet.measure(report).await;
            }
            fleet.first_start(report).await?;
            fleet.idle(report).await?;
            fleet.fan_out(report).await?;
            one_is_killed(&mut fleet, count, report).await
        };
        if let Err(error) = measured.await {
            report.failed("scale", count, 0, &error);
        }
        report.facts.push(format!("load average after {count} data planes: {:.2}", load()));
    }
    Ok(())
}

/// Simulated data planes, a real API server, and a control plane over them.
pub struct Large {
    count: usize,
    pub home: Cluster,
    home_pid: u32,
    pub namespace: String,
    pub recorder: Recorder,
    control_plane: Program,
    /// The other replicas, where there are several.
    pub others: Vec<Program>,
    metrics: Client,
    admin: Client,
    started: Instant,
    log: PathBuf,
    _clusters: [Testbed; 2],
}

/// What it has cost so far.
struct Cost {
    at: Instant,
    ours: f64,
    home: f64,
    requests: Requests,
    asked: f64,
    connections: f64,
    memory: f64,
    /// Memory of the largest replica.
    largest: f64,
}

impl Large {
    /// Starts so many data planes, and so many replicas that share the watching.
    pub async fn start(
        testbed: &Path,
        binary: &Path,
        dir: &Path,
        count: usize,
        replicas: usize,
    ) -> Result<Self> {
        let real = Testbed::up(Command::new(testbed), &dir.join("home"), 0, &[])?;
        let more = ["--backups", BACKUPS, "--medusa-takes", MEDUSA_TAKES];
        let simulated = Testbed::simulate(Command::new(testbed), &dir.join("planes"), count, &more)?;
        let described = real.clusters().into_iter().next().ok_or("the testbed has no control plane")?;
        let text = |of: &Value, key: &str| of[key].as_str().unwrap_or_default().to_owned();
        let home = connect(text(&described, "name"), text(&described, "kubeconfig").into()).await?;
        prepare(&home).await?;
        let namespace = "scale".to_owned();
        home.namespace(&namespace).await?;
        let registrations = simulated.clusters().into_iter().map(|plane| {
            let kubeconfig = fs::read_to_string(text(&plane, "kubeconfig"))?;
            Ok(registration(&text(&plane, "name"), &kubeconfig))
        });
        let registrations = registrations.collect::<Result<Vec<Value>>>()?;
        stream::iter(&registrations)
            .map(|secret| apply(&home, &namespace, secret))
            .buffer_unordered(IN_FLIGHT)
            .try_collect::<Vec<()>>()
            .await?;
        let mut recorder = Recorder::new();
        recorder.watch::<DataPlane>(HOME, "DataPlane", home.api(&namespace), readiness);
        recorder.watch::<FleetBackupJob>(HOME, "FleetBackupJob", home.api(&namespace), phase);
        let log = dir.join("control-plane.log");
        let started = Instant::now();
        let shards = (SHARDS_EACH * replicas).to_string();
        let start = |log: &Path| {
            Program::start(binary, log, |command| {
                let args = ["control-plane", "--namespace", &namespace, "--metrics-addr", "127.0.0.1:0"];
                command.args(args).arg("--kubeconfig").arg(&home.kubeconfig).env("MALLOC_ARENA_MAX", "1");
                if replicas > 1 {
                    command.args(["--leader-elect", "--shards", &shards]);
                }
                command
            })
        };
        let control_plane = start(&log)?;
        let others = (1..replicas).map(|number| start(&dir.join(format!("replica-{number}.log"))));
        let others = others.collect::<Result<Vec<Program>>>()?;
        let metrics = metrics_of(&control_plane, 0).await?;
        let pid = described.get("pid").and_then(Value::as_u64).and_then(|pid| u32::try_from(pid).ok());
        Ok(Self {
            count,
            home_pid: pid.ok_or("the testbed does not say which process its API server is")?,
            home,
            namespace,
            recorder,
            control_plane,
            others,
            metrics,
            admin: plain(&text(&simulated.ready, "admin"))?,
            started,
            log,
            _clusters: [real, simulated],
        })
    }

    async fn measure(&mut self, report: &mut Report) -> Result<()> {
        self.first_start(report).await?;
        self.idle(report).await?;
        self.fan_out(report).await?;
        self.copies(report).await?;
        self.one_in_ten_is_silent(report).await?;
        self.restart(report).await
    }

    pub fn row(&self, what: &str, unit: &'static str) -> Row {
        Row::new(what, self.count, 0, unit)
    }

    fn planes(&self) -> Vec<Place> {
        (1..=self.count).map(|number| (HOME, "DataPlane", format!("sim-{number}"))).collect()
    }

    /// Waits until every one of these data planes has this readiness; returns how many seconds after `start` each had it.
    async fn until(&mut self, planes: &[Place], ready: &str, start: Instant) -> Result<Vec<f64>> {
        self.recorder.until_marked(planes.to_vec(), ready).await.map_err(|error| {
            format!("not all data planes became Ready={ready}: {error} (log: {})", self.log.display())
        })?;
        Ok(self.recorder.since(planes).into_iter().map(|at| (at - start).as_secs_f64()).collect())
    }

    pub async fn first_start(&mut self, report: &mut Report) -> Result<()> {
        let took = self.until(&self.planes(), "True", self.started).await?;
        report.add(self.row("first start, until ready", "s").ours(&took).note("p99: the last but 1 %"));
        let last = took.into_iter().fold(0.0, f64::max);
        report.add(self.row("first start, until all are ready", "s").ours(&[last]));
        Ok(())
    }

    async fn cost(&self) -> Result<Cost> {
        let counters = self.ask(&self.admin, "/counters?sum=true").await?;
        let sum = counters.get("sum").ok_or("the simulation does not say what it counted")?;
        let counted = |key: &str| sum.get(key).and_then(Value::as_f64).unwrap_or_default();
        let requests = sum.get("requests").and_then(Value::as_object).into_iter().flatten();
        let (mut ours, mut memory, mut largest) = (0.0, 0.0, 0.0_f64);
        for replica in self.replicas() {
            ours += processor_time(replica.pid())?;
            let resident = replica.memory("VmRSS")?;
            memory += resident;
            largest = largest.max(resident);
        }
        Ok(Cost {
            at: Instant::now(),
            ours,
            home: processor_time(self.home_pid)?,
            requests: Requests::of(&self.home).await?,
            asked: requests.filter_map(|(_, count)| count.as_f64()).sum(),
            connections: counted("connections"),
            memory,
            largest,
        })
    }

    fn replicas(&self) -> impl Iterator<Item = &Program> {
        std::iter::once(&self.control_plane).chain(&self.others)
    }

    /// Adds what it costs between two moments.
    fn add_cost(&self, name: &str, before: &Cost, after: &Cost, report: &mut Report) {
        let seconds = (after.at - before.at).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let planes = self.count as f64;
        let row = |what: &str, unit| self.row(&format!("{name}: {what}"), unit);
        report.add(row("processor", "mCPU").ours(&[(after.ours - before.ours) / seconds * 1000.0]));
        let home = (after.home - before.home) / seconds * 1000.0;
        report.add(row("processor of its own API server", "mCPU").ours(&[home]));
        let memory = row("memory (VmRSS)", "MiB").ours(&[after.memory]);
        let grown = (after.memory - before.memory) / seconds * 60.0;
        let largest = after.largest;
        report.add(memory.note(format!("{grown:+.1} MiB a minute; the largest replica {largest:.0} MiB")));
        let written = after.requests.since(&before.requests).writes();
        let writes = row("writes at home", "a second").ours(&[written.sum(is_write) / seconds]);
        report.add(writes.note(written.line()));
        let asked = (after.asked - before.asked) / planes / seconds * 60.0;
        report.add(row("requests of a data plane", "a minute").ours(&[asked]));
        report.add(row("connections of a data plane", "").ours(&[after.connections / planes]));
    }

    pub async fn idle(&mut self, report: &mut Report) -> Result<()> {
        pause(QUIET).await;
        let before = self.cost().await?;
        pause(2 * QUIET).await;
        let after = self.cost().await?;
        self.add_cost("idle", &before, &after, report);
        Ok(())
    }

    /// Waits until there are so many more objects of a kind in the data planes than `before`; returns when each half, the
    /// 99th part and all of them were there, in milliseconds after `start`.
    pub async fn until_made(&self, kind: &str, before: u64, start: Instant) -> Result<[f64; 3]> {
        let all = u64::try_from(self.count)?;
        let mut reached = [None; 3];
        let wanted = [all.div_ceil(2), (all * 99).div_ceil(100), all];
        let end = Instant::now() + PATIENCE;
        loop {
            let there = self.objects(kind).await?.saturating_sub(before);
            for (at, wanted) in reached.iter_mut().zip(wanted) {
                if there >= wanted {
                    at.get_or_insert(start.elapsed());
                }
            }
            match reached {
                [Some(half), Some(most), Some(all)] => {
                    return Ok([half, most, all].map(|at| at.as_secs_f64() * 1000.0));
                }
                _ if Instant::now() >= end => {
                    let all = self.count;
                    return Err(
                        format!("after {} s {there} of {all} {kind} are made", PATIENCE.as_secs()).into()
                    );
                }
                _ => pause(5).await,
            }
        }
    }

    pub async fn objects(&self, kind: &str) -> Result<u64> {
        let counted = self.ask(&self.admin, "/objects?sum=true").await?;
        let sum = counted.get("sum").ok_or("the simulation does not say what it has")?;
        Ok(sum.get(kind).and_then(Value::as_u64).unwrap_or_default())
    }

    /// A FleetBackupJob over all data planes.
    pub async fn fan_out(&mut self, report: &mut Report) -> Result<()> {
        let (mut halves, mut most, mut verdicts) = (Vec::new(), Vec::new(), Vec::new());
        for run in 0..3 {
            let name = format!("all-{run}");
            let before = self.objects(JOBS).await?;
            let start = Instant::now();
            apply(&self.home, &self.namespace, &fleet_backup_job(&name)).await?;
            let [half, nearly, all] = self.until_made(JOBS, before, start).await?;
            halves.push(half);
            most.push(nearly);
            let ended = self.recorder.until_marked([(HOME, "FleetBackupJob", name)], "Succeeded").await?;
            verdicts.push((ended - start).as_secs_f64() - all / 1000.0);
            pause(BETWEEN_RUNS).await;
        }
        report.add(self.row("FleetBackupJob into all: half of the jobs", "ms").ours(&halves));
        report.add(self.row("FleetBackupJob into all: 99 of 100 jobs", "ms").ours(&most));
        let note = format!("after the last job was made; its Medusa takes {MEDUSA_TAKES}");
        report.add(self.row("FleetBackupJob into all: verdict", "s").ours(&verdicts).note(note));
        Ok(())
    }

    /// One Secret that is copied into all data planes.
    async fn copies(&mut self, report: &mut Report) -> Result<()> {
        let (mut halves, mut all) = (Vec::new(), Vec::new());
        for run in 0..3 {
            let name = format!("bucket-{run}");
            apply(&self.home, &self.namespace, &bucket_secret(&name, "one")).await?;
            let before = self.objects(SECRETS).await?;
            let start = Instant::now();
            apply(&self.home, &self.namespace, &configuration(&name, "*")).await?;
            let [half, _, last] = self.until_made(SECRETS, before, start).await?;
            halves.push(half / 1000.0);
            all.push(last / 1000.0);
            pause(BETWEEN_RUNS).await;
        }
        report.add(self.row("a Secret copied into all: half", "s").ours(&halves));
        report.add(self.row("a Secret copied into all: the last", "s").ours(&all));
        Ok(())
    }

    /// Every tenth data plane is as a process that is stopped, and goes on again.
    async fn one_in_ten_is_silent(&mut self, report: &mut Report) -> Result<()> {
        let fault = json!({"fault": "stop", "fraction": 0.1});
        let start = Instant::now();
        let answer = self.post("/faults", &fault).await?;
        let names =
            answer.get("planes").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let hung: Vec<Place> = names.map(|name| (HOME, "DataPlane", name.to_owned())).collect();
        if hung.is_empty() {
            return Err("of so few data planes none is silent; give more with --planes".into());
        }
        let noticed = self.until(&hung, "False", start).await?;
        report.add(self.row("one in ten is silent: noticed", "s").ours(&noticed));
        pause(QUIET / 2).await;
        let before = self.cost().await?;
        pause(QUIET).await;
        let after = self.cost().await?;
        self.add_cost("one in ten is silent", &before, &after, report);
        let start = Instant::now();
        self.post("/faults", &json!({"fault": "none"})).await?;
        let back = self.until(&hung, "True", start).await?;
        report.add(self.row("they answer again: ready", "s").ours(&back));
        Ok(())
    }

    /// The control plane is killed and started again.
    async fn restart(&mut self, report: &mut Report) -> Result<()> {
        pause(QUIET / 2).await;
        let before = Requests::of(&self.home).await?;
        let said = self.control_plane.said().len();
        let start = Instant::now();
        self.control_plane.restart()?;
        self.metrics = metrics_of(&self.control_plane, said).await?;
        within(PATIENCE, "every data plane answers, and the inventory stands", async || {
            let metrics = self.metrics.request_text(Request::get("/metrics").body(Vec::new())?).await?;
            let up = metrics.lines().filter(|line| line.starts_with(UP) && line.ends_with(" 1")).count();
            self.metrics.request_text(Request::get("/readyz").body(Vec::new())?).await?;
            // Its own cluster is one of them.
            if up > self.count {
                Ok::<_, crate::harness::Failure>(())
            } else {
                Err(format!("{up} answer").into())
            }
        })
        .await?;
        report.add(self.row("restart, until all is known", "s").ours(&[start.elapsed().as_secs_f64()]));
        pause(QUIET).await;
        let written = Requests::of(&self.home).await?.since(&before).writes();
        report.add(
            self.row("restart: writes at home", "")
                .ours(&[written.sum(is_write)])
                .note(format!("within a minute after it: {}", written.line())),
        );
        let memory = self.control_plane.memory("VmRSS")?;
        report.add(self.row("restart: memory (VmRSS)", "MiB").ours(&[memory]));
        Ok(())
    }

    async fn ask(&self, whom: &Client, path: &str) -> Result<Value> {
        Ok(whom.request(Request::get(path).body(Vec::new())?).await?)
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let request = Request::post(path).header("content-type", "application/json");
        Ok(self.admin.request(request.body(serde_json::to_vec(body)?)?).await?)
    }
}

/// As the simulation counts them.
pub const JOBS: &str = "medusabackupjobs.medusa.k8ssandra.io";
const SECRETS: &str = "secrets";
/// The metric that says whether a data plane answers.
const UP: &str = "medusa_fleet_dataplane_up{";

/// A client for something that speaks plain HTTP.
fn plain(url: &str) -> Result<Client> {
    Ok(Client::try_from(Config::new(url.parse()?))?)
}

/// Where the control plane serves its metrics, as it says in its log after `since`.
async fn metrics_of(control_plane: &Program, since: usize) -> Result<Client> {
    let address = within(PATIENCE, "the control plane says where its metrics are", async || {
        let log = control_plane.said();
        let news = log.get(since..).unwrap_or_default();
        let address = news.rsplit_once("bound=").and_then(|(_, rest)| rest.split_whitespace().next());
        Ok::<_, crate::harness::Failure>(address.ok_or("it says nothing")?.to_owned())
    });
    plain(&format!("http://{}", address.await?))
}

fn readiness(plane: &DataPlane) -> String {
    let conditions = plane.status.as_ref().map(|status| &status.conditions);
    conditions.and_then(|all| all.of_type("Ready")).map(|ready| ready.status.clone()).unwrap_or_default()
}

fn phase(job: &FleetBackupJob) -> String {
    let phase = job.status.as_ref().and_then(|status| status.run.phase);
    phase.map(Phase::as_str).unwrap_or_default().to_owned()
}
