//! What Medusa is configured with: the storage of a K8ssandraCluster and of its MedusaConfiguration merged and judged, and
//! the `medusa.ini` and ConfigMap that are made of it.
//!
//! In reading order: `written` (what counts as written) → `storage` (merges) → `validate` (judges) → `prefix` (who else has
//! that place) → `ini` → `config_map`. Pure. Nothing here may know of a data plane.

pub(crate) mod config_map;
pub mod ini;
pub(crate) mod prefix;
pub mod storage;
pub mod validate;
pub(crate) mod written;
