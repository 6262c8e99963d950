//! What delegated schedules made is watched in a data plane while it has such a schedule, and no longer.

use medusa_fleet::api::medusa::{MedusaBackupSchedule, ScheduledOperation};

use super::*;
use crate::support::{CASS, Cluster};

/// Watches of `resource` (its plural) that are open at the API server.
async fn open(cluster: &Cluster, resource: &str) -> f64 {
    let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
    let text = cluster.client.request_text(request).await.unwrap();
    let labels = [format!("resource=\"{resource}\""), "verb=\"WATCH\"".to_owned()];
    text.lines()
        .filter(|line| line.starts_with("apiserver_longrunning_requests{"))
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_watched_while_there_is_a_delegated_schedule_that_makes_them() {
    let fleet = Fleet::start(1).await;
    let cluster = fleet.dp(1);
    let planes = Arc::new(Planes::default());
    let _link = link(&planes, "dp-1", cluster.client.clone(), "runs");
    let view = planes.member("dp-1").unwrap().view;
    // One watch is that of what fleet objects make.
    let expect = async |operation, resource, is_watched: bool| {
        let wanted = if is_watched { 2.0 } else { 1.0 };
        eventually(format!("runs are watched as {resource}: {is_watched}"), async || {
            let is_known = view.get().scheduled_runs(operation).is_some();
            let open = open(cluster, resource).await;
            if is_known == is_watched && (open - wanted).abs() < 0.5 {
                Ok(())
            } else {
                Err(format!("known: {is_known}, open: {open}"))
            }
        })
        .await;
    };
    for (operation, word, resource) in [
        (ScheduledOperation::Backup, "backup", "medusabackupjobs"),
        (ScheduledOperation::Purge, "purge", "medusatasks"),
    ] {
        expect(operation, resource, false).await;
        for name in ["first", "second"] {
            let schedule = json!({
                "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackupSchedule",
                "metadata": {"name": name, "namespace": CASS, "labels": {labels::FLEET_SCHEDULE_UID: "u"}},
                "spec": {
                    "cronSchedule": "@daily", "operationType": word,
                    "backupSpec": {"cassandraDatacenter": "dc1"},
                },
            });
            cluster.create(schedule).await;
            expect(operation, resource, true).await;
            cluster.delete::<MedusaBackupSchedule>(CASS, name).await;
            expect(operation, resource, false).await;
        }
    }
}
