//! Reads what a server sends, as much of it and as long as is good for us.

use std::time::Duration;

use axum::body::{BodyDataStream, Bytes};
use futures::{Stream, StreamExt as _, stream::try_unfold};
use http::StatusCode;
use thiserror::Error;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tower::BoxError;

use super::answer::{self, Instead, NotKubernetes};

/// Bytes in a mebibyte.
const MIB: usize = 1024 * 1024;
/// What every answer may have at once; of longer ones, one at a time is read from a server, so that many of them cost
/// no more memory than one.
const SMALL: usize = 256 * 1024;
/// A watch that ends within this time was none, whatever it brought: asking again at once would go on for ever.
const NO_WATCH: Duration = Duration::from_secs(1);

/// How much a server may answer.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Largest whole answer, in bytes.
    pub body: usize,
    /// Time from an answer's head to its end.
    pub time: Duration,
    /// Longest line of a watch, in bytes.
    pub line: usize,
    /// How much longer than it was asked for a watch may go on.
    pub slack: Duration,
    /// How much a list may bring, all its pages together.
    pub list: List,
}

/// How much a list may bring, all its pages together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List {
    /// Most objects.
    pub objects: usize,
    /// Most bytes.
    pub bytes: usize,
}

impl Bounds {
    /// For clusters of others. An object is 1.5 MiB at most in etcd, and below 4 MiB as JSON; of lists, shorter pages
    /// are asked for where one is longer than this. Decoded it takes several times its length, and a control plane of
    /// many clusters has to survive each of them.
    pub const REMOTE: Self = Self {
        body: 8 * MIB,
        time: Duration::from_mins(1),
        line: 4 * MIB,
        slack: Duration::from_secs(15),
        list: List { objects: 100_000, bytes: 256 * MIB },
    };
    /// For the cluster we trust: whoever lists without pages gets all there is.
    pub const HOME: Self = Self {
        body: 256 * MIB,
        time: Duration::from_mins(5),
        line: 16 * MIB,
        slack: Duration::from_secs(15),
        list: List { objects: usize::MAX, bytes: usize::MAX },
    };
}

/// Why an answer was not read to its end.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Unbounded {
    /// It is too long.
    #[error("its answer is longer than {} MiB; it was not read to the end", .0 / MIB)]
    Body(usize),
    /// It takes too long.
    #[error("its answer did not end within {} s", .0.as_secs())]
    Time(Duration),
    /// One line of a watch is too long.
    #[error("an event of a watch is longer than {} MiB; it was not read to the end", .0 / MIB)]
    Line(usize),
    /// A list has too many pages.
    #[error("a list of it goes on after {} objects and {} MiB; it was not read to the end", .0.objects, .0.bytes / MIB)]
    List(List),
    /// A watch goes on for longer than it was asked to.
    #[error("a watch did not end when it was to")]
    Watch,
}

/// The whole answer. `turn` lets one long answer be read at a time.
///
/// # Errors
/// When it is out of bounds, or the connection breaks.
pub(super) async fn whole(
    mut chunks: BodyDataStream,
    bounds: &Bounds,
    turn: &Semaphore,
) -> Result<Bytes, BoxError> {
    // Copied: a chunk keeps the buffer it was read into, however short it is.
    let mut body = Vec::new();
    let mut turn_taken = None;
    let mut end = Instant::now() + bounds.time;
    loop {
        let chunk = timeout_at(end, chunks.next()).await.map_err(|_| Unbounded::Time(bounds.time))?;
        let Some(chunk) = chunk else { return Ok(Bytes::from(body)) };
        let chunk = chunk.map_err(axum::Error::into_inner)?;
        if body.len() + chunk.len() > bounds.body {
            return Err(Unbounded::Body(bounds.body).into());
        }
        body.extend_from_slice(&chunk);
        if body.len() > SMALL && turn_taken.is_none() {
            turn_taken = Some(turn.acquire().await?);
            end = Instant::now() + bounds.time;
        }
    }
}

struct Lines {
    chunks: BodyDataStream,
    status: StatusCode,
    bounds: Bounds,
    since: Instant,
    time: Duration,
    until: Instant,
    has_begun: bool,
    line: usize,
}

/// The lines of a watch that was answered with `status` and has to be over after `time`.
pub(super) fn lines(
    chunks: BodyDataStream,
    status: StatusCode,
    bounds: Bounds,
    time: Duration,
) -> impl Stream<Item = Result<Bytes, BoxError>> {
    let since = Instant::now();
    let until = since + time + bounds.slack;
    let start = Lines { chunks, status, bounds, since, time, until, has_begun: false, line: 0 };
    try_unfold(start, |mut lines| async move {
        let chunk = timeout_at(lines.until, lines.chunks.next()).await.map_err(|_| Unbounded::Watch)?;
        let Some(chunk) = chunk else {
            if lines.since.elapsed() >= NO_WATCH.min(lines.time) {
                return Ok(None);
            }
            if lines.has_begun {
                return Err("a watch ended as soon as it had begun".into());
            }
            let status = lines.status.as_u16();
            return Err(NotKubernetes { status, instead: Instead::Empty }.into());
        };
        let chunk = chunk.map_err(axum::Error::into_inner)?;
        lines.judge(&chunk)?;
        Ok(Some((chunk, lines)))
    })
}

impl Lines {
    fn judge(&mut self, chunk: &[u8]) -> Result<(), BoxError> {
        if !self.has_begun
            && let Some(judged) = answer::beginning(self.status, chunk)
        {
            judged?;
            self.has_begun = true;
        }
        let mut parts = chunk.split(|byte| *byte == b'\n');
        let mut longest = self.line + parts.next().map_or(0, <[u8]>::len);
        self.line = longest;
        for part in parts {
            self.line = part.len();
            longest = longest.max(self.line);
        }
        if longest > self.bounds.line {
            return Err(Unbounded::Line(self.bounds.line).into());
        }
        Ok(())
    }
}
