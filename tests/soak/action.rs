//! What a soak does: the actions of its plan, and how each is said in one line. Pure.

use std::fmt;

use serde_json::{Value, json};

use crate::parse::ABOUT;

/// One thing that is done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A FleetBackupJob, FleetTask or FleetRestoreJob is made.
    Run(Order),
    /// A FleetBackupJob is cancelled.
    Cancel(String),
    /// A FleetBackupSchedule is made.
    Schedule(Timetable),
    /// It is suspended, or goes on.
    Suspend(String, bool),
    /// It is deleted.
    Unschedule(String),
    /// The Secret of a MedusaConfiguration gets another content.
    Rotate(String),
    /// A MedusaConfiguration is made, with its Secret.
    Configure(String),
    /// Both are deleted.
    Unconfigure(String),
    /// The registration Secret of a data plane is made.
    Register(String),
    /// It is deleted.
    Unregister(String),
    /// Its kubeconfig is written anew, with the same access.
    Rewrite(String),
    /// Its kubeconfig gets a token that nobody knows.
    Break(String),
    /// It gets the right one.
    Mend(String),
    /// Something is wrong with these data planes, in the simulator's words.
    Fault(Value, Vec<String>),
    /// Nothing is any more.
    Heal(Vec<String>),
    /// The control plane is killed with SIGKILL and started again.
    Kill,
    /// The control plane is stopped with SIGSTOP.
    Stop,
    /// It goes on.
    Continue,
    /// Of each datacenter's MedusaBackups only the newest stay, as a purge leaves them.
    Retain,
}

/// A run that is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: OrderKind,
    /// The data planes that it names; none is all of them.
    pub planes: Vec<String>,
    /// What is to be done about those that do not answer.
    pub policy: &'static str,
    /// Datacenters at a time; 0 is no limit.
    pub at_a_time: u64,
    /// Whether the fan-out's latency is measured by it.
    pub is_probe: bool,
}

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderKind {
    /// Backs up, by this type.
    Backup(&'static str),
    /// A FleetTask with this operation.
    Task(&'static str),
    /// Restores the newest restore point of its only data plane.
    Restore,
}

/// A schedule that is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Timetable {
    /// Its name.
    pub name: String,
    /// Seconds from slot to slot. They count from its creation, so that no minute of the wall clock matters.
    pub every: u64,
    /// What each slot does.
    pub operation: &'static str,
    /// What happens when the last run goes on.
    pub concurrency: &'static str,
    /// Who watches the clock.
    pub execution: &'static str,
}

/// Runs are deleted this long after their end, so that what is there does not grow.
const TTL: u64 = 60;

impl Order {
    /// The object that asks for it. `backup` is the FleetBackup that is restored.
    pub fn object(&self, backup: Option<&str>) -> Value {
        let selector = if self.planes.is_empty() { json!({}) } else { json!({"dataPlanes": self.planes}) };
        let mut annotations = json!({});
        let (kind, spec) = match self.kind {
            OrderKind::Backup(type_) => ("FleetBackupJob", self.spec("backupType", type_, selector)),
            OrderKind::Task(operation) => ("FleetTask", self.spec("operation", operation, selector)),
            OrderKind::Restore => {
                annotations = json!({ABOUT: self.planes.join(" ")});
                ("FleetRestoreJob", json!({"backup": backup.unwrap_or_default()}))
            }
        };
        json!({"apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": kind,
            "metadata": {"name": self.name, "annotations": annotations}, "spec": spec})
    }

    fn spec(&self, field: &str, value: &str, selector: Value) -> Value {
        json!({
            field: value, "selector": selector, "unreachablePolicy": self.policy, "ttlSecondsAfterFinished": TTL,
            "rollout": {"maxConcurrentDatacenters": self.at_a_time},
        })
    }
}

impl Timetable {
    /// The object that asks for it.
    pub fn object(&self) -> Value {
        json!({
            "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "FleetBackupSchedule",
            "metadata": {"name": self.name},
            "spec": {
                "schedule": format!("@every {}s", self.every), "operation": self.operation,
                "execution": self.execution, "concurrencyPolicy": self.concurrency,
                "successfulJobsHistoryLimit": 2, "failedJobsHistoryLimit": 2,
            },
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(order) => write!(f, "{order}"),
            Self::Cancel(name) => write!(f, "cancel FleetBackupJob {name}"),
            Self::Schedule(timetable) => write!(f, "{timetable}"),
            Self::Suspend(name, true) => write!(f, "suspend FleetBackupSchedule {name}"),
            Self::Suspend(name, false) => write!(f, "resume FleetBackupSchedule {name}"),
            Self::Unschedule(name) => write!(f, "delete FleetBackupSchedule {name}"),
            Self::Rotate(name) => write!(f, "rotate the Secret of MedusaConfiguration {name}"),
            Self::Configure(name) => write!(f, "create MedusaConfiguration {name} and its Secret"),
            Self::Unconfigure(name) => write!(f, "delete MedusaConfiguration {name} and its Secret"),
            Self::Register(plane) => write!(f, "register {plane}"),
            Self::Unregister(plane) => write!(f, "unregister {plane}"),
            Self::Rewrite(plane) => write!(f, "write the kubeconfig of {plane} anew"),
            Self::Break(plane) => write!(f, "give the kubeconfig of {plane} an unknown token"),
            Self::Mend(plane) => write!(f, "give the kubeconfig of {plane} its token again"),
            Self::Fault(fault, planes) => write!(f, "fault {fault} on {}", planes.join(" ")),
            Self::Heal(planes) => write!(f, "no fault on {}", planes.join(" ")),
            Self::Kill => write!(f, "kill -9 the control plane, and start it again"),
            Self::Stop => write!(f, "SIGSTOP the control plane"),
            Self::Continue => write!(f, "SIGCONT the control plane"),
            Self::Retain => write!(f, "leave the newest MedusaBackups of each datacenter only"),
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            OrderKind::Backup(type_) => format!("FleetBackupJob {} ({type_})", self.name),
            OrderKind::Task(operation) => format!("FleetTask {} ({operation})", self.name),
            OrderKind::Restore => format!("FleetRestoreJob {}", self.name),
        };
        let planes = if self.planes.is_empty() { "all".to_owned() } else { self.planes.join(" ") };
        write!(f, "create {what} over {planes}, {}", self.policy)?;
        match self.at_a_time {
            0 => Ok(()),
            limit => write!(f, ", {limit} at a time"),
        }
    }
}

impl fmt::Display for Timetable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, every, operation, concurrency, execution } = self;
        write!(
            f,
            "create FleetBackupSchedule {name}: {operation} every {every} s, {execution}, {concurrency}"
        )
    }
}
