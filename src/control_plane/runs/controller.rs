//! The frame around every kind of run: one controller whose objects are woken by themselves and by changes in the data
//! planes, what holds for all of them before their own part looks, and one policy for errors.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt as _;
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    core::{DeserializeGuard, Status},
    runtime::{
        Controller,
        controller::Action as Next,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use thiserror::Error;
use tokio::{
    sync::{broadcast, mpsc},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{
    claims::Claims,
    kind::Run,
    publish::{PUBLISH_EVERY, report},
    unreadable,
};
use crate::{
    api::{Reason, labels, names},
    control_plane::{
        data_planes::{
            fleet::{Change, Fleet, What},
            meters::Meters,
            published::Published,
            watched::Kind,
        },
        identity::{Identity, uid_of},
    },
    runtime::{
        cause,
        controller::{self, Controlled, Shell},
        events::Events,
        follow::is_listed,
        guard::Panicked,
        sync::lock,
    },
};

/// First and longest pause before what failed is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Pause while the registry enrols the data planes after a start.
pub const ENROL_WAIT: Duration = Duration::from_millis(200);
/// Pause between two looks for what runs left behind, besides changes.
const SWEEP: Duration = Duration::from_secs(5);

/// What every kind of run needs.
#[derive(Clone)]
pub struct RunContext {
    /// The control plane's own cluster.
    pub client: Client,
    /// The controller's namespace.
    pub namespace: String,
    /// The data planes.
    pub fleet: Arc<Fleet>,
    /// Who this control plane is.
    pub control_plane: Identity,
    /// Where Events go.
    pub events: Events,
    /// What is published about the fleet.
    pub published: Published,
    /// Clusters on which a backup or a purge is being started.
    pub claims: Arc<Claims>,
    /// What is counted.
    pub meters: Arc<Meters>,
    /// When this process began to work.
    pub since: Instant,
}

#[cfg(test)]
impl RunContext {
    /// Of a control plane that knows its whole fleet, which is empty, and asks `client`.
    pub(super) fn of_tests(client: Client) -> Self {
        let (published, _) = Published::follow(&client, "medusa-fleet");
        let context = Self {
            published,
            events: Events::new(client.clone(), "test"),
            client,
            namespace: "medusa-fleet".to_owned(),
            fleet: Arc::default(),
            control_plane: Identity::named("cp"),
            claims: Arc::default(),
            meters: Arc::default(),
            since: Instant::now(),
        };
        context.fleet.set_listing(std::collections::BTreeMap::new());
        context.fleet.set_enrolled();
        context
    }
}

/// Why a run could not be brought further.
#[derive(Debug, Error)]
pub enum AdvanceError {
    #[error("write the status: {0}")]
    Publish(#[source] kube::Error),
    #[error("delete the run after spec.ttlSecondsAfterFinished: {0}")]
    Expire(#[source] kube::Error),
    #[error("read the runs: {0}")]
    Read(#[source] kube::Error),
    #[error("go on with what an earlier installation began: {0}")]
    TakeOver(#[source] kube::Error),
}

/// Wakes runs that go on.
pub struct Waker<K: Run> {
    namespace: String,
    trigger: mpsc::Sender<ObjectRef<DeserializeGuard<K>>>,
    /// Names of the runs that go on, by the label of their children.
    index: Mutex<BTreeMap<String, BTreeSet<String>>>,
}

impl<K: Run> Waker<K> {
    fn add(&self, name: &str) {
        lock(&self.index).entry(names::label_value(name)).or_default().insert(name.to_owned());
    }

    fn remove(&self, name: &str) {
        let label = names::label_value(name);
        let mut index = lock(&self.index);
        if let Some(names) = index.get_mut(&label) {
            names.remove(name);
            if names.is_empty() {
                index.remove(&label);
            }
        }
    }

    /// The runs that go on.
    fn all(&self) -> Vec<String> {
        lock(&self.index).values().flatten().cloned().collect()
    }

    /// Those of them whose children carry this label.
    fn labelled(&self, label: &str) -> Vec<String> {
        lock(&self.index).get(label).into_iter().flatten().cloned().collect()
    }

    /// Wakes one run.
    pub async fn wake(&self, name: &str) {
        // Nobody listens any more only when the process ends.
        let _ = self.trigger.send(ObjectRef::new(name).within(&self.namespace)).await;
    }

    /// Wakes every run that goes on, whenever `news` come.
    pub async fn wake_on<T>(&self, mut news: impl futures::Stream<Item = T> + Unpin) {
        while news.next().await.is_some() {
            for name in self.all() {
                self.wake(&name).await;
            }
        }
    }
}

/// What a kind's own part works in.
pub struct Frame<K: Run> {
    pub context: RunContext,
    /// All objects of the kind.
    pub objects: Store<DeserializeGuard<K>>,
    pub waker: Arc<Waker<K>>,
    shell: Shell,
}

/// Where the objects of a frame come from.
pub struct Feed<K: Run> {
    controller: Controller<DeserializeGuard<K>>,
    triggered: mpsc::Receiver<ObjectRef<DeserializeGuard<K>>>,
}

impl<K: Run> Frame<K> {
    /// A frame, and what [`drive`] drives it by.
    #[must_use]
    pub fn new(context: RunContext) -> (Self, Feed<K>) {
        let api: Api<DeserializeGuard<K>> = Api::namespaced(context.client.clone(), &context.namespace);
        let controller = Controller::new(api, watcher::Config::default());
        let (trigger, triggered) = mpsc::channel(1024);
        let waker = Waker { namespace: context.namespace.clone(), trigger, index: Mutex::default() };
        let shell = Shell::new(RETRY, context.meters.reconciles.clone());
        let frame = Self { context, objects: controller.store(), waker: Arc::new(waker), shell };
        (frame, Feed { controller, triggered })
    }

    /// Whether an object of this kind has that uid, or goes on as the one that had it.
    pub fn knows(&self, uid: &str) -> bool {
        self.objects
            .state()
            .iter()
            .any(|object| object.meta().uid.as_deref() == Some(uid) || uid_of(object.as_ref()) == Some(uid))
    }

    /// Objects of this kind, in the controller's namespace.
    pub fn api(&self) -> Api<DeserializeGuard<K>> {
        Api::namespaced(self.context.client.clone(), &self.context.namespace)
    }

    /// Waits for the next look for what runs left in the data planes: soon after a change there, with what else changes
    /// meanwhile, and now and then without one. Says whether all there is to know for it is known.
    pub async fn next_sweep(&self, changes: &mut broadcast::Receiver<Change>) -> bool {
        let _ = tokio::time::timeout(SWEEP, changes.recv()).await;
        tokio::time::sleep(PUBLISH_EVERY).await;
        *changes = changes.resubscribe();
        self.context.fleet.is_enrolled() && is_listed(&self.objects)
    }

    /// Something went as it should: the next failure of this run is its first.
    pub fn succeeded(&self, name: &str) {
        self.shell.succeeded(&self.context.namespace, name);
    }
}

/// A kind's own part.
pub trait Driver: Send + Sync + Sized + 'static {
    type Run: Run;

    /// Whether a look asks data planes, and waits for as long as their limits make it.
    const ASKS: bool = false;

    fn frame(&self) -> &Frame<Self::Run>;

    /// The kind that its runs make in data planes, where a change concerns only the run that made the object.
    const CHILDREN: Option<Kind> = None;

    /// The kinds that concern all its runs, as news of a DataPlane always does.
    const FOLLOWED: &'static [Kind];

    /// Looks at a run that goes on.
    fn look(&self, run: &Self::Run) -> impl Future<Output = Result<Next, AdvanceError>> + Send;

    /// Looks at a run that is over.
    fn look_after(&self, _run: &Self::Run) -> impl Future<Output = Result<Next, AdvanceError>> + Send {
        async { Ok(Next::await_change()) }
    }

    /// Forgets what is remembered of a run that is over or gone.
    fn forget(&self, name: &str);
}

/// Runs a kind until `shutdown`.
pub async fn drive<D: Driver>(driver: Arc<D>, feed: Feed<D::Run>, shutdown: CancellationToken) {
    let forward = forward::<D>(driver.frame().context.fleet.changes(), driver.frame().waker.clone());
    let controlled = Arc::new(Driven(driver));
    let run = controller::run(controlled, feed.controller, ReceiverStream::new(feed.triggered), shutdown);
    tokio::select! {
        () = forward => {}
        () = run => {}
    }
}

/// Wakes the runs that a change affects.
async fn forward<D: Driver>(mut changes: broadcast::Receiver<Change>, waker: Arc<Waker<D::Run>>) {
    loop {
        let affected = match changes.recv().await {
            Ok(change) if change.is_contact_or(D::FOLLOWED) => waker.all(),
            Ok(change) => match (change.what, change.made_for) {
                (What::Objects(kind), Some(label)) if D::CHILDREN == Some(kind) => waker.labelled(&label),
                _ => continue,
            },
            Err(broadcast::error::RecvError::Lagged(_)) => waker.all(),
            Err(broadcast::error::RecvError::Closed) => return,
        };
        for name in affected {
            waker.wake(&name).await;
        }
    }
}

/// A kind of run as a controller has it.
struct Driven<D>(Arc<D>);

impl<D: Driver> Controlled for Driven<D> {
    type Object = D::Run;
    type Error = AdvanceError;

    const KIND: &'static str = D::Run::KIND;

    fn shell(&self) -> &Shell {
        &self.0.frame().shell
    }

    /// What is over may still have to be taken back in data planes.
    fn ends(&self, run: &DeserializeGuard<D::Run>) -> bool {
        !D::ASKS && run.0.as_ref().is_ok_and(|run| !run.is_over())
    }

    async fn look(&self, run: &DeserializeGuard<D::Run>) -> Result<Next, AdvanceError> {
        let (driver, frame) = (&self.0, self.0.frame());
        let context = &frame.context;
        let run = match &run.0 {
            Ok(run) => run,
            Err(error) => {
                tracing::warn!(kind = D::Run::KIND, name = run.name_any(), %error, "a run cannot be read");
                let (client, events, now) = (&context.client, &context.events, context.fleet.now());
                let said = unreadable::say::<D::Run>(client, events, run.meta(), "Complete", now).await;
                return said.map(|()| Next::await_change()).map_err(AdvanceError::Publish);
            }
        };
        let (name, is_deleted) = (run.name_any(), run.meta().deletion_timestamp.is_some());
        if is_deleted || run.is_over() {
            self.forget("", &name);
        }
        if is_deleted || labels::is_held(run.finalizers()) {
            return Ok(Next::await_change()); // Its schedule lets it go, or takes it back (ADR 13).
        }
        if !context.fleet.is_enrolled() {
            return Ok(Next::requeue(ENROL_WAIT));
        }
        if run.is_over() {
            return driver.look_after(run).await;
        }
        frame.waker.add(&name);
        driver.look(run).await
    }

    async fn report(&self, run: &DeserializeGuard<D::Run>, panic: &Panicked) {
        let context = &self.0.frame().context;
        if let Ok(run) = &run.0
            && !run.is_over()
            && let Err(error) = report(&context.client, run, panic, context.fleet.now()).await
        {
            tracing::warn!(kind = D::Run::KIND, name = run.name_any(), %error, "say that it failed");
        }
    }

    /// What keeps its status from being written keeps it from being said there.
    fn tell(&self, run: &DeserializeGuard<D::Run>, error: &AdvanceError) {
        if let AdvanceError::Publish(kube::Error::Api(status)) = error
            && let Some((reason, words)) = unwritable(status)
        {
            let events = &self.0.frame().context.events;
            let note = format!("its status cannot be written: {words}");
            events.warning(run.object_ref(&()), reason, "Publish", note);
        }
    }

    fn forget(&self, _: &str, name: &str) {
        self.0.frame().waker.remove(name);
        self.0.frame().succeeded(name);
        self.0.forget(name);
    }
}

/// Why a status is refused for good, until somebody does something about it.
fn unwritable(status: &Status) -> Option<(Reason, String)> {
    if let Some((denier, words)) = cause::denied(status) {
        return Some((denier.reason(), words));
    }
    cause::is_too_large(status).then(|| {
        let words = "with it the object would be larger than the API server takes; make its spec or its annotations \
                     smaller, or delete it";
        (Reason::TooLarge, words.to_owned())
    })
}

#[cfg(test)]
#[path = "controller_tests.rs"]
mod tests;
