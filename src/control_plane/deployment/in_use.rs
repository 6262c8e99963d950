//! Who still refers to a ConfigMap or Secret of ours, asked of the data plane itself right before that is deleted: what a
//! watch has not delivered yet is no proof that nobody does.
//!
//! Whoever may write datacenters in that namespace decides how many there are and what is in them. Each is read by itself and
//! let go; one that is too large to be read counts as one that refers to everything. Of those that refer to something a few are
//! enough, and a list that does not end is an answer that did not come.

use std::{collections::BTreeSet, ops::ControlFlow, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;

use super::{
    apply::each,
    ownership::references::{self, Reference, Referred},
    pod::fields,
};
use crate::{
    api::{Reason, Why, names},
    control_plane::data_planes::{
        remote::{CallError, LIST_TIMEOUT, Remote},
        view::ObjectKey,
    },
};

/// Most datacenters that are named as keeping something.
const MOST: usize = 16;
/// Longest name of a datacenter that no object can have, in a message.
const SHOWN: usize = 80;
/// Longest datacenter that is read, in bytes of JSON: one has some tens of thousands, and takes up to eighty times as much
/// memory.
const LONGEST: usize = 512 << 10;

/// A datacenter that keeps something from being deleted.
#[derive(Debug)]
pub struct UsedBy {
    pub datacenter: ObjectKey,
    pub uses: Uses,
}

/// How a datacenter refers to something.
#[derive(Debug)]
pub enum Uses {
    /// By these fields; with what it says of itself.
    Fields(Vec<Reference>, Box<ObjectMeta>),
    /// Nobody can tell: it is too large to be looked through.
    Unknown,
}

/// Why something is not deleted beside a datacenter that cannot be looked through.
#[must_use]
pub fn too_large() -> Why {
    let message = "what Medusa used is not deleted, because this datacenter is too large to see whether it refers to it: \
                   half a megabyte of JSON, or a hundred thousand fields and items. Take out what need not stand in it";
    Why::new(Reason::StillInUse, message)
}

/// The first datacenters of a namespace that refer to one of `going`, or may.
///
/// # Errors
/// When the data plane did not say: then nothing may be deleted.
pub async fn find(
    remote: &Remote,
    namespace: &str,
    going: &BTreeSet<Referred>,
) -> Result<Vec<UsedBy>, CallError> {
    first(remote, namespace, going, MOST, LIST_TIMEOUT).await
}

/// [`find`], at most so many and within this time.
async fn first(
    remote: &Remote,
    namespace: &str,
    going: &BTreeSet<Referred>,
    most: usize,
    within: Duration,
) -> Result<Vec<UsedBy>, CallError> {
    let mut users = Vec::new();
    let look = each(remote, namespace, |json| {
        if let Some((name, uses)) = look_through(json, going) {
            users.push(UsedBy { datacenter: ObjectKey::new(namespace, name), uses });
        }
        if users.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    tokio::time::timeout(within, look).await.map_err(|_| CallError::Endless)??;
    Ok(users)
}

/// A datacenter beside a Secret that refers to it, or may.
///
/// # Errors
/// When the data plane did not say.
pub async fn of_secret(remote: &Remote, secret: &ObjectKey) -> Result<Option<UsedBy>, CallError> {
    let going = BTreeSet::from([Referred::Secret(secret.name.clone())]);
    Ok(first(remote, &secret.namespace, &going, 1, LIST_TIMEOUT).await?.pop())
}

/// Name of the datacenter in `json`, and how it refers to one of `going`; nothing if it does not.
fn look_through(json: &str, going: &BTreeSet<Referred>) -> Option<(String, Uses)> {
    // A name without escapes stands there as it is, and those of Kubernetes have none.
    if !going.iter().any(|to| json.contains(to.name())) && !json.contains("\\u") {
        return None;
    }
    if json.len() <= LONGEST
        && let Ok(datacenter) = serde_json::from_str::<Value>(json)
        && fields::is_bounded(&datacenter)
    {
        let references = references::to_any_of(&datacenter, going);
        let meta = metadata(json);
        return (!references.is_empty()).then(|| (name_of(&meta), Uses::Fields(references, Box::new(meta))));
    }
    Some((name_of(&metadata(json)), Uses::Unknown))
}

/// The metadata of an object of which nothing else is read.
fn metadata(json: &str) -> ObjectMeta {
    #[derive(Deserialize)]
    struct Object {
        metadata: ObjectMeta,
    }
    let meta = serde_json::from_str::<Object>(json).map(|object| object.metadata).unwrap_or_default();
    ObjectMeta { managed_fields: None, ..meta }
}

/// The name of a datacenter, as it may stand in a message whoever gave it.
fn name_of(meta: &ObjectMeta) -> String {
    let name = meta.name.as_deref().unwrap_or_default();
    if names::is_object_name(name) { name.to_owned() } else { names::shown(name, SHOWN) }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::{Client, client::Body};
    use serde_json::json;

    use super::*;
    use crate::api::fleet::Limits;

    fn datacenter(name: &str, spec: &Value) -> Value {
        json!({
            "apiVersion": "cassandra.datastax.com/v1beta1", "kind": "CassandraDatacenter",
            "metadata": {"name": name, "namespace": "cass"}, "spec": spec,
        })
    }

    fn referring(to: &str) -> Value {
        let volumes = json!([{"name": "v", "configMap": {"name": to}}]);
        json!({"clusterName": "shop", "podTemplateSpec": {"spec": {"containers": [], "volumes": volumes}}})
    }

    fn going() -> BTreeSet<Referred> {
        BTreeSet::from([Referred::ConfigMap("shop-medusa".to_owned())])
    }

    /// An API server with these pages; one that is `None` fails.
    fn remote(pages: Vec<Option<Vec<Value>>>) -> Remote {
        let service = tower::service_fn(move |request: Request<Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            let number =
                query.split("continue=").nth(1).and_then(|rest| rest.split('&').next()?.parse().ok());
            let number: usize = number.unwrap_or(0);
            let next = (number + 1 < pages.len()).then(|| (number + 1).to_string());
            let (code, body) = match &pages[number] {
                Some(items) => (
                    200,
                    json!({
                        "apiVersion": "cassandra.datastax.com/v1beta1", "kind": "CassandraDatacenterList",
                        "metadata": {"resourceVersion": "1", "continue": next}, "items": items,
                    }),
                ),
                None => (500, json!({"kind": "Status", "status": "Failure", "message": "", "code": 500})),
            };
            let body = Body::from(body.to_string().into_bytes());
            async move { Response::builder().status(code).body(body) }
        });
        Remote::new(Client::new(service, "default"), &Limits::default())
    }

    #[tokio::test]
    async fn every_page_is_looked_through() {
        let one = datacenter("dc1", &referring("mine"));
        let other = datacenter("dc2", &referring("shop-medusa"));
        let users = find(&remote(vec![Some(vec![one.clone()]), Some(vec![other])]), "cass", &going()).await;
        let users = users.unwrap();
        let [user] = users.as_slice() else { panic!("{users:?}") };
        assert_eq!(user.datacenter, ObjectKey::new("cass", "dc2"));
        assert!(matches!(&user.uses, Uses::Fields(fields, meta) if fields.len() == 1 && meta.name.is_some()));
        assert!(find(&remote(vec![Some(vec![one])]), "cass", &going()).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_few_that_refer_to_it_are_enough() {
        let all: Vec<Value> =
            (0..100).map(|n| datacenter(&format!("dc{n}"), &referring("shop-medusa"))).collect();
        let users = find(&remote(vec![Some(all), None]), "cass", &going()).await;
        assert_eq!(users.unwrap().len(), MOST, "and nothing more is asked for");
    }

    #[tokio::test]
    async fn a_list_that_does_not_end_is_an_answer_that_did_not_come() {
        let service = tower::service_fn(|_: Request<Body>| async {
            let page = json!({"metadata": {"continue": "more"}, "items": []}).to_string();
            Response::builder().body(Body::from(page.into_bytes()))
        });
        let remote = Remote::new(Client::new(service, "default"), &Limits::default());
        let found = first(&remote, "cass", &going(), MOST, Duration::from_millis(200)).await;
        assert!(matches!(found, Err(CallError::Endless)), "{found:?}");
    }

    #[test]
    fn a_name_that_no_object_has_is_short_where_it_is_shown() {
        let long = datacenter(&"x\n".repeat(4000), &referring("shop-medusa")).to_string();
        let Some((name, _)) = look_through(&long, &going()) else { panic!() };
        assert!(name.len() <= SHOWN && !name.contains('\n'), "{name}");
    }

    #[tokio::test]
    async fn a_page_that_does_not_come_leaves_the_answer_open() {
        let pages = vec![Some(vec![datacenter("dc1", &json!({}))]), None];
        assert!(find(&remote(pages), "cass", &going()).await.is_err());
    }

    #[test]
    fn what_is_too_large_to_be_read_may_refer_to_anything() {
        let mut spec = referring("shop-medusa");
        spec["config"] = (0..60_000).map(|n| json!({"a": n})).collect();
        let large = datacenter("dc1", &spec).to_string();
        assert!(large.len() > LONGEST);
        assert!(matches!(look_through(&large, &going()), Some((name, Uses::Unknown)) if name == "dc1"));
        let parts = json!({"config": vec![json!([]); 120_000], "superuserSecretName": "shop-medusa"});
        let parts = datacenter("dc2", &parts).to_string();
        assert!(parts.len() <= LONGEST);
        assert!(matches!(look_through(&parts, &going()), Some((name, Uses::Unknown)) if name == "dc2"));
    }

    #[test]
    fn a_name_that_is_written_with_escapes_is_found() {
        let escaped = datacenter("dc1", &referring("shop-medusa"))
            .to_string()
            .replace("shop-medusa", "shop\\u002dmedusa");
        assert!(matches!(look_through(&escaped, &going()), Some((_, Uses::Fields(..)))));
    }
}
