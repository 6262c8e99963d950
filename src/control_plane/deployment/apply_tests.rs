//! What is written over, and what is not.

use http::{Method, Request, Response};
use kube::client::Body;
use rstest::rstest;

use super::*;
use crate::api::{fleet::Limits, medusa::MedusaBackupSchedule};

/// A data plane that shows every object with this uid and version, and takes no apply that creates one. Whatever else
/// would be written is taken for a fault.
fn remote(uid: Option<&'static str>, version: Option<&'static str>) -> Remote {
    let service = tower::service_fn(move |request: Request<Body>| async move {
        let status = |code: u16| {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "no",
                "reason": "Conflict", "code": code,
            });
            (code, status)
        };
        let (code, body) = match *request.method() {
            Method::GET => {
                let metadata =
                    json!({"namespace": "ns", "name": "n", "uid": uid, "resourceVersion": version});
                (200, json!({"apiVersion": "v1", "kind": "X", "metadata": metadata}))
            }
            Method::PATCH => status(409),
            _ => status(500),
        };
        Response::builder().status(code).body(Body::from(body.to_string().into_bytes()))
    });
    Remote::new(Client::new(service, "default"), &Limits::default())
}

fn is_said<T>(result: Result<T, Failure>) -> bool {
    matches!(result, Err(Failure::Silent(why)) if why.contains("without uid or resourceVersion"))
}

#[rstest]
#[case::no_version(Some("u"), None)]
#[case::an_empty_version(Some("u"), Some(""))]
#[tokio::test]
async fn what_is_shown_in_no_version_is_not_written_over(
    #[case] uid: Option<&'static str>,
    #[case] version: Option<&'static str>,
) {
    let (there, key) = (remote(uid, version), ObjectKey::new("ns", "n"));
    let body = json!({"metadata": {"name": "n"}});
    assert!(is_said(read(&there, &key).await));
    assert!(is_said(delete::<MedusaBackupSchedule>(&there, &key, "u", |_| true).await));
    let known = Some((uid.unwrap_or_default(), version.unwrap_or_default()));
    assert!(is_said(put::<MedusaBackupSchedule>(&there, &key, &body, known, |_| true).await));
    // It was not known, and is there: what says that it is ours says no version.
    assert!(is_said(put::<MedusaBackupSchedule>(&there, &key, &body, None, |_| true).await));
}

#[test]
fn an_object_is_exact_with_both_uid_and_version() {
    let object = |metadata: Value| exact(json!({"metadata": metadata}), "it");
    assert!(object(json!({"uid": "u", "resourceVersion": "7"})).is_ok());
    for metadata in [
        json!({"uid": "u"}),
        json!({"resourceVersion": "7"}),
        json!({"uid": "", "resourceVersion": "7"}),
        json!({}),
    ] {
        assert!(is_said(object(metadata)));
    }
}
