//! This process as one of the replicas: renews its Lease, and takes and gives back shards as `table.rs` decides.
//!
//! Every write is made over the version it was decided on, so of two that want a shard at once one is refused.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ObjectMeta, PostParams, Preconditions},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::table::{Role, Shard, ShardStep, Table, Unsaid};
use crate::{
    api::labels,
    control_plane::registry::reports::Held,
    runtime::{
        clock::Clock,
        election::{DURATION, RENEW_WITHIN},
        sync::lock,
    },
};

/// Pause between two renewals. Of three in a row one has to succeed.
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// Pause between two looks at what is to be done.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest one request may take.
const REQUEST: Duration = Duration::from_secs(3);
const _: () = assert!(2 * (RENEW_EVERY.as_millis() + REQUEST.as_millis()) < DURATION.as_millis());
/// Longest this process takes to give its shards back before it ends.
const PARTING: Duration = Duration::from_secs(5);
/// The beginning of 2026, in seconds since 1970.
const EPOCHS_SINCE: i64 = 1_767_225_600;
/// Beginning of the names of replicas' and shards' Leases.
const NAMES: (&str, &str) = ("medusa-fleet-replica-", "medusa-fleet-shard-");

/// The replicas of one control plane, as this one sees them.
pub struct Replicas {
    leases: Api<Lease>,
    /// The name of this one, which no other process has.
    me: String,
    /// In how many shards the data planes are.
    pub shards: u32,
    clock: Clock,
    /// What times are counted from.
    origin: Instant,
    table: Mutex<Table>,
    /// Told when the table changes.
    news: Arc<Notify>,
    held: watch::Sender<Held>,
    /// What it could not publish.
    unsaid: Mutex<Unsaid>,
}

/// Who holds a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The shard, with the replica's name and epoch.
    pub shard: Shard,
    /// What that replica could not publish.
    pub unsaid: Unsaid,
}

impl Replicas {
    /// This process as the replica `me`, one of those that hold so many shards. `client` passes no fence.
    #[must_use]
    pub fn new(client: Client, namespace: &str, me: String, shards: u32, clock: Clock) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            me,
            shards,
            clock,
            origin: Instant::now(),
            table: Mutex::default(),
            news: Arc::default(),
            held: watch::Sender::default(),
            unsaid: Mutex::default(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn me(&self) -> &str {
        &self.me
    }

    /// The shards that this process holds, from now on.
    #[must_use]
    pub fn held(&self) -> watch::Receiver<Held> {
        self.held.subscribe()
    }

    /// Who holds a shard, while that replica may be at work.
    #[must_use]
    pub fn holder(&self, shard: u32) -> Option<Holder> {
        let table = lock(&self.table);
        let shard = table.held(shard, self.origin.elapsed())?.clone();
        Some(Holder { unsaid: table.unsaid_by(&shard.holder), shard })
    }

    /// Has the next renewal say of which data planes this process cannot publish what it sees.
    pub fn leave_unsaid(&self, unsaid: Unsaid) {
        *lock(&self.unsaid) = unsaid;
    }

    /// Asks whether this process holds a shard in that epoch.
    ///
    /// # Errors
    /// When the API server does not answer or refuses.
    pub async fn holds(&self, shard: u32, epoch: i32) -> Result<bool, kube::Error> {
        let found = self.leases.get_opt(&format!("{}{shard}", NAMES.1)).await?;
        let spec = found.and_then(|lease| lease.spec).unwrap_or_default();
        Ok(spec.holder_identity.as_ref() == Some(&self.me) && spec.lease_transitions == Some(epoch))
    }

    /// Waits until something may be otherwise than before.
    pub async fn changed(&self) {
        self.news.notified().await;
    }

    /// Takes part until `stop`; then gives everything back.
    pub async fn run(&self, stop: CancellationToken) {
        let selector = watcher::Config::default().labels(labels::REPLICATION_LEASE);
        let mut events = watcher(self.leases.clone(), selector).default_backoff().boxed();
        let mut listing = BTreeSet::new();
        let mut renewed: Option<Instant> = None;
        let mut next = Instant::now();
        let mut told = String::new();
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = events.try_next() => match event {
                    Ok(Some(event)) => self.note(event, &mut listing),
                    Ok(None) => return,
                    Err(error) => self.tell(&mut told, &error.to_string()),
                },
                _ = looks.tick() => {
                    if Instant::now() >= next {
                        let sent = Instant::now();
                        match in_time(self.renew()).await {
                            Ok(()) => {
                                renewed = Some(sent);
                                told.clear();
                                next = sent + RENEW_EVERY;
                            }
                            Err(error) => self.tell(&mut told, &error),
                        }
                    }
                    // Who could not say that it is there counts as gone for the others.
                    if renewed.is_some_and(|sent| sent.elapsed() < RENEW_WITHIN) {
                        self.act(&mut told, next).await;
                        self.say(lock(&self.table).held_by(&self.me));
                    } else {
                        self.say(Held::new());
                    }
                }
                () = stop.cancelled() => break,
            }
        }
        self.say(Held::new());
        let _ = tokio::time::timeout(PARTING, self.part()).await;
    }

    fn say(&self, held: Held) {
        let is_news = self.held.send_if_modified(|before| {
            let is_news = *before != held;
            *before = held;
            is_news
        });
        if is_news {
            tracing::info!(shards = ?self.held.borrow().keys().collect::<Vec<_>>(), "shards held by this replica");
        }
    }

    fn tell(&self, told: &mut String, why: &str) {
        if told.as_str() != why {
            tracing::warn!(
                replica = self.me,
                "cannot take part with the other replicas: {why}; it is tried again. It needs get, list, watch, create, \
                 update and delete on `leases` in the namespace"
            );
            why.clone_into(told);
        }
    }

    fn note(&self, event: Event<Lease>, listing: &mut BTreeSet<(Role, String)>) {
        let now = self.origin.elapsed();
        let mut table = lock(&self.table);
        match event {
            Event::Init => listing.clear(),
            Event::InitDone => table.listed(&std::mem::take(listing), now),
            Event::InitApply(lease) => {
                if let Some(role) = role(&lease) {
                    table.note(&role, &lease, now);
                    listing.insert((role, lease.name_any()));
                }
            }
            Event::Apply(lease) => {
                if let Some(role) = role(&lease) {
                    table.note(&role, &lease, now);
                }
            }
            Event::Delete(lease) => {
                if let Some(role) = role(&lease) {
                    table.gone(&role, &lease.name_any(), now);
                }
            }
        }
        drop(table);
        self.news.notify_waiters();
    }

    fn took(&self, role: &Role, lease: &Lease) {
        lock(&self.table).note(role, lease, self.origin.elapsed());
        self.news.notify_waiters();
    }

    async fn renew(&self) -> Result<(), kube::Error> {
        let name = format!("{}{}", NAMES.0, short(&self.me));
        let before = self.leases.get_opt(&name).await?;
        let lease = self.lease(&name, before.as_ref(), Some(&self.me));
        let written = self.write(before.is_some(), &lease).await?;
        self.took(&Role::Replica, &written);
        Ok(())
    }

    async fn write(&self, is_there: bool, lease: &Lease) -> Result<Lease, kube::Error> {
        let params = PostParams::default();
        if is_there {
            self.leases.replace(&lease.name_any(), &params, lease).await
        } else {
            self.leases.create(&params, lease).await
        }
    }

    /// Carries out what is to be done now, but nothing more from `until` on: the rest is done after the next renewal.
    async fn act(&self, told: &mut String, until: Instant) {
        let steps = lock(&self.table).steps(&self.me, self.shards, self.origin.elapsed());
        for step in steps {
            if Instant::now() >= until {
                return;
            }
            let done = match &step {
                ShardStep::Take(shard) => in_time(self.take(*shard)).await,
                ShardStep::GiveBack(shard) => in_time(self.give_back(*shard)).await,
                ShardStep::Forget(lease, uid) => in_time(self.forget(lease, uid)).await,
            };
            if let Err(error) = done {
                self.tell(told, &error);
            }
        }
    }

    async fn take(&self, shard: u32) -> Result<(), kube::Error> {
        let name = format!("{}{shard}", NAMES.1);
        let before = self.leases.get_opt(&name).await?;
        if let Some(before) = &before {
            self.took(&Role::Shard(shard), before);
            // Somebody was first, of whom the watch did not tell yet.
            let held = lock(&self.table).held(shard, self.origin.elapsed()).is_some();
            if held {
                return Ok(());
            }
        }
        let lease = self.lease(&name, before.as_ref(), Some(&self.me));
        match self.write(before.is_some(), &lease).await {
            Ok(written) => self.took(&Role::Shard(shard), &written),
            Err(error) if is_conflict(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Gives a shard back, of which this process watches nothing any more then.
    async fn give_back(&self, shard: u32) -> Result<(), kube::Error> {
        let mut held = self.held.borrow().clone();
        held.remove(&shard);
        self.say(held);
        let name = format!("{}{shard}", NAMES.1);
        let Some(before) = self.leases.get_opt(&name).await? else { return Ok(()) };
        let holder = before.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
        if holder != Some(self.me.as_str()) {
            return Ok(());
        }
        match self.write(true, &self.lease(&name, Some(&before), None)).await {
            Ok(written) => self.took(&Role::Shard(shard), &written),
            Err(error) if is_conflict(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn forget(&self, lease: &str, uid: &str) -> Result<(), kube::Error> {
        let preconditions = Preconditions { uid: Some(uid.to_owned()), ..Preconditions::default() };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self.leases.delete(lease, &params).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            deleted => deleted.map(drop),
        }
    }

    /// Gives everything back: the others need not wait until this process counts as gone.
    async fn part(&self) {
        let held = lock(&self.table).held_by(&self.me);
        for shard in held.into_keys() {
            if let Err(error) = in_time(self.give_back(shard)).await {
                tracing::info!(shard, "the shard is left to run out: {error}");
            }
        }
        let name = format!("{}{}", NAMES.0, short(&self.me));
        if let Ok(Some(lease)) = self.leases.get_opt(&name).await {
            let _ = self.forget(&name, &lease.uid().unwrap_or_default()).await;
        }
    }

    /// A Lease as this process writes it over `before`, for `holder`.
    fn lease(&self, name: &str, before: Option<&Lease>, holder: Option<&str>) -> Lease {
        let now = MicroTime(self.clock.now());
        let old = before.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let is_new = holder.is_some() && old.holder_identity.as_deref() != holder;
        let epoch = old.lease_transitions.unwrap_or_else(|| epoch_at(now.0));
        let mut metadata = before.map(|lease| lease.metadata.clone()).unwrap_or_default();
        let what = if name.starts_with(NAMES.0) { "replica" } else { "shard" };
        metadata.labels.get_or_insert_default().insert(labels::REPLICATION_LEASE.to_owned(), what.to_owned());
        let said = metadata.annotations.get_or_insert_default();
        said.insert(labels::LEADER.to_owned(), format!("{} {}", self.me, env!("CARGO_PKG_VERSION")));
        said.remove(labels::UNPUBLISHED);
        if let Some(unsaid) = lock(&self.unsaid).text().filter(|_| name.starts_with(NAMES.0)) {
            said.insert(labels::UNPUBLISHED.to_owned(), unsaid);
        }
        Lease {
            metadata: ObjectMeta { name: Some(name.to_owned()), managed_fields: None, ..metadata },
            spec: Some(LeaseSpec {
                acquire_time: old.acquire_time.filter(|_| !is_new).or_else(|| Some(now.clone())),
                holder_identity: Some(holder.unwrap_or_default().to_owned()),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                lease_transitions: Some(epoch.saturating_add(i32::from(is_new))),
                renew_time: Some(now),
                ..LeaseSpec::default()
            }),
        }
    }
}

/// What the transitions of a new Lease are counted from: more than those of one that was there before and was deleted, for
/// what its holders wrote bears theirs.
fn epoch_at(now: Timestamp) -> i32 {
    i32::try_from(now.as_second() - EPOCHS_SINCE).unwrap_or_default().max(0)
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// What a Lease stands for, by its name.
fn role(lease: &Lease) -> Option<Role> {
    let name = lease.name_any();
    if name.starts_with(NAMES.0) {
        return Some(Role::Replica);
    }
    name.strip_prefix(NAMES.1)?.parse().ok().map(Role::Shard)
}

/// What of a replica's name tells it from all others and fits into an object's.
fn short(me: &str) -> &str {
    me.rsplit_once('_').map_or(me, |(_, random)| random)
}

async fn in_time<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, String> {
    match tokio::time::timeout(REQUEST, request).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", REQUEST.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(name: &str) -> Replicas {
        let service = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            http::Response::builder().status(500).body(kube::client::Body::empty())
        });
        Replicas::new(Client::new(service, "fleet"), "fleet", name.to_owned(), 2, Clock::system())
    }

    #[tokio::test]
    async fn a_shard_that_changes_hands_counts_up_and_one_that_is_given_back_does_not() {
        let (a, b) = (replica("pod-a_0a"), replica("pod-b_0b"));
        let epoch = |lease: &Lease| lease.spec.as_ref().unwrap().lease_transitions.unwrap();
        let first = a.lease("medusa-fleet-shard-0", None, Some("pod-a_0a"));
        assert_eq!(role(&first), Some(Role::Shard(0)));
        let again = a.lease("medusa-fleet-shard-0", Some(&first), Some("pod-a_0a"));
        let back = a.lease("medusa-fleet-shard-0", Some(&again), None);
        let next = b.lease("medusa-fleet-shard-0", Some(&back), Some("pod-b_0b"));
        assert_eq!([&again, &back, &next].map(|lease| epoch(lease) - epoch(&first)), [0, 0, 1]);
        assert!(epoch(&first) > 1, "more than one that was deleted had come to");
        assert_eq!(back.spec.as_ref().unwrap().holder_identity.as_deref(), Some(""));
        assert_eq!(next.labels()[labels::REPLICATION_LEASE], "shard");
        let own = a.lease(&format!("{}{}", NAMES.0, short(a.me())), None, Some(a.me()));
        assert_eq!((own.name_any().as_str(), role(&own)), ("medusa-fleet-replica-0a", Some(Role::Replica)));
    }
}
