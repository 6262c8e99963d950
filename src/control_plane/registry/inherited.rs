//! What an earlier installation of the fleet left in a data plane and nothing here stands for yet: it stays as it is, and the
//! DataPlane says so. Pure.

use std::collections::BTreeSet;

use kube::ResourceExt as _;

use crate::{
    api::{labels, names},
    control_plane::{
        data_planes::view::View,
        identity::{Identity, deployer, maker},
    },
};

/// Most objects that are named.
const NAMED: usize = 8;

/// What waits in a data plane for the objects it was made from, with the installations that made it; `None` when nothing does.
#[must_use]
pub fn told(view: &View, control_plane: &Identity) -> Option<String> {
    let mut waits: BTreeSet<String> = BTreeSet::new();
    let mut installations: BTreeSet<&str> = BTreeSet::new();
    let mut add = |installation, what: String, origin: &str| {
        installations.insert(installation);
        waits.insert(format!("{what} (of {})", names::shown(origin, 120)));
    };
    for (kind, section) in [("Secret", &view.secrets), ("MedusaConfiguration", &view.configurations)] {
        for (key, copy) in section.last_known() {
            if control_plane.is_earlier(&copy.installation) {
                add(copy.installation.as_str(), format!("{kind} {key}"), &copy.source);
            }
        }
    }
    for (key, datacenter) in view.datacenters.last_known() {
        let Some((fleet, installation)) = deployer(&datacenter.metadata) else { continue };
        if control_plane.is_own(fleet) && control_plane.is_earlier(installation) {
            let origin = datacenter.annotations().get(labels::MEDUSA_FOR).map_or("", String::as_str);
            add(
                installation,
                format!("Medusa in CassandraDatacenter {key}"),
                &format!("K8ssandraCluster {origin}"),
            );
        }
    }
    for (key, schedule) in view.schedules.last_known() {
        let meta = &schedule.metadata;
        let Some(of) = schedule.labels().get(labels::FLEET_SCHEDULE) else { continue };
        if control_plane.wrote(meta)
            && control_plane.is_inherited(meta)
            && let Some(installation) = maker(meta)
        {
            add(installation, format!("MedusaBackupSchedule {key}"), &format!("FleetBackupSchedule {of}"));
        }
    }
    if waits.is_empty() {
        return None;
    }
    let more = waits.len().saturating_sub(NAMED);
    let mut named: Vec<String> = waits.into_iter().take(NAMED).collect();
    if more > 0 {
        named.push(format!("{more} more"));
    }
    let installations = Vec::from_iter(installations).join("`, `");
    Some(format!(
        "left by an earlier installation of this fleet (`{installations}`) and kept until what it was made from is created \
         again: {}. What will not come back is given up with `kubectl medusa adopt --forget INSTALLATION`",
        named.join("; ")
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::control_plane::{
        data_planes::{records::CopyRecord, view::ObjectKey},
        identity::FleetRecord,
    };

    fn identity(forgotten: &[&str]) -> Identity {
        let forgotten = forgotten.iter().map(|name| (*name).to_owned()).collect();
        Identity::new(
            FleetRecord { fleet: Some("shop".to_owned()), forgotten, ..FleetRecord::default() },
            "ns.2",
        )
    }

    fn copy(installation: &str) -> Arc<CopyRecord> {
        let (fleet, installation) = ("shop".to_owned(), installation.to_owned());
        Arc::new(CopyRecord {
            fleet,
            installation,
            source: "fleet/bucket".to_owned(),
            ..CopyRecord::default()
        })
    }

    #[test]
    fn what_waits_is_named_until_it_is_forgotten_or_written_again() {
        let mut view = View::unknown();
        view.secrets.put(ObjectKey::new("cass", "bucket"), copy("ns.1"));
        view.secrets.put(ObjectKey::new("cass", "mine"), copy("ns.2"));
        let datacenter = json!({
            "metadata": {"name": "dc1", "namespace": "cass", "annotations": {
                labels::MEDUSA_FOR: "fleet/shop", labels::MEDUSA_FOR_CONTROL_PLANE: "shop", labels::INSTALLATION: "ns.1",
            }},
            "spec": {"clusterName": "shop", "size": 3, "serverType": "cassandra", "serverVersion": "4.1.0"},
        });
        view.datacenters
            .put(ObjectKey::new("cass", "dc1"), Arc::new(serde_json::from_value(datacenter).unwrap()));
        let said = told(&view, &identity(&[])).unwrap();
        assert!(said.contains("(`ns.1`)"), "{said}");
        assert!(said.contains("Secret cass/bucket (of fleet/bucket)"), "{said}");
        assert!(
            said.contains("Medusa in CassandraDatacenter cass/dc1 (of K8ssandraCluster fleet/shop)"),
            "{said}"
        );
        assert!(!said.contains("mine"), "{said}");
        assert_eq!(told(&view, &identity(&["ns.1"])), None);
    }
}
