//! One Secret rotated, a hundred Secrets made and rotated, and a data plane registered.

use std::time::Instant;

use futures::{
    StreamExt as _, TryStreamExt as _,
    future::{join_all, try_join_all},
    stream,
};
use k8s_openapi::api::core::v1::Secret;
use medusa_fleet::api::medusa::MedusaConfiguration;

use crate::{
    clusters::{IN_FLIGHT, apply, apply_all, clear, is_write},
    harness::Result,
    objects::{SHOP, SOURCES, bare_configuration, bare_secret, bucket_secret, configuration},
    recorder::Place,
    registered_fleet::RegisteredFleet,
    report::{Report, Row},
    support::pause,
};

/// Between two runs, so that what the last one set off has ended.
const SETTLE: u64 = 900;
/// Secrets of the big measurement, and the data planes they go to.
const MANY: (usize, usize) = (100, 5);

/// Milliseconds from the write of a source Secret until its new content is in all data planes; beside it
/// a bare client that patches as many Secrets in the same data planes at once.
pub async fn rotation(fleet: &mut RegisteredFleet, runs: usize, report: &mut Report) -> Result<()> {
    let planes = fleet.planes.len();
    let (source, bare) = ("rotated", "rotated-bare");
    apply(&fleet.home, SOURCES, &bucket_secret(source, "first")).await?;
    apply(&fleet.home, SOURCES, &configuration(source, &fleet.targets(planes))).await?;
    patch_everywhere(fleet, bare, "first").await?;
    fleet.recorder.until_marked(fleet.everywhere("Secret", source), "first").await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // The first run of each is not counted: connections are made.
    for run in 0..=runs {
        let marker = format!("run-{run}");
        pause(SETTLE).await;
        let start = Instant::now();
        apply(&fleet.home, SOURCES, &bucket_secret(source, &marker)).await?;
        let end = fleet.recorder.until_marked(fleet.everywhere("Secret", source), &marker).await?;
        let seconds = (end - start).as_secs_f64();
        pause(SETTLE).await;
        let start = Instant::now();
        patch_everywhere(fleet, bare, &marker).await?;
        let end = fleet.recorder.until_marked(fleet.everywhere("Secret", bare), &marker).await?;
        if run > 0 {
            ours.push(seconds * 1000.0);
            theirs.push((end - start).as_secs_f64() * 1000.0);
        }
    }
    let peer = match (planes, fleet.delay) {
        (5, 0) => "35 (20–43)",
        (10, 0) => "50 (36–67)",
        (20, 0) => "97 (83–120)",
        _ => "one after the other: planes × delay more (inferred)",
    };
    report.add(
        Row::new("rotation of one secret", planes, fleet.delay, "ms").ours(&ours).bare(&theirs).peer(peer),
    );
    if fleet.delay == 0 {
        let before = fleet.requests().await?;
        apply(&fleet.home, SOURCES, &bucket_secret(source, "counted")).await?;
        fleet.recorder.until_marked(fleet.everywhere("Secret", source), "counted").await?;
        pause(2000).await;
        let after = fleet.requests().await?;
        let (home, there) = (after.0.since(&before.0), after.1.since(&before.1));
        let about = |what: &str| what.contains("secrets") || what.contains("medusaconfigurations");
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let copies = planes as f64;
        report.add(
            Row::new("rotation: writes per copy", planes, 0, "requests")
                .ours(&[there.sum(|w| about(w) && is_write(w)) / copies])
                .peer("1 (N + 3 altogether)")
                .note(format!(
                    "reads of secrets in data planes: {:.0}",
                    there.sum(|w| about(w) && !is_write(w) && !w.starts_with("WATCH"))
                )),
        );
        report.remarks.push(format!(
            "Requests of one rotation, {planes} data planes, 2 s (one APPLY of secrets in the control plane is \
             this program's own):\n  control plane: {}\n  data planes: {}",
            home.line(),
            there.line()
        ));
    }
    Ok(())
}

/// Patches a Secret in all data planes at once.
async fn patch_everywhere(fleet: &RegisteredFleet, name: &str, marker: &str) -> Result<()> {
    let object = bare_secret(name, marker);
    try_join_all(fleet.planes.iter().map(|plane| apply(&plane.far, SHOP, &object))).await?;
    Ok(())
}

fn name(prefix: &str, number: usize) -> String {
    format!("{prefix}-{number:03}")
}

/// Seconds until 100 MedusaConfigurations, each with its Secret, are in five data planes, and until all
/// Secrets have been rotated there.
pub async fn many(fleet: &mut RegisteredFleet, runs: usize, report: &mut Report) -> Result<()> {
    let (count, planes) = (MANY.0, MANY.1.min(fleet.planes.len()));
    let (mut made, mut rotated) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for run in 0..runs {
        let ours = name(&format!("many-{run}"), 0).replace("-000", "");
        let secrets = places(planes, count, "Secret", &ours);
        let all: Vec<Place> =
            secrets.iter().cloned().chain(places(planes, count, "MedusaConfiguration", &ours)).collect();
        let targets = fleet.targets(planes);

        let start = Instant::now();
        let mut sources: Vec<_> = (0..count).map(|n| bucket_secret(&name(&ours, n), "made")).collect();
        sources.extend((0..count).map(|n| configuration(&name(&ours, n), &targets)));
        apply_all(&fleet.home, SOURCES, sources).await?;
        let end = fleet.recorder.until_there(all.clone()).await?;
        made.0.push((end - start).as_secs_f64());

        pause(2500).await;
        let start = Instant::now();
        let sources = (0..count).map(|n| bucket_secret(&name(&ours, n), "rotated")).collect();
        apply_all(&fleet.home, SOURCES, sources).await?;
        let end = fleet.recorder.until_marked(secrets, "rotated").await?;
        rotated.0.push((end - start).as_secs_f64());

        clear::<MedusaConfiguration>(&fleet.home, SOURCES, "").await?;
        clear::<Secret>(&fleet.home, SOURCES, "").await?;
        fleet.recorder.until_gone(all).await?;
        pause(2500).await;

        let bare = format!("bare-{run}");
        let secrets = places(planes, count, "Secret", &bare);
        let all: Vec<Place> =
            secrets.iter().cloned().chain(places(planes, count, "MedusaConfiguration", &bare)).collect();
        let start = Instant::now();
        let mut objects: Vec<_> = (0..count).map(|n| bare_secret(&name(&bare, n), "made")).collect();
        objects.extend((0..count).map(|n| bare_configuration(&name(&bare, n))));
        apply_in(fleet, planes, &objects).await?;
        let end = fleet.recorder.until_there(all).await?;
        made.1.push((end - start).as_secs_f64());
        pause(SETTLE).await;
        let start = Instant::now();
        let objects: Vec<_> = (0..count).map(|n| bare_secret(&name(&bare, n), "rotated")).collect();
        apply_in(fleet, planes, &objects).await?;
        let end = fleet.recorder.until_marked(secrets, "rotated").await?;
        rotated.1.push((end - start).as_secs_f64());
        let cleared = join_all(fleet.planes.iter().take(planes).map(|plane| async {
            clear::<MedusaConfiguration>(&plane.near, SHOP, crate::objects::BARE).await?;
            clear::<Secret>(&plane.near, SHOP, crate::objects::BARE).await
        }));
        cleared.await.into_iter().collect::<Result<Vec<()>>>()?;
    }
    let row = |what: &str| Row::new(what, planes, fleet.delay, "s");
    report.add(
        row("100 secrets into 5 data planes")
            .ours(&made.0)
            .bare(&made.1)
            .peer("78.9 (500 secrets)")
            .note("1,000 objects: each secret's MedusaConfiguration is copied too"),
    );
    report.add(row("100 secrets rotated in 5 data planes").ours(&rotated.0).bare(&rotated.1).peer("79.5"));
    Ok(())
}

fn places(planes: usize, count: usize, kind: &'static str, prefix: &str) -> Vec<Place> {
    (1..=planes).flat_map(|plane| (0..count).map(move |n| (plane, kind, name(prefix, n)))).collect()
}

/// Writes all objects into each of the first data planes, concurrently.
async fn apply_in(fleet: &RegisteredFleet, planes: usize, objects: &[serde_json::Value]) -> Result<()> {
    stream::iter(fleet.planes.iter().take(planes))
        .map(|plane| {
            stream::iter(objects)
                .map(|object| apply(&plane.far, SHOP, object))
                .buffer_unordered(IN_FLIGHT)
                .try_collect::<Vec<()>>()
        })
        .buffer_unordered(planes)
        .try_collect::<Vec<_>>()
        .await?;
    Ok(())
}

/// Milliseconds from a kubeconfig Secret to a data plane that is ready, and to the copy in it.
pub async fn registration(fleet: &mut RegisteredFleet, runs: usize, report: &mut Report) -> Result<()> {
    let planes = fleet.planes.len();
    let source = "registered";
    apply(&fleet.home, SOURCES, &bucket_secret(source, "first")).await?;
    apply(&fleet.home, SOURCES, &configuration(source, &fleet.targets(planes))).await?;
    fleet.recorder.until_there(fleet.everywhere("Secret", source)).await?;
    let (mut ready, mut copied) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let (to_ready, to_copy) = fleet.register_last(source).await?;
        ready.push(to_ready * 1000.0);
        copied.push(to_copy * 1000.0);
    }
    let peer = match (planes, fleet.delay) {
        (5, 0) => "400 (whole process restarts)",
        (10, 0) => "700–820 (whole process restarts)",
        (20, 0) => "940 (whole process restarts)",
        _ => "",
    };
    let row = |what: &str| Row::new(what, planes, fleet.delay, "ms");
    report.add(row("registration until Ready").ours(&ready));
    report.add(row("registration until the copy is there").ours(&copied).peer(peer));
    clear::<MedusaConfiguration>(&fleet.home, SOURCES, "").await?;
    clear::<Secret>(&fleet.home, SOURCES, "").await?;
    fleet.recorder.until_gone(fleet.everywhere("Secret", source)).await?;
    Ok(())
}
