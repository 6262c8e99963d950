//! The annotation on a CassandraDatacenter that says which restore is at work on it, how far it is, and what
//! has to be put back (ADR 8).
//!
//! Pure. Each step's annotation is written in the same patch as the change it speaks of, so that neither can
//! be there without the other, and a process that takes over needs nothing else.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::Reason;

/// What the annotation holds, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Name of the MedusaRestoreJob, beside the datacenter.
    pub job: String,
    /// Its uid: a job deleted and made again is another one.
    pub uid: String,
    /// What `spec.stopped` was before, and will be again.
    pub stopped: bool,
    /// How far the restore is.
    pub step: Step,
    /// When that step began.
    pub since: Timestamp,
    /// How the restore ended, once that is decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<RestoreEnd>,
}

/// How far a restore is. Every step begins with a change of the datacenter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// `stopped: true` was written; pods are going.
    Stopping,
    /// The orders are in the pod template; StatefulSets are learning them.
    Preparing,
    /// `stopped: false` was written; pods restore and start.
    Starting,
    /// The orders are out of the template and the datacenter is stopped once more; pods are going.
    Draining,
    /// The orders are out of the template of a running datacenter; its pods are being replaced.
    Settling,
    /// Everything is back.
    Returned,
}

/// How a restore ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreEnd {
    /// The word of a [`Reason`]; `Succeeded` for a good end.
    pub reason: String,
    /// For people.
    pub message: String,
}

impl RestoreEnd {
    /// A verdict.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason: reason.as_str().to_owned(), message: message.into() }
    }

    /// The reason; `Failed` for a word of another version.
    #[must_use]
    pub fn reason(&self) -> Reason {
        Reason::of(&self.reason).unwrap_or(Reason::Failed)
    }

    /// Whether the restore ended well.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.reason() == Reason::Succeeded
    }
}

/// Who is at work on a datacenter, seen from one restore.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LockHolder {
    /// Nobody.
    #[default]
    Free,
    /// This restore.
    Ours(Lock),
    /// Another restore, which exists.
    Other(Lock),
    /// A restore whose job is gone: its changes are still there.
    Orphan(Lock),
    /// Somebody wrote something else there.
    Unreadable,
}

impl LockHolder {
    /// Reads the annotation; a lock of another job is taken for one that exists.
    #[must_use]
    pub fn read(annotation: Option<&str>, uid: &str) -> Self {
        match annotation.map(serde_json::from_str::<Lock>) {
            None => Self::Free,
            Some(Ok(lock)) if lock.uid == uid => Self::Ours(lock),
            Some(Ok(lock)) => Self::Other(lock),
            Some(Err(_)) => Self::Unreadable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(uid: &str) -> Lock {
        Lock {
            job: "restore1".to_owned(),
            uid: uid.to_owned(),
            stopped: false,
            step: Step::Starting,
            since: Timestamp::from_second(5).unwrap(),
            verdict: Some(RestoreEnd::new(Reason::RestoreSkipped, "nothing")),
        }
    }

    #[test]
    fn a_lock_is_read_as_it_was_written() {
        let text = serde_json::to_string(&lock("u1")).unwrap();
        assert_eq!(LockHolder::read(Some(&text), "u1"), LockHolder::Ours(lock("u1")));
        assert_eq!(LockHolder::read(Some(&text), "u2"), LockHolder::Other(lock("u1")));
        assert_eq!(LockHolder::read(Some("yes"), "u1"), LockHolder::Unreadable);
        assert_eq!(LockHolder::read(None, "u1"), LockHolder::Free);
    }

    #[test]
    fn a_verdict_keeps_its_reason() {
        assert_eq!(lock("u1").verdict.unwrap().reason(), Reason::RestoreSkipped);
        let newer = RestoreEnd { reason: "FromTheFuture".to_owned(), message: String::new() };
        assert_eq!((newer.reason(), newer.is_good()), (Reason::Failed, false));
        assert!(RestoreEnd::new(Reason::Succeeded, "").is_good());
    }
}
