//! What was typed of a restore.

use std::time::Duration;

use clap::Args;

use super::Stay;
use crate::{api::fleet::RestoreOrder, cli::duration};

/// What to restore, and into what.
#[derive(Clone, Debug, Args)]
pub struct RestoreChoice {
    /// Cassandra cluster to restore into
    pub cluster: String,
    /// Restore point, as `backups` lists them
    #[arg(long = "from", value_name = "BACKUP")]
    pub from: String,
    /// Only this CassandraDatacenter; may be repeated [default: all of the cluster]
    #[arg(long = "datacenter", visible_alias = "dc", value_name = "[[PLANE/]NAMESPACE/]NAME")]
    #[arg(value_delimiter = ',')]
    pub datacenters: Vec<String>,
    /// `Parallel` stops all datacenters at once, `Serial` one after the other
    #[arg(long, value_enum, ignore_case = true, default_value = "Parallel", value_name = "ORDER")]
    pub order: RestoreOrder,
    /// How long what stands in the way may be waited for
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = duration::parse)]
    pub start_deadline: Duration,
}

/// `restore`.
#[derive(Debug, Args)]
pub struct Restore {
    /// What to restore, and into what.
    #[command(flatten)]
    pub choice: RestoreChoice,
    /// Name of the restore [default: `restore-` and the time]
    #[arg(long)]
    pub name: Option<String>,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
    /// Whether to wait for it.
    #[command(flatten)]
    pub stay: Stay,
    /// Check everything and say what would be done, as `plan restore` does
    #[arg(long, conflicts_with_all = ["wait", "watch", "timeout", "yes"])]
    pub dry_run: bool,
}
