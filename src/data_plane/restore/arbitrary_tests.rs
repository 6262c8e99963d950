//! Reads whatever stands in a pod template, a datacenter or a log, for the tests that make such.

use serde_json::Value;

use super::{
    names, preflight, record,
    template::{self, Orders},
    view::Datacenter,
};
use crate::{api::cassandra::CassandraDatacenter, data_plane::medusa::client::CallError};

/// Every reader once.
pub(in crate::data_plane) fn look_at(object: &Value, log: &str, backup: &str, key: &str) {
    for spec in [object, super::view::pod_spec(object)] {
        let _ = (template::has_container(spec), template::holds(spec, backup, key), template::without(spec));
        let _ = (template::credentials_secret(spec), preflight::can_restore(backup, spec).is_ok());
        if let Some(changed) = template::with(spec, Orders { backup, key, mapping: log }) {
            assert!(changed.is_array());
        }
    }
    let _ = Datacenter::of(object, key, key, backup);
    let _ = (record::read(log, backup), record::cause(log));
    let _ = preflight::unanswered(backup, CallError::Refused(log.to_owned()));
}

/// How many pods the racks of `dc` come to, when so many nodes are listed.
pub(in crate::data_plane) fn pods(dc: &CassandraDatacenter, listed: usize) -> usize {
    names::racks(dc, listed).iter().map(|rack| rack.pods.len()).sum()
}
