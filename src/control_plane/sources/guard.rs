//! What is never copied, and where no copy goes (docs/medusaconfiguration.md). Pure.
//!
//! Whoever may write a MedusaConfiguration or a K8ssandraCluster names Secrets and places; the controller's account may
//! read and write Secrets everywhere. What stands here keeps the two apart.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Secret;

use super::objects::{SecretState, SourceObjects, Standing};
use crate::{
    api::{Reason, Why, labels, names},
    control_plane::data_planes::view::ObjectKey,
};

/// Types of Secrets that are copied. Of the others many mean something to Kubernetes itself by their type alone: a
/// bootstrap token lets somebody in, a service account's token is one.
const TYPES: [&str; 2] = ["Opaque", "kubernetes.io/tls"];
/// Namespaces of Kubernetes itself.
const KUBERNETES: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];
/// The namespace our manifests put controllers and the control plane's account into.
const SHIPPED: &str = "medusa-fleet";

/// Why a Secret is by itself none that is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Never {
    /// It is labelled to register a data plane.
    Registers,
    Type(String),
}

impl Never {
    /// Judges a Secret by its type and labels.
    #[must_use]
    pub fn of(secret: &Secret) -> Option<Self> {
        if secret.metadata.labels.as_ref().is_some_and(|all| all.contains_key(labels::REGISTER)) {
            return Some(Self::Registers);
        }
        let type_ = secret.type_.as_deref().filter(|type_| !type_.is_empty()).unwrap_or("Opaque");
        (!TYPES.contains(&type_)).then(|| Self::Type(type_.to_owned()))
    }

    /// Why, and what to do, about the Secret `name`.
    #[must_use]
    pub fn why(&self, name: &str) -> Why {
        let message = match self {
            Self::Registers => format!(
                "Secret `{name}` has label `{}`: it holds the kubeconfig of a data plane and is never copied; name \
                 another Secret",
                labels::REGISTER
            ),
            Self::Type(type_) => format!(
                "Secret `{name}` is of type `{}`; only Opaque and kubernetes.io/tls are copied: make it one of these, \
                 or make it by hand where it is needed",
                names::shown(type_, 80)
            ),
        };
        Why::new(Reason::SecretRefused, message)
    }
}

/// Whether a Secret may be copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copyable {
    /// It is not known yet: then its copies are neither written nor removed.
    Unknown,
    /// An object that cannot be read may name it as a way into a cluster, and this is how a person ends that: until then
    /// its copies are neither written nor removed.
    InDoubt(Why),
    /// There is no such Secret.
    Absent,
    /// It is never copied. `takes_back`: a copy there is, is taken back at once, whoever uses it.
    Never {
        why: Why,
        /// Whether it lets its reader into a cluster.
        takes_back: bool,
    },
    /// It may be.
    Yes { uid: String, hash: String },
}

impl SourceObjects {
    /// Whether the Secret `key` may be copied.
    #[must_use]
    pub fn copyable(&self, key: &ObjectKey) -> Copyable {
        if !names::is_object_name(&key.name) {
            let message = format!(
                "no Secret can be called `{}`; correct the reference to it",
                names::shown(&key.name, 80)
            );
            return Copyable::Never { why: Why::new(Reason::InvalidSpec, message), takes_back: false };
        }
        if let Some(by) = self.named_by(key) {
            let message = format!(
                "Secret `{}` is what {by} reaches a cluster with, and is never copied; name another Secret",
                key.name
            );
            return Copyable::Never { why: Why::new(Reason::SecretRefused, message), takes_back: true };
        }
        match self.secrets.get(key) {
            None | Some(SecretState::NotRead) => Copyable::Unknown,
            Some(SecretState::Absent) => Copyable::Absent,
            Some(SecretState::Read { never: Some(never), .. }) => {
                Copyable::Never { why: never.why(&key.name), takes_back: *never == Never::Registers }
            }
            Some(SecretState::Read { .. }) if !self.knows_who_names() => Copyable::Unknown,
            Some(SecretState::Read { uid, hash, .. }) => match self.in_doubt_for(key) {
                Some(why) => Copyable::InDoubt(why),
                None => Copyable::Yes { uid: uid.clone(), hash: hash.clone() },
            },
        }
    }

    /// The object that names the Secret as a way into a cluster.
    fn named_by(&self, key: &ObjectKey) -> Option<String> {
        if let Some((plane, _)) = self.named.iter().find(|(_, secret)| *secret == key) {
            return Some(format!("DataPlane `{plane}`"));
        }
        let configs = &self.client_configs.items;
        let config = configs
            .iter()
            .find(|(at, c)| at.namespace == key.namespace && c.spec.kube_config_secret.name == key.name);
        config.map(|(at, _)| format!("ClientConfig `{at}`"))
    }

    /// Whether every DataPlane is known, and every ClientConfig.
    fn knows_who_names(&self) -> bool {
        let configs = &self.client_configs;
        let listed = match configs.standing {
            Standing::NotListed => !configs.items.is_empty(),
            // Where ClientConfigs may not be listed, none of them registers a cluster.
            Standing::Listed | Standing::NotServed | Standing::Forbidden => true,
        };
        self.planes_listed && listed
    }

    /// Why nobody knows whether the Secret is a way into a cluster: a ClientConfig beside it cannot be read and mentions it.
    fn in_doubt_for(&self, key: &ObjectKey) -> Option<Why> {
        let mut configs = self.client_configs.malformed.iter();
        let (at, malformed) = configs
            .find(|(at, malformed)| at.namespace == key.namespace && malformed.may_mention(&key.name))?;
        let message = format!(
            "Secret `{}` may be what ClientConfig `{at}` reaches a cluster with, which cannot be read ({}): it is not \
             copied before that is known; correct that ClientConfig, or delete it",
            key.name, malformed.why
        );
        Some(Why::new(Reason::SecretInDoubt, message))
    }

    /// Every Secret whose copies are taken back at once.
    #[must_use]
    pub fn ways_in(&self) -> BTreeSet<ObjectKey> {
        let registers =
            |state: &SecretState| matches!(state, SecretState::Read { never: Some(Never::Registers), .. });
        let registering =
            self.secrets.iter().filter(|(_, state)| registers(state)).map(|(key, _)| key.clone());
        let configs = self.client_configs.items.iter();
        let of_configs =
            configs.map(|(at, c)| ObjectKey::new(&at.namespace, &c.spec.kube_config_secret.name));
        self.named.values().cloned().chain(of_configs).chain(registering).collect()
    }

    /// Why no copy may be made in `namespace` of any data plane. The control plane's own namespace is refused in all of
    /// them: one of them may be its own cluster under another name.
    #[must_use]
    pub fn target_refusal(&self, namespace: &str) -> Option<&'static str> {
        if KUBERNETES.contains(&namespace) {
            return Some("it is Kubernetes' own");
        }
        (namespace == self.home || namespace == SHIPPED).then_some("it is a controller's own")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::control_plane::sources::Malformed;

    fn secret(type_: Option<&str>, labels: Value) -> Secret {
        let mut object = json!({"metadata": {"name": "s", "labels": labels}});
        if let Some(type_) = type_ {
            object["type"] = json!(type_);
        }
        serde_json::from_value(object).unwrap()
    }

    #[rstest]
    #[case(None, true)]
    #[case(Some(""), true)]
    #[case(Some("Opaque"), true)]
    #[case(Some("kubernetes.io/tls"), true)]
    #[case(Some("bootstrap.kubernetes.io/token"), false)]
    #[case(Some("kubernetes.io/service-account-token"), false)]
    #[case(Some("kubernetes.io/dockerconfigjson"), false)]
    #[case(Some("helm.sh/release.v1"), false)]
    #[case(Some("opaque"), false)]
    fn only_secrets_without_a_meaning_of_their_own_are_copied(
        #[case] type_: Option<&str>,
        #[case] copied: bool,
    ) {
        assert_eq!(Never::of(&secret(type_, json!({}))).is_none(), copied);
        let registers = secret(type_, json!({labels::REGISTER: "false"}));
        assert_eq!(Never::of(&registers), Some(Never::Registers), "whatever the label says");
    }

    fn known() -> SourceObjects {
        let mut sources = SourceObjects { planes_listed: true, ..SourceObjects::default() };
        sources.client_configs.standing = Standing::Listed;
        let state = SecretState::Read {
            uid: "u".to_owned(),
            hash: "h".to_owned(),
            keys: BTreeSet::new(),
            never: None,
        };
        sources.secrets.insert(ObjectKey::new("src", "key"), state);
        sources
    }

    #[test]
    fn a_secret_that_anybody_names_as_a_way_in_is_never_copied_and_nothing_is_before_that_is_known() {
        let key = ObjectKey::new("src", "key");
        let yes = Copyable::Yes { uid: "u".to_owned(), hash: "h".to_owned() };
        assert_eq!(known().copyable(&key), yes);
        assert!(known().ways_in().is_empty());
        let mut sources = known();
        sources.named.insert("eu".to_owned(), key.clone());
        let refused = |sources: &SourceObjects| {
            let Copyable::Never { why, takes_back: true } = sources.copyable(&key) else {
                panic!("it may be")
            };
            why.message
        };
        assert!(refused(&sources).contains("DataPlane `eu`"));
        assert_eq!(sources.ways_in(), BTreeSet::from([key.clone()]));
        let mut sources = known();
        let config = json!({"metadata": {}, "spec": {"kubeConfigSecret": {"name": "key"}}});
        let config = Arc::new(serde_json::from_value(config).unwrap());
        sources.client_configs.items.insert(ObjectKey::new("other", "c"), Arc::clone(&config));
        assert_eq!(sources.copyable(&key), yes, "a ClientConfig names Secrets beside it");
        sources.client_configs.items.insert(ObjectKey::new("src", "c"), config);
        assert!(refused(&sources).contains("ClientConfig `src/c`"));

        let unknown = |change: fn(&mut SourceObjects)| {
            let mut sources = known();
            change(&mut sources);
            assert_eq!(sources.copyable(&key), Copyable::Unknown);
        };
        unknown(|s| s.planes_listed = false);
        unknown(|s| s.client_configs.standing = Standing::NotListed);
    }

    #[test]
    fn a_client_config_that_cannot_be_read_holds_up_the_secrets_beside_it_that_it_mentions_and_no_other() {
        let odd = |namespace: &str, mentions: BTreeSet<String>| {
            let mut sources = known();
            let malformed =
                Malformed { why: "spec.contextName: no".to_owned(), mentions, ..Malformed::default() };
            sources.client_configs.malformed.insert(ObjectKey::new(namespace, "odd"), Arc::new(malformed));
            sources.copyable(&ObjectKey::new("src", "key"))
        };
        let Copyable::InDoubt(why) = odd("src", ["key".to_owned()].into()) else {
            panic!("it may be copied")
        };
        assert_eq!(why.reason, Reason::SecretInDoubt);
        assert!(why.message.contains("ClientConfig `src/odd`") && why.message.contains("spec.contextName"));
        assert!(matches!(odd("src", ["other".to_owned()].into()), Copyable::Yes { .. }));
        assert!(matches!(odd("elsewhere", ["key".to_owned()].into()), Copyable::Yes { .. }));
        let many = (0..10_000).map(|n| format!("n{n}")).collect();
        assert!(matches!(odd("src", many), Copyable::InDoubt(_)), "not everything that it mentions is kept");
    }

    #[test]
    fn what_no_secret_can_be_called_is_refused_by_name() {
        for name in ["../../x", "a b", "x?y", "X"] {
            let Copyable::Never { why, takes_back: false } = known().copyable(&ObjectKey::new("src", name))
            else {
                panic!("{name}")
            };
            assert_eq!(why.reason, Reason::InvalidSpec);
        }
    }

    #[rstest]
    #[case("kube-system", false)]
    #[case("kube-public", false)]
    #[case("kube-node-lease", false)]
    #[case("ops", false)]
    #[case("medusa-fleet", false)]
    #[case("cass", true)]
    #[case("kube-systems", true)]
    #[case("default", true)]
    fn no_copy_goes_where_a_controller_or_kubernetes_lives(#[case] namespace: &str, #[case] allowed: bool) {
        let sources = SourceObjects { home: "ops".to_owned(), ..SourceObjects::default() };
        assert_eq!(sources.target_refusal(namespace).is_none(), allowed);
    }
}
