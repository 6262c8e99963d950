//! What would be done where, before it is done: the deployment of Medusa.

use std::fmt::Write as _;

use serde::Serialize;

use super::{count, name};
use crate::{
    api::fleet::{ClusterDatacenter, DeploymentState, FleetCluster, KeptField, MedusaChange, place},
    cli::output::{Table, one_line},
};

/// Longest value in a table that is not wide.
const SHORT: usize = 48;

/// What deploying Medusa means for one datacenter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Planned {
    /// The FleetCluster.
    pub cluster: String,
    /// The data plane.
    pub data_plane: String,
    /// The datacenter's namespace there.
    pub namespace: String,
    /// The CassandraDatacenter.
    pub datacenter: String,
    /// How far the deployment is.
    pub state: DeploymentState,
    /// Why it is no further, for machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why it is no further, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Whether the changes restart pods; absent without changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarts_pods: Option<bool>,
    /// What is to be changed.
    pub changes: Vec<MedusaChange>,
    /// How many changes are not listed.
    pub more_changes: i64,
    /// What others set and keep.
    pub kept: Vec<KeptField>,
}

/// The datacenters of `clusters` that a K8ssandraCluster asks Medusa for; only those of the cluster `only`, by its name
/// or its K8ssandraCluster's, when it is given.
#[must_use]
pub fn deployments(clusters: &[FleetCluster], only: Option<&str>) -> Vec<Planned> {
    let mut planned: Vec<Planned> = clusters
        .iter()
        .filter(|cluster| only.is_none_or(|only| is_called(cluster, only)))
        .flat_map(|cluster| {
            let datacenters = cluster.status.iter().flat_map(|status| &status.datacenters);
            datacenters.filter_map(|dc| planned(&name(&cluster.metadata), dc))
        })
        .collect();
    // A cluster's datacenters stay in the order they are published in.
    planned.sort_by(|a, b| a.cluster.cmp(&b.cluster));
    planned
}

/// Whether there is something to deploy, and a person has to mend something first in every datacenter.
#[must_use]
pub fn is_refused(planned: &[Planned]) -> bool {
    !planned.is_empty() && planned.iter().all(|dc| dc.state == DeploymentState::Refused)
}

/// Whether `typed` is the cluster's name or that of its K8ssandraCluster.
#[must_use]
pub fn is_called(cluster: &FleetCluster, typed: &str) -> bool {
    let owner = cluster.status.as_ref().and_then(|status| status.k8ssandra_cluster.as_ref());
    name(&cluster.metadata) == typed || owner.is_some_and(|owner| owner.name == typed)
}

fn planned(cluster: &str, dc: &ClusterDatacenter) -> Option<Planned> {
    let medusa = &dc.medusa;
    Some(Planned {
        cluster: cluster.to_owned(),
        data_plane: dc.data_plane.clone(),
        namespace: dc.namespace.clone(),
        datacenter: dc.name.clone(),
        state: medusa.state?,
        reason: medusa.reason.clone(),
        message: medusa.message.clone(),
        restarts_pods: medusa.restarts_pods,
        changes: medusa.changes.clone(),
        more_changes: medusa.more_changes.unwrap_or_default(),
        kept: medusa.kept.clone(),
    })
}

/// The plan for people: a row for each datacenter, and below it what changes in each.
#[must_use]
pub fn screen(planned: &[Planned], wide: bool) -> String {
    let mut header = vec!["CLUSTER", "DATACENTER", "STATE", "CHANGES", "RESTARTS PODS", "KEPT"];
    header.push(if wide { "REASON" } else { "WHY" });
    if wide {
        header.push("MESSAGE");
    }
    let mut table = Table::new(&header);
    for dc in planned {
        let mut row = vec![
            dc.cluster.clone(),
            dc.place(),
            format!("{:?}", dc.state),
            dc.number_of_changes().to_string(),
            dc.restarts_pods.map_or_else(String::new, |yes| if yes { "yes" } else { "no" }.to_owned()),
            dc.kept.len().to_string(),
        ];
        let message = dc.message.clone().unwrap_or_default();
        if wide {
            row.push(dc.reason.clone().unwrap_or_default());
        }
        row.push(message);
        table.row(row);
    }
    let mut text = table.render(0);
    for dc in planned {
        dc.details(wide, &mut text);
    }
    text
}

impl Planned {
    fn place(&self) -> String {
        place([&self.data_plane, &self.namespace, &self.datacenter])
    }

    fn number_of_changes(&self) -> i64 {
        i64::try_from(self.changes.len()).unwrap_or(i64::MAX).saturating_add(self.more_changes)
    }

    fn details(&self, wide: bool, text: &mut String) {
        let value = |value: &Option<String>| match value {
            Some(value) if wide || value.chars().count() <= SHORT => value.clone(),
            Some(value) => value.chars().take(SHORT).chain(['…']).collect(),
            None => String::new(),
        };
        if !self.changes.is_empty() {
            let mut table = Table::new(&["FIELD", "FROM", "TO"]);
            for change in &self.changes {
                table.row([change.path.clone(), value(&change.from), value(&change.to)]);
            }
            let _ = write!(text, "\n{}\n{}", one_line(&self.place()), table.render(2));
            if let Some(more) = usize::try_from(self.more_changes).ok().filter(|more| *more > 0) {
                let _ = writeln!(text, "  … and {}", count(more, "more change"));
            }
        }
        if wide && !self.kept.is_empty() {
            let mut table = Table::new(&["FIELD", "KEPT BY"]);
            for field in &self.kept {
                table.row([field.path.clone(), field.manager.clone()]);
            }
            let _ = write!(text, "\n{}\n{}", one_line(&self.place()), table.render(2));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn clusters() -> Vec<FleetCluster> {
        let medusa = r#".spec.podTemplateSpec.spec.containers[name="medusa"]"#;
        let shop = json!({
            "metadata": {"name": "shop.prod"}, "spec": {},
            "status": {
                "size": 3, "restorePoints": 0, "k8ssandraCluster": {"name": "shop", "namespace": "prod"},
                "datacenters": [
                    {"dataPlane": "us-1", "namespace": "cass", "name": "dc2", "size": 3, "medusa": {
                        "deployed": true, "state": "Progressing", "reason": "DatacenterNotReady",
                        "message": "everything is applied; the datacenter is not settled: it is not Ready",
                        "kept": [{"path": format!("{medusa}.resources.limits.memory"), "manager": "kubectl-edit"}],
                    }},
                    {"dataPlane": "eu-1", "namespace": "cass", "name": "dc1", "size": 3, "medusa": {
                        "deployed": false, "state": "Waiting", "reason": "DatacenterNotReady",
                        "message": "waits for us-1/cass/dc2, which is not settled", "restartsPods": true,
                        "moreChanges": 2, "changes": [
                            {"path": ".spec.users", "to": "shop-medusa"},
                            {"path": medusa, "to": "docker.io/k8ssandra/medusa:0.29.1"},
                            {"path": ".spec.x", "from": "long ".repeat(20), "to": "\u{1b}[2J"},
                        ],
                    }},
                    {"dataPlane": "eu-1", "namespace": "cass", "name": "other", "size": 3, "medusa": {"deployed": true}},
                ],
            },
        });
        let paused = json!({
            "metadata": {"name": "orders"}, "spec": {},
            "status": {"size": 1, "restorePoints": 0, "datacenters": [
                {"dataPlane": "eu-1", "namespace": "cass", "name": "dc9", "size": 1, "medusa": {
                    "deployed": true, "state": "Paused", "reason": "Paused", "message": "the K8ssandraCluster is paused",
                    "restartsPods": false, "changes": [{"path": ".metadata.annotations.a", "from": "1", "to": "2"}],
                }},
            ]},
        });
        [shop, paused].map(|cluster| serde_json::from_value(cluster).unwrap()).into()
    }

    #[test]
    fn a_plan_is_refused_when_every_datacenter_is() {
        let mut planned = deployments(&clusters(), None);
        assert!(!is_refused(&planned) && !is_refused(&[]));
        for dc in planned.iter_mut().skip(1) {
            dc.state = DeploymentState::Refused;
        }
        assert!(!is_refused(&planned) && is_refused(&planned[1..]));
    }

    #[test]
    fn a_plan_shows_what_changes_where_and_what_it_waits_for() {
        insta::assert_snapshot!(screen(&deployments(&clusters(), None), false));
    }

    #[test]
    fn a_wide_plan_shows_whole_values_and_whose_fields_are_kept() {
        insta::assert_snapshot!(screen(&deployments(&clusters(), None), true));
    }

    #[test]
    fn a_cluster_is_meant_by_its_name_or_its_k8ssandra_clusters() {
        let of = |only: &str| deployments(&clusters(), Some(only)).len();
        assert_eq!([of("shop"), of("shop.prod"), of("orders"), of("none")], [2, 2, 1, 0]);
    }

    #[test]
    fn programs_get_one_object_for_each_datacenter() {
        let planned = serde_json::to_value(deployments(&clusters(), Some("orders"))).unwrap();
        assert_eq!(
            planned,
            json!([{
                "cluster": "orders", "dataPlane": "eu-1", "namespace": "cass", "datacenter": "dc9",
                "state": "Paused", "reason": "Paused", "message": "the K8ssandraCluster is paused",
                "restartsPods": false, "changes": [{"path": ".metadata.annotations.a", "from": "1", "to": "2"}],
                "moreChanges": 0, "kept": [],
            }])
        );
    }
}
