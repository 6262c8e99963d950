//! What the storage holds, as one pod's Medusa lists it.
//!
//! The pods are asked one after another: the next one when the last has failed, or has taken long. The first listing
//! counts. Asking GetBackup for each name instead would list the whole index once a name and tell absence by the wording
//! of an error.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use jiff::Timestamp;

use super::{
    pod::{Pod, Trouble},
    status,
};
use crate::{
    api::{Reason, cassandra::CassandraDatacenter},
    data_plane::{
        frame::{
            context::Tools,
            timings::{Timings, after},
        },
        medusa::{
            calls::PodCalls,
            client::{Medusa, proto::BackupSummary},
            inputs::Inputs,
            pods::PodView,
        },
    },
};

/// Most pods asked at a time.
const MAX_CALLS: usize = 4;

type List = Vec<BackupSummary>;

/// A question to the pods of one datacenter, in memory.
pub struct Listing(PodCalls<Pod<List>>);

impl Listing {
    /// Nobody is asked yet. It has to be answered within the time a run that began at `started` has.
    #[must_use]
    pub fn new(inputs: Inputs, started: Timestamp, now: Timestamp) -> Self {
        Self(PodCalls::new(inputs, started, MAX_CALLS, now))
    }

    /// The datacenter.
    #[must_use]
    pub fn datacenter(&self) -> &CassandraDatacenter {
        &self.0.medusas.datacenter
    }

    /// Forgets the calls under way.
    pub fn hang_up(&mut self) {
        self.0.hang_up();
    }

    /// Every pod with a Medusa, in turn; `last` comes last, the ready ones first.
    pub fn ask_all(&mut self, last: Option<&str>, timings: &Timings, now: Timestamp) {
        let mut pods: Vec<&PodView> = self.0.medusas.pods.values().filter(|p| p.has_medusa).collect();
        pods.sort_by_key(|p| (Some(p.name.as_str()) == last, p.ready_since.is_none()));
        let turn = |(n, pod): (u32, &&PodView)| {
            (pod.name.clone(), Pod::new(after(now, timings.list_hedge.saturating_mul(n))))
        };
        self.0.states = (0..).zip(&pods).map(turn).collect();
    }

    /// Asks until a pod has answered, or none will. Returns when to go on, or nothing once it is over.
    pub async fn ask(&mut self, tools: &Tools) -> Option<Duration> {
        loop {
            let call = |_: &str, medusa: Arc<Medusa>, (): ()| -> BoxFuture<'static, Result<List, Trouble>> {
                Box::pin(async move { medusa.summaries().await.map_err(Trouble::from) })
            };
            let is_over = |calls: &PodCalls<Pod<List>>| {
                calls.states.values().any(|pod| pod.result().is_some()) || calls.is_decided()
            };
            let pause = self.0.gather(tools, call, is_over).await?;
            // Nobody waits for a turn while nobody is being asked. Each turn comes once, so this ends.
            let (now, is_idle) = (tools.clock.now(), self.0.is_idle());
            let waits = |pod: &Pod<List>| pod.waits_until().is_some_and(|turn| turn > now);
            let waiting = self.0.states.values_mut().filter(|pod| waits(pod));
            match waiting.min_by_key(|pod| pod.waits_until()).filter(|_| is_idle) {
                Some(pod) => pod.hurry(now),
                None => return Some(pause),
            }
        }
    }

    /// The pod that answered, and its listing.
    #[must_use]
    pub fn answer(&self) -> Option<(String, List)> {
        self.0.states.iter().find_map(|(name, pod)| Some((name.clone(), pod.result()?.clone())))
    }

    /// Nobody has answered: the pods, and why, for machines and for people.
    #[must_use]
    pub fn silence(&self) -> (Vec<String>, Reason, String) {
        let pods = self.0.states.keys().cloned().collect();
        let (reason, why) = status::verdict(&self.0.states)
            .unwrap_or_else(|| (Reason::NoPods, "no pod with Medusa is left to ask".to_owned()));
        (pods, reason, format!("the storage could not be listed: {why}"))
    }
}
