//! The live connection to one data plane: asks whether it answers, and runs its watches while it does.
//!
//! One task per data plane; nothing of it waits for another data plane.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    capability,
    health::{Answer, Health},
    places::take_place,
    watches::{HeardRequests, Watches},
};
use crate::{
    api::Why,
    control_plane::{
        data_planes::{
            capabilities::{Capabilities, SCHEDULES},
            fleet::{Change, Fleet, ViewCell},
            remote::{CallError, Remote},
            view::{Contact, View},
        },
        identity::Identity,
    },
    runtime::{
        backoff,
        cause::{self, Cause, Kind},
        client::Current,
        guard::again,
        scope,
        sync::lock,
    },
};

/// Pause between two questions whether the cluster still answers.
const PROBE_EVERY: Duration = Duration::from_secs(10);
/// The same where watches share a connection that ends by itself when it is dead. What answers for that is not what feeds the
/// watches: a cluster that is silent must be noticed before anything is concluded from what its watches do not show, which is
/// a minute later (`runs/verdict.rs`).
const PROBE_SHARED_EVERY: Duration = Duration::from_secs(20);
/// How soon after a question an interrupted watch leads to another.
const DOUBT_EVERY: Duration = Duration::from_secs(3);
/// First and longest pause between attempts while it does not. Who is silent is being asked for most of the time, and heard as
/// soon as it speaks.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3));
/// Pause between two looks at what the cluster serves and allows: while nothing is missing, while something is
/// that backups do without, and while more is.
const CAPABILITIES_EVERY: (Duration, Duration, Duration) =
    (Duration::from_mins(5), Duration::from_secs(30), Duration::from_secs(15));
/// Time a question may take before the cluster counts as not answering.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// The same where a watch was interrupted just before.
const DOUBTED_TIMEOUT: Duration = Duration::from_secs(2);
/// How much later than it was due a pause may end before this process counts as one that stood still.
const LATE: Duration = Duration::from_millis(500);
/// How long one that is asked for the first time may keep others from being asked.
const START_TIME: Duration = PROBE_TIMEOUT;
/// Longest look at what a cluster serves and allows. Nobody asks meanwhile whether it still answers, and a minute later it is
/// concluded from what its watches do not show (`runs/verdict.rs`).
const LOOK_TIMEOUT: Duration = Duration::from_secs(40);

/// What a link needs to know.
pub struct LinkOptions {
    /// Name of the DataPlane.
    pub name: String,
    /// What the link was made from: with another fingerprint it is renewed, or another one is needed.
    pub fingerprint: String,
    /// What of that is not the credential: another one needs another link.
    pub address: String,
    /// The client behind `remote`, where its credential may be renewed.
    pub current: Option<Current>,
    /// Value of the control-plane label on everything we write.
    pub control_plane: Identity,
    /// Whether it is the control plane's own cluster, which need not host datacenters.
    pub local: bool,
    /// The namespaces that are worked in; every one when empty.
    pub within: BTreeSet<String>,
    /// Where those that are at work there are looked for, when it is not everywhere.
    pub controllers_in: BTreeSet<String>,
    /// Places for data planes that are asked for the first time.
    pub starts: Arc<Semaphore>,
    /// What hears of the requests to it.
    pub heard: Arc<HeardRequests>,
}

/// A running link; dropping it ends its task and watches.
pub struct Link {
    /// What the link was made from.
    pub fingerprint: String,
    address: String,
    current: Option<Current>,
    renewed: Arc<Notify>,
    health: Arc<Mutex<Health>>,
    _cancel: DropGuard,
}

impl Link {
    /// Starts contacting the data plane through `remote`, writing what it sees into `view`.
    #[must_use]
    pub fn start(options: LinkOptions, remote: Arc<Remote>, view: Arc<ViewCell>, fleet: Arc<Fleet>) -> Self {
        let cancel = CancellationToken::new();
        let health = Arc::new(Mutex::new(Health::default()));
        let (fingerprint, address) = (options.fingerprint.clone(), options.address.clone());
        let (current, renewed) = (options.current.clone(), Arc::new(Notify::new()));
        let questions = remote.for_questions();
        let task = Task {
            options,
            remote,
            questions,
            view,
            fleet,
            health: health.clone(),
            renewed: renewed.clone(),
        };
        let stop = cancel.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = again("link", || task.begin()) => {}
            }
        });
        Self { fingerprint, address, current, renewed, health, _cancel: cancel.drop_guard() }
    }

    /// A data plane that another replica watches: nothing is asked here, and what is known is written into [`Self::reported`].
    #[must_use]
    pub fn followed(options: LinkOptions) -> Self {
        Self {
            fingerprint: options.fingerprint,
            address: options.address,
            current: options.current,
            renewed: Arc::default(),
            health: Arc::default(),
            _cancel: CancellationToken::new().drop_guard(),
        }
    }

    /// Where what is known about reaching the cluster stands.
    #[must_use]
    pub fn reported(&self) -> Arc<Mutex<Health>> {
        self.health.clone()
    }

    /// Goes on with the credential of `client`, if all else is as it was; says whether it does. What is watched is watched
    /// on: nothing is listed again.
    pub fn renew(&mut self, fingerprint: &str, address: &str, client: &Client) -> bool {
        let Some(current) = self.current.as_ref().filter(|_| self.address == address) else { return false };
        current.replace(client.clone());
        fingerprint.clone_into(&mut self.fingerprint);
        self.renewed.notify_one();
        true
    }

    /// Uid of its kube-system namespace, once it has said it.
    #[must_use]
    pub fn cluster_id(&self) -> Option<String> {
        lock(&self.health).cluster_id.clone()
    }

    /// What is known about reaching the cluster now.
    #[must_use]
    pub fn health(&self) -> Health {
        lock(&self.health).clone()
    }
}

struct Task {
    options: LinkOptions,
    remote: Arc<Remote>,
    /// For what is asked here: it never waits for work.
    questions: Remote,
    view: Arc<ViewCell>,
    fleet: Arc<Fleet>,
    health: Arc<Mutex<Health>>,
    /// Told when the credential is another.
    renewed: Arc<Notify>,
}

impl Task {
    /// Begins, also anew after an internal error: what was seen before that counts no longer.
    async fn begin(&self) {
        if self.was_live() {
            self.lost(
                Answer::Lost(Cause::new(Kind::Unreachable, "an internal error ended the connection")),
                RETRY.0,
            );
        }
        self.run().await;
    }

    async fn run(&self) {
        let Self { options, fleet, view, .. } = self;
        let mut watches = Watches::new(
            &options.name,
            &options.control_plane,
            &options.within,
            fleet.clone(),
            view.clone(),
            options.heard.clone(),
        );
        let doubt = watches.doubt();
        let mut failures = 0;
        let mut is_doubted = false;
        let mut look_again = Instant::now();
        // Where hundreds begin at once none would be answered in time.
        let mut place = take_place(&options.starts, START_TIME).await;
        loop {
            let asked = Instant::now();
            let timeout = if is_doubted { DOUBTED_TIMEOUT } else { PROBE_TIMEOUT };
            let answer = self.probe(timeout).await;
            // What was interrupted before is answered for by this.
            let _ = doubt.notified().now_or_never();
            // Silent twice: its connection was given up for that, and now this, while we did not stand still ourselves.
            let is_silent = is_doubted && answer.is_silence() && asked.elapsed() < timeout + LATE;
            is_doubted = false;
            let is_shared = options.heard.shares_connections();
            let pause = if answer == Answer::Answered {
                let back = watches.is_empty() || !self.was_live();
                failures = 0;
                self.answered();
                let mut pause = if is_shared { PROBE_SHARED_EVERY } else { PROBE_EVERY };
                if back || Instant::now() >= look_again {
                    let look = tokio::time::timeout(LOOK_TIMEOUT, self.look_at_capabilities()).await;
                    if look.is_err() {
                        pause = Duration::ZERO;
                    }
                    let longest = look.unwrap_or(CAPABILITIES_EVERY.2);
                    look_again = Instant::now() + backoff::spread(&options.name, longest * 4 / 5, longest);
                }
                if back {
                    watches.begin();
                }
                watches.keep(&self.remote.client(), self.hosts_none(), is_shared);
                pause
            } else {
                // One lost answer is no lost cluster, but a rejected credential is not luck.
                let tolerated = answer.may_be_luck() && failures == 0 && self.was_live() && !is_silent;
                let pause = backoff::delay(failures, RETRY.0, RETRY.1);
                failures += 1;
                if !tolerated {
                    watches.stop();
                    self.lost(answer, pause);
                }
                pause
            };
            drop(place.take());
            let doubted = async {
                tokio::time::sleep_until(asked + DOUBT_EVERY).await;
                doubt.notified().await;
            };
            tokio::select! {
                () = self.follow_schedules(&mut watches, Instant::now() + pause) => {}
                () = doubted, if failures == 0 && is_shared => is_doubted = true,
                // Whether it is accepted, and what it permits, is asked at once.
                () = self.renewed.notified() => look_again = Instant::now(),
            }
        }
    }

    /// Until then, watches what schedules make as soon as there are such schedules, and no longer than there are.
    async fn follow_schedules(&self, watches: &mut Watches, until: Instant) {
        loop {
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(until) => return,
                () = watches.schedules_changed() => {}
            }
            let hosts_none = self.hosts_none();
            if !watches.is_empty() && !watches.are_current(hosts_none) {
                let is_shared = self.options.heard.shares_connections();
                watches.keep(&self.remote.client(), hosts_none, is_shared);
            }
        }
    }

    /// Asks for the kube-system namespace: small, always there, and its uid is the cluster's identity.
    async fn probe(&self, timeout: Duration) -> Answer {
        let question = self.questions.call(|client| async move {
            let namespaces = Api::<Namespace>::all(client);
            let identity = match namespaces.get_metadata("kube-system").await {
                Ok(namespace) => Ok(namespace.metadata.uid),
                // An answer all the same, of a cluster that need not tell.
                Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {
                    Err(Cause::of_status(&status))
                }
                Err(error) => return Err(error),
            };
            Ok(identity)
        });
        let lost = |cause| Answer::from_cause(cause, self.was_live());
        let identity = match tokio::time::timeout(timeout, question).await {
            Err(_) => return lost(silent()),
            Ok(Err(error)) => {
                let cause = error.cause();
                return lost(if cause.kind == Kind::TimedOut { silent() } else { cause });
            }
            Ok(Ok(answer)) => answer,
        };
        let identity = match identity {
            Ok(None) => {
                let words = "what it shows as the namespace kube-system has no uid";
                return lost(Cause::new(Kind::NotKubernetes, words));
            }
            Ok(Some(uid)) => Ok(uid),
            Err(cause) => Err(cause),
        };
        let (moved, news) = self.change_health(|health| {
            let before = (health.cluster_id.clone(), health.no_cluster_id.clone());
            health.no_cluster_id = identity.as_ref().err().cloned();
            // What it said before it may not be asked any more, it is still.
            health.cluster_id = identity.ok().or(health.cluster_id.take());
            let moved = before.0.is_some() && before.0 != health.cluster_id;
            (moved, before != (health.cluster_id.clone(), health.no_cluster_id.clone()))
        });
        if moved {
            // Another cluster behind the same address: what was seen before is not its.
            self.view.update(|view| *view = View::unknown());
        }
        if news {
            self.announce_contact();
        }
        Answer::Answered
    }

    fn change_health<R>(&self, change: impl FnOnce(&mut Health) -> R) -> R {
        change(&mut lock(&self.health))
    }

    fn hosts_none(&self) -> bool {
        self.change_health(|health| health.hosts_none)
    }

    fn announce_contact(&self) {
        self.fleet.announce(Change::contact(&self.options.name));
    }

    fn was_live(&self) -> bool {
        self.view.get().contact == Contact::Live
    }

    fn answered(&self) {
        let now = self.fleet.now();
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
        let now = self.fleet.now();
        let why = match &answer {
            Answer::Lost(cause) => cause.words.clone(),
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

    /// Learns what the cluster serves and allows; says how long that holds.
    async fn look_at_capabilities(&self) -> Duration {
        let places = scope::places(&self.options.controllers_in);
        let (version, definitions, permissions, found) = tokio::join!(
            self.questions.call(|client| async move { client.apiserver_version().await }),
            capability::definitions(&self.questions),
            capability::permissions(&self.questions, &self.options.within),
            capability::medusa_controller(&self.questions, &places, self.fleet.now()),
        );
        let definitions = definitions.ok();
        let no_permissions = permissions.as_ref().err().map(why_not);
        let permissions = permissions.ok();
        let controller_hidden = found.as_ref().err().cloned();
        let controller = found.unwrap_or_default();
        let fields = match &definitions {
            Some(served) if !served.lacking.contains(SCHEDULES) => {
                capability::schedule_fields(&self.questions).await
            }
            _ => None,
        };
        let hosts_none = self.options.local
            && definitions
                .as_ref()
                .is_some_and(|d| d.missing.iter().any(|name| name.starts_with("cassandradatacenters.")));
        let well = definitions.as_ref().is_some_and(|d| d.missing.is_empty() || hosts_none)
            && permissions.as_ref().is_some_and(|p| p.missing.is_empty())
            && (controller.is_some() || hosts_none);
        let changed = self.view.update(|view| {
            let old = view.capabilities.clone();
            let new = Capabilities {
                not_served: definitions.as_ref().map(|d| d.lacking.clone()).or(old.not_served.clone()),
                not_granted: permissions.as_ref().map(|p| p.lacking.clone()).or(old.not_granted.clone()),
                schedule_fields: fields.or(old.schedule_fields.clone()),
                refused: old.refused.clone(),
                controller: controller.clone().or(old.controller.clone()),
            };
            let changed = *old != new;
            if changed {
                view.capabilities = Arc::new(new);
            }
            changed
        });
        let whole = hosts_none || self.view.get().capabilities.is_whole();
        let news = self.change_health(|health| {
            let before = health.clone();
            health.version = version.ok().map(|version| version.git_version).or(health.version.take());
            health.hosts_none = hosts_none;
            health.missing_definitions = definitions.map(|d| d.missing).or(health.missing_definitions.take());
            health.no_permissions = no_permissions;
            health.missing_permissions = permissions.map(|p| p.missing).or(health.missing_permissions.take());
            health.controller = controller.or(health.controller.take());
            health.controller_hidden = controller_hidden.filter(|_| health.controller.is_none());
            *health != before
        });
        if news || changed {
            self.announce_contact();
        }
        match (well, whole) {
            (true, true) => CAPABILITIES_EVERY.0,
            (true, false) => CAPABILITIES_EVERY.1,
            (false, _) => CAPABILITIES_EVERY.2,
        }
    }
}

/// That nothing was said in time, in the same words each time, however long that was and on whatever it was waited for: those
/// that change are news for all who follow a data plane.
fn silent() -> Cause {
    Cause::new(Kind::TimedOut, format!("no answer within {} s", PROBE_TIMEOUT.as_secs()))
}

/// Why permissions cannot be asked for.
fn why_not(error: &CallError) -> Why {
    if let Some((denier, words)) = error.status().and_then(cause::denied) {
        return Why::new(denier.reason(), words);
    }
    let cause = error.cause();
    Why::new(cause.kind.reason(), cause.words)
}

fn after(now: Timestamp, pause: Duration) -> Timestamp {
    SignedDuration::try_from(pause).ok().and_then(|d| now.checked_add(d).ok()).unwrap_or(now)
}
