//! Connections that are counted, and that break when their server is killed.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

/// Accepts until `life` ends.
pub fn incoming(
    listener: TcpListener,
    life: CancellationToken,
    open: Arc<AtomicI64>,
) -> impl Stream<Item = io::Result<Counted>> {
    futures::stream::unfold(listener, move |listener| {
        let (life, open) = (life.clone(), Arc::clone(&open));
        async move {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = life.cancelled() => return None,
            };
            let counted = accepted.map(|(stream, _)| {
                open.fetch_add(1, Ordering::SeqCst);
                Counted { stream, open, killed: Box::pin(life.cancelled_owned()) }
            });
            Some((counted, listener))
        }
    })
}

pub struct Counted {
    stream: TcpStream,
    open: Arc<AtomicI64>,
    killed: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Connected for Counted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.killed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.killed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
