//! Who asks for DataPlanes, and what to do for that. Pure.
//!
//! In: labelled Secrets, ClientConfigs and the DataPlanes there are. Out: DataPlanes to make, change and delete, and
//! who cannot have one. What somebody else made is never changed.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    api::{
        Reason, Why,
        fleet::{KubeconfigSecretRef, LOCAL, RegisteredFrom as Origin},
        k8ssandra::ClientConfig,
        names,
    },
    control_plane::{
        data_planes::view::ObjectKey,
        sources::{Kept, Standing},
    },
};

fn origin_of(key: &ObjectKey) -> Origin {
    Origin::ClientConfig { namespace: key.namespace.clone(), name: key.name.clone() }
}

/// A DataPlane that somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Who.
    pub(super) origin: Origin,
    pub(super) name: String,
    /// Where its kubeconfig is.
    pub(super) secret: KubeconfigSecretRef,
    pub(super) context: Option<String>,
}

/// Why somebody cannot have a DataPlane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// Who.
    pub(super) origin: Origin,
    /// Name of the DataPlane it asks for, when that can be told.
    pub(super) name: Option<String>,
    /// Why, for machines.
    pub(super) reason: Reason,
    /// Why, and what to do, for people.
    pub(super) note: String,
}

/// Everything that asks for DataPlanes.
#[derive(Debug, Default)]
pub(super) struct Asking {
    /// Who may have one, the first before the others.
    requests: Vec<Request>,
    /// Who may not, whatever DataPlanes there are.
    refused: Vec<Refused>,
    /// ClientConfigs outside the namespaces that count.
    outside: BTreeSet<ObjectKey>,
    /// Whether the above are all ClientConfigs there are.
    all_client_configs: bool,
    /// Whether the above are all labelled Secrets there are.
    all_secrets: bool,
}

impl Asking {
    /// Of the labelled Secrets in namespace `home` (`None` while they are not listed), and of the ClientConfigs in the
    /// namespaces `within` (everywhere when empty).
    pub(super) fn new(
        home: &str,
        secrets: Option<&BTreeSet<String>>,
        client_configs: &Kept<ClientConfig>,
        within: &BTreeSet<String>,
    ) -> Self {
        let mut asking = Self {
            all_client_configs: client_configs.standing == Standing::Listed,
            all_secrets: secrets.is_some(),
            ..Self::default()
        };
        for secret in secrets.into_iter().flatten() {
            asking.requests.push(Request {
                origin: Origin::Secret(secret.clone()),
                name: secret.clone(),
                secret: KubeconfigSecretRef { name: secret.clone(), ..KubeconfigSecretRef::default() },
                context: None,
            });
        }
        let is_within = |key: &ObjectKey| within.is_empty() || within.contains(&key.namespace);
        let all = client_configs.items.keys().chain(client_configs.unreadable.keys());
        asking.outside = all.filter(|key| !is_within(key)).cloned().collect();
        for (key, error) in client_configs.unreadable.iter().filter(|(key, _)| is_within(key)) {
            asking.refused.push(Refused {
                origin: origin_of(key),
                name: None,
                reason: Reason::InvalidObject,
                note: format!(
                    "it cannot be read: {error}; correct that field, or delete the ClientConfig. What it registered stays as \
                     it is until then"
                ),
            });
        }
        let readable = client_configs
            .items
            .iter()
            .filter(|(key, _)| is_within(key) && !client_configs.unreadable.contains_key(key));
        for (key, client_config) in readable {
            match request(home, key, client_config) {
                Ok(request) => asking.requests.push(request),
                Err(refused) => asking.refused.push(refused),
            }
        }
        asking
    }

    /// Whether nobody asks any more for a DataPlane that was made for somebody. A ClientConfig that is only malformed, or
    /// does not count any more, keeps its own.
    fn is_gone(&self, name: &str, plane: &Plane) -> bool {
        let Some(origin) = &plane.origin else { return false };
        let is_asked_for = self.requests.iter().any(|r| r.origin == *origin && r.name == name)
            || self.refused.iter().any(|r| r.origin == *origin)
            || self.outside.iter().any(|key| origin_of(key) == *origin);
        let all_are_known = match origin {
            Origin::Secret(_) => self.all_secrets,
            Origin::ClientConfig { .. } => self.all_client_configs,
        };
        !is_asked_for && all_are_known
    }
}

/// What a ClientConfig asks for.
fn request(home: &str, key: &ObjectKey, client_config: &ClientConfig) -> Result<Request, Refused> {
    let origin = origin_of(key);
    let context = client_config.context();
    let name = names::dns_name(context);
    let secret = &client_config.spec.kube_config_secret.name;
    let refused = |note: &str| {
        let (origin, name, note) = (origin.clone(), Some(name.clone()), note.to_owned());
        Err(Refused { origin, name, reason: Reason::InvalidSpec, note })
    };
    if secret.is_empty() {
        return refused("`spec.kubeConfigSecret.name` is empty; name the Secret that holds the kubeconfig");
    }
    if !names::is_object_name(secret) {
        return refused(
            "`spec.kubeConfigSecret.name` is no name that an object can have; use lower-case letters, digits, `-` and `.`, at \
             most 253, beginning and ending with a letter or digit",
        );
    }
    let secret = KubeconfigSecretRef {
        name: secret.clone(),
        namespace: Some(key.namespace.clone()).filter(|namespace| namespace != home),
        key: None,
    };
    Ok(Request { origin, name, secret, context: Some(context.to_owned()) })
}

/// A DataPlane as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plane {
    /// What we made it for, when we did.
    pub(super) origin: Option<Origin>,
    pub(super) secret: Option<KubeconfigSecretRef>,
    pub(super) context: Option<String>,
    pub(super) deleting: bool,
}

impl Plane {
    /// Whether it already says what is asked for. Who asks by a labelled Secret leaves the context to the DataPlane, and
    /// both leave it the key.
    fn grants(&self, request: &Request) -> bool {
        let secret = self.secret.as_ref().map(|s| (&s.name, s.namespace.as_deref().unwrap_or_default()));
        let asked = (&request.secret.name, request.secret.namespace.as_deref().unwrap_or_default());
        secret == Some(asked) && (request.context.is_none() || request.context == self.context)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RegistrationStep {
    Register(Request),
    /// The DataPlane made for this ClientConfig says something else: make it say this.
    Amend(Request),
    /// Delete this DataPlane: nobody asks for it any more.
    Unregister(String),
    /// This one cannot have a DataPlane.
    Refuse(Refused),
}

impl RegistrationStep {
    /// Whether it writes what that one asks for.
    pub(super) fn is_of(&self, origin: &Origin) -> bool {
        match self {
            Self::Register(request) | Self::Amend(request) => request.origin == *origin,
            Self::Unregister(_) | Self::Refuse(_) => false,
        }
    }
}

/// What to do for those who ask, with the DataPlanes there are. One that is going is waited for.
pub(super) fn plan(asking: &Asking, planes: &BTreeMap<String, Plane>) -> Vec<RegistrationStep> {
    let mut steps: Vec<RegistrationStep> =
        asking.refused.iter().cloned().map(RegistrationStep::Refuse).collect();
    let mut promised: BTreeMap<&str, &Origin> = BTreeMap::new();
    for request in &asking.requests {
        let name = request.name.as_str();
        if name == LOCAL {
            let kind = request.origin.kind();
            let note = format!(
                "a {kind} cannot be registered as `local`: that name means the control plane's own cluster"
            );
            steps.push(refuse(request, Reason::ReservedName, note));
            continue;
        }
        let owner = match planes.get(name) {
            Some(plane) if plane.deleting || asking.is_gone(name, plane) => continue,
            Some(plane) if plane.grants(request) => continue,
            Some(plane) => plane.origin.as_ref(),
            None if !promised.contains_key(name) => {
                promised.insert(name, &request.origin);
                steps.push(RegistrationStep::Register(request.clone()));
                continue;
            }
            None => promised.get(name).copied(),
        };
        steps.push(match (&request.origin, owner) {
            (Origin::ClientConfig { .. }, Some(owner)) if *owner == request.origin => {
                RegistrationStep::Amend(request.clone())
            }
            (origin, owner) => refuse(request, Reason::NameConflict, conflict(name, origin, owner)),
        });
    }
    let gone = planes.iter().filter(|(name, plane)| !plane.deleting && asking.is_gone(name, plane));
    steps.extend(gone.map(|(name, _)| RegistrationStep::Unregister(name.clone())));
    steps
}

fn refuse(request: &Request, reason: Reason, note: String) -> RegistrationStep {
    RegistrationStep::Refuse(Refused {
        origin: request.origin.clone(),
        name: Some(request.name.clone()),
        reason,
        note,
    })
}

/// Why `name` is not for `origin`, in words.
fn conflict(name: &str, origin: &Origin, owner: Option<&Origin>) -> String {
    let whose = owner.filter(|owner| *owner != origin).map_or_else(
        || "exists and refers to another Secret".to_owned(),
        |owner| format!("is that of {owner}"),
    );
    match origin {
        Origin::Secret(_) => format!("DataPlane `{name}` {whose}; rename this Secret"),
        Origin::ClientConfig { .. } => {
            format!("DataPlane `{name}` {whose}; rename the context, or delete what is not wanted of the two")
        }
    }
}

/// Of each DataPlane that more than one asks for, why the others do not get it: its status says so.
pub(super) fn rejected(steps: &[RegistrationStep]) -> BTreeMap<String, Why> {
    let mut rejected: BTreeMap<String, Why> = BTreeMap::new();
    for step in steps {
        let RegistrationStep::Refuse(Refused { origin, name: Some(name), reason, note }) = step else {
            continue;
        };
        let said = format!("{origin} is not used: {note}");
        match rejected.get_mut(name) {
            Some(Why { message, .. }) => *message = format!("{message}. {said}"),
            None => drop(rejected.insert(name.clone(), Why::new(*reason, said))),
        }
    }
    rejected
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    const HOME: &str = "medusa-fleet";

    /// A ClientConfig in namespace `ops`.
    fn client_config(name: &str, context: &str, secret: &str) -> (ObjectKey, Arc<ClientConfig>) {
        let object = json!({
            "metadata": {"name": name, "namespace": "ops"},
            "spec": {"contextName": context, "kubeConfigSecret": {"name": secret}},
        });
        (ObjectKey::new("ops", name), Arc::new(serde_json::from_value(object).unwrap()))
    }

    fn listed(items: impl IntoIterator<Item = (ObjectKey, Arc<ClientConfig>)>) -> Kept<ClientConfig> {
        Kept { items: items.into_iter().collect(), standing: Standing::Listed, ..Kept::default() }
    }

    fn asking(secrets: &[&str], client_configs: &Kept<ClientConfig>) -> Asking {
        let secrets = secrets.iter().map(|s| (*s).to_owned()).collect();
        Asking::new(HOME, Some(&secrets), client_configs, &BTreeSet::new())
    }

    /// A DataPlane that refers to a Secret of its own namespace.
    fn plane(origin: Option<&str>, secret: &str) -> Plane {
        let secret = KubeconfigSecretRef { name: secret.to_owned(), ..KubeconfigSecretRef::default() };
        Plane { origin: origin.map(Origin::read), secret: Some(secret), ..Plane::default() }
    }

    /// The DataPlane that a request makes.
    fn made(step: &RegistrationStep) -> (String, Plane) {
        let (RegistrationStep::Register(request) | RegistrationStep::Amend(request)) = step else {
            panic!("{step:?}")
        };
        let origin = Some(Origin::read(&request.origin.written()));
        let (secret, context) = (Some(request.secret.clone()), request.context.clone());
        (request.name.clone(), Plane { origin, secret, context, deleting: false })
    }

    /// The steps in short: what, whom, and why not.
    fn short(steps: &[RegistrationStep]) -> Vec<String> {
        let short = |step: &RegistrationStep| match step {
            RegistrationStep::Register(request) => {
                format!("register {} for {}", request.name, request.origin)
            }
            RegistrationStep::Amend(request) => format!("amend {} for {}", request.name, request.origin),
            RegistrationStep::Unregister(name) => format!("unregister {name}"),
            RegistrationStep::Refuse(refused) => format!("refuse {}: {}", refused.origin, refused.reason),
        };
        steps.iter().map(short).collect()
    }

    #[test]
    fn labelled_secrets_become_data_planes_and_go_with_them() {
        let planes = BTreeMap::from([
            ("known".to_owned(), plane(Some("known"), "known")),
            ("taken".to_owned(), plane(None, "other")),
            ("gone".to_owned(), plane(Some("gone"), "gone")),
            ("mine".to_owned(), plane(None, "unlabelled")),
        ]);
        let steps = plan(&asking(&["known", "local", "new", "taken"], &Kept::default()), &planes);
        let expected = [
            "refuse Secret `local`: ReservedName",
            "register new for Secret `new`",
            "refuse Secret `taken`: NameConflict",
            "unregister gone",
        ];
        assert_eq!(short(&steps), expected);
    }

    #[test]
    fn a_client_config_becomes_the_data_plane_its_context_is_called_and_goes_with_it() {
        let mut configs = listed([client_config("eu", "", "eu-config"), client_config("us", "gke_us", "us")]);
        let steps = plan(&asking(&[], &configs), &BTreeMap::new());
        let expected =
            ["register eu for ClientConfig `ops/eu`", "register gke-us-5da7bdf4 for ClientConfig `ops/us`"];
        assert_eq!(short(&steps), expected);
        let mut planes: BTreeMap<String, Plane> = steps.iter().map(made).collect();
        assert_eq!(planes["gke-us-5da7bdf4"].context.as_deref(), Some("gke_us"), "the file's name for it");
        assert_eq!(planes["eu"].secret.as_ref().unwrap().namespace.as_deref(), Some("ops"));
        assert_eq!(plan(&asking(&[], &configs), &planes), [], "that is all");

        // Another Secret; another context; none.
        configs.items.extend([client_config("eu", "", "new"), client_config("us", "moved", "us")]);
        let steps = plan(&asking(&[], &configs), &planes);
        let expected = [
            "amend eu for ClientConfig `ops/eu`",
            "register moved for ClientConfig `ops/us`",
            "unregister gke-us-5da7bdf4",
        ];
        assert_eq!(short(&steps), expected);
        planes = steps[..2].iter().map(made).collect();
        configs.items.clear();
        assert_eq!(short(&plan(&asking(&[], &configs), &planes)), ["unregister eu", "unregister moved"]);
        planes.get_mut("eu").unwrap().deleting = true;
        assert_eq!(short(&plan(&asking(&[], &configs), &planes)), ["unregister moved"], "once is enough");
    }

    #[test]
    fn a_client_config_that_is_spoilt_or_not_listed_keeps_its_data_plane() {
        let planes = BTreeMap::from([("eu".to_owned(), plane(Some("ClientConfig/ops/eu"), "eu"))]);
        for standing in [Standing::NotListed, Standing::NotServed, Standing::Forbidden] {
            let configs = Kept { standing, ..Kept::default() };
            assert_eq!(plan(&asking(&[], &configs), &planes), [], "{standing:?}");
        }
        let malformed = [
            (listed([client_config("eu", "", "")]), "InvalidSpec"),
            (listed([client_config("eu", "", "my secret")]), "InvalidSpec"),
            (listed([client_config("eu", "", "../kube-system/x")]), "InvalidSpec"),
            (
                Kept {
                    unreadable: [(ObjectKey::new("ops", "eu"), "no".to_owned())].into(),
                    ..listed([client_config("eu", "", "old")])
                },
                "InvalidObject",
            ),
        ];
        for (configs, reason) in malformed {
            let steps = short(&plan(&asking(&[], &configs), &planes));
            assert_eq!(steps, [format!("refuse ClientConfig `ops/eu`: {reason}")]);
        }
    }

    #[test]
    fn client_configs_are_heard_while_secrets_cannot_be_listed_and_nothing_is_taken_back() {
        let planes = BTreeMap::from([("gone".to_owned(), plane(Some("gone"), "gone"))]);
        let configs = listed([client_config("us", "", "us")]);
        let asking = Asking::new(HOME, None, &configs, &BTreeSet::new());
        assert_eq!(short(&plan(&asking, &planes)), ["register us for ClientConfig `ops/us`"]);
    }

    #[test]
    fn a_name_that_is_taken_is_refused_on_both_sides_and_nothing_is_changed() {
        let configs = listed([
            client_config("a", "eu", "a"),
            client_config("b", "eu", "b"),
            client_config("home", "local", "home"),
            client_config("own", "own", "own"),
        ]);
        let first = plan(&asking(&["eu"], &configs), &BTreeMap::new());
        let expected = [
            "register eu for Secret `eu`",
            "refuse ClientConfig `ops/a`: NameConflict",
            "refuse ClientConfig `ops/b`: NameConflict",
            "refuse ClientConfig `ops/home`: ReservedName",
            "register own for ClientConfig `ops/own`",
        ];
        assert_eq!(short(&first), expected);
        let Why { reason, message: said } = &rejected(&first)["eu"];
        assert_eq!(*reason, Reason::NameConflict);
        assert!(said.contains("ClientConfig `ops/a`") && said.contains("ClientConfig `ops/b`"), "{said}");

        // A person's own DataPlane is left alone too, and one that says the same is no conflict.
        let same = listed([client_config("own", "own", "own")]);
        let secret = KubeconfigSecretRef {
            name: "own".to_owned(),
            namespace: Some("ops".to_owned()),
            key: Some("value".to_owned()),
        };
        let own = Plane { secret: Some(secret), context: Some("own".to_owned()), ..Plane::default() };
        let planes = BTreeMap::from([("own".to_owned(), own)]);
        assert_eq!(plan(&asking(&[], &same), &planes), []);
        let planes = BTreeMap::from([("own".to_owned(), plane(None, "another"))]);
        assert_eq!(
            short(&plan(&asking(&[], &same), &planes)),
            ["refuse ClientConfig `ops/own`: NameConflict"]
        );
    }

    #[test]
    fn a_name_that_is_becoming_free_is_waited_for() {
        let configs = listed([client_config("eu", "", "eu")]);
        let mut old = plane(Some("eu"), "eu");
        let planes = BTreeMap::from([("eu".to_owned(), old.clone())]);
        assert_eq!(short(&plan(&asking(&[], &configs), &planes)), ["unregister eu"]);
        old.deleting = true;
        assert_eq!(plan(&asking(&[], &configs), &BTreeMap::from([("eu".to_owned(), old)])), []);
    }

    #[test]
    fn client_configs_count_only_in_the_namespaces_that_were_named() {
        let configs = listed([client_config("eu", "", "eu")]);
        let only = |namespace: &str| {
            let within = BTreeSet::from([namespace.to_owned()]);
            plan(&Asking::new(HOME, Some(&BTreeSet::new()), &configs, &within), &BTreeMap::new()).len()
        };
        assert_eq!((only("ops"), only("elsewhere")), (1, 0));
        // One that does not count any more registers nothing, and is still there: nothing is taken back.
        let planes = BTreeMap::from([("eu".to_owned(), plane(Some("ClientConfig/ops/eu"), "eu"))]);
        let elsewhere = BTreeSet::from(["elsewhere".to_owned()]);
        let plan = |configs| plan(&Asking::new(HOME, Some(&BTreeSet::new()), configs, &elsewhere), &planes);
        assert_eq!(plan(&configs), []);
        assert_eq!(short(&plan(&listed([]))), ["unregister eu"]);
    }
}
