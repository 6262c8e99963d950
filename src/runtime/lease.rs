//! Takes part in the election that `election.rs` decides, over a Lease in the cluster.
//!
//! Every write is made over the version it was decided on, so of two that want the Lease at once one is refused. The
//! client in here is the only one that writes without the fence.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ObjectMeta, PostParams},
};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    cause::{self, Denier},
    clock,
    election::{DURATION, Election, GIVEN_BACK, RENEW_EVERY, RENEW_WITHIN, Record, Step, renewed},
    fence::Fence,
    http::Readiness,
};
use crate::api::labels;

/// Longest one request about the Lease may take: two fit between a renewal and its deadline.
const REQUEST: Duration = Duration::from_secs(3);
/// Pause after a renewal that was not answered.
const AGAIN: Duration = Duration::from_millis(500);
const _: () = assert!(
    RENEW_EVERY.as_millis() + 2 * REQUEST.as_millis() + AGAIN.as_millis() < RENEW_WITHIN.as_millis(),
    "one renewal that is not answered must not end a leader"
);
/// How long a leader that leaves waits for its writes under way before the Lease is left to run out.
const PARTING: Duration = Duration::from_secs(5);

/// A name that no other process has: the pod's, and what tells its processes apart.
#[must_use]
pub fn identity() -> String {
    // In a pod, the pod's name.
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "medusa-fleet" } else { host.trim() };
    let mut random = RandomState::new().build_hasher();
    random.write_u32(std::process::id());
    format!("{host}_{:016x}", random.finish())
}

/// An election, and what this process does in it.
pub struct Candidate {
    leases: Api<Lease>,
    name: String,
    election: Election,
    fence: Fence,
    readiness: Readiness,
    /// What `election` counts times from.
    origin: Instant,
    /// The Lease as it was last seen or written.
    current: Option<Lease>,
    /// What was last said to stand in the way.
    told: String,
}

/// Why a request about the Lease brought nothing.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("no answer within {} s", REQUEST.as_secs())]
    TimedOut,
    #[error(transparent)]
    Kube(#[from] kube::Error),
}

impl Failed {
    fn code(&self) -> Option<u16> {
        match self {
            Self::Kube(kube::Error::Api(status)) => Some(status.code),
            Self::Kube(_) | Self::TimedOut => None,
        }
    }

    fn is_of_terminating_namespace(&self) -> bool {
        match self {
            Self::Kube(kube::Error::Api(status)) => {
                cause::denied(status).is_some_and(|(denier, _)| denier == Denier::Terminating)
            }
            Self::Kube(_) | Self::TimedOut => false,
        }
    }
}

/// Leadership held by this process; it ends when it is dropped, at the latest when its last renewal is too old.
pub struct Leadership {
    lost: CancellationToken,
    keeper: JoinHandle<Candidate>,
    stop: DropGuard,
}

impl Candidate {
    /// A candidate for Lease `name`. `client` must not pass `fence`, which is lifted while this process leads;
    /// `readiness` hears of every answer. `is_first` says that nobody can have led before.
    #[must_use]
    pub fn new(
        client: Client,
        (namespace, name): (&str, &str),
        is_first: bool,
        fence: Fence,
        readiness: Readiness,
    ) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            name: name.to_owned(),
            election: Election::new(identity(), is_first),
            fence,
            readiness,
            origin: Instant::now(),
            current: None,
            told: String::new(),
        }
    }

    /// Waits until this process leads; `None` when `shutdown` comes first. What stands in the way is logged, and tried
    /// again.
    pub async fn lead(mut self, shutdown: &CancellationToken) -> Option<Leadership> {
        tracing::info!(lease = self.name, identity = self.election.me(), "waiting to lead");
        loop {
            tokio::select! {
                () = self.campaign() => {}
                () = shutdown.cancelled() => return None,
            }
            if self.fence.is_up() {
                break;
            }
            // Also one that won, and learned of it too late.
            self.election.rest();
            tokio::select! {
                () = tokio::time::sleep(RENEW_EVERY) => {}
                () = shutdown.cancelled() => return None,
            }
        }
        tracing::info!(lease = self.name, "leading");
        let (lost, stop) = (CancellationToken::new(), CancellationToken::new());
        // A task of its own: nothing this process does may keep it from renewing.
        let keeper = tokio::spawn(self.keep(lost.clone(), stop.clone()));
        Some(Leadership { lost, keeper, stop: stop.drop_guard() })
    }

    /// Looks at the Lease, and takes it when it may be taken.
    async fn campaign(&mut self) {
        if let Err(error) = self.look().await {
            // Somebody else was first.
            if error.code() != Some(409) {
                self.tell(&error);
            }
        }
    }

    /// Renews until it cannot, or `stop`.
    async fn keep(mut self, lost: CancellationToken, stop: CancellationToken) -> Self {
        let mut pause = RENEW_EVERY;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return self,
            }
            let left = self.election.leads_until().unwrap_or_default().saturating_sub(self.origin.elapsed());
            pause = match tokio::time::timeout(left, self.renew()).await {
                Ok(Ok(())) => RENEW_EVERY,
                Ok(Err(error)) => {
                    self.tell(&error);
                    AGAIN
                }
                Err(_) => AGAIN,
            };
            if !self.fence.is_up() {
                self.fence.close();
                lost.cancel();
                return self;
            }
        }
    }

    async fn renew(&mut self) -> Result<(), Failed> {
        match self.carry_out(self.election.renewal()).await {
            // Somebody wrote or deleted it; that may have been a write of ours whose answer was lost.
            Err(error) if matches!(error.code(), Some(404 | 409)) => self.look().await,
            other => other,
        }
    }

    async fn look(&mut self) -> Result<(), Failed> {
        self.current = self.ask(self.leases.get_opt(&self.name)).await?;
        let step = self.election.read(self.current.as_ref().map(record), self.origin.elapsed());
        self.carry_out(step).await
    }

    async fn carry_out(&mut self, step: Step) -> Result<(), Failed> {
        let mine = lease(&self.name, self.election.me(), self.current.as_ref());
        let params = PostParams::default();
        let sent = Instant::now();
        let written = match step {
            Step::Wait => return Ok(()),
            Step::Lost => {
                self.fence.close();
                let holder = self.current.as_ref().map(|lease| record(lease).holder);
                tracing::warn!(lease = self.name, holder, "another holds the Lease, or it is gone");
                return Ok(());
            }
            Step::Create => {
                let made = self.ask(self.leases.create(&params, &mine)).await?;
                let step = self.election.read(Some(record(&made)), self.origin.elapsed());
                self.current = Some(made);
                // At once where it may lead: by a write over what was made.
                return Box::pin(self.carry_out(step)).await;
            }
            Step::Write(_) => self.ask(self.leases.replace(&self.name, &params, &mine)).await?,
        };
        self.election.wrote(record(&written), sent.saturating_duration_since(self.origin));
        self.current = Some(written);
        self.fence.lift(sent + RENEW_WITHIN);
        self.told.clear();
        Ok(())
    }

    async fn ask<T>(&self, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Failed> {
        let answer = match tokio::time::timeout(REQUEST, request).await {
            Ok(answer) => answer.map_err(Failed::from),
            Err(_) => Err(Failed::TimedOut),
        };
        if answer.is_ok() {
            self.readiness.answered();
        }
        answer
    }

    /// Says once what stands in the way.
    fn tell(&mut self, error: &Failed) {
        let why = match error.code() {
            Some(403) if error.is_of_terminating_namespace() => {
                format!("{error}; nobody leads in a namespace that is being deleted")
            }
            Some(403) => format!("{error}; grant get, create and update on `leases` in the namespace"),
            Some(404) => format!("{error}; does the namespace exist?"),
            _ => error.to_string(),
        };
        if self.told != why {
            tracing::warn!(lease = self.name, "cannot read or write the Lease: {why}");
            self.told = why;
        }
    }

    /// Gives the Lease back, so that the next leads at once: only when every write of ours was answered, as one that is
    /// still on its way could be carried out under the next leader.
    async fn release(self) {
        if !self.fence.drain(PARTING).await {
            return;
        }
        let mut lease = lease(&self.name, "", self.current.as_ref());
        if let Some(spec) = &mut lease.spec {
            spec.lease_duration_seconds = i32::try_from(GIVEN_BACK.as_secs()).ok();
        }
        match self.ask(self.leases.replace(&self.name, &PostParams::default(), &lease)).await {
            Ok(_) => tracing::info!(lease = self.name, "gave the Lease back"),
            Err(error) => tracing::info!(lease = self.name, %error, "the Lease is left to run out"),
        }
    }
}

impl Leadership {
    /// Waits until `held` is lost; for ever where there is no election.
    pub async fn lost_of(held: Option<&Self>) {
        match held {
            Some(leadership) => leadership.lost().await,
            None => std::future::pending().await,
        }
    }

    /// Waits until it is lost. By then no write of this process passes any more.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Gives it back, once the writes under way are answered; without a request when it is lost.
    pub async fn release(self) {
        drop(self.stop);
        if let Ok(candidate) = self.keeper.await
            && !self.lost.is_cancelled()
        {
            candidate.release().await;
        }
    }
}

/// What a Lease says.
fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0);
    Record {
        uid: lease.uid().unwrap_or_default(),
        version: lease.resource_version().unwrap_or_default(),
        holder: spec.holder_identity.unwrap_or_default(),
        renewed: spec.renew_time.map(|time| time.0.as_microsecond()),
        transitions: spec.lease_transitions.unwrap_or_default(),
        duration: Duration::from_secs(seconds),
    }
}

/// The Lease as `me` writes it over `before`: over that version, and with what others put on it.
fn lease(name: &str, me: &str, before: Option<&Lease>) -> Lease {
    let now = clock::now();
    let over = before.map(record);
    let at = renewed(over.as_ref().and_then(|over| over.renewed), now.as_microsecond());
    let at = MicroTime(Timestamp::from_microsecond(at).unwrap_or(now));
    let is_new = over.as_ref().is_none_or(|over| over.holder != me);
    let acquired = before.and_then(|lease| lease.spec.as_ref()?.acquire_time.clone()).filter(|_| !is_new);
    let taken = i32::from(is_new && !me.is_empty());
    let mut metadata = before.map(|lease| lease.metadata.clone()).unwrap_or_default();
    // For readers: which version leads. Nothing here goes by it.
    let said = metadata.annotations.get_or_insert_default();
    said.insert(labels::LEADER.to_owned(), format!("{me} {}", env!("CARGO_PKG_VERSION")));
    Lease {
        metadata: ObjectMeta { name: Some(name.to_owned()), managed_fields: None, ..metadata },
        spec: Some(LeaseSpec {
            acquire_time: Some(acquired.unwrap_or_else(|| at.clone())),
            holder_identity: Some(me.to_owned()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            lease_transitions: Some(over.map_or(0, |over| over.transitions.saturating_add(taken))),
            renew_time: Some(at),
            ..LeaseSpec::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_says_which_version_leads_beside_what_others_put_on_it() {
        let mut before = lease("l", "me", None);
        assert_eq!(before.annotations()[labels::LEADER], concat!("me ", env!("CARGO_PKG_VERSION")));
        before.annotations_mut().insert("team".to_owned(), "ops".to_owned());
        let next = lease("l", "other", Some(&before));
        assert_eq!(next.annotations()[labels::LEADER], concat!("other ", env!("CARGO_PKG_VERSION")));
        assert_eq!(next.annotations()["team"], "ops");
    }
}
