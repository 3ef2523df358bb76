//! A client's socket: notes what happens on it, and carries what ends with it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFutureOwned},
    task::task_tracker::TaskTrackerToken,
};

use crate::{limits::Permit, listen::OpenGuard, watch::Watch};

/// The socket. After an upgrade it belongs to the handler (a WebSocket), so whatever counts connections lives here
/// and not in the connection's task.
pub(crate) struct Io {
    stream: TcpStream,
    watch: Arc<Watch>,
    hard: CancellationToken,
    /// Set once an upgraded connection is read: nobody else can end it.
    cut: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    _permit: Permit,
    _open: OpenGuard,
    _tracked: TaskTrackerToken,
}

impl Io {
    pub(crate) fn new(
        stream: TcpStream,
        watch: Arc<Watch>,
        hard: CancellationToken,
        permit: Permit,
        open: OpenGuard,
        tracked: TaskTrackerToken,
    ) -> Self {
        Self { stream, watch, hard, cut: None, _permit: permit, _open: open, _tracked: tracked }
    }

    fn is_cut(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.watch.is_upgraded() {
            return false;
        }
        let hard = &self.hard;
        let cut = self.cut.get_or_insert_with(|| Box::pin(hard.clone().cancelled_owned()));
        cut.as_mut().poll(cx).is_ready()
    }

    fn note<T>(&self, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &poll {
            Poll::Pending => self.watch.on_write_blocked(),
            Poll::Ready(_) => self.watch.on_written(),
        }
        poll
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_cut(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        if poll.is_ready() && buf.filled().len() > before {
            self.watch.on_read(&buf.filled()[before..]);
        }
        poll
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note(poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
