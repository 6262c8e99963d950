//! Metrics (docs/metrics.md): read from the fleet when they are asked for, so that none can be stale. Labels
//! are names of data planes and clusters, never of jobs.

use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric as _},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use super::{
    fleet::{Fleet, Snapshot},
    meters::Meters,
    view::Contact,
};
use crate::runtime::{guard, sync::lock};

/// What the inventory last found out about a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterFigures {
    /// Name of the FleetCluster.
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
    /// The data plane.
    pub data_plane: String,
    /// Its namespace there.
    pub namespace: String,
    /// Name of the CassandraDatacenter.
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
    /// The data planes.
    pub fleet: Arc<Fleet>,
    /// The clusters.
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

impl std::fmt::Debug for FleetCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FleetCollector").finish_non_exhaustive()
    }
}

impl Collector for FleetCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let leads = ConstGauge::new(i64::from(self.meters.leads()));
        leads.encode(encoder.encode_descriptor(
            "leader",
            "1 while this process does the work",
            None,
            leads.metric_type(),
        )?)?;
        let planes = self.fleet.snapshot();
        requests(&mut encoder, &planes)?;
        let lag: Vec<(String, f64)> =
            planes.iter().map(|p| (p.name.clone(), p.meters.lag().as_secs_f64())).collect();
        gauges(
            &mut encoder,
            "replication_lag_seconds",
            "For how long copies in the data plane have not all been as they should be; 0 when they are",
            "dataplane",
            &lag,
        )?;
        let up: Vec<(String, i64)> =
            planes.iter().map(|p| (p.name.clone(), i64::from(p.view.contact == Contact::Live))).collect();
        gauges(
            &mut encoder,
            "dataplane_up",
            "1 while the data plane's API server answers",
            "dataplane",
            &up,
        )?;
        let contact: Vec<(String, i64)> =
            planes.iter().filter_map(|p| Some((p.name.clone(), p.view.last_contact?.as_second()))).collect();
        gauges(
            &mut encoder,
            "dataplane_last_contact_timestamp_seconds",
            "When the data plane's API server last answered",
            "dataplane",
            &contact,
        )?;
        let expiry: Vec<(String, i64)> = planes
            .iter()
            .filter_map(|p| Some((p.name.clone(), p.credential_expires_at?.as_second())))
            .collect();
        gauges(
            &mut encoder,
            "dataplane_credential_expiry_timestamp_seconds",
            "When the data plane's credential stops working",
            "dataplane",
            &expiry,
        )?;
        copies(&mut encoder, &planes)?;
        gauges(
            &mut encoder,
            "job_datacenters",
            "Datacenters of the FleetBackupJobs and FleetTasks that go on, by their state",
            "phase",
            &self.meters.datacenters(),
        )?;
        let figures = lock(&self.figures).clone();
        let points: Vec<(String, i64)> = figures
            .iter()
            .map(|f| (f.cluster.clone(), f.recovery_point.map_or(0, Timestamp::as_second)))
            .collect();
        gauges(
            &mut encoder,
            "recovery_point_timestamp_seconds",
            "What the newest complete restore point restores to; 0 when there never was one",
            "cluster",
            &points,
        )?;
        let intervals: Vec<(String, i64)> =
            figures.iter().filter_map(|f| Some((f.cluster.clone(), f.expected_interval?))).collect();
        gauges(
            &mut encoder,
            "backup_expected_interval_seconds",
            "Age above which the newest complete restore point no longer protects the cluster",
            "cluster",
            &intervals,
        )?;
        of_datacenters(
            &mut encoder,
            "backup_duration_seconds",
            "How long the datacenter's newest successful backup took",
            &figures,
            |datacenter| datacenter.duration,
        )?;
        of_datacenters(
            &mut encoder,
            "backup_size_bytes",
            "Size of the datacenter's newest successful backup",
            &figures,
            |datacenter| datacenter.size,
        )
    }
}

/// Requests to each data plane, by the HTTP status of the answer; `none` where none came.
fn requests(encoder: &mut DescriptorEncoder<'_>, planes: &[Snapshot]) -> Result<(), std::fmt::Error> {
    let help = "Requests to the data plane's API server, watches too, by the status of its answer";
    let counter = ConstCounter::new(0_u64);
    let mut family = encoder.encode_descriptor("dataplane_requests", help, None, counter.metric_type())?;
    for plane in planes {
        for (status, count) in plane.meters.answers() {
            let code = status.map_or_else(|| "none".to_owned(), |status| status.to_string());
            let labels = [("dataplane", plane.name.as_str()), ("code", code.as_str())];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

/// Copies in each data plane, by state.
fn copies(encoder: &mut DescriptorEncoder<'_>, planes: &[Snapshot]) -> Result<(), std::fmt::Error> {
    let help = "Copies of ours in the data plane, by how they were when it was last known";
    let gauge = ConstGauge::new(0_i64);
    let mut family = encoder.encode_descriptor("replicated_copies", help, None, gauge.metric_type())?;
    for plane in planes {
        let copies = plane.meters.copies();
        for (state, count) in
            [("synced", copies.synced), ("pending", copies.pending), ("failed", copies.failed)]
        {
            let labels = [("dataplane", plane.name.as_str()), ("state", state)];
            ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX))
                .encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn gauges<N: EncodeGaugeValue + Copy>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    values: &[(String, N)],
) -> Result<(), std::fmt::Error> {
    let Some((_, first)) = values.first() else { return Ok(()) };
    let mut family = encoder.encode_descriptor(name, help, None, ConstGauge::new(*first).metric_type())?;
    for (of, value) in values {
        let labels = [(label, of.as_str())];
        ConstGauge::new(*value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn of_datacenters(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    figures: &[ClusterFigures],
    value: fn(&DatacenterFigures) -> Option<i64>,
) -> Result<(), std::fmt::Error> {
    let values: Vec<(&ClusterFigures, &DatacenterFigures, i64)> = figures
        .iter()
        .flat_map(|cluster| cluster.datacenters.iter().map(move |datacenter| (cluster, datacenter)))
        .filter_map(|(cluster, datacenter)| Some((cluster, datacenter, value(datacenter)?)))
        .collect();
    if values.is_empty() {
        return Ok(());
    }
    let mut family = encoder.encode_descriptor(name, help, None, ConstGauge::new(0_i64).metric_type())?;
    for (cluster, datacenter, value) in values {
        let labels = [
            ("cluster", cluster.cluster.as_str()),
            ("dataplane", datacenter.data_plane.as_str()),
            ("namespace", datacenter.namespace.as_str()),
            ("datacenter", datacenter.datacenter.as_str()),
        ];
        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{api::fleet::DatacenterCounts, control_plane::data_planes::meters::Copies};

    #[test]
    fn a_cluster_that_never_had_a_backup_shows_zero() {
        let fleet = Arc::new(Fleet::default());
        fleet.enrol("eu", "uid", |member| {
            member.meters.answered(Some(201));
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
        let registry = FleetCollector { fleet, figures, meters }.registry(&["registry"]);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(
            text.contains(r#"medusa_fleet_recovery_point_timestamp_seconds{cluster="shop"} 0"#),
            "{text}"
        );
        for line in [
            "leader 0",
            r#"dataplane_requests_total{dataplane="eu",code="201"} 1"#,
            r#"dataplane_requests_total{dataplane="eu",code="none"} 1"#,
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
            member.meters.answered(Some(200));
            member.credential_expires_at = Some(Timestamp::UNIX_EPOCH);
            member.view.update(|view| view.last_contact = Some(Timestamp::UNIX_EPOCH));
        });
        let datacenter = DatacenterFigures { duration: Some(1), size: Some(1), ..Default::default() };
        let expected_interval = Some(1);
        let datacenters = vec![datacenter];
        figures.lock().unwrap().push(ClusterFigures { expected_interval, datacenters, ..Default::default() });
        meters.fanned_out(std::time::Duration::ZERO);
        meters.reconciles.count("DataPlane", std::time::Duration::ZERO, Some("TimedOut"));
        let registry = FleetCollector { fleet, figures, meters: Arc::new(meters) }.registry(&[]);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE medusa_fleet_"));
        let served: BTreeSet<&str> = types.map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(served, documented());
    }
}
