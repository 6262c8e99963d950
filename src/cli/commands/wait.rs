//! Waiting for a run: one watch, no polling.

use std::{collections::BTreeMap, fmt::Debug, io::IsTerminal as _, pin::pin, time::Duration};

use futures::StreamExt as _;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use kube::{
    Resource,
    core::NamespaceResourceScope,
    runtime::{WatchStreamExt as _, watcher},
};
use serde::de::DeserializeOwned;

use crate::{
    api::fleet::{FleetBackup, FleetBackupJob, FleetRestoreJob, Phase},
    cli::{
        failure::{Failure, Outcome, why},
        home::Home,
        output::{Printer, one_line},
        views::{restore, run},
    },
};

/// From here on a run that no controller has taken up is worth a word.
const NOT_TAKEN_UP: Duration = Duration::from_secs(15);

/// How long the inventory may take to show a restore point.
const LISTING: Duration = Duration::from_secs(10);

/// A kind that runs to an end, datacenter by datacenter.
pub trait Run:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + 'static
{
    /// Its verdict so far; nothing before a control plane has taken it up.
    fn phase(&self) -> Option<Phase>;
    /// One line per datacenter that is not as it was.
    fn changes(before: Option<&Self>, after: &Self) -> Vec<String>;
    /// How each datacenter stands.
    fn parts(&self) -> Vec<Part>;
}

/// One datacenter of a run.
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

impl Run for FleetBackupJob {
    fn phase(&self) -> Option<Phase> {
        self.status.as_ref()?.phase
    }

    fn changes(before: Option<&Self>, after: &Self) -> Vec<String> {
        let none = crate::api::fleet::FleetBackupJobStatus::default();
        run::changes(before.and_then(|b| b.status.as_ref()), after.status.as_ref().unwrap_or(&none))
    }

    fn parts(&self) -> Vec<Part> {
        let runs = self.status.iter().flat_map(|s| &s.datacenters);
        runs.map(|dc| {
            let nodes = dc.nodes.unwrap_or_default();
            let nodes = (nodes.finished, nodes.total);
            Part { title: run::title(dc), line: run::line(dc), nodes, is_over: dc.phase.is_final() }
        })
        .collect()
    }
}

impl Run for FleetRestoreJob {
    fn phase(&self) -> Option<Phase> {
        self.status.as_ref()?.phase
    }

    fn changes(before: Option<&Self>, after: &Self) -> Vec<String> {
        restore::changes(before, after)
    }

    fn parts(&self) -> Vec<Part> {
        let runs = self.status.iter().flat_map(|s| &s.datacenters);
        runs.map(|dc| {
            let nodes = dc.nodes.unwrap_or_default();
            let nodes = (nodes.finished, nodes.total);
            Part { title: restore::title(dc), line: restore::line(dc), nodes, is_over: dc.phase.is_final() }
        })
        .collect()
    }
}

/// How the waiting ended.
#[derive(Debug)]
pub enum Ended<K> {
    /// The run is over.
    Over(Box<K>),
    /// The person pressed Ctrl-C.
    Interrupted,
    /// The time is up; this is how far it is.
    TimedOut(Option<Box<K>>),
    /// Somebody deleted the job.
    Deleted,
}

/// Watches the job until it is over, the time is up, or the person has had enough.
///
/// # Errors
/// When the job cannot be watched.
pub async fn until_over<K: Run>(
    home: &Home,
    name: &str,
    timeout: Option<Duration>,
    progress: &mut Progress,
) -> Outcome<Ended<K>> {
    let kind = K::kind(&()).to_lowercase();
    let mut jobs = pin!(watcher::watch_object(home.api::<K>(), name).default_backoff());
    let mut time_up = pin!(async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    });
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    let mut not_taken_up = pin!(tokio::time::sleep(NOT_TAKEN_UP));
    let mut hinted = false;
    let mut is_lost = false;
    let mut last: Option<K> = None;
    loop {
        let seen = tokio::select! {
            seen = jobs.next() => seen,
            () = &mut time_up => return Ok(Ended::TimedOut(last.map(Box::new))),
            _ = &mut interrupted => return Ok(Ended::Interrupted),
            () = &mut not_taken_up, if !hinted => {
                hinted = true;
                if last.as_ref().is_none_or(|job| job.phase().is_none()) {
                    progress.note("no control plane has taken the run up yet; is one running?");
                }
                continue;
            }
        };
        match seen {
            Some(Ok(Some(job))) => {
                is_lost = false;
                progress.update(last.as_ref(), &job)?;
                if job.phase().is_some_and(Phase::is_final) {
                    return Ok(Ended::Over(Box::new(job)));
                }
                last = Some(job);
            }
            Some(Ok(None)) | None => return Ok(Ended::Deleted),
            Some(Err(error)) => {
                if let Some(refusal) = refusal(&error) {
                    return Err(Failure::CouldNotAsk(format!(
                        "cannot watch {kind} `{name}` {home}: {refusal}"
                    )));
                }
                if !is_lost {
                    progress
                        .note(&format!("lost sight of the control plane ({}); trying again", told(&error)));
                }
                is_lost = true;
            }
        }
    }
}

/// Waits until the inventory shows the restore points of a run that is over, so that what a person
/// asks next is answered with them; no longer than a moment, because the run's verdict stands anyway.
pub async fn until_listed(home: &Home, points: &[String]) {
    let listed = async {
        for point in points {
            let mut seen = pin!(watcher::watch_object(home.api::<FleetBackup>(), point).default_backoff());
            while let Some(backup) = seen.next().await {
                let status = backup.ok().flatten().and_then(|b| b.status);
                if status.is_some_and(|s| s.phase != "InProgress") {
                    break;
                }
            }
        }
    };
    let _ = tokio::time::timeout(LISTING, listed).await;
}

/// The API server's own words when trying again cannot help.
fn refusal(error: &watcher::Error) -> Option<String> {
    match error {
        watcher::Error::InitialListFailed(inner) | watcher::Error::WatchStartFailed(inner) => {
            matches!(inner, kube::Error::Api(status) if matches!(status.code, 401 | 403)).then(|| why(inner))
        }
        watcher::Error::WatchError(_)
        | watcher::Error::WatchFailed(_)
        | watcher::Error::NoResourceVersion => None,
    }
}

fn told(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(inner)
        | watcher::Error::WatchStartFailed(inner)
        | watcher::Error::WatchFailed(inner) => one_line(&why(inner)),
        watcher::Error::WatchError(status) => one_line(&status.message),
        watcher::Error::NoResourceVersion => "not watchable".to_owned(),
    }
}

/// Shows how far a run is.
#[derive(Debug)]
pub struct Progress {
    printer: Printer,
    show: Show,
}

#[derive(Debug)]
enum Show {
    /// Nothing before the end.
    Nothing,
    /// One line per change.
    Lines,
    /// One bar per datacenter, on a terminal.
    Bars { all: MultiProgress, bars: BTreeMap<String, ProgressBar> },
}

impl Progress {
    /// Shows nothing before the end.
    #[must_use]
    pub fn silent(printer: Printer) -> Self {
        Self { printer, show: Show::Nothing }
    }

    /// Bars on a terminal, else a line per change.
    #[must_use]
    pub fn live(printer: Printer) -> Self {
        let show = if std::io::stderr().is_terminal() {
            Show::Bars { all: MultiProgress::new(), bars: BTreeMap::new() }
        } else {
            Show::Lines
        };
        Self { printer, show }
    }

    fn note(&self, line: &str) {
        match &self.show {
            // The bars own the terminal's last lines; this writes above them.
            Show::Bars { all, .. } => all.suspend(|| self.printer.note(line)),
            Show::Nothing | Show::Lines => self.printer.note(line),
        }
    }

    fn update<K: Run>(&mut self, before: Option<&K>, after: &K) -> Outcome {
        match &mut self.show {
            Show::Nothing => {}
            Show::Lines => {
                for line in K::changes(before, after) {
                    self.printer.say(&line)?;
                }
            }
            Show::Bars { all, bars } => draw(all, bars, after.parts()),
        }
        Ok(())
    }

    /// Leaves the terminal to whoever writes next.
    pub fn finish(&self) {
        if let Show::Bars { bars, .. } = &self.show {
            bars.values().for_each(ProgressBar::abandon);
        }
    }
}

/// Bars a terminal has room for; of more datacenters only the sum is shown.
const MAX_BARS: usize = 40;

fn draw(all: &MultiProgress, bars: &mut BTreeMap<String, ProgressBar>, mut parts: Vec<Part>) {
    if parts.len() > MAX_BARS {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let over = count(parts.iter().filter(|part| part.is_over).count());
        let all = count(parts.len());
        let (title, line) = ("datacenters".to_owned(), format!("{over}/{all} decided"));
        parts = vec![Part { title, line, nodes: (over, all), is_over: over == all }];
    }
    // An entry that stood for a data plane makes room for its datacenters once those are known.
    bars.retain(|title, bar| {
        let stays = parts.iter().any(|part| part.title == *title);
        if !stays {
            bar.finish_and_clear();
            all.remove(bar);
        }
        stays
    });
    for part in parts {
        let bar = bars.entry(part.title.clone()).or_insert_with(|| bar(all, part.title));
        let (finished, total) = part.nodes;
        bar.set_length(total.max(1).unsigned_abs());
        bar.set_position(finished.unsigned_abs());
        bar.set_message(part.line);
        if part.is_over {
            bar.abandon();
        }
    }
}

fn bar(all: &MultiProgress, title: String) -> ProgressBar {
    let bar = all.add(ProgressBar::new(0)).with_prefix(title);
    let style = ProgressStyle::with_template("{prefix:32!} [{bar:20}] {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar
}
