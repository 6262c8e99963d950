//! What was typed. Nothing here decides what it means.

pub mod restore;
pub mod schedule;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::PossibleValue};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{duration, output::Format, rollout::RolloutArgs, selector};
use crate::{
    api::{
        fleet::{ConcurrencyPolicy, RestoreOrder, ScheduleOperation, UnreachablePolicy},
        medusa::BackupType,
        names,
    },
    control_plane::{deployment::pod::image, identity},
    runtime::{kubeconfig, telemetry::LogFormat},
};

/// Lets a value of an object's field be typed: each by its word, with what it means.
macro_rules! typed {
    ($($type:ty { $($value:ident $word:literal $help:literal,)+ })+) => {
        $(impl ValueEnum for $type {
            fn value_variants<'a>() -> &'a [Self] {
                &[$(Self::$value),+]
            }

            fn to_possible_value(&self) -> Option<PossibleValue> {
                match self {
                    $(Self::$value => Some(PossibleValue::new($word).help($help)),)+
                }
            }
        })+
    };
}

typed! {
    BackupType {
        Differential "differential" "Upload what no earlier backup holds",
        Full "full" "Upload everything",
    }
    UnreachablePolicy {
        Wait "Wait" "Wait until it answers",
        Skip "Skip" "Leave its datacenters out",
        Fail "Fail" "Count its datacenters as failed",
    }
    RestoreOrder {
        Parallel "Parallel" "All at once",
        Serial "Serial" "One after the other",
    }
    ScheduleOperation {
        Backup "backup" "Back up",
        Purge "purge" "Delete backups by Medusa's retention",
        Sync "sync" "Make the MedusaBackups say what the storage holds",
    }
    ConcurrencyPolicy {
        Forbid "Forbid" "Wait for its end",
        Allow "Allow" "Run beside it",
        Replace "Replace" "Cancel it first",
    }
}

/// Backups of Apache Cassandra with Medusa, over many Kubernetes clusters.
#[derive(Debug, Parser)]
#[command(name = "medusa-fleet", version, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done; 1 what was asked for failed or is unhealthy; 2 usage, or could not ask."
)]
pub struct Cli {
    /// What holds for every verb.
    #[command(flatten)]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What holds for every verb.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// How to print what was asked for
    #[arg(short, long, global = true, value_enum, default_value_t, hide_possible_values = true)]
    #[arg(value_name = "table|wide|json|yaml", help_heading = "Global options")]
    pub output: Format,
    /// Namespace of the controller and of the fleet's objects
    #[arg(short, long, global = true, env = "MEDUSA_FLEET_NAMESPACE", default_value = "medusa-fleet")]
    #[arg(help_heading = "Global options", hide_env_values = true, value_parser = namespace)]
    pub namespace: String,
    /// Context of the kubeconfig to use
    #[arg(long, global = true, help_heading = "Global options")]
    pub context: Option<String>,
    /// Kubeconfig of the cluster to talk to [default: `KUBECONFIG`, `~/.kube/config`, or the pod's own]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub kubeconfig: Option<PathBuf>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// A verb that asks the control plane's cluster.
    #[command(flatten)]
    Fleet(FleetVerb),
    /// Print a shell's completion script
    Completion {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the definitions of our kinds, for `kubectl apply`
    Crds(Crds),
    /// Run the controller of the control plane
    ControlPlane(ControlPlane),
    /// Run the controller of a data plane
    DataPlane(DataPlane),
}

/// The verbs that ask the control plane's cluster.
#[derive(Debug, Subcommand)]
pub enum FleetVerb {
    /// Register a cluster as a data plane
    Register(Register),
    /// Take a data plane out of the fleet
    Unregister(Unregister),
    /// List the registered clusters
    #[command(visible_alias = "dataplane", alias = "dp")]
    Dataplanes,
    /// List the Cassandra clusters and whether they are protected
    #[command(visible_alias = "cluster", alias = "fc")]
    Clusters,
    /// Back up the fleet, or a part of it
    Backup(Box<Backup>),
    /// Start nothing more of a run
    Cancel {
        /// What to cancel: `job/NAME`, `task/NAME` or `restore/NAME`
        #[arg(value_name = "KIND/NAME")]
        object: String,
    },
    /// Say what a verb would do where, and what stands in its way
    Plan {
        /// The verb to plan.
        #[command(subcommand)]
        verb: Planned,
    },
    /// List the restore points
    Backups {
        /// Only those of this Cassandra cluster
        #[arg(long, value_name = "NAME")]
        cluster: Option<String>,
    },
    /// Make the MedusaBackups say what the storage holds
    Sync(Task),
    /// Delete backups by Medusa's retention, but never a cluster's last complete restore point
    Purge(Task),
    /// List the fleet's schedules, make one, pause one
    #[command(alias = "schedules")]
    Schedule(schedule::Schedule),
    /// Put a restore point back: stops the cluster's datacenters and takes away what was written since
    Restore(restore::Restore),
    /// Say whether the fleet is protected
    Status,
    /// Say what is wrong, with what, and what to do about it
    Doctor,
    /// Show everything known about one object
    Describe {
        /// What to show: `dataplane/NAME`, `cluster/NAME`, `backup/NAME`, `job/NAME`, `task/NAME`, `restore/NAME` or `schedule/NAME`
        #[arg(value_name = "KIND/NAME")]
        object: String,
    },
    /// Take over what another fleet left in the data planes, or give up what an earlier installation left
    Adopt(Adopt),
    /// Print the versions of this program and of the controllers
    Version {
        /// Only this program's, without asking a cluster
        #[arg(long)]
        client: bool,
    },
}

/// `adopt`. Without a name it says what waits to be taken over.
#[derive(Debug, Args)]
pub struct Adopt {
    /// Name of a fleet whose control plane is gone: what it wrote becomes this fleet's
    #[arg(long, value_name = "NAME")]
    pub from: Option<String>,
    /// Earlier installation of this fleet whose objects will not come back: what no object asks for is taken back
    #[arg(long, value_name = "INSTALLATION")]
    pub forget: Option<String>,
    /// Only say what would happen
    #[arg(long)]
    pub dry_run: bool,
}

/// `register`.
#[derive(Debug, Args)]
pub struct Register {
    /// Name of the data plane: what a K8ssandraCluster calls `k8sContext`
    pub name: String,
    /// Kubeconfig of the cluster to register; it is used once and not stored
    #[arg(long, value_name = "FILE", required_unless_present = "rotate")]
    pub from_kubeconfig: Option<PathBuf>,
    /// Replace the token of a registered cluster now; without --from-kubeconfig the control plane does it by itself
    #[arg(long)]
    pub rotate: bool,
    /// Context of that kubeconfig [default: its current context]
    #[arg(long, id = "context", value_name = "CONTEXT")]
    pub context: Option<String>,
    /// Context of the control plane, in your own kubeconfig
    #[arg(long, value_name = "CONTEXT")]
    pub control_plane_context: Option<String>,
    /// Address the control plane shall use, when it is not the one in the kubeconfig
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// How long each token of the control plane shall work; it is renewed before it ends [default: 365d]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub token_duration: Option<Duration>,
    /// Namespace of the control plane's service account in the data plane
    #[arg(long, value_name = "NAMESPACE", default_value = "medusa-fleet", value_parser = namespace)]
    pub data_plane_namespace: String,
    /// Check everything and say what would be done, without doing it
    #[arg(long)]
    pub dry_run: bool,
    /// How long to wait for the data plane to become ready
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    pub timeout: Duration,
    /// Do not wait for the data plane to become ready
    #[arg(long, conflicts_with = "timeout")]
    pub no_wait: bool,
}

/// `unregister`.
#[derive(Debug, Args)]
pub struct Unregister {
    /// Name of the data plane
    pub name: String,
    /// How long to wait until the controller has taken its copies back
    #[arg(long, value_name = "DURATION", default_value = "90s", value_parser = duration::parse)]
    pub timeout: Duration,
}

/// Which datacenters.
#[derive(Clone, Debug, Default, Args)]
pub struct Selection {
    /// Cassandra cluster; may be repeated
    #[arg(long = "cluster", value_name = "NAME", value_delimiter = ',')]
    pub clusters: Vec<String>,
    /// Data plane; may be repeated
    #[arg(long = "data-plane", value_name = "NAME", value_delimiter = ',')]
    pub data_planes: Vec<String>,
    /// CassandraDatacenter; may be repeated
    #[arg(long = "datacenter", visible_alias = "dc", value_name = "NAME", value_delimiter = ',')]
    pub datacenters: Vec<String>,
    /// Namespace of the datacenters in their data planes; may be repeated
    #[arg(long = "dc-namespace", value_name = "NAMESPACE", value_delimiter = ',')]
    pub dc_namespaces: Vec<String>,
    /// Labels of the cluster, such as `env=prod,tier!=test`
    #[arg(long, value_name = "SELECTOR", value_parser = selector::parse)]
    pub cluster_selector: Option<LabelSelector>,
    /// Labels of the data plane
    #[arg(long, value_name = "SELECTOR", value_parser = selector::parse)]
    pub data_plane_selector: Option<LabelSelector>,
    /// Labels of the datacenter
    #[arg(long = "datacenter-selector", visible_alias = "selector", short = 'l', value_name = "SELECTOR")]
    #[arg(value_parser = selector::parse)]
    pub datacenter_selector: Option<LabelSelector>,
}

/// `backup`.
#[derive(Debug, Args)]
pub struct Backup {
    /// Name of the run [default: `backup-` and the time]
    pub name: Option<String>,
    /// What to back up, and how.
    #[command(flatten)]
    pub choice: BackupChoice,
    /// Whether to wait for it.
    #[command(flatten)]
    pub stay: Stay,
    /// Have the run checked and say what it would back up, without starting it
    #[arg(long, conflicts_with_all = ["wait", "watch", "timeout"])]
    pub dry_run: bool,
}

/// `sync` and `purge`.
#[derive(Debug, Args)]
pub struct Task {
    /// Name of the task [default: the verb and the time]
    pub name: Option<String>,
    /// Where to sync or purge, and how.
    #[command(flatten)]
    pub choice: RunChoice,
    /// Whether to wait for it.
    #[command(flatten)]
    pub stay: Stay,
    /// Have the controller say what it would do and what it would refuse, and why, without doing it
    #[arg(long, conflicts_with_all = ["wait", "watch"])]
    pub dry_run: bool,
}

/// Whether to wait for what was started: for its end, or for some time.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Stay {
    /// Wait until it is over
    #[arg(long)]
    pub wait: bool,
    /// Wait, and show the progress of every datacenter
    #[arg(short, long)]
    pub watch: bool,
    /// Wait no longer than this; it goes on after that
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub timeout: Option<Duration>,
}

/// Where a run goes, and how.
#[derive(Clone, Debug, Args)]
pub struct RunChoice {
    /// Which datacenters.
    #[command(flatten)]
    pub selection: Selection,
    /// What to do about a data plane that does not answer
    #[arg(long, value_enum, ignore_case = true, default_value = "Wait", value_name = "POLICY")]
    pub unreachable_policy: UnreachablePolicy,
    /// Delete the run and what it made in the data planes this long after its end; backups in the storage are
    /// untouched by that [default: never]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub ttl: Option<Duration>,
    /// How it goes over its datacenters.
    #[command(flatten)]
    pub rollout: RolloutArgs,
}

/// What to back up, and how.
#[derive(Clone, Debug, Args)]
pub struct BackupChoice {
    /// `differential` uploads what no earlier backup holds, `full` uploads everything
    #[arg(long = "type", value_enum, default_value = "differential", value_name = "TYPE")]
    pub backup_type: BackupType,
    /// Where, and how it goes over its datacenters.
    #[command(flatten)]
    pub run: RunChoice,
}

/// What can be planned.
#[derive(Debug, Subcommand)]
pub enum Planned {
    /// What deploying Medusa would change in each datacenter, and what it waits for
    Deploy {
        /// Only this Cassandra cluster: its name here, or its K8ssandraCluster's [default: all]
        cluster: Option<String>,
    },
    /// Which datacenters a backup would take, as `backup --dry-run` says
    Backup(Box<BackupChoice>),
    /// Which datacenters a sync would take, as `sync --dry-run` says
    Sync(RunChoice),
    /// Which datacenters a purge would take, and which it would refuse and why, as `purge --dry-run` says
    Purge(RunChoice),
    /// Check everything a restore needs, in every datacenter, and touch nothing
    Restore(restore::RestoreChoice),
    /// Have a schedule checked, and show what it would run where and when
    Schedule(Box<schedule::PlanSchedule>),
}

/// `crds`.
#[derive(Debug, Args)]
pub struct Crds {
    /// Only the definitions of this API group; may be repeated
    #[arg(long = "group", value_name = "GROUP", value_delimiter = ',')]
    pub groups: Vec<String>,
    /// Write one file per definition into this directory instead
    #[arg(long)]
    pub dir: Option<PathBuf>,
}

/// What both controllers take.
#[derive(Debug, Args)]
pub struct Controller {
    /// Where `/livez`, `/readyz` and `/metrics` are served; empty for nowhere
    #[arg(long, env = "MEDUSA_FLEET_METRICS_ADDR", default_value = "0.0.0.0:8080", value_name = "ADDR")]
    #[arg(value_parser = metrics_addr)]
    pub metrics_addr: MetricsAddr,
    /// How log lines look
    #[arg(long, env = "MEDUSA_FLEET_LOG_FORMAT", value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// Which log lines are written, such as `info,medusa_fleet=debug`
    #[arg(long, env = "MEDUSA_FLEET_LOG_FILTER", default_value = "info", value_name = "DIRECTIVES")]
    pub log_filter: String,
    /// Work only while holding the role's Lease, so that several replicas may run
    #[arg(long, env = "MEDUSA_FLEET_LEADER_ELECT")]
    pub leader_elect: bool,
}

/// An address, or none: clap would read a bare `Option` as an optional argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricsAddr(pub Option<SocketAddr>);

fn namespace(text: &str) -> Result<String, String> {
    if names::is_namespace(text) {
        return Ok(text.to_owned());
    }
    Err("no namespace is called so: use lower-case letters, digits and `-`, at most 63, beginning and ending with a letter or \
         digit"
        .to_owned())
}

/// One of a list, which an empty variable leaves empty.
fn namespace_or_none(text: &str) -> Result<String, String> {
    if text.is_empty() { Ok(String::new()) } else { namespace(text) }
}

fn kubeconfig_field(text: &str) -> Result<String, String> {
    if text.is_empty() || kubeconfig::FIELDS.contains(&text) {
        return Ok(text.to_owned());
    }
    Err("no field of a kubeconfig is called so; name one that was refused, such as `proxy-url`".to_owned())
}

fn metrics_addr(text: &str) -> Result<MetricsAddr, String> {
    if text.is_empty() {
        return Ok(MetricsAddr(None));
    }
    text.parse()
        .map(|addr| MetricsAddr(Some(addr)))
        .map_err(|_| "give an address and port such as `0.0.0.0:8080`, or nothing".to_owned())
}

/// A fleet's name, or nothing.
fn fleet_name(text: &str) -> Result<String, String> {
    if text.is_empty() || identity::is_name(text) {
        return Ok(text.to_owned());
    }
    Err("give letters, digits, `-`, `_` and `.`, at most 63, beginning and ending with a letter or digit"
        .to_owned())
}

/// `control-plane`.
#[derive(Debug, Args)]
pub struct ControlPlane {
    /// What both controllers take.
    #[command(flatten)]
    pub controller: Controller,
    /// Name of the fleet, which stands on everything that is written; the one it had before when empty
    #[arg(long, env = "MEDUSA_FLEET_FLEET_NAME", value_name = "NAME", value_parser = fleet_name)]
    pub fleet_name: Option<String>,
    /// Spread the data planes over all replicas in so many parts, about four for each replica; 0 has the leader watch all.
    /// Needs --leader-elect
    #[arg(long, env = "MEDUSA_FLEET_SHARDS", value_name = "N", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=512))]
    pub shards: u32,
    /// Accept this field in kubeconfigs from Secrets although it is unsafe; may be repeated
    #[arg(long, env = "MEDUSA_FLEET_ALLOW_UNSAFE_KUBECONFIG", value_name = "FIELD", value_delimiter = ',')]
    #[arg(value_parser = kubeconfig_field)]
    pub allow_unsafe_kubeconfig: Vec<String>,
    /// Namespaces whose ClientConfigs register clusters; all when empty
    #[arg(
        long,
        env = "MEDUSA_FLEET_CLIENT_CONFIG_NAMESPACES",
        value_name = "NAMESPACE",
        value_parser = namespace_or_none,
        value_delimiter = ','
    )]
    pub client_config_namespaces: Vec<String>,
    /// Namespaces whose MedusaConfigurations and K8ssandraClusters are followed; all when empty
    #[arg(long, env = "MEDUSA_FLEET_SOURCE_NAMESPACES", value_name = "NAMESPACE", value_delimiter = ',')]
    #[arg(value_parser = namespace_or_none)]
    pub source_namespaces: Vec<String>,
    /// Namespaces of its own cluster that data plane `local` is, unless its `spec.namespaces` says so; all when empty
    #[arg(long, env = "MEDUSA_FLEET_LOCAL_NAMESPACES", value_name = "NAMESPACE", value_delimiter = ',')]
    #[arg(value_parser = namespace_or_none)]
    pub local_namespaces: Vec<String>,
    /// Age from which a restore point no longer protects its cluster
    #[arg(
        long,
        env = "MEDUSA_FLEET_RECOVERY_POINT_OBJECTIVE",
        default_value = "25h",
        value_name = "DURATION"
    )]
    #[arg(value_parser = duration::parse)]
    pub recovery_point_objective: Duration,
    /// Image of Medusa where a K8ssandraCluster names none; its containerImage replaces parts of it
    #[arg(long, env = "MEDUSA_FLEET_MEDUSA_IMAGE", default_value = image::DEFAULT_IMAGE, value_name = "IMAGE")]
    pub medusa_image: image::Image,
}

/// `data-plane`.
#[derive(Debug, Args)]
pub struct DataPlane {
    /// What both controllers take.
    #[command(flatten)]
    pub controller: Controller,
    /// Start although k8ssandra-operator already reconciles the Medusa kinds here
    #[arg(long, env = "MEDUSA_FLEET_TAKE_OVER")]
    pub take_over: bool,
    /// Work in this namespace only; may be repeated [default: every namespace]
    #[arg(long, env = "MEDUSA_FLEET_WATCH_NAMESPACE", value_name = "NAMESPACE", value_delimiter = ',')]
    #[arg(value_parser = namespace_or_none)]
    pub watch_namespace: Vec<String>,
}
