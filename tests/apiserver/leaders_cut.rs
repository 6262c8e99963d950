//! Candidates that start in the same moment, a leader that no longer reaches its own API server, and what `/readyz` and
//! `/livez` say meanwhile.

use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::{coordination::v1::Lease, core::v1::Secret};
use medusa_fleet::api::medusa::MedusaConfiguration;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::{
    leaders::Replica,
    support::{CASS, ControlPlane, FLEET, Fleet, answer_of, configuration, eventually, rights, secret},
};

const LEASE: &str = "medusa-fleet-control-plane";

async fn lease(fleet: &Fleet) -> Option<Lease> {
    fleet.home().find::<Lease>(FLEET, LEASE).await
}

/// A way to the control plane's cluster that can be cut: what was connected hangs from then on, and so does what
/// connects.
struct Way {
    kubeconfig: PathBuf,
    cut: Arc<watch::Sender<bool>>,
}

impl Way {
    async fn to_home(fleet: &Fleet) -> Self {
        let text = fs::read_to_string(rights::kubeconfig_file(fleet.home())).unwrap();
        let (before, rest) = text.split_once("https://").unwrap();
        let end =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || ".:-".contains(c))).unwrap_or(rest.len());
        let (server, after) = rest.split_at(end);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let kubeconfig = fleet.dir().join("cut.kubeconfig");
        fs::write(&kubeconfig, format!("{before}https://{address}{after}")).unwrap();
        let cut = Arc::new(watch::Sender::new(false));
        let (is_cut, server) = (cut.clone(), server.to_owned());
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let (mut is_cut, server) = (is_cut.subscribe(), server.clone());
                tokio::spawn(async move {
                    let pump = async {
                        let mut to = TcpStream::connect(&server).await?;
                        copy_bidirectional(&mut from, &mut to).await
                    };
                    let hang = async {
                        let _ = is_cut.wait_for(|cut| *cut).await;
                    };
                    let cut = tokio::select! {
                        biased;
                        () = hang => true,
                        _ = pump => false,
                    };
                    if cut {
                        std::future::pending::<()>().await; // Nothing is forwarded, nothing is closed.
                    }
                });
            }
        });
        Self { kubeconfig, cut }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_replicas_that_start_in_the_same_moment_one_leads() {
    let fleet = Fleet::start(0).await;
    for round in 0..4 {
        // Every other round there is no Lease; else one that the last leader gave back.
        if round % 2 == 0 && lease(&fleet).await.is_some() {
            fleet.home().delete::<Lease>(FLEET, LEASE).await;
            fleet.home().disappears::<Lease>(FLEET, LEASE).await;
        }
        let mut replicas: Vec<Replica> =
            (0..3).map(|number| Replica::start(&fleet, &format!("round-{round}-{number}"))).collect();
        eventually("one leads", async || replicas.iter().any(Replica::is_leader).then_some(()).ok_or("none"))
            .await;
        // For as long as it takes the leader to renew twice and the others to look as often.
        let transitions = |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.lease_transitions);
        let renewed = |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.renew_time.clone());
        let first = lease(&fleet).await.unwrap();
        let mut times = vec![renewed(&first)];
        eventually("it renews", async || {
            let leaders = replicas.iter().filter(|replica| replica.is_leader()).count();
            assert_eq!(leaders, 1, "round {round}");
            let now = lease(&fleet).await.unwrap();
            assert_eq!(transitions(&now), transitions(&first), "it changed fake_clock");
            if !times.contains(&renewed(&now)) {
                times.push(renewed(&now));
            }
            if times.len() > 3 { Ok(()) } else { Err(format!("{times:?}")) }
        })
        .await;
        // Those that wait are ready too.
        eventually("all are ready", async || {
            let ready = |replica: &Replica| {
                replica.answer("/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
            };
            if replicas.iter().all(ready) { Ok(()) } else { Err("one is not") }
        })
        .await;
        // The leader leaves: the next leads long before its Lease would have run out.
        let at = replicas.iter().position(Replica::is_leader).unwrap();
        let mut leader = replicas.remove(at);
        leader.program.signal("TERM").unwrap();
        let ended = leader.ends().await;
        assert!(ended.success(), "{ended}: {}", leader.log());
        let since = Instant::now();
        eventually("another leads", async || {
            replicas.iter().any(Replica::is_leader).then_some(()).ok_or("none")
        })
        .await;
        assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
        // Those that wait leave first, so that none takes over.
        replicas.sort_by_key(Replica::is_leader);
        for mut replica in replicas {
            replica.program.signal("TERM").unwrap();
            assert!(replica.ends().await.success());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_from_home_has_stopped_when_another_leads() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let way = Way::to_home(&fleet).await;
    let mut first = Replica::start_by(&fleet, "cut-off", &way.kubeconfig);
    first.says(" leading").await;
    let second = Replica::start(&fleet, "next");
    second.says("waiting to lead").await;
    fleet.register_all().await;
    home.create(secret(FLEET, "bucket", &[("credentials", "one")])).await;
    home.create(configuration("before", "bucket", Some("dp-1/cass"))).await;
    there.appears::<MedusaConfiguration>(CASS, "before").await;
    there.appears::<Secret>(CASS, "bucket").await;

    // It still reaches the data plane, and sees nothing of what changes at home.
    way.cut.send_replace(true);
    eventually("another leads", async || if second.is_leader() { Ok(()) } else { Err(first.log()) }).await;
    assert!(!first.is_leader(), "two lead");
    let before = there.writes("medusaconfigurations").await.values().sum::<u64>();
    home.create(secret(FLEET, "other", &[("credentials", "two")])).await;
    home.create(configuration("after", "other", Some("dp-1/cass"))).await;
    there.appears::<MedusaConfiguration>(CASS, "after").await;
    let ended = first.ends().await;
    assert!(!ended.success() && first.log().contains("leadership was lost"), "{ended}: {}", first.log());
    // One write for one copy: nobody took it away, or made it a second time.
    let copy: MedusaConfiguration = there.get(CASS, "after").await;
    assert_eq!(there.writes("medusaconfigurations").await.values().sum::<u64>(), before + 1, "{copy:?}");
    assert!(second.is_leader());
}

#[tokio::test(flavor = "multi_thread")]
async fn readyz_says_when_home_is_silent_and_livez_never_blames_the_controller_for_it() {
    let fleet = Fleet::start(1).await;
    let controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    controller.ready(0).await;
    let log = controller.log();
    let address = log.rsplit_once("bound=").unwrap().1.split_whitespace().next().unwrap().to_owned();
    let ask = |path: &str| answer_of(&address, "GET", path, "").unwrap();
    let lives = |when: &str| {
        let answer = ask("/livez");
        assert!(answer.starts_with("HTTP/1.1 200"), "{when}: {answer}");
    };

    // A silent data plane is that data plane's matter.
    fleet.pause("dp-1");
    fleet.expect_data_plane("dp-1", "Reachable", "False", "TimedOut").await;
    lives("a data plane is silent");
    let answer = ask("/readyz");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    fleet.resume("dp-1");

    fleet.pause("control-plane");
    let says = eventually("it is not ready", async || {
        lives("home is silent");
        let answer = ask("/readyz");
        if answer.starts_with("HTTP/1.1 503") { Ok(answer) } else { Err(answer) }
    })
    .await;
    assert!(says.contains("has not answered for"), "{says}");
    fleet.resume("control-plane");
    eventually("it is ready again", async || {
        let answer = ask("/readyz");
        if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(answer) }
    })
    .await;
}
