//! Reconciles DataPlanes: vets the kubeconfig, keeps the link, publishes what is known.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    core::{DeserializeGuard, ObjectMeta},
    runtime::{
        Controller, WatchStreamExt as _,
        controller::Action,
        reflector::{self, ObjectRef, Store},
        watcher::{self, Event, watcher},
    },
};
use thiserror::Error;
use tokio::sync::{Semaphore, broadcast::error::RecvError, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{
    admit::{PARTING, is_passing},
    credential::{self, Access, Credential, secret_of},
    health::Health,
    link::{Link, LinkOptions},
    renew::Renewals,
    reports::Watchers,
    roll::{Gone, Roll},
    same_cluster::SameCluster,
    secrets::SecretVersions,
    share,
    sources::{self, RejectedRegistrations},
    unreadable, unregister,
    watches::HeardRequests,
};
use crate::{
    api::{
        Reason, Why,
        fleet::{DataPlane, LOCAL, Limits},
    },
    control_plane::{
        data_planes::{
            fleet::{Change, Fleet, Member, Usable},
            meters::Meters,
            remote::Remote,
            view::ObjectKey,
            watched::Kind,
        },
        identity::Identity,
        sources::Sources,
    },
    runtime::{
        client::{self, Current},
        controller::{self, Controlled, Shell},
        events::Events,
        fence::Fence,
        guard::Panicked,
        sync::lock,
    },
};

/// How often `lastContactTime` is written while nothing else changes: that of the control plane's own cluster, by which people
/// and `doctor` see that it works, and those of the others, of which there may be a thousand.
const HEARTBEATS: (Duration, Duration) = (Duration::from_mins(1), Duration::from_mins(20));
/// How often a DataPlane is looked at while nothing happens, as time alone changes what is said of it and done for it.
pub(super) const LOOK_EVERY: Duration = Duration::from_mins(1);
/// How many data planes are asked for the first time at a time.
const STARTS: usize = 64;
/// First and longest pause before what could not be asked or written is tried again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// How often a DataPlane's `lastContactTime` is written while nothing else changes.
pub(super) fn heartbeat(plane: &DataPlane) -> Duration {
    if plane.spec.local == Some(true) { HEARTBEATS.0 } else { HEARTBEATS.1 }
}

/// What the registry needs.
#[derive(Clone)]
pub struct RegistryContext {
    /// The control plane's own cluster.
    pub client: Client,
    /// The controller's namespace.
    pub namespace: String,
    /// What writes have to pass.
    pub fence: Fence,
    /// The data planes.
    pub fleet: Arc<Fleet>,
    /// What the control plane's cluster holds: the ClientConfigs among it.
    pub sources: Arc<Sources>,
    /// Namespaces whose ClientConfigs count; every one when empty.
    pub client_configs_in: BTreeSet<String>,
    /// Namespaces of the control plane's own cluster that are worked in where its DataPlane names none; every one when
    /// empty.
    pub local_in: BTreeSet<String>,
    /// Value of the control-plane label on everything we write.
    pub control_plane: Identity,
    /// What is counted.
    pub meters: Arc<Meters>,
    /// Kubeconfig fields that are accepted although they are unsafe.
    pub allow_unsafe: BTreeSet<String>,
    /// Where Events go.
    pub events: Events,
    /// Who watches the data planes.
    pub watchers: Watchers,
}

pub(super) struct Registry {
    pub(super) context: RegistryContext,
    /// By uid of the DataPlane, as is everything here.
    pub(super) links: Mutex<BTreeMap<String, Link>>,
    pub(super) credentials: Mutex<BTreeMap<String, Credential>>,
    /// Which cluster each is known to have to itself, and since when.
    pub(super) firsts: Mutex<BTreeMap<String, (String, Timestamp)>>,
    pub(super) same_cluster: Mutex<SameCluster>,
    pub(super) renewals: Renewals,
    pub(super) shell: Shell,
    pub(super) secrets: Arc<SecretVersions>,
    pub(super) rejected: watch::Receiver<RejectedRegistrations>,
    pub(super) planes: Store<DeserializeGuard<DataPlane>>,
    pub(super) trigger: mpsc::Sender<String>,
    starts: Arc<Semaphore>,
}

/// Where the kubeconfigs of data planes may be; everywhere when that is empty.
fn kubeconfigs_in(context: &RegistryContext) -> BTreeSet<String> {
    let mut within = context.client_configs_in.clone();
    if !within.is_empty() {
        within.insert(context.namespace.clone());
    }
    within
}

/// A write to a DataPlane that did not get through.
#[derive(Debug, Error)]
#[error("write DataPlane `{name}`: {error}")]
pub(super) struct RegistryError {
    pub(super) name: String,
    #[source]
    pub(super) error: kube::Error,
}

/// Runs until `shutdown`.
pub async fn run(context: RegistryContext, shutdown: CancellationToken) {
    let namespace = context.namespace.clone();
    let secrets = Arc::new(SecretVersions::default());
    let mut touched = secrets.clone().follow(&context.client, &kubeconfigs_in(&context)).boxed();
    let mut lent = context.sources.changes();
    let (tell, mut rejected) = watch::channel(RejectedRegistrations::new());
    let (trigger, triggered) = mpsc::channel::<String>(1024);
    let in_namespace = namespace.clone();
    let triggered = ReceiverStream::new(triggered)
        .map(move |name| ObjectRef::<DeserializeGuard<DataPlane>>::new(&name).within(&in_namespace));
    let api: Api<DeserializeGuard<DataPlane>> = Api::namespaced(context.client.clone(), &namespace);
    let (planes, writer) = reflector::store();
    let mut changes = context.fleet.changes();
    let roll = Roll::new(context.fleet.clone());
    let shell = Shell::new(RETRY, context.meters.reconciles.clone());
    let mut share = context.watchers.share().map(|share| share.held.clone());
    let registry = Arc::new(Registry {
        context,
        links: Mutex::default(),
        credentials: Mutex::default(),
        firsts: Mutex::default(),
        same_cluster: Mutex::default(),
        renewals: Renewals::default(),
        shell,
        secrets,
        rejected: rejected.clone(),
        planes: planes.clone(),
        trigger: trigger.clone(),
        starts: Arc::new(Semaphore::new(STARTS)),
    });
    // The table follows the watch itself: no reconcile, and nothing that goes wrong in one, is needed for it.
    let called = registry.clone();
    let watched = watcher(api, watcher::Config::default())
        .modify(|plane| plane.meta_mut().managed_fields = None)
        .reflect(writer)
        .inspect_ok(move |event| {
            roll.note(event).into_iter().for_each(|gone| called.dismiss(&gone));
            if let Event::Apply(DeserializeGuard(Ok(plane))) | Event::InitApply(DeserializeGuard(Ok(plane))) =
                event
            {
                called.note_cluster(plane);
            }
        })
        .touched_objects();
    let by_plane = Controller::for_stream(watched, planes.clone());

    let forward = async {
        let those = |is_due: &dyn Fn(&DeserializeGuard<DataPlane>) -> bool| -> Vec<String> {
            planes.state().iter().filter(|plane| is_due(plane)).map(|plane| plane.name_any()).collect()
        };
        loop {
            let due = tokio::select! {
                Some(secret) = touched.next() => those(&|plane| refers_to(plane, &secret, &namespace)),
                Ok(()) = rejected.changed() => those(&|_| true),
                () = share::changed(&mut share) => those(&|_| true),
                // A ClientConfig lends its Secret from now on, or no longer.
                Ok(()) = lent.changed() => those(&is_borrower),
                change = changes.recv() => match change {
                    Ok(change) if change.is_contact_or(&[Kind::Datacenters]) => vec![change.data_plane],
                    Ok(_) => continue,
                    Err(RecvError::Lagged(_)) => those(&|_| true),
                    Err(RecvError::Closed) => return,
                },
            };
            for name in due {
                let _ = trigger.send(name).await;
            }
        }
    };
    let run = controller::run(registry.clone(), by_plane, triggered, shutdown.clone());
    tokio::select! {
        () = forward => {}
        () = run => {}
        () = sources::run(&registry.context, tell), if registry.context.watchers.share().is_none() => {}
    }
}

fn refers_to(plane: &DeserializeGuard<DataPlane>, secret: &ObjectKey, home: &str) -> bool {
    let reference = plane.0.as_ref().ok().and_then(|p| p.spec.kubeconfig_secret_ref.as_ref());
    reference.is_some_and(|reference| secret_of(reference, home) == *secret)
}

/// Whether the kubeconfig may be in another namespace, which it is by a ClientConfig's leave only.
fn is_borrower(plane: &DeserializeGuard<DataPlane>) -> bool {
    let reference = plane.0.as_ref().ok().and_then(|p| p.spec.kubeconfig_secret_ref.as_ref());
    reference.is_some_and(|reference| reference.namespace.is_some())
}

impl Controlled for Registry {
    type Object = DataPlane;
    type Error = RegistryError;

    const KIND: &'static str = "DataPlane";

    fn shell(&self) -> &Shell {
        &self.shell
    }

    async fn look(&self, plane: &DeserializeGuard<DataPlane>) -> Result<Action, RegistryError> {
        look(plane, self).await
    }

    async fn report(&self, plane: &DeserializeGuard<DataPlane>, panic: &Panicked) {
        let Ok(plane) = &plane.0 else { return };
        let refusal = Why::new(Reason::InternalError, panic.to_string());
        let health = self.health(&plane.uid().unwrap_or_default());
        if let Err(error) = self.publish(plane, Some(&refusal), None, None, &health).await {
            tracing::warn!(data_plane = plane.name_any(), %error, "say that it failed");
        }
    }

    fn tell(&self, plane: &DeserializeGuard<DataPlane>, error: &RegistryError) {
        if let kube::Error::Api(answer) = &error.error {
            let note = format!("the API server refused a write to it: {}", answer.message);
            self.context.events.warning(plane.object_ref(&()), Reason::WriteRefused, "Write", note);
        }
    }
}

async fn look(plane: &DeserializeGuard<DataPlane>, registry: &Registry) -> Result<Action, RegistryError> {
    if !registry.is_current(plane.meta()) {
        return Ok(Action::await_change()); // It is gone, or another one has its name.
    }
    if let Watchers::Share(share) = &registry.context.watchers {
        return Ok(share::look(plane, registry, share).await);
    }
    let plane = match &plane.0 {
        Ok(plane) => plane,
        Err(error) => {
            tracing::warn!(data_plane = plane.name_any(), %error, "DataPlane cannot be read");
            return unreadable::look(plane, &error.error, registry).await;
        }
    };
    if plane.metadata.deletion_timestamp.is_some() {
        let found = registry.find_again(plane).await;
        return unregister::step(plane, found, registry).await;
    }
    let uid = plane.uid().unwrap_or_default();
    let outcome = registry.admit(plane).await;
    let mut stale = None;
    let refusal = match outcome {
        Ok(()) => None,
        Err(refusal) if registry.is_leaving(plane, &refusal) => {
            // In a moment it is deleted for that. Until then its link stays: the copies are taken back by it.
            return Ok(Action::requeue(PARTING.unsigned_abs()));
        }
        // It changed while it was looked at, and is looked at again as it is now.
        Err(refusal) if refusal.reason == Reason::Connecting => {
            return Ok(Action::requeue(registry.shell.failed(&plane.metadata)));
        }
        // That it cannot be asked about says nothing against what is in use.
        Err(refusal) if is_passing(&refusal) && lock(&registry.links).contains_key(&uid) => {
            let note = format!("what was read before is used on; {}", refusal.message);
            registry.context.events.warning(plane.object_ref(&()), refusal.reason, "Connect", note);
            stale = Some(refusal);
            None
        }
        Err(refusal) => Some(refusal),
    };
    if refusal.is_some() {
        registry.disconnect(&uid);
    }
    let health = registry.health(&uid);
    let twin = registry.twin(plane);
    registry.settle(plane, refusal.as_ref(), twin.as_ref());
    let renewal = if refusal.is_none() { registry.renew(plane, &health) } else { None };
    registry.publish(plane, refusal.as_ref(), stale.as_ref(), twin.as_ref(), &health).await?;
    if stale.as_ref().or(refusal.as_ref()).is_some_and(is_passing) {
        return Ok(Action::requeue(registry.shell.failed(&plane.metadata)));
    }
    registry.shell.succeeded(&registry.context.namespace, &plane.name_any());
    Ok(Action::requeue(renewal.map_or(LOOK_EVERY, |wait| wait.min(LOOK_EVERY))))
}

impl Registry {
    pub(super) fn health(&self, uid: &str) -> Health {
        lock(&self.links).get(uid).map(Link::health).unwrap_or_default()
    }

    /// Whether the fleet's member of that name is this object.
    pub(super) fn is_current(&self, meta: &ObjectMeta) -> bool {
        let member = self.context.fleet.member(meta.name.as_deref().unwrap_or_default());
        member.is_some_and(|member| Some(&member.uid) == meta.uid.as_ref())
    }

    /// Ends the link of a DataPlane, if there is one.
    pub(super) fn disconnect(&self, uid: &str) {
        if let Some(reports) = self.context.watchers.reports() {
            reports.leave(uid);
        }
        lock(&self.links).remove(uid);
    }

    /// Takes a DataPlane out of the table, if it is the one in it.
    pub(super) fn forget(&self, name: &str, uid: &str) {
        if self.context.fleet.remove(name, uid) {
            self.dismiss(&Gone { name: name.to_owned(), uid: uid.to_owned() });
        }
    }

    /// Drops everything that is kept for a DataPlane that is out of the table, and tells everyone.
    fn dismiss(&self, gone: &Gone) {
        let Gone { name, uid } = gone;
        self.disconnect(uid);
        lock(&self.credentials).remove(uid);
        lock(&self.firsts).remove(uid);
        lock(&self.same_cluster).forget(uid);
        self.renewals.forget(uid);
        self.shell.succeeded(&self.context.namespace, name);
        let fleet = &self.context.fleet;
        fleet.announce(Change::contact(name));
        fleet.announce(Change::objects(name, Kind::Datacenters));
        // One that gave way to it may be used now.
        for plane in fleet.snapshot() {
            let is_twin = matches!(plane.usable, Usable::NotReady { reason: Reason::DuplicateCluster, .. });
            if is_twin {
                let _ = self.trigger.try_send(plane.name);
            }
        }
    }

    pub(super) fn api(&self) -> Api<DataPlane> {
        Api::namespaced(self.context.client.clone(), &self.context.namespace)
    }

    /// Keeps the running link when it was made from the same credential and limits; renews it when only the credential is
    /// another; else makes a new one.
    pub(super) async fn connect(&self, plane: &DataPlane, access: Access) -> Result<(), Why> {
        let (name, uid) = (plane.name_any(), plane.uid().unwrap_or_default());
        let limits = plane.spec.limits.clone().unwrap_or_default();
        let local = matches!(access, Access::Local);
        let (credential, address) = match &access {
            Access::Local => (LOCAL, LOCAL.to_owned()),
            Access::Remote(vetted) => {
                let context = plane.spec.context.as_deref().unwrap_or_default();
                (vetted.fingerprint.as_str(), format!("{}/{context}", vetted.address))
            }
        };
        let Limits { qps, burst, max_in_flight, .. } = &limits;
        let within = self.namespaces_of(plane);
        let address = format!("{address}/{qps:?}/{burst:?}/{max_in_flight:?}/{within:?}");
        let fingerprint = format!("{credential}/{address}");
        if lock(&self.links).get(&uid).is_some_and(|link| link.fingerprint == fingerprint) {
            return Ok(());
        }
        let mut controllers_in = within.clone();
        if !within.is_empty() {
            // Where our account is those at work there have their Leases, too.
            controllers_in.extend(match &access {
                Access::Local => Some(self.context.namespace.clone()),
                Access::Remote(vetted) => vetted.access.account().map(|account| account.namespace),
            });
        }
        let client = match access {
            Access::Local => self.context.client.clone(),
            Access::Remote(vetted) => credential::client(*vetted, within.len()).await?,
        };
        if lock(&self.links).get_mut(&uid).is_some_and(|link| link.renew(&fingerprint, &address, &client)) {
            tracing::info!(data_plane = name, "goes on with another credential");
            return Ok(());
        }
        let fleet = &self.context.fleet;
        let member = fleet.member(&name).filter(|member| member.uid == uid);
        let Some(Member { view, meters, .. }) = member else { return Ok(()) };
        let (current, heard) = (Current::new(client), Arc::new(HeardRequests::new(meters)));
        // What we write at home passes the fence already.
        let fence = Some(self.context.fence.clone()).filter(|_| !local);
        let client = client::observed(current.clone(), fence, heard.clone());
        let remote = Arc::new(Remote::new(client, &limits));
        fleet.update(&name, &uid, |member| member.remote = Some(remote.clone()));
        let options = LinkOptions {
            name: name.clone(),
            fingerprint,
            address: address.clone(),
            current: Some(current).filter(|_| !local),
            control_plane: self.context.control_plane.clone(),
            local,
            within,
            controllers_in,
            starts: self.starts.clone(),
            heard,
        };
        let link = match &self.context.watchers {
            Watchers::Replicas(_) => Link::followed(options),
            Watchers::Alone | Watchers::Share(_) => Link::start(options, remote, view, fleet.clone()),
        };
        if let Some(reports) = self.context.watchers.reports() {
            reports.enter(&uid, &name, &address, link.reported());
        }
        lock(&self.links).insert(uid, link);
        Ok(())
    }

    /// The namespaces of a data plane that are worked in; every one when empty.
    pub(super) fn namespaces_of(&self, plane: &DataPlane) -> BTreeSet<String> {
        let named: BTreeSet<String> = plane.spec.namespaces.iter().cloned().collect();
        let is_local = plane.spec.local == Some(true);
        if named.is_empty() && is_local { self.context.local_in.clone() } else { named }
    }
}
