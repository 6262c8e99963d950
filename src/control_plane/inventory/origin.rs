//! Which restore point a MedusaBackup belongs to, and what made it, from its name. Pure.
//!
//! Only the name counts: after a `sync` has recreated MedusaBackups somewhere else, nothing else is left.

use jiff::{SignedDuration, Timestamp};

use crate::api::names;

/// How far apart the moments in the names of one slot's backups may be: k8ssandra-operator puts the moment it
/// looked into a name, not the slot, and looks within a minute in each data plane (upstream: Schedules).
pub const SPREAD: SignedDuration = SignedDuration::from_secs(120);
/// How long after the moment in its name a scheduled backup may start, for its name to be read as a schedule's.
const LATE: SignedDuration = SignedDuration::from_hours(24);

/// What a backup's name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The restore point; for a scheduled backup, what its slots' restore points have in common.
    pub point: String,
    /// The moment in the name of a scheduled backup.
    pub moment: Option<Timestamp>,
    /// The FleetBackupJob.
    pub job: Option<String>,
    /// The FleetBackupSchedule or MedusaBackupSchedule.
    pub schedule: Option<String>,
    /// Whether that is a FleetBackupSchedule that is delegated.
    pub delegated: bool,
}

impl Origin {
    /// Reads `name`, the name of a backup of the datacenter object `datacenter` that started at `start`.
    #[must_use]
    pub fn of(name: &str, datacenter: &str, start: Option<Timestamp>) -> Self {
        let (point, job) = names::restore_point(name, datacenter);
        if let Some(job) = job {
            let schedule = scheduled(&job, start).map(|(schedule, _)| schedule.to_owned());
            return Self { point, moment: None, job: Some(job), schedule, delegated: false };
        }
        let Some((made_by, moment)) = scheduled(name, start) else {
            return Self { point, moment: None, job: None, schedule: None, delegated: false };
        };
        // A delegated schedule's MedusaBackupSchedules are named after their datacenters.
        let (point, delegated) = names::restore_point(made_by, datacenter);
        let is_delegated = delegated.is_some();
        let schedule = delegated.unwrap_or_else(|| made_by.to_owned());
        Self { point, moment: Some(moment), job: None, schedule: Some(schedule), delegated: is_delegated }
    }

    /// Whether a fleet object made it, by its name: then its job is seen while it goes on.
    #[must_use]
    pub fn is_of_fleet(&self) -> bool {
        self.job.is_some() || self.delegated
    }

    /// Name of the restore point of the slot at `moment`.
    #[must_use]
    pub fn slot(&self, moment: Timestamp) -> String {
        format!("{}-{}", self.point, moment.as_second())
    }
}

/// The schedule and the moment in `name`, when it has that shape and fits the backup's start.
fn scheduled(name: &str, start: Option<Timestamp>) -> Option<(&str, Timestamp)> {
    let (schedule, second) = name.rsplit_once('-')?;
    let is_moment = second.len() == 10 && !second.starts_with('0');
    let moment = Timestamp::from_second(second.parse().ok().filter(|_| is_moment)?).ok()?;
    let fits = start.is_none_or(|start| {
        let late = start.duration_since(moment);
        -SPREAD <= late && late <= LATE
    });
    (fits && !schedule.is_empty()).then_some((schedule, moment))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[rstest]
    // A fleet job, by hand and by a coordinated schedule.
    #[case("manual-dc1-0b1c2d3e", "manual-0b1c2d3e", None, Some("manual"), None)]
    #[case(
        "nightly-1700000000-dc1-0b1c2d3e",
        "nightly-1700000000-0b1c2d3e",
        None,
        Some("nightly-1700000000"),
        Some("nightly")
    )]
    // A MedusaBackupSchedule of a person, and one of a delegated schedule.
    #[case("weekly-1700000000", "weekly", Some(1_700_000_000), None, Some("weekly"))]
    #[case("nightly-dc1-0b1c2d3e-1700000000", "nightly-0b1c2d3e", Some(1_700_000_000), None, Some("nightly"))]
    // Neither: not that shape, or a moment that has nothing to do with the backup.
    #[case("medusa-backup1", "medusa-backup1", None, None, None)]
    #[case("weekly-0700000000", "weekly-0700000000", None, None, None)]
    #[case("ticket-4200000000", "ticket-4200000000", None, None, None)]
    #[case("1700000000", "1700000000", None, None, None)]
    fn a_name_says_what_made_the_backup(
        #[case] name: &str,
        #[case] point: &str,
        #[case] moment: Option<i64>,
        #[case] job: Option<&str>,
        #[case] schedule: Option<&str>,
    ) {
        let origin = Origin::of(name, "dc1", Some(at(1_700_000_030)));
        let expected = Origin {
            point: point.to_owned(),
            moment: moment.map(at),
            job: job.map(str::to_owned),
            schedule: schedule.map(str::to_owned),
            delegated: name.starts_with("nightly-dc1-0b1c2d3e-"),
        };
        assert_eq!(origin, expected);
    }

    #[test]
    fn a_backup_that_has_not_started_is_read_by_its_shape_alone() {
        assert_eq!(Origin::of("weekly-1700000000", "dc1", None).schedule.as_deref(), Some("weekly"));
        assert_eq!(Origin::of("weekly-1700000000", "dc1", Some(at(1_800_000_000))).schedule, None);
    }
}
