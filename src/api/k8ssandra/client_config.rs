//! `ClientConfig` (`config.k8ssandra.io/v1beta1`): k8ssandra-operator's way to register a cluster (upstream: ClientConfig).
//!
//! Read only. The definition is upstream's alone: where it is not installed there are no ClientConfigs.

use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// A cluster by its kubeconfig. Every field is optional on the way in.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "config.k8ssandra.io",
    version = "v1beta1",
    kind = "ClientConfig",
    plural = "clientconfigs",
    namespaced,
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientConfigSpec {
    /// Context of the kubeconfig, and what K8ssandraClusters call the cluster; the object's name when empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub context_name: String,
    /// The Secret with the kubeconfig.
    pub kube_config_secret: KubeConfigSecret,
}

/// A Secret in the ClientConfig's namespace that holds a kubeconfig.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KubeConfigSecret {
    /// Its name.
    pub name: String,
}

impl ClientConfig {
    /// The context it is about: `spec.contextName`, else its own name.
    #[must_use]
    pub fn context(&self) -> &str {
        match self.spec.context_name.as_str() {
            "" => self.metadata.name.as_deref().unwrap_or_default(),
            context => context,
        }
    }
}
