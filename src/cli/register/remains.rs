//! What stays in a data plane that is unregistered, and what goes, as far as the control plane knows. Pure.

use kube::ResourceExt;

use crate::{
    api::{
        Conditions as _,
        fleet::{
            ClusterDatacenter, DataPlane, DeletionPolicy, DeploymentState, Execution, FleetBackupSchedule,
            FleetCluster,
        },
        names,
    },
    cli::views::count,
};

/// Most objects of one sort that are named.
const NAMED: usize = 10;

/// What there is in a data plane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// Whether nothing is to be taken back.
    retain: bool,
    /// Whether it cannot be used now, so that perhaps nothing can be taken back.
    silent: bool,
    /// Delegated schedules that are known to be there.
    schedules: Vec<String>,
    /// Datacenters with Medusa that this control plane has deployed.
    deployed: Vec<String>,
    /// Datacenters with Medusa that somebody else looks after.
    others: Vec<String>,
}

impl Remains {
    /// What `clusters` and `schedules` say of `plane`.
    #[must_use]
    pub fn of(plane: &DataPlane, clusters: &[FleetCluster], schedules: &[FleetBackupSchedule]) -> Self {
        let name = plane.name_any();
        let conditions = plane.status.as_ref().map_or(&[][..], |status| &status.conditions);
        let all = clusters.iter().filter_map(|cluster| cluster.status.as_ref());
        let here = all.flat_map(|status| &status.datacenters).filter(|dc| dc.data_plane == name);
        let (mut deployed, mut others) = (Vec::new(), Vec::new());
        for datacenter in here.filter(|dc| dc.medusa.deployed) {
            let list = if is_ours(datacenter) { &mut deployed } else { &mut others };
            list.push(format!("{}/{}", datacenter.namespace, datacenter.name));
        }
        let is_there = |schedule: &&FleetBackupSchedule| {
            schedule.spec.execution == Execution::Delegated
                && schedule.status.iter().flat_map(|status| &status.data_planes).any(|of| of.name == name)
        };
        Self {
            retain: plane.spec.deletion_policy == Some(DeletionPolicy::Retain),
            silent: conditions.of_type("Ready").is_none_or(|ready| ready.status != "True"),
            schedules: schedules.iter().filter(is_there).map(ResourceExt::name_any).collect(),
            deployed,
            others,
        }
    }

    /// What is said before anything is done.
    #[must_use]
    pub fn before(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let schedules = if self.schedules.is_empty() {
            "MedusaBackupSchedules of Delegated schedules".to_owned()
        } else {
            format!(
                "MedusaBackupSchedules of Delegated schedules ({})",
                names::listed(&self.schedules, NAMED)
            )
        };
        if self.retain {
            lines.push(format!(
                "stays, as spec.deletionPolicy is `Retain`: copies of MedusaConfigurations and Secrets, and the \
                 {schedules}, which go on"
            ));
        } else {
            let mounted = if self.deployed.is_empty() { "" } else { ", but for those that its pods mount" };
            lines.push(format!(
                "goes: copies of MedusaConfigurations and Secrets{mounted}, and the {schedules}"
            ));
            if self.silent {
                lines.push(
                    "the data plane cannot be used now: what cannot be taken back within a minute stays there, \
                     schedules go on, and Event `LeftBehind` names what was seen last"
                        .to_owned(),
                );
            }
        }
        lines.extend(self.staying());
        lines
    }

    /// What is said when the data plane is gone.
    #[must_use]
    pub fn after(&self, namespace: &str) -> Vec<String> {
        let mut lines = self.staying();
        if self.retain {
            lines.push(
                "stays, as spec.deletionPolicy was `Retain`: every copy, and every MedusaBackupSchedule"
                    .to_owned(),
            );
        } else if self.silent || !self.deployed.is_empty() {
            lines.push(format!(
                "what could not be taken back: `kubectl -n {namespace} get events --field-selector \
                 reason=LeftBehind` names it"
            ));
        }
        lines
    }

    /// What unregistering does not take out, in any case.
    fn staying(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.deployed.is_empty() {
            lines.push(format!(
                "stays: Medusa in {} ({}), with the ConfigMap, Secrets and claims that its pods use; its purge schedule \
                 goes on deleting old backups. Medusa is taken out while the data plane is registered, by \
                 `spec.medusa` of the K8ssandraCluster (docs/uninstall.md)",
                count(self.deployed.len(), "datacenter"),
                names::listed(&self.deployed, NAMED)
            ));
        }
        if !self.others.is_empty() {
            lines.push(format!(
                "stays: Medusa in {} ({}), which this control plane has not deployed",
                count(self.others.len(), "datacenter"),
                names::listed(&self.others, NAMED)
            ));
        }
        lines.push(
            "stays: MedusaBackups, jobs and tasks, the data plane's controller and definitions, and every backup in \
             the storage"
                .to_owned(),
        );
        lines
    }
}

/// Whether the control plane has put Medusa there: who only sees it there, or leaves it to k8ssandra-operator, has not.
fn is_ours(datacenter: &ClusterDatacenter) -> bool {
    datacenter.medusa.state.is_some_and(|state| state != DeploymentState::HandsOff)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::views::fixtures::ready_data_plane;

    fn cluster(datacenters: Value) -> FleetCluster {
        serde_json::from_value(json!({
            "metadata": {"name": "shop.prod", "namespace": "ns"}, "spec": {},
            "status": {"size": 3, "restorePoints": 0, "datacenters": datacenters},
        }))
        .unwrap()
    }

    fn datacenter(plane: &str, name: &str, medusa: Value) -> Value {
        json!({"dataPlane": plane, "namespace": "cass", "name": name, "size": 3, "medusa": medusa})
    }

    fn schedule(name: &str, execution: &str, planes: &[&str]) -> FleetBackupSchedule {
        let planes: Vec<Value> = planes.iter().map(|plane| json!({"name": plane})).collect();
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "ns"}, "spec": {"schedule": "@daily", "execution": execution},
            "status": {"missedSlots": 0, "dataPlanes": planes},
        }))
        .unwrap()
    }

    /// Of data plane `eu-1`: Medusa of ours in dc1, of k8ssandra-operator in dc2, of nobody known in dc3, none in dc4.
    fn known(plane: &DataPlane) -> Remains {
        let clusters = [cluster(json!([
            datacenter("eu-1", "dc1", json!({"deployed": true, "state": "Deployed"})),
            datacenter("eu-1", "dc2", json!({"deployed": true, "state": "HandsOff"})),
            datacenter("eu-1", "dc3", json!({"deployed": true})),
            datacenter("eu-1", "dc4", json!({"deployed": false, "state": "Waiting"})),
            datacenter("us-1", "dc5", json!({"deployed": true, "state": "Deployed"})),
        ]))];
        let schedules = [
            schedule("nightly", "Delegated", &["eu-1", "us-1"]),
            schedule("weekly", "Delegated", &["us-1"]),
            schedule("hourly", "Coordinated", &[]),
        ];
        Remains::of(plane, &clusters, &schedules)
    }

    fn says(lines: &[String], begins: &str, word: &str) -> bool {
        lines.iter().any(|line| line.starts_with(begins) && line.contains(word))
    }

    #[test]
    fn what_stays_and_what_goes_is_of_this_data_plane() {
        let remains = known(&ready_data_plane());
        assert_eq!(remains.deployed, ["cass/dc1"]);
        assert_eq!(remains.others, ["cass/dc2", "cass/dc3"]);
        assert_eq!((remains.schedules.as_slice(), remains.silent), (&["nightly".to_owned()][..], false));
        let before = remains.before();
        assert!(says(&before, "goes: copies", "(nightly)") && says(&before, "goes: copies", "pods mount"));
        assert!(says(&before, "stays: Medusa in 1 datacenter (cass/dc1)", "purge schedule"), "{before:#?}");
        assert!(says(&before, "stays: Medusa in 2 datacenters", "has not deployed"), "{before:#?}");
        assert!(says(&before, "stays: MedusaBackups", "every backup in the storage"), "{before:#?}");
        let after = remains.after("fleet");
        assert!(!says(&after, "goes", "") && says(&after, "stays: Medusa in 1", "cass/dc1"), "{after:#?}");
        assert!(says(&after, "what could not", "kubectl -n fleet get events"), "{after:#?}");
    }

    #[test]
    fn nothing_of_ours_leaves_nothing_to_look_for() {
        let remains = Remains::of(&ready_data_plane(), &[], &[]);
        assert_eq!(remains, Remains::default());
        assert_eq!((remains.before().len(), remains.after("fleet").len()), (2, 1));
    }

    #[test]
    fn one_that_is_silent_or_retains_says_so() {
        let mut plane = ready_data_plane();
        plane.status = None;
        assert!(says(&known(&plane).before(), "the data plane cannot be used now", "LeftBehind"));
        plane.spec.deletion_policy = Some(DeletionPolicy::Retain);
        let retains = known(&plane);
        assert!(says(
            &retains.before(),
            "stays, as spec.deletionPolicy is `Retain`",
            "(nightly), which go on"
        ));
        assert!(!says(&retains.before(), "goes", ""), "{:#?}", retains.before());
        assert!(says(&retains.after("fleet"), "stays, as spec.deletionPolicy was `Retain`", "every copy"));
    }

    #[test]
    fn many_are_counted() {
        let many: Vec<Value> = (0..12)
            .map(|n| datacenter("eu-1", &format!("dc{n}"), json!({"deployed": true, "state": "Deployed"})))
            .collect();
        let remains = Remains::of(&ready_data_plane(), &[cluster(json!(many))], &[]);
        assert!(says(&remains.before(), "stays: Medusa in 12 datacenters", "cass/dc9 and 2 more"));
    }
}
