//! Reconciles DataPlanes: vets the kubeconfig, keeps the link, publishes what is known.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use jiff::SignedDuration;
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
    core::DeserializeGuard,
    runtime::{
        Controller,
        controller::Action,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use serde_json::json;
use thiserror::Error;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{
    credential::{self, Access, Credential, secret_of},
    health::Health,
    kubeconfig::Refusal,
    link::{Link, LinkOptions},
    remote::Remote,
    secrets::SecretVersions,
    sources::{self, Unheard},
    unregister,
};
use crate::{
    api::{
        Reason,
        fleet::{DataPlane, LOCAL, Limits, RegisteredFrom, limit},
        labels,
    },
    control_plane::{
        fleet::{Change, Fleet, Member},
        meters::Meters,
        sources::{Sources, Standing},
        view::ObjectKey,
    },
    runtime::{client, clock, events::Events},
};

/// How often `lastContactTime` is written while nothing else changes.
pub(super) const HEARTBEAT: Duration = Duration::from_mins(1);
/// How long a link outlives the Secret of a ClientConfig: who deletes both means to unregister the cluster, and its
/// copies are taken back by that link.
const PARTING: SignedDuration = SignedDuration::from_secs(10);

/// What the registry needs.
pub struct RegistryContext {
    /// The control plane's own cluster.
    pub client: Client,
    /// The controller's namespace.
    pub namespace: String,
    /// The data planes.
    pub fleet: Arc<Fleet>,
    /// What the control plane's cluster holds: the ClientConfigs among it.
    pub sources: Arc<Sources>,
    /// Namespaces whose ClientConfigs count; every one when empty.
    pub client_configs_in: BTreeSet<String>,
    /// Value of the control-plane label on everything we write.
    pub control_plane: String,
    /// What is counted.
    pub meters: Arc<Meters>,
    /// Kubeconfig fields that are accepted although they are unsafe.
    pub allow_unsafe: BTreeSet<String>,
    /// Where Events go.
    pub events: Events,
}

pub(super) struct Registry {
    pub(super) context: RegistryContext,
    links: Mutex<BTreeMap<String, Link>>,
    pub(super) credentials: Mutex<BTreeMap<String, Credential>>,
    pub(super) secrets: Arc<SecretVersions>,
    pub(super) unheard: watch::Receiver<Unheard>,
    planes: Store<DeserializeGuard<DataPlane>>,
    trigger: mpsc::Sender<String>,
}

#[derive(Debug, Error)]
pub(super) enum RegistryError {
    #[error("read Secret `{key}`: {error}")]
    ReadSecret { key: ObjectKey, error: kube::Error },
    #[error("write DataPlane `{name}`: {error}")]
    Write { name: String, error: kube::Error },
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs until `shutdown`.
pub async fn run(context: RegistryContext, shutdown: CancellationToken) {
    let namespace = context.namespace.clone();
    let secrets = Arc::new(SecretVersions::default());
    let mut touched = secrets.clone().follow(context.client.clone()).boxed();
    let mut lent = context.sources.changes();
    let (tell, mut unheard) = watch::channel(Unheard::new());
    let (trigger, triggered) = mpsc::channel::<String>(1024);
    let in_namespace = namespace.clone();
    let triggered = ReceiverStream::new(triggered)
        .map(move |name| ObjectRef::<DeserializeGuard<DataPlane>>::new(&name).within(&in_namespace));
    let api: Api<DeserializeGuard<DataPlane>> = Api::namespaced(context.client.clone(), &namespace);
    let controller = Controller::new(api, watcher::Config::default());
    let planes = controller.store();
    let mut changes = context.fleet.changes();
    let registry = Arc::new(Registry {
        context,
        links: Mutex::default(),
        credentials: Mutex::default(),
        secrets,
        unheard: unheard.clone(),
        planes: planes.clone(),
        trigger: trigger.clone(),
    });

    let forward = {
        let (trigger, planes) = (trigger.clone(), planes.clone());
        async move {
            loop {
                tokio::select! {
                    Some(secret) = touched.next() => {
                        for plane in planes.state().iter().filter(|p| refers_to(p, &secret, &namespace)) {
                            let _ = trigger.send(plane.name_any()).await;
                        }
                    }
                    Ok(()) = unheard.changed() => for plane in planes.state() {
                        let _ = trigger.send(plane.name_any()).await;
                    },
                    // A ClientConfig lends its Secret from now on, or no longer.
                    Ok(()) = lent.changed() => for plane in planes.state().iter().filter(|p| is_borrower(p)) {
                        let _ = trigger.send(plane.name_any()).await;
                    },
                    change = changes.recv() => match change {
                        Ok(Change::Contact(name) | Change::Datacenters(name)) => { let _ = trigger.send(name).await; }
                        Ok(_) => {}
                        Err(broadcast::error::RecvError::Lagged(_)) => for plane in planes.state() {
                            let _ = trigger.send(plane.name_any()).await;
                        },
                        Err(broadcast::error::RecvError::Closed) => return,
                    },
                }
            }
        }
    };
    let run = controller
        .with_config(kube::runtime::controller::Config::default().concurrency(32))
        .reconcile_on(triggered)
        .graceful_shutdown_on(shutdown.clone().cancelled_owned())
        .run(reconcile, error_policy, registry.clone())
        .for_each(|result| async move {
            if let Err(error) = result {
                tracing::debug!(%error, "data plane reconcile");
            }
        });
    tokio::select! {
        () = forward => {}
        () = run => {}
        () = sources::run(&registry.context, tell) => {}
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

fn error_policy(plane: Arc<DeserializeGuard<DataPlane>>, error: &RegistryError, _: Arc<Registry>) -> Action {
    tracing::warn!(data_plane = plane.name_any(), %error, "data plane");
    Action::requeue(Duration::from_secs(5))
}

async fn reconcile(
    plane: Arc<DeserializeGuard<DataPlane>>,
    registry: Arc<Registry>,
) -> Result<Action, RegistryError> {
    let meters = registry.context.meters.clone();
    meters.reconcile("DataPlane", look(&plane, registry)).await
}

async fn look(plane: &DeserializeGuard<DataPlane>, registry: Arc<Registry>) -> Result<Action, RegistryError> {
    let plane = match &plane.0 {
        Ok(plane) => plane,
        Err(error) => {
            tracing::warn!(data_plane = plane.name_any(), %error, "DataPlane cannot be read");
            return Ok(Action::await_change());
        }
    };
    if plane.metadata.deletion_timestamp.is_some() {
        registry.find_again(plane).await?;
        return unregister::step(plane, &registry).await;
    }
    let name = plane.name_any();
    let verdict = registry.credential(plane).await?;
    let refusal = match verdict {
        Ok(credential) => {
            registry.claim(plane).await?;
            registry.connect(plane, credential).await.err()
        }
        Err(refusal) if registry.is_leaving(plane, &refusal) => {
            // In a moment it is deleted for that. Until then its link stays: the copies are taken back by it.
            return Ok(Action::requeue(PARTING.unsigned_abs()));
        }
        Err(refusal) => Some(refusal),
    };
    if refusal.is_some() {
        lock(&registry.links).remove(&name);
    }
    let health = registry.health(&name);
    let duplicate_of = registry.duplicate_of(plane, &health);
    registry.enrol(plane, refusal.as_ref(), duplicate_of.as_deref());
    registry.note_enrolled();
    registry.publish(plane, refusal.as_ref(), duplicate_of.as_deref(), &health).await?;
    Ok(Action::requeue(HEARTBEAT))
}

impl Registry {
    pub(super) fn health(&self, name: &str) -> Health {
        lock(&self.links).get(name).map(Link::health).unwrap_or_default()
    }

    pub(super) fn forget(&self, name: &str) {
        lock(&self.links).remove(name);
        lock(&self.credentials).remove(name);
        self.context.fleet.remove(name);
        self.context.fleet.announce(Change::Contact(name.to_owned()));
        self.context.fleet.announce(Change::Datacenters(name.to_owned()));
    }

    /// Connects to a data plane that was being deleted when this process started.
    async fn find_again(&self, plane: &DataPlane) -> Result<(), RegistryError> {
        let claimed = plane.finalizers().iter().any(|f| f == labels::FINALIZER);
        if !claimed || lock(&self.links).contains_key(&plane.name_any()) {
            return Ok(());
        }
        if let Ok(access) = self.credential(plane).await? {
            // A kubeconfig that is refused now leaves the copies where they are, which is then said.
            let _ = self.connect(plane, access).await;
        }
        Ok(())
    }

    /// Whether what registered a connected data plane is gone, or on its way.
    fn is_leaving(&self, plane: &DataPlane, refusal: &Refusal) -> bool {
        let name = plane.name_any();
        let Some(from) = plane.annotations().get(labels::REGISTERED_FROM) else { return false };
        if !lock(&self.links).contains_key(&name) {
            return false;
        }
        let no_secret = refusal.reason == Reason::SecretNotFound;
        let key = match RegisteredFrom::read(from) {
            RegisteredFrom::ClientConfig { namespace, name } => ObjectKey::new(namespace, name),
            RegisteredFrom::Secret(origin) => {
                // Another Secret it was made to refer to registers nothing.
                let reference = plane.spec.kubeconfig_secret_ref.as_ref();
                return no_secret && reference.is_some_and(|reference| reference.name == origin);
            }
        };
        let configs = self.context.sources.client_configs();
        let no_config = configs.standing == Standing::Listed
            && !configs.items.contains_key(&key)
            && !configs.unreadable.contains_key(&key);
        let since = lock(&self.credentials).get(&name).map(|credential| credential.observed_at);
        let just_now = || since.is_some_and(|since| clock::now().duration_since(since) < PARTING);
        no_config || (no_secret && just_now())
    }

    /// Makes sure that what is written there can be taken back before the DataPlane goes.
    async fn claim(&self, plane: &DataPlane) -> Result<(), RegistryError> {
        if plane.finalizers().iter().any(|f| f == labels::FINALIZER) {
            return Ok(());
        }
        let mut finalizers = plane.finalizers().to_vec();
        finalizers.push(labels::FINALIZER.to_owned());
        self.set_finalizers(plane, &finalizers).await
    }

    pub(super) async fn set_finalizers(
        &self,
        plane: &DataPlane,
        finalizers: &[String],
    ) -> Result<(), RegistryError> {
        let name = plane.name_any();
        let patch =
            json!({"metadata": {"finalizers": finalizers, "resourceVersion": plane.resource_version()}});
        let params = PatchParams {
            field_manager: Some(labels::MANAGER_CONTROL_PLANE.to_owned()),
            ..PatchParams::default()
        };
        self.api()
            .patch_metadata(&name, &params, &Patch::Merge(&patch))
            .await
            .map(drop)
            .map_err(|error| RegistryError::Write { name, error })
    }

    pub(super) fn api(&self) -> Api<DataPlane> {
        Api::namespaced(self.context.client.clone(), &self.context.namespace)
    }

    /// Keeps the running link when it was made from the same credential and limits, else makes a new one.
    async fn connect(&self, plane: &DataPlane, access: Access) -> Result<(), Refusal> {
        let name = plane.name_any();
        let limits = plane.spec.limits.clone().unwrap_or_default();
        let local = matches!(access, Access::Local);
        let credential = match &access {
            Access::Local => LOCAL.to_owned(),
            Access::Remote(vetted) => {
                format!("{}/{}", vetted.fingerprint, plane.spec.context.clone().unwrap_or_default())
            }
        };
        let Limits { qps, burst, max_in_flight, .. } = &limits;
        let fingerprint =
            format!("{}/{credential}/{qps:?}/{burst:?}/{max_in_flight:?}", plane.uid().unwrap_or_default());
        if lock(&self.links).get(&name).is_some_and(|link| link.fingerprint == fingerprint) {
            return Ok(());
        }
        let client = match access {
            Access::Local => self.context.client.clone(),
            Access::Remote(vetted) => credential::client(*vetted).await?,
        };
        let fleet = &self.context.fleet;
        // One that is being deleted since before the start is not in the fleet yet.
        fleet.update(&name, |_| {});
        let Some(Member { view, meters, .. }) = fleet.member(&name) else { return Ok(()) };
        let client = client::counted(client, move |status| meters.answered(status));
        let remote = Arc::new(Remote::new(client, &limits));
        fleet.update(&name, |member| member.remote = Some(remote.clone()));
        let options = LinkOptions {
            name: name.clone(),
            fingerprint,
            control_plane: self.context.control_plane.clone(),
            local,
        };
        let link = Link::start(options, remote, view, fleet.clone());
        lock(&self.links).insert(name, link);
        Ok(())
    }

    /// The DataPlane that is the same cluster as `plane` and comes before it: `local` first, then the
    /// oldest.
    pub(super) fn duplicate_of(&self, plane: &DataPlane, health: &Health) -> Option<String> {
        let id = health.cluster_id.as_ref()?;
        let links = lock(&self.links);
        let rank = |p: &DataPlane| {
            (p.spec.local != Some(true), p.metadata.creation_timestamp.as_ref().map(|t| t.0), p.name_any())
        };
        let planes = self.planes.state();
        let mut same: Vec<&DataPlane> = planes
            .iter()
            .filter_map(|p| p.0.as_ref().ok())
            .filter(|p| p.metadata.deletion_timestamp.is_none())
            .filter(|p| links.get(&p.name_any()).is_some_and(|l| l.health().cluster_id.as_ref() == Some(id)))
            .collect();
        same.sort_by_key(|p| rank(p));
        let first = same.first().map(|p| p.name_any()).filter(|first| *first != plane.name_any());
        drop(links);
        for other in same.iter().skip(1).filter(|p| p.name_any() != plane.name_any()) {
            let blocked = self.context.fleet.member(&other.name_any()).is_some_and(|m| m.blocked.is_some());
            if !blocked {
                let _ = self.trigger.try_send(other.name_any());
            }
        }
        first
    }

    /// Tells the fleet once every DataPlane of the first listing is in it.
    pub(super) fn note_enrolled(&self) {
        let fleet = &self.context.fleet;
        if !fleet.is_enrolled()
            && self
                .planes
                .state()
                .iter()
                .all(|p| p.meta().deletion_timestamp.is_some() || fleet.member(&p.name_any()).is_some())
        {
            fleet.set_enrolled();
        }
    }

    /// Writes into the fleet what the spec and the verdicts say.
    fn enrol(&self, plane: &DataPlane, refusal: Option<&Refusal>, duplicate_of: Option<&str>) {
        let name = plane.name_any();
        let blocked = match (refusal, duplicate_of) {
            (Some(refusal), _) => Some((refusal.reason, refusal.message.clone())),
            (None, Some(first)) => {
                Some((Reason::DuplicateCluster, format!("it is the same cluster as data plane `{first}`")))
            }
            (None, None) if plane.spec.paused == Some(true) => {
                Some((Reason::Paused, "its `spec.paused` is set".to_owned()))
            }
            (None, None) => None,
        };
        let mut news = false;
        let expires_at = lock(&self.credentials)
            .get(&name)
            .and_then(|c| c.verdict.as_ref().ok())
            .and_then(|v| v.expires_at);
        self.context.fleet.update(&name, |member| {
            member.credential_expires_at = expires_at;
            let limits = plane.spec.limits.as_ref();
            let max_backups = limit(limits.and_then(|limits| limits.max_concurrent_backups));
            news = member.blocked != blocked
                || member.labels != *plane.labels()
                || member.max_concurrent_backups != max_backups;
            member.max_concurrent_backups = max_backups;
            member.blocked = blocked;
            member.labels.clone_from(plane.labels());
            if refusal.is_some() {
                member.remote = None;
            }
        });
        if refusal.is_some()
            && let Some(member) = self.context.fleet.member(&name)
        {
            member.view.update(|view| {
                if view.contact == crate::control_plane::view::Contact::Live {
                    view.contact = crate::control_plane::view::Contact::Lost {
                        since: clock::now(),
                        why: "its kubeconfig is not accepted".to_owned(),
                    };
                }
            });
        }
        if news {
            self.context.fleet.announce(Change::Contact(name));
        }
    }
}
