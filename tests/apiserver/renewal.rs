//! Tokens that the control plane renews by itself, on a clock that the test turns.

use std::{collections::BTreeSet, thread::JoinHandle, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Secret, ServiceAccount},
    rbac::v1::Role,
};
use kube::{Api, Client, Config, ResourceExt as _, api::PostParams};
use medusa_fleet::{
    api::fleet::{CredentialStatus, DataPlane},
    control_plane::{self, deployment::pod::image::Image},
    runtime::{
        client::{self, Timeouts},
        clock,
    },
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::{
    ControlPlane, FLEET, Fleet, assert_unseen, client as client_of, condition,
    credentials::objects_of,
    eventually,
    fake_clock::FakeClock,
    gate::{Gate, Stop},
    harness::connection,
    medusa_fleet,
    rights::{self, ACCOUNT},
};

/// The control plane in a thread of this process, by a clock of the test's. It ends where it stands when it is dropped.
struct ClockedControlPlane {
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl ClockedControlPlane {
    fn start(fleet: &Fleet, fake_clock: &FakeClock) -> Self {
        Self::start_with(fleet, fake_clock, |connection| client::connect(connection, Timeouts::HOME).unwrap())
    }

    /// One whose writes at home stop at the gate.
    fn start_behind(gate: &Gate, fleet: &Fleet, fake_clock: &FakeClock) -> Self {
        let gate = gate.clone();
        Self::start_with(fleet, fake_clock, move |connection| gate.client(connection))
    }

    fn start_with(
        fleet: &Fleet,
        fake_clock: &FakeClock,
        connect: impl FnOnce(Config) -> Client + Send + 'static,
    ) -> Self {
        let (file, clock) = (rights::kubeconfig(fleet.home()).to_string(), fake_clock.clock());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async move {
                let config = control_plane::Config {
                    client: connect(connection(&file).await.unwrap()),
                    namespace: FLEET.to_owned(),
                    metrics_addr: None,
                    leader_elect: false,
                    allow_unsafe: BTreeSet::new(),
                    client_configs_in: BTreeSet::new(),
                    sources_in: BTreeSet::new(),
                    local_in: BTreeSet::new(),
                    recovery_point_objective: Duration::from_hours(25),
                    medusa_image: Image::default(),
                    shards: 0,
                    fleet_name: None,
                    clock,
                };
                tokio::select! {
                    () = stopped.cancelled() => {}
                    ended = Box::pin(control_plane::run(config, CancellationToken::new())) => ended.unwrap(),
                }
            });
            runtime.shutdown_background();
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for ClockedControlPlane {
    fn drop(&mut self) {
        self.stop.cancel();
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

fn the_present() -> FakeClock {
    // What is written has whole seconds.
    FakeClock::at(Timestamp::from_second(clock::now().as_second()).unwrap())
}

/// Registers the first data plane with the command line.
fn register(fleet: &Fleet, more: &[&str]) {
    let file = fleet.dp(1).kubeconfig.display().to_string();
    let words = ["register", "dp-1", "--from-kubeconfig", &file, "--timeout", "90s"];
    let output = medusa_fleet(&fleet.home().kubeconfig, &[&words[..], more].concat());
    assert!(output.status.success(), "{output:?}");
}

/// The kubeconfig in the Secret, as text, and the token in it.
async fn held(fleet: &Fleet) -> (String, String) {
    let secret: Secret = fleet.home().get(FLEET, "dp-1").await;
    let text = String::from_utf8(secret.data.unwrap()["kubeconfig"].0.clone()).unwrap();
    let file: Value = serde_saphyr::from_str(&text).unwrap();
    (text, file["users"][0]["user"]["token"].as_str().unwrap().to_owned())
}

/// What a token says of itself.
fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

async fn credential(fleet: &Fleet) -> CredentialStatus {
    let plane: DataPlane = fleet.home().get(FLEET, "dp-1").await;
    plane.status.and_then(|status| status.credential).unwrap_or_default()
}

/// Since when every watch has caught up.
async fn synced_since(fleet: &Fleet) -> Timestamp {
    let plane: DataPlane = fleet.home().get(FLEET, "dp-1").await;
    let conditions = plane.status.unwrap().conditions;
    let synced = conditions.iter().find(|condition| condition.type_ == "Synced").unwrap();
    assert_eq!(synced.status, "True", "{synced:?}");
    synced.last_transition_time.0
}

/// Has the data plane looked at: nothing but the clock has changed.
async fn wake(fleet: &Fleet) {
    let annotations = json!({"example.com/woken": clock::now().to_string()});
    fleet.home().patch::<DataPlane>(FLEET, "dp-1", json!({"metadata": {"annotations": annotations}})).await;
}

/// Waits until the status says that the token was renewed at this time.
async fn renewed_at(fleet: &Fleet, at: Timestamp) -> CredentialStatus {
    eventually(format!("the token was renewed at {at}"), async || {
        let seen = credential(fleet).await;
        if seen.renewed_at.as_ref().is_some_and(|time| time.0 == at) {
            Ok(seen)
        } else {
            Err(format!("{seen:?}"))
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_an_hour_is_renewed_again_and_again_and_nothing_is_listed_anew() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let fake_clock = the_present();
    let control_plane = ClockedControlPlane::start(&fleet, &fake_clock);
    register(&fleet, &["--token-duration", "1h"]);
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;
    let first = credential(&fleet).await;
    assert!(first.renewed_at.is_none() && first.next_renewal_time.is_some(), "{first:?}");

    let kinds = ["cassandradatacenters", "medusabackups", "medusabackupjobs", "medusaconfigurations"];
    let lists = async || futures::future::join_all(kinds.map(|kind| there.lists(kind))).await;
    let (since, listed) = (synced_since(&fleet).await, lists().await);
    let (_, mut token) = held(&fleet).await;
    for round in 1..=3 {
        fake_clock.turn(50 * 60);
        let now = fake_clock.clock().now();
        wake(&fleet).await;
        let seen = renewed_at(&fleet, now).await;
        assert!(seen.next_renewal_time.unwrap().0 > now, "round {round}");
        let (text, next) = held(&fleet).await;
        assert_ne!(claims(&token)["jti"], claims(&next)["jti"], "round {round}");
        assert!(claims(&token)["exp"].as_i64() <= claims(&next)["exp"].as_i64(), "round {round}");
        assert_eq!(claims(&next)["sub"], format!("system:serviceaccount:{FLEET}:{ACCOUNT}"));
        client_of(&text).await.apiserver_version().await.unwrap();
        token = next;
    }
    home.event("DataPlane", "dp-1", "Renewed").await;
    fleet.expect_data_plane("dp-1", "Authenticated", "True", "CredentialAccepted").await;
    assert_eq!(synced_since(&fleet).await, since, "there was a gap");
    assert_eq!(lists().await, listed, "it was listed again");

    let now = credential(&fleet).await;
    assert!(now.hash.is_some() && now.hash != first.hash, "the new kubeconfig is the one in use: {now:?}");

    // It begins anew, and the token is still young.
    drop(control_plane);
    // Longer than the pause in which it is not written that a data plane answers.
    fake_clock.turn(25 * 60);
    let _control_plane = ClockedControlPlane::start(&fleet, &fake_clock);
    let at = fake_clock.clock().now();
    eventually("it is looked at again", async || {
        let plane: DataPlane = home.get(FLEET, "dp-1").await;
        let contact = plane.status.and_then(|status| status.last_contact_time);
        if contact.as_ref().is_some_and(|time| time.0 >= at) { Ok(()) } else { Err(format!("{contact:?}")) }
    })
    .await;
    assert_eq!(held(&fleet).await.1, token, "it was renewed before its time");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_renew_one_token_each_leaves_one_that_works() {
    let fleet = Fleet::start(1).await;
    let fake_clock = the_present();
    let _both = [0, 1].map(|_| ClockedControlPlane::start(&fleet, &fake_clock));
    register(&fleet, &["--token-duration", "1h"]);
    let (_, mut old) = held(&fleet).await;
    for _ in 0..3 {
        fake_clock.turn(50 * 60);
        let now = fake_clock.clock().now();
        wake(&fleet).await;
        renewed_at(&fleet, now).await;
        let (text, new) = held(&fleet).await;
        assert_ne!(old, new);
        client_of(&text).await.apiserver_version().await.unwrap();
        old = new;
    }
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_killed_around_the_write_of_a_token_leaves_one_that_works_and_goes_on() {
    let fleet = Fleet::start(1).await;
    let fake_clock = the_present();
    for (round, stop) in [Stop::Before(1), Stop::After(1)].into_iter().enumerate() {
        let gate = Gate::stopping(stop).only("/secrets/dp-1");
        let control_plane = ClockedControlPlane::start_behind(&gate, &fleet, &fake_clock);
        if round == 0 {
            register(&fleet, &["--token-duration", "1h"]);
        }
        let (_, before) = held(&fleet).await;
        fake_clock.turn(50 * 60);
        let now = fake_clock.clock().now();
        wake(&fleet).await;
        gate.reached().await;
        drop(control_plane);
        let (text, left) = held(&fleet).await;
        assert_eq!(left == before, round == 0, "{stop:?}");
        client_of(&text).await.apiserver_version().await.unwrap();

        let _control_plane = ClockedControlPlane::start(&fleet, &fake_clock);
        renewed_at(&fleet, now).await;
        fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;
        let (text, after) = held(&fleet).await;
        assert_eq!(left == after, round == 1, "{stop:?}: a token that was written is not renewed again");
        client_of(&text).await.apiserver_version().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_role_is_an_older_one_all_goes_on_and_what_to_apply_is_said() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let fake_clock = the_present();
    let _control_plane = ClockedControlPlane::start(&fleet, &fake_clock);
    register(&fleet, &["--token-duration", "1h"]);
    let (text, token) = held(&fleet).await;
    there.delete::<Role>(FLEET, ACCOUNT).await;
    let itself = client_of(&text).await;
    let may_renew = async || {
        let request = serde_json::from_value(json!({"spec": {"audiences": []}})).unwrap();
        let accounts: Api<ServiceAccount> = Api::namespaced(itself.clone(), FLEET);
        accounts.create_token_request(ACCOUNT, &PostParams::default(), &request).await.is_ok()
    };
    eventually(
        "the account may not renew its token",
        async || {
            if may_renew().await { Err("it may") } else { Ok(()) }
        },
    )
    .await;

    fake_clock.turn(50 * 60);
    wake(&fleet).await;
    let message = fleet.expect_data_plane("dp-1", "Authenticated", "True", "RenewalFailed").await;
    for part in ["serviceaccounts/token", ACCOUNT, FLEET, "data-plane-rbac.yaml", "register"] {
        assert!(message.contains(part), "{message}");
    }
    let note = home.event("DataPlane", "dp-1", "RenewalFailed").await;
    assert!(note.contains("data-plane-rbac.yaml"), "{note}");
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;
    assert_eq!(held(&fleet).await.1, token);

    for role in objects_of("kubeconfigs/data-plane-rbac.yaml", &["Role"]) {
        there.create(role).await;
    }
    eventually(
        "the account may renew its token",
        async || {
            if may_renew().await { Ok(()) } else { Err("it may not") }
        },
    )
    .await;
    fake_clock.turn(5 * 60);
    let now = fake_clock.clock().now();
    wake(&fleet).await;
    renewed_at(&fleet, now).await;
    fleet.expect_data_plane("dp-1", "Authenticated", "True", "CredentialAccepted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_rotated_by_the_control_plane_when_somebody_asks() {
    let fleet = Fleet::start(1).await;
    let home = fleet.home();
    let mut controller = ControlPlane::spawn(&fleet);
    register(&fleet, &[]);
    let (_, first) = held(&fleet).await;
    let rotate = |more: &[&str]| {
        let words = ["register", "dp-1", "--rotate", "--timeout", "90s"];
        medusa_fleet(&home.kubeconfig, &[&words[..], more].concat())
    };
    let output = rotate(&[]);
    assert!(output.status.success(), "{output:?}");
    let (_, second) = held(&fleet).await;
    assert_ne!(first, second);
    let secret: Secret = home.get(FLEET, "dp-1").await;
    let annotations = secret.annotations();
    assert!(!annotations.contains_key("fleet.k8ssandra.io/rotate"), "{annotations:?}");
    assert_eq!(annotations["fleet.k8ssandra.io/token-duration"], "31536000s");
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;

    // One that was made by hand is renewed once somebody says so.
    let by_hand = json!({"metadata": {"annotations": {"fleet.k8ssandra.io/token-duration": null}}});
    home.patch::<Secret>(FLEET, "dp-1", by_hand).await;
    let output = rotate(&[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--token-duration"), "{output:?}");
    let output = rotate(&["--token-duration", "2h"]);
    assert!(output.status.success(), "{output:?}");
    let (_, third) = held(&fleet).await;
    let life = |token: &str| claims(token)["exp"].as_i64().unwrap() - claims(token)["iat"].as_i64().unwrap();
    assert_eq!(life(&third), 7200);
    let plane: DataPlane = home.get(FLEET, "dp-1").await;
    let said = condition(&plane.status.unwrap().conditions, "Authenticated");
    assert_eq!((said.0.as_str(), said.1.as_str()), ("True", "CredentialAccepted"));
    controller.assert_running();
    assert_unseen(&fleet, &controller, &[first.as_str(), second.as_str(), third.as_str()]).await;
}
