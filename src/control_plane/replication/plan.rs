//! What has to be written in one data plane so that its copies are as they should be. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::desired::{CopyKey, CopyKind, Wanted};
use crate::{
    api::{Seen, Why},
    control_plane::{
        data_planes::{
            meters::Copies,
            records::CopyRecord,
            view::{ObjectKey, View},
        },
        identity::Identity,
    },
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make a copy that is not there.
    Create(CopyKey),
    /// Correct a copy of ours.
    Correct {
        key: CopyKey,
        /// The object it must still be.
        uid: String,
        /// The version it must still have.
        resource_version: String,
    },
    /// Take a copy of ours back.
    Remove {
        key: CopyKey,
        /// The object it must still be.
        uid: String,
    },
}

impl Action {
    #[must_use]
    pub fn key(&self) -> &CopyKey {
        match self {
            Self::Create(key) | Self::Correct { key, .. } | Self::Remove { key, .. } => key,
        }
    }
}

/// What stands in the place of a copy as it was asked for, and is good all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// The API server pruned or defaulted what we applied. Without this memory such a copy would be corrected for ever.
    Made {
        /// Hash of what was asked for.
        wanted: String,
        /// Hash of what was made of it.
        got: String,
    },
    /// Somebody else has put the same content there before us: it is theirs, and never written or deleted.
    Shared {
        hash: String,
        /// Who put it there.
        with: String,
    },
}

/// What went wrong with single copies, by data plane.
pub type Failures = BTreeMap<String, BTreeMap<CopyKey, Why>>;

/// What was accepted, by copy.
pub type Settled = HashMap<CopyKey, Accepted>;

pub(super) fn copy<'a>(view: &'a View, key: &CopyKey) -> Seen<&'a Arc<CopyRecord>> {
    let section = match key.kind {
        CopyKind::Secret => &view.secrets,
        CopyKind::MedusaConfiguration => &view.configurations,
    };
    view.seen(section, &key.object)
}

/// Whether the copy holds what it should.
#[must_use]
pub fn in_place(view: &View, key: &CopyKey, wanted: &Wanted, settled: &Settled) -> bool {
    let Some((source_uid, hash)) = &wanted.content else { return false };
    match (copy(view, key), settled.get(key)) {
        (Seen::Unknown { .. }, _) => false,
        (Seen::Absent, accepted) => {
            matches!(accepted, Some(Accepted::Shared { hash: shared, .. }) if shared == hash)
        }
        (Seen::Known(copy), accepted) => {
            let was_made = |wanted: &String, got: &String| wanted == hash && *got == copy.content_hash;
            copy.source_uid == *source_uid
                && copy.declared_hash == *hash
                && (copy.content_hash == *hash
                    || matches!(accepted, Some(Accepted::Made { wanted, got }) if was_made(wanted, got)))
        }
    }
}

/// With whom a copy is shared, when it is.
#[must_use]
pub fn shared_with<'a>(view: &View, key: &CopyKey, settled: &'a Settled) -> Option<&'a str> {
    match settled.get(key) {
        Some(Accepted::Shared { with, .. }) if copy(view, key) == Seen::Absent => Some(with),
        Some(_) | None => None,
    }
}

/// Which copies that nobody wants may be removed.
#[derive(Clone, Copy, Debug)]
pub struct Removal<'a> {
    /// Whether everything that may be wanted is known; without that only copies of `ways_in` go.
    pub is_known: bool,
    /// Namespaces where pods may still use copies.
    pub held: &'a BTreeSet<String>,
    /// Namespaces in which Medusa is being taken out, each with that of a K8ssandraCluster that had it there.
    pub ending: &'a BTreeSet<(String, String)>,
    /// Sources whose copies stay, because something that cannot be read may ask for them.
    pub in_doubt: &'a BTreeSet<ObjectKey>,
    /// Secrets that let their readers into a cluster: their copies go whoever uses them.
    pub ways_in: &'a BTreeSet<ObjectKey>,
    /// Whether copies an earlier installation made stay, as what they were made from may be created again.
    pub keeps_inherited: bool,
    /// Who this control plane is.
    pub control_plane: &'a Identity,
}

impl Removal<'_> {
    fn takes(&self, key: &CopyKey, copy: &CopyRecord) -> bool {
        let source = ObjectKey::read(&copy.source);
        let is_one = |of: &BTreeSet<ObjectKey>| source.as_ref().is_some_and(|source| of.contains(source));
        if key.kind == CopyKind::Secret && is_one(self.ways_in) {
            return true;
        }
        let is_ending = source.as_ref().is_some_and(|source| {
            self.ending.contains(&(key.object.namespace.clone(), source.namespace.clone()))
        });
        let is_inherited = self.keeps_inherited && self.control_plane.is_earlier(&copy.installation);
        let is_held = self.held.contains(&key.object.namespace) || is_ending;
        self.is_known && !is_inherited && !is_held && !is_one(self.in_doubt)
    }
}

/// Plans the writes for one data plane. The caller makes sure that the view is live: nothing may be planned from an
/// unknown.
#[must_use]
pub fn plan(
    view: &View,
    wanted: &BTreeMap<CopyKey, Wanted>,
    settled: &Settled,
    removal: Removal<'_>,
) -> Vec<Action> {
    let is_anothers = |key| match copy(view, key) {
        Seen::Known(copy) => !removal.control_plane.is_current(&copy.fleet, &copy.installation),
        Seen::Absent | Seen::Unknown { .. } => false,
    };
    let due = wanted
        .iter()
        .filter(|(key, w)| w.content.is_some() && (is_anothers(key) || !in_place(view, key, w, settled)));
    let writes = due.filter_map(|(key, _)| match copy(view, key) {
        Seen::Absent => Some(Action::Create(key.clone())),
        Seen::Unknown { .. } => None,
        Seen::Known(copy) => Some(Action::Correct {
            key: key.clone(),
            uid: copy.uid.clone(),
            resource_version: copy.resource_version.clone(),
        }),
    });
    let ours = [(CopyKind::Secret, &view.secrets), (CopyKind::MedusaConfiguration, &view.configurations)];
    let removals = ours
        .into_iter()
        .flat_map(|(kind, section)| {
            section
                .last_known()
                .iter()
                .map(move |(object, copy)| (CopyKey { kind, object: object.clone() }, copy))
        })
        .filter(|(key, copy)| !wanted.contains_key(key) && removal.takes(key, copy))
        .map(|(key, copy)| Action::Remove { key, uid: copy.uid.clone() });
    writes.chain(removals).collect()
}

/// How the copies of one data plane are. `actions` are what [`plan`] says; `has_failed` whether a copy's last write was
/// refused.
#[must_use]
pub fn tally(
    view: &View,
    wanted: &BTreeMap<CopyKey, Wanted>,
    settled: &Settled,
    actions: &[Action],
    has_failed: impl Fn(&CopyKey) -> bool,
) -> Copies {
    let synced = wanted.iter().filter(|(key, wanted)| in_place(view, key, wanted, settled)).count();
    let failed = actions.iter().filter(|action| has_failed(action.key())).count();
    Copies { synced, pending: actions.len() - failed, failed }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, LazyLock};

    use super::*;

    static CONTROL_PLANE: LazyLock<Identity> = LazyLock::new(|| Identity::named("cp"));
    static NO_NAMESPACES: BTreeSet<String> = BTreeSet::new();
    static NO_SOURCES: BTreeSet<ObjectKey> = BTreeSet::new();
    static NOTHING_ENDS: BTreeSet<(String, String)> = BTreeSet::new();

    fn all() -> Removal<'static> {
        Removal {
            is_known: true,
            held: &NO_NAMESPACES,
            ending: &NOTHING_ENDS,
            in_doubt: &NO_SOURCES,
            ways_in: &NO_SOURCES,
            keeps_inherited: true,
            control_plane: &CONTROL_PLANE,
        }
    }

    fn key(name: &str) -> CopyKey {
        CopyKey { kind: CopyKind::Secret, object: ObjectKey::new("ns", name) }
    }

    fn wanted(hash: Option<&str>) -> Wanted {
        Wanted { source: ObjectKey::new("src", "s"), content: hash.map(|h| ("uid".to_owned(), h.to_owned())) }
    }

    fn view(copies: &[(&str, &str)]) -> View {
        let mut view = View::unknown();
        view.set_synced();
        for (name, hash) in copies {
            let record = CopyRecord {
                uid: "u".into(),
                resource_version: "7".into(),
                source: "src/s".into(),
                source_uid: "uid".into(),
                declared_hash: "new".into(),
                content_hash: (*hash).into(),
                fleet: "cp".into(),
                installation: "cp".into(),
                ..CopyRecord::default()
            };
            view.secrets.put(ObjectKey::new("ns", *name), Arc::new(record));
        }
        view
    }

    #[test]
    fn copies_are_counted_by_what_is_still_to_be_done_about_them() {
        let wanted = BTreeMap::from(
            [("missing", Some("new")), ("refused", Some("new")), ("good", Some("new")), ("unread", None)]
                .map(|(name, hash)| (key(name), wanted(hash))),
        );
        let (view, settled) = (view(&[("good", "new"), ("left", "new")]), Settled::new());
        let actions = plan(&view, &wanted, &settled, all());
        let copies = tally(&view, &wanted, &settled, &actions, |of| *of == key("refused"));
        assert_eq!(copies, Copies { synced: 1, pending: 2, failed: 1 });
    }

    #[test]
    fn what_is_missing_is_made_what_drifted_corrected_what_is_left_over_removed() {
        let wanted = BTreeMap::from([
            (key("missing"), wanted(Some("new"))),
            (key("drifted"), wanted(Some("new"))),
            (key("good"), wanted(Some("new"))),
            (key("unread"), wanted(None)),
        ]);
        let view = view(&[("drifted", "old"), ("good", "new"), ("unread", "x"), ("left", "x")]);
        let actions = plan(&view, &wanted, &Settled::new(), all());
        assert_eq!(
            actions,
            [
                Action::Correct { key: key("drifted"), uid: "u".into(), resource_version: "7".into() },
                Action::Create(key("missing")),
                Action::Remove { key: key("left"), uid: "u".into() },
            ]
        );
    }

    #[test]
    fn nothing_is_removed_that_may_be_wanted_or_used_but_a_way_in_always_is() {
        let plan = |removal| plan(&view(&[("left", "x")]), &BTreeMap::new(), &Settled::new(), removal).len();
        let (here, elsewhere) = (BTreeSet::from(["ns".to_owned()]), BTreeSet::from(["other".to_owned()]));
        let (source, another) = ([ObjectKey::new("src", "s")].into(), [ObjectKey::new("src", "t")].into());
        assert_eq!(plan(all()), 1);
        assert_eq!(plan(Removal { is_known: false, ..all() }), 0, "not every source is known");
        assert_eq!(plan(Removal { held: &here, ..all() }), 0, "pods may use it");
        assert_eq!(plan(Removal { held: &elsewhere, ..all() }), 1);
        let ends = |namespace: &str, of: &str| BTreeSet::from([(namespace.to_owned(), of.to_owned())]);
        let (ending, anothers, there) = (ends("ns", "src"), ends("ns", "other"), ends("other", "src"));
        assert_eq!(plan(Removal { ending: &ending, ..all() }), 0, "Medusa is being taken out here");
        assert_eq!(
            plan(Removal { ending: &anothers, ..all() }),
            1,
            "which holds up nothing of anybody else's"
        );
        assert_eq!(plan(Removal { ending: &there, ..all() }), 1, "nor elsewhere");
        assert_eq!(plan(Removal { in_doubt: &source, ..all() }), 0, "what cannot be read may want it");
        assert_eq!(plan(Removal { in_doubt: &another, ..all() }), 1, "and holds up nothing else");
        let ways_in = Removal { is_known: false, held: &here, in_doubt: &source, ways_in: &source, ..all() };
        assert_eq!(plan(ways_in), 1);
        assert_eq!(plan(Removal { ways_in: &another, ..ways_in }), 0);
    }

    #[test]
    fn a_copy_of_an_earlier_installation_stays_until_what_it_was_made_from_is_back() {
        let mut view = view(&[("left", "new")]);
        let mut copy = (**view.secrets.last(&key("left").object).unwrap()).clone();
        copy.installation = "earlier".to_owned();
        view.secrets.put(key("left").object, Arc::new(copy));
        assert_eq!(plan(&view, &BTreeMap::new(), &Settled::new(), all()), []);
        let unregistered = Removal { keeps_inherited: false, ..all() };
        assert_eq!(plan(&view, &BTreeMap::new(), &Settled::new(), unregistered).len(), 1);
        let ways_in = [ObjectKey::new("src", "s")].into();
        let let_in = Removal { ways_in: &ways_in, ..all() };
        assert_eq!(plan(&view, &BTreeMap::new(), &Settled::new(), let_in).len(), 1);
        let mut back = BTreeMap::from([(key("left"), wanted(Some("new")))]);
        back.get_mut(&key("left")).unwrap().content = Some(("again".to_owned(), "new".to_owned()));
        let corrected = plan(&view, &back, &Settled::new(), all());
        assert!(matches!(corrected.as_slice(), [Action::Correct { .. }]), "{corrected:?}");
    }

    #[test]
    fn a_copy_gets_the_new_name_of_its_fleet() {
        let same = BTreeMap::from([(key("a"), wanted(Some("new")))]);
        let renamed = Identity::named("mall");
        let of = Removal { control_plane: &renamed, ..all() };
        assert_eq!(plan(&view(&[("a", "new")]), &same, &Settled::new(), of).len(), 1);
    }

    #[test]
    fn a_copy_that_cannot_be_seen_is_neither_made_nor_corrected() {
        let wanted =
            BTreeMap::from([(key("missing"), wanted(Some("new"))), (key("drifted"), wanted(Some("new")))]);
        let mut view = view(&[("drifted", "old")]);
        view.secrets.trust.refuse("forbidden");
        assert_eq!(plan(&view, &wanted, &Settled::new(), all()), []);
    }

    #[test]
    fn a_source_that_was_made_again_is_another() {
        let same = BTreeMap::from([(key("a"), wanted(Some("new")))]);
        assert_eq!(plan(&view(&[("a", "new")]), &same, &Settled::new(), all()), []);
        let mut again = same;
        again.get_mut(&key("a")).unwrap().content = Some(("another".to_owned(), "new".to_owned()));
        assert_eq!(plan(&view(&[("a", "new")]), &again, &Settled::new(), all()).len(), 1);
    }

    #[test]
    fn what_the_api_server_made_of_it_is_accepted_once() {
        let wanted = BTreeMap::from([(key("a"), wanted(Some("new")))]);
        let made = Accepted::Made { wanted: "new".to_owned(), got: "pruned".to_owned() };
        let settled = Settled::from([(key("a"), made)]);
        assert_eq!(plan(&view(&[("a", "pruned")]), &wanted, &settled, all()), []);
        assert_eq!(plan(&view(&[("a", "tampered")]), &wanted, &settled, all()).len(), 1);
    }

    #[test]
    fn what_somebody_else_put_there_is_in_place_while_it_is_the_same() {
        let shared = Accepted::Shared { hash: "new".to_owned(), with: "k8ssandra-operator".to_owned() };
        let settled = Settled::from([(key("a"), shared)]);
        let of = |hash: &str| BTreeMap::from([(key("a"), wanted(Some(hash)))]);
        assert_eq!(plan(&view(&[]), &of("new"), &settled, all()), []);
        assert_eq!(shared_with(&view(&[]), &key("a"), &settled), Some("k8ssandra-operator"));
        assert_eq!(plan(&view(&[]), &of("newer"), &settled, all()), [Action::Create(key("a"))]);
        assert_eq!(shared_with(&view(&[("a", "new")]), &key("a"), &settled), None, "it is ours by now");
        assert_eq!(plan(&view(&[]), &BTreeMap::new(), &settled, all()), [], "and never taken back");
    }
}
