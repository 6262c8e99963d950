//! The process that runs etcd and the API servers (`tests/testbed`), and its line protocol.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};

/// A running testbed. Closing its standard input ends it and all it started.
pub struct Testbed {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// What it said when it was ready.
    pub ready: Value,
}

/// The binary: `MEDUSA_FLEET_TESTBED`, else where `make testbed` puts it.
pub fn binary() -> PathBuf {
    let path = std::env::var_os("MEDUSA_FLEET_TESTBED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/testbed/testbed"), PathBuf::from);
    assert!(path.is_file(), "there is no testbed at {}; run `make testbed`", path.display());
    path
}

/// Removes the directories `<prefix>…-<pid>` of processes that have ended.
pub fn sweep(root: &Path, prefix: &str) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((run, pid)) = name.rsplit_once('-') else { continue };
        if run.starts_with(prefix) && !Path::new("/proc").join(pid).exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

impl Testbed {
    /// Starts a fleet in `dir` and waits until it is ready; returns it and its clusters.
    pub fn up(dir: &Path, data_planes: usize, more: &[&str]) -> (Self, Vec<Value>) {
        std::fs::create_dir_all(dir).unwrap();
        let log = std::fs::File::create(dir.join("testbed.log")).unwrap();
        let mut child = Command::new(binary())
            .arg("up")
            .arg("--dir")
            .arg(dir)
            .arg("--data-planes")
            .arg(data_planes.to_string())
            .args(more)
            // A few clusters at a time: there is memory, and collecting garbage is a fifth of what they cost.
            .env("GOGC", "200")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("start the testbed");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut testbed = Self { child, input, output, ready: Value::Null };
        testbed.ready = testbed.read();
        assert!(testbed.ready["ready"] == true, "the testbed did not start: {}", testbed.ready);
        let clusters = testbed.ready["clusters"].as_array().cloned().unwrap_or_default();
        (testbed, clusters)
    }

    /// Sends one command about a cluster and waits for its answer.
    pub fn command(&mut self, verb: &str, cluster: &str) -> Value {
        let line = format!("{}\n", json!({"do": verb, "cluster": cluster}));
        self.input.as_mut().unwrap().write_all(line.as_bytes()).expect("speak to the testbed");
        let answer = self.read();
        assert!(answer["ok"] == true, "{verb} {cluster}: {answer}");
        answer
    }

    fn read(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("listen to the testbed");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("the testbed ended; it said: {line:?}"))
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
