//! The process that runs etcd and the API servers (`tests/testbed`), and its line protocol.
//!
//! Its pipes belong to no runtime: each test has one of its own, and a testbed serves one test after the other.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};
use tokio::task::block_in_place;

use super::Result;

/// A running testbed. Closing its standard input ends it and all it started.
pub struct Testbed {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// What it said when it was ready.
    pub ready: Value,
}

/// The testbed's program: what `MEDUSA_FLEET_TESTBED` names, else what `make testbed` built.
pub fn binary() -> PathBuf {
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/testbed/testbed");
    std::env::var_os("MEDUSA_FLEET_TESTBED").map_or_else(built, PathBuf::from)
}

/// That program, for tests.
pub fn command() -> Command {
    let mut command = Command::new(binary());
    // Tests run a few API servers at a time: there is memory, and collecting garbage is a fifth of what they cost.
    command.env("GOGC", "200");
    command
}

/// Removes the directories `<prefix>…-<pid>` of processes that have ended.
pub fn sweep(root: &Path, prefix: &str) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((run, pid)) = name.rsplit_once('-') else { continue };
        if run.starts_with(prefix) && !Path::new("/proc").join(pid).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

impl Testbed {
    /// Starts a fleet in `dir` by `command`, the testbed's program, and waits until it is ready. It logs there, too.
    pub fn up(mut command: Command, dir: &Path, data_planes: usize, more: &[&str]) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let log = dir.join("testbed.log");
        command
            .args(["up", "--data-planes", &data_planes.to_string(), "--dir"])
            .arg(dir)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?);
        let mut child = command
            .spawn()
            .map_err(|error| format!("cannot run {command:?}: {error}; `make testbed` builds the testbed"))?;
        let output = child.stdout.take().ok_or("the testbed has no standard output")?;
        let input = child.stdin.take();
        let mut testbed = Self { child, input, output: BufReader::new(output), ready: Value::Null };
        testbed.ready = block_in_place(|| testbed.read())?;
        if testbed.ready.get("ready") != Some(&Value::Bool(true)) {
            return Err(
                format!("the testbed did not start: {} (log: {})", testbed.ready, log.display()).into()
            );
        }
        Ok(testbed)
    }

    /// What it says about its clusters, the control plane's first.
    pub fn clusters(&self) -> Vec<Value> {
        self.ready.get("clusters").and_then(Value::as_array).cloned().unwrap_or_default()
    }

    /// Sends one command about a cluster, and waits for its answer.
    pub fn command(&mut self, verb: &str, cluster: &str) -> Result<Value> {
        self.send(&json!({"do": verb, "cluster": cluster}))
    }

    /// Sends one command, and waits for its answer.
    pub fn send(&mut self, command: &Value) -> Result<Value> {
        block_in_place(|| {
            let input = self.input.as_mut().ok_or("the testbed has no standard input")?;
            input.write_all(format!("{command}\n").as_bytes())?;
            let answer = self.read()?;
            let is_done = answer.get("ok") == Some(&Value::Bool(true));
            if is_done { Ok(answer) } else { Err(format!("{command}: {answer}").into()) }
        })
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        serde_json::from_str(&line).map_err(|_| format!("the testbed ended; it said: {line:?}").into())
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
