//! What the data plane counts (docs/metrics.md). Labels are names of datacenters, never of jobs.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use crate::{
    api::medusa::{MedusaBackupJob, MedusaTask, TaskOperation},
    runtime::{guard, reconciles::Reconciles},
};

/// A datacenter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Datacenter {
    namespace: String,
    datacenter: String,
}

/// A datacenter and how its backups ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Ended {
    namespace: String,
    datacenter: String,
    result: &'static str,
}

/// A datacenter, what was to be done there, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TaskEnded {
    namespace: String,
    datacenter: String,
    operation: &'static str,
    result: &'static str,
}

/// Handles to the figures. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Connections to Medusas that stand now.
    pub medusa_connections: Gauge,
    /// How the looks of its controllers end.
    pub reconciles: Reconciles,
    backups: Family<Ended, Counter>,
    duration: Family<Datacenter, Gauge<f64, AtomicU64>>,
    size: Family<Datacenter, Gauge>,
    tasks: Family<TaskEnded, Counter>,
}

impl Metrics {
    /// Figures that appear in `registry`; panics are counted by `parts`.
    #[must_use]
    pub fn register(registry: &mut Registry, parts: &[&'static str]) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("medusa_fleet");
        guard::register(registry, parts);
        metrics.reconciles.register(registry);
        registry.register(
            "medusa_connections",
            "Connections to Medusa servers that stand now",
            metrics.medusa_connections.clone(),
        );
        registry.register("backups", "Backups that ended, by result", metrics.backups.clone());
        registry.register_with_unit(
            "backup_duration",
            "How long the last good backup took",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        registry.register_with_unit(
            "backup_size",
            "Size of the last good backup, as precise as it is printed",
            Unit::Bytes,
            metrics.size.clone(),
        );
        registry.register("tasks", "Tasks that ended, by operation and result", metrics.tasks.clone());
        metrics
    }

    /// A task ended, well or badly.
    pub fn task_ended(&self, task: &MedusaTask, well: bool) {
        let ended = TaskEnded {
            namespace: task.metadata.namespace.clone().unwrap_or_default(),
            datacenter: task.spec.cassandra_datacenter.clone(),
            operation: match task.spec.operation {
                TaskOperation::Sync => "sync",
                TaskOperation::Purge => "purge",
                TaskOperation::PrepareRestore => "prepare_restore",
            },
            result: if well { "succeeded" } else { "failed" },
        };
        self.tasks.get_or_create(&ended).inc();
    }

    /// A backup ended; `good` are its seconds and bytes when it ended well.
    pub fn ended(&self, job: &MedusaBackupJob, good: Option<(f64, i64)>) {
        let namespace = job.metadata.namespace.clone().unwrap_or_default();
        let datacenter = job.spec.cassandra_datacenter.clone();
        let result = if good.is_some() { "succeeded" } else { "failed" };
        self.backups
            .get_or_create(&Ended { namespace: namespace.clone(), datacenter: datacenter.clone(), result })
            .inc();
        if let Some((seconds, bytes)) = good {
            let datacenter = Datacenter { namespace, datacenter };
            self.duration.get_or_create(&datacenter).set(seconds);
            self.size.get_or_create(&datacenter).set(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_page_names_every_metric() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry, &[]);
        metrics.ended(&MedusaBackupJob::default(), Some((1.0, 1)));
        let spec = serde_json::json!({"operation": "sync", "cassandraDatacenter": "dc1"});
        let task = MedusaTask::new("task", serde_json::from_value(spec).unwrap());
        metrics.task_ended(&task, true);
        metrics.reconciles.count("MedusaTask", std::time::Duration::ZERO, Some("Unreachable"));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE medusa_fleet_"));
        let served: BTreeSet<&str> = types.map(|line| line.split(' ').next().unwrap()).collect();
        let page = include_str!("../../../docs/metrics.md").split("## The data plane").nth(1).unwrap();
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
        let names = rows.map(|row| row.split(['`', '{']).next().unwrap());
        assert_eq!(served, names.map(|name| name.trim_end_matches("_total")).collect());
    }
}
