//! What a look at a Delegated schedule could not read: what is known of that stands until it is read again. Pure.

use std::collections::BTreeSet;

use super::{delegate::can_write, history::History};
use crate::{
    api::fleet::DatacenterRun,
    control_plane::data_planes::{fleet::Snapshot, view::ObjectKey},
};

/// What nobody knows at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stale {
    /// Data planes that do not answer, or have not listed all runs of the schedule.
    planes: BTreeSet<String>,
    /// Datacenters whose MedusaBackupSchedule is not as it should be.
    datacenters: BTreeSet<DatacenterKey>,
}

/// A datacenter: its data plane, and its namespace and name there.
pub type DatacenterKey = (String, ObjectKey);

/// Where the datacenter of `entry` is.
#[must_use]
pub fn place_of(entry: &DatacenterRun) -> DatacenterKey {
    (entry.data_plane.clone(), ObjectKey::new(&entry.namespace, &entry.datacenter))
}

impl Stale {
    /// Of the registered `planes` and the datacenters that are `wanted`, of which `there` have their
    /// MedusaBackupSchedule.
    #[must_use]
    pub fn of(wanted: &[DatacenterRun], there: &[(DatacenterRun, ObjectKey)], planes: &[Snapshot]) -> Self {
        let is_read = |plane: &Snapshot| {
            let mut own = there.iter().filter(|(entry, _)| entry.data_plane == plane.name);
            can_write(plane) && own.all(|(_, key)| History::of(plane, key).is_some())
        };
        let scheduled: BTreeSet<DatacenterKey> = there.iter().map(|(entry, _)| place_of(entry)).collect();
        Self {
            planes: planes.iter().filter(|plane| !is_read(plane)).map(|plane| plane.name.clone()).collect(),
            datacenters: wanted.iter().map(place_of).filter(|place| !scheduled.contains(place)).collect(),
        }
    }

    /// Whether that data plane was not read.
    #[must_use]
    pub fn has_plane(&self, plane: &str) -> bool {
        self.planes.contains(plane)
    }

    /// Whether that datacenter was not read.
    #[must_use]
    pub fn has(&self, datacenter: &DatacenterKey) -> bool {
        self.has_plane(&datacenter.0) || self.datacenters.contains(datacenter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control_plane::fanout::tests::{live, pending, plane};

    #[test]
    fn a_data_plane_that_cannot_be_asked_and_a_datacenter_without_its_schedule_are_unread() {
        let planes = [plane("eu", live(&[]))];
        let stale = Stale::of(&[pending("eu", "dc1"), pending("gone", "dc1")], &[], &planes);
        assert!(stale.has_plane("eu"));
        assert!(!stale.has_plane("gone"), "it is registered no more");
        assert!(stale.has(&place_of(&pending("gone", "dc1"))));
        assert!(!stale.has(&place_of(&pending("gone", "dc10"))));
    }
}
