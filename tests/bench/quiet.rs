//! What the control plane needs while nothing happens: memory, connections, requests.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;

use crate::{
    clusters::{IN_FLIGHT, Requests, connect},
    harness::{Cluster, Result},
    objects::unrelated,
    registered_fleet::{BenchClusters, RegisteredFleet},
    report::{Report, Row},
    support::{pause, processor_time, sockets},
};

/// How long the control plane is left alone before its memory is read, in milliseconds.
const LEFT_ALONE: u64 = 20_000;
/// Unrelated Secrets per cluster.
const UNRELATED: usize = 2_000;
/// Where they are.
const ELSEWHERE: &str = "elsewhere";

/// Memory of a control plane that was just started and left alone.
pub async fn idle(fleet: &RegisteredFleet, report: &mut Report) -> Result<()> {
    pause(LEFT_ALONE).await;
    let planes = fleet.planes.len();
    let process = fleet.process()?;
    let peer = match planes {
        5 => "55",
        10 => "63",
        20 => "92–102",
        _ => "",
    };
    report.add(
        Row::new("memory, idle (VmRSS)", planes, fleet.delay, "MiB")
            .ours(&[process.memory("VmRSS")?])
            .peer(peer)
            .note(format!(
                "anonymous {:.1}, at most {:.1} so far, {} sockets",
                process.memory("RssAnon")?,
                process.memory("VmHWM")?,
                sockets(process.pid())?
            )),
    );
    Ok(())
}

/// Requests of a minute in which nothing happens, and the processor time it takes.
pub async fn minute(fleet: &RegisteredFleet, baseline: &str, report: &mut Report) -> Result<()> {
    let planes = fleet.planes.len();
    let pid = fleet.process()?.pid();
    let (before, used) = (fleet.requests().await?, processor_time(pid)?);
    pause(60_000).await;
    let (after, total) = (fleet.requests().await?, processor_time(pid)?);
    let (home, there) = (after.0.since(&before.0), after.1.since(&before.1));
    // What every API server asks itself.
    let own = |what: &str| what.contains("leases") || what.contains("/healthz") || what.contains("/readyz");
    let probes = there.sum(|what| what == "GET namespaces" || what == "GET /version");
    let renewals = there.sum(|what| what.starts_with("WATCH "));
    let rest = there.sum(|what| {
        !own(what) && what != "GET namespaces" && what != "GET /version" && !what.starts_with("WATCH ")
    });
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let each = |count: f64| count / planes as f64;
    let row = |what: &str| Row::new(what, planes, fleet.delay, "requests");
    report.add(
        row("quiet minute: polling, per data plane")
            .ours(&[each(rest)])
            .note("everything but probes, renewed watches, and API servers' own"),
    );
    report.add(
        row("quiet minute: probes, per data plane")
            .ours(&[each(probes)])
            .note("every 10 s: kube-system's uid and the version"),
    );
    report.add(
        row("quiet minute: renewed watches, per data plane")
            .ours(&[each(renewals)])
            .note("five watches of 120 s each, and this program's own five"),
    );
    report.add(
        Row::new("quiet minute: processor", planes, fleet.delay, "% of a core")
            .ours(&[(total - used) / 60.0 * 100.0])
            .peer(if planes == 10 { "0.11" } else { "" }),
    );
    report.remarks.push(format!(
        "Requests of a quiet minute, {planes} data planes:\n  control plane: {}\n  data planes: {}\n  \
         one API server by itself, before any control plane ran, 20 s: {baseline}",
        home.line(),
        there.line()
    ));
    Ok(())
}

/// What an API server that nobody uses counts in 20 s.
pub async fn baseline(clusters: &BenchClusters) -> Result<String> {
    let cluster = clusters.plane(1)?;
    let before = Requests::of(&cluster).await?;
    pause(20_000).await;
    Ok(Requests::of(&cluster).await?.since(&before).line())
}

/// Memory after 2,000 unrelated Secrets of 5 KB have come into every cluster, and after a restart.
pub async fn unrelated_secrets(
    clusters: &BenchClusters,
    fleet: &mut RegisteredFleet,
    report: &mut Report,
) -> Result<()> {
    let planes = fleet.planes.len();
    fleet.restart().await?;
    pause(LEFT_ALONE).await;
    let before = fleet.process()?.memory("VmRSS")?;
    let mut all = vec![clusters.home()?];
    for number in 1..=planes {
        // A client of its own, whose connections end with it.
        let Cluster { name, kubeconfig, .. } = clusters.plane(number)?;
        all.push(connect(name, kubeconfig).await?);
    }
    for cluster in all {
        cluster.namespace(ELSEWHERE).await?;
        let api = &cluster.api::<Secret>(ELSEWHERE);
        stream::iter(0..UNRELATED)
            .map(|number| async move {
                let secret: Secret = serde_json::from_value(unrelated(number))?;
                api.create(&PostParams::default(), &secret).await?;
                Ok::<_, crate::harness::Failure>(())
            })
            .buffer_unordered(IN_FLIGHT)
            .try_collect::<Vec<()>>()
            .await?;
    }
    pause(LEFT_ALONE).await;
    let delay = fleet.delay;
    let row = |what: &str| Row::new(what, planes, delay, "MiB");
    let process = fleet.process()?;
    let after = row("memory, 2,000 unrelated secrets per cluster")
        .ours(&[process.memory("VmRSS")?])
        .note(format!(
            "before: {before:.1}; at most {:.1}; the control plane's cluster has 2,000 too",
            process.memory("VmHWM")?
        ))
        .peer("551 (20 planes)");
    report.add(after);
    fleet.restart().await?;
    pause(LEFT_ALONE).await;
    let process = fleet.process()?;
    report.add(
        row("memory, the same after a restart")
            .ours(&[process.memory("VmRSS")?])
            .note(format!("at most {:.1}", process.memory("VmHWM")?)),
    );
    Ok(())
}
