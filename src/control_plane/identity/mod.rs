//! Who this control plane is: by that it recognises what it wrote in data planes, wherever it is installed (contract §9).
//! Pure, but for [`keep`].
//!
//! A fleet has a name, which stands on everything the control plane writes. The installation is the place where that was
//! done: another one has none of the objects that things were made from until somebody creates them again, so it
//! may not conclude from their absence that they were deleted.

pub mod keep;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kube::{Resource, core::ObjectMeta};
use serde_json::{Value, json};

use crate::api::{labels, names};

/// Longest name of a fleet: it is the value of a label.
const LONGEST: usize = 63;
/// Most names that are adopted or forgotten: the selector of every watch has them in it.
const MOST: usize = 32;

/// The names of a control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity(Arc<Names>);

#[derive(Debug, PartialEq, Eq)]
struct Names {
    fleet: String,
    installation: String,
    adopted: BTreeSet<String>,
    forgotten: BTreeSet<String>,
}

/// What is kept of it in the controller's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetRecord {
    /// The fleet's name.
    pub fleet: Option<String>,
    /// Names of fleets whose things are this one's.
    pub adopted: BTreeSet<String>,
    /// Earlier installations whose objects will not come back.
    pub forgotten: BTreeSet<String>,
}

/// Condition of a DataPlane that is True while something of an earlier installation waits there for what it was made
/// from.
pub const INHERITED: &str = "Inherited";
/// Name of the ConfigMap that keeps a [`FleetRecord`].
pub const RECORD: &str = "medusa-fleet-identity";
/// Key of the fleet's name.
const FLEET: &str = "fleet";
/// Key of the fleets whose things are this one's, separated by blanks.
const ADOPTED: &str = "adopted";
/// Key of the installations whose objects will not come back, separated by blanks.
const FORGOTTEN: &str = "forgotten";

impl FleetRecord {
    /// Reads the data of the ConfigMap; what cannot be a name, or is one too many, is left out, and returned second.
    #[must_use]
    pub fn read(data: &BTreeMap<String, String>) -> (Self, Vec<String>) {
        let mut wrong = Vec::new();
        let mut list = |key: &str| {
            let all = data.get(key).map(String::as_str).unwrap_or_default().split_whitespace();
            let mut good = BTreeSet::new();
            for name in all {
                if is_name(name) && good.len() < MOST {
                    good.insert(name.to_owned());
                } else if wrong.len() < MOST {
                    wrong.push(format!("{key}: `{}`", names::shown(name, LONGEST)));
                }
            }
            good
        };
        let (fleet, adopted, forgotten) = (list(FLEET), list(ADOPTED), list(FORGOTTEN));
        (Self { fleet: fleet.into_iter().next(), adopted, forgotten }, wrong)
    }

    /// The data of the ConfigMap.
    #[must_use]
    pub fn data(&self) -> Value {
        let list = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        json!({FLEET: self.fleet, ADOPTED: list(&self.adopted), FORGOTTEN: list(&self.forgotten)})
    }

    /// The record as it has to be: `asked` is the name the controller was started with, and `installation` the one it is.
    /// A fleet with another name than before keeps what it wrote under its old one.
    #[must_use]
    pub fn settled(mut self, asked: Option<&str>, installation: &str) -> Self {
        let name = asked.or(self.fleet.as_deref()).unwrap_or(installation).to_owned();
        let before = self.fleet.replace(name.clone());
        self.adopted.extend(before);
        self.adopted.remove(&name);
        self
    }
}

/// Whether `text` can be a fleet's name: a label's value, so that it can stand on everything.
#[must_use]
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST && labels::clean_value(text) == text
}

impl Identity {
    /// The identity of the fleet of `record`, which is settled, installed as `installation`.
    #[must_use]
    pub fn new(record: FleetRecord, installation: &str) -> Self {
        Self(Arc::new(Names {
            fleet: record.fleet.unwrap_or_else(|| installation.to_owned()),
            installation: installation.to_owned(),
            adopted: record.adopted,
            forgotten: record.forgotten,
        }))
    }

    /// The fleet's name.
    #[must_use]
    pub fn fleet(&self) -> &str {
        &self.0.fleet
    }

    /// Where it is installed: its namespace, and the uid of the cluster's kube-system.
    #[must_use]
    pub fn installation(&self) -> &str {
        &self.0.installation
    }

    /// Whether `name`, found on an object, is a name of this fleet. What an earlier version wrote bears the name of this
    /// installation.
    #[must_use]
    pub fn is_own(&self, name: &str) -> bool {
        name == self.0.fleet || name == self.0.installation || self.0.adopted.contains(name)
    }

    /// Whether this fleet wrote the object, by its label.
    #[must_use]
    pub fn wrote(&self, meta: &ObjectMeta) -> bool {
        writer(meta).is_some_and(|name| self.is_own(name))
    }

    /// Whether an earlier installation made the object, and nobody has said that what it was made from will not come back:
    /// that this is absent here does not mean that somebody deleted it.
    #[must_use]
    pub fn is_inherited(&self, meta: &ObjectMeta) -> bool {
        maker(meta).is_some_and(|maker| self.is_earlier(maker))
    }

    /// The same of the installation an object names.
    #[must_use]
    pub fn is_earlier(&self, installation: &str) -> bool {
        !installation.is_empty()
            && installation != self.0.installation
            && !self.0.forgotten.contains(installation)
    }

    /// Annotation that goes with the label of the fleet's name on what is written; `None` where the two are the same.
    #[must_use]
    pub fn mark(&self) -> Option<(String, String)> {
        let is_needed = self.0.fleet != self.0.installation;
        is_needed.then(|| (labels::INSTALLATION.to_owned(), self.0.installation.clone()))
    }

    /// The label of what is written.
    #[must_use]
    pub fn label(&self) -> (String, String) {
        (labels::CONTROL_PLANE.to_owned(), self.0.fleet.clone())
    }

    /// Whether what bears these two names was last written by this installation, under the fleet's present name.
    #[must_use]
    pub fn is_current(&self, fleet: &str, installation: &str) -> bool {
        fleet == self.0.fleet && installation == self.0.installation
    }

    /// The same of an object.
    #[must_use]
    pub fn wrote_last(&self, meta: &ObjectMeta) -> bool {
        self.is_current(writer(meta).unwrap_or_default(), maker(meta).unwrap_or_default())
    }

    /// Selects by label what this fleet wrote.
    #[must_use]
    pub fn selector(&self) -> String {
        let Names { fleet, installation, adopted, .. } = &*self.0;
        let all: BTreeSet<&str> =
            adopted.iter().map(String::as_str).chain([fleet.as_str(), installation.as_str()]).collect();
        match all.into_iter().collect::<Vec<_>>().as_slice() {
            [one] => format!("{}={one}", labels::CONTROL_PLANE),
            all => format!("{} in ({})", labels::CONTROL_PLANE, all.join(",")),
        }
    }

    /// One whose fleet and installation have the same name, as an unnamed fleet's have.
    #[cfg(test)]
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::new(FleetRecord::default(), name)
    }
}

/// The fleet that wrote an object, by its label.
#[must_use]
pub fn writer(meta: &ObjectMeta) -> Option<&str> {
    meta.labels.as_ref()?.get(labels::CONTROL_PLANE).map(String::as_str)
}

/// The installation that wrote it: the fleet of that name where it names none. Anybody may write there: what cannot be a name
/// names none.
#[must_use]
pub fn maker(meta: &ObjectMeta) -> Option<&str> {
    installation(meta).or_else(|| writer(meta))
}

/// The fleet that deployed Medusa into a CassandraDatacenter, and the installation of it.
#[must_use]
pub fn deployer(datacenter: &ObjectMeta) -> Option<(&str, &str)> {
    let fleet = datacenter.annotations.as_ref()?.get(labels::MEDUSA_FOR_CONTROL_PLANE)?;
    Some((fleet, installation(datacenter).unwrap_or(fleet)))
}

fn installation(meta: &ObjectMeta) -> Option<&str> {
    let named = meta.annotations.as_ref()?.get(labels::INSTALLATION)?;
    Some(named.as_str()).filter(|name| is_name(name))
}

/// The uid by which the children of a fleet object know it: its own, or that of the object of an earlier installation that
/// it continues. An annotation that was copied from an object of another name says nothing.
#[must_use]
pub fn uid_of(object: &impl Resource) -> Option<&str> {
    uid_in(object.meta())
}

/// The same of an object of which only this is known.
#[must_use]
pub fn uid_in(meta: &ObjectMeta) -> Option<&str> {
    let continued = meta.annotations.as_ref().and_then(|all| all.get(labels::CONTINUES)).and_then(|text| {
        let (name, uid) = text.split_once('/')?;
        (Some(name) == meta.name.as_deref() && is_uid(uid)).then_some(uid)
    });
    continued.or(meta.uid.as_deref())
}

/// Whether `text` is of the shape of a uid.
#[must_use]
pub fn is_uid(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "0b1c2d3e-0000-0000-0000-000000000000";

    fn record(fleet: Option<&str>, adopted: &[&str]) -> FleetRecord {
        let adopted = adopted.iter().map(|name| (*name).to_owned()).collect();
        FleetRecord { fleet: fleet.map(str::to_owned), adopted, forgotten: BTreeSet::new() }
    }

    fn meta(label: Option<&str>, installation: Option<&str>) -> ObjectMeta {
        let map = |key: &str, value: Option<&str>| value.map(|v| [(key.to_owned(), v.to_owned())].into());
        ObjectMeta {
            labels: map(labels::CONTROL_PLANE, label),
            annotations: map(labels::INSTALLATION, installation),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn a_fleet_keeps_its_name_and_what_it_wrote_under_another() {
        assert_eq!(FleetRecord::default().settled(None, "ns.1"), record(Some("ns.1"), &[]));
        assert_eq!(FleetRecord::default().settled(Some("shop"), "ns.1"), record(Some("shop"), &[]));
        assert_eq!(record(Some("shop"), &[]).settled(None, "ns.1"), record(Some("shop"), &[]));
        assert_eq!(record(Some("ns.1"), &[]).settled(Some("shop"), "ns.1"), record(Some("shop"), &["ns.1"]));
        let back = record(Some("shop"), &["mall"]).settled(Some("mall"), "ns.1");
        assert_eq!(back, record(Some("mall"), &["shop"]), "it is not adopted from itself");
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_what_is_no_name_is_named() {
        let mut record = record(Some("shop"), &["a", "b"]);
        record.forgotten.insert("ns.1".to_owned());
        let data: BTreeMap<String, String> = serde_json::from_value(record.data()).unwrap();
        assert_eq!(FleetRecord::read(&data), (record, Vec::new()));
        let garbage =
            [(ADOPTED.to_owned(), "good a,b (x)".to_owned()), (FLEET.to_owned(), "-".to_owned())].into();
        let (read, wrong) = FleetRecord::read(&garbage);
        assert_eq!(read, super::tests::record(None, &["good"]));
        assert_eq!(wrong, ["fleet: `-`", "adopted: `a,b`", "adopted: `(x)`"]);
        let many = (0..1_000).map(|n| format!("n{n}")).collect::<Vec<_>>().join(" ");
        let (read, wrong) = FleetRecord::read(&[(ADOPTED.to_owned(), many)].into());
        assert_eq!((read.adopted.len(), wrong.len()), (MOST, MOST), "no selector grows without end");
    }

    #[test]
    fn its_own_are_those_of_all_its_names_and_of_the_version_that_had_none() {
        let identity = Identity::new(record(Some("shop"), &["mall"]), "ns.1");
        for (label, is_own) in [("shop", true), ("mall", true), ("ns.1", true), ("ns.2", false)] {
            assert_eq!(identity.wrote(&meta(Some(label), None)), is_own, "{label}");
        }
        assert!(!identity.wrote(&meta(None, Some("ns.1"))));
        assert_eq!(identity.selector(), "fleet.k8ssandra.io/control-plane in (mall,ns.1,shop)");
        assert_eq!(Identity::named("ns.1").selector(), "fleet.k8ssandra.io/control-plane=ns.1");
    }

    #[test]
    fn only_what_this_installation_made_or_nobody_will_bring_back_is_missed() {
        let identity = Identity::new(record(Some("shop"), &[]), "ns.1");
        assert!(!identity.is_inherited(&meta(Some("shop"), Some("ns.1"))));
        assert!(!identity.is_inherited(&meta(Some("ns.1"), None)), "an earlier version of this installation");
        assert!(identity.is_inherited(&meta(Some("shop"), Some("ns.0"))));
        assert!(identity.is_inherited(&meta(Some("shop"), None)));
        assert!(!identity.is_inherited(&meta(Some("ns.1"), Some("no name `"))), "it names none");
        let forgotten = FleetRecord { forgotten: ["ns.0".to_owned()].into(), ..record(Some("shop"), &[]) };
        assert!(!Identity::new(forgotten, "ns.1").is_inherited(&meta(Some("shop"), Some("ns.0"))));
    }

    #[test]
    fn an_object_continues_one_of_its_name_only() {
        let object = |continues: &str| {
            let mut object = k8s_openapi::api::core::v1::ConfigMap::default();
            object.metadata.name = Some("nightly".to_owned());
            object.metadata.uid = Some("new".to_owned());
            object.metadata.annotations = Some([(labels::CONTINUES.to_owned(), continues.to_owned())].into());
            uid_of(&object).map(str::to_owned)
        };
        assert_eq!(object(&format!("nightly/{OLD}")).as_deref(), Some(OLD));
        for other in [&format!("weekly/{OLD}"), "nightly/", "nightly", "nightly/old", ""] {
            assert_eq!(object(other).as_deref(), Some("new"), "{other}");
        }
    }
}
