//! Bytes to the shape of a kubeconfig, within bounds. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};
use serde_saphyr::{Options, budget, options};

use super::{Fault, shape};

/// The largest kubeconfig that is read; a Secret holds less, and so do files of people with a thousand clusters.
pub const MAX_BYTES: usize = 2 * 1024 * 1024;
/// Scalars, lists and maps of one file.
const MAX_NODES: usize = 100_000;
/// Aliases of one file: kubectl knows them, nobody needs many.
const MAX_ALIASES: usize = 100;

/// A kubeconfig as it is written. What is not used is not kept.
#[derive(Default, Deserialize)]
pub struct File {
    pub(super) kind: Option<String>,
    #[serde(rename = "apiVersion")]
    pub(super) api_version: Option<String>,
    #[serde(rename = "current-context")]
    pub(super) current_context: Option<String>,
    pub(super) contexts: Option<Vec<NamedContext>>,
    pub(super) clusters: Option<Vec<NamedCluster>>,
    pub(super) users: Option<Vec<NamedUser>>,
}

#[derive(Default, Deserialize)]
pub(super) struct NamedContext {
    pub(super) name: Option<String>,
    pub(super) context: Option<Context>,
}

#[derive(Clone, Default, Deserialize)]
pub(super) struct Context {
    pub(super) cluster: Option<String>,
    pub(super) user: Option<String>,
    pub(super) namespace: Option<String>,
}

#[derive(Default, Deserialize)]
pub(super) struct NamedCluster {
    pub(super) name: Option<String>,
    pub(super) cluster: Option<Cluster>,
}

/// A cluster as it is written; empty fields are absent once it is chosen.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cluster {
    pub(crate) server: Option<String>,
    pub(crate) tls_server_name: Option<String>,
    pub(crate) insecure_skip_tls_verify: Option<bool>,
    pub(crate) certificate_authority: Option<String>,
    pub(crate) certificate_authority_data: Option<String>,
    pub(crate) proxy_url: Option<String>,
    pub(super) extensions: Option<Vec<Extension>>,
}

/// The extension of a cluster that programs of `exec` are told.
pub(super) const EXEC_EXTENSION: &str = "client.authentication.k8s.io/exec";

#[derive(Clone, Default, Deserialize)]
pub(super) struct Extension {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) extension: serde_json::Value,
}

#[derive(Default, Deserialize)]
pub(super) struct NamedUser {
    pub(super) name: Option<String>,
    pub(super) user: Option<User>,
}

/// A user as it is written; empty fields are absent once it is chosen.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct User {
    pub(crate) token: Option<String>,
    #[serde(rename = "tokenFile")]
    pub(crate) token_file: Option<String>,
    pub(crate) client_certificate: Option<String>,
    pub(crate) client_certificate_data: Option<String>,
    pub(crate) client_key: Option<String>,
    pub(crate) client_key_data: Option<String>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    #[serde(rename = "as")]
    pub(crate) impersonate: Option<String>,
    #[serde(rename = "as-uid")]
    pub(crate) impersonate_uid: Option<String>,
    #[serde(rename = "as-groups")]
    pub(crate) impersonate_groups: Option<Vec<Option<String>>>,
    #[serde(rename = "as-user-extra")]
    pub(crate) impersonate_extra: Option<BTreeMap<String, Option<Vec<Option<String>>>>>,
    pub(crate) exec: Option<serde_json::Value>,
    pub(crate) auth_provider: Option<serde_json::Value>,
}

/// The file that `bytes` are: YAML or JSON, in UTF-8, or in UTF-16 with a byte order mark.
///
/// # Errors
/// What keeps it from being a kubeconfig, without quoting it.
pub fn parse(bytes: &[u8]) -> Result<File, Fault> {
    let fault = |what: &str| Fault::new("kubeconfig", what);
    if bytes.len() > MAX_BYTES {
        return Err(fault("is larger than 2 MiB; give one with only the context that is used"));
    }
    let text = decode(bytes).ok_or_else(|| fault("is not text; write it in UTF-8"))?;
    let file = read(&text)?;
    if let Some(kind) = file.kind.as_deref().filter(|kind| !kind.is_empty() && *kind != "Config") {
        let kind = super::shown(kind);
        return Err(Fault::new("kind", format!("is `{kind}`, not `Config`: this is no kubeconfig")));
    }
    if file.api_version.as_deref().is_some_and(|version| !version.is_empty() && version != "v1") {
        return Err(Fault::new("apiVersion", "is not `v1`, the only version of kubeconfigs"));
    }
    Ok(file)
}

fn decode(bytes: &[u8]) -> Option<String> {
    let wide = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes.as_chunks::<2>();
        let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
        rest.is_empty().then(|| String::from_utf16(&units).ok())?
    };
    match bytes {
        [0xFF, 0xFE, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xFE, 0xFF, rest @ ..] => wide(rest, u16::from_be_bytes),
        [0xEF, 0xBB, 0xBF, rest @ ..] => String::from_utf8(rest.to_vec()).ok(),
        all => String::from_utf8(all.to_vec()).ok(),
    }
}

fn read(text: &str) -> Result<File, Fault> {
    // JSON with tabs is no YAML.
    if text.trim_start().starts_with('{')
        && let Ok(file) = serde_json::from_str(text)
    {
        return Ok(file);
    }
    let file: File = yaml(text, true).map_err(|unread| {
        let misfit = yaml(text, true).ok().as_ref().and_then(shape::misfit);
        misfit.map_or(unread.fault, |fault| Fault { message: fault.message + &unread.place, ..fault })
    })?;
    // Base64 of a `…-data` field stays as it is; whatever else has the tag means what it decodes to.
    let is_tagged = text.contains("!!binary") || text.contains("tag:yaml.org,2002:binary");
    if is_tagged && let Ok(decoded) = yaml::<File>(text, false) {
        return Ok(with_data_of(decoded, file));
    }
    Ok(file)
}

/// Why text is no file, and where in it.
struct Unread {
    fault: Fault,
    place: String,
}

impl Unread {
    fn at(place: String, what: impl std::fmt::Display) -> Self {
        Self { fault: Fault::new("kubeconfig", what), place }
    }
}

fn yaml<T: DeserializeOwned>(text: &str, binary_is_text: bool) -> Result<T, Unread> {
    let options: Options = options! {
        budget: budget! {
            max_nodes: MAX_NODES,
            max_events: 4 * MAX_NODES,
            max_total_scalar_bytes: MAX_BYTES,
            max_aliases: MAX_ALIASES,
            max_anchors: MAX_ALIASES,
            max_recorded_anchor_bytes: MAX_BYTES,
            max_merge_keys: MAX_ALIASES,
            max_documents: 16,
        },
        ignore_binary_tag_for_string: binary_is_text,
        with_snippet: false,
    };
    let documents: Vec<T> = serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        // The parser's message may quote the text, which holds credentials.
        let place = error.location().map(|at| format!(" (line {}, column {})", at.line(), at.column()));
        let place = place.unwrap_or_default();
        let what = format!(
            "is not a kubeconfig in YAML or JSON{place}; check it with `kubectl config view --kubeconfig FILE`"
        );
        Unread::at(place, what)
    })?;
    let count = documents.len();
    let mut documents = documents.into_iter();
    match (documents.next(), count) {
        (Some(file), 1) => Ok(file),
        (None, _) => Err(Unread::at(String::new(), "is empty")),
        (Some(_), _) => Err(Unread::at(
            String::new(),
            format!("holds {count} YAML documents; keep the one that is meant"),
        )),
    }
}

fn with_data_of(mut file: File, data: File) -> File {
    let clusters = file.clusters.iter_mut().flatten().zip(data.clusters.into_iter().flatten());
    for (to, from) in clusters.filter_map(|(to, from)| to.cluster.as_mut().zip(from.cluster)) {
        to.certificate_authority_data = from.certificate_authority_data;
    }
    let users = file.users.iter_mut().flatten().zip(data.users.into_iter().flatten());
    for (to, from) in users.filter_map(|(to, from)| to.user.as_mut().zip(from.user)) {
        to.client_certificate_data = from.client_certificate_data;
        to.client_key_data = from.client_key_data;
    }
    file
}
