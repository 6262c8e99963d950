//! Who still refers to a ConfigMap or Secret of ours, asked of the data plane itself right before that is deleted: what a
//! watch has not delivered yet is no proof that nobody does.
//!
//! Whoever may write datacenters in that namespace decides how many there are and what is in them. Each is read by itself and
//! let go; one that is too large to be read counts as one that refers to everything.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

use super::{
    apply::each,
    ownership::references::{self, Reference, Referred},
    pod::fields,
};
use crate::{
    api::{Reason, Why, cassandra::CassandraDatacenter},
    control_plane::data_planes::{
        remote::{CallError, Remote},
        view::ObjectKey,
    },
};

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
    /// By these fields; with what else can be read of it.
    Fields(Vec<Reference>, Option<Box<CassandraDatacenter>>),
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

/// The datacenters of a namespace that refer to one of `going`, or may.
///
/// # Errors
/// When the data plane did not say: then nothing may be deleted.
pub async fn find(
    remote: &Remote,
    namespace: &str,
    going: &BTreeSet<Referred>,
) -> Result<Vec<UsedBy>, CallError> {
    let mut users = Vec::new();
    each(remote, namespace, |json| {
        if let Some((name, uses)) = look_through(json, going) {
            users.push(UsedBy { datacenter: ObjectKey::new(namespace, name), uses });
        }
    })
    .await?;
    Ok(users)
}

/// A datacenter beside a Secret that refers to it, or may.
///
/// # Errors
/// When the data plane did not say.
pub async fn of_secret(remote: &Remote, secret: &ObjectKey) -> Result<Option<UsedBy>, CallError> {
    let going = BTreeSet::from([Referred::Secret(secret.name.clone())]);
    Ok(find(remote, &secret.namespace, &going).await?.into_iter().next())
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
        let name = datacenter.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let name = name.to_owned();
        let read = || serde_json::from_value(datacenter).ok().map(Box::new);
        return (!references.is_empty()).then(|| (name, Uses::Fields(references, read())));
    }
    Some((name_of(json), Uses::Unknown))
}

/// Name of an object of which nothing else is read.
fn name_of(json: &str) -> String {
    #[derive(Deserialize)]
    struct Named {
        metadata: Name,
    }
    #[derive(Deserialize)]
    struct Name {
        name: String,
    }
    serde_json::from_str::<Named>(json).map(|named| named.metadata.name).unwrap_or_default()
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
        assert!(matches!(&user.uses, Uses::Fields(fields, Some(_)) if fields.len() == 1));
        assert!(find(&remote(vec![Some(vec![one])]), "cass", &going()).await.unwrap().is_empty());
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
