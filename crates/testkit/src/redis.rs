//! A private Redis server, where one is installed.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Mutex,
};

use crate::{
    find, ports,
    process::{Guarded, tail, temp_dir, wait_for},
};

const ATTEMPTS: usize = 5;

/// Ends when dropped. Nothing is persisted: after [`stop`](Self::stop) it comes back empty.
#[derive(Debug)]
pub struct Redis {
    server: Mutex<Option<Guarded>>,
    program: PathBuf,
    root: PathBuf,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Redis {
    /// A fresh server; `None`, said aloud, where no `redis-server` is installed.
    ///
    /// # Panics
    /// When none is found and `CI=true`: there a skipped test is a failure; or when it does not start.
    pub async fn start() -> Option<Self> {
        let Some(program) = find::redis_server() else {
            assert!(
                find::var("CI").is_none_or(|ci| ci != "true"),
                "no redis-server found, and CI skips no tests"
            );
            eprintln!("SKIPPED: no redis-server found (install one or set WEIR_REDIS_BIN)");
            return None;
        };
        match Self::launch(program).await {
            Ok(redis) => Some(redis),
            Err(error) => panic!("redis-server did not start: {error:#}"),
        }
    }

    /// `redis://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// # Errors
    /// It would not stop.
    pub async fn stop(&self) -> Result<()> {
        match self.server.lock().await.take() {
            Some(server) => server.end(Signal::SIGKILL).await,
            None => Ok(()),
        }
    }

    /// Starts it again on the same port.
    ///
    /// # Errors
    /// It did not start, or runs already.
    pub async fn restart(&self) -> Result<()> {
        let mut slot = self.server.lock().await;
        anyhow::ensure!(slot.is_none(), "Redis runs already");
        let mut server = self.spawn()?;
        self.ready(&mut server).await?;
        *slot = Some(server);
        Ok(())
    }

    async fn launch(program: PathBuf) -> Result<Self> {
        let (dir, root) = temp_dir("weir-redis-")?;
        let mut redis = Self { server: Mutex::new(None), program, root, port: 0, _dir: dir };
        let mut last = None;
        // Another process may take the port first.
        for _ in 0..ATTEMPTS {
            redis.port = ports::free(1)?;
            let mut server = redis.spawn()?;
            match redis.ready(&mut server).await {
                Ok(()) => {
                    redis.server = Mutex::new(Some(server));
                    return Ok(redis);
                }
                Err(error) => last = Some(error),
            }
        }
        last.map_or_else(|| bail!("no attempt made"), Err)
    }

    fn spawn(&self) -> Result<Guarded> {
        let port = self.port.to_string();
        let dir = self.root.to_string_lossy();
        let args =
            ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", &dir];
        let args = args.map(str::to_owned);
        Guarded::spawn(&self.program, &args, (&self.root, &self.root.join("log")), Signal::SIGKILL, None)
    }

    async fn ready(&self, server: &mut Guarded) -> Result<()> {
        wait_for("Redis", async || {
            if server.exited() {
                bail!("redis-server ended");
            }
            Ok(ping(self.port).await.ok().filter(|pong| pong == b"+PONG\r\n").map(|_| ()))
        })
        .await
        .with_context(|| tail(&self.root.join("log")))
    }
}

async fn ping(port: u16) -> std::io::Result<[u8; 7]> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"PING\r\n").await?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn comes_back_on_its_port() {
        let Some(redis) = Redis::start().await else { return };
        redis.stop().await.unwrap();
        assert!(ping(redis.port).await.is_err());
        redis.restart().await.unwrap();
        assert!(ping(redis.port).await.is_ok());
    }
}
