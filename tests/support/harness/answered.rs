//! Which requests an API server has answered, by its own count.

use std::collections::BTreeMap;

use kube::Client;

use super::Result;

/// What an API server has answered since it started.
#[derive(Clone, Debug, Default)]
pub struct Answered {
    /// When it started.
    pub started: String,
    /// How many of each.
    pub requests: BTreeMap<Request, f64>,
}

/// What tells requests apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// As the API server calls it: `LIST`, `APPLY`.
    pub verb: String,
    /// Plural of the kind; empty when it is not about objects.
    pub resource: String,
    /// Such as `status`; else the path, when it is not about objects.
    pub subresource: String,
    /// Of the answer.
    pub code: String,
}

impl Answered {
    /// Reads the API server's metrics.
    pub async fn of(client: &Client) -> Result<Self> {
        let text = client.request_text(http::Request::get("/metrics").body(Vec::new())?).await?;
        let started = text.lines().find_map(|line| line.strip_prefix("process_start_time_seconds "));
        let mut answered = Self { started: started.unwrap_or_default().to_owned(), ..Self::default() };
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("apiserver_request_total{") else { continue };
            let Some((labels, count)) = rest.rsplit_once("} ") else { continue };
            let label = |name: &str| {
                let found =
                    labels.split_once(&format!("{name}=\"")).and_then(|(_, rest)| rest.split('"').next());
                found.unwrap_or_default().to_owned()
            };
            let request = Request {
                verb: label("verb"),
                resource: label("resource"),
                subresource: label("subresource"),
                code: label("code"),
            };
            *answered.requests.entry(request).or_insert(0.0) +=
                count.trim().parse::<f64>().unwrap_or_default();
        }
        Ok(answered)
    }
}
