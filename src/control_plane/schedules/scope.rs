//! Which datacenters and clusters a schedule is for, as far as the data planes have said. Pure.

use std::collections::BTreeSet;

use crate::{
    api::{
        Reason, Why,
        fleet::{DatacenterRun, FleetBackupSchedule, Phase, ScheduledDatacenters},
    },
    control_plane::{
        data_planes::fleet::{Snapshot, Usable},
        runs::select::{ClusterLabels, is_placeholder, is_unreadable, select},
    },
};

/// The datacenters a schedule's template selects.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scope {
    /// Those that could be worked on.
    pub datacenters: Vec<DatacenterRun>,
    /// Names in the selector that nothing matches, for people.
    pub unmatched: Vec<String>,
    /// CassandraDatacenters that it may mean and that cannot be read: what they have is left as it is.
    pub unreadable: Vec<DatacenterRun>,
    /// Data planes that have not said which datacenters they have.
    pub unlisted: Vec<String>,
}

impl Scope {
    /// The scope of `schedule`.
    ///
    /// # Errors
    /// When the selector cannot be read.
    pub fn of(
        schedule: &FleetBackupSchedule,
        planes: &[Snapshot],
        clusters: &ClusterLabels,
    ) -> Result<Self, Why> {
        let selector = schedule.spec.template.as_ref().and_then(|t| t.selector.clone()).unwrap_or_default();
        let chosen = select(&selector, planes, clusters, &[]).map_err(|invalid| {
            Why::new(Reason::InvalidSelector, invalid.replace("spec.selector", "spec.template.selector"))
        })?;
        let mut scope = Self::default();
        for entry in chosen {
            if is_placeholder(&entry) && !entry.phase.is_final() {
                scope.unlisted.push(entry.data_plane);
            } else if entry.phase == Phase::Pending {
                scope.datacenters.push(entry);
            } else if is_unreadable(&entry) {
                scope.unreadable.push(entry);
            } else if entry.phase == Phase::Failed {
                scope.unmatched.extend(entry.message);
            }
        }
        Ok(scope)
    }

    /// The FleetClusters the datacenters belong to.
    #[must_use]
    pub fn clusters(&self) -> BTreeSet<String> {
        self.datacenters.iter().map(|entry| entry.cluster.clone()).filter(|name| !name.is_empty()).collect()
    }

    /// How many datacenters, and how many of them a run would reach now.
    #[must_use]
    pub fn counts(&self, planes: &[Snapshot]) -> ScheduledDatacenters {
        let is_reached = |entry: &&DatacenterRun| {
            planes.iter().any(|plane| plane.name == entry.data_plane && plane.usable == Usable::Ready)
        };
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        ScheduledDatacenters {
            total: count(self.datacenters.len()),
            scheduled: count(self.datacenters.iter().filter(is_reached).count()),
        }
    }
}
