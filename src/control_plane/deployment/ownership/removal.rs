//! How Medusa is taken out of a CassandraDatacenter again. Pure.
//!
//! Applying nothing would take out what we applied, but not well: where somebody changed a part of one of our
//! containers, that part is theirs and would stay, a container of a name and a memory limit that makes no pod; and a
//! list that was empty before would be `null`. So the removal is a patch of the difference between the datacenter and
//! the same without everything that is ours alone, holding to the version it was made from.
//!
//! Others may have declared our containers and volumes too, with the same values or with some of them. What would be left
//! of such a container cannot run without what goes: it has no image, or it mounts a volume of ours whose ConfigMap is
//! deleted afterwards. Where nobody writes it again it goes whole, above all what k8ssandra-operator left. Where somebody
//! may, **nothing at all is taken out** and Medusa goes on running: they would put it back, and pods would restart into
//! half of it. ADR 31.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use serde_json::{Map, Value, json};

use super::{
    diff::{self, Diff, UnsafeApply},
    managed_fields::Owners,
    references,
};
use crate::{
    api::{
        Reason, Why,
        labels::{MANAGER_DEPLOYMENT, MEDUSA_FOR},
        names,
    },
    control_plane::deployment::pod::{
        fields::{self, FieldPath, PathStep},
        request, template,
    },
};

/// Lists whose items of ours go whole, with what others changed in them.
const WHOLE: [&str; 3] = ["containers", "initContainers", VOLUMES];
/// The one of them that the others refer to.
const VOLUMES: &str = "volumes";
/// Where they are.
const VOLUMES_AT: &str = "/spec/podTemplateSpec/spec/volumes";
const CONTAINERS_AT: &str = "/spec/podTemplateSpec/spec/containers";
const INIT_CONTAINERS_AT: &str = "/spec/podTemplateSpec/spec/initContainers";
/// Most mounts that are told of.
const HELD: usize = 32;
/// Most parts that are named in a message.
const NAMED: usize = 3;
/// Stands for an owner whose name is not known.
const SOMEBODY: &str = "somebody else";

/// What a removal does.
#[derive(Clone, Debug, PartialEq)]
pub struct Removal {
    /// The merge patch; `None` when nothing of ours is there, or something is held.
    pub patch: Option<Value>,
    /// Containers and volumes of ours in which others had something that goes with them.
    pub pieces: Vec<FieldPath>,
    /// Why nothing is taken out: what others have, may write again, and what could not do without what goes.
    pub held: Vec<HeldPiece>,
}

/// A part of a datacenter that somebody else holds on to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeldPiece {
    /// Where it is.
    pub path: FieldPath,
    /// The field manager, such as `argocd-controller`.
    pub owner: String,
}

/// Plans the removal from `live`, as it was read, with its `managedFields`.
#[must_use]
pub fn plan(live: &Value) -> Removal {
    let mut stripping = Stripping {
        owners: Owners::of(live),
        pieces: Vec::new(),
        held: Vec::new(),
        shared_volumes: Vec::new(),
    };
    let (annotations, spec) = (FieldPath::of(&["metadata", "annotations"]), FieldPath::of(&["spec"]));
    let part = |path: &FieldPath, of: &Value| path.get(of).cloned().unwrap_or(json!({}));
    let mut strip = |path: &FieldPath| stripping.strip(path, &part(path, live)).unwrap_or(json!({}));
    let mut after = json!({"metadata": {"annotations": strip(&annotations)}, "spec": strip(&spec)});
    stripping.settle(live, &mut after);
    let Stripping { pieces, mut held, .. } = stripping;
    if !held.is_empty() {
        held.sort();
        return Removal { patch: None, pieces: Vec::new(), held };
    }
    let change = |path: &FieldPath| merge_patch(&part(path, live), &part(path, &after));
    let (annotations, spec) = (change(&annotations), change(&spec));
    let metadata = live.get("metadata").unwrap_or(&Value::Null);
    let is_empty = |patch: &Value| patch.as_object().is_some_and(Map::is_empty);
    let nothing = is_empty(&annotations) && is_empty(&spec);
    let patch = (!nothing).then(|| {
        json!({
            "metadata": {
                "uid": metadata.get("uid"),
                "resourceVersion": metadata.get("resourceVersion"),
                "annotations": annotations,
            },
            "spec": spec,
        })
    });
    Removal { patch, pieces, held }
}

impl Removal {
    /// What it changes in `live`, of which it was planned; `result` is the API server's answer to a dry run.
    ///
    /// # Errors
    /// When something that belongs to others would be lost, changed or reordered.
    pub fn diff(&self, live: &Value, result: &Value) -> Result<Diff, UnsafeApply> {
        diff::compare_with(live, result, &Value::Null, &self.pieces)
    }

    /// Why nothing is taken out, although Medusa is not wanted; `None` when nothing is held.
    #[must_use]
    pub fn obstacle(&self) -> Option<Why> {
        if self.held.is_empty() {
            return None;
        }
        let declared = |held: &HeldPiece| format!("`{}` (declared by `{}`)", held.path, held.owner);
        let named = names::listed(self.held.iter().map(declared), NAMED);
        let message = format!(
            "Medusa is not wanted and goes on running, because pods would not start with what others would leave of it: \
             {named}. Take that out where its owner keeps it: Git, a chart, a script, or the CassandraDatacenter itself \
             where somebody edited that by hand. Medusa then goes by itself"
        );
        Some(Why::new(Reason::StillInUse, message))
    }
}

/// A volume of ours that others declared as well, and who of them may write it again.
struct SharedVolume {
    path: FieldPath,
    name: String,
    living: Option<String>,
}

struct Stripping<'a> {
    owners: Owners<'a>,
    pieces: Vec<FieldPath>,
    held: Vec<HeldPiece>,
    shared_volumes: Vec<SharedVolume>,
}

impl Stripping<'_> {
    fn is_ours(&self, path: &FieldPath) -> bool {
        self.owners.owns(MANAGER_DEPLOYMENT, path)
    }

    fn is_anothers(&self, path: &FieldPath) -> bool {
        self.owners.other_than(MANAGER_DEPLOYMENT, path).is_some()
    }

    fn hold(&mut self, path: &FieldPath, owner: Option<String>) {
        let is_known = self.held.iter().any(|held| path.is_within(&held.path));
        if !is_known {
            let owner = owner.unwrap_or_else(|| SOMEBODY.to_owned());
            self.held.push(HeldPiece { path: path.clone(), owner });
        }
    }

    /// `value`, which is at `path`, without what is ours alone; `None` when nothing of it is left.
    fn strip(&mut self, path: &FieldPath, value: &Value) -> Option<Value> {
        let emptied = |this: &Self| this.is_ours(path) && !this.is_anothers(path);
        if let Some(object) = value.as_object().filter(|object| !object.is_empty()) {
            let parts = object
                .iter()
                .filter_map(|(name, part)| Some((name.clone(), self.strip(&path.field(name), part)?)));
            let mut left: Map<String, Value> = parts.collect();
            if *path == template::pod_spec() && !left.is_empty() {
                // cass-operator's definition requires the list.
                left.entry("containers").or_insert_with(|| json!([]));
            }
            return (!left.is_empty() || !emptied(self)).then_some(Value::Object(left));
        }
        let list = path.last_field().unwrap_or_default();
        if let Some(items) = fields::items(list, value) {
            let left: Vec<Value> = items
                .into_iter()
                .filter_map(|(step, item)| self.strip_item(list, &path.then(step.clone()), &step, item))
                .collect();
            return (!left.is_empty() || !emptied(self)).then_some(Value::Array(left));
        }
        (!emptied(self)).then(|| value.clone())
    }

    fn strip_item(&mut self, list: &str, path: &FieldPath, step: &PathStep, item: &Value) -> Option<Value> {
        let PathStep::Item(keys) = step else { return Some(item.clone()) };
        let is_key = |name: &str| keys.iter().any(|(key, _)| *key == name);
        let declared = keys.iter().any(|(key, _)| self.is_anothers(&path.field(key)));
        let is_ours = self.is_ours(path);
        let rest: Map<String, Value> = item
            .as_object()?
            .iter()
            .filter(|(name, _)| !is_key(name))
            .filter_map(|(name, part)| Some((name.clone(), self.strip(&path.field(name), part)?)))
            .collect();
        // cass-operator's container is only named by us: what others say of it is not about Medusa.
        let is_named = |name: &str| item.get("name").and_then(Value::as_str) == Some(name);
        let whole = WHOLE.contains(&list) && !is_named(request::SERVER_CONFIG);
        if is_ours && !declared && (rest.is_empty() || whole) {
            if !rest.is_empty() {
                self.pieces.push(path.clone());
            }
            return None;
        }
        if is_ours && declared && whole {
            let living =
                keys.iter().find_map(|(key, _)| self.owners.living(MANAGER_DEPLOYMENT, &path.field(key)));
            let living = living.map(str::to_owned);
            if list == VOLUMES {
                let name = name_of(item).unwrap_or_default().to_owned();
                self.shared_volumes.push(SharedVolume { path: path.clone(), name, living });
            } else if self.is_medusas(path, &rest) {
                if living.is_none() {
                    self.pieces.push(path.clone());
                    return None;
                }
                self.hold(path, living);
            }
        }
        let keys = item.as_object()?.iter().filter(|(name, _)| is_key(name));
        Some(Value::Object(keys.map(|(name, key)| (name.clone(), key.clone())).chain(rest).collect()))
    }

    /// Whether what others would leave of our container at `path` is still Medusa's: it cannot run without an image, or it
    /// mounts or reads something that we put there as well.
    fn is_medusas(&self, path: &FieldPath, left: &Map<String, Value>) -> bool {
        let mounts = path.field("volumeMounts");
        let mounted = left.get("volumeMounts").and_then(|list| fields::items("volumeMounts", list));
        let mounts_ours = mounted.unwrap_or_default().into_iter().any(|(step, mount)| {
            let volume = mount.get("name").and_then(Value::as_str);
            self.is_ours(&mounts.then(step)) && volume.is_some_and(|name| self.is_ours(&volume_path(name)))
        });
        !left.contains_key("image")
            || mounts_ours
            || self.repeats_a_reference(path, &Value::Object(left.clone()))
    }

    /// Whether something in `value`, which is at `path`, refers to a ConfigMap or Secret because we say so, too.
    fn repeats_a_reference(&self, path: &FieldPath, value: &Value) -> bool {
        references::any(path, value, |reference| self.is_ours(reference))
    }

    /// Decides on what depends on what is left of the containers: `after` is `live` without what goes so far.
    fn settle(&mut self, live: &Value, after: &mut Value) {
        let mounted: BTreeSet<&str> = mounts(after).map(|mount| mount.volume).collect();
        let left: BTreeMap<&str, &Value> =
            volumes(after).filter_map(|volume| Some((name_of(volume)?, volume))).collect();
        let mut going = BTreeSet::new();
        for SharedVolume { path, name, living } in mem::take(&mut self.shared_volumes) {
            // Where it is mounted it is theirs; what it refers to is then not deleted.
            let volume = left.get(name.as_str()).filter(|_| !mounted.contains(name.as_str()));
            let Some(volume) = volume else { continue };
            if living.is_none() {
                going.insert(name);
                self.pieces.push(path);
            } else if self.repeats_a_reference(&path, volume) {
                self.hold(&path, living);
            }
        }
        if let Some(Value::Array(list)) = after.pointer_mut(VOLUMES_AT) {
            list.retain(|volume| name_of(volume).is_none_or(|name| !going.contains(name)));
        }
        let here: BTreeSet<&str> = volumes(after).filter_map(name_of).collect();
        let before: BTreeSet<&str> = volumes(live).filter_map(name_of).collect();
        let lost = |mount: &Mount<'_>| before.contains(mount.volume) && !here.contains(mount.volume);
        for mount in mounts(after).filter(lost).take(HELD) {
            let path = mount.path();
            let owner = self.owners.around(MANAGER_DEPLOYMENT, &path).map(str::to_owned);
            self.hold(&path, owner);
        }
        // By this annotation the datacenter is known as one that Medusa has to be taken out of.
        let mark = FieldPath::of(&["metadata", "annotations", MEDUSA_FOR]);
        if mark.get(after).is_some() {
            let owner = self.owners.around(MANAGER_DEPLOYMENT, &mark).map(str::to_owned);
            self.hold(&mark, owner);
        }
    }
}

/// Where the pod template has the volume of that name.
fn volume_path(name: &str) -> FieldPath {
    template::pod_spec().field(VOLUMES).then(PathStep::Item(vec![("name", json!(name).to_string())]))
}

fn name_of(item: &Value) -> Option<&str> {
    item.get("name").and_then(Value::as_str)
}

fn volumes(datacenter: &Value) -> impl Iterator<Item = &Value> {
    datacenter.pointer(VOLUMES_AT).and_then(Value::as_array).into_iter().flatten()
}

/// A mount in a container of a datacenter.
struct Mount<'a> {
    list: &'static str,
    container: &'a Value,
    place: &'a Value,
    /// The volume that it mounts.
    volume: &'a str,
}

impl Mount<'_> {
    fn path(&self) -> FieldPath {
        let key = |item: &Value, key: &'static str| {
            PathStep::Item(vec![(key, item.get(key).map(ToString::to_string).unwrap_or_default())])
        };
        let container = template::pod_spec().field(self.list).then(key(self.container, "name"));
        container.field("volumeMounts").then(key(self.place, "mountPath"))
    }
}

/// Every mount in the containers of `datacenter`. There may be thousands: each is looked at once.
fn mounts(datacenter: &Value) -> impl Iterator<Item = Mount<'_>> {
    [("containers", CONTAINERS_AT), ("initContainers", INIT_CONTAINERS_AT)].into_iter().flat_map(
        |(list, at)| {
            let containers = datacenter.pointer(at).and_then(Value::as_array).into_iter().flatten();
            containers.flat_map(move |container| {
                let mounts = container.get("volumeMounts").and_then(Value::as_array).into_iter().flatten();
                mounts.filter_map(move |place| {
                    Some(Mount { list, container, place, volume: place.get("name")?.as_str()? })
                })
            })
        },
    )
}

/// The merge patch that makes `to` of `from`.
fn merge_patch(from: &Value, to: &Value) -> Value {
    let (Some(old), Some(new)) = (from.as_object(), to.as_object()) else { return to.clone() };
    let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let changed = new
        .iter()
        .filter(|(key, value)| old.get(*key) != Some(value))
        .map(|(key, value)| (key.clone(), merge_patch(old.get(key).unwrap_or(&Value::Null), value)));
    Value::Object(gone.chain(changed).collect())
}

#[cfg(test)]
#[path = "removal_tests.rs"]
mod tests;
