//! A sync: the storage is listed, what that means is planned, and the plan is carried out.
//!
//! ```text
//! known (reads) ──> listing (gRPC) ──> plan (pure) ──> second listing, if something is to go ──> changes (writes)
//! ```
//!
//! The pods are asked one after another: the next one when the last has failed, or has taken long. The
//! second listing is asked of another pod first: during a change of configuration one pod may look into
//! another place already. Asking GetBackup for each name instead would list the whole index once a name and
//! tell absence by the wording of an error.
//!
//! After a crash everything is done anew; each change is harmless to repeat.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::{Api, Client, api::ListParams};

use super::{
    apply::{self, Applied},
    pod::{Pod, Trouble},
    status,
    sync_plan::{Change, Known, Plan, plan},
};
use crate::{
    api::{
        Reason,
        medusa::{MedusaBackup, MedusaBackupJob},
    },
    data_plane::{
        context::Tools,
        medusa::{Medusa, proto::BackupSummary},
        pods::PodView,
        round::Round,
        scene::Scene,
        timings::{Timings, after},
    },
};

/// Most pods asked at a time.
const MAX_CALLS: usize = 4;

type List = Vec<BackupSummary>;

/// A sync under way, in memory.
pub struct Sync {
    round: Round<Pod<List>>,
    known: Option<Known>,
    stage: Stage,
}

enum Stage {
    /// The storage is listed for the first time.
    Listing,
    /// The storage is listed again, as something is to be removed.
    Confirming { first: String, plan: Plan },
    /// The plan is carried out.
    Applying { first: String, plan: Plan, left: VecDeque<Change>, done: Applied },
}

/// What came of a pass.
#[derive(Debug, PartialEq)]
pub enum Synced {
    /// All is done: the pod that listed the storage, and what was done.
    Done(String, String),
    /// It is not, and will not be: the pods it is about, why, and what was done all the same.
    Failed(Vec<String>, Reason, String),
    /// It goes on after this long.
    Later(Duration),
}

impl Sync {
    /// A sync of the datacenter in `scene`, which began at `started`.
    #[must_use]
    pub fn new(scene: Scene, started: Timestamp, now: Timestamp) -> Self {
        Self { round: Round::new(scene, started, MAX_CALLS, now), known: None, stage: Stage::Listing }
    }

    /// Goes on for at most about one pass's time.
    ///
    /// # Errors
    /// When the API server cannot be asked or refuses.
    pub async fn pass(&mut self, tools: &Tools) -> Result<Synced, kube::Error> {
        let namespace = self.round.peers.datacenter.metadata.namespace.clone().unwrap_or_default();
        if self.known.is_none() {
            // Before the storage is listed: see `sync_plan`.
            self.known = Some(read(&tools.client, &namespace).await?);
            self.ask_all(None, &tools.timings, tools.clock.now());
        }
        if !matches!(self.stage, Stage::Applying { .. })
            && let Some(pause) = self.list(tools).await
        {
            return Ok(Synced::Later(pause));
        }
        if let Stage::Listing = self.stage {
            let Some((first, list)) = self.answer() else { return Ok(self.silence()) };
            let known = self.known.clone().unwrap_or_default();
            let plan = plan(&list, &known, &self.round.peers.datacenter);
            tracing::info!(namespace, pod = first, listed = list.len(), "the storage is listed");
            self.round.hang_up();
            if plan.removals.is_empty() {
                self.apply(first, plan);
            } else {
                self.ask_all(Some(&first), &tools.timings, tools.clock.now());
                self.stage = Stage::Confirming { first, plan };
                return Ok(Synced::Later(Duration::ZERO));
            }
        }
        if let Stage::Confirming { first, plan } = &self.stage {
            let first = first.clone();
            let second = self.answer();
            let plan = plan.clone().confirm(&first, second.as_ref().map(|(_, list)| list.as_slice()));
            self.round.hang_up();
            self.apply(first, plan);
        }
        self.carry_out(tools, &namespace).await
    }

    /// Asks until a pod has answered, or none will. Returns when to go on.
    async fn list(&mut self, tools: &Tools) -> Option<Duration> {
        loop {
            let call = |_: &str, medusa: Arc<Medusa>, (): ()| -> BoxFuture<'static, Result<List, Trouble>> {
                Box::pin(async move { medusa.summaries().await.map_err(Trouble::from) })
            };
            let is_over = |round: &Round<Pod<List>>| {
                round.parts.values().any(|pod| pod.result().is_some()) || round.is_decided()
            };
            let pause = self.round.gather(tools, call, is_over).await?;
            // Nobody waits for a turn while nobody is being asked. Each turn comes once, so this ends.
            let (now, is_idle) = (tools.clock.now(), self.round.is_idle());
            let waits = |pod: &Pod<List>| pod.waits_until().is_some_and(|turn| turn > now);
            let waiting = self.round.parts.values_mut().filter(|pod| waits(pod));
            match waiting.min_by_key(|pod| pod.waits_until()).filter(|_| is_idle) {
                Some(pod) => pod.hurry(now),
                None => return Some(pause),
            }
        }
    }

    /// Every pod with a Medusa, in turn; `last` comes last, the ready ones first.
    fn ask_all(&mut self, last: Option<&str>, timings: &Timings, now: Timestamp) {
        let mut pods: Vec<&PodView> = self.round.peers.pods.values().filter(|p| p.has_medusa).collect();
        pods.sort_by_key(|p| (Some(p.name.as_str()) == last, p.ready_since.is_none()));
        let turn = |(n, pod): (u32, &&PodView)| {
            (pod.name.clone(), Pod::new(after(now, timings.list_hedge.saturating_mul(n))))
        };
        self.round.parts = (0..).zip(&pods).map(turn).collect();
    }

    fn answer(&self) -> Option<(String, List)> {
        self.round.parts.iter().find_map(|(name, pod)| Some((name.clone(), pod.result()?.clone())))
    }

    /// Nobody has answered.
    fn silence(&self) -> Synced {
        let pods = self.round.parts.keys().cloned().collect();
        let (reason, why) = status::verdict(&self.round.parts)
            .unwrap_or_else(|| (Reason::NoPods, "no pod with Medusa is left to ask".to_owned()));
        Synced::Failed(pods, reason, format!("the storage could not be listed: {why}"))
    }

    fn apply(&mut self, first: String, plan: Plan) {
        let left = plan.changes.iter().chain(&plan.removals).cloned().collect();
        self.stage = Stage::Applying { first, plan, left, done: Applied::default() };
    }

    async fn carry_out(&mut self, tools: &Tools, namespace: &str) -> Result<Synced, kube::Error> {
        let Stage::Applying { first, plan, left, done } = &mut self.stage else {
            return Ok(Synced::Later(Duration::ZERO));
        };
        let end = tokio::time::Instant::now() + tools.timings.pass;
        while let Some(change) = left.front() {
            apply::change(&tools.client, namespace, change, done).await?;
            left.pop_front();
            if tokio::time::Instant::now() >= end && !left.is_empty() {
                return Ok(Synced::Later(Duration::ZERO));
            }
        }
        Ok(outcome(first, plan, done))
    }
}

fn outcome(first: &str, plan: &Plan, done: &Applied) -> Synced {
    let mut told = format!(
        "{} backups of this datacenter are in the storage, as listed by {first}; MedusaBackups: {} created, {} \
         refreshed, {} removed",
        plan.listed, done.created, done.refreshed, done.removed
    );
    let notes: Vec<&str> = plan.notes.iter().chain(&done.notes).map(String::as_str).collect();
    if !notes.is_empty() {
        told = format!("{told}; left alone: {}", notes.join("; "));
    }
    if let Some(doubt) = &plan.doubt {
        return Synced::Failed(vec![first.to_owned()], Reason::BackupsNotListed, format!("{doubt}. {told}"));
    }
    if let Some(refused) = &done.refused {
        return Synced::Failed(vec![first.to_owned()], Reason::WriteRefused, format!("{refused}. {told}"));
    }
    Synced::Done(first.to_owned(), told)
}

async fn read(client: &Client, namespace: &str) -> Result<Known, kube::Error> {
    let all = ListParams::default();
    let backups = Api::<MedusaBackup>::namespaced(client.clone(), namespace);
    let jobs = Api::<MedusaBackupJob>::namespaced(client.clone(), namespace);
    Ok(Known { backups: backups.list(&all).await?.items, jobs: jobs.list(&all).await?.items })
}
