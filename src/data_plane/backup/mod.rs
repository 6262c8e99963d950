//! MedusaBackupJob: one backup of one datacenter, from the job to the MedusaBackup.
//!
//! ```text
//! inputs ─── admit ──> own, claim ──> run: ask, start, ask … every node ──> closing ──> MedusaBackup ──> end
//! (reads)     (pure)    (writes)       (gRPC; node decides, pure)        (gRPC; summary judges)  (writes)
//! ```
//!
//! Claim and end are those of every kind (`frame/lifecycle.rs`). `finishTime` is the last write, after the MedusaBackup is
//! whole.
//!
//! A backup waits for a purge of its datacenter that is at work or was made before it (`turn.rs`).
//!
//! Nothing here may hold a worker for longer than a pass, run outside the reconciler's sight, or take a
//! silence for an answer.

mod admit;
mod closing;
pub mod node;
mod run;
mod status;
mod summary;
mod write;

use std::time::Duration;

use jiff::Timestamp;
use kube::Api;

pub use self::run::BackupRun;
use self::{closing::Closed, summary::Expected};
use super::task::admit::backup_may_begin;
use crate::{
    api::{
        medusa::{MedusaBackup, MedusaBackupJob, MedusaBackupJobStatus, MedusaBackupStatus},
        size,
    },
    data_plane::{
        frame::{
            context::{Context, Tools},
            lifecycle::{Begun, Life, PodsRun, Progress, Stored, claim, is_started},
            objects,
            problem::Obstacle,
            timings::since,
        },
        medusa::{
            inputs::{self, Inputs},
            pool::Pool,
        },
    },
};

impl PodsRun for BackupRun {
    type Object = MedusaBackupJob;
    type Shared = Pool;
    type Before = ();

    const PART: &'static str = "MedusaBackupJob";
    const ACTIONS: (&'static str, &'static str) = ("StartBackup", "FinishBackup");

    fn before() {}

    fn datacenter(job: &MedusaBackupJob) -> &str {
        &job.spec.cassandra_datacenter
    }

    fn kept_for(job: &MedusaBackupJob) -> Option<Duration> {
        let seconds = job.spec.ttl_seconds_after_finished?;
        Some(Duration::from_secs(u64::try_from(seconds).unwrap_or_default()))
    }

    async fn begin(
        ctx: &Context<Life<Self>>,
        job: &MedusaBackupJob,
        (): &mut (),
    ) -> Result<Begun<Self>, Obstacle> {
        let tools = &ctx.tools;
        let (namespace, name) = (objects::namespace(job), &job.spec.cassandra_datacenter);
        let inputs = Inputs::read(&tools.client, &ctx.shared, namespace, name).await?;
        let now = tools.clock.now();
        if is_started::<Self>(job) {
            tracing::info!(namespace, job = job.metadata.name, "takes over a backup");
            let job = objects::own(&tools.client, job, &inputs.datacenter).await?;
            return Ok(Begun::Running(Box::new(Self::new(&job, inputs, false, now))));
        }
        inputs::check(&inputs.datacenter, &inputs.pods)?;
        let backups = Api::<MedusaBackup>::namespaced(tools.client.clone(), namespace);
        if let Some(existing) = backups.get_opt(objects::name(job)).await? {
            admit::name_is_free(&existing, name)?;
        }
        let tasks = objects::all(&tools.client, namespace).await?;
        backup_may_begin(job, &tasks)?;
        let job = objects::own(&tools.client, job, &inputs.datacenter).await?;
        let pods: Vec<String> = inputs.pods.iter().map(|p| p.name.clone()).collect();
        let message = format!("backing up {} pods", pods.len());
        let note = format!("backup of {} pods of CassandraDatacenter `{name}` started", pods.len());
        let claimed = claim::<Self>(tools, &job, pods, (&message, &note), now).await?;
        Ok(Begun::Running(Box::new(Self::new(&claimed, inputs, true, now))))
    }

    fn stored(&mut self) -> &mut Stored<MedusaBackupJobStatus> {
        &mut self.stored
    }

    fn list(&self, status: &mut MedusaBackupJobStatus) {
        status::progress(status, &self.calls.states);
    }

    fn adopt(&mut self, now: Timestamp) {
        self.adopt_decisions(now);
    }

    /// Asks the nodes, and when all are decided, closes the backup.
    async fn go_on(&mut self, tools: &Tools, job: &MedusaBackupJob) -> Result<Progress, kube::Error> {
        if let Some(pause) = self.gather(tools).await {
            return Ok(Progress::Later(pause));
        }
        if let Some(failure) = status::verdict(&self.calls.states) {
            return Ok(Progress::Over(Err(failure)));
        }
        let medusas = self.medusas();
        let datacenter = self.calls.medusas.datacenter.clone();
        let (pods, started) = (self.calls.states.len(), self.calls.started);
        let expected = Expected { datacenter: &datacenter, pods, started };
        let backup = match self.closing.pass(tools, &self.name, &medusas, expected).await {
            Closed::Whole(backup) => backup,
            Closed::Short(reason, message) => return Ok(Progress::Over(Err((reason, message)))),
            Closed::Later(pause) => return Ok(Progress::Closing(pause)),
        };
        // The MedusaBackup first: whoever reads `finishTime` finds it.
        if let Err(obstacle) = write::backup(&tools.client, job, &datacenter, &backup).await {
            let problem = obstacle.problem()?;
            return Ok(Progress::Over(Err((problem.reason, problem.message))));
        }
        self.size = backup.total_size.as_deref().and_then(size::parse).unwrap_or_default();
        Ok(Progress::Over(Ok(told(&backup))))
    }

    fn count(run: Option<&Self>, tools: &Tools, job: &MedusaBackupJob, is_good: bool) {
        let good = run.filter(|_| is_good).map(|run| {
            let took = since(run.calls.started, tools.clock.now());
            (took.as_secs_f64(), run.size)
        });
        tools.metrics.ended(job, good);
    }
}

/// What a backup that went well did.
fn told(backup: &MedusaBackupStatus) -> String {
    format!(
        "{} nodes, {} files, {}",
        backup.total_nodes.unwrap_or_default(),
        backup.total_files.unwrap_or_default(),
        backup.total_size.as_deref().unwrap_or_default()
    )
}
