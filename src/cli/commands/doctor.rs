//! `doctor`: what is wrong with the fleet, with what, and what to do about it.

use std::fmt::Debug;

use k8s_openapi::{
    api::coordination::v1::Lease,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{Api, Resource, api::ListParams, core::DeserializeGuard};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::{
    cli::{
        doctor::{DoctorInput, Finding, Malformed, Read, Severity, findings},
        failure::{Failure, Outcome, why},
        home::ControlPlaneClient,
        output::{Format, Printer, screen_width},
        views::{
            count,
            doctor::{screen, table},
            name,
        },
    },
    runtime::clock,
};

/// Prints what it finds, and fails when something is wrong.
///
/// # Errors
/// When something is wrong, or something could not be read.
pub async fn run(printer: Printer, home: &ControlPlaneClient) -> Outcome {
    let evidence = read(home).await?;
    let now = clock::now();
    let found = findings(&evidence, now);
    let has = |severity: Severity| found.iter().any(|finding| finding.severity == severity);
    let (is_wrong, is_open) = (has(Severity::Error) || has(Severity::Warning), has(Severity::Unknown));
    if printer.format().is_for_programs() {
        let verdict = if is_wrong { Some(false) } else { (!is_open).then_some(true) };
        printer.value(&json!({"healthy": verdict, "findings": found}))?;
    } else if !found.is_empty() {
        let is_wide = printer.format() == Format::Wide;
        let text = match screen_width().filter(|_| !is_wide) {
            Some(width) => screen(&found, width, now),
            None => table(&found, is_wide, now).render(0),
        };
        printer.text(&text)?;
    }
    if is_wrong {
        return Err(Failure::Unhealthy);
    }
    if is_open {
        let unread = count(number(&found, Severity::Unknown), "kind");
        return Err(Failure::CouldNotAsk(format!(
            "{unread} could not be read; of the rest nothing is wrong"
        )));
    }
    if printer.format().is_for_programs() { Ok(()) } else { printer.say(&format!("nothing is wrong {home}")) }
}

fn number(found: &[Finding], severity: Severity) -> usize {
    found.iter().filter(|finding| finding.severity == severity).count()
}

async fn read(home: &ControlPlaneClient) -> Outcome<DoctorInput> {
    let client = || home.client.clone();
    // One first: when nobody answers, one complaint is enough. From then on no kind hides what is known of the others.
    let data_planes = ask(&home.api())
        .await
        .or_else(|error| if is_nobody(&error) { Err(error) } else { Ok(failed(&error)) })
        .map_err(|error| Failure::reading(&format!("dataplanes {home}"), &error))?;
    let (definitions, leases, clusters, configurations, k8ssandra_clusters, schedules, jobs, tasks, restores) = futures::join!(
        list::<CustomResourceDefinition>(Api::all(client())),
        list::<Lease>(home.api()),
        list(home.api()),
        list(Api::all(client())),
        list(Api::all(client())),
        list(home.api()),
        list(home.api()),
        list(home.api()),
        list(home.api()),
    );
    Ok(DoctorInput {
        program: env!("CARGO_PKG_VERSION").to_owned(),
        definitions,
        leases,
        data_planes,
        clusters,
        configurations,
        k8ssandra_clusters,
        schedules,
        jobs,
        tasks,
        restores,
    })
}

/// Every object of one kind, or why not.
async fn list<K: Resource + Clone + Debug + DeserializeOwned>(api: Api<DeserializeGuard<K>>) -> Read<K> {
    // Many are asked at once, and each of the answers is large.
    Box::pin(ask(&api)).await.unwrap_or_else(|error| failed(&error))
}

/// What the API server says of one kind. That it is not there, or may not be read, is an answer too; objects that cannot be
/// read are put aside, so that they hide none of the others.
async fn ask<K: Resource + Clone + Debug + DeserializeOwned>(
    api: &Api<DeserializeGuard<K>>,
) -> kube::Result<Read<K>> {
    let list = match api.list(&ListParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Read::NotInstalled),
        Err(error @ kube::Error::Api(_)) if is_code(&error, 403) => return Ok(Read::Refused(why(&error))),
        answer => answer?,
    };
    let (mut readable, mut malformed) = (Vec::new(), Vec::new());
    for object in list {
        match object.0 {
            Ok(object) => readable.push(object),
            Err(invalid) => malformed.push(Malformed {
                name: name(&invalid.metadata),
                namespace: invalid.metadata.namespace,
                why: invalid.error,
            }),
        }
    }
    Ok(if malformed.is_empty() { Read::All(readable) } else { Read::Part(readable, malformed) })
}

fn failed<K>(error: &kube::Error) -> Read<K> {
    Read::Failed(why(error))
}

/// Whether nobody answered, or only to say that the credential is not accepted: the next question would fare the same.
fn is_nobody(error: &kube::Error) -> bool {
    !matches!(error, kube::Error::Api(_)) || is_code(error, 401)
}

fn is_code(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::{Client, client::Body};
    use rstest::rstest;

    use super::*;
    use crate::cli::views::fixtures::{data_planes, now};

    /// A control plane that lists its data planes and nothing else, and of `ill` answers with `code`, or not at all.
    fn home(ill: &'static str, code: Option<u16>) -> ControlPlaneClient {
        let service = tower::service_fn(move |request: Request<Body>| async move {
            let is_ill = request.uri().path().ends_with(&format!("/{ill}"));
            let items =
                if request.uri().path().ends_with("/dataplanes") { json!(data_planes()) } else { json!([]) };
            let (code, body) = match code.filter(|_| is_ill) {
                Some(code) => (
                    code,
                    json!({
                        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
                        "message": "no", "reason": "no",
                    }),
                ),
                None if is_ill => return Err(std::io::Error::other("timed out")),
                None => (200, json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items})),
            };
            let body = Body::from(body.to_string().into_bytes());
            Response::builder().status(code).body(body).map_err(std::io::Error::other)
        });
        ControlPlaneClient {
            client: Client::new(service, "default"),
            namespace: "fleet".to_owned(),
            server: "here".to_owned(),
        }
    }

    #[rstest]
    #[case::forbidden(Some(403), "NotAuthorized", "ask for the permission")]
    #[case::a_stranger(Some(401), "NotAnswered", "ask again")]
    #[case::busy(Some(429), "NotAnswered", "ask again")]
    #[case::broken(Some(500), "NotAnswered", "ask again")]
    #[case::away(Some(503), "NotAnswered", "ask again")]
    #[case::no_answer(None, "NotAnswered", "ask again")]
    #[tokio::test]
    async fn a_kind_that_gets_no_answer_hides_none_of_the_others(
        #[values(
            "customresourcedefinitions",
            "leases",
            "fleetclusters",
            "medusaconfigurations",
            "k8ssandraclusters",
            "fleetbackupschedules",
            "fleetbackupjobs",
            "fleettasks",
            "fleetrestorejobs"
        )]
        ill: &'static str,
        #[case] code: Option<u16>,
        #[case] reason: &str,
        #[case] fix: &str,
    ) {
        let evidence = read(&home(ill, code)).await.unwrap();
        let found = findings(&evidence, now());
        let of = |object: &str| {
            found.iter().find(|f| f.object == object).unwrap_or_else(|| panic!("{object}: {found:#?}"))
        };
        assert_eq!((of(ill).severity, of(ill).reason.as_str()), (Severity::Unknown, reason));
        assert!(of(ill).fix.starts_with(fix), "{}", of(ill).fix);
        assert_eq!(of("dataplane/us-1").severity, Severity::Error);
    }

    #[rstest]
    #[case::forbidden(Some(403), true)]
    #[case::a_stranger(Some(401), false)]
    #[case::broken(Some(500), true)]
    #[case::no_answer(None, false)]
    #[tokio::test]
    async fn only_who_gets_no_answer_to_the_first_question_asks_no_other(
        #[case] code: Option<u16>,
        #[case] goes_on: bool,
    ) {
        let evidence = read(&home("dataplanes", code)).await;
        assert_eq!(evidence.is_ok(), goes_on, "{evidence:?}");
    }
}
