//! Two control planes with `--leader-elect`: one acts, the other takes over when it dies and when it hangs, and a run
//! under way ends once.

use std::{path::Path, process::ExitStatus};

use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt as _;
use medusa_fleet::api::{fleet::Phase, medusa::MedusaBackupJob};
use serde_json::json;

use crate::support::{
    CASS, FLEET, Fleet, answer_of, backup_job, datacenter, eventually, finish,
    harness::{BINARY, Program},
    rights,
};

/// One of several control planes of a fleet.
pub struct Replica {
    pub program: Program,
}

impl Replica {
    pub fn start(fleet: &Fleet, name: &str) -> Self {
        Self::start_with(fleet, name, &[])
    }

    /// One with more arguments.
    pub fn start_with(fleet: &Fleet, name: &str, more: &[&str]) -> Self {
        Self::start_as(fleet, name, &rights::kubeconfig_file(fleet.home()), more)
    }

    /// One that reaches its cluster by another kubeconfig.
    pub fn start_by(fleet: &Fleet, name: &str, kubeconfig: &Path) -> Self {
        Self::start_as(fleet, name, kubeconfig, &[])
    }

    fn start_as(fleet: &Fleet, name: &str, kubeconfig: &Path, more: &[&str]) -> Self {
        let log = fleet.dir().join(format!("{name}.log"));
        let program = Program::start(BINARY, log, |command| {
            let args = ["control-plane", "--leader-elect", "--metrics-addr", "127.0.0.1:0"];
            command.arg("--kubeconfig").arg(kubeconfig).args(args).args(more)
        });
        Self { program: program.unwrap() }
    }

    pub fn log(&self) -> String {
        self.program.said()
    }

    /// Waits until its log has that line.
    pub async fn says(&self, words: &str) {
        eventually(format!("{} says `{words}`", self.program.log.display()), async || {
            let log = self.log();
            if log.lines().any(|line| line.contains(words)) { Ok(()) } else { Err(log) }
        })
        .await;
    }

    pub fn leads(&self) -> bool {
        self.log().lines().any(|line| line.contains(" leading"))
    }

    /// The answer to a request for that path; nothing when it does not serve (any more).
    pub fn answer(&self, path: &str) -> Option<String> {
        let log = self.log();
        let (_, rest) = log.rsplit_once("bound=")?;
        answer_of(rest.split_whitespace().next()?, "GET", path, "").ok()
    }

    /// Whether it says that it leads at this moment.
    pub fn is_leader(&self) -> bool {
        self.answer("/metrics")
            .is_some_and(|metrics| metrics.lines().any(|line| line == "medusa_fleet_leader 1"))
    }

    /// Waits until it ends by itself.
    pub async fn ends(&mut self) -> ExitStatus {
        eventually("it ends", async || self.program.ended().unwrap().ok_or("it runs")).await
    }
}

async fn holder(fleet: &Fleet) -> String {
    let lease: Lease = fleet.home().get(FLEET, "medusa-fleet-control-plane").await;
    lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default()
}

/// The children of a run, one in each data plane.
async fn children(fleet: &Fleet, run: &str) -> Vec<MedusaBackupJob> {
    eventually(format!("{run} has its children"), async || {
        let mut found = Vec::new();
        for number in [1, 2] {
            let jobs = fleet.dp(number).list::<MedusaBackupJob>(CASS).await;
            found.extend(jobs.into_iter().filter(|job| job.labels()["fleet.k8ssandra.io/job"] == run));
        }
        if found.len() == 2 { Ok(found) } else { Err(format!("{} children", found.len())) }
    })
    .await
}

/// Ends the children, and waits until the run ended well with these very children.
async fn ends_once(fleet: &Fleet, run: &str, before: &[MedusaBackupJob]) {
    for (number, child) in (1..).zip(before) {
        finish(fleet.dp(number), child).await;
    }
    let status = fleet.expect_phase(run, Phase::Succeeded).await.status.unwrap();
    assert_eq!(status.run.done.as_deref(), Some("2/2"));
    let uids = |jobs: &[MedusaBackupJob]| jobs.iter().map(MedusaBackupJob::uid).collect::<Vec<_>>();
    assert_eq!(uids(&children(fleet, run).await), uids(before), "made anew");
}

async fn posts(fleet: &Fleet, number: usize) -> u64 {
    fleet.dp(number).writes("medusabackupjobs").await.get("POST").copied().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_control_planes_acts_and_the_other_takes_over() {
    let fleet = Fleet::start(2).await;
    let home = fleet.home();
    let mut first = Replica::start(&fleet, "first");
    first.says(" leading").await;
    let mut second = Replica::start(&fleet, "second");
    second.says("waiting to lead").await;
    fleet.register_all().await;
    for number in [1, 2] {
        fleet.dp(number).create(datacenter(&format!("dc{number}"), "shop", 1)).await;
    }
    home.create(backup_job("quiet", json!({}))).await;
    let of_quiet = children(&fleet, "quiet").await;
    ends_once(&fleet, "quiet", &of_quiet).await;
    assert!(!second.leads(), "both lead");
    for number in [1, 2] {
        assert_eq!(posts(&fleet, number).await, 1, "two asked for the same");
    }

    // The leader is killed while a run goes on.
    home.create(backup_job("killed", json!({}))).await;
    let of_killed = children(&fleet, "killed").await;
    let led = holder(&fleet).await;
    first.program.kill();
    second.says(" leading").await;
    assert_ne!(holder(&fleet).await, led);
    ends_once(&fleet, "killed", &of_killed).await;
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;

    // The leader hangs while a run goes on, and awakes when another has ended it.
    let third = Replica::start(&fleet, "third");
    third.says("waiting to lead").await;
    home.create(backup_job("hung", json!({}))).await;
    let of_hung = children(&fleet, "hung").await;
    second.program.signal("STOP").unwrap();
    assert!(!third.leads(), "it took over from one that led");
    third.says(" leading").await;
    ends_once(&fleet, "hung", &of_hung).await;
    second.program.signal("CONT").unwrap();
    let ended = second.ends().await;
    assert!(!ended.success(), "{ended}");
    assert!(second.log().contains("leadership was lost"), "{}", second.log());
    home.create(backup_job("last", json!({}))).await;
    let of_last = children(&fleet, "last").await;
    ends_once(&fleet, "last", &of_last).await;
    for run in ["quiet", "killed", "hung", "last"] {
        assert_eq!(children(&fleet, run).await.len(), 2, "{run}");
    }
}
