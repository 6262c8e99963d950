//! The live connection to one data plane: asks whether it answers, and runs its watches while it does.
//!
//! One task per data plane; nothing of it waits for another data plane.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Api;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    capability,
    health::{Answer, Health},
    remote::{CallError, Remote},
    watch,
};
use crate::{
    api::{
        cassandra::CassandraDatacenter,
        labels,
        medusa::{MedusaBackup, MedusaBackupJob, MedusaConfiguration},
    },
    control_plane::{
        fleet::{Change, Fleet, ViewCell},
        replication::content::{configuration_record, secret_record},
        view::{BackupRecord, Contact, ObjectKey, View},
    },
    runtime::{backoff, clock},
};

/// Pause between two questions whether the cluster still answers.
const PROBE_EVERY: Duration = Duration::from_secs(10);
/// First and longest pause between attempts while it does not.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));
/// Pause between two looks at what the cluster serves and allows, while all is well and while not.
const CAPABILITIES_EVERY: (Duration, Duration) = (Duration::from_mins(5), Duration::from_secs(15));
/// Time a question may take before the cluster counts as not answering.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a link needs to know.
pub struct LinkOptions {
    /// Name of the DataPlane.
    pub name: String,
    /// What the link was made from: another fingerprint needs another link.
    pub fingerprint: String,
    /// Value of the control-plane label on everything we write.
    pub control_plane: String,
    /// Whether it is the control plane's own cluster, which need not host datacenters.
    pub local: bool,
}

/// A running link; dropping it ends its task and watches.
pub struct Link {
    /// What the link was made from.
    pub fingerprint: String,
    health: Arc<Mutex<Health>>,
    _cancel: DropGuard,
}

impl Link {
    /// Starts contacting the data plane through `remote`, writing what it sees into `view`.
    #[must_use]
    pub fn start(options: LinkOptions, remote: Arc<Remote>, view: Arc<ViewCell>, fleet: Arc<Fleet>) -> Self {
        let cancel = CancellationToken::new();
        let health = Arc::new(Mutex::new(Health::default()));
        let fingerprint = options.fingerprint.clone();
        let task = Task { options, remote, view, fleet, health: health.clone() };
        let stop = cancel.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task.run() => {}
            }
        });
        Self { fingerprint, health, _cancel: cancel.drop_guard() }
    }

    /// What is known about reaching the cluster now.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Task {
    options: LinkOptions,
    remote: Arc<Remote>,
    view: Arc<ViewCell>,
    fleet: Arc<Fleet>,
    health: Arc<Mutex<Health>>,
}

impl Task {
    async fn run(&self) {
        let mut watches = JoinSet::new();
        let mut failures = 0;
        let mut look_again = Instant::now();
        loop {
            let answer = self.probe().await;
            let pause = if answer == Answer::Answered {
                let back = watches.is_empty();
                failures = 0;
                self.answered();
                if back || Instant::now() >= look_again {
                    let well = self.look_at_capabilities().await;
                    look_again =
                        Instant::now() + if well { CAPABILITIES_EVERY.0 } else { CAPABILITIES_EVERY.1 };
                }
                if back {
                    watches = self.start_watches();
                } else if self.view.get().contact == Contact::Live && self.starved() {
                    // A definition that was missing has appeared: watches waiting for it are in long pauses.
                    watches = self.start_watches();
                }
                if self.starved() { CAPABILITIES_EVERY.1.min(PROBE_EVERY) } else { PROBE_EVERY }
            } else {
                // One lost answer is no lost cluster, but a rejected credential is not luck.
                let tolerated = matches!(answer, Answer::Unreachable(_)) && failures == 0 && self.was_live();
                let pause = backoff::delay(failures, RETRY.0, RETRY.1);
                failures += 1;
                if !tolerated {
                    watches.abort_all();
                    watches = JoinSet::new();
                    self.lost(answer, pause);
                }
                pause
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Asks for the kube-system namespace: small, always there, and its uid is the cluster's identity.
    async fn probe(&self) -> Answer {
        let question = self.remote.call(|client| async move {
            let namespace = Api::<Namespace>::all(client.clone()).get_metadata("kube-system").await?;
            Ok((namespace.metadata.uid, client.apiserver_version().await?.git_version))
        });
        match tokio::time::timeout(PROBE_TIMEOUT, question).await {
            Err(_) | Ok(Err(CallError::TimedOut)) => {
                Answer::Unreachable(format!("no answer within {} s", PROBE_TIMEOUT.as_secs()))
            }
            Ok(Err(CallError::Kube(error))) => Answer::from_error(&error),
            Ok(Ok((uid, version))) => {
                let moved = self.change_health(|health| {
                    let moved = health.cluster_id.is_some() && health.cluster_id != uid;
                    health.cluster_id = uid;
                    health.version = Some(version);
                    moved
                });
                if moved {
                    // Another cluster behind the same address: what was seen before is not its.
                    self.view.update(|view| *view = View::unknown());
                }
                Answer::Answered
            }
        }
    }

    fn change_health<R>(&self, change: impl FnOnce(&mut Health) -> R) -> R {
        change(&mut self.health.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn announce_contact(&self) {
        self.fleet.announce(Change::Contact(self.options.name.clone()));
    }

    fn was_live(&self) -> bool {
        self.view.get().contact == Contact::Live
    }

    /// Whether the cluster answers although not every watch has caught up.
    fn starved(&self) -> bool {
        !self.view.get().is_live()
    }

    fn answered(&self) {
        let now = clock::now();
        self.view.update(|view| view.last_contact = Some(now));
        let news = self.change_health(|health| {
            let news = health.answer != Answer::Answered;
            health.answer = Answer::Answered;
            health.last_contact = Some(now);
            health.disconnected_since = None;
            health.next_attempt = None;
            news
        });
        if news {
            tracing::info!(data_plane = self.options.name, "data plane answers");
            self.announce_contact();
        }
    }

    fn lost(&self, answer: Answer, pause: Duration) {
        let now = clock::now();
        let why = match &answer {
            Answer::Unreachable(why) | Answer::CertificateRejected(why) | Answer::CredentialRejected(why) => {
                why.clone()
            }
            Answer::None | Answer::Answered => String::new(),
        };
        let since = self.change_health(|health| {
            let news = health.answer != answer;
            health.answer = answer;
            let since = *health.disconnected_since.get_or_insert(health.last_contact.unwrap_or(now));
            health.next_attempt = Some(after(now, pause));
            news.then_some(since)
        });
        self.view.update(|view| {
            view.contact = match view.contact {
                Contact::NotTried | Contact::Never { .. } => Contact::Never { why: why.clone() },
                Contact::Live => Contact::Lost { since: now, why: why.clone() },
                Contact::Lost { since, .. } => Contact::Lost { since, why: why.clone() },
            };
        });
        if since.is_some() {
            tracing::warn!(data_plane = self.options.name, %why, "data plane does not answer");
            self.announce_contact();
        }
    }

    /// Learns what the cluster serves and allows; says whether nothing is missing.
    async fn look_at_capabilities(&self) -> bool {
        let definitions = capability::missing_definitions(&self.remote).await.ok();
        let permissions = capability::missing_permissions(&self.remote).await.ok();
        let controller = capability::medusa_controller(&self.remote).await;
        let hosts_none = self.options.local
            && definitions
                .as_ref()
                .is_some_and(|d| d.iter().any(|name| name.starts_with("cassandradatacenters.")));
        let well = definitions.as_ref().is_some_and(|d| d.is_empty() || hosts_none)
            && permissions.as_ref().is_some_and(Vec::is_empty)
            && (controller.is_some() || hosts_none);
        let news = self.change_health(|health| {
            let before = health.clone();
            health.hosts_none = hosts_none;
            health.missing_definitions = definitions.or(health.missing_definitions.take());
            health.missing_permissions = permissions.or(health.missing_permissions.take());
            health.controller = controller.or(health.controller.take());
            *health != before
        });
        if news {
            self.announce_contact();
        }
        well
    }

    /// Starts every watch anew. Until each has listed, nothing counts as absent.
    fn start_watches(&self) -> JoinSet<()> {
        let hosts_none = self.change_health(|health| health.hosts_none);
        self.view.update(|view| {
            view.contact = Contact::Live;
            view.connected_at = Some(clock::now());
            view.datacenters.synced = hosts_none;
            view.jobs.synced = hosts_none;
            view.backups.synced = hosts_none;
            view.secrets.synced = false;
            view.configurations.synced = false;
        });
        let mut watches = JoinSet::new();
        let client = self.remote.client();
        let copies = format!("{}={}", labels::CONTROL_PLANE, self.options.control_plane);
        if !hosts_none {
            let notify = self.notify();
            watches.spawn(watch::run::<CassandraDatacenter, _>(
                Api::all(client.clone()),
                watch::config(""),
                self.view.clone(),
                |view| &mut view.datacenters,
                Clone::clone,
                move |key| notify.tell(key, Change::Datacenters),
            ));
            let notify = self.notify();
            watches.spawn(watch::run::<MedusaBackupJob, _>(
                Api::all(client.clone()),
                watch::config(labels::JOB_UID),
                self.view.clone(),
                |view| &mut view.jobs,
                without_managed_fields,
                move |key| notify.tell_job(key),
            ));
            let notify = self.notify();
            watches.spawn(watch::run::<MedusaBackup, _>(
                Api::all(client.clone()),
                watch::config(""),
                self.view.clone(),
                |view| &mut view.backups,
                |backup| BackupRecord::from(backup),
                move |key| {
                    notify.tell(key, Change::Backups);
                    notify.tell_job(key);
                },
            ));
        }
        let notify = self.notify();
        watches.spawn(watch::run::<Secret, _>(
            Api::all(client.clone()),
            watch::config(&copies),
            self.view.clone(),
            |view| &mut view.secrets,
            secret_record,
            move |key| notify.tell(key, Change::Copies),
        ));
        let notify = self.notify();
        watches.spawn(watch::run::<MedusaConfiguration, _>(
            Api::all(client),
            watch::config(&copies),
            self.view.clone(),
            |view| &mut view.configurations,
            configuration_record,
            move |key| notify.tell(key, Change::Copies),
        ));
        watches
    }

    fn notify(&self) -> Notify {
        Notify { name: self.options.name.clone(), fleet: self.fleet.clone(), view: self.view.clone() }
    }
}

/// Tells the fleet what changed here.
struct Notify {
    name: String,
    fleet: Arc<Fleet>,
    view: Arc<ViewCell>,
}

impl Notify {
    /// `key` is the changed object, or `None` after a complete listing.
    fn tell(&self, key: Option<&ObjectKey>, change: fn(String) -> Change) {
        self.fleet.announce(change(self.name.clone()));
        if key.is_none() && self.view.get().is_live() {
            // The last listing to complete makes the data plane usable: everyone looks again.
            self.fleet.announce(Change::Contact(self.name.clone()));
        }
    }

    fn tell_job(&self, key: Option<&ObjectKey>) {
        let view = self.view.get();
        match key {
            None if view.is_live() => self.fleet.announce(Change::Contact(self.name.clone())),
            None => {}
            Some(key) => {
                if let Some(job) = view.jobs.items.get(key).and_then(|job| View::fleet_job(job)) {
                    self.fleet.announce(Change::Job { data_plane: self.name.clone(), job: job.to_owned() });
                }
            }
        }
    }
}

fn after(now: Timestamp, pause: Duration) -> Timestamp {
    SignedDuration::try_from(pause).ok().and_then(|d| now.checked_add(d).ok()).unwrap_or(now)
}

fn without_managed_fields(job: &MedusaBackupJob) -> MedusaBackupJob {
    let mut job = job.clone();
    job.metadata.managed_fields = None;
    job
}
