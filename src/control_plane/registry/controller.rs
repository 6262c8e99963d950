//! Reconciles DataPlanes: vets the kubeconfig, keeps the link, publishes what is known.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Time};
use kube::{
    Api, Client, Config, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
    config::KubeConfigOptions,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        Controller, WatchStreamExt as _,
        controller::Action,
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use serde_json::json;
use thiserror::Error;
use tokio::sync::{OnceCell, broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{
    health::{self, Health},
    kubeconfig::{self, Refusal, Vetted},
    link::{Link, LinkOptions},
    remote::Remote,
    unregister,
};
use crate::{
    api::{
        Reason,
        fleet::{CredentialStatus, DataPlane, DataPlaneStatus, LOCAL, Limits},
        labels,
    },
    control_plane::{
        fleet::{Change, Fleet, Member},
        view::View,
    },
    runtime::{
        client::{self, Patience},
        clock,
        events::Events,
    },
};

/// How often `lastContactTime` is written while nothing else changes.
const HEARTBEAT: Duration = Duration::from_mins(1);

/// What the registry needs.
pub struct RegistryContext {
    /// The control plane's own cluster.
    pub client: Client,
    /// The controller's namespace.
    pub namespace: String,
    /// The data planes.
    pub fleet: Arc<Fleet>,
    /// Value of the control-plane label on everything we write.
    pub control_plane: String,
    /// Kubeconfig fields that are accepted although they are unsafe.
    pub allow_unsafe: BTreeSet<String>,
    /// Where Events go.
    pub events: Events,
}

/// A credential as read from a version of its Secret.
struct Credential {
    /// Secret name and resourceVersion, key and context it was read from.
    read_from: (String, String, Option<String>, Option<String>),
    verdict: Result<Vetted, Refusal>,
    observed_at: Timestamp,
}

pub(super) struct Registry {
    pub(super) context: RegistryContext,
    links: Mutex<BTreeMap<String, Link>>,
    credentials: Mutex<BTreeMap<String, Credential>>,
    secrets: Store<PartialObjectMeta<Secret>>,
    secrets_listed: OnceCell<()>,
    planes: Store<DeserializeGuard<DataPlane>>,
    trigger: mpsc::Sender<String>,
}

#[derive(Debug, Error)]
pub(super) enum RegistryError {
    #[error("read Secret `{name}`: {error}")]
    ReadSecret { name: String, error: kube::Error },
    #[error("write DataPlane `{name}`: {error}")]
    Write { name: String, error: kube::Error },
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs until `shutdown`.
pub async fn run(context: RegistryContext, shutdown: CancellationToken) {
    let namespace = context.namespace.clone();
    let (secrets, writer) = reflector::store();
    let secret_api: Api<PartialObjectMeta<Secret>> = Api::namespaced(context.client.clone(), &namespace);
    let mut secret_events = watcher(secret_api, watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .touched_objects()
        .boxed();
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
        secrets_listed: OnceCell::new(),
        planes: planes.clone(),
        trigger: trigger.clone(),
    });

    let forward = {
        let (trigger, planes) = (trigger.clone(), planes.clone());
        async move {
            loop {
                tokio::select! {
                    event = secret_events.next() => {
                        let Some(Ok(secret)) = event else { continue };
                        let name = secret.name_any();
                        for plane in planes.state().iter().filter(|p| refers_to(p, &name)) {
                            let _ = trigger.send(plane.name_any()).await;
                        }
                    }
                    change = changes.recv() => match change {
                        Ok(Change::Contact(name) | Change::Datacenters(name)) => { let _ = trigger.send(name).await; }
                        Ok(Change::Job { .. } | Change::Backups(_) | Change::Copies(_)) => {}
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
        .run(reconcile, error_policy, registry)
        .for_each(|result| async move {
            if let Err(error) = result {
                tracing::debug!(%error, "data plane reconcile");
            }
        });
    tokio::select! {
        () = forward => {}
        () = run => {}
    }
}

fn refers_to(plane: &DeserializeGuard<DataPlane>, secret: &str) -> bool {
    plane.0.as_ref().is_ok_and(|p| p.spec.kubeconfig_secret_ref.as_ref().is_some_and(|r| r.name == secret))
}

fn error_policy(plane: Arc<DeserializeGuard<DataPlane>>, error: &RegistryError, _: Arc<Registry>) -> Action {
    tracing::warn!(data_plane = plane.name_any(), %error, "data plane");
    Action::requeue(Duration::from_secs(5))
}

async fn reconcile(
    plane: Arc<DeserializeGuard<DataPlane>>,
    registry: Arc<Registry>,
) -> Result<Action, RegistryError> {
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
            return Ok(Action::requeue(HEARTBEAT));
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

/// How a data plane is reached: the control plane's own client, or a vetted kubeconfig.
enum Access {
    Local,
    Remote(Box<Vetted>),
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

    /// Reads and vets the credential, unless this version of its Secret was read before.
    async fn credential(&self, plane: &DataPlane) -> Result<Result<Access, Refusal>, RegistryError> {
        let name = plane.name_any();
        let refuse = |reason, message: &str| Ok(Err(Refusal { reason, message: message.to_owned() }));
        if plane.spec.local == Some(true) {
            return Ok(Ok(Access::Local));
        }
        if name == LOCAL {
            return refuse(
                Reason::ReservedName,
                "the name `local` means the control plane's own cluster; choose another",
            );
        }
        let Some(reference) = &plane.spec.kubeconfig_secret_ref else {
            return refuse(
                Reason::SecretNotFound,
                "`spec.kubeconfigSecretRef` is not set; name the Secret that holds the kubeconfig",
            );
        };
        // One waiter only: kube's store wakes the last of several and forgets the others.
        self.secrets_listed.get_or_init(|| async { drop(self.secrets.wait_until_ready().await) }).await;
        let key =
            ObjectRef::<PartialObjectMeta<Secret>>::new(&reference.name).within(&self.context.namespace);
        let version =
            self.secrets.get(&key).and_then(|s| s.metadata.resource_version.clone()).unwrap_or_default();
        let read_from = (reference.name.clone(), version, reference.key.clone(), plane.spec.context.clone());
        if let Some(known) = lock(&self.credentials).get(&name).filter(|c| c.read_from == read_from) {
            return Ok(known.verdict.clone().map(|v| Access::Remote(Box::new(v))));
        }
        let secret = Api::<Secret>::namespaced(self.context.client.clone(), &self.context.namespace)
            .get_opt(&reference.name)
            .await
            .map_err(|error| RegistryError::ReadSecret { name: reference.name.clone(), error })?;
        let verdict = vet(secret, plane, &self.context.allow_unsafe);
        let credential = Credential { read_from, verdict: verdict.clone(), observed_at: clock::now() };
        lock(&self.credentials).insert(name, credential);
        Ok(verdict.map(|v| Access::Remote(Box::new(v))))
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

    /// Whether the labelled Secret that registered a connected data plane is gone.
    fn is_leaving(&self, plane: &DataPlane, refusal: &Refusal) -> bool {
        refusal.reason == Reason::SecretNotFound
            && plane.annotations().contains_key(labels::REGISTERED_FROM)
            && lock(&self.links).contains_key(&plane.name_any())
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

    fn api(&self) -> Api<DataPlane> {
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
                format!("{}/{}", vetted.hash, plane.spec.context.clone().unwrap_or_default())
            }
        };
        let Limits { qps, burst, max_in_flight } = &limits;
        let fingerprint =
            format!("{}/{credential}/{qps:?}/{burst:?}/{max_in_flight:?}", plane.uid().unwrap_or_default());
        if lock(&self.links).get(&name).is_some_and(|link| link.fingerprint == fingerprint) {
            return Ok(());
        }
        let invalid = |error: String| Refusal { reason: Reason::InvalidKubeconfig, message: error };
        let client = match access {
            Access::Local => self.context.client.clone(),
            Access::Remote(vetted) => {
                let config = Config::from_custom_kubeconfig(vetted.kubeconfig, &KubeConfigOptions::default())
                    .await
                    .map_err(|_| invalid("the kubeconfig's certificates or keys cannot be read; check the base64 and PEM of its `…-data` fields".to_owned()))?;
                client::connect(config, Patience::REMOTE).map_err(|_| {
                    invalid(
                        "no client can be made of the kubeconfig; check its certificates and keys".to_owned(),
                    )
                })?
            }
        };
        let remote = Arc::new(Remote::new(client, &limits));
        let fleet = &self.context.fleet;
        fleet.update(&name, |member| member.remote = Some(remote.clone()));
        let Some(Member { view, .. }) = fleet.member(&name) else { return Ok(()) };
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
            news = member.blocked != blocked || member.labels != *plane.labels();
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

    async fn publish(
        &self,
        plane: &DataPlane,
        refusal: Option<&Refusal>,
        duplicate_of: Option<&str>,
        health: &Health,
    ) -> Result<(), RegistryError> {
        let name = plane.name_any();
        let now = clock::now();
        let old = plane.status.clone().unwrap_or_default();
        let view = self.context.fleet.member(&name).map(|m| m.view.get());
        let view = view.unwrap_or_else(|| Arc::new(View::unknown()));
        let credential = lock(&self.credentials).get(&name).and_then(|c| {
            let vetted = c.verdict.as_ref().ok()?;
            let observed = old.credential.as_ref().filter(|o| o.hash.as_ref() == Some(&vetted.hash));
            Some(CredentialStatus {
                hash: Some(vetted.hash.clone()),
                expires_at: vetted.expires_at.map(Time),
                observed_at: observed.and_then(|o| o.observed_at.clone()).or(Some(Time(c.observed_at))),
            })
        });
        let facts = health::Facts {
            refusal,
            duplicate_of,
            paused: plane.spec.paused == Some(true),
            expires_at: credential.as_ref().and_then(|c| c.expires_at.as_ref()).map(|t| t.0),
            health,
            view: &view,
        };
        let mut status = DataPlaneStatus {
            observed_generation: plane.metadata.generation,
            cluster_id: health.cluster_id.clone().or(old.cluster_id.clone()),
            kubernetes_version: health.version.clone().or(old.kubernetes_version.clone()),
            medusa_controller: health.controller.clone().or(old.medusa_controller.clone()),
            credential,
            datacenters: if view.datacenters.synced {
                i64::try_from(view.datacenters.items.len()).ok()
            } else {
                old.datacenters
            },
            last_contact_time: health.last_contact.map(Time).or(old.last_contact_time.clone()),
            disconnected_since: health.disconnected_since.map(Time),
            next_attempt_time: health.next_attempt.map(Time),
            conditions: old.conditions.clone(),
        };
        health::conditions(&mut status.conditions, &facts, plane.metadata.generation, now);
        if is_news(&old, &status) {
            let body = json!({
                "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "DataPlane",
                "metadata": {"name": name}, "status": status,
            });
            let params = PatchParams::apply(labels::MANAGER_CONTROL_PLANE).force();
            self.api()
                .patch_status(&name, &params, &Patch::Apply(&body))
                .await
                .map_err(|error| RegistryError::Write { name: name.clone(), error })?;
            self.tell(plane, &old, &status);
        }
        Ok(())
    }

    /// An Event whenever the summary changes its mind.
    fn tell(&self, plane: &DataPlane, old: &DataPlaneStatus, new: &DataPlaneStatus) {
        use crate::api::Conditions as _;
        let summary = |status: &DataPlaneStatus| {
            status.conditions.of_type("Ready").map(|c| (c.status.clone(), c.reason.clone()))
        };
        let (before, Some(ready)) = (summary(old), new.conditions.of_type("Ready")) else { return };
        if before == summary(new) {
            return;
        }
        let about = plane.object_ref(&());
        match health::summary_reason(ready) {
            Some(Reason::Ready) => {
                self.context.events.normal(about, Reason::Ready, "Connect", ready.message.clone());
            }
            // A connection that is being made is not worth an Event.
            Some(Reason::Connecting | Reason::WatchesStale) | None => {}
            Some(reason) => self.context.events.warning(about, reason, "Connect", ready.message.clone()),
        }
    }
}

fn vet(secret: Option<Secret>, plane: &DataPlane, allow: &BTreeSet<String>) -> Result<Vetted, Refusal> {
    let reference = plane.spec.kubeconfig_secret_ref.clone().unwrap_or_default();
    let refusal = |reason, message| Refusal { reason, message };
    let Some(secret) = secret else {
        let message = format!("Secret `{}` does not exist in this namespace; create it", reference.name);
        return Err(refusal(Reason::SecretNotFound, message));
    };
    let data = secret.data.unwrap_or_default();
    let keys: Vec<&str> = match reference.key.as_deref().filter(|k| !k.is_empty()) {
        Some(key) => vec![key],
        None => kubeconfig::SECRET_KEYS.to_vec(),
    };
    let Some(bytes) = keys.iter().find_map(|key| data.get(*key)) else {
        let message = format!(
            "Secret `{}` has no key `{}`; put the kubeconfig there",
            reference.name,
            keys.join("` or `")
        );
        return Err(refusal(Reason::KubeconfigKeyMissing, message));
    };
    let text = std::str::from_utf8(&bytes.0).map_err(|_| {
        refusal(
            Reason::InvalidKubeconfig,
            format!("the kubeconfig in Secret `{}` is not text", reference.name),
        )
    })?;
    kubeconfig::vet(text, plane.spec.context.as_deref(), allow)
}

/// Whether a status is worth a write: times alone only once a minute.
fn is_news(old: &DataPlaneStatus, new: &DataPlaneStatus) -> bool {
    let without_times = |status: &DataPlaneStatus| DataPlaneStatus {
        last_contact_time: None,
        next_attempt_time: None,
        ..status.clone()
    };
    if without_times(old) != without_times(new) {
        return true;
    }
    let heartbeat =
        SignedDuration::try_from(HEARTBEAT).unwrap_or(SignedDuration::ZERO) - SignedDuration::from_secs(5);
    match (&old.last_contact_time, &new.last_contact_time) {
        (Some(old), Some(new)) => new.0.duration_since(old.0) >= heartbeat,
        (None, Some(_)) => true,
        (_, None) => false,
    }
}
