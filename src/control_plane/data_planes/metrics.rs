//! Metrics (docs/metrics.md): read from the fleet when they are asked for, so that none can be stale. Labels
//! are names of data planes and clusters, never of jobs.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

use jiff::Timestamp;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use super::{
    fleet::{Fleet, Snapshot},
    meters::{Copies, Meters},
    view::Contact,
};
use crate::runtime::{guard, sync::lock};

/// What the inventory last found out about a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterFigures {
    pub cluster: String,
    /// Start of its newest complete restore point.
    pub recovery_point: Option<Timestamp>,
    /// Seconds after which that no longer protects.
    pub expected_interval: Option<i64>,
    /// Its datacenters that have a backup.
    pub datacenters: Vec<DatacenterFigures>,
}

/// What the inventory last found out about a datacenter's newest successful backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatacenterFigures {
    pub data_plane: String,
    /// Its namespace there.
    pub namespace: String,
    pub datacenter: String,
    /// Seconds it took.
    pub duration: Option<i64>,
    /// Its size in bytes.
    pub size: Option<i64>,
}

/// Figures shared between the inventory and the metrics.
pub type Figures = Arc<Mutex<Vec<ClusterFigures>>>;

/// Metrics of the control plane.
pub struct FleetCollector {
    /// What this process decides about.
    pub fleet: Arc<Fleet>,
    /// What it watches, which is the same where it is alone.
    pub watched: Arc<Fleet>,
    pub figures: Figures,
    /// What is counted while it happens.
    pub meters: Arc<Meters>,
}

impl FleetCollector {
    /// A registry that serves these metrics with the prefix `medusa_fleet_`; panics are counted by `parts`.
    #[must_use]
    pub fn registry(self, parts: &[&'static str]) -> Registry {
        let mut registry = Registry::with_prefix("medusa_fleet");
        self.meters.register(&mut registry);
        guard::register(&mut registry, parts);
        registry.register_collector(Box::new(self));
        registry
    }
}

impl fmt::Debug for FleetCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetCollector").finish_non_exhaustive()
    }
}

impl Collector for FleetCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let leads = ConstGauge::new(i64::from(self.meters.leads()));
        leads.encode(encoder.encode_descriptor(
            "leader",
            "1 while this process does the work",
            None,
            leads.metric_type(),
        )?)?;
        let planes = self.fleet.snapshot();
        let is_alone = Arc::ptr_eq(&self.fleet, &self.watched);
        let watched = if is_alone { Vec::new() } else { self.watched.snapshot() };
        requests(encoder, planes.iter().chain(&watched))?;
        of_planes(encoder, &planes)?;
        let connected = if is_alone { &planes } else { &watched }.iter().filter(|p| p.remote.is_some());
        let connected = ConstGauge::new(i64::try_from(connected.count()).unwrap_or(i64::MAX));
        connected.encode(encoder.encode_descriptor(
            "dataplanes_watched",
            "Data planes that this process watches",
            None,
            connected.metric_type(),
        )?)?;
        gauges(
            encoder,
            "job_datacenters",
            "Datacenters of the FleetBackupJobs and FleetTasks that go on, by their state",
            self.meters.datacenters().into_iter().map(|(phase, count)| ([("phase", phase)], count)),
        )?;
        // Not locked while they are written out.
        let figures = lock(&self.figures).clone();
        of_clusters(encoder, &figures)
    }
}

fn of_planes(encoder: &mut DescriptorEncoder<'_>, planes: &[Snapshot]) -> fmt::Result {
    gauges(
        encoder,
        "replication_lag_seconds",
        "For how long copies in the data plane have not all been as they should be; 0 when they are",
        planes.iter().map(|p| ([("dataplane", p.name.as_str())], p.meters.lag().as_secs_f64())),
    )?;
    let mut of_each = |name, help, value: fn(&Snapshot) -> Option<i64>| {
        let values = planes.iter().filter_map(|p| Some(([("dataplane", p.name.as_str())], value(p)?)));
        gauges(encoder, name, help, values)
    };
    of_each("dataplane_up", "1 while the data plane's API server answers", |plane| {
        Some(i64::from(plane.view.contact == Contact::Live))
    })?;
    of_each(
        "dataplane_last_contact_timestamp_seconds",
        "When the data plane's API server last answered",
        |plane| plane.view.last_contact.map(Timestamp::as_second),
    )?;
    of_each(
        "dataplane_credential_expiry_timestamp_seconds",
        "When the data plane's credential stops working",
        |plane| plane.credential_expires_at.map(Timestamp::as_second),
    )?;
    of_each(
        "dataplane_credential_renewal_timestamp_seconds",
        "When the control plane renews the data plane's credential by itself; absent when it does not",
        |plane| plane.credential_renewal_at.map(Timestamp::as_second),
    )?;
    let copies = planes.iter().flat_map(|plane| {
        let Copies { synced, pending, failed } = plane.meters.copies();
        [("synced", synced), ("pending", pending), ("failed", failed)].map(|(state, count)| {
            let labels = [("dataplane", plane.name.as_str()), ("state", state)];
            (labels, i64::try_from(count).unwrap_or(i64::MAX))
        })
    });
    let help = "Copies of ours in the data plane, by how they were when it was last known";
    gauges(encoder, "replicated_copies", help, copies)
}

fn of_clusters(encoder: &mut DescriptorEncoder<'_>, figures: &[ClusterFigures]) -> fmt::Result {
    gauges(
        encoder,
        "recovery_point_timestamp_seconds",
        "What the newest complete restore point restores to; 0 when there never was one",
        figures
            .iter()
            .map(|f| ([("cluster", f.cluster.as_str())], f.recovery_point.map_or(0, Timestamp::as_second))),
    )?;
    gauges(
        encoder,
        "backup_expected_interval_seconds",
        "Age above which the newest complete restore point no longer protects the cluster",
        figures.iter().filter_map(|f| Some(([("cluster", f.cluster.as_str())], f.expected_interval?))),
    )?;
    let mut of_each = |name, help, value: fn(&DatacenterFigures) -> Option<i64>| {
        let all =
            figures.iter().flat_map(|f| f.datacenters.iter().map(|datacenter| (&f.cluster, datacenter)));
        let values = all.filter_map(|(cluster, datacenter)| {
            let labels = [
                ("cluster", cluster.as_str()),
                ("dataplane", datacenter.data_plane.as_str()),
                ("namespace", datacenter.namespace.as_str()),
                ("datacenter", datacenter.datacenter.as_str()),
            ];
            Some((labels, value(datacenter)?))
        });
        gauges(encoder, name, help, values)
    };
    of_each(
        "backup_duration_seconds",
        "How long the datacenter's newest successful backup took",
        |datacenter| datacenter.duration,
    )?;
    of_each("backup_size_bytes", "Size of the datacenter's newest successful backup", |datacenter| {
        datacenter.size
    })
}

/// Requests to each data plane, by the HTTP status of the answer; `none` where none came.
fn requests<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    planes: impl Iterator<Item = &'a Snapshot>,
) -> fmt::Result {
    let mut counts: BTreeMap<(&str, Option<u16>), u64> = BTreeMap::new();
    for plane in planes {
        for (status, count) in plane.meters.answers() {
            *counts.entry((&plane.name, status)).or_default() += count;
        }
    }
    let help = "Requests to the data plane's API server, watches too, by the status of its answer";
    let counter = ConstCounter::new(0_u64);
    let mut family = encoder.encode_descriptor("dataplane_requests", help, None, counter.metric_type())?;
    for ((data_plane, status), count) in counts {
        let code = status.map_or_else(|| "none".to_owned(), |status| status.to_string());
        let labels = [("dataplane", data_plane), ("code", code.as_str())];
        ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

/// A gauge with a value for each set of labels; what has no values is left out.
fn gauges<L: EncodeLabelSet, N: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = (L, N)>,
) -> fmt::Result {
    let mut values = values.peekable();
    if values.peek().is_none() {
        return Ok(());
    }
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use http::{StatusCode, Version};

    use super::*;
    use crate::api::fleet::DatacenterCounts;

    #[test]
    fn a_cluster_that_never_had_a_backup_shows_zero() {
        let fleet = Arc::new(Fleet::default());
        fleet.enrol("eu", "uid", |member| {
            member.meters.answered(Some((StatusCode::CREATED, Version::HTTP_11)));
            member.meters.set_copies(Copies { synced: 3, pending: 0, failed: 0 });
            member.meters.answered(None);
        });
        let figures = Figures::default();
        let datacenter = DatacenterFigures {
            data_plane: "eu".into(),
            namespace: "ns".into(),
            datacenter: "dc1".into(),
            duration: Some(60),
            size: None,
        };
        figures.lock().unwrap().push(ClusterFigures {
            cluster: "shop".into(),
            expected_interval: Some(7_200),
            datacenters: vec![datacenter],
            ..ClusterFigures::default()
        });
        let meters = Arc::new(Meters::default());
        for (name, pending) in [("nightly", 2), ("weekly", 3), ("over", 9)] {
            let counts = DatacenterCounts { total: pending + 1, pending, running: 1, ..Default::default() };
            meters.goes_on("FleetBackupJob", name, counts);
        }
        meters.ended("FleetBackupJob", "over");
        let watched = Arc::new(Fleet::default());
        watched.enrol("eu", "uid", |member| {
            member.meters.answered(None);
        });
        let registry = FleetCollector { fleet, watched, figures, meters }.registry(&["registry"]);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(
            text.contains(r#"medusa_fleet_recovery_point_timestamp_seconds{cluster="shop"} 0"#),
            "{text}"
        );
        for line in [
            "leader 0",
            r#"dataplane_requests_total{dataplane="eu",code="201"} 1"#,
            r#"dataplane_requests_total{dataplane="eu",code="none"} 2"#,
            "dataplanes_watched 0",
            r#"replication_lag_seconds{dataplane="eu"} 0.0"#,
            r#"replicated_copies{dataplane="eu",state="synced"} 3"#,
            r#"replicated_copies{dataplane="eu",state="failed"} 0"#,
            r#"job_datacenters{phase="Pending"} 5"#,
            r#"job_datacenters{phase="Running"} 2"#,
            r#"job_datacenters{phase="Failed"} 0"#,
            r#"backup_expected_interval_seconds{cluster="shop"} 7200"#,
            r#"backup_duration_seconds{cluster="shop",dataplane="eu",namespace="ns",datacenter="dc1"} 60"#,
        ] {
            assert!(text.contains(&format!("medusa_fleet_{line}")), "{text}");
        }
        assert!(!text.contains("backup_size_bytes"), "what is not known is left out: {text}");
        assert!(text.contains(r#"medusa_fleet_dataplane_up{dataplane="eu"} 0"#), "{text}");
    }

    /// Names of the first part of docs/metrics.md, as `# TYPE` lines have them.
    fn documented() -> BTreeSet<&'static str> {
        let page = include_str!("../../../docs/metrics.md").split("## The data plane").next().unwrap();
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
        rows.map(|row| row.split(['`', '{']).next().unwrap()).map(|n| n.trim_end_matches("_total")).collect()
    }

    #[tokio::test]
    async fn the_page_names_every_metric() {
        let (fleet, figures, meters) = (Arc::new(Fleet::default()), Figures::default(), Meters::default());
        fleet.enrol("eu", "uid", |member| {
            member.meters.answered(Some((StatusCode::OK, Version::HTTP_2)));
            member.credential_expires_at = Some(Timestamp::UNIX_EPOCH);
            member.credential_renewal_at = Some(Timestamp::UNIX_EPOCH);
            member.view.update(|view| view.last_contact = Some(Timestamp::UNIX_EPOCH));
        });
        let datacenter = DatacenterFigures { duration: Some(1), size: Some(1), ..Default::default() };
        let expected_interval = Some(1);
        let datacenters = vec![datacenter];
        figures.lock().unwrap().push(ClusterFigures { expected_interval, datacenters, ..Default::default() });
        meters.fanned_out(std::time::Duration::ZERO);
        meters.reconciles.count("DataPlane", std::time::Duration::ZERO, Some("TimedOut"));
        let watched = fleet.clone();
        let registry = FleetCollector { fleet, watched, figures, meters: Arc::new(meters) }.registry(&[]);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE medusa_fleet_"));
        let served: BTreeSet<&str> = types.map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(served, documented());
    }
}
