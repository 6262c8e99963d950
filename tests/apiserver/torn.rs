//! A front that breaks connections off, cuts answers short or packs them: no more than its own data plane is held up, and
//! that one only while nothing whole comes.

use std::sync::atomic::{AtomicUsize, Ordering};

use medusa_fleet::api::{fleet::Phase, medusa::MedusaBackupJob};
use serde_json::{Value, json};

use crate::{
    front::Front,
    support::{
        BackupFinisher, CASS, ControlPlane, Fleet, backup_job, datacenter, eventually, token, with_token,
    },
};

/// Requests so far.
static ASKED: AtomicUsize = AtomicUsize::new(0);

/// Every third request is not answered, or by the beginning of an answer, in turn.
fn torn(_: &str, _: &str) -> Option<String> {
    match ASKED.fetch_add(1, Ordering::SeqCst) % 6 {
        2 => Some(String::new()),
        5 => Some(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{\"kind\":"
                .to_owned(),
        ),
        _ => None,
    }
}

/// An answer that is packed: what is in it would be unpacked to any size.
const PACKED: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n\
    Content-Length: 9\r\nConnection: close\r\n\r\n{packed}\n";

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_torn_or_packed_cost_their_own_data_plane_alone_and_nothing_twice() {
    let fleet = Fleet::start(2).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    let token = token(there, "fronted").await;
    let mut file: Value = serde_json::from_str(&with_token(there, &token)).unwrap();
    let server = file["clusters"][0]["cluster"]["server"].as_str().unwrap().to_owned();
    let front = Front::start(there, &server).await;
    file["clusters"][0]["cluster"]["server"] = json!(front.server);
    fleet.register_as("dp-1", "kubeconfig", &file.to_string()).await;
    fleet.register(2).await;
    for (number, dc) in [(1, "dc1"), (2, "dc2")] {
        fleet.expect_data_plane(&format!("dp-{number}"), "Ready", "True", "Ready").await;
        fleet.dp(number).create(datacenter(dc, "shop", 1)).await;
    }
    fleet.expect_size("shop", 2).await;
    let _finishers = [BackupFinisher::start(there), BackupFinisher::start(fleet.dp(2))];

    front.answer(torn);
    let mut runs = 0;
    while front.answered() < 4 {
        runs += 1;
        let name = format!("torn-{runs}");
        home.create(backup_job(&name, json!({"clusters": ["shop"]}))).await;
        let status = fleet.expect_phase(&name, Phase::Succeeded).await.status.unwrap();
        assert!(status.datacenters.iter().any(|entry| entry.datacenter == "dc1"), "{status:?}");
    }
    let jobs = there.list::<MedusaBackupJob>(CASS).await;
    assert_eq!(jobs.len(), runs, "a write that was not answered was made again");

    front.answer(|_, _| Some(PACKED.to_owned()));
    let said = fleet.expect_data_plane("dp-1", "Reachable", "False", "NotKubernetes").await;
    eventually("it says what came", async || {
        let said = fleet.expect_data_plane("dp-1", "Reachable", "False", "NotKubernetes").await;
        if said.contains("a compressed body, which was not asked for") { Ok(()) } else { Err(said) }
    })
    .await;
    assert!(!said.contains("{packed}"), "{said}");
    home.create(backup_job("others", json!({"dataPlanes": ["dp-2"]}))).await;
    fleet.expect_phase("others", Phase::Succeeded).await;
    front.answer(|_, _| None);
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;
    controller.assert_running();
}
