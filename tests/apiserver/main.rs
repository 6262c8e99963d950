//! The control plane against real API servers: one control-plane cluster, up to three data planes, the real binary.
//!
//! The data planes' own work is played by the tests (`support::medusa`). Needs the testbed: `make testbed`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests fail by panicking and explain themselves on stderr"
)]

#[path = "../support/mod.rs"]
mod support;

mod again;
mod charts;
mod client_configs;
mod crashes;
mod credentials;
mod denied;
mod denied_all;
mod denied_steps;
mod deployment;
mod deployment_conflict;
mod deployment_crashes;
mod deployment_leftovers;
mod deployment_local;
mod deployment_refusals;
mod deployment_steps;
mod doctor;
mod examples;
mod fanout;
mod front;
mod full;
mod garbage;
mod inventory;
mod k8ssandracluster;
mod kubeconfigs;
mod large;
mod leaders;
mod leaders_cut;
mod leaving;
mod loosened;
mod mixed;
mod namespaced;
mod oversized;
mod page;
mod pod_template;
mod proxies;
mod reach;
mod refused;
mod registration;
mod registration_again;
mod registration_alone;
mod renewal;
mod replicas;
mod replication;
mod restores;
mod restores_crash;
mod rollouts;
mod schedules;
mod secrets;
mod silence;
mod takeover;
mod tasks;
mod tasks_refused;
mod tasks_traces;
mod torn;
mod undone;
mod unread;
mod voice;
mod webhooks;
