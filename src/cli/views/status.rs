//! Is the fleet protected? One screen.

use std::fmt::Write as _;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde::Serialize;

use super::{
    ago, count,
    data_planes::{expires, renewal},
    name,
};
use crate::{
    api::{
        Conditions as _, Reason,
        fleet::{DataPlane, FleetBackupJob, FleetCluster},
    },
    cli::output::Table,
};

/// A live control plane writes the `lastContactTime` of its own cluster about once a minute, and those of the others every
/// twenty minutes; from this age on, what it wrote last says nothing about now.
const STALE_SECONDS: (i64, i64) = (300, 1500);
/// A credential that ends within this time is worth a word.
const EXPIRES_SOON_SECONDS: i64 = 14 * 86_400;

/// What a person should know.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetStatus {
    /// Whether every data plane is ready and every cluster protected.
    pub healthy: bool,
    /// Number of data planes.
    pub data_planes: usize,
    /// Those that cannot be used.
    pub data_planes_not_ready: Vec<StatusProblem>,
    /// Those whose credential ends soon.
    pub credentials_expiring: Vec<StatusProblem>,
    /// Number of Cassandra clusters.
    pub clusters: usize,
    /// Those without a fresh, complete restore point.
    pub clusters_unprotected: Vec<StatusProblem>,
    /// Runs that are going on.
    pub running: Vec<RunningJob>,
}

/// Something that is not as it should be.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusProblem {
    /// Name of the object.
    pub name: String,
    /// Why, for machines.
    pub reason: String,
    /// Since when, or, for an expiring credential, until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// Why, for people.
    pub message: String,
}

/// A run that is going on.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunningJob {
    /// Name of the job.
    pub name: String,
    /// `Pending` or `Running`.
    pub phase: &'static str,
    /// Decided datacenters of all: `7/9`.
    pub done: String,
    /// When it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Time>,
}

/// Judges the fleet from the control plane's objects.
#[must_use]
pub fn assess(
    data_planes: &[DataPlane],
    clusters: &[FleetCluster],
    jobs: &[FleetBackupJob],
    now: Timestamp,
) -> FleetStatus {
    let not_ready: Vec<StatusProblem> = data_planes.iter().filter_map(|d| not_ready(d, now)).collect();
    let unprotected: Vec<StatusProblem> = clusters.iter().filter_map(unprotected).collect();
    FleetStatus {
        // The control plane always has at least its own cluster: none at all means that it never ran.
        healthy: !data_planes.is_empty() && not_ready.is_empty() && unprotected.is_empty(),
        data_planes: data_planes.len(),
        data_planes_not_ready: not_ready,
        credentials_expiring: data_planes.iter().filter_map(|d| expiring(d, now)).collect(),
        clusters: clusters.len(),
        clusters_unprotected: unprotected,
        running: jobs.iter().filter_map(running).collect(),
    }
}

fn not_ready(data_plane: &DataPlane, now: Timestamp) -> Option<StatusProblem> {
    let status = data_plane.status.as_ref();
    let ready = status.and_then(|s| s.conditions.of_type("Ready"));
    let name = name(&data_plane.metadata);
    let Some(ready) = ready else {
        let message = "the control plane has not looked at it yet; is it running?".to_owned();
        let time = data_plane.metadata.creation_timestamp.clone();
        return Some(StatusProblem { name, reason: "Unknown".to_owned(), time, message });
    };
    if ready.status != "True" {
        if is_wanted(ready) {
            return None;
        }
        let time = Some(ready.last_transition_time.clone());
        return Some(StatusProblem {
            name,
            reason: ready.reason.clone(),
            time,
            message: ready.message.clone(),
        });
    }
    let contact = silent_since(data_plane, now)?;
    Some(StatusProblem {
        name,
        reason: "Stale".to_owned(),
        message: "the control plane has reported nothing since; is it running?".to_owned(),
        time: Some(contact),
    })
}

/// Whether somebody wanted a data plane not to be `Ready`.
#[must_use]
pub fn is_wanted(ready: &Condition) -> bool {
    [Reason::Paused, Reason::Unregistering].iter().any(|reason| ready.reason == reason.as_str())
}

/// Since when the control plane has reported nothing of a data plane that it called `Ready` last, if that is too long.
#[must_use]
pub fn silent_since(data_plane: &DataPlane, now: Timestamp) -> Option<Time> {
    let status = data_plane.status.as_ref().filter(|status| status.conditions.is_true("Ready"))?;
    let contact = status.last_contact_time.clone()?;
    let limit = if data_plane.spec.local == Some(true) { STALE_SECONDS.0 } else { STALE_SECONDS.1 };
    (now.as_second() - contact.0.as_second() > limit).then_some(contact)
}

/// When a data plane's credential ends, or ended, if that is soon. One that the control plane renews was due when a fifth to a
/// quarter of its life was left: soon is when a third of that has gone without it.
#[must_use]
pub fn ends_soon(data_plane: &DataPlane, now: Timestamp) -> Option<Time> {
    let credential = data_plane.status.as_ref()?.credential.as_ref()?;
    let at = credential.expires_at.clone()?;
    let until = |time: Timestamp| at.0.as_second() - time.as_second();
    let soon = match &credential.next_renewal_time {
        Some(due) => (until(due.0) * 2 / 3).clamp(0, EXPIRES_SOON_SECONDS),
        None => EXPIRES_SOON_SECONDS,
    };
    (until(now) < soon).then_some(at)
}

fn expiring(data_plane: &DataPlane, now: Timestamp) -> Option<StatusProblem> {
    let at = ends_soon(data_plane, now)?;
    let name = name(&data_plane.metadata);
    let when = data_plane.status.as_ref().map(|status| expires(status, now)).unwrap_or_default();
    Some(StatusProblem {
        message: format!("{when}; {}", renewal(data_plane)),
        name,
        reason: Reason::CredentialExpired.as_str().to_owned(),
        time: Some(at),
    })
}

fn unprotected(cluster: &FleetCluster) -> Option<StatusProblem> {
    let status = cluster.status.as_ref();
    let protected = status.and_then(|s| s.conditions.of_type("Protected"));
    if protected.is_some_and(|c| c.status == "True") {
        return None;
    }
    Some(StatusProblem {
        name: name(&cluster.metadata),
        reason: protected.map_or_else(|| "Unknown".to_owned(), |c| c.reason.clone()),
        time: status.and_then(|s| s.recovery_point_time.clone()),
        message: protected.map_or_else(String::new, |c| c.message.clone()),
    })
}

fn running(job: &FleetBackupJob) -> Option<RunningJob> {
    let phase = job.status.as_ref().and_then(|s| s.run.phase).unwrap_or_default();
    (!phase.is_final()).then(|| RunningJob {
        name: name(&job.metadata),
        phase: phase.as_str(),
        done: job.status.as_ref().and_then(|s| s.run.done.clone()).unwrap_or_default(),
        started: job.status.as_ref().and_then(|s| s.run.start_time.clone()),
    })
}

/// The screen.
#[must_use]
pub fn screen(status: &FleetStatus, now: Timestamp) -> String {
    let mut screen = headline(status) + "\n";
    let mut section = |title: &str, table: &Table| {
        if !table.is_empty() {
            let _ = write!(screen, "\n{title}\n{}", table.render(2));
        }
    };
    let problems = |column: &'static str, problems: &[StatusProblem]| {
        let mut table = Table::new(&["NAME", "REASON", column, "MESSAGE"]);
        for problem in problems {
            let time = ago(problem.time.as_ref(), now);
            table.row([problem.name.clone(), problem.reason.clone(), time, problem.message.clone()]);
        }
        table
    };
    section("Data planes that are not ready", &problems("FOR", &status.data_planes_not_ready));
    section("Clusters that are not protected", &problems("RPO", &status.clusters_unprotected));
    let mut expiring = Table::new(&["NAME", "EXPIRES"]);
    for problem in &status.credentials_expiring {
        expiring.row([problem.name.clone(), problem.message.clone()]);
    }
    section("Credentials that end soon", &expiring);
    let mut running = Table::new(&["NAME", "PHASE", "DONE", "FOR"]);
    for job in &status.running {
        let started = ago(job.started.as_ref(), now);
        running.row([job.name.clone(), job.phase.to_owned(), job.done.clone(), started]);
    }
    section("Backups that are running", &running);
    screen
}

fn headline(status: &FleetStatus) -> String {
    if status.data_planes == 0 {
        return "The fleet is empty: no data plane is registered, not even the control plane's own; is the \
                control plane running?"
            .to_owned();
    }
    let (planes, clusters) = (count(status.data_planes, "data plane"), count(status.clusters, "cluster"));
    if status.healthy {
        let nothing = if status.clusters == 0 { " (no Cassandra cluster was found)" } else { "" };
        return format!("The fleet is protected: {planes} ready, {clusters} protected{nothing}");
    }
    let problems = [
        (&status.data_planes_not_ready, planes, "ready"),
        (&status.clusters_unprotected, clusters, "protected"),
    ];
    let problems = problems.into_iter().filter(|(problems, ..)| !problems.is_empty());
    let problems: Vec<String> =
        problems.map(|(problems, all, word)| format!("{} of {all} not {word}", problems.len())).collect();
    format!("The fleet needs attention: {}", problems.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::views::fixtures::{
        clusters, data_planes, jobs, now, protected_cluster, ready_data_plane,
    };

    #[test]
    fn a_fleet_in_trouble_says_what_and_why() {
        let status = assess(&data_planes(), &clusters(), &jobs(), now());
        assert!(!status.healthy);
        insta::assert_snapshot!(screen(&status, now()));
    }

    #[test]
    fn a_protected_fleet_is_one_line_and_what_runs() {
        let status = assess(&[ready_data_plane()], &[protected_cluster()], &jobs(), now());
        assert!(status.healthy);
        insta::assert_snapshot!(screen(&status, now()));
    }

    #[test]
    fn programs_read_the_same() {
        let status = assess(&data_planes(), &clusters(), &jobs(), now());
        insta::assert_yaml_snapshot!(status);
    }

    #[test]
    fn a_silent_control_plane_is_not_health() {
        let later = now() + jiff::SignedDuration::from_mins(30);
        let status = assess(&[ready_data_plane()], &[protected_cluster()], &[], later);
        assert!(!status.healthy);
        assert_eq!(status.data_planes_not_ready[0].reason, "Stale");
    }

    #[test]
    fn an_empty_fleet_is_not_protected() {
        let status = assess(&[], &[], &[], now());
        assert!(!status.healthy);
        assert!(screen(&status, now()).contains("is the control plane running?"));
    }
}
