//! The control plane's controller: the real binary.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
};

use super::{
    Cluster, Fleet, eventually,
    harness::{BINARY, Program},
};

/// What every write to fails for want of room, and every read from is endless.
const FULL: &str = "/dev/full";

/// A running controller, or one that was killed and can be started again.
pub struct ControlPlane(Program);

impl ControlPlane {
    /// Starts `medusa-fleet control-plane` in the fleet's control-plane cluster.
    pub fn spawn(fleet: &Fleet) -> Self {
        Self::spawn_with(fleet, &[])
    }

    /// [`Self::spawn`], with more arguments.
    pub fn spawn_with(fleet: &Fleet, args: &[&str]) -> Self {
        Self::spawn_in(fleet, args, &[])
    }

    /// [`Self::spawn_with`], in an environment with these variables.
    pub fn spawn_in(fleet: &Fleet, args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::spawn_to(&fleet.dir().join("medusa-fleet.log"), fleet, args, env)
    }

    /// [`Self::spawn`], where nothing can be written: its log goes to a device that is full, and there is no folder for
    /// temporary files.
    pub fn spawn_unheard(fleet: &Fleet) -> Self {
        Self::spawn_to(Path::new(FULL), fleet, &[], &[("TMPDIR", FULL)])
    }

    /// Starts it in any cluster.
    pub fn spawn_at(log: &Path, cluster: &Cluster, args: &[&str]) -> Self {
        Self::spawn_by(log, &cluster.kubeconfig, args, &[])
    }

    fn spawn_to(log: &Path, fleet: &Fleet, args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::spawn_by(log, &fleet.home().kubeconfig, args, env)
    }

    fn spawn_by(log: &Path, kubeconfig: &Path, args: &[&str], env: &[(&str, &str)]) -> Self {
        let program = Program::start(BINARY, log, |command| {
            command
                .arg("--kubeconfig")
                .arg(kubeconfig)
                .args(["control-plane", "--metrics-addr", "127.0.0.1:0"])
                .env("MEDUSA_FLEET_LOG_FILTER", "info,medusa_fleet=debug")
                .args(args)
                .envs(env.iter().copied())
        });
        Self(program.unwrap())
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.0.ended().unwrap().is_some()
    }

    /// Starts it again once it has ended, such as by [`Self::kill9`].
    pub fn start(&mut self) {
        assert!(self.has_ended(), "it is running");
        self.0.restart().unwrap();
    }

    /// Kills it with SIGKILL.
    pub fn kill9(&mut self) {
        self.assert_running();
        self.0.kill();
    }

    /// [`Self::kill9`] and [`Self::start`].
    pub fn restart(&mut self) {
        self.kill9();
        self.start();
    }

    /// Fails unless it is still the process that was started last.
    pub fn assert_running(&mut self) {
        let ended = self.0.ended().unwrap();
        assert!(ended.is_none(), "the controller ended: {ended:?}");
    }

    /// All it logged so far.
    pub fn log(&self) -> String {
        self.0.said()
    }

    /// Waits until it says that it is ready: every data plane is in its table and the first inventory stands.
    pub async fn ready(&self, since: usize) {
        eventually("the controller is ready", async || {
            let log = self.log();
            let news = log.get(since..).unwrap_or_default();
            let address = news.rsplit_once("bound=").and_then(|(_, rest)| rest.split_whitespace().next());
            let address = address.ok_or_else(|| "it serves nothing yet".to_owned())?;
            let answer = answer_of(address, "GET", "/readyz", "").map_err(|error| error.to_string())?;
            if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(answer) }
        })
        .await;
    }
}

/// The whole answer to one request without TLS.
pub fn answer_of(address: &str, method: &str, path: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
