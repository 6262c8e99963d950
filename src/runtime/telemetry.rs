//! Log output.

use std::io::IsTerminal as _;

use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::filter_fn, layer::SubscriberExt as _, util::SubscriberInitExt as _,
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
    let lines = tracing_subscriber::fmt::layer().log_internal_errors(false).with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(colours).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    tracing_subscriber::registry().with(filter).with(filter_fn(is_harmless)).with(lines).try_init()?;
    Ok(())
}
