//! Asking a server whether it is ready, the way its users would: with the credentials they have.

#[cfg(test)]
use std::path::PathBuf;
use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(3);
const ANSWER_LIMIT_BYTES: u64 = 64 * 1024;

/// What to ask.
#[derive(Debug, Clone)]
pub(crate) enum Probe {
    Postgres(Box<PgConnectOptions>),
    Nats(Nats),
    Redis {
        address: SocketAddr,
        password: String,
    },
    #[cfg(test)]
    File(PathBuf),
}

#[derive(Debug, Clone)]
pub(crate) struct Nats {
    pub(crate) address: SocketAddr,
    pub(crate) monitor: SocketAddr,
    pub(crate) user: String,
    pub(crate) password: String,
}

impl Probe {
    /// One question.
    ///
    /// # Errors
    /// What stands in the way of an answer.
    pub(crate) async fn check(&self) -> Result<()> {
        let answer = async {
            match self {
                Self::Postgres(options) => postgres(options).await,
                Self::Nats(server) => nats(server).await,
                Self::Redis { address, password } => redis(*address, password).await,
                #[cfg(test)]
                Self::File(path) => path.exists().then_some(()).context("the file is missing"),
            }
        };
        timeout(PATIENCE, Box::pin(answer)).await.context("no answer")?
    }
}

async fn postgres(options: &PgConnectOptions) -> Result<()> {
    let connection = PgConnection::connect_with(options).await?;
    Ok(connection.close().await?)
}

/// The monitoring port answers before JetStream has recovered, so `/healthz` is asked; the login proves that the
/// server is ours. Spoken by hand, as <https://docs.nats.io/reference/reference-protocols/nats-protocol> has it: the
/// client library would log every question that comes too early.
async fn nats(server: &Nats) -> Result<()> {
    let status = get(server.monitor, "/healthz").await?;
    ensure!(status == 200, "/healthz answers {status}");
    let stream = TcpStream::connect(server.address).await?;
    let mut stream = BufReader::new(stream.take(ANSWER_LIMIT_BYTES));
    let login = serde_json::json!({ "user": server.user, "pass": server.password, "verbose": false, "pedantic": false });
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    ensure!(line.starts_with("INFO "), "not NATS on {}", server.address);
    stream.get_mut().get_mut().write_all(format!("CONNECT {login}\r\nPING\r\n").as_bytes()).await?;
    line.clear();
    stream.read_line(&mut line).await?;
    ensure!(line.trim() == "PONG", "answers {}", line.trim());
    Ok(())
}

async fn redis(address: SocketAddr, password: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("AUTH {password}\r\nPING\r\nQUIT\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.take(ANSWER_LIMIT_BYTES).read_to_string(&mut answer).await?;
    if !answer.contains("+PONG") {
        bail!("answers {}", answer.lines().next().unwrap_or_default());
    }
    Ok(())
}

/// The status of a GET on a port of this machine.
pub(crate) async fn http_status(address: SocketAddr, path: &str) -> Result<u16> {
    timeout(PATIENCE, get(address, path)).await.context("no answer")?
}

async fn get(address: SocketAddr, path: &str) -> Result<u16> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_LIMIT_BYTES).read_to_end(&mut answer).await?;
    let head = String::from_utf8_lossy(&answer);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.with_context(|| format!("not HTTP on {address}"))
}
