//! What the pods of a datacenter are made of. Pure.

use super::image::Image;
use crate::{
    api::k8ssandra::{EncryptionStores, MedusaTemplate},
    control_plane::{data_planes::view::ObjectKey, identity::Identity},
};

/// The init container that restores.
pub const RESTORE: &str = "medusa-restore";
/// cass-operator's init container, which writes the configuration Medusa reads: it has to run first.
pub const SERVER_CONFIG: &str = "server-config-init";

/// Everything the body is made of. Names of Secrets are of those in the datacenter's namespace.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The CassandraDatacenter.
    pub datacenter: &'a ObjectKey,
    /// Its uid: another datacenter of that name is not meant.
    pub uid: &'a str,
    /// The K8ssandraCluster.
    pub source: &'a ObjectKey,
    /// Who deploys.
    pub control_plane: &'a Identity,
    /// The K8ssandraCluster's name as it stands in names.
    pub sanitized: &'a str,
    /// `spec.medusa`.
    pub medusa: &'a MedusaTemplate,
    /// The image unless `spec.medusa` asks for another.
    pub image: &'a Image,
    /// ConfigMap with medusa.ini.
    pub config_map: &'a str,
    /// Its key for this datacenter.
    pub ini_key: &'a str,
    /// Secret with the storage's credentials; `None` with a role.
    pub storage_secret: Option<&'a str>,
    /// The storage's address where the pods' environment has to hold it ([`crate::control_plane::deployment::config::ini::endpoint`]).
    pub endpoint: Option<&'a str>,
    /// Claim that holds backups, with the provider `local`.
    pub backups_claim: Option<&'a str>,
    /// Secret with Medusa's user; `None` when somebody else hands it out.
    pub user_secret: Option<&'a str>,
    /// What Medusa presents to Cassandra.
    pub certificates: Certificates<'a>,
    /// Secret a caller of the management API authenticates with.
    pub management_secret: Option<&'a str>,
    /// [`super::template::checksum`] of the Secrets that are read only when a pod starts.
    pub secrets: Option<&'a str>,
}

impl<'a> Request<'a> {
    /// Secret of the gRPC service, where it is encrypted.
    #[must_use]
    pub fn grpc_server_secret(&self) -> Option<&'a str> {
        self.medusa.encryption().map(|e| e.server_secret_name.as_str()).filter(|name| !name.is_empty())
    }

    /// What a caller of it presents.
    #[must_use]
    pub fn grpc_client_secret(&self) -> Option<&'a str> {
        self.medusa.encryption().map(|e| e.client_secret_name.as_str()).filter(|name| !name.is_empty())
    }
}

/// The certificates Medusa presents to Cassandra.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Certificates<'a> {
    /// None.
    #[default]
    None,
    /// A Secret with `rootca.crt`, `client.crt_signed` and `client.key`.
    Secret(&'a str),
    /// One Secret's key for each.
    Stores(&'a EncryptionStores),
}
