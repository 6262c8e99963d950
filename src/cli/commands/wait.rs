//! Waiting for a run: one watch, no polling.

use std::{collections::BTreeMap, io::IsTerminal as _, pin::pin, time::Duration};

use futures::StreamExt as _;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use kube::{
    ResourceExt as _,
    runtime::{WatchStreamExt as _, watcher},
};

use super::run::{FleetRun, Part};
use crate::{
    api::fleet::{FleetBackup, Phase},
    cli::{
        failure::{Failure, Outcome, why},
        home::ControlPlaneClient,
        output::{Printer, one_line},
    },
};

/// From here on a run that no controller has taken up is worth a word.
const NOT_TAKEN_UP: Duration = Duration::from_secs(15);

/// How long the inventory may take to show a restore point.
const LISTING: Duration = Duration::from_secs(10);

/// How the waiting ended.
#[derive(Debug)]
pub enum Ended<K> {
    /// The run is over.
    Over(Box<K>),
    /// The person pressed Ctrl-C.
    Interrupted,
    /// The time is up; this is how far it is.
    TimedOut(Option<Box<K>>),
    /// Somebody deleted it.
    Deleted,
}

/// Watches the run until it is over, the time is up, or the person has had enough.
///
/// # Errors
/// When it cannot be watched.
pub async fn until_over<K: FleetRun>(
    home: &ControlPlaneClient,
    name: &str,
    timeout: Option<Duration>,
    progress: &mut Progress,
) -> Outcome<Ended<K>> {
    let kind = K::kind_word();
    let mut runs = pin!(watcher::watch_object(home.api::<K>(), name).default_backoff());
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
            seen = runs.next() => seen,
            () = &mut time_up => return Ok(Ended::TimedOut(last.map(Box::new))),
            _ = &mut interrupted => return Ok(Ended::Interrupted),
            () = &mut not_taken_up, if !hinted => {
                hinted = true;
                if last.as_ref().is_none_or(|run| run.phase().is_none()) {
                    progress.note("no control plane has taken the run up yet; is one running?");
                }
                continue;
            }
        };
        match seen {
            Some(Ok(Some(run))) => {
                is_lost = false;
                // One that was made again under its name is another.
                if last.as_ref().is_some_and(|last| last.uid() != run.uid()) {
                    return Ok(Ended::Deleted);
                }
                progress.update(last.as_ref(), &run)?;
                if run.phase().is_some_and(Phase::is_final) {
                    return Ok(Ended::Over(Box::new(run)));
                }
                last = Some(run);
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
pub async fn until_listed(home: &ControlPlaneClient, points: &[String]) {
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
    /// Where somebody is to `watch`, bars on a terminal and else a line per change; else nothing before the end.
    #[must_use]
    pub fn new(printer: Printer, watch: bool) -> Self {
        let show = match (watch, std::io::stderr().is_terminal()) {
            (false, _) => Show::Nothing,
            (true, false) => Show::Lines,
            (true, true) => Show::Bars { all: MultiProgress::new(), bars: BTreeMap::new() },
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

    fn update<K: FleetRun>(&mut self, before: Option<&K>, after: &K) -> Outcome {
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
        let stays = parts.iter().any(|part| one_line(&part.title) == *title);
        if !stays {
            bar.finish_and_clear();
            all.remove(bar);
        }
        stays
    });
    for mut part in parts {
        (part.title, part.line) = (one_line(&part.title), one_line(&part.line));
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
