//! Kubernetes Events. Losing one is not worth failing for: errors are logged.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::sync::Semaphore;

use crate::api::Reason;

/// Events under way at a time: each is a connection to the API server, which those who work need more.
const AT_ONCE: usize = 4;
/// Longest note events.k8s.io accepts.
const MAX_NOTE: usize = 1024;

/// Publishes Events into one cluster under one controller's name. Clones share the series cache.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
    permits: Arc<Semaphore>,
}

impl Events {
    /// Events from `controller`, such as `medusa-fleet/control-plane`.
    #[must_use]
    pub fn new(client: Client, controller: &str) -> Self {
        let reporter = Reporter { controller: controller.to_owned(), instance: None };
        Self { recorder: Recorder::new(client, reporter), permits: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Something went as it should. `action` is an imperative such as `CreateJob`.
    pub fn normal(&self, about: ObjectReference, reason: Reason, action: &str, note: impl Into<String>) {
        self.publish(about, EventType::Normal, reason, action, note.into());
    }

    /// Something a person should look at.
    pub fn warning(&self, about: ObjectReference, reason: Reason, action: &str, note: impl Into<String>) {
        self.publish(about, EventType::Warning, reason, action, note.into());
    }

    fn publish(&self, about: ObjectReference, type_: EventType, reason: Reason, action: &str, note: String) {
        let (recorder, permits) = (self.recorder.clone(), Arc::clone(&self.permits));
        let action = action.to_owned();
        let note = note.get(..note.floor_char_boundary(MAX_NOTE)).map(str::to_owned);
        tokio::spawn(async move {
            let event = Event { type_, reason: reason.as_str().to_owned(), note, action, secondary: None };
            // The wait counts too, so that nothing piles up while the API server does not answer.
            let publish = async {
                let _permit = permits.acquire().await;
                recorder.publish(&event, &about).await
            };
            match tokio::time::timeout(Duration::from_secs(10), publish).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, %reason, object = about.name, "cannot publish an Event");
                }
                Err(_) => {
                    tracing::warn!(%reason, object = about.name, "cannot publish an Event: no answer in time");
                }
            }
        });
    }
}
