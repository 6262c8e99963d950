//! Everything known about one object: facts, its datacenters, its conditions.

use std::fmt::Write as _;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{ago, data_planes::controller, data_planes::expires, moment, name, run, schedules, task};
use crate::{
    api::{
        fleet::{
            DataPlane, FleetBackup, FleetBackupJob, FleetBackupSchedule, FleetCluster, FleetTask, Rollout,
            limit,
        },
        size,
    },
    cli::{
        duration,
        output::{Table, one_line},
    },
};

/// Facts first, tables after them.
pub(super) struct Page(pub(super) String);

impl Page {
    pub(super) fn new(kind: &str, name: &str) -> Self {
        Self(format!("{kind} {name}\n"))
    }

    pub(super) fn fact(&mut self, title: &str, value: impl Into<String>) {
        let value: String = value.into();
        if !value.is_empty() {
            let _ = writeln!(self.0, "  {:<20} {}", format!("{title}:"), one_line(&value));
        }
    }

    pub(super) fn section(&mut self, title: &str, table: &Table) {
        if !table.is_empty() {
            let _ = write!(self.0, "\n{title}\n{}", table.render(2));
        }
    }

    pub(super) fn conditions(&mut self, conditions: &[Condition], now: Timestamp) {
        let mut table = Table::new(&["TYPE", "STATUS", "REASON", "FOR", "MESSAGE"]);
        for c in conditions {
            let since = ago(Some(&c.last_transition_time), now);
            table.row([c.type_.clone(), c.status.clone(), c.reason.clone(), since, c.message.clone()]);
        }
        self.section("Conditions", &table);
    }
}

/// A data plane.
#[must_use]
pub fn data_plane(object: &DataPlane, now: Timestamp) -> String {
    let mut page = Page::new("DataPlane", &name(&object.metadata));
    if let Some(secret) = &object.spec.kubeconfig_secret_ref {
        page.fact("Kubeconfig secret", &secret.name);
    }
    page.fact("Context", object.spec.context.clone().unwrap_or_default());
    let Some(status) = &object.status else { return page.0 };
    page.fact("Cluster id", status.cluster_id.clone().unwrap_or_default());
    page.fact("Kubernetes", status.kubernetes_version.clone().unwrap_or_default());
    page.fact("Controller", controller(status));
    page.fact("Credential expires", expires(status, now));
    let credential = status.credential.as_ref();
    page.fact("Credential renewed", moment(credential.and_then(|c| c.renewed_at.as_ref())));
    page.fact("Next renewal", moment(credential.and_then(|c| c.next_renewal_time.as_ref())));
    page.fact("Datacenters", status.datacenters.map_or_else(String::new, |n| n.to_string()));
    page.fact("Last contact", moment(status.last_contact_time.as_ref()));
    page.fact("Disconnected since", moment(status.disconnected_since.as_ref()));
    page.fact("Next attempt", moment(status.next_attempt_time.as_ref()));
    page.conditions(&status.conditions, now);
    page.0
}

/// A Cassandra cluster.
#[must_use]
pub fn cluster(object: &FleetCluster, now: Timestamp) -> String {
    let mut page = Page::new("FleetCluster", &name(&object.metadata));
    let Some(status) = &object.status else { return page.0 };
    if let Some(owner) = &status.k8ssandra_cluster {
        page.fact("K8ssandraCluster", format!("{}/{}", owner.namespace, owner.name));
    }
    page.fact("Last backup", status.last_complete_backup.clone().unwrap_or_default());
    page.fact("Recovery point", moment(status.recovery_point_time.as_ref()));
    page.fact("Restore points", status.restore_points.to_string());
    page.fact("Next backup", moment(status.next_scheduled_backup.as_ref()));
    let mut table =
        Table::new(&["DATA PLANE", "NAMESPACE", "NAME", "NODES", "READY", "MEDUSA", "LAST BACKUP", "AGE"]);
    for dc in &status.datacenters {
        let medusa =
            if dc.medusa.deployed { dc.medusa.image.as_deref().unwrap_or("deployed") } else { "absent" };
        table.row([
            dc.data_plane.clone(),
            dc.namespace.clone(),
            dc.name.clone(),
            dc.size.to_string(),
            match dc.ready {
                Some(true) => "True",
                Some(false) => "False",
                None => "Unknown",
            }
            .to_owned(),
            medusa.to_owned(),
            dc.last_backup.clone().unwrap_or_default(),
            ago(dc.last_backup_time.as_ref(), now),
        ]);
    }
    page.section("Datacenters", &table);
    let mut table = Table::new(&["RESTORE POINT", "DATA PLANE", "NAMESPACE", "NAME", "REASON", "MESSAGE"]);
    for drift in &status.drift {
        table.row([
            drift.restore_point.clone(),
            drift.data_plane.clone(),
            drift.namespace.clone(),
            drift.datacenter.clone(),
            drift.reason.clone(),
            drift.message.clone(),
        ]);
    }
    page.section("Drift", &table);
    page.conditions(&status.conditions, now);
    page.0
}

/// A restore point.
#[must_use]
pub fn backup(object: &FleetBackup, now: Timestamp) -> String {
    let mut page = Page::new("FleetBackup", &name(&object.metadata));
    let Some(status) = &object.status else { return page.0 };
    page.fact("Cluster", &status.cluster);
    page.fact("Status", &status.phase);
    page.fact("Restorable", if status.restorable { "yes" } else { "no" });
    page.fact("Started", moment(status.start_time.as_ref()));
    page.fact("Finished", moment(status.finish_time.as_ref()));
    page.fact("Size", status.size.clone().unwrap_or_default());
    page.fact("Job", status.origin.as_ref().and_then(|o| o.job.clone()).unwrap_or_default());
    let mut table =
        Table::new(&["DATA PLANE", "NAMESPACE", "NAME", "STATUS", "NODES", "FILES", "SIZE", "MEDUSA BACKUP"]);
    for dc in &status.datacenters {
        table.row([
            dc.data_plane.clone(),
            dc.namespace.clone(),
            dc.name.clone(),
            dc.status.clone(),
            dc.nodes.map_or_else(String::new, |n| format!("{}/{}", n.finished, n.total)),
            dc.files.map_or_else(String::new, |n| n.to_string()),
            dc.size_bytes.map_or_else(String::new, size::humanize),
            dc.medusa_backup.clone().unwrap_or_default(),
        ]);
    }
    page.section("Datacenters", &table);
    page.conditions(&status.conditions, now);
    page.0
}

/// The limits of a rollout that are set.
fn rollout(rollout: &Rollout) -> String {
    let at_a_time = |what: &str| format!("at a time{what}");
    let fields = [
        (rollout.max_concurrent_datacenters, at_a_time("")),
        (rollout.max_concurrent_per_data_plane, at_a_time(" per data plane")),
        (rollout.max_concurrent_per_bucket, at_a_time(" per bucket")),
        (rollout.max_failures, "failures at most".to_owned()),
        (rollout.retries_per_datacenter, "further attempts".to_owned()),
    ];
    let times = [
        (rollout.datacenter_timeout_seconds, "per datacenter"),
        (rollout.progress_deadline_seconds, "without progress"),
        (rollout.stagger_window_seconds, "to start in"),
    ];
    let counts = fields.iter().filter_map(|(n, what)| Some(format!("{} {what}", limit(*n)?)));
    let times = times.iter().filter_map(|(n, what)| {
        limit(*n)?;
        Some(format!("{} {what}", duration::short(i64::from((*n)?))))
    });
    counts.chain(times).collect::<Vec<_>>().join(", ")
}

/// A run.
#[must_use]
pub fn job(object: &FleetBackupJob, now: Timestamp) -> String {
    let mut page = Page::new("FleetBackupJob", &name(&object.metadata));
    page.fact("Type", object.spec.backup_type.as_str());
    page.fact("Rollout", object.spec.run.rollout.as_ref().map_or_else(String::new, rollout));
    page.fact("Cancelled", if object.spec.run.is_cancelled() { "yes" } else { "" });
    page.fact("Dry run", if object.spec.run.is_dry_run() { "yes" } else { "" });
    let Some(status) = &object.status else {
        page.fact("Phase", "Pending (no control plane has taken it up yet)");
        return page.0;
    };
    page.fact("Summary", run::summary(status));
    page.fact("Started", moment(status.run.start_time.as_ref()));
    page.fact("Finished", moment(status.run.finish_time.as_ref()));
    page.fact("Start skew", status.start_skew_seconds.map_or_else(String::new, |s| format!("{s}s")));
    let mut table = Table::new(&["DATACENTER", "CLUSTER", "STATE", "JOB"]);
    for dc in &status.datacenters {
        table.row([run::title(dc), dc.cluster.clone(), run::line(dc), dc.job.clone().unwrap_or_default()]);
    }
    page.section("Datacenters", &table);
    page.conditions(&status.run.conditions, now);
    page.0
}

/// A sync or purge.
#[must_use]
pub fn task(object: &FleetTask, now: Timestamp) -> String {
    let mut page = Page::new("FleetTask", &name(&object.metadata));
    page.fact("Operation", object.spec.operation.as_str());
    let Some(status) = &object.status else {
        page.fact("Phase", "Pending (no control plane has taken it up yet)");
        return page.0;
    };
    page.fact("Summary", task::summary(status));
    page.fact("Started", moment(status.run.start_time.as_ref()));
    page.fact("Finished", moment(status.run.finish_time.as_ref()));
    page.section("Datacenters", &task::table(&status.datacenters));
    page.conditions(&status.run.conditions, now);
    page.0
}

/// A schedule.
#[must_use]
pub fn schedule(object: &FleetBackupSchedule, now: Timestamp) -> String {
    let mut page = Page::new("FleetBackupSchedule", &name(&object.metadata));
    let spec = &object.spec;
    page.fact("Schedule", format!("{} ({})", spec.schedule, spec.time_zone.as_deref().unwrap_or("UTC")));
    page.fact("Operation", format!("{}, {}", spec.operation.as_str(), spec.execution.as_str()));
    page.fact("Concurrency", spec.concurrency_policy.as_str());
    page.fact("Window", spec.window_seconds.map_or_else(String::new, |seconds| format!("{seconds}s")));
    page.fact("Suspended", if spec.suspend == Some(true) { "yes" } else { "" });
    let Some(status) = &object.status else {
        page.fact("Next", "unknown (no control plane has taken it up yet)");
        return page.0;
    };
    page.fact("Next", schedules::slot(status.next_schedule_time.as_ref(), now));
    page.fact("Last", moment(status.last_schedule_time.as_ref()));
    page.fact("Last successful", moment(status.last_successful_time.as_ref()));
    page.fact("Missed slots", status.missed_slots.to_string());
    let datacenters = status.datacenters.map(|dcs| format!("{} of {} scheduled", dcs.scheduled, dcs.total));
    page.fact("Datacenters", datacenters.unwrap_or_default());
    let mut table = Table::new(&["KIND", "NAME"]);
    for active in &status.active {
        table.row([active.kind.clone(), active.place()]);
    }
    page.section("Active", &table);
    page.conditions(&status.conditions, now);
    page.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::views::fixtures::{
        backups, clusters, data_planes, jobs, now, schedules as fleet_schedules,
    };

    #[test]
    fn only_limits_that_are_set_are_shown() {
        let set = Rollout {
            max_concurrent_datacenters: Some(4),
            max_failures: Some(0),
            stagger_window_seconds: Some(1800),
            ..Rollout::default()
        };
        assert_eq!(rollout(&set), "4 at a time, 30m to start in");
    }

    #[test]
    fn a_page_shows_everything_known() {
        let last = |pages: Vec<String>| pages.into_iter().next_back().unwrap();
        let pages = [
            last(data_planes().iter().map(|d| data_plane(d, now())).collect()),
            last(clusters().iter().map(|c| cluster(c, now())).collect()),
            backups().first().map(|b| backup(b, now())).unwrap(),
            last(jobs().iter().map(|j| job(j, now())).collect()),
            fleet_schedules().first().map(|s| schedule(s, now())).unwrap(),
        ];
        insta::assert_snapshot!(pages.join("\n"));
    }
}
