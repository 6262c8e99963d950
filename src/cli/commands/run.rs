//! What the verbs that start a run over datacenters have in common: its name, its selector, its creation, its
//! verdict.

use std::fmt::Debug;

use jiff::Timestamp;
use kube::{Resource, api::PostParams, core::NamespaceResourceScope};
use serde::{Serialize, de::DeserializeOwned};

use super::wait::Ended;
use crate::{
    api::{
        fleet::{DatacenterRun, FleetBackupJob, FleetTask, Phase, Selector},
        labels,
    },
    cli::{
        args::Selection,
        failure::{Failure, Outcome, is_conflict, is_not_found},
        home::Home,
        output::Printer,
        views,
    },
};

/// A fleet object that goes over datacenters and comes to an end.
pub trait Run:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + 'static
{
    /// What `describe` calls it.
    const DESCRIBED: &'static str;

    /// How far it is, once a controller has looked at it.
    fn phase(&self) -> Option<Phase>;

    /// Its datacenters.
    fn datacenters(&self) -> Vec<DatacenterRun>;

    /// How it stands, in one line.
    fn summary(&self) -> String;

    /// Its kind in lower case, as in `kubectl get`.
    #[must_use]
    fn kind_word() -> String {
        Self::kind(&()).to_lowercase()
    }
}

impl Run for FleetBackupJob {
    const DESCRIBED: &'static str = "job";

    fn phase(&self) -> Option<Phase> {
        self.status.as_ref().and_then(|status| status.phase)
    }

    fn datacenters(&self) -> Vec<DatacenterRun> {
        self.status.iter().flat_map(|status| status.datacenters.clone()).collect()
    }

    fn summary(&self) -> String {
        self.status.as_ref().map_or_else(|| "Pending".to_owned(), views::run::summary)
    }
}

impl Run for FleetTask {
    const DESCRIBED: &'static str = "task";

    fn phase(&self) -> Option<Phase> {
        self.status.as_ref().and_then(|status| status.phase)
    }

    fn datacenters(&self) -> Vec<DatacenterRun> {
        self.status.iter().flat_map(|status| &status.datacenters).map(|entry| entry.run.clone()).collect()
    }

    fn summary(&self) -> String {
        self.status.as_ref().map_or_else(|| "Pending".to_owned(), views::task::summary)
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

/// A DNS subdomain, as Kubernetes wants object names.
fn is_object_name(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label = |part: &str| {
        part.starts_with(fine) && part.ends_with(fine) && part.chars().all(|c| fine(c) || c == '-')
    };
    name.len() <= 253 && name.split('.').all(label)
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

/// Creates the run, or with `dry_run` only has the API server check it.
///
/// # Errors
/// When it cannot be created.
pub async fn create<K: Run>(printer: Printer, home: &Home, run: &K, dry_run: bool) -> Outcome<K> {
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

/// The run when it is over, whatever its verdict.
///
/// # Errors
/// When the waiting ended before the run did.
pub fn over<K: Run>(printer: Printer, name: &str, ended: Ended<K>) -> Outcome<K> {
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
pub fn verdict<K: Run>(printer: Printer, name: &str, ended: Ended<K>) -> Outcome {
    let run = over(printer, name, ended)?;
    printer.say(&run.summary())?;
    if printer.format().is_for_programs() {
        printer.value(&run)?;
    }
    if run.phase() == Some(Phase::Succeeded) { Ok(()) } else { Err(Failure::Unhealthy) }
}
