//! What a selector matches, as far as the inventory in the control plane knows.
//!
//! A preview for people: the decision is the controller's, which sees the datacenters themselves.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::core::{Selector as Labels, SelectorExt as _};

use crate::{
    api::fleet::{DataPlane, FleetCluster, Selector},
    cli::{
        failure::{Failure, Outcome},
        home::ControlPlaneClient,
        output::{Printer, Table},
        views::{name, state},
    },
};

/// The datacenters that a selector matches.
pub struct Preview {
    matches: Vec<Match>,
    /// Whether the data planes narrow them further.
    is_narrowed: bool,
}

impl Preview {
    /// Reads what `selector` matches: everything where there is none.
    ///
    /// # Errors
    /// When the inventory or a label selector cannot be read.
    pub async fn read(home: &ControlPlaneClient, selector: Option<&Selector>) -> Outcome<Self> {
        let (clusters, data_planes) =
            futures::try_join!(home.list::<FleetCluster>(), home.list::<DataPlane>())?;
        let everything = Selector::default();
        let selector = selector.unwrap_or(&everything);
        let matches = matches(selector, &clusters, &data_planes).map_err(Failure::CouldNotAsk)?;
        Ok(Self { matches, is_narrowed: selector.datacenter_selector.is_some() })
    }

    /// Prints them.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn print(&self, printer: Printer) -> Outcome {
        if self.matches.is_empty() {
            let look = printer.command("clusters -o wide");
            printer.note(&format!("no datacenter matches now; {look} shows what there is"));
            return Ok(());
        }
        if self.is_narrowed {
            printer.note("--datacenter-selector is decided in the data planes and narrows this further");
        }
        printer.text(&table(&self.matches).render(0))
    }
}

/// One datacenter the selector matches.
#[derive(Debug, PartialEq, Eq)]
struct Match {
    data_plane: String,
    namespace: String,
    datacenter: String,
    cluster: String,
    /// What may stand in its way.
    note: String,
}

/// The datacenters `selector` matches, in the order data plane, namespace, name.
fn matches(
    selector: &Selector,
    clusters: &[FleetCluster],
    data_planes: &[DataPlane],
) -> Result<Vec<Match>, String> {
    let cluster_labels = labels(selector.cluster_selector.as_ref())?;
    let data_plane_labels = labels(selector.data_plane_selector.as_ref())?;
    let mut matches = Vec::new();
    for cluster in clusters {
        let Some(status) = &cluster.status else { continue };
        let cluster_name = name(&cluster.metadata);
        let operators_name = status.k8ssandra_cluster.as_ref().map(|k8c| k8c.name.clone());
        let named = selector.clusters.is_empty()
            || selector.clusters.contains(&cluster_name)
            || operators_name.is_some_and(|name| selector.clusters.contains(&name));
        if !named || !allows(&cluster_labels, &cluster.metadata) {
            continue;
        }
        for dc in &status.datacenters {
            let data_plane = data_planes.iter().find(|d| d.metadata.name.as_ref() == Some(&dc.data_plane));
            let labelled = data_plane
                .map_or(selector.data_plane_selector.is_none(), |d| allows(&data_plane_labels, &d.metadata));
            if !labelled
                || !is_in(&selector.data_planes, &dc.data_plane)
                || !is_in(&selector.namespaces, &dc.namespace)
                || !is_in(&selector.datacenters, &dc.name)
            {
                continue;
            }
            let is_ready = data_plane
                .and_then(|d| d.status.as_ref())
                .is_some_and(|status| state(&status.conditions, "Ready") == "True");
            let note = match (dc.medusa.deployed, is_ready) {
                (false, _) => "runs no Medusa",
                (true, false) => "its data plane is not ready",
                (true, true) => "",
            };
            matches.push(Match {
                data_plane: dc.data_plane.clone(),
                namespace: dc.namespace.clone(),
                datacenter: dc.name.clone(),
                cluster: cluster_name.clone(),
                note: note.to_owned(),
            });
        }
    }
    matches.sort_by(|a, b| {
        (&a.data_plane, &a.namespace, &a.datacenter).cmp(&(&b.data_plane, &b.namespace, &b.datacenter))
    });
    Ok(matches)
}

fn is_in(wanted: &[String], name: &String) -> bool {
    wanted.is_empty() || wanted.contains(name)
}

fn labels(selector: Option<&LabelSelector>) -> Result<Labels, String> {
    let selector = selector.cloned().unwrap_or_default();
    Labels::try_from(selector).map_err(|error| format!("cannot read the label selector: {error}"))
}

fn allows(labels: &Labels, metadata: &ObjectMeta) -> bool {
    labels.matches(metadata.labels.as_ref().unwrap_or(&std::collections::BTreeMap::new()))
}

fn table(matches: &[Match]) -> Table {
    let mut table = Table::new(&["DATA PLANE", "NAMESPACE", "DATACENTER", "CLUSTER", "NOTE"]);
    for m in matches {
        table.row([&m.data_plane, &m.namespace, &m.datacenter, &m.cluster, &m.note].map(Clone::clone));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{
        selector::parse,
        views::fixtures::{clusters, data_planes},
    };

    fn matched(selector: &Selector) -> Vec<String> {
        let found = matches(selector, &clusters(), &data_planes()).unwrap();
        found
            .iter()
            .map(|m| format!("{}/{} {}", m.data_plane, m.datacenter, m.note).trim().to_owned())
            .collect()
    }

    #[test]
    fn an_empty_selector_matches_all_and_says_what_stands_in_the_way() {
        assert_eq!(
            matched(&Selector::default()),
            ["eu-1/dc1", "us-1/dc2 its data plane is not ready", "us-1/dc9 runs no Medusa"]
        );
    }

    #[test]
    fn every_field_narrows() {
        let by = |edit: fn(&mut Selector)| {
            let mut selector = Selector::default();
            edit(&mut selector);
            matched(&selector).len()
        };
        assert_eq!(by(|s| s.clusters = vec!["shop".to_owned()]), 2);
        assert_eq!(by(|s| s.data_planes = vec!["us-1".to_owned()]), 2);
        assert_eq!(by(|s| s.datacenters = vec!["dc1".to_owned()]), 1);
        assert_eq!(by(|s| s.namespaces = vec!["elsewhere".to_owned()]), 0);
        assert_eq!(by(|s| s.cluster_selector = Some(parse("env=prod").unwrap())), 0);
        assert_eq!(by(|s| s.data_plane_selector = Some(parse("!env").unwrap())), 3);
    }
}
