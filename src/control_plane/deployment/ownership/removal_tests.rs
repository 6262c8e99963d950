//! What goes with Medusa, what stays, and what keeps it from going.

use rstest::rstest;

use super::*;
use crate::control_plane::deployment::pod::template::tests::everything;

/// Merge patches as an API server carries them out.
fn merged(live: &Value, patch: &Value) -> Value {
    let (Some(old), Some(new)) = (live.as_object(), patch.as_object()) else { return patch.clone() };
    let mut result = old.clone();
    for (name, value) in new {
        if value.is_null() {
            result.remove(name);
        } else {
            result.insert(name.clone(), merged(old.get(name).unwrap_or(&json!({})), value));
        }
    }
    Value::Object(result)
}

/// The set of all fields of `value`, the content of the field `list`.
fn set(list: &str, value: &Value) -> Value {
    let mut found = Map::new();
    if let Some(object) = value.as_object() {
        found.extend(object.iter().map(|(name, part)| (format!("f:{name}"), set(name, part))));
    } else if let Some(items) = fields::items(list, value) {
        for (step, item) in items {
            let PathStep::Item(keys) = step else { continue };
            let keys: Vec<String> = keys.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
            let mut own = set("", item);
            own["."] = json!({});
            found.insert(format!("k:{{{}}}", keys.join(",")), own);
        }
    }
    Value::Object(found)
}

/// What `manager` owns of the pods' spec.
fn owner(manager: &str, operation: &str, pods: &Value) -> Value {
    let pods = json!({"spec": {"podTemplateSpec": {"spec": pods}}});
    json!({"manager": manager, "operation": operation, "fieldsV1": set("", &pods)})
}

/// A datacenter whose pods are `pods`, of which we applied all but what `theirs` has, and its owners besides us.
fn datacenter(pods: Value, ours: &Value, others: Vec<Value>) -> Value {
    let mut managers = vec![owner(MANAGER_DEPLOYMENT, "Apply", ours)];
    managers.extend(others);
    json!({
        "metadata": {"uid": "u1", "resourceVersion": "7", "managedFields": managers},
        "spec": {"podTemplateSpec": {"spec": pods}},
    })
}

/// The pods of [`everything`].
fn medusa() -> Value {
    everything()["spec"]["podTemplateSpec"]["spec"].clone()
}

/// What the removal leaves of the pods.
fn left(live: &Value) -> Value {
    let removal = plan(live);
    assert_eq!(removal.held, []);
    let result = merged(live, &removal.patch.clone().unwrap());
    removal.diff(live, &result).unwrap();
    result["spec"]["podTemplateSpec"]["spec"].clone()
}

/// What keeps Medusa from going, and whose it is.
fn held(live: &Value) -> Vec<(String, String)> {
    let removal = plan(live);
    assert_eq!((&removal.patch, removal.pieces.len()), (&None, 0), "all or nothing");
    removal.held.into_iter().map(|held| (held.path.to_string(), held.owner)).collect()
}

#[rstest]
#[case("manager")]
#[case("k8ssandra-operator")]
fn what_k8ssandra_operator_left_goes_whole(#[case] manager: &str) {
    let mut theirs = medusa();
    theirs.as_object_mut().unwrap().remove("imagePullSecrets");
    let live = datacenter(medusa(), &medusa(), vec![owner(manager, "Update", &theirs)]);
    let removal = plan(&live);
    let volumes = medusa()["volumes"].as_array().unwrap().len();
    assert_eq!(removal.pieces.len(), volumes + 2, "both containers and every volume: {:?}", removal.pieces);
    let named = json!([{"name": "server-config-init"}]);
    assert_eq!(left(&live), json!({"containers": [], "initContainers": named, "volumes": []}));
    let result = merged(&live, &removal.patch.clone().unwrap());
    let diff = removal.diff(&live, &result).unwrap();
    assert!(
        diff.restarts_pods && diff.changes.iter().any(|c| c.path.ends_with(r#"[name="medusa"]"#)),
        "{diff:?}"
    );
    let again = plan(&result);
    assert_eq!((again.patch, again.held), (None, Vec::new()), "once is enough");
}

#[rstest]
#[case::gitops("argocd-controller", "Apply")]
#[case::a_chart("helm", "Update")]
#[case::nobody_knows_who("before-first-apply", "Update")]
fn while_somebody_may_put_it_back_nothing_is_taken_out(#[case] manager: &str, #[case] operation: &str) {
    let live = datacenter(medusa(), &medusa(), vec![owner(manager, operation, &medusa())]);
    let at = ".spec.podTemplateSpec.spec";
    let both = [
        format!(r#"{at}.containers[name="medusa"]"#),
        format!(r#"{at}.initContainers[name="medusa-restore"]"#),
    ];
    assert_eq!(held(&live), both.map(|path| (path, manager.to_owned())));
    let why = plan(&live).obstacle().unwrap();
    assert_eq!(why.reason, Reason::StillInUse);
    for words in
        ["goes on running", r#"containers[name="medusa"]` (declared by `"#, manager, "goes by itself"]
    {
        assert!(why.message.contains(words), "{}", why.message);
    }
}

#[rstest]
#[case::by_a_person("kubectl-edit", "Update", true)]
#[case::by_a_repository("flux", "Apply", false)]
fn a_container_that_is_merely_named_is_none_without_ours(
    #[case] manager: &str,
    #[case] operation: &str,
    #[case] goes: bool,
) {
    let theirs = json!({"containers": [{"name": "medusa", "resources": {"limits": {"memory": "1Gi"}}}]});
    let mut ours = medusa();
    ours["containers"][0].as_object_mut().unwrap().remove("resources");
    let mut pods = ours.clone();
    pods["containers"][0]["resources"] = theirs["containers"][0]["resources"].clone();
    let live = datacenter(pods, &ours, vec![owner(manager, operation, &theirs)]);
    if goes {
        assert_eq!(left(&live)["containers"], json!([]));
    } else {
        let path = r#".spec.podTemplateSpec.spec.containers[name="medusa"]"#.to_owned();
        assert_eq!(held(&live), [(path, manager.to_owned())]);
    }
}

#[test]
fn a_container_of_that_name_that_runs_by_itself_stays_theirs() {
    let theirs = json!({
        "containers": [{"name": "medusa", "image": "own", "volumeMounts": [{"name": "mine", "mountPath": "/mine"}]}],
        "volumes": [{"name": "mine", "emptyDir": {}}],
    });
    let mut ours = medusa();
    ours["containers"][0].as_object_mut().unwrap().remove("image");
    let mut pods = ours.clone();
    pods["containers"][0]["image"] = json!("own");
    let mounts = pods["containers"][0]["volumeMounts"].as_array_mut().unwrap();
    mounts.push(json!({"name": "mine", "mountPath": "/mine"}));
    pods["volumes"].as_array_mut().unwrap().push(json!({"name": "mine", "emptyDir": {}}));
    for (manager, operation) in [("kubectl-edit", "Update"), ("flux", "Apply")] {
        let live = datacenter(pods.clone(), &ours, vec![owner(manager, operation, &theirs)]);
        assert_eq!(left(&live), theirs, "{manager}");
    }
}

#[test]
fn a_volume_of_medusas_that_another_container_mounts_keeps_it_there() {
    let sidecar =
        json!({"name": "mine", "image": "i", "volumeMounts": [{"name": "medusa-tmp", "mountPath": "/tmp"}]});
    let theirs = json!({"containers": [sidecar]});
    let mut pods = medusa();
    pods["containers"].as_array_mut().unwrap().push(sidecar.clone());
    let live = datacenter(pods.clone(), &medusa(), vec![owner("kubectl-edit", "Update", &theirs)]);
    let mount = r#".spec.podTemplateSpec.spec.containers[name="mine"].volumeMounts[mountPath="/tmp"]"#;
    assert_eq!(held(&live), [(mount.to_owned(), "kubectl-edit".to_owned())]);
    // Whoever declared the volume as well keeps it for that.
    let volume = json!({"name": "medusa-tmp", "emptyDir": {}});
    let both = json!({"containers": [sidecar], "volumes": [volume]});
    let live = datacenter(pods, &medusa(), vec![owner("kubectl-edit", "Update", &both)]);
    assert_eq!(left(&live), both);
}

#[rstest]
#[case::applied_again("flux", "Apply", true)]
#[case::written_once("manager", "Update", false)]
fn a_volume_with_our_config_map_does_not_stay_alone(
    #[case] manager: &str,
    #[case] operation: &str,
    #[case] stays: bool,
) {
    let volumes: Vec<Value> = medusa()["volumes"].as_array().unwrap().clone();
    let config = volumes.into_iter().filter(|volume| volume["name"] == "shop-medusa").collect::<Vec<_>>();
    let theirs = json!({"volumes": config});
    let live = datacenter(medusa(), &medusa(), vec![owner(manager, operation, &theirs)]);
    if stays {
        let path = r#".spec.podTemplateSpec.spec.volumes[name="shop-medusa"]"#.to_owned();
        assert_eq!(held(&live), [(path, manager.to_owned())]);
    } else {
        assert_eq!(left(&live), json!({"containers": [], "volumes": []}));
    }
}

#[test]
fn an_empty_volume_that_others_declared_as_well_hurts_nobody() {
    let theirs = json!({"volumes": [{"name": "medusa-tmp", "emptyDir": {}}]});
    let live = datacenter(medusa(), &medusa(), vec![owner("flux", "Apply", &theirs)]);
    assert_eq!(left(&live), json!({"containers": [], "volumes": theirs["volumes"]}));
}

#[test]
fn a_mark_that_another_applies_keeps_medusa_there_as_nobody_could_say_that_it_was_taken_out() {
    let mut live = datacenter(medusa(), &medusa(), Vec::new());
    live["metadata"]["annotations"] = json!({MEDUSA_FOR: "prod/shop"});
    let annotations = json!({"f:metadata": {"f:annotations": {(format!("f:{MEDUSA_FOR}")): {}}}});
    let entry = json!({"manager": "flux", "operation": "Apply", "fieldsV1": annotations});
    live["metadata"]["managedFields"].as_array_mut().unwrap().push(entry);
    assert_eq!(held(&live), [(format!(".metadata.annotations.{MEDUSA_FOR}"), "flux".to_owned())]);
}

/// A datacenter of which others own a part of what we made.
fn live(theirs: Value) -> Value {
    json!({
        "metadata": {"uid": "u1", "resourceVersion": "7", "annotations": {"ours": "x", "mine": "y"}, "managedFields": [
            {"manager": MANAGER_DEPLOYMENT, "operation": "Apply", "fieldsV1": {
                "f:metadata": {"f:annotations": {"f:ours": {}}},
                "f:spec": {"f:podTemplateSpec": {"f:spec": {
                    "f:containers": {"k:{\"name\":\"medusa\"}": {".": {}, "f:name": {}, "f:image": {}}},
                    "f:initContainers": {"k:{\"name\":\"server-config-init\"}": {".": {}, "f:name": {}}},
                }}}}},
            {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {
                "f:size": {}, "f:podTemplateSpec": {"f:spec": {
                "f:containers": {"k:{\"name\":\"medusa\"}": theirs, "k:{\"name\":\"mine\"}": {".": {}, "f:name": {}}},
                "f:initContainers": {"k:{\"name\":\"server-config-init\"}": {"f:resources": {}}},
            }}}}},
        ]},
        "spec": {"size": 3, "podTemplateSpec": {"spec": {
            "containers": [
                {"name": "mine"}, {"name": "medusa", "image": "i", "resources": {"limits": {"memory": "1Gi"}}},
            ],
            "initContainers": [{"name": "server-config-init", "resources": {}}],
        }}},
    })
}

fn containers(containers: Value) -> Value {
    json!({
        "metadata": {"uid": "u1", "resourceVersion": "7", "annotations": {"ours": null}},
        "spec": {"podTemplateSpec": {"spec": {"containers": containers}}},
    })
}

#[test]
fn what_is_left_of_a_container_of_ours_goes_with_it() {
    let removal = plan(&live(json!({"f:resources": {"f:limits": {"f:memory": {}}}})));
    assert_eq!(removal.pieces.len(), 1);
    assert_eq!(removal.patch, Some(containers(json!([{"name": "mine"}]))));
}

#[test]
fn a_container_somebody_declared_themselves_stays_theirs() {
    let theirs = json!({".": {}, "f:name": {}, "f:image": {}, "f:resources": {"f:limits": {"f:memory": {}}}});
    let removal = plan(&live(theirs));
    assert_eq!((removal.pieces, removal.held), (Vec::new(), Vec::new()));
    assert_eq!(removal.patch.unwrap()["spec"], json!({}));
}

#[test]
fn nothing_else_may_go() {
    let live = live(json!({"f:resources": {"f:limits": {"f:memory": {}}}}));
    let removal = plan(&live);
    let mut result = live.clone();
    result["spec"]["podTemplateSpec"]["spec"]["containers"] = json!([{"name": "mine"}]);
    let diff = removal.diff(&live, &result).unwrap();
    assert!(diff.restarts_pods && diff.changes.len() == 1, "{diff:?}");
    result["spec"]["podTemplateSpec"]["spec"]["containers"] = json!([]);
    let lost = removal.diff(&live, &result).unwrap_err().lost;
    assert_eq!(lost, [r#".spec.podTemplateSpec.spec.containers[name="mine"].name"#]);
}

#[test]
fn where_nothing_is_ours_nothing_is_done() {
    let mut other = live(json!({}));
    other["metadata"]["managedFields"][0]["manager"] = json!("somebody");
    assert_eq!(plan(&other), Removal { patch: None, pieces: Vec::new(), held: Vec::new() });
    assert_eq!(plan(&json!({})).patch, None);
}

#[test]
fn a_list_somebody_left_empty_is_empty_again() {
    let object = |theirs: Value, spec: Value| {
        json!({
            "metadata": {"uid": "u1", "resourceVersion": "7", "managedFields": [
                {"manager": MANAGER_DEPLOYMENT, "operation": "Apply", "fieldsV1": {"f:spec": {"f:podTemplateSpec": {"f:spec": {
                    "f:containers": {"k:{\"name\":\"medusa\"}": {".": {}, "f:name": {}}}}}}}},
                {"manager": "user", "fieldsV1": {"f:spec": theirs}},
            ]},
            "spec": spec,
        })
    };
    let pods = |spec: Value| json!({"podTemplateSpec": {"spec": spec}});
    let ours = json!([{"name": "medusa"}]);
    let theirs = json!({"f:podTemplateSpec": {"f:spec": {"f:containers": {}}}});
    let empty = plan(&object(theirs, pods(json!({"containers": ours}))));
    assert_eq!(empty.patch.unwrap()["spec"], pods(json!({"containers": []})));
    let theirs = json!({"f:podTemplateSpec": {"f:spec": {"f:hostNetwork": {}}}});
    let other = plan(&object(theirs, pods(json!({"containers": ours, "hostNetwork": true}))));
    assert_eq!(other.patch.unwrap()["spec"], pods(json!({"containers": []})), "it is required");
    let none = plan(&object(json!({"f:size": {}}), pods(json!({"containers": ours}))));
    assert_eq!(none.patch.unwrap()["spec"], json!({"podTemplateSpec": null}));
}
