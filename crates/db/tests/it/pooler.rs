//! Behind a pooler in transaction mode: a small one of our own, as strict as PgBouncer 1.18. Many clients share ONE
//! server connection, which changes hands whenever no transaction is open and keeps everybody's prepared statements;
//! start-up parameters it does not know are errors.

use std::sync::{Arc, Mutex as StdMutex};

use sqlx::postgres::PgConnectOptions;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Mutex, MutexGuard},
    task::JoinSet,
};
use weir_db::{Db, DbConfig};
use weir_testkit::{APP_PASSWORD, APP_ROLE, Database, PgBouncer};

use crate::{
    database,
    isolation::{CASES, fuzz, nothing_forged},
    notes,
};

const SSL_REQUEST: u32 = 80_877_103;
const ALLOWED: [&str; 6] =
    ["user", "database", "client_encoding", "datestyle", "timezone", "application_name"];

struct Pooler {
    port: u16,
    complaints: Arc<StdMutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

struct Shared {
    server: PgConnectOptions,
    backend: Mutex<Option<TcpStream>>,
    complaints: Arc<StdMutex<Vec<String>>>,
}

/// A message: its type and everything after.
struct Message {
    kind: u8,
    body: Vec<u8>,
}

async fn read(stream: &mut TcpStream) -> std::io::Result<Message> {
    let kind = stream.read_u8().await?;
    let mut body = vec![0; stream.read_u32().await? as usize - 4];
    stream.read_exact(&mut body).await?;
    Ok(Message { kind, body })
}

async fn write(stream: &mut TcpStream, kind: u8, body: &[u8]) -> std::io::Result<()> {
    let mut bytes = vec![kind];
    bytes.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    bytes.extend(body);
    stream.write_all(&bytes).await
}

fn startup(params: &[(&str, &str)]) -> Vec<u8> {
    let mut body = 196_608u32.to_be_bytes().to_vec();
    for text in params.iter().flat_map(|(k, v)| [k, v]) {
        body.extend(text.as_bytes());
        body.push(0);
    }
    body.push(0);
    [u32::try_from(body.len() + 4).unwrap().to_be_bytes().to_vec(), body].concat()
}

impl Pooler {
    async fn start(database: &Database) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let complaints = Arc::new(StdMutex::default());
        let server = database.app_url.parse().unwrap();
        let shared = Arc::new(Shared { server, backend: Mutex::new(None), complaints: complaints.clone() });
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let shared = shared.clone();
                // Clients hang up as they please.
                clients.spawn(async move { drop(serve(&shared, client).await) });
            }
        });
        Self { port, complaints, _tasks: tasks }
    }

    fn url(&self, database: &Database) -> String {
        format!("postgres://{APP_ROLE}:{APP_PASSWORD}@127.0.0.1:{}/{}", self.port, database.name)
    }
}

async fn greet(shared: &Shared, client: &mut TcpStream) -> std::io::Result<bool> {
    let params = loop {
        let mut body = vec![0; client.read_u32().await? as usize - 4];
        client.read_exact(&mut body).await?;
        if body[..4] != SSL_REQUEST.to_be_bytes() {
            break body.split_off(4);
        }
        client.write_all(b"N").await?;
    };
    let words: Vec<String> =
        params.split(|b| *b == 0).map(|w| String::from_utf8_lossy(w).to_lowercase()).collect();
    let unknown = words.iter().step_by(2).find(|k| !k.is_empty() && !ALLOWED.contains(&k.as_str()));
    if let Some(key) = unknown {
        shared.complaints.lock().unwrap().push(format!("unsupported startup parameter: {key}"));
        write(client, b'E', b"SFATAL\0C08P01\0Munsupported startup parameter\0\0").await?;
        return Ok(false);
    }
    write(client, b'R', &[0; 4]).await?;
    write(client, b'S', b"server_version\x0016.0\0").await?;
    write(client, b'K', &[0; 8]).await?;
    write(client, b'Z', b"I").await?;
    Ok(true)
}

async fn connect(server: &PgConnectOptions) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect((server.get_host(), server.get_port())).await?;
    stream.set_nodelay(true)?;
    let database = server.get_database().unwrap_or_default();
    stream.write_all(&startup(&[("user", APP_ROLE), ("database", database)])).await?;
    loop {
        let message = read(&mut stream).await?;
        match message.kind {
            b'R' if message.body == [0, 0, 0, 3] => {
                write(&mut stream, b'p', format!("{APP_PASSWORD}\0").as_bytes()).await?;
            }
            b'Z' => return Ok(stream),
            b'E' => return Err(std::io::Error::other(String::from_utf8_lossy(&message.body).into_owned())),
            _ => {}
        }
    }
}

async fn serve(shared: &Shared, mut client: TcpStream) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    if !greet(shared, &mut client).await? {
        return Ok(());
    }
    loop {
        let first = read(&mut client).await?;
        if first.kind == b'X' {
            return Ok(());
        }
        let mut slot = shared.backend.lock().await;
        if slot.is_none() {
            *slot = Some(connect(&shared.server).await?);
        }
        let done = borrow(&mut client, &mut slot, first).await;
        if done.is_err() {
            // The client went away inside its transaction: nobody else may have that connection.
            *slot = None;
            return done;
        }
    }
}

/// One client has the server until its transaction ends.
async fn borrow(
    client: &mut TcpStream,
    slot: &mut MutexGuard<'_, Option<TcpStream>>,
    first: Message,
) -> std::io::Result<()> {
    let Some(backend) = slot.as_mut() else { return Ok(()) };
    let mut owed = 0;
    let mut next = Some(first);
    loop {
        if let Some(message) = next.take() {
            owed += i32::from(matches!(message.kind, b'Q' | b'S'));
            if message.kind == b'X' {
                return Err(std::io::ErrorKind::ConnectionAborted.into());
            }
            write(backend, message.kind, &message.body).await?;
        }
        // Whole messages only: `peek` may be dropped half-way, `read` may not.
        let (mut ours, mut theirs) = ([0], [0]);
        let from_client = tokio::select! {
            n = client.peek(&mut ours) => if n? == 0 { Err(std::io::ErrorKind::UnexpectedEof)? } else { true },
            n = backend.peek(&mut theirs) => if n? == 0 { Err(std::io::ErrorKind::UnexpectedEof)? } else { false },
        };
        if from_client {
            next = Some(read(client).await?);
            continue;
        }
        let message = read(backend).await?;
        write(client, message.kind, &message.body).await?;
        if message.kind == b'Z' {
            owed -= 1;
            if owed == 0 && message.body == b"I" {
                return Ok(());
            }
        }
    }
}

fn config(url: String, max_connections: u32) -> DbConfig {
    DbConfig { pooler: true, max_connections, acquire_timeout_ms: 30_000, ..DbConfig::new(url) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_share_a_server_connection_without_seeing_each_other() {
    let database = database().await;
    notes(&database).await;
    let pooler = Pooler::start(&database).await;
    fuzz(config(pooler.url(&database), 3), CASES / 2, b"weir-db: three clients, a server").await;
    nothing_forged(&database).await;
    assert_eq!(*pooler.complaints.lock().unwrap(), Vec::<String>::new());
}

/// The real one, where it is installed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_behind_pgbouncer() {
    let database = database().await;
    notes(&database).await;
    let Some(pooler) = PgBouncer::start(&database).await.unwrap() else { return };
    let config = config(pooler.app_url().to_owned(), 4);
    Db::connect_lazy(&config).unwrap().verify().await.unwrap();
    fuzz(config, CASES, b"weir-db: the real pgbouncer here").await;
    nothing_forged(&database).await;
}

#[tokio::test]
async fn a_service_starts_and_probes_behind_a_pooler() {
    let database = database().await;
    let pooler = Pooler::start(&database).await;
    let db = Db::connect_lazy(&config(pooler.url(&database), 2)).unwrap();
    db.verify().await.unwrap();
    db.ping().await.unwrap();
    assert_eq!(*pooler.complaints.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn without_the_setting_the_pooler_complains() {
    let database = database().await;
    let pooler = Pooler::start(&database).await;
    let db = Db::connect_lazy(&DbConfig { pooler: false, ..config(pooler.url(&database), 1) }).unwrap();
    assert!(db.verify().await.is_err());
    assert!(!pooler.complaints.lock().unwrap().is_empty());
}
