//! What is watched in a data plane, and where there is nothing to watch. Pure.

use crate::{
    api::medusa::ScheduledOperation,
    control_plane::{
        capabilities::{CONFIG_MAPS, RESTORES, SCHEDULES, TASKS},
        view::View,
    },
};

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// CassandraDatacenters.
    Datacenters,
    /// MedusaBackupJobs that fleet jobs made.
    Jobs,
    /// MedusaBackups.
    Backups,
    /// Our Secret copies.
    Secrets,
    /// Our MedusaConfiguration copies.
    Configurations,
    /// Something a data plane may lack.
    Extra(Extra),
    /// What delegated schedules made.
    Runs(Runs),
}

/// What is watched only where it is served and permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Extra {
    /// MedusaBackupSchedules.
    Schedules,
    /// MedusaTasks that fleet objects made.
    Tasks,
    /// MedusaRestoreJobs.
    Restores,
    /// Our ConfigMaps.
    ConfigMaps,
}

/// What delegated schedules made: watched only where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Runs {
    /// MedusaBackupJobs.
    Backups,
    /// MedusaTasks that purge.
    Purges,
}

impl Runs {
    fn operation(self) -> ScheduledOperation {
        match self {
            Self::Backups => ScheduledOperation::Backup,
            Self::Purges => ScheduledOperation::Purge,
        }
    }
}

impl Kind {
    /// All of them.
    pub(super) const ALL: [Self; 11] = [
        Self::Datacenters,
        Self::Jobs,
        Self::Backups,
        Self::Secrets,
        Self::Configurations,
        Self::Extra(Extra::Schedules),
        Self::Extra(Extra::Tasks),
        Self::Extra(Extra::Restores),
        Self::Extra(Extra::ConfigMaps),
        Self::Runs(Runs::Backups),
        Self::Runs(Runs::Purges),
    ];

    /// Whether its watch has something to do. `hosts_none`: no datacenters there, and none expected.
    pub(super) fn is_wanted(self, view: &View, hosts_none: bool) -> bool {
        match self {
            Self::Secrets | Self::Configurations => true,
            Self::Datacenters | Self::Jobs | Self::Backups => !hosts_none,
            // What nobody knows yet is tried.
            Self::Extra(extra) => !hosts_none && view.capabilities.watchable(extra.resource()) != Some(false),
            Self::Runs(runs) => {
                let may_be_listed = match runs {
                    Runs::Backups => true,
                    Runs::Purges => view.capabilities.watchable(TASKS) != Some(false),
                };
                !hosts_none && may_be_listed && view.delegates(runs.operation())
            }
        }
    }

    /// Whether its section of `view` is complete.
    pub(super) fn synced(self, view: &mut View) -> &mut bool {
        match self {
            Self::Datacenters => &mut view.datacenters.synced,
            Self::Jobs => &mut view.jobs.synced,
            Self::Backups => &mut view.backups.synced,
            Self::Secrets => &mut view.secrets.synced,
            Self::Configurations => &mut view.configurations.synced,
            Self::Extra(Extra::Schedules) => &mut view.schedules.synced,
            Self::Extra(Extra::Tasks) => &mut view.tasks.synced,
            Self::Extra(Extra::Restores) => &mut view.restores.synced,
            Self::Extra(Extra::ConfigMaps) => &mut view.config_maps.synced,
            Self::Runs(Runs::Backups) => &mut view.scheduled_jobs.synced,
            Self::Runs(Runs::Purges) => &mut view.scheduled_tasks.synced,
        }
    }

    /// Complete, and empty where it may be missing; says whether it is no news. What schedules made is not known to be
    /// nothing before the schedules are known.
    pub(super) fn settle(self, view: &mut View) -> bool {
        match self {
            Self::Datacenters | Self::Jobs | Self::Backups | Self::Secrets | Self::Configurations => {}
            Self::Extra(Extra::Schedules) => view.schedules.items.clear(),
            Self::Extra(Extra::Tasks) => view.tasks.items.clear(),
            Self::Extra(Extra::Restores) => view.restores.items.clear(),
            Self::Extra(Extra::ConfigMaps) => view.config_maps.items.clear(),
            Self::Runs(Runs::Backups) => view.scheduled_jobs.items.clear(),
            Self::Runs(Runs::Purges) => view.scheduled_tasks.items.clear(),
        }
        let is_complete = !matches!(self, Self::Runs(_)) || view.schedules.synced;
        std::mem::replace(self.synced(view), is_complete) || !is_complete
    }
}

impl Extra {
    /// Its resource, as [`crate::control_plane::capabilities::NEEDS`] names it.
    fn resource(self) -> &'static str {
        match self {
            Self::Schedules => SCHEDULES,
            Self::Tasks => TASKS,
            Self::Restores => RESTORES,
            Self::ConfigMaps => CONFIG_MAPS,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::{api::labels, control_plane::view::ObjectKey};

    /// A view with one MedusaBackupSchedule of a delegated schedule, or a person's.
    fn view(label: &str, operation: &str) -> View {
        let mut view = View::unknown();
        view.schedules.synced = true;
        let schedule = json!({
            "metadata": {"name": "s", "namespace": "ns", "labels": {label: "u"}},
            "spec": {"cronSchedule": "@daily", "operationType": operation, "backupSpec": {"cassandraDatacenter": "dc1"}}
        });
        view.schedules
            .items
            .insert(ObjectKey::new("ns", "s"), Arc::new(serde_json::from_value(schedule).unwrap()));
        view
    }

    #[test]
    fn runs_are_watched_only_where_a_delegated_schedule_makes_them() {
        let (backups, purges) = (Kind::Runs(Runs::Backups), Kind::Runs(Runs::Purges));
        let is_wanted = |view: &View| [backups, purges].map(|kind| kind.is_wanted(view, false));
        assert_eq!(is_wanted(&view(labels::FLEET_SCHEDULE_UID, "backup")), [true, false]);
        assert_eq!(is_wanted(&view(labels::FLEET_SCHEDULE_UID, "purge")), [false, true]);
        assert_eq!(is_wanted(&view("mine", "backup")), [false, false]);
        assert!(!backups.is_wanted(&view(labels::FLEET_SCHEDULE_UID, "backup"), true));
    }

    #[test]
    fn no_runs_are_known_before_the_schedules_are() {
        let kind = Kind::Runs(Runs::Backups);
        let mut unknown = View::unknown();
        assert!(kind.settle(&mut unknown) && !unknown.scheduled_jobs.synced, "nothing is learnt");
        let mut listed = view("mine", "backup");
        assert!(!kind.settle(&mut listed) && listed.scheduled_jobs.synced, "that is news");
        assert!(kind.settle(&mut listed), "once");
    }
}
