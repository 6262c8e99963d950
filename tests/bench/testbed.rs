//! Real API servers from `testbed up`, and the processes under measurement. Nothing outlives this one.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::support::{Result, pause};

/// Longest time the testbed may take to bring its API servers up.
const START: Duration = Duration::from_mins(10);
/// Longest time it may take to end.
const STOP: Duration = Duration::from_secs(20);

/// One cluster as the testbed describes it.
#[derive(Clone, Debug, Deserialize)]
pub struct Described {
    /// An administrator's kubeconfig.
    pub kubeconfig: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Ready {
    #[serde(rename = "ready")]
    up: bool,
    #[serde(default)]
    clusters: Vec<Described>,
    #[serde(default)]
    error: String,
    #[serde(default)]
    log: String,
}

#[derive(Debug, Deserialize)]
struct Answer {
    ok: bool,
    #[serde(default)]
    error: String,
    cluster: Option<Described>,
    kubeconfig: Option<PathBuf>,
}

/// A running testbed. It ends when its standard input does: with this process, whatever becomes of it.
pub struct Testbed {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    /// The control plane's cluster, then the data planes'.
    pub clusters: Vec<Described>,
}

impl Testbed {
    /// Starts `planes` data planes and a control plane in `dir`.
    pub async fn up(program: &Path, dir: &Path, planes: usize) -> Result<Self> {
        if !program.exists() {
            return Err(format!("{} is missing; build it with `make testbed`", program.display()).into());
        }
        let mut child = Command::new(program)
            .args(["up", "--data-planes", &planes.to_string(), "--dir"])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take().ok_or("the testbed has no standard input")?;
        let output = child.stdout.take().ok_or("the testbed has no standard output")?;
        let mut testbed = Self { child, input, output: BufReader::new(output).lines(), clusters: Vec::new() };
        let ready: Ready =
            timeout(START, testbed.read()).await.map_err(|_| "the testbed did not start")??;
        if !ready.up {
            return Err(format!("the testbed did not start: {} (log: {})", ready.error, ready.log).into());
        }
        testbed.clusters = ready.clusters;
        Ok(testbed)
    }

    async fn read<T: for<'a> Deserialize<'a>>(&mut self) -> Result<T> {
        let line = self.output.next_line().await?.ok_or("the testbed ended; see its messages above")?;
        Ok(serde_json::from_str(&line)?)
    }

    async fn ask(&mut self, command: &Value) -> Result<Answer> {
        self.input.write_all(format!("{command}\n").as_bytes()).await?;
        let answer: Answer = self.read().await?;
        if answer.ok { Ok(answer) } else { Err(format!("testbed: {command}: {}", answer.error).into()) }
    }

    /// Starts one more data plane.
    pub async fn add(&mut self, name: &str) -> Result<()> {
        let answer = self.ask(&json!({"do": "add", "cluster": name})).await?;
        self.clusters.extend(answer.cluster);
        Ok(())
    }

    /// Puts a proxy in front of a cluster; returns the kubeconfig that goes through it.
    pub async fn delay(&mut self, name: &str, millis: u32) -> Result<PathBuf> {
        let answer = self.ask(&json!({"do": "delay", "cluster": name, "millis": millis})).await?;
        answer.kubeconfig.ok_or_else(|| "the testbed did not say where the proxy's kubeconfig is".into())
    }

    /// Ends everything and waits until it is gone.
    pub async fn down(self) {
        let Self { mut child, input, .. } = self;
        drop(input);
        if timeout(STOP, child.wait()).await.is_err() {
            let _ = child.kill().await;
        }
    }
}

/// A process under measurement.
pub struct Process {
    child: Child,
    /// Its process id.
    pub pid: u32,
}

impl Process {
    /// Starts `program`, writing what it logs to `log`. The kernel kills it when this process dies,
    /// where util-linux is there to ask for that.
    pub fn start(program: &Path, args: &[&str], log: &Path) -> Result<Self> {
        if !program.exists() {
            return Err(format!("{} is missing; build it with `make build`", program.display()).into());
        }
        let log = File::options().create(true).append(true).open(log)?;
        let mut command = if Path::new("/usr/bin/setpriv").exists() {
            let mut command = Command::new("/usr/bin/setpriv");
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        let child = command
            .args(args)
            // As the manifests in deploy/ have it.
            .env("MALLOC_ARENA_MAX", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().ok_or("the process ended at once")?;
        Ok(Self { child, pid })
    }

    /// Ends it where it stands, with SIGKILL.
    pub async fn kill(mut self) {
        let _ = self.child.kill().await;
    }

    /// Ends it as a kubelet would, and waits until it is gone.
    pub async fn stop(mut self) {
        let term = Command::new("kill").arg(self.pid.to_string()).status().await;
        if term.is_err() || timeout(STOP, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
        pause(100).await;
    }
}
