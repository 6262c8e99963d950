//! Whether a DataPlane may be connected: its Secret, its finalizer, and what else has to be asked of the control plane's
//! own cluster first. Whatever goes wrong is that data plane's alone, and a refusal with a reason.

use std::time::Duration;

use jiff::SignedDuration;
use kube::{
    ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{
    controller::Registry,
    credential::{Access, unreadable},
    unregister::WayThere,
};
use crate::{
    api::{
        Reason, Why,
        fleet::{DataPlane, DeletionPolicy, RegisteredFrom},
        labels, names,
    },
    control_plane::{
        data_planes::{remote::in_time, view::ObjectKey},
        sources::Standing,
    },
    runtime::sync::lock,
};

/// How long a link outlives the Secret of a ClientConfig: who deletes both means to unregister the cluster, and its
/// copies are taken back by that link.
pub(super) const PARTING: SignedDuration = SignedDuration::from_secs(10);

/// Longest a question about one DataPlane to the control plane's own cluster may take.
const ASK: Duration = Duration::from_secs(10);

/// Whether a refusal says only that something could not be asked or written now.
pub(super) fn is_passing(refusal: &Why) -> bool {
    matches!(refusal.reason, Reason::SecretUnreadable | Reason::WriteRefused)
}

impl Registry {
    /// Reads and vets the credential, makes sure of the finalizer, and connects.
    pub(super) async fn admit(&self, plane: &DataPlane) -> Result<(), Why> {
        let access = self.ask(plane).await?;
        self.claim(plane).await?;
        self.connect(plane, access).await
    }

    /// Connects to a data plane that was accepted before, here or by another replica.
    pub(super) async fn reach(&self, plane: &DataPlane) -> Result<(), Why> {
        let access = self.ask(plane).await?;
        self.connect(plane, access).await
    }

    /// Asks for the credential. That its Secret cannot be read is a refusal like any other: it concerns this data plane alone.
    async fn ask(&self, plane: &DataPlane) -> Result<Access, Why> {
        if let Some(namespace) = plane.spec.namespaces.iter().find(|name| !names::is_namespace(name)) {
            let shown = names::shown(namespace, 80);
            let message = format!("`spec.namespaces`: no namespace can be called `{shown}`; correct it");
            return Err(Why::new(Reason::InvalidSpec, message));
        }
        let reference = plane.spec.kubeconfig_secret_ref.as_ref().filter(|_| plane.spec.local != Some(true));
        if let Some(reference) = reference {
            let fields = [
                ("name", Some(&reference.name)),
                ("namespace", reference.namespace.as_ref().filter(|namespace| !namespace.is_empty())),
            ];
            for (field, name) in fields {
                let is_name = name.is_none_or(|name| names::is_object_name(name));
                if !is_name {
                    let message = format!(
                        "`spec.kubeconfigSecretRef.{field}` is no name that an object can have; use lower-case \
                         letters, digits, `-` and `.`, at most 253, beginning and ending with a letter or digit"
                    );
                    return Err(Why::new(Reason::InvalidSpec, message));
                }
            }
        }
        match tokio::time::timeout(ASK, self.credential(plane)).await {
            Ok(verdict) => verdict,
            Err(_) => Err(unreadable(&format!("the Secret was not answered within {} s", ASK.as_secs()))),
        }
    }

    /// Connects to a data plane that was being deleted when this process started.
    pub(super) async fn find_again(&self, plane: &DataPlane) -> WayThere {
        if lock(&self.links).contains_key(&plane.uid().unwrap_or_default()) {
            return WayThere::Yes;
        }
        let is_kept = plane.spec.deletion_policy == Some(DeletionPolicy::Retain);
        if is_kept || self.is_twin(plane) {
            return WayThere::No; // Nothing of it is taken back, so that no connection is needed.
        }
        match self.reach(plane).await {
            // A kubeconfig that is refused now leaves the copies where they are, which is then said.
            Ok(()) => WayThere::Yes,
            Err(refusal) if is_passing(&refusal) => WayThere::Unknown,
            Err(_) => WayThere::No,
        }
    }

    /// Whether what registered a connected data plane is gone, or on its way.
    pub(super) fn is_leaving(&self, plane: &DataPlane, refusal: &Why) -> bool {
        let uid = plane.uid().unwrap_or_default();
        let Some(from) = plane.annotations().get(labels::REGISTERED_FROM) else { return false };
        if !lock(&self.links).contains_key(&uid) {
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
        let since = lock(&self.credentials).get(&uid).map(|credential| credential.observed_at);
        let just_now = || since.is_some_and(|since| self.context.fleet.now().duration_since(since) < PARTING);
        no_config || (no_secret && just_now())
    }

    /// Makes sure that what is written there can be taken back before the DataPlane goes.
    async fn claim(&self, plane: &DataPlane) -> Result<(), Why> {
        if plane.finalizers().iter().any(|f| f == labels::FINALIZER) {
            return Ok(());
        }
        let mut finalizers = plane.finalizers().to_vec();
        finalizers.push(labels::FINALIZER.to_owned());
        let why = match in_time(self.set_finalizers(plane, &finalizers)).await {
            Ok(()) => return Ok(()),
            Err(error) if matches!(error.code(), Some(404 | 409)) => {
                return Err(Why::new(Reason::Connecting, "its DataPlane changed in this moment"));
            }
            Err(error) => error.answer(),
        };
        let message = format!(
            "finalizer `{}` cannot be set, without which what is copied there could not be taken back: {why}; permit \
             the controller to change `metadata.finalizers`",
            labels::FINALIZER
        );
        Err(Why::new(Reason::WriteRefused, message))
    }

    pub(super) async fn set_finalizers(
        &self,
        plane: &DataPlane,
        finalizers: &[String],
    ) -> Result<(), kube::Error> {
        let patch =
            json!({"metadata": {"finalizers": finalizers, "resourceVersion": plane.resource_version()}});
        let params = PatchParams::apply(labels::MANAGER_CONTROL_PLANE);
        self.api().patch_metadata(&plane.name_any(), &params, &Patch::Merge(&patch)).await.map(drop)
    }
}
