//! A private NATS server with JetStream.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
    sync::Mutex,
    time::timeout,
};

use crate::{
    find, ports,
    process::{Guarded, ONCE, tail, temp_dir, wait_for},
};

const ATTEMPTS: usize = 5;

/// Ends, with its data, when dropped.
#[derive(Debug)]
pub struct Nats {
    // Before `dir`: fields drop in order, and the server goes before its folder.
    server: Mutex<Option<Guarded>>,
    program: PathBuf,
    root: PathBuf,
    port: u16,
    monitor: u16,
    _dir: tempfile::TempDir,
}

impl Nats {
    /// A fresh server on a port of its own.
    ///
    /// # Errors
    /// No binary, or it did not start.
    pub async fn start() -> Result<Self> {
        Self::with_config("").await
    }

    /// The same with more lines for the server's `jetstream` block, `sync_interval: always` say.
    ///
    /// # Errors
    /// No binary, or it did not start.
    pub async fn with_config(jetstream: &str) -> Result<Self> {
        let program = find::nats_server()?;
        let (dir, root) = temp_dir("weir-nats-")?;
        let config = format!("jetstream {{\n  store_dir: {:?}\n  {jetstream}\n}}\n", root.join("data"));
        fs::write(root.join("nats.conf"), config)?;
        let mut nats = Self { server: Mutex::new(None), program, root, port: 0, monitor: 0, _dir: dir };
        for left in (0..ATTEMPTS).rev() {
            nats.port = ports::free(2)?;
            nats.monitor = nats.port + 1;
            let mut server = nats.spawn()?;
            match nats.listens(&mut server).await {
                // Another process may take a port first.
                Err(error) if left > 0 && format!("{error:#}").contains("address already in use") => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    nats.server = Mutex::new(Some(server));
                    break;
                }
            }
        }
        nats.ready().await?;
        Ok(nats)
    }

    /// `nats://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The address of the monitoring endpoint (`/varz`, `/jsz`).
    #[must_use]
    pub fn monitor_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.monitor)
    }

    /// Ends the server in good order; its data stays for [`restart`](Self::restart).
    ///
    /// # Errors
    /// It would not stop.
    pub async fn stop(&self) -> Result<()> {
        self.end(Signal::SIGTERM).await
    }

    /// Ends the server with `SIGKILL`.
    ///
    /// # Errors
    /// It would not stop.
    pub async fn kill(&self) -> Result<()> {
        self.end(Signal::SIGKILL).await
    }

    /// Starts it again on the same port with the same data.
    ///
    /// # Errors
    /// It did not start, or runs already.
    pub async fn restart(&self) -> Result<()> {
        let mut slot = self.server.lock().await;
        anyhow::ensure!(slot.is_none(), "NATS runs already");
        *slot = Some(self.spawn()?);
        drop(slot);
        self.ready().await
    }

    /// Ends the server and takes everything from it that it has stored: it comes back empty.
    ///
    /// # Errors
    /// It would not stop.
    pub async fn lose(&self) -> Result<()> {
        self.kill().await?;
        match fs::remove_dir_all(self.root.join("data")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn end(&self, signal: Signal) -> Result<()> {
        match self.server.lock().await.take() {
            Some(server) => server.end(signal).await,
            None => Ok(()),
        }
    }

    fn spawn(&self) -> Result<Guarded> {
        let config = self.root.join("nats.conf");
        let (port, monitor) = (self.port.to_string(), self.monitor.to_string());
        let args = ["-c", &config.to_string_lossy(), "-a", "127.0.0.1", "-p", &port, "-m", &monitor]
            .into_iter()
            .map(str::to_owned)
            .chain(["--ports_file_dir".to_owned(), self.root.to_string_lossy().into_owned()])
            .collect::<Vec<_>>();
        Guarded::spawn(&self.program, &args, (&self.root, &self.root.join("log")), Signal::SIGKILL, None)
    }

    /// Until it has both ports, of which it writes a file.
    async fn listens(&self, server: &mut Guarded) -> Result<()> {
        wait_for("NATS to listen", async || {
            if server.exited() {
                bail!("NATS ended: {}", tail(&self.root.join("log")));
            }
            let is_told = |entry: fs::DirEntry| entry.path().extension().is_some_and(|e| e == "ports");
            Ok(fs::read_dir(&self.root)?.flatten().any(is_told).then_some(()))
        })
        .await
    }

    /// Until it greets with JetStream on.
    async fn ready(&self) -> Result<()> {
        wait_for("NATS", async || {
            let greeted = timeout(ONCE, async {
                let mut greeting = String::new();
                let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
                BufReader::new(stream).read_line(&mut greeting).await?;
                std::io::Result::Ok(greeting)
            });
            let jetstream = |greeting: String| greeting.contains(r#""jetstream":true"#);
            Ok(greeted.await.is_ok_and(|greeting| greeting.is_ok_and(jetstream)).then_some(()))
        })
        .await
        .with_context(|| tail(&self.root.join("log")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn comes_back_on_its_port() {
        let nats = Nats::start().await.unwrap();
        assert!(nats.port < 32_000, "a port that systems hand out may be gone when it comes back");
        let url = nats.url();
        for kill in [false, true] {
            if kill {
                nats.kill().await.unwrap();
            } else {
                nats.stop().await.unwrap();
            }
            assert!(TcpStream::connect(("127.0.0.1", nats.port)).await.is_err());
            nats.restart().await.unwrap();
            assert_eq!(nats.url(), url);
        }
    }

    #[tokio::test]
    async fn a_server_that_cannot_start_says_why() {
        let error = Nats::with_config("nonsense: 1").await.unwrap_err();
        assert!(format!("{error:#}").contains("nonsense"), "{error:#}");
    }
}
