//! What a summary by Medusa says of one datacenter.
//!
//! Pure. Medusa groups backups by name under a prefix, whatever their datacenter (upstream: Backups), so
//! whose a summary is stands in its nodes only.

use super::client::proto::{self, BackupSummary};
use crate::api::{cassandra::CassandraDatacenter, medusa::BackupNode};

/// The nodes of `summary` that are of datacenter `dc`, as a MedusaBackup holds them.
#[must_use]
pub fn own_nodes(summary: &BackupSummary, dc: &CassandraDatacenter) -> Vec<BackupNode> {
    summary.nodes.iter().filter(|n| is_ours(&n.datacenter, dc)).map(node).collect()
}

/// Most bytes of nodes in one MedusaBackup. etcd takes 1.5 MiB for a whole object, and what the API server keeps about who
/// wrote it comes on top.
const MAX_NODES: usize = 1_000_000;

/// The nodes as they may be stored: where they are too many, without their tokens, which only tell. Everything that a
/// restore needs stays.
#[must_use]
pub fn fitting(nodes: Vec<BackupNode>) -> Vec<BackupNode> {
    let size = |node: &BackupNode| serde_json::to_vec(node).map_or(MAX_NODES, |json| json.len() + 1);
    if nodes.iter().map(size).sum::<usize>() <= MAX_NODES {
        return nodes;
    }
    nodes.into_iter().map(|node| BackupNode { tokens: Vec::new(), ..node }).collect()
}

/// Whether a node's datacenter is this one. Medusa writes Cassandra's own name. The name in the datacenter's
/// status is that of cass-operator's objects (upstream: CassandraDatacenter) and may be another cluster's under the same
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
    fn of_very_many_nodes_the_tokens_are_left_out_and_nothing_else() {
        let nodes = |count: i64| -> Vec<BackupNode> {
            (0..count)
                .map(|n| BackupNode {
                    host: Some(format!("orders-dc1-r1-sts-{n}")),
                    tokens: (0..256).map(|t| -(1 << 62) + n * 1_000_003 + t).collect(),
                    datacenter: Some("dc1".to_owned()),
                    rack: Some("r1".to_owned()),
                })
                .collect()
        };
        assert_eq!(fitting(nodes(100)), nodes(100));
        let kept = fitting(nodes(600));
        assert!(serde_json::to_vec(&kept).unwrap().len() < MAX_NODES);
        let whole = nodes(600).into_iter().map(|node| BackupNode { tokens: Vec::new(), ..node });
        assert_eq!(kept, whole.collect::<Vec<_>>());
    }

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
