//! What a summary by Medusa says of one datacenter.
//!
//! Pure. Medusa groups backups by name under a prefix, whatever their datacenter (upstream §3.3), so
//! whose a summary is stands in its nodes only.

use super::medusa::proto::{self, BackupSummary};
use crate::api::{cassandra::CassandraDatacenter, medusa::BackupNode};

/// The nodes of `summary` that are of datacenter `dc`, as a MedusaBackup holds them.
#[must_use]
pub fn own_nodes(summary: &BackupSummary, dc: &CassandraDatacenter) -> Vec<BackupNode> {
    summary.nodes.iter().filter(|n| is_ours(&n.datacenter, dc)).map(node).collect()
}

/// Whether a node's datacenter is this one. Medusa writes Cassandra's own name. The name in the datacenter's
/// status is that of cass-operator's objects (upstream §1.13) and may be another cluster's under the same
/// prefix.
#[must_use]
pub fn is_ours(datacenter: &str, dc: &CassandraDatacenter) -> bool {
    datacenter == dc.display_name()
}

fn node(node: &proto::BackupNode) -> BackupNode {
    let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    BackupNode {
        host: text(&node.host),
        tokens: node.tokens.clone(),
        datacenter: text(&node.datacenter),
        rack: text(&node.rack),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_ours_by_cassandras_own_name_of_the_datacenter() {
        let dc = |spec, status| -> CassandraDatacenter {
            let name = json!({"name": "dc1"});
            serde_json::from_value(json!({"metadata": name, "spec": spec, "status": status})).unwrap()
        };
        let plain = dc(json!({}), json!(null));
        assert!(is_ours("dc1", &plain) && !is_ours("dc2", &plain) && !is_ours("", &plain));
        let renamed = dc(json!({"datacenterName": "Real"}), json!({"datacenterName": "dc1"}));
        assert!(is_ours("Real", &renamed) && !is_ours("dc1", &renamed));
    }
}
