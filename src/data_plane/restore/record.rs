//! What one pod's own record says of its restore: the log of its init container `medusa-restore`.
//!
//! Pure. Medusa (0.29 to 0.31, `medusa/service/grpc/restore.py` and the image's entrypoint) exits with 0
//! whether it restored or found nothing to restore; only its log tells. A log without Medusa's own closing
//! line therefore confirms nothing.

/// How many lines of a log are asked for, from its end. Medusa's closing line is its last, but lines it
/// printed earlier may be written after it.
pub const TAIL: i64 = 200;
/// How much of it at most.
pub const LIMIT: i64 = 1024 * 1024;

/// What a log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogRecord {
    /// This backup was restored.
    Restored,
    /// Nothing was restored, and why.
    Skipped(String),
    /// The pod's volume says that this restore was run before; this log does not say how that went.
    RunBefore,
    /// Nothing of the above.
    Silent,
}

/// Reads the log of a restore of `backup`.
#[must_use]
pub fn read(log: &str, backup: &str) -> LogRecord {
    let finished = format!("Finished restore of backup {backup}");
    let mut found = LogRecord::Silent;
    for line in log.lines().map(str::trim_end) {
        if line.ends_with(&finished) {
            return LogRecord::Restored;
        }
        if let Some(why) = skipped(line, backup) {
            found = LogRecord::Skipped(why);
        } else if found == LogRecord::Silent && is_run_before(line) {
            found = LogRecord::RunBefore;
        }
    }
    found
}

fn skipped(line: &str, backup: &str) -> Option<String> {
    if line.ends_with(&format!("Skipped restore of missing backup {backup}")) {
        return Some(format!("Medusa found no backup `{backup}` in the storage"));
    }
    if line.starts_with("POD_NAME ") && line.ends_with(" not found in mapping") {
        return Some("the pod is not in RESTORE_MAPPING".to_owned());
    }
    if line.ends_with("There is nothing to restore") {
        return Some("the backup holds no tables of this node".to_owned());
    }
    let unset = |name: &str| line.starts_with(&format!("{name} ")) && line.contains("skipping");
    (unset("BACKUP_NAME") || unset("RESTORE_KEY"))
        .then(|| "the pod was started without BACKUP_NAME or RESTORE_KEY".to_owned())
}

fn is_run_before(line: &str) -> bool {
    line == "Skipping restore operation" || (line.starts_with("restore ") && line.ends_with("skipping it"))
}

/// Why a failing container fails, as far as its log has a line we know. Other lines are not passed on: they
/// may quote what nobody should read.
#[must_use]
pub fn cause(log: &str) -> Option<&'static str> {
    log.lines()
        .any(|line| line.trim_end().ends_with("ERROR: No such backup"))
        .then_some("the storage has no part of this backup for the host it restores from")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const GOOD: &str = "\
Restoring backup b1
[2026-01-01 00:00:00,000] INFO: Found 3 backups in the cluster
[2026-01-01 00:00:00,000] INFO: Starting restore of backup b1
[2026-01-01 00:00:09,000] INFO: Finished restore of backup b1
Downloading backup b1 to /var/lib/cassandra
";

    #[rstest]
    #[case::good(GOOD, LogRecord::Restored)]
    #[case::empty("", LogRecord::Silent)]
    #[case::going_on("[t] INFO: Starting restore of backup b1\n", LogRecord::Silent)]
    #[case::of_a_longer_name("[t] INFO: Finished restore of backup b10\n", LogRecord::Silent)]
    #[case::of_another("[t] INFO: Finished restore of backup b2\n", LogRecord::Silent)]
    #[case::run_before("Skipping restore operation\n", LogRecord::RunBefore)]
    #[case::ignored_tables("[t] INFO: Skipping restore of shop.orders\n", LogRecord::Silent)]
    fn only_the_closing_line_confirms(#[case] log: &str, #[case] expected: LogRecord) {
        assert_eq!(read(log, "b1"), expected);
    }

    #[rstest]
    #[case("[t] INFO: Skipped restore of missing backup b1\n")]
    #[case("Mapping: {}\nPOD_NAME shop-dc1-default-sts-0 not found in mapping\n")]
    #[case("[t] ERROR: There is nothing to restore\nDownloading backup b1 to /tmp\n")]
    #[case("BACKUP_NAME env var not set, skipping restore operation\n")]
    #[case("RESTORE_KEY env var not set, skipping restore operation\n")]
    fn a_restore_that_found_nothing_is_skipped(#[case] log: &str) {
        assert!(matches!(read(log, "b1"), LogRecord::Skipped(_)), "{log}");
    }

    #[test]
    fn a_known_cause_is_told_and_nothing_else_is_quoted() {
        assert!(cause("[t] ERROR: No such backup\n").is_some());
        assert_eq!(cause("KeyError: 'hush'\n"), None);
    }
}
