//! How long the data plane waits for what. Every figure has a reason; tests shorten them. Pure.
//!
//! Nothing here may read a clock: the figures are compared with the `now` a decision is given.

use std::time::Duration;

pub use crate::api::time::{after, since};

/// Most pods of one datacenter that purge at a time. Each deletes object after object, some fifty a second;
/// more of them together would meet the 3,500 deletions a second that S3 takes under one prefix, and be slowed
/// down with the backups of everybody else.
pub const MAX_PURGES: usize = 30;

/// Deadlines, pauses and budgets. `Timings::default()` is what a cluster should run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// Until a connection to a Medusa stands, TLS included.
    pub connect: Duration,
    /// Until AsyncBackup or BackupStatus has answered. A healthy Medusa takes milliseconds.
    pub call: Duration,
    /// Until GetBackup has answered: it lists the whole index and reads every node's manifest.
    pub summary_call: Duration,
    /// Until GetBackups has answered: it reads every manifest of every backup under the prefix.
    pub list_call: Duration,
    /// Until PurgeBackups has answered: it deletes object after object, as many as there are.
    pub purge_call: Duration,
    /// How long one pod may take to list the storage before the next pod is asked too.
    pub list_hedge: Duration,
    /// Pause before a running node is asked again the first time; it doubles up to `poll_max`.
    pub poll_first: Duration,
    /// Longest pause between two questions to a node that answers.
    pub poll_max: Duration,
    /// Pause after a call that was not answered in time; it doubles up to `hung_max`. Such a call holds
    /// one of the ten threads of Medusa's server for up to eight minutes, and when none is left its
    /// health check hangs too and the kubelet kills the backup we wait for.
    pub hung_first: Duration,
    /// Longest pause after calls that were not answered in time.
    pub hung_max: Duration,
    /// Longest time one pass over a job may hold a worker.
    pub pass: Duration,
    /// Shortest time between two listings of a datacenter's pods while a node does not answer.
    pub pods: Duration,
    /// How long a node that may have been asked to start must go on saying NOT_FOUND before it is asked
    /// again, when its pod has been ready for `steady`.
    pub settle_ready: Duration,
    /// A pod ready for this long has been ready at each of Medusa's attempts to reach Cassandra, which
    /// are up to two minutes apart.
    pub steady: Duration,
    /// As `settle_ready` for any other pod. Longer than Medusa's seven attempts to reach Cassandra take
    /// (about eight minutes), after which it has given up.
    pub settle: Duration,
    /// How long a node must go on saying FAILED before it is believed, unless the reason is known: long
    /// enough for the kubelet to report that its container was restarted.
    pub confirm: Duration,
    /// How long a node may say NOT_FOUND after it was asked to start, or refuse to be asked.
    pub start: Duration,
    /// How long a node may go without an answer that can be used.
    pub silence: Duration,
    /// How long a pod may be gone before it is taken to stay away.
    pub absence: Duration,
    /// How long Medusa's summary may lag behind the nodes' own success.
    pub summary: Duration,
    /// How long a job waits for what may heal before it starts: a missing datacenter, pods, TLS Secret.
    pub input: Duration,
    /// Longest pause between two looks at a job that waits.
    pub input_retry_max: Duration,
    /// How long the whole run may take, from `status.startTime`.
    pub run: Duration,
    /// Between two looks at a restore under way. What it waits for takes minutes.
    pub restore_poll: Duration,
    /// How long a datacenter may take to stop: its nodes are drained one after another.
    pub stop: Duration,
    /// How long its StatefulSets may take to learn a new pod template while it is stopped, when no pod has
    /// to be replaced.
    pub template: Duration,
    /// How long the pods' restores may take altogether: terabytes over a slow link.
    pub restore: Duration,
    /// How long a restored pod's record may go unread. The log outlives its container by far, but not the
    /// node it is on.
    pub record: Duration,
    /// How long a starting datacenter may go without any sign of progress while no pod restores: a new pod,
    /// a container that ended, a pod that became ready. A node that replays a long commit log shows none.
    pub stall: Duration,
    /// How far the storage's clock may be behind ours before a backup counts as older than its job. Generous:
    /// a name that was used before is noticed without clocks where the run is claimed.
    pub skew: Duration,
    /// Longest time a schedule goes without comparing its next slot with the clock: so late is a slot at most
    /// when the clock has stepped forward, or the machine slept.
    pub schedule_check: Duration,
    /// Between two looks at the storage secret of a MedusaConfiguration.
    pub secret: Duration,
    /// Between two renewals of the Lease that says who runs here.
    pub lease: Duration,
    /// Between two looks for a definition the API server does not serve yet.
    pub definition: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            call: Duration::from_secs(10),
            summary_call: Duration::from_mins(1),
            list_call: Duration::from_mins(10),
            purge_call: Duration::from_hours(6),
            list_hedge: Duration::from_mins(1),
            poll_first: Duration::from_millis(100),
            poll_max: Duration::from_secs(5),
            hung_first: Duration::from_secs(30),
            hung_max: Duration::from_mins(3),
            pass: Duration::from_secs(1),
            pods: Duration::from_secs(10),
            settle_ready: Duration::from_secs(30),
            steady: Duration::from_secs(150),
            settle: Duration::from_mins(10),
            confirm: Duration::from_secs(2),
            start: Duration::from_mins(12),
            silence: Duration::from_mins(30),
            absence: Duration::from_mins(5),
            summary: Duration::from_mins(5),
            input: Duration::from_mins(30),
            input_retry_max: Duration::from_secs(30),
            run: Duration::from_hours(24),
            restore_poll: Duration::from_secs(5),
            stop: Duration::from_hours(1),
            template: Duration::from_mins(15),
            restore: Duration::from_hours(48),
            record: Duration::from_mins(10),
            stall: Duration::from_hours(1),
            skew: Duration::from_mins(20),
            schedule_check: Duration::from_mins(1),
            secret: Duration::from_secs(30),
            lease: Duration::from_secs(15),
            definition: Duration::from_secs(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_outlast_what_medusa_itself_takes() {
        let timings = Timings::default();
        let cql_attempts = Duration::from_secs(10 + 20 + 40 + 80 + 120 + 120 + 7 * 10);
        assert!(timings.settle > cql_attempts && timings.start > cql_attempts);
        assert!(timings.steady > Duration::from_mins(2));
        assert!(timings.silence > timings.start);
    }
}
