//! Log output.

use std::io::IsTerminal as _;

use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, filter::filter_fn, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Whether an event or span may be logged at all, whatever the filter asks for. Libraries log requests and answers as
/// they stand when asked for enough, and the Kubernetes client does at WARN what it cannot read: there Secrets are.
fn is_harmless(metadata: &Metadata<'_>) -> bool {
    let of = |name: &str| {
        let rest = metadata.target().strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let loudest = if of("medusa_fleet") {
        Level::TRACE
    } else if of("kube_client") || of("kube_runtime") {
        Level::ERROR
    } else {
        Level::INFO
    };
    *metadata.level() <= loudest
}

/// Starts logging to stderr. `filter` is a tracing directive list such as `info,medusa_fleet=debug`.
///
/// # Errors
/// When `filter` cannot be read, or logging was started before.
pub fn init(format: LogFormat, filter: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let filter = EnvFilter::try_new(filter)?;
    // Colours are for terminals, not for log files.
    let colours = std::io::stderr().is_terminal();
    // Where nothing can be written, on a disk that is full, a word about that cannot be either: it would panic.
    let registry = tracing_subscriber::registry().with(filter).with(filter_fn(is_harmless));
    match format {
        LogFormat::Text => {
            registry
                .with(
                    tracing_subscriber::fmt::layer()
                        .log_internal_errors(false)
                        .with_ansi(colours)
                        .with_writer(std::io::stderr),
                )
                .try_init()?;
        }
        LogFormat::Json => {
            registry
                .with(
                    tracing_subscriber::fmt::layer()
                        .log_internal_errors(false)
                        .json()
                        .with_writer(std::io::stderr),
                )
                .try_init()?;
        }
    }
    Ok(())
}
