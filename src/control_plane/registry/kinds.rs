//! What is watched in a data plane, and where there is nothing to watch. Pure.

use std::{sync::Arc, time::Duration};

use crate::{
    api::medusa::ScheduledOperation,
    control_plane::{
        capabilities::{CONFIG_MAPS, RESTORES, SCHEDULES, TASKS},
        view::View,
    },
};

/// How long a watch that has not caught up is left to its own pauses, which grow, before it starts anew.
const PATIENCE: Duration = Duration::from_secs(10);

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

    /// Whether its watch, begun `age` ago, is to start anew, for a definition may have appeared that a watch in a long
    /// pause waits for. Nothing but schedules waits for what they made.
    pub(super) fn starts_anew(self, is_synced: bool, has_failed: bool, age: Duration) -> bool {
        !matches!(self, Self::Runs(_)) && has_failed && !is_synced && age >= PATIENCE
    }

    /// There is nothing to watch: complete, and empty where it may be missing; says whether that is news. What schedules
    /// made is never complete without its watch: there may be some, and a schedule may come at any time.
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
        let is_complete = !matches!(self, Self::Runs(_));
        std::mem::replace(self.synced(view), is_complete) != is_complete
    }

    /// The API server refuses to list it, in these words; says whether that is news. Features need what fleet objects
    /// made: a watch of what schedules made says nothing of them, for it may end before it could take that back.
    pub(super) fn refuse(self, view: &mut View, words: &str) -> bool {
        match self {
            Self::Datacenters | Self::Jobs | Self::Backups | Self::Secrets | Self::Configurations => false,
            Self::Runs(_) => self.settle(view),
            Self::Extra(extra) => {
                self.settle(view);
                let refused = &mut Arc::make_mut(&mut view.capabilities).refused;
                refused.insert(extra.resource().to_owned(), words.to_owned()).is_none()
            }
        }
    }

    /// It is listed; says whether that is news.
    pub(super) fn permit(self, view: &mut View) -> bool {
        let Self::Extra(extra) = self else { return false };
        view.capabilities.refused.contains_key(extra.resource())
            && Arc::make_mut(&mut view.capabilities).refused.remove(extra.resource()).is_some()
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
    use serde_json::json;

    use super::*;
    use crate::{
        api::labels,
        control_plane::{capabilities::Feature, view::ObjectKey},
    };

    const TASKS_OF_OURS: Kind = Kind::Extra(Extra::Tasks);
    const PURGES: Kind = Kind::Runs(Runs::Purges);

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
    fn what_schedules_made_is_never_known_to_be_nothing_without_its_watch() {
        let mut view = view("mine", "backup");
        view.set_synced();
        for (runs, operation) in
            [(Runs::Backups, ScheduledOperation::Backup), (Runs::Purges, ScheduledOperation::Purge)]
        {
            let kind = Kind::Runs(runs);
            assert!(view.scheduled_runs(operation).is_some(), "its watch has listed it");
            assert!(
                kind.settle(&mut view) && view.scheduled_runs(operation).is_none(),
                "also with schedules"
            );
            assert!(!kind.settle(&mut view), "that is news once");
        }
        assert!(view.is_live(), "nothing else waits for it");
        view.tasks.synced = false;
        assert!(
            TASKS_OF_OURS.settle(&mut view) && view.tasks.synced,
            "where they are not served there are none"
        );
        assert!(!TASKS_OF_OURS.settle(&mut view), "that is news once");
    }

    #[test]
    fn a_refused_listing_of_scheduled_purges_says_nothing_of_tasks() {
        let mut view = view(labels::FLEET_SCHEDULE_UID, "purge");
        view.set_synced();
        assert!(PURGES.refuse(&mut view, "denied by policy"), "its runs are not known any more");
        assert!(!PURGES.refuse(&mut view, "denied by policy"), "that is news once");
        assert!(view.scheduled_runs(ScheduledOperation::Purge).is_none());
        assert_eq!(view.capabilities.allow(Feature::Tasks), Ok(()));
        view.schedules.items.clear();
        assert!(!PURGES.is_wanted(&view, false), "and nothing of it is left when its watch ends");
        assert!(view.capabilities.refused.is_empty() && view.is_live());
    }

    #[test]
    fn of_two_refused_listings_of_one_resource_each_is_known_when_it_is_permitted_itself() {
        let mut view = view(labels::FLEET_SCHEDULE_UID, "purge");
        view.set_synced();
        assert!(TASKS_OF_OURS.refuse(&mut view, "no") && PURGES.refuse(&mut view, "no"));
        assert!(!TASKS_OF_OURS.refuse(&mut view, "no"), "that is news once");
        // As a watch does that lists.
        view.scheduled_tasks.synced = true;
        assert!(!PURGES.permit(&mut view));
        assert!(view.scheduled_runs(ScheduledOperation::Purge).is_some());
        assert!(view.capabilities.allow(Feature::Tasks).is_err(), "their emptiness is not believed");
        *PURGES.synced(&mut view) = false;
        assert!(TASKS_OF_OURS.permit(&mut view) && !TASKS_OF_OURS.permit(&mut view), "that is news once");
        assert_eq!(view.capabilities.allow(Feature::Tasks), Ok(()));
        assert!(view.scheduled_runs(ScheduledOperation::Purge).is_none());
    }

    #[test]
    fn a_watch_starts_anew_only_when_it_failed_before_it_caught_up_and_not_before_its_time() {
        let schedules = Kind::Extra(Extra::Schedules);
        let early = PATIENCE.saturating_sub(Duration::from_millis(1));
        assert!(schedules.starts_anew(false, true, PATIENCE));
        assert!(!schedules.starts_anew(false, true, early), "however often it is looked at");
        assert!(!schedules.starts_anew(false, false, PATIENCE), "a listing may take its time");
        assert!(!schedules.starts_anew(true, true, PATIENCE), "it goes on by itself");
        assert!(!PURGES.starts_anew(false, true, PATIENCE), "nobody waits for it");
    }
}
