//! One soak from beginning to end.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use tokio::time::{Interval, interval, sleep_until};

use crate::{
    action::Action,
    harness::{Result, memory, testbed, within},
    latency::latencies,
    memory::{Sample, Slope, after_warming_up},
    observed::{Observed, Open},
    oracle::{Finding, findings},
    perform::{Record, registration},
    plan::{CONFIGURATIONS, Step, Terms, plan},
    reading::{Journal, not_ready, observe},
    report::{isolation, memory as judged_memory, say},
    stage::{NAMESPACE, Programs, Stage},
};

/// How long the fleet may take to settle once everything is over.
const SETTLED: Duration = Duration::from_mins(4);
/// How long it may take to begin.
const READY: Duration = Duration::from_mins(5);
/// The oracle looks so often while the fleet settles.
const LOOKED: Duration = Duration::from_secs(1);
/// Memory is read so often.
const SAMPLED: Duration = Duration::from_secs(2);
/// Actions that come later than this are no measure of anything: they ask the real API server, not the control plane.
const LATE: Duration = Duration::from_secs(5);
/// Findings of each rule that are shown.
const SHOWN: usize = 12;

/// What a soak came to.
pub struct Outcome {
    /// How many things are not as they have to be.
    pub findings: usize,
    /// In one line.
    pub summary: String,
}

/// Carries out the plan of these terms, and judges what came of it.
pub async fn soak(programs: &Programs, terms: Terms, keep: bool) -> Result<Outcome> {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    testbed::sweep(tmp, "soak-");
    let dir = tmp.join(format!("soak-{}-{}", terms.seed, std::process::id()));
    fs::create_dir_all(&dir)?;
    let steps = plan(terms);
    let minutes = terms.length.as_secs() / 60;
    say(format!(
        "soak --minutes {minutes} --seed {} --data-planes {}: {} actions; log: {}",
        terms.seed,
        terms.planes,
        steps.len(),
        dir.join("control-plane.log").display()
    ));
    let outcome = whole(programs, terms, &steps, &dir).await;
    let is_good = outcome.as_ref().is_ok_and(|outcome| outcome.findings == 0);
    if is_good && !keep {
        fs::remove_dir_all(&dir)?;
    }
    outcome
}

async fn whole(programs: &Programs, terms: Terms, steps: &[Step], dir: &Path) -> Result<Outcome> {
    let mut stage = Stage::start(programs, dir, terms.planes).await?;
    let mut record = Record::default();
    record.starts = 1;
    for name in CONFIGURATIONS {
        record.perform(&mut stage, &Action::Configure(name.to_owned())).await?;
    }
    let all: BTreeSet<String> = stage.planes.keys().cloned().collect();
    for plane in &all {
        stage.apply(NAMESPACE, &registration(plane, &stage.kubeconfig(plane)?)).await?;
    }
    within(READY, "every data plane is ready", async || match not_ready(&stage, &all).await {
        Ok(lacking) if lacking.is_empty() => Ok(()),
        Ok(lacking) => Err(lacking.join("; ")),
        Err(error) => Err(error.to_string()),
    })
    .await?;
    let idle = stage.idle().await?;
    say(format!(
        "ready; an idle data plane has {} watches and {} connections",
        idle.watches, idle.connections
    ));
    let mut watch =
        Watch { begun: Instant::now(), started: Duration::ZERO, samples: Vec::new(), late: Duration::ZERO };
    carry_out(&mut stage, &mut record, steps, &mut watch).await?;
    record.finish().await;
    say(format!("{:>8.1} s  everything is over; the fleet settles", watch.begun.elapsed().as_secs_f64()));
    judge(&stage, &record, idle, terms, &watch).await
}

/// What is measured while it goes on.
struct Watch {
    begun: Instant,
    /// When the control plane was started last.
    started: Duration,
    samples: Vec<Sample>,
    /// By how much the latest action came too late.
    late: Duration,
}

impl Watch {
    fn sample(&mut self, pid: u32) {
        let at = self.begun.elapsed();
        self.samples.extend(memory(pid, "VmRSS").ok().map(|mib| Sample { at, mib }));
    }
}

async fn carry_out(stage: &mut Stage, record: &mut Record, steps: &[Step], watch: &mut Watch) -> Result<()> {
    let mut sampled = interval(SAMPLED);
    for Step { at, action } in steps {
        wait(watch, &mut sampled, stage.control_plane.pid(), *at).await;
        watch.late = watch.late.max(watch.begun.elapsed().saturating_sub(*at));
        say(format!("{:>8.1} s  {action}", watch.begun.elapsed().as_secs_f64()));
        if let Err(error) = record.perform(stage, action).await {
            say(format!("{:>8.1} s    could not: {error}", watch.begun.elapsed().as_secs_f64()));
            record.troubles.push(format!("{action}: {error}"));
        }
        if *action == Action::Kill {
            watch.started = watch.begun.elapsed();
        }
        if let Some(status) = stage.control_plane.ended()? {
            return Err(format!("the control plane ended by itself: {status}").into());
        }
    }
    Ok(())
}

/// Until a moment of the plan, memory is read.
async fn wait(watch: &mut Watch, sampled: &mut Interval, pid: u32, until: Duration) {
    let end = sleep_until((watch.begun + until).into());
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => return,
            _ = sampled.tick() => watch.sample(pid),
        }
    }
}

/// Asks the oracle until it finds nothing, or the time is over.
async fn judge(stage: &Stage, record: &Record, idle: Open, terms: Terms, watch: &Watch) -> Result<Outcome> {
    let mut journal = Journal::default();
    let mut seen: Option<Observed> = None;
    let mut found: Vec<Finding> = Vec::new();
    let from = Instant::now();
    let mut pace = interval(LOOKED);
    let settled = within(SETTLED, "the oracle finds nothing", async || {
        pace.tick().await;
        let now = observe(stage, &mut journal, record, idle).await.map_err(|error| error.to_string())?;
        found = findings(&now);
        seen = Some(now);
        if found.is_empty() { Ok(()) } else { Err(format!("{} findings", found.len())) }
    })
    .await;
    let seen = seen.ok_or_else(|| settled.err().map_or_else(String::new, |error| error.to_string()))?;
    say(format!("settled, or not, within {:.1} s", from.elapsed().as_secs_f64()));
    for of_rule in found.chunk_by(|one, next| one.rule == next.rule) {
        of_rule.iter().take(SHOWN).for_each(|one| say(format!("FINDING {one}")));
        if let Some(more) = of_rule.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            say(format!("and {more} more of this rule"));
        }
    }
    let (lines, isolated) = isolation(&latencies(&seen, &record.probes, &record.spells, &record.down));
    lines.iter().for_each(say);
    let slope = Slope::of(&after_warming_up(&watch.samples, watch.started));
    let (memory, grows) = judged_memory(slope, terms.length);
    let parts: usize = seen.runs.iter().map(|run| run.entries.len()).sum();
    let busy = if watch.late > LATE {
        format!(
            "; THE MACHINE WAS TOO BUSY: actions came up to {} s late, findings may be its fault",
            watch.late.as_secs()
        )
    } else {
        String::new()
    };
    let summary = format!(
        "{} min, seed {}, {} data planes, {} runs over {parts} datacenters, {} objects made, {} faults, {} starts of the \
         control plane, {} actions refused; {isolated}; {memory}{busy}",
        terms.length.as_secs() / 60,
        terms.seed,
        terms.planes,
        seen.runs.len(),
        seen.made.len(),
        record.spells.len(),
        record.starts,
        record.troubles.len(),
    );
    Ok(Outcome { findings: found.len() + usize::from(grows), summary })
}
