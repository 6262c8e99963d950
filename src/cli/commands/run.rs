//! What the verbs that start a run over datacenters have in common: its name, its selector, its creation, its
//! verdict.

use jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use serde::Serialize;

use super::wait::{self, Ended, Progress};
use crate::{
    api::{
        fleet::{
            DatacenterRun, FleetBackupJob, FleetRestoreJob, FleetTask, NodeCounts, Phase, RestoreRun,
            RunSpec, Selector,
        },
        labels,
        names::is_object_name,
    },
    cli::{
        args::{RunChoice, Selection, Stay},
        failure::{Failure, Outcome, is_conflict, is_not_found},
        home::ControlPlaneClient,
        output::Printer,
        rollout::seconds,
        views::{self, restore},
    },
    runtime::follow::Followed,
};

/// A fleet object that goes over datacenters and comes to an end.
pub trait FleetRun: Followed + Serialize {
    /// What `describe` and `cancel` call it.
    const DESCRIBED: &'static str;

    /// Its verdict so far; nothing before a control plane has taken it up.
    fn phase(&self) -> Option<Phase>;

    /// How each datacenter stands.
    fn parts(&self) -> Vec<Part>;

    /// How it stands, in one line; nothing before a control plane has taken it up.
    fn told(&self) -> Option<String>;

    /// How it stands, in one line.
    #[must_use]
    fn summary(&self) -> String {
        self.told().unwrap_or_else(|| "Pending".to_owned())
    }

    /// One line for everything that is not as it was.
    #[must_use]
    fn changes(before: Option<&Self>, after: &Self) -> Vec<String> {
        changes(&before.map_or_else(Vec::new, Self::parts), &after.parts())
    }

    /// Its kind in lower case, as in `kubectl get`.
    #[must_use]
    fn kind_word() -> String {
        Self::kind(&()).to_lowercase()
    }
}

/// One datacenter of a run.
#[derive(Debug)]
pub struct Part {
    /// Its name.
    pub title: String,
    /// Its state, on one line.
    pub line: String,
    /// Nodes that are done, and all of them.
    pub nodes: (i64, i64),
    /// Whether it is decided.
    pub is_over: bool,
}

impl Part {
    fn new(title: String, line: String, nodes: Option<NodeCounts>, phase: Phase) -> Self {
        let nodes = nodes.unwrap_or_default();
        Self { title, line, nodes: (nodes.finished, nodes.total), is_over: phase.is_final() }
    }
}

impl From<&DatacenterRun> for Part {
    fn from(run: &DatacenterRun) -> Self {
        Self::new(views::run::title(run), views::run::line(run), run.nodes, run.phase)
    }
}

impl From<&RestoreRun> for Part {
    fn from(run: &RestoreRun) -> Self {
        Self::new(restore::title(run), restore::line(run), run.nodes, run.phase)
    }
}

/// One line per datacenter whose state is not what it was.
fn changes(before: &[Part], after: &[Part]) -> Vec<String> {
    let was = |part: &Part| before.iter().find(|old| old.title == part.title).map(|old| &old.line);
    let changed = after.iter().filter(|part| was(part) != Some(&part.line));
    changed.map(|part| format!("{}: {}", part.title, part.line)).collect()
}

impl FleetRun for FleetBackupJob {
    const DESCRIBED: &'static str = "job";

    fn phase(&self) -> Option<Phase> {
        self.status.as_ref()?.run.phase
    }

    fn parts(&self) -> Vec<Part> {
        self.status.iter().flat_map(|status| &status.datacenters).map(Part::from).collect()
    }

    fn told(&self) -> Option<String> {
        self.status.as_ref().map(views::run::summary)
    }
}

impl FleetRun for FleetTask {
    const DESCRIBED: &'static str = "task";

    fn phase(&self) -> Option<Phase> {
        self.status.as_ref()?.run.phase
    }

    fn parts(&self) -> Vec<Part> {
        self.status.iter().flat_map(|status| &status.datacenters).map(|entry| (&entry.run).into()).collect()
    }

    fn told(&self) -> Option<String> {
        self.status.as_ref().map(views::task::summary)
    }
}

impl FleetRun for FleetRestoreJob {
    const DESCRIBED: &'static str = "restore";

    fn phase(&self) -> Option<Phase> {
        self.status.as_ref()?.phase
    }

    fn parts(&self) -> Vec<Part> {
        self.status.iter().flat_map(|status| &status.datacenters).map(Part::from).collect()
    }

    fn told(&self) -> Option<String> {
        self.status.as_ref().map(restore::summary)
    }

    /// What is waited for before anything begins is told too.
    fn changes(before: Option<&Self>, after: &Self) -> Vec<String> {
        let parts = after.parts();
        if !parts.is_empty() {
            return changes(&before.map_or_else(Vec::new, Self::parts), &parts);
        }
        let line = after.told().filter(|line| before.and_then(Self::told).as_ref() != Some(line));
        line.into_iter().collect()
    }
}

/// The name given, or `verb` and the time.
///
/// # Errors
/// When Kubernetes would refuse it.
pub fn name(typed: Option<&String>, verb: &str, now: Timestamp) -> Outcome<String> {
    let name = typed.cloned().unwrap_or_else(|| format!("{verb}-{}", now.strftime("%Y%m%d%H%M%S")));
    if is_object_name(&name) {
        return Ok(name);
    }
    Err(Failure::CouldNotAsk(format!(
        "`{name}` cannot name a run: use lower-case letters, digits, `-` and `.`, at most 253, beginning and \
         ending with a letter or digit"
    )))
}

/// The metadata of an object that is to be made.
#[must_use]
pub fn metadata(name: String, namespace: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name), namespace: Some(namespace.to_owned()), ..ObjectMeta::default() }
}

/// The selector, if anything narrows the choice.
#[must_use]
pub fn selector(typed: &Selection) -> Option<Selector> {
    let selector = Selector {
        clusters: typed.clusters.clone(),
        cluster_selector: typed.cluster_selector.clone(),
        data_planes: typed.data_planes.clone(),
        data_plane_selector: typed.data_plane_selector.clone(),
        namespaces: typed.dc_namespaces.clone(),
        datacenters: typed.datacenters.clone(),
        datacenter_selector: typed.datacenter_selector.clone(),
    };
    (selector != Selector::default()).then_some(selector)
}

/// What is asked for of every kind of run.
#[must_use]
pub fn spec(typed: &RunChoice) -> RunSpec {
    RunSpec {
        selector: selector(&typed.selection),
        rollout: typed.rollout.rollout(),
        unreachable_policy: typed.unreachable_policy,
        ttl_seconds_after_finished: typed.ttl.map(seconds),
        cancel: None,
        dry_run: None,
    }
}

/// Creates the run, or with `dry_run` only has the API server check it.
///
/// # Errors
/// When it cannot be created.
pub async fn create<K: FleetRun>(
    printer: Printer,
    home: &ControlPlaneClient,
    run: &K,
    dry_run: bool,
) -> Outcome<K> {
    let params = PostParams { dry_run, field_manager: Some(labels::MANAGER_CLI.to_owned()) };
    let (kind, name) = (K::kind_word(), views::name(run.meta()));
    home.api::<K>().create(&params, run).await.map_err(|error| {
        if is_conflict(&error) {
            let look = printer.command(&format!("describe {}/{name}", K::DESCRIBED));
            return Failure::Failed(format!(
                "{kind} `{name}` exists already {home}, and a {} runs once; choose another name, or look at it with \
                 {look}",
                K::DESCRIBED
            ));
        }
        let missing_namespace = is_not_found(&error)
            && matches!(&error, kube::Error::Api(s) if s.details.as_ref().is_some_and(|d| d.kind == "namespaces"));
        if missing_namespace {
            return Failure::CouldNotAsk(format!(
                "there is no namespace `{}` in `{}`; is this the control plane? Choose with --context and --namespace",
                home.namespace, home.server
            ));
        }
        Failure::writing(&format!("create {kind} `{name}` {home}"), &error)
    })
}

/// Waits for the end of the run that was `created`, if that is asked for. Returns nothing where it is not: then the person is
/// told where to look.
///
/// # Errors
/// When the run cannot be watched, or stdout cannot be written.
pub async fn stay<K: FleetRun>(
    printer: Printer,
    home: &ControlPlaneClient,
    created: &K,
    Stay { wait, watch, timeout }: Stay,
) -> Outcome<Option<Ended<K>>> {
    let name = views::name(created.meta());
    if !(wait || watch || timeout.is_some()) {
        if printer.format().is_for_programs() {
            printer.value(created)?;
        } else {
            let look = printer.command(&format!("describe {}/{name}", K::DESCRIBED));
            printer.note(&format!("{look} shows how far it is"));
        }
        return Ok(None);
    }
    let mut progress = Progress::new(printer, watch);
    let ended = wait::until_over(home, &name, timeout, &mut progress).await?;
    progress.finish();
    Ok(Some(ended))
}

/// The run when it is over, whatever its verdict.
///
/// # Errors
/// When the waiting ended before the run did.
pub fn over<K: FleetRun>(printer: Printer, name: &str, ended: Ended<K>) -> Outcome<K> {
    let kind = K::kind_word();
    let look = printer.command(&format!("describe {}/{name}", K::DESCRIBED));
    let again = format!("{look} shows how far it is");
    match ended {
        Ended::Over(run) => Ok(*run),
        Ended::Interrupted => {
            Err(Failure::Failed(format!("stopped waiting; {kind} `{name}` goes on: {again}")))
        }
        Ended::TimedOut(run) => {
            let stand = run.map_or_else(|| "Pending".to_owned(), |run| run.summary());
            Err(Failure::Failed(format!("not over in time ({stand}); {kind} `{name}` goes on: {again}")))
        }
        Ended::Deleted => Err(Failure::Failed(format!("{kind} `{name}` was deleted before it was over"))),
    }
}

/// Prints how the run ended.
///
/// # Errors
/// When the waiting ended before the run did, or its verdict is not `Succeeded`.
pub fn verdict<K: FleetRun>(printer: Printer, name: &str, ended: Ended<K>) -> Outcome {
    let run = over(printer, name, ended)?;
    printer.say(&run.summary())?;
    if printer.format().is_for_programs() {
        printer.value(&run)?;
    }
    if run.phase() == Some(Phase::Succeeded) { Ok(()) } else { Err(Failure::Unhealthy) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::fleet::FleetBackupJobStatus,
        cli::views::fixtures::{self, finished_run, running_run},
    };

    #[test]
    fn only_what_changed_is_told() {
        let parts =
            |status: FleetBackupJobStatus| status.datacenters.iter().map(Part::from).collect::<Vec<_>>();
        let (running, finished) = (parts(running_run()), parts(finished_run()));
        assert_eq!(
            changes(&[], &running),
            [
                "eu-1/shop/dc1: Running, 1/3 nodes",
                "us-1/shop/dc2: Pending (DataPlaneUnreachable: no answer for 2m)"
            ]
        );
        assert_eq!(changes(&running, &running), Vec::<String>::new());
        assert_eq!(
            changes(&running, &finished),
            [
                "eu-1/shop/dc1: Succeeded, 3/3 nodes, 1.00 GB",
                "us-1/shop/dc2: Succeeded, 3/3 nodes, 256.00 MB"
            ]
        );
    }

    #[test]
    fn of_a_restore_only_what_changed_is_told() {
        let (mut before, after) = (fixtures::restore(), fixtures::restore());
        assert_eq!(FleetRestoreJob::changes(Some(&before), &after), Vec::<String>::new());
        before.status.as_mut().unwrap().datacenters[1].phase = Phase::Pending;
        let told = FleetRestoreJob::changes(Some(&before), &after);
        assert_eq!(told, ["us-1/shop/dc2: Running, 1/3 nodes (Restoring: 1 pods restored)"]);
    }

    #[test]
    fn before_a_restore_begins_it_says_what_it_waits_for() {
        let mut waiting = fixtures::restore();
        waiting.status.as_mut().unwrap().datacenters.clear();
        let told = FleetRestoreJob::changes(None, &waiting);
        assert_eq!(told, ["Running: 1/2 datacenters restored (Running: us-1/shop/dc2: Restoring)"]);
        assert!(FleetRestoreJob::changes(Some(&waiting), &waiting).is_empty());
    }
}
