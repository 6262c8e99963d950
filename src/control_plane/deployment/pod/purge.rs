//! The schedule that purges a datacenter's backups every night (upstream: Purge schedule). Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource as _, ResourceExt as _, api::ObjectMeta};
use sha2::{Digest as _, Sha256};

use crate::{
    api::{
        cassandra::CassandraDatacenter,
        k8ssandra::MedusaTemplate,
        labels,
        medusa::{MedusaBackupJobSpec, MedusaBackupSchedule, MedusaBackupScheduleSpec, ScheduledOperation},
        names, operator_names,
    },
    control_plane::{data_planes::view::ObjectKey, identity::Identity},
};

/// Longest name of the schedule: its tasks' names are made of it.
const MAX_NAME: usize = 200;

/// For whom a schedule is made.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    pub source: &'a ObjectKey,
    pub source_uid: &'a str,
    /// Who makes it.
    pub control_plane: &'a Identity,
    /// Its name as it stands in names.
    pub sanitized: &'a str,
}

/// Whether `spec.medusa` asks for the schedule; it does unless it says no.
#[must_use]
pub fn is_wanted(medusa: &MedusaTemplate) -> bool {
    medusa.purge_backups != Some(false)
}

/// What every name of such a schedule ends with.
const SUFFIX: &str = "-medusa-purge";

/// Whether a schedule of ours has the name of one that purges for a K8ssandraCluster.
#[must_use]
pub fn is_name(name: &str) -> bool {
    name.ends_with(SUFFIX)
}

/// The schedule's name: `<cluster>-<datacenter>-medusa-purge`, after Cassandra's own name of the datacenter.
#[must_use]
pub fn name(sanitized: &str, datacenter: &CassandraDatacenter) -> String {
    let display = operator_names::label(&datacenter.display_name());
    format!("{}{SUFFIX}", names::shorten(&format!("{sanitized}-{display}"), MAX_NAME - SUFFIX.len()))
}

/// The schedule for `datacenter`, to be applied beside it. It goes when the datacenter goes.
#[must_use]
pub fn schedule(origin: &Origin<'_>, datacenter: &CassandraDatacenter) -> MedusaBackupSchedule {
    let place = ObjectKey::of(datacenter);
    let owner = OwnerReference {
        api_version: CassandraDatacenter::api_version(&()).into_owned(),
        kind: CassandraDatacenter::kind(&()).into_owned(),
        name: place.name.clone(),
        uid: datacenter.uid().unwrap_or_default(),
        controller: None,
        block_owner_deletion: None,
    };
    let labels: BTreeMap<String, String> =
        datacenter.datacenter_labels().into_iter().chain([origin.control_plane.label()]).collect();
    let source = [
        (labels::SOURCE.to_owned(), origin.source.to_string()),
        (labels::SOURCE_UID.to_owned(), origin.source_uid.to_owned()),
    ];
    let annotations = source.into_iter().chain(origin.control_plane.mark());
    MedusaBackupSchedule {
        metadata: ObjectMeta {
            name: Some(name(origin.sanitized, datacenter)),
            namespace: Some(place.namespace.clone()),
            labels: Some(labels),
            annotations: Some(annotations.collect()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: MedusaBackupScheduleSpec {
            cron_schedule: cron(origin.source, &place),
            // The object's name: schedules look for an object, not for Cassandra's datacenter (upstream: Purge schedule).
            backup_spec: MedusaBackupJobSpec {
                cassandra_datacenter: place.name,
                ..MedusaBackupJobSpec::default()
            },
            operation_type: ScheduledOperation::Purge,
            ..MedusaBackupScheduleSpec::default()
        },
        status: None,
    }
}

/// Once a night, in the hour after midnight, at a minute of its own that never changes: not everybody's purge
/// starts at once.
fn cron(source: &ObjectKey, place: &ObjectKey) -> String {
    let digest = Sha256::digest(format!("{source}\n{place}").as_bytes());
    let number = digest.iter().take(4).fold(0_u32, |number, byte| (number << 8) | u32::from(*byte));
    format!("{} 0 * * *", number % 60)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;

    fn datacenter(name: &str, spec: Value) -> CassandraDatacenter {
        let metadata = json!({"name": name, "namespace": "cassandra", "uid": "u1"});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    fn made(datacenter: &CassandraDatacenter) -> MedusaBackupSchedule {
        let source = ObjectKey::new("prod", "shop");
        let origin = Origin {
            source: &source,
            source_uid: "s1",
            control_plane: &Identity::named("fleet.0001"),
            sanitized: "shop",
        };
        schedule(&origin, datacenter)
    }

    #[test]
    fn a_datacenter_is_purged_every_night() {
        insta::assert_yaml_snapshot!(made(&datacenter("dc1", json!({"clusterName": "Shop"}))));
    }

    #[test]
    fn an_overridden_name_is_in_the_name_and_the_objects_name_is_purged() {
        let made = made(&datacenter("dc2", json!({"clusterName": "Shop", "datacenterName": "Real_DC2"})));
        assert_eq!(made.metadata.name.as_deref(), Some("shop-real-dc2-medusa-purge"));
        assert_eq!(made.spec.backup_spec.cassandra_datacenter, "dc2");
    }

    #[test]
    fn minutes_are_spread_over_the_hour_and_stay() {
        let source = ObjectKey::new("prod", "shop");
        let at = |n: u32| cron(&source, &ObjectKey::new("cassandra", format!("dc{n}")));
        let minutes: BTreeSet<String> = (0..300).map(at).collect();
        assert!(minutes.len() > 50, "{minutes:?}");
        for cron in &minutes {
            let (minute, rest) = cron.split_once(' ').unwrap();
            assert!(minute.parse::<u32>().unwrap() < 60 && rest == "0 * * *");
        }
        assert_eq!(at(1), at(1));
    }

    #[test]
    fn the_schedule_is_on_unless_it_is_turned_off() {
        let wanted = |purge| is_wanted(&MedusaTemplate { purge_backups: purge, ..MedusaTemplate::default() });
        assert_eq!([None, Some(true), Some(false)].map(wanted), [true, true, false]);
    }

    #[test]
    fn long_names_fit() {
        let dc = datacenter(&"d".repeat(60), json!({"clusterName": "Shop"}));
        assert!(name(&"s".repeat(300), &dc).len() <= MAX_NAME);
    }
}
