//! What an API server says of a datacenter that its watch has not delivered counts.

use std::collections::BTreeSet;

use http::{Method, Request, Response};
use kube::{Client, client::Body};
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::control_plane::{identity::Identity, sources::SecretState};
use crate::{
    api::fleet::Limits,
    control_plane::{
        data_planes::{
            fleet::{Fleet, Snapshot},
            undone::WriteMemory,
            view::View,
        },
        deployment::{observe::Deployed, pod::image::Image, report::Reports, write},
        sources::{Sources, Standing},
    },
    runtime::{events::Events, reconciles::Reconciles},
};

/// A client of an API server that has no Secrets, and answers every other request with `code` and `body`.
fn answering(code: u16, body: Value) -> Client {
    let service = tower::service_fn(move |request: Request<Body>| {
        let is_secret = request.uri().path().contains("/secrets") && request.method() == Method::GET;
        let (code, body) = if is_secret { (404, absent()) } else { (code, body.clone()) };
        let body = Body::from(body.to_string().into_bytes());
        async move { Response::builder().status(code).body(body) }
    });
    Client::new(service, "default")
}

/// A data plane whose watches have caught up and delivered no datacenter.
fn plane(name: &str, client: Client) -> Snapshot {
    let mut view = View::unknown();
    view.set_synced();
    Snapshot {
        name: name.to_owned(),
        uid: format!("uid-of-{name}"),
        labels: BTreeMap::new(),
        usable: Usable::Ready,
        unregistering: false,
        credential_expires_at: None,
        credential_renewal_at: None,
        max_concurrent_backups: None,
        within: Arc::default(),
        remote: Some(Arc::new(Remote::new(client, &Limits::default()))),
        view: Arc::new(view),
        meters: Arc::default(),
        refusals: Arc::default(),
        listing: Arc::default(),
        membership: crate::control_plane::data_planes::membership::Membership::default(),
    }
}

fn observed(sources: &SourceObjects, planes: &[Snapshot]) -> ClusterInputs {
    let control_plane = Identity::named("cp");
    Deployed::of(planes, &control_plane).observe(&ObjectKey::new("fleet", "shop"), sources, &control_plane)
}

fn sources() -> SourceObjects {
    let cluster: K8ssandraCluster = serde_json::from_value(json!({
        "metadata": {"name": "shop", "namespace": "fleet"},
        "spec": {
            "cassandra": {"datacenters": [
                {"metadata": {"name": "dc1", "namespace": "cass"}, "k8sContext": "dp-1", "size": 3},
                {"metadata": {"name": "dc2", "namespace": "cass"}, "k8sContext": "dp-2", "size": 3},
            ]},
            "medusa": {"storageProperties": {
                "storageProvider": "s3", "bucketName": "backups", "prefix": "shop", "storageSecretRef": {"name": "key"},
            }},
        },
    }))
    .unwrap();
    let mut sources = SourceObjects { planes_listed: true, ..SourceObjects::default() };
    sources.client_configs.standing = Standing::Listed;
    sources.clusters.items.insert(ObjectKey::of(&cluster), Arc::new(cluster));
    sources.clusters.standing = Standing::Listed;
    sources.configurations.standing = Standing::Listed;
    sources
}

fn absent() -> Value {
    json!({"kind": "Status", "status": "Failure", "message": "not found", "reason": "NotFound", "code": 404})
}

fn context(client: Client) -> DeploymentContext {
    let fleet = Arc::new(Fleet::default());
    DeploymentContext {
        client: client.clone(),
        namespace: "fleet".to_owned(),
        fleet: fleet.clone(),
        sources: Sources::new(client.clone(), fleet, "fleet".to_owned(), BTreeSet::new(), &BTreeSet::new()),
        control_plane: Identity::named("cp"),
        image: Image::default(),
        events: Events::new(client, "test"),
        reconciles: Reconciles::default(),
        reports: tokio::sync::watch::channel(Reports::default()).0,
        datacenters_written: WriteMemory::default(),
        objects_written: WriteMemory::default(),
    }
}

/// A datacenter whose pods restart.
fn restarting() -> Value {
    json!({
        "apiVersion": "cassandra.datastax.com/v1beta1", "kind": "CassandraDatacenter",
        "metadata": {"name": "dc1", "namespace": "cass", "uid": "u", "resourceVersion": "7", "generation": 2},
        "spec": {"clusterName": "shop", "size": 3},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}], "cassandraOperatorProgress": "Ready",
            "observedGeneration": 1,
        },
    })
}

#[rstest]
#[case::there_and_restarting(200, restarting(), DeploymentState::Waiting, Some(Reason::DatacenterNotReady))]
#[case::not_there(404, absent(), DeploymentState::NotFound, None)]
#[case::silent(
    503,
    json!({"kind": "Status", "status": "Failure", "message": "later", "reason": "ServiceUnavailable", "code": 503}),
    DeploymentState::Unknown,
    Some(Reason::DataPlaneUnreachable)
)]
#[tokio::test]
async fn a_datacenter_its_watch_has_not_delivered_is_asked_for_before_another_restarts(
    #[case] code: u16,
    #[case] body: Value,
    #[case] state: DeploymentState,
    #[case] holds: Option<Reason>,
) {
    let (context, sources) = (context(answering(404, absent())), sources());
    let planes = [plane("dp-1", answering(code, body)), plane("dp-2", answering(404, absent()))];
    let inputs = observed(&sources, &planes);
    let settings = settings(&inputs);
    let pass = Pass { context: &context, inputs: &inputs, sources: &sources, collision: None, settings };
    let looks = join_all(inputs.targets.iter().map(|target| look(&pass, target))).await;
    let first = looks.first().unwrap();
    assert_eq!(first.work.as_ref().err().unwrap().state, state);
    for stabilities in [
        looks.iter().map(|look| look.stability.clone()).collect(),
        stabilities_now(&looks, 1, Timestamp::UNIX_EPOCH).await,
    ] {
        let neighbours = looks.iter().zip(&stabilities).map(|(look, stability)| rollout::Neighbour {
            name: &look.target.place.object.name,
            stability,
            waits: look.waits(),
        });
        let hold = rollout::hold(1, neighbours);
        assert_eq!(hold.map(|why| why.reason), holds, "{stabilities:?}");
    }
}

#[tokio::test]
async fn a_user_made_in_this_pass_is_waited_for_and_not_called_missing() {
    let made = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shop-medusa", "namespace": "fleet"}});
    let (context, mut sources) = (context(answering(201, made)), sources());
    for (name, state) in [
        (
            "key",
            SecretState::Read {
                uid: "u".to_owned(),
                hash: "h".to_owned(),
                keys: ["credentials".to_owned()].into(),
                never: None,
            },
        ),
        ("shop-medusa", SecretState::Absent),
    ] {
        sources.secrets.insert(ObjectKey::new("fleet", name), state);
    }
    let mut first = plane("dp-1", answering(200, restarting()));
    let datacenter: CassandraDatacenter = serde_json::from_value(restarting()).unwrap();
    let copy = crate::control_plane::data_planes::records::CopyRecord {
        source_uid: "u".to_owned(),
        declared_hash: "h".to_owned(),
        content_hash: "h".to_owned(),
        ..Default::default()
    };
    let view = Arc::make_mut(&mut first.view);
    view.datacenters.put(ObjectKey::of(&datacenter), Arc::new(datacenter));
    view.secrets.put(ObjectKey::new("cass", "key"), Arc::new(copy));
    let inputs = observed(&sources, &[first]);
    let settings = settings(&inputs);
    let pass = Pass { context: &context, inputs: &inputs, sources: &sources, collision: None, settings };
    let passed = write::run(&pass).await;
    let found = passed.report.datacenters.first().unwrap();
    assert_eq!(
        (found.state, found.why.as_ref().unwrap().reason),
        (DeploymentState::Waiting, Reason::Connecting)
    );
    assert!(passed.again);
}

#[rstest]
#[case::on_its_way(Reason::Replicating, true)]
#[case::silent(Reason::DataPlaneUnreachable, true)]
#[case::denied(Reason::DeniedByPolicy, false)]
#[case::somebody_elses(Reason::NameConflict, false)]
#[case::immutable(Reason::Immutable, false)]
#[case::refused(Reason::WriteRefused, false)]
#[tokio::test]
async fn for_a_secret_that_somebody_has_to_mend_no_other_datacenter_waits(
    #[case] reason: Reason,
    #[case] waits: bool,
) {
    let (context, sources) = (context(answering(404, absent())), sources());
    let planes = [plane("dp-1", answering(404, absent())), plane("dp-2", answering(404, absent()))];
    let inputs = observed(&sources, &planes);
    let settings = settings(&inputs);
    let pass = Pass { context: &context, inputs: &inputs, sources: &sources, collision: None, settings };
    let target = inputs.targets.first().unwrap();
    let mut look = look(&pass, target).await;
    let why = Some(Why::new(reason, "a Secret is not there"));
    let report = DatacenterReport::new(&target.place, DeploymentState::Waiting, why);
    let credentials = Some(CredentialsState { synced: false, hash: None });
    look.work = Err(DatacenterReport { credentials, ..report.clone() });
    assert_eq!(look.waits().is_some(), waits);
    look.work = Err(report);
    assert!(look.waits().is_some(), "what is no Secret's matter is waited for");
}

#[rstest]
#[case::by_a_volume(200, json!([{"name": "x", "configMap": {"name": "shop-medusa"}}]), true, true)]
#[case::to_nothing_of_it(200, json!([{"name": "x", "configMap": {"name": "mine"}}]), false, false)]
#[case::nobody_says(503, json!([]), false, true)]
#[case::no_such_kind(404, json!([]), false, false)]
#[tokio::test]
async fn before_a_config_map_goes_it_is_asked_who_refers_to_it(
    #[case] code: u16,
    #[case] volumes: Value,
    #[case] told: bool,
    #[case] again: bool,
) {
    let mut sources = sources();
    for cluster in sources.clusters.items.values_mut() {
        Arc::make_mut(cluster).spec.medusa = None;
    }
    let datacenter = json!({
        "apiVersion": "cassandra.datastax.com/v1beta1", "kind": "CassandraDatacenter",
        "metadata": {"name": "dc1", "namespace": "cass"},
        "spec": {"clusterName": "shop", "podTemplateSpec": {"spec": {"containers": [], "volumes": volumes}}},
    });
    let list = json!({
        "apiVersion": "cassandra.datastax.com/v1beta1", "kind": "CassandraDatacenterList",
        "metadata": {"resourceVersion": "1"}, "items": [datacenter],
    });
    let silent = json!({"kind": "Status", "status": "Failure", "message": "no", "reason": "x", "code": code});
    let body = match code {
        200 => list,
        404 => absent(),
        _ => silent,
    };
    let mut there = plane("dp-1", answering(code, body));
    let map = CopyRecord { source: "fleet/shop".to_owned(), uid: "m".to_owned(), ..CopyRecord::default() };
    let key = ObjectKey::new("cass", "shop-medusa");
    Arc::make_mut(&mut there.view).config_maps.put(key, Arc::new(map));
    let context = context(answering(404, absent()));
    let inputs = observed(&sources, &[there]);
    let settings = settings(&inputs);
    let pass = Pass { context: &context, inputs: &inputs, sources: &sources, collision: None, settings };
    let passed = write::run(&pass).await;
    let found = passed.report.datacenters.first();
    let seen = found.map(|report| (report.state, report.why.as_ref().unwrap().reason));
    let wanted = told.then_some((DeploymentState::Refused, Reason::StillInUse));
    assert_eq!((seen, passed.again), (wanted, again));
    assert!(found.is_none_or(|report| report.place.object == ObjectKey::new("cass", "dc1")));
}
