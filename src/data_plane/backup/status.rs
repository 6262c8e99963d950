//! The lists of pods in a MedusaBackupJob's status, and what its failures come to.
//!
//! Pure. The lists and times alone must carry a run over a restart.

use std::collections::BTreeMap;

use super::node::{Node, Verdict};
use crate::{
    api::{Reason, medusa::MedusaBackupJobStatus},
    data_plane::frame::progress,
};

/// The lists as `nodes` have them now.
pub fn progress(status: &mut MedusaBackupJobStatus, nodes: &BTreeMap<String, Node>) {
    let of = |wanted: fn(Option<&Verdict>) -> bool| {
        nodes.values().filter(|n| wanted(n.verdict.as_ref())).map(|n| n.pod.clone()).collect::<Vec<_>>()
    };
    status.in_progress = of(|v| v.is_none());
    status.finished = of(|v| matches!(v, Some(Verdict::Finished)));
    status.failed = of(|v| matches!(v, Some(Verdict::Failed(..))));
}

/// Why a run with failed nodes failed; nothing when none did.
#[must_use]
pub fn verdict(nodes: &BTreeMap<String, Node>) -> Option<(Reason, String)> {
    let failures = nodes.values().filter_map(|node| match &node.verdict {
        Some(Verdict::Failed(reason, why)) => Some((node.pod.as_str(), *reason, why.as_str())),
        _ => None,
    });
    progress::verdict(failures, nodes.len())
}
