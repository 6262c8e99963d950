//! The names cass-operator gives to a datacenter's StatefulSets and pods (upstream: Names).
//!
//! Pure. They are computed, not read, as a stopped datacenter has no pods to read them from.

use crate::api::{
    cassandra::CassandraDatacenter,
    operator_names::{label, subdomain},
};

/// One rack of a datacenter: the StatefulSet that makes its pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RackSet {
    /// The rack's name.
    pub rack: String,
    /// Name of its StatefulSet.
    pub set: String,
    /// Names of its pods, by ordinal.
    pub pods: Vec<String>,
}

/// The racks of `dc` in their order, with so many nodes: those that somebody has listed, as a size is whatever number
/// somebody writes. Nodes are split evenly; the first racks get what is left over.
#[must_use]
pub fn racks(dc: &CassandraDatacenter, size: usize) -> Vec<RackSet> {
    let names = dc.rack_names();
    let (each, more) = (
        size.checked_div(names.len()).unwrap_or_default(),
        size.checked_rem(names.len()).unwrap_or_default(),
    );
    names
        .into_iter()
        .enumerate()
        .map(|(index, rack)| {
            let set =
                format!("{}-{}-{}-sts", label(&dc.spec.cluster_name), resource_name(dc), subdomain(&rack));
            let count = each + usize::from(index < more);
            let pods = (0..count).map(|ordinal| format!("{set}-{ordinal}")).collect();
            RackSet { rack, set, pods }
        })
        .collect()
}

/// Name of the Secret with the superuser: the one the datacenter names, else cass-operator's own.
#[must_use]
pub fn superuser_secret(dc: &CassandraDatacenter) -> String {
    dc.spec
        .superuser_secret_name
        .clone()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| format!("{}-superuser", label(&dc.spec.cluster_name)))
}

/// The middle of every name: the name cass-operator settled on, else the object's.
fn resource_name(dc: &CassandraDatacenter) -> String {
    let settled = dc.status.as_ref().and_then(|s| s.datacenter_name.as_deref()).filter(|n| !n.is_empty());
    label(settled.or(dc.metadata.name.as_deref()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn dc(spec: &Value, status: &Value) -> CassandraDatacenter {
        serde_json::from_value(json!({"metadata": {"name": "dc1"}, "spec": spec, "status": status})).unwrap()
    }

    fn pods(spec: &Value, status: &Value) -> Vec<Vec<String>> {
        let dc = dc(spec, status);
        racks(&dc, usize::try_from(dc.spec.size).unwrap()).into_iter().map(|r| r.pods).collect()
    }

    #[test]
    fn a_datacenter_without_racks_has_the_default_one() {
        let found = pods(&json!({"clusterName": "shop", "size": 2}), &json!(null));
        assert_eq!(found, [["shop-dc1-default-sts-0", "shop-dc1-default-sts-1"]]);
    }

    #[test]
    fn the_first_racks_get_what_is_left_over() {
        let racks = json!([{"name": "r3"}, {"name": "r1"}, {"name": "r2"}]);
        let found = pods(&json!({"clusterName": "shop", "size": 5, "racks": racks}), &json!(null));
        assert_eq!(found[0], ["shop-dc1-r3-sts-0", "shop-dc1-r3-sts-1"]);
        assert_eq!(found[1], ["shop-dc1-r1-sts-0", "shop-dc1-r1-sts-1"]);
        assert_eq!(found[2], ["shop-dc1-r2-sts-0"]);
    }

    #[test]
    fn the_name_cass_operator_settled_on_is_in_the_names() {
        let found = pods(&json!({"clusterName": "shop", "size": 1}), &json!({"datacenterName": "Real_DC"}));
        assert_eq!(found, [["shop-real-dc-default-sts-0"]]);
    }

    #[rstest]
    #[case(json!({"clusterName": "First Cluster"}), "firstcluster-superuser")]
    #[case(json!({"clusterName": "shop", "superuserSecretName": ""}), "shop-superuser")]
    #[case(json!({"clusterName": "shop", "superuserSecretName": "root"}), "root")]
    fn the_superuser_has_a_secret(#[case] spec: Value, #[case] expected: &str) {
        assert_eq!(superuser_secret(&dc(&spec, &json!(null))), expected);
    }
}
