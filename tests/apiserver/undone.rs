//! Copies, ConfigMaps and schedules of ours that somebody puts back, or deletes, each time they were written: who does so is named
//! at the second time, and met with growing pauses.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use medusa_fleet::api::{
    fleet::{FleetBackupSchedule, FleetCluster},
    k8ssandra::K8ssandraCluster,
    medusa::{MedusaBackupSchedule, MedusaConfiguration},
};
use serde_json::{Value, json};

use crate::{
    deployment_steps::{bare, bucket, expect_condition, k8ssandra, medusa_in, settle},
    schedules::delegated::delegated,
    support::{
        CASS, ControlPlane, FLEET, Fleet, assert_unseen, condition, configuration, datacenter, eventually,
        like, secret,
    },
};

/// How often in a row something is taken back.
const ROUNDS: usize = 5;
/// Label that says that a copy is ours.
const LABEL: &str = "fleet.k8ssandra.io/control-plane";

fn argo() -> PatchParams {
    PatchParams { field_manager: Some("argocd-controller".to_owned()), ..PatchParams::default() }
}

/// Takes back what is written, as often as [`ROUNDS`] says, each time as soon as `is_ours` answers `Ok`. Returns how long
/// each of our writes but the first took to come.
async fn take_back(
    what: &str,
    mut is_ours: impl AsyncFnMut() -> Result<(), String>,
    mut undo: impl AsyncFnMut(),
) -> Vec<Duration> {
    let (mut pauses, mut last) = (Vec::new(), None::<Instant>);
    for round in 0..=ROUNDS {
        eventually(format!("{what} is written, round {round}"), &mut is_ours).await;
        pauses.extend(last.map(|last| last.elapsed()));
        if round < ROUNDS {
            undo().await;
            last = Some(Instant::now());
        }
    }
    pauses
}

/// The first time may be an accident; then each pause is about twice as long as the one before.
fn assert_growing(what: &str, pauses: &[Duration]) {
    for (round, least) in [(2, 500), (3, 2500), (4, 6500)] {
        assert!(pauses[round] >= Duration::from_millis(least), "{what}: {pauses:?}");
    }
}

fn data(secret: &Secret, key: &str) -> Option<String> {
    let bytes = secret.data.as_ref()?.get(key)?;
    String::from_utf8(bytes.0.clone()).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_copies_back_again_and_again_is_named_and_met_with_growing_pauses() {
    let fleet = Fleet::start(2).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    let before = there.writes("secrets").await.get("APPLY").copied().unwrap_or_default();
    for name in ["bucket", "label"] {
        home.create(secret(FLEET, name, &[("credentials", "canary-ours")])).await;
    }
    home.create(configuration("shared", "bucket", Some("dp-1/cass dp-2/cass"))).await;
    home.create(configuration("other", "label", Some("dp-1/cass"))).await;

    let secrets: Api<Secret> = there.api(CASS);
    let configurations: Api<MedusaConfiguration> = there.api(CASS);
    let holds = async |name: &str| {
        let found = there.find::<Secret>(CASS, name).await.ok_or("it is not there")?;
        let labelled = found.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(LABEL));
        match (data(&found, "credentials").as_deref(), labelled) {
            (Some("canary-ours"), true) => Ok(()),
            _ => Err("it is not as it should be".to_owned()),
        }
    };
    let patch = async |name: &str, patch: Value| {
        secrets.patch(name, &argo(), &Patch::Merge(patch)).await.expect("take back a Secret");
    };
    let (content, label, deleted) = tokio::join!(
        take_back(
            "the content",
            async || holds("bucket").await,
            async || {
                patch("bucket", json!({"stringData": {"credentials": "canary-git"}})).await;
            }
        ),
        take_back(
            "the label",
            async || holds("label").await,
            async || {
                patch("label", json!({"metadata": {"labels": {LABEL: null}}})).await;
            }
        ),
        take_back(
            "the configuration",
            async || {
                let found = there.find::<MedusaConfiguration>(CASS, "shared").await;
                found.map(drop).ok_or("it is not there".to_owned())
            },
            async || {
                configurations.delete("shared", &DeleteParams::default()).await.expect("delete a copy");
            }
        ),
    );
    for (what, pauses) in [("content", &content), ("label", &label), ("deleted", &deleted)] {
        assert_growing(what, pauses);
    }
    let applied = there.writes("secrets").await.get("APPLY").copied().unwrap_or_default() - before;
    // The label is missed when an apply that may only create is refused, once.
    let expected = 2 * (1 + ROUNDS as u64);
    assert!((expected..=expected + ROUNDS as u64).contains(&applied), "{applied} writes of two Secrets");

    // All is in place by now, and it is still said: it has not stood yet.
    let said = fleet.expect_replicated("shared", "False", "Conflict").await;
    for word in [
        "Secret cass/bucket: `argocd-controller` takes back `.data`",
        "MedusaConfiguration cass/shared: somebody",
    ] {
        assert!(said.contains(word), "{said}");
    }
    assert!(said.contains(&format!("{ROUNDS} times in a row")) && !said.contains("dp-2"), "{said}");
    let said = fleet.expect_replicated("other", "False", "Conflict").await;
    assert!(said.contains("Secret cass/label: somebody takes it back"), "{said}");
    for name in ["shared", "other"] {
        home.event("MedusaConfiguration", name, "Conflict").await;
    }

    // Another content is another matter: it is written at once, and nobody took that back.
    let rotate = json!({"stringData": {"credentials": "canary-new"}});
    for name in ["bucket", "label"] {
        home.patch::<Secret>(FLEET, name, rotate.clone()).await;
    }
    let moved = json!({"spec": {"storageProperties": {"bucketName": "moved"}}});
    home.patch::<MedusaConfiguration>(FLEET, "shared", moved).await;
    for name in ["shared", "other"] {
        fleet.expect_replicated(name, "True", "Replicated").await;
    }
    controller.assert_running();
    assert_unseen(&fleet, &controller, &["canary-ours", "canary-git", "canary-new"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_the_config_map_back_again_and_again_is_named_and_the_deployment_stays() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    home.create(bucket()).await;
    there.create(bare("dc1", "shop")).await;
    settle(there, "dc1").await;
    home.create(k8ssandra("shop", &[("dc1", "dp-1")], json!({}))).await;
    medusa_in(there, "dc1").await;
    settle(there, "dc1").await;
    let ours: ConfigMap = there.get(CASS, "shop-medusa").await;
    let git: BTreeMap<String, String> =
        ours.data.clone().unwrap_or_default().into_keys().map(|key| (key, "of Git".to_owned())).collect();

    let maps: Api<ConfigMap> = there.api(CASS);
    let pauses = take_back(
        "the ConfigMap",
        async || {
            let found = there.get::<ConfigMap>(CASS, "shop-medusa").await;
            like(found.data, |data| *data == ours.data).map(drop)
        },
        async || {
            let patch = Patch::Merge(json!({"data": git}));
            maps.patch("shop-medusa", &argo(), &patch).await.expect("take back a ConfigMap");
        },
    )
    .await;
    assert_growing("ConfigMap", &pauses);
    let (reason, said) = expect_condition(&fleet, "shop", "Conflict", "True").await;
    assert_eq!(reason, "Conflict");
    for word in ["dp-1/cass/dc1: ", "ConfigMap cass/shop-medusa: `argocd-controller` takes back `.data`"] {
        assert!(said.contains(word), "{said}");
    }
    let note = home.event("K8ssandraCluster", "shop", "Conflict").await;
    assert!(note.contains("`argocd-controller`"), "{note}");
    medusa_in(there, "dc1").await;

    let moved = json!({"spec": {"medusa": {"storageProperties": {"bucketName": "moved"}}}});
    home.patch::<K8ssandraCluster>(FLEET, "shop", moved).await;
    eventually("the conflict is over", async || {
        settle(there, "dc1").await;
        let found: FleetCluster = home.get(FLEET, &format!("shop.{FLEET}")).await;
        let seen = condition(&found.status.unwrap_or_default().conditions, "Conflict");
        if seen.0.is_empty() { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_delegated_schedules_back_again_and_again_is_named_and_the_others_stay() {
    let fleet = Fleet::start(2).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    for number in 1..=2 {
        fleet.dp(number).create(datacenter(&format!("dc{number}"), "shop", 1)).await;
    }
    home.create(delegated("nightly", json!({}))).await;
    let schedules: Api<MedusaBackupSchedule> = there.api(CASS);
    let is_ours = async || {
        let found = there.list::<MedusaBackupSchedule>(CASS).await;
        match found.first() {
            Some(found) if found.spec.cron_schedule == "0 2 * * *" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    };
    let undo = async || {
        let name =
            there.list::<MedusaBackupSchedule>(CASS).await[0].metadata.name.clone().unwrap_or_default();
        let patch = Patch::Merge(json!({"spec": {"cronSchedule": "0 9 * * *"}}));
        schedules.patch(&name, &argo(), &patch).await.expect("take back a schedule");
    };
    let pauses = take_back("the schedule", is_ours, undo).await;
    assert_growing("MedusaBackupSchedule", &pauses);
    let ready = async |reason: &str| {
        eventually(format!("Ready says {reason}"), async || {
            let status = home.get::<FleetBackupSchedule>(FLEET, "nightly").await.status.unwrap_or_default();
            let (_, found, message) = condition(&status.conditions, "Ready");
            if found == reason { Ok(message) } else { Err(format!("{status:?}")) }
        })
        .await
    };
    let said = ready("Conflict").await;
    for word in ["dp-1/cass/nightly-dc1-", "`argocd-controller` takes back `.spec`"] {
        assert!(said.contains(word), "{said}");
    }
    assert!(!said.contains("dp-2"), "{said}");
    home.event("FleetBackupSchedule", "nightly", "Conflict").await;
    assert_eq!(fleet.dp(2).writes("medusabackupschedules").await.get("APPLY"), Some(&1));
    let applied = there.writes("medusabackupschedules").await.get("APPLY").copied().unwrap_or_default();
    assert_eq!(applied, 1 + ROUNDS as u64, "each was written once");

    let other = json!({"spec": {"schedule": "0 4 * * *"}});
    home.patch::<FleetBackupSchedule>(FLEET, "nightly", other).await;
    ready("Scheduled").await;
    controller.assert_running();
}
