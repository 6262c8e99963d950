//! Work in a data plane that cannot be read as what it is: what can be said of it all the same. Pure.
//!
//! A definition without types lets anything through, and a list of such a kind must not fail for one of its objects.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde_json::Value;

use super::{Reason, guarded::Unreadable};

/// A MedusaBackup, MedusaBackupJob, MedusaRestoreJob or MedusaTask that cannot be read.
#[derive(Clone, Debug, PartialEq)]
pub struct UnreadableWork {
    /// Its kind.
    pub kind: String,
    metadata: ObjectMeta,
    /// The CassandraDatacenter it is of, when that much can be read.
    datacenter: Option<String>,
    /// Whether it may have begun, as far as its status can be read.
    may_have_begun: bool,
    /// Whether it may not be over, as far as its operation and its times can be read.
    may_go_on: bool,
}

impl<K: Resource<DynamicType = ()>> Unreadable<K> for UnreadableWork {
    fn of(object: Value, metadata: ObjectMeta, _: &str) -> Result<Self, String> {
        let at = |pointer: &str| object.pointer(pointer);
        let text = |pointer: &str| at(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
        let is_harmless = text("/spec/operation").is_some_and(|operation| operation != "purge");
        // A status that is none may be that of work that has begun.
        let may_have_begun = at("/status").is_some_and(|status| match status.as_object() {
            Some(fields) => fields.get("startTime").is_some_and(|time| !time.is_null()),
            None => !status.is_null(),
        });
        Ok(Self {
            kind: K::kind(&()).into_owned(),
            datacenter: text("/spec/cassandraDatacenter").map(str::to_owned),
            may_have_begun,
            may_go_on: !is_harmless && text("/status/finishTime").is_none(),
            metadata,
        })
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl UnreadableWork {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Whether it may be about that datacenter and not over.
    #[must_use]
    pub fn may_concern(&self, datacenter: &str) -> bool {
        self.may_go_on && self.datacenter.as_deref().is_none_or(|of| of == datacenter)
    }

    /// Whether it may be at work on that datacenter.
    #[must_use]
    pub fn may_be_at_work_on(&self, datacenter: &str) -> bool {
        self.may_have_begun && self.may_concern(datacenter)
    }

    /// Why somebody waits for it.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self.kind.as_str() {
            "MedusaRestoreJob" => Reason::RestoreRunning,
            "MedusaTask" => Reason::PurgeRunning,
            _ => Reason::BackupRunning,
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::api::{
        guarded::{Guarded, readable},
        medusa::MedusaTask,
    };

    fn object(spec: &Value, status: &Value) -> Guarded<MedusaTask, UnreadableWork> {
        serde_json::from_value(json!({"metadata": {"name": "t"}, "spec": spec, "status": status})).unwrap()
    }

    #[rstest]
    #[case::nothing_known(json!(5), json!("x"), true, true)]
    #[case::of_this(json!({"cassandraDatacenter": "dc1"}), json!({"startTime": 5}), true, true)]
    #[case::not_begun(json!({"cassandraDatacenter": "dc1"}), json!({"failed": 5}), true, false)]
    #[case::no_status(json!({"cassandraDatacenter": "dc1"}), Value::Null, true, false)]
    #[case::of_another(json!({"cassandraDatacenter": "dc2"}), json!({"startTime": 5}), false, false)]
    #[case::over(json!([]), json!({"startTime": 5, "finishTime": "2026-01-01T00:00:00Z"}), false, false)]
    #[case::a_sync(json!({"operation": "sync"}), json!({"startTime": 5}), false, false)]
    #[case::a_purge(json!({"operation": "purge"}), json!({"startTime": 5}), true, true)]
    fn what_cannot_be_read_may_be_at_work_unless_it_says_otherwise(
        #[case] spec: Value,
        #[case] status: Value,
        #[case] concerns: bool,
        #[case] works: bool,
    ) {
        let work = object(&spec, &status).0.unwrap_err();
        assert_eq!((work.may_concern("dc1"), work.may_be_at_work_on("dc1")), (concerns, works));
        assert_eq!((work.name(), work.reason()), ("t", Reason::PurgeRunning));
    }

    #[test]
    fn one_that_cannot_be_read_hides_no_other() {
        let good = json!({"cassandraDatacenter": "dc1", "operation": "sync"});
        let list = vec![object(&json!(5), &Value::Null), object(&good, &Value::Null)];
        let mut others = Vec::new();
        assert_eq!((readable(list, &mut others).len(), others.len()), (1, 1));
    }
}
