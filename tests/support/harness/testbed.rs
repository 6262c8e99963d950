//! The process that runs etcd and the API servers (`tests/testbed`), and its line protocol.
//!
//! Its pipes belong to no runtime: each test has one of its own, and a testbed serves one test after the other.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::task::block_in_place;

use super::Result;

/// Longest time it may take to bring its API servers up.
const START: Duration = Duration::from_mins(10);
/// Longest time it may take to end.
const STOP: Duration = Duration::from_secs(20);

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

/// That program, for tests, which it must be there for.
pub fn command() -> Command {
    let binary = binary();
    assert!(binary.is_file(), "{} is missing; build it with `make testbed`", binary.display());
    let mut command = Command::new(binary);
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
    pub fn up(command: Command, dir: &Path, data_planes: usize, more: &[&str]) -> Result<Self> {
        Self::start(command, "up", dir, data_planes, more)
    }

    /// Simulates data planes, all in one process, as [`Self::up`] starts real ones.
    #[allow(dead_code, reason = "what is measured is simulated, what is tested is not")]
    pub fn simulate(command: Command, dir: &Path, data_planes: usize, more: &[&str]) -> Result<Self> {
        Self::start(command, "sim", dir, data_planes, more)
    }

    fn start(
        mut command: Command,
        what: &str,
        dir: &Path,
        data_planes: usize,
        more: &[&str],
    ) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let log = dir.join("testbed.log");
        command
            .args([what, "--data-planes", &data_planes.to_string(), "--dir"])
            .arg(dir)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?);
        let mut child = command
            .spawn()
            .map_err(|error| format!("cannot run {command:?}: {error}; `make testbed` builds the testbed"))?;
        let mut output = BufReader::new(child.stdout.take().ok_or("the testbed has no standard output")?);
        let input = child.stdin.take();
        let (started, starting) = mpsc::channel();
        // Only another thread can be waited for with a deadline.
        thread::spawn(move || {
            let said = line(&mut output);
            let _ = started.send((output, said));
        });
        let Ok((output, said)) = block_in_place(|| starting.recv_timeout(START)) else {
            child.kill()?;
            child.wait()?;
            let log = log.display();
            return Err(format!("the testbed did not start within {} s (log: {log})", START.as_secs()).into());
        };
        let mut testbed = Self { child, input, output, ready: Value::Null };
        testbed.ready = answer(&said?)?;
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
            let answer = answer(&line(&mut self.output)?)?;
            let is_done = answer.get("ok") == Some(&Value::Bool(true));
            if is_done { Ok(answer) } else { Err(format!("{command}: {answer}").into()) }
        })
    }
}

fn line(output: &mut BufReader<ChildStdout>) -> io::Result<String> {
    let mut line = String::new();
    output.read_line(&mut line)?;
    Ok(line)
}

fn answer(line: &str) -> Result<Value> {
    serde_json::from_str(line).map_err(|_| format!("the testbed ended; it said: {line:?}").into())
}

impl Drop for Testbed {
    fn drop(&mut self) {
        drop(self.input.take());
        let end = Instant::now() + STOP;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= end {
                // What it started ends with it.
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}
