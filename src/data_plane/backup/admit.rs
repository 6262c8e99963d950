//! Whether a backup can begin: the datacenter and its pods, looked at before anything is written.
//!
//! Pure. What stands in the way is a [`Problem`] that names the field and what to do about it.

use crate::{
    api::{
        Reason,
        cassandra::{CassandraDatacenter, MEDUSA_CONTAINER},
        medusa::MedusaBackup,
    },
    data_plane::pods::PodView,
};

/// Why a job does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// For machines.
    pub reason: Reason,
    /// For people: what is wrong with which field, and what to do.
    pub message: String,
    /// The pods it is about, if any.
    pub pods: Vec<String>,
    /// Whether waiting may help.
    pub may_heal: bool,
}

impl Problem {
    /// A problem that may go away by itself or by somebody's doing.
    #[must_use]
    pub fn new(reason: Reason, message: String) -> Self {
        Self { reason, message, pods: Vec::new(), may_heal: true }
    }
}

/// The job names a datacenter that is not there.
#[must_use]
pub fn unknown_datacenter(name: &str, namespace: &str) -> Problem {
    Problem::new(
        Reason::DatacenterNotFound,
        format!(
            "spec.cassandraDatacenter: there is no CassandraDatacenter `{name}` in namespace `{namespace}`; \
             give the object's name, not Cassandra's own, and create the job beside it"
        ),
    )
}

/// The Secret for TLS is missing or cannot be used; `why` says so without showing any of it.
#[must_use]
pub fn bad_tls(datacenter: &str, annotation: &str, secret: &str, why: &str) -> Problem {
    Problem::new(
        Reason::InvalidTlsSecret,
        format!(
            "annotation {annotation} of CassandraDatacenter `{datacenter}` names Secret `{secret}`: {why}; \
             it needs PEM data in `ca.crt`, `tls.crt` and `tls.key`"
        ),
    )
}

/// Whether a backup of `dc` over `pods` can begin.
///
/// # Errors
/// What stands in the way.
pub fn check(dc: &CassandraDatacenter, pods: &[PodView]) -> Result<(), Problem> {
    let name = dc.metadata.name.as_deref().unwrap_or_default();
    if dc.spec.stopped {
        return Err(Problem::new(
            Reason::DatacenterStopped,
            format!("CassandraDatacenter `{name}` is stopped (spec.stopped); start it to back it up"),
        ));
    }
    let without: Vec<String> = pods.iter().filter(|p| !p.has_medusa).map(|p| p.name.clone()).collect();
    if !without.is_empty() {
        let list = without.join(", ");
        return Err(Problem {
            pods: without,
            ..Problem::new(
                Reason::MedusaContainerMissing,
                format!(
                    "no container `{MEDUSA_CONTAINER}` in pods {list} of CassandraDatacenter `{name}`; \
                     deploy Medusa there (spec.medusa of its cluster)"
                ),
            )
        });
    }
    let expected = usize::try_from(dc.spec.size).unwrap_or_default();
    if pods.is_empty() || pods.len() < expected {
        return Err(Problem::new(
            Reason::NoPods,
            format!(
                "{} of {expected} pods of CassandraDatacenter `{name}` exist; a backup without the others \
                 could not be restored",
                pods.len()
            ),
        ));
    }
    Ok(())
}

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
    Err(Problem {
        may_heal: false,
        ..Problem::new(
            Reason::NameConflict,
            format!("metadata.name: MedusaBackup `{name}` exists and {why}; create a job with a new name"),
        )
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::data_plane::pods::Instance;

    fn dc(spec: &Value) -> CassandraDatacenter {
        serde_json::from_value(json!({"metadata": {"name": "dc1"}, "spec": spec})).unwrap()
    }

    fn pods(n: usize, has_medusa: bool) -> Vec<PodView> {
        (0..n)
            .map(|i| PodView {
                name: format!("dc1-{i}"),
                address: None,
                has_medusa,
                ready_since: None,
                instance: Instance::default(),
            })
            .collect()
    }

    #[rstest]
    #[case(json!({"size": 3}), pods(3, true), None)]
    #[case(json!({"size": 2}), pods(3, true), None)]
    #[case(json!({"size": 3}), pods(2, true), Some(Reason::NoPods))]
    #[case(json!({"size": 3}), pods(0, true), Some(Reason::NoPods))]
    #[case(json!({}), pods(0, true), Some(Reason::NoPods))]
    #[case(json!({"size": 3}), pods(3, false), Some(Reason::MedusaContainerMissing))]
    #[case(json!({"size": 3, "stopped": true}), pods(0, true), Some(Reason::DatacenterStopped))]
    fn a_backup_begins_only_where_it_can_end_well(
        #[case] spec: Value,
        #[case] pods: Vec<PodView>,
        #[case] expected: Option<Reason>,
    ) {
        assert_eq!(check(&dc(&spec), &pods).err().map(|p| p.reason), expected);
    }

    #[test]
    fn a_missing_container_is_told_with_its_pods() {
        let problem = check(&dc(&json!({"size": 2})), &pods(2, false)).unwrap_err();
        assert_eq!(problem.pods, ["dc1-0", "dc1-1"]);
        assert!(problem.message.contains("dc1-0, dc1-1"), "{}", problem.message);
    }

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
