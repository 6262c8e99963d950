//! A sync: the storage is listed, what that means is planned, and the plan is carried out.
//!
//! ```text
//! known (reads) ──> listing (gRPC) ──> plan (pure) ──> second listing, if something is to go ──> changes (writes)
//! ```
//!
//! The second listing is asked of another pod first: while a changed configuration reaches the pods one by one, a single
//! pod may already look into another place.
//!
//! After a crash everything is done anew; each change is harmless to repeat.

use std::{collections::VecDeque, time::Duration};

use jiff::Timestamp;
use kube::Client;

use super::{
    apply::{self, Applied},
    listing::Listing,
    status,
    sync_plan::{Known, SyncChange, SyncPlan, plan},
};
use crate::{
    api::{Reason, medusa::MedusaTaskStatus},
    data_plane::{
        frame::{context::Tools, lifecycle::Progress, objects},
        medusa::inputs::Inputs,
    },
};

/// A sync under way, in memory.
pub struct Sync {
    listing: Listing,
    known: Option<Known>,
    stage: Stage,
}

enum Stage {
    /// The storage is listed for the first time.
    Listing,
    /// The storage is listed again, as something is to be removed.
    Confirming { first: String, plan: SyncPlan },
    /// The plan is carried out.
    Applying { first: String, plan: SyncPlan, left: VecDeque<SyncChange>, done: Applied },
}

impl Sync {
    /// A sync of the datacenter in `inputs`, which began at `started`.
    #[must_use]
    pub fn new(inputs: Inputs, started: Timestamp, now: Timestamp) -> Self {
        Self { listing: Listing::new(inputs, started, now), known: None, stage: Stage::Listing }
    }

    /// Goes on for at most about one pass's time. When it is over, the pods that it is about are in the lists of `status`.
    ///
    /// # Errors
    /// When the API server cannot be asked or refuses.
    pub async fn pass(
        &mut self,
        tools: &Tools,
        status: &mut MedusaTaskStatus,
    ) -> Result<Progress, kube::Error> {
        let namespace = self.listing.datacenter().metadata.namespace.clone().unwrap_or_default();
        if self.known.is_none() {
            // Before the storage is listed: see `sync_plan`.
            self.known = Some(read(&tools.client, &namespace).await?);
            self.listing.ask_all(None, &tools.timings, tools.clock.now());
        }
        if !matches!(self.stage, Stage::Applying { .. })
            && let Some(pause) = self.listing.ask(tools).await
        {
            return Ok(Progress::Later(pause));
        }
        if let Stage::Listing = self.stage {
            let Some((first, list)) = self.listing.answer() else {
                let (pods, reason, why) = self.listing.silence();
                status.failed = pods;
                return Ok(Progress::Over(Err((reason, why))));
            };
            let known = self.known.clone().unwrap_or_default();
            let plan = plan(&list, &known, self.listing.datacenter());
            tracing::info!(namespace, pod = first, listed = list.len(), "the storage is listed");
            self.listing.hang_up();
            if plan.removals.is_empty() {
                self.apply(first, plan);
            } else {
                self.listing.ask_all(Some(&first), &tools.timings, tools.clock.now());
                self.stage = Stage::Confirming { first, plan };
                return Ok(Progress::Later(Duration::ZERO));
            }
        }
        if let Stage::Confirming { first, plan } = &self.stage {
            let first = first.clone();
            let second = self.listing.answer();
            let plan = plan.clone().confirm(&first, second.as_ref().map(|(_, list)| list.as_slice()));
            self.listing.hang_up();
            self.apply(first, plan);
        }
        self.carry_out(tools, &namespace, status).await
    }

    fn apply(&mut self, first: String, plan: SyncPlan) {
        let left = plan.changes.iter().chain(&plan.removals).cloned().collect();
        self.stage = Stage::Applying { first, plan, left, done: Applied::default() };
    }

    async fn carry_out(
        &mut self,
        tools: &Tools,
        namespace: &str,
        status: &mut MedusaTaskStatus,
    ) -> Result<Progress, kube::Error> {
        let Stage::Applying { first, plan, left, done } = &mut self.stage else {
            return Ok(Progress::Later(Duration::ZERO));
        };
        let end = tokio::time::Instant::now() + tools.timings.pass;
        while let Some(change) = left.front() {
            apply::change(&tools.client, namespace, change, done).await?;
            left.pop_front();
            if tokio::time::Instant::now() >= end && !left.is_empty() {
                return Ok(Progress::Later(Duration::ZERO));
            }
        }
        let outcome = outcome(first, plan, done);
        match &outcome {
            Ok(_) => status.finished = vec![status::done(first)],
            Err(_) => status.failed = vec![first.clone()],
        }
        Ok(Progress::Over(outcome))
    }
}

/// What the sync that listed the storage by pod `first` did, or why it failed all the same.
fn outcome(first: &str, plan: &SyncPlan, done: &Applied) -> Result<String, (Reason, String)> {
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
        return Err((Reason::BackupsNotListed, format!("{doubt}. {told}")));
    }
    if let Some(refused) = &done.refused {
        return Err((Reason::WriteRefused, format!("{refused}. {told}")));
    }
    Ok(told)
}

async fn read(client: &Client, namespace: &str) -> Result<Known, kube::Error> {
    let mut others = Vec::new();
    let backups = objects::readable(client, namespace, &mut others).await?;
    let jobs = objects::readable(client, namespace, &mut others).await?;
    let unreadable = others.iter().map(|work| work.name().to_owned()).collect();
    Ok(Known { backups, jobs, unreadable })
}
