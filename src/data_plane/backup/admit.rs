//! Whether the name of a backup is free.
//!
//! Pure.

use crate::{
    api::{Reason, medusa::MedusaBackup},
    data_plane::frame::problem::Problem,
};

/// Whether the name of a job that has not started is free: `existing` is the MedusaBackup of that name.
///
/// # Errors
/// When the name belongs to another datacenter or to a backup that was taken before.
pub fn name_is_free(existing: &MedusaBackup, datacenter: &str) -> Result<(), Problem> {
    let name = existing.metadata.name.as_deref().unwrap_or_default();
    let why = if existing.spec.cassandra_datacenter != datacenter {
        format!("belongs to CassandraDatacenter `{}`", existing.spec.cassandra_datacenter)
    } else if existing.status.as_ref().is_some_and(|s| s.status.is_some()) {
        "was taken before".to_owned()
    } else {
        return Ok(());
    };
    Err(Problem::for_good(
        Reason::NameConflict,
        format!("metadata.name: MedusaBackup `{name}` exists and {why}; create a job with a new name"),
    ))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    #[rstest]
    #[case("dc2", json!(null), false)]
    #[case("dc1", json!({"status": "SUCCESS"}), false)]
    #[case("dc1", json!({}), true)]
    #[case("dc1", json!(null), true)]
    fn a_name_is_used_once(#[case] datacenter: &str, #[case] status: Value, #[case] free: bool) {
        let existing: MedusaBackup = serde_json::from_value(json!({
            "metadata": {"name": "b1"}, "spec": {"cassandraDatacenter": datacenter}, "status": status
        }))
        .unwrap();
        assert_eq!(name_is_free(&existing, "dc1").is_ok(), free);
    }
}
