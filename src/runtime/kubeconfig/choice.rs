//! Which cluster and which user a kubeconfig means. Pure.

use super::{
    Fault, shown,
    text::{Cluster, Context, EXEC_EXTENSION, Extension, File, User},
};

/// The context that was chosen, with what it names. Empty fields are absent, as for kubectl.
pub struct Chosen {
    /// Its name.
    pub context: String,
    /// Name of its cluster.
    pub cluster_name: String,
    /// Name of its user.
    pub user_name: String,
    pub(crate) cluster: Cluster,
    pub(crate) user: User,
    pub(super) namespace: Option<String>,
}

impl Chosen {
    /// The user's name as it is shown.
    #[must_use]
    pub fn shown_user(&self) -> String {
        shown(&self.user_name)
    }
}

/// Picks `context`, or the file's current one; `option` is how a person chooses another.
///
/// # Errors
/// What is missing, or there twice.
pub fn choose(file: &File, context: Option<&str>, option: &str) -> Result<Chosen, Fault> {
    let contexts = file.contexts.as_deref().unwrap_or_default();
    let clusters = file.clusters.as_deref().unwrap_or_default();
    let users = file.users.as_deref().unwrap_or_default();
    unique("contexts", contexts.iter().map(|c| c.name.as_deref()))?;
    unique("clusters", clusters.iter().map(|c| c.name.as_deref()))?;
    unique("users", users.iter().map(|u| u.name.as_deref()))?;

    let wanted = context.filter(|name| !name.is_empty());
    let current = file.current_context.as_deref().filter(|name| !name.is_empty());
    let name = wanted
        .or(current)
        .ok_or_else(|| Fault::new("current-context", format!("is not set; set it, or {option}")))?;
    let known = || {
        let names: Vec<String> =
            contexts.iter().filter_map(|c| c.name.as_deref()).take(10).map(shown).collect();
        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
    };
    let Some(context) = contexts.iter().find(|c| c.name.as_deref() == Some(name)) else {
        return Err(Fault::new("contexts", format!("has no context `{}`; it has: {}", shown(name), known())));
    };
    let Context { cluster, user, namespace } = context.context.clone().unwrap_or_default();
    let (cluster_name, user_name) = (cluster.unwrap_or_default(), user.unwrap_or_default());
    if cluster_name.is_empty() {
        return Err(Fault::new(
            "cluster",
            format!("is missing in context `{}`; name one of `clusters` there", shown(name)),
        ));
    }
    let Some(cluster) = clusters.iter().find(|c| c.name.as_deref() == Some(&cluster_name)) else {
        return Err(Fault::new(
            "clusters",
            format!(
                "has no `{0}`: context `{1}` names cluster `{0}`, which is not there",
                shown(&cluster_name),
                shown(name)
            ),
        ));
    };
    let user = users.iter().find(|u| u.name.as_deref() == Some(&user_name));
    if user.is_none() && !user_name.is_empty() {
        return Err(Fault::new(
            "users",
            format!(
                "has no `{0}`: context `{1}` names user `{0}`, which is not there",
                shown(&user_name),
                shown(name)
            ),
        ));
    }
    Ok(Chosen {
        context: name.to_owned(),
        cluster: without_empty_cluster(cluster.cluster.clone().unwrap_or_default()),
        user: without_empty_user(user.and_then(|u| u.user.clone()).unwrap_or_default()),
        namespace: filled(namespace),
        cluster_name,
        user_name,
    })
}

/// As kubectl does: of two with one name nobody knows which is meant.
fn unique<'a>(field: &'static str, names: impl Iterator<Item = Option<&'a str>>) -> Result<(), Fault> {
    let mut seen = std::collections::BTreeSet::new();
    match names.flatten().find(|name| !seen.insert(*name)) {
        Some(twice) => {
            Err(Fault::new(field, format!("has `{}` twice; remove or rename one of them", shown(twice))))
        }
        None => Ok(()),
    }
}

fn filled(value: Option<String>) -> Option<String> {
    value.filter(|value| !value.trim().is_empty())
}

// Taken apart, so that a new field cannot be forgotten.
fn without_empty_cluster(cluster: Cluster) -> Cluster {
    let Cluster {
        server,
        tls_server_name,
        insecure_skip_tls_verify,
        certificate_authority,
        certificate_authority_data,
        proxy_url,
        extensions,
    } = cluster;
    let extensions =
        extensions.map(|all| all.into_iter().filter(|one: &Extension| one.name == EXEC_EXTENSION).collect());
    Cluster {
        server: filled(server),
        tls_server_name: filled(tls_server_name),
        insecure_skip_tls_verify: insecure_skip_tls_verify.filter(|skip| *skip),
        certificate_authority: filled(certificate_authority),
        certificate_authority_data: filled(certificate_authority_data),
        proxy_url: filled(proxy_url),
        extensions,
    }
}

fn without_empty_user(user: User) -> User {
    let User {
        token,
        token_file,
        client_certificate,
        client_certificate_data,
        client_key,
        client_key_data,
        username,
        password,
        impersonate,
        impersonate_uid,
        impersonate_groups,
        impersonate_extra,
        exec,
        auth_provider,
    } = user;
    User {
        token: filled(token),
        token_file: filled(token_file),
        client_certificate: filled(client_certificate),
        client_certificate_data: filled(client_certificate_data),
        client_key: filled(client_key),
        client_key_data: filled(client_key_data),
        username: filled(username),
        password: password.filter(|password| !password.is_empty()),
        impersonate: filled(impersonate),
        impersonate_uid: filled(impersonate_uid),
        impersonate_groups: impersonate_groups.filter(|groups| !groups.is_empty()),
        impersonate_extra: impersonate_extra.filter(|extra| !extra.is_empty()),
        exec: exec.filter(|exec| !exec.is_null()),
        auth_provider: auth_provider.filter(|provider| !provider.is_null()),
    }
}
