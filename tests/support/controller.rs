//! The control plane's controller: the real binary.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
};

use jiff::Timestamp;
use medusa_fleet::runtime::wire::NO_RIGHT;

use super::{
    Cluster, Fleet, eventually,
    fleet::Starts,
    harness::{BINARY, Program},
    rights,
};

/// What every write to fails for want of room, and every read from is endless.
const FULL: &str = "/dev/full";

/// A running controller, or one that was killed and can be started again. It has the rights that are shipped: that they
/// are not enough for something fails the test.
pub struct ControlPlane {
    program: Program,
    /// Where its log begins: another may have written there before.
    from: usize,
    /// When refusals mean nothing.
    starts: Starts,
    lacks_rights: bool,
}

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

    /// Starts it in any cluster for which [`rights::at_home`] was called.
    pub fn spawn_at(log: &Path, cluster: &Cluster, args: &[&str]) -> Self {
        Self::spawn_by(log, &rights::kubeconfig_file(cluster), Starts::default(), args, &[])
    }

    fn spawn_to(log: &Path, fleet: &Fleet, args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::spawn_by(log, &rights::kubeconfig_file(fleet.home()), fleet.starts(), args, env)
    }

    fn spawn_by(log: &Path, kubeconfig: &Path, starts: Starts, args: &[&str], env: &[(&str, &str)]) -> Self {
        let from = std::fs::metadata(log).map_or(0, |log| usize::try_from(log.len()).unwrap());
        let program = Program::start(BINARY, log, |command| {
            command
                .arg("--kubeconfig")
                .arg(kubeconfig)
                .args(["control-plane", "--metrics-addr", "127.0.0.1:0"])
                .env("MEDUSA_FLEET_LOG_FILTER", "info,medusa_fleet=debug")
                .args(args)
                .envs(env.iter().copied())
        });
        Self { program: program.unwrap(), from, starts, lacks_rights: false }
    }

    /// From here on the test takes rights away: refusals are what it is about.
    pub fn lacks_rights(&mut self) {
        self.assert_rights_do();
        self.lacks_rights = true;
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.program.ended().unwrap().is_some()
    }

    /// Starts it again once it has ended, such as by [`Self::kill9`].
    pub fn start(&mut self) {
        assert!(self.has_ended(), "it is running");
        self.program.restart().unwrap();
    }

    /// Kills it with SIGKILL.
    pub fn kill9(&mut self) {
        self.assert_running();
        self.program.kill();
    }

    /// [`Self::kill9`] and [`Self::start`].
    pub fn restart(&mut self) {
        self.kill9();
        self.start();
    }

    /// Fails unless it is still the process that was started last.
    pub fn assert_running(&mut self) {
        let ended = self.program.ended().unwrap();
        assert!(ended.is_none(), "the controller ended: {ended:?}");
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// All it logged so far.
    pub fn log(&self) -> String {
        self.program.said()
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

    /// Fails where an API server has refused it something for want of rights.
    fn assert_rights_do(&self) {
        let log = self.program.said();
        let news = log.get(self.from..).unwrap_or_default();
        let starts = self.starts.lock().unwrap();
        let is_of_a_start = |line: &str| {
            let at = line.split(' ').next().and_then(|at| at.parse::<Timestamp>().ok());
            at.is_some_and(|at| starts.iter().any(|(from, until)| (*from..=*until).contains(&at)))
        };
        let refused: Vec<&str> = news
            .lines()
            .filter(|line| line.contains(NO_RIGHT) && !is_asked_first(line) && !is_of_a_start(line))
            .collect();
        assert!(refused.is_empty(), "the shipped rights do not do: {refused:#?}");
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if !self.lacks_rights && !std::thread::panicking() {
            self.assert_rights_do();
        }
    }
}

/// Whether a line of the log is about what is asked first wherever it connects. An API server that has just started refuses
/// it until it has read the roles; that it is granted shows in every other request.
fn is_asked_first(line: &str) -> bool {
    let path = line.split_once("path=\"").and_then(|(_, rest)| rest.split('"').next()).unwrap_or_default();
    match path.trim_start_matches('/').split('/').collect::<Vec<_>>().as_slice() {
        ["version" | "api" | "apis"] | ["api", "v1"] | ["apis", _] | ["apis", _, _] => true,
        other => *other == ["api", "v1", "namespaces", "kube-system"],
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
