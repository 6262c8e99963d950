//! Where a kind is watched, and what is concluded when its watch lists, fails or is refused: for every kind alike. Pure.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    trust::Trust,
    view::View,
    watched::{Kind, Wanted},
};

/// How long a watch that has not caught up is left to its own pauses, which grow, before it starts anew.
const PATIENCE: Duration = Duration::from_secs(10);

impl Kind {
    /// Whether its watch has something to do. `hosts_none`: no datacenters there, and none expected.
    #[must_use]
    pub fn is_wanted(self, view: &View, hosts_none: bool) -> bool {
        // Before a data plane was asked what it permits, the watch is tried all the same.
        let may_be_listed = |resource| view.capabilities.watchable(resource) != Some(false);
        match self.wanted() {
            Wanted::Always => true,
            Wanted::Datacenters => !hosts_none,
            Wanted::IfServed(resource) => !hosts_none && may_be_listed(resource),
            Wanted::IfDelegated(operation, resource) => {
                !hosts_none && resource.is_none_or(may_be_listed) && view.delegates(operation)
            }
        }
    }

    /// Whether its watch, begun `age` ago, is to start anew: a definition may have appeared since, and a watch in a long pause
    /// would notice that late. One that has listed or was refused goes on by itself; and nothing but schedules waits for
    /// what they made.
    #[must_use]
    pub fn starts_anew(self, trust: &Trust, has_failed: bool, age: Duration) -> bool {
        let is_awaited = !trust.is_listed() && !trust.is_settled();
        let is_delegated = matches!(self.wanted(), Wanted::IfDelegated(..));
        !is_delegated && has_failed && is_awaited && age >= PATIENCE
    }

    /// Notes that the kind is not watched, as there is nothing to watch or it may not be; says whether that is news. No object
    /// of the kind counts as absent then: what is not served any more was there once, and what may not be listed may still
    /// be at work.
    pub fn settle(self, view: &mut View) -> bool {
        let why = match self.wanted() {
            Wanted::Always | Wanted::Datacenters => "the cluster hosts no datacenters".to_owned(),
            Wanted::IfServed(resource) => {
                if !view.capabilities.may_serve(resource) {
                    view.section_mut(self).clear();
                }
                view.capabilities.unwatched(resource)
            }
            Wanted::IfDelegated(..) => {
                view.section_mut(self).clear();
                "no delegated schedule makes any".to_owned()
            }
        };
        self.trust(view).give_up(&why)
    }

    /// The API server refuses to list or watch it, for this reason; says whether that is news. From then on nobody knows
    /// what is there. Features need what fleet objects made: a watch of what schedules made says nothing of them, for it
    /// may end before it could take that back.
    pub fn refuse(self, view: &mut View, why: &str, now: Timestamp) -> bool {
        let trust = self.trust(view);
        // What backups need and was listed is worked with until its watch has failed for long.
        let goes_on = self.may_lack() || (trust.is_listed() && trust.is_settled());
        let is_news = if goes_on { trust.refuse(why) } else { trust.fail(now, why) };
        let Wanted::IfServed(resource) = self.wanted() else { return is_news };
        let refused = &mut Arc::make_mut(&mut view.capabilities).refused;
        refused.insert(resource.to_owned(), why.to_owned()).is_none() || is_news
    }

    /// Its watch has failed since then, for this reason; says whether that is news. A refusal of what may be missing stays
    /// one: everything else goes on without it.
    pub fn fail(self, view: &mut View, since: Timestamp, why: &str) -> bool {
        let trust = self.trust(view);
        let is_refused = self.may_lack() && trust.is_settled() && trust.doubt().is_some();
        !is_refused && trust.fail(since, why)
    }

    /// Whether a data plane may lack it and be used all the same.
    fn may_lack(self) -> bool {
        match self.wanted() {
            Wanted::Always | Wanted::Datacenters => false,
            Wanted::IfServed(_) | Wanted::IfDelegated(..) => true,
        }
    }

    /// Its watch was interrupted, for this reason; says whether that is news. What was listed is believed for a while.
    pub fn interrupt(self, view: &mut View, why: &str, now: Timestamp) -> bool {
        !self.trust(view).is_listed() && self.fail(view, now, why)
    }

    /// Its watch, which had failed, goes on where it was; says whether that is news.
    pub fn resume(self, view: &mut View) -> bool {
        let is_news = self.trust(view).resume();
        self.permit(view) || is_news
    }

    /// It is listed; says whether that is news.
    pub fn permit(self, view: &mut View) -> bool {
        let Wanted::IfServed(resource) = self.wanted() else { return false };
        view.capabilities.refused.contains_key(resource)
            && Arc::make_mut(&mut view.capabilities).refused.remove(resource).is_some()
    }

    /// How far its watch can be trusted.
    fn trust(self, view: &mut View) -> &mut Trust {
        view.section_mut(self).trust_mut()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::{
            capabilities::{Capabilities, Feature, RESTORES},
            view::ObjectKey,
        },
        *,
    };
    use crate::api::{Seen, labels, medusa::ScheduledOperation};

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;
    const RESTORE_JOBS: Kind = Kind::Restores;
    const TASKS_OF_OURS: Kind = Kind::Tasks;
    const PURGES: Kind = Kind::ScheduledTasks;

    /// A view with one MedusaBackupSchedule of a delegated schedule, or a person's.
    fn view(label: &str, operation: &str) -> View {
        let mut view = View::unknown();
        view.schedules.trust.follow();
        let schedule = json!({
            "metadata": {"name": "s", "namespace": "ns", "labels": {label: "u"}},
            "spec": {"cronSchedule": "@daily", "operationType": operation, "backupSpec": {"cassandraDatacenter": "dc1"}}
        });
        view.schedules.put(ObjectKey::new("ns", "s"), Arc::new(serde_json::from_value(schedule).unwrap()));
        view
    }

    #[test]
    fn runs_are_watched_only_where_a_delegated_schedule_makes_them() {
        let (backups, purges) = (Kind::ScheduledJobs, Kind::ScheduledTasks);
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
        for (kind, operation) in [
            (Kind::ScheduledJobs, ScheduledOperation::Backup),
            (Kind::ScheduledTasks, ScheduledOperation::Purge),
        ] {
            assert!(view.scheduled_runs(operation).is_some(), "its watch has listed it");
            assert!(
                kind.settle(&mut view) && view.scheduled_runs(operation).is_none(),
                "also with schedules"
            );
            assert!(!kind.settle(&mut view), "that is news once");
        }
        assert!(view.is_live(), "nothing else waits for it");
    }

    #[test]
    fn where_a_kind_is_not_served_or_not_permitted_nothing_waits_for_it_and_nothing_of_it_is_absent() {
        let key = ObjectKey::new("ns", "r");
        let refused = Capabilities {
            not_granted: Some([(RESTORES.to_owned(), vec!["list".to_owned()])].into()),
            ..Capabilities::all()
        };
        let unserved = Capabilities { not_served: Some([RESTORES.to_owned()].into()), ..Capabilities::all() };
        for (capabilities, word, left) in [(refused, "permit", 1), (unserved, "serve", 0)] {
            let mut view = View::unknown();
            view.set_synced();
            view.restores.put(key.clone(), Arc::default());
            view.capabilities = Arc::new(capabilities);
            assert!(!RESTORE_JOBS.is_wanted(&view, false));
            assert!(RESTORE_JOBS.settle(&mut view) && !RESTORE_JOBS.settle(&mut view), "that is news once");
            assert!(view.is_live());
            for name in ["r", "another"] {
                let seen = view.seen(&view.restores, &ObjectKey::new("ns", name));
                assert!(matches!(&seen, Seen::Unknown { why, .. } if why.contains(word)), "{seen:?}");
            }
            assert_eq!(view.restores.last_known().iter().count(), left, "{word}");
        }
    }

    #[test]
    fn a_refusal_makes_its_kind_unknown_at_once_and_stops_everything_else_only_when_it_lasts() {
        let mut view = View::unknown();
        view.set_synced();
        assert!(Kind::Backups.refuse(&mut view, "forbidden", NOW));
        assert!(!Kind::Backups.refuse(&mut view, "forbidden", NOW), "that is news once");
        let seen = |view: &View| matches!(view.seen(&view.backups, &ObjectKey::default()), Seen::Absent);
        assert!(!seen(&view) && view.is_live());
        assert!(Kind::Backups.fail(&mut view, NOW, "forbidden") && !view.is_live());
        assert!(view.unshown().iter().any(|why| why.contains("forbidden")), "{:?}", view.unshown());
        assert!(Kind::Backups.resume(&mut view) && view.is_live() && seen(&view));
        // One that never listed is awaited from the start.
        Kind::Backups.trust(&mut view).begin();
        assert!(Kind::Backups.refuse(&mut view, "forbidden", NOW) && !view.is_live());
        assert!(view.unshown().iter().any(|why| why.contains("forbidden")), "{:?}", view.unshown());
    }

    #[test]
    fn what_a_data_plane_may_lack_stops_nothing_when_it_is_refused_and_does_when_it_fails() {
        let mut view = View::unknown();
        view.set_synced();
        view.restores.put(ObjectKey::new("ns", "r"), Arc::default());
        assert!(RESTORE_JOBS.refuse(&mut view, "forbidden", NOW));
        assert!(!RESTORE_JOBS.fail(&mut view, NOW, "forbidden") && view.is_live());
        assert_eq!(view.restores.last_known().iter().count(), 1, "what was seen may be at work");
        assert!(view.capabilities.allow(Feature::Restores).is_err());
        assert!(RESTORE_JOBS.resume(&mut view));
        assert_eq!(view.capabilities.allow(Feature::Restores), Ok(()));
        assert!(RESTORE_JOBS.fail(&mut view, NOW, "500") && !view.is_live());
    }

    #[test]
    fn a_refused_listing_of_scheduled_purges_says_nothing_of_tasks() {
        let mut view = view(labels::FLEET_SCHEDULE_UID, "purge");
        view.set_synced();
        assert!(PURGES.refuse(&mut view, "denied by policy", NOW), "its runs are not known any more");
        assert!(!PURGES.refuse(&mut view, "denied by policy", NOW), "that is news once");
        assert!(view.scheduled_runs(ScheduledOperation::Purge).is_none());
        assert_eq!(view.capabilities.allow(Feature::Tasks), Ok(()));
        view.schedules.clear();
        assert!(!PURGES.is_wanted(&view, false), "and nothing of it is left when its watch ends");
        assert!(view.capabilities.refused.is_empty() && view.is_live());
    }

    #[test]
    fn of_two_refused_listings_of_one_resource_each_is_known_when_it_is_permitted_itself() {
        let mut view = view(labels::FLEET_SCHEDULE_UID, "purge");
        view.set_synced();
        assert!(TASKS_OF_OURS.refuse(&mut view, "no", NOW) && PURGES.refuse(&mut view, "no", NOW));
        assert!(!TASKS_OF_OURS.refuse(&mut view, "no", NOW), "that is news once");
        // As a watch does that lists.
        PURGES.trust(&mut view).follow();
        assert!(!PURGES.permit(&mut view));
        assert!(view.scheduled_runs(ScheduledOperation::Purge).is_some());
        assert!(view.capabilities.allow(Feature::Tasks).is_err(), "their emptiness is not believed");
        PURGES.trust(&mut view).begin();
        assert!(TASKS_OF_OURS.permit(&mut view) && !TASKS_OF_OURS.permit(&mut view), "that is news once");
        assert_eq!(view.capabilities.allow(Feature::Tasks), Ok(()));
        assert!(view.scheduled_runs(ScheduledOperation::Purge).is_none());
    }

    #[test]
    fn a_watch_starts_anew_only_when_it_failed_before_it_listed_and_not_before_its_time() {
        let schedules = Kind::Schedules;
        let early = PATIENCE.saturating_sub(Duration::from_millis(1));
        let mut trust = Trust::default();
        assert!(schedules.starts_anew(&trust, true, PATIENCE));
        assert!(!schedules.starts_anew(&trust, true, early), "however often it is looked at");
        assert!(!schedules.starts_anew(&trust, false, PATIENCE), "a listing may take its time");
        assert!(!PURGES.starts_anew(&trust, true, PATIENCE), "nobody waits for it");
        trust.fail(NOW, "500");
        assert!(schedules.starts_anew(&trust, true, PATIENCE));
        trust.follow();
        trust.fail(NOW, "500");
        assert!(!schedules.starts_anew(&trust, true, PATIENCE), "it goes on by itself");
    }
}
