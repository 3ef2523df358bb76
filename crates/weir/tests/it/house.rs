//! A `weir dev` of its own for a test: its folder, its ports, its processes. None of them outlives the test.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// Generous: a loaded machine is no failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(25);
/// Below the ports that systems hand out by themselves.
static NEXT_PORT: AtomicU16 = AtomicU16::new(0);

pub(crate) struct House {
    pub(crate) port: u16,
    folder: PathBuf,
    command: Box<dyn Fn() -> Command>,
    /// Runs while a launcher does.
    launcher: Option<Child>,
    _temp: tempfile::TempDir,
}

/// The launcher, with nothing of ours in its environment.
fn weir() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    without_settings(&mut command);
    command
}

pub(crate) fn without_settings(command: &mut Command) {
    for name in [
        "DATABASE_URL",
        "NATS_URL",
        "REDIS_URL",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_BASE_URL",
        "LLAMA_API_ENDPOINT",
        "OLLAMA_HOST",
        "AZURE_OPENAI_ENDPOINT",
        "GEMINI_API_KEY",
        "GOOGLE_API_KEY",
        "GOOGLE_GENAI_USE_VERTEXAI",
        "MISTRAL_API_KEY",
        "AWS_BEARER_TOKEN_BEDROCK",
    ] {
        command.env_remove(name);
    }
}

impl House {
    /// A folder that every user may enter.
    pub(crate) fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self::within(temp, weir)
    }

    /// A house in `temp`, started by `command`.
    pub(crate) fn within(temp: tempfile::TempDir, command: impl Fn() -> Command + 'static) -> Self {
        let folder = temp.path().canonicalize().unwrap().join("data");
        Self { port: eight_ports(), folder, command: Box::new(command), launcher: None, _temp: temp }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// `weir dev ARGS` on this folder, not started yet.
    pub(crate) fn dev(&self, args: &[&str]) -> Command {
        let mut command = (self.command)();
        command.arg("dev").args(args).arg("--data").arg(&self.folder);
        command
    }

    /// Starts the launcher without waiting. Its output goes to files beside the data.
    pub(crate) fn launch(&mut self, args: &[&str]) {
        self.launch_with(args, &[]);
    }

    pub(crate) fn launch_with(&mut self, args: &[&str], environment: &[(&str, &str)]) {
        assert!(self.launcher.is_none(), "it runs already");
        let output = fs::File::create(self.output_path()).unwrap();
        let mut command = self.dev(args);
        command.args(["--port", &self.port.to_string()]).envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output).process_group(0);
        self.launcher = Some(command.spawn().unwrap());
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn start(&mut self, args: &[&str]) -> Value {
        self.launch(args);
        self.ready()
    }

    pub(crate) fn ready(&mut self) -> Value {
        let (mut launcher, path) = (self.launcher.take().unwrap(), self.folder.join("dev.json"));
        let dev = wait_for("dev.json", || {
            if let Some(status) = launcher.try_wait().unwrap() {
                panic!("the launcher ended with {status}: {}", self.output());
            }
            let dev: Value = serde_json::from_slice(&fs::read(&path).ok()?).unwrap();
            (dev["pid"] == launcher.id()).then_some(dev)
        });
        self.launcher = Some(launcher);
        dev
    }

    pub(crate) fn launcher_pid(&self) -> u32 {
        self.launcher.as_ref().unwrap().id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.launcher_pid(), signal);
    }

    /// Waits until the launcher has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut launcher = self.launcher.take().unwrap();
        wait_for("the launcher to end", || launcher.try_wait().unwrap())
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn end(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.wait()
    }

    fn output_path(&self) -> PathBuf {
        self.folder.with_extension("output")
    }

    /// What the launcher said since it was started.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(self.output_path()).unwrap_or_default()
    }

    /// The children as the launcher noted them: name and process id.
    pub(crate) fn child(&self, name: &str) -> Option<u32> {
        let state: Value =
            serde_json::from_slice(&fs::read(self.folder.join("children.json")).ok()?).unwrap();
        state["children"][name]["pid"].as_u64().map(|pid| u32::try_from(pid).unwrap())
    }

    /// Every process with this folder on its command line, the launcher's included.
    pub(crate) fn processes(&self) -> Vec<String> {
        let output = Command::new("ps").args(["-axww", "-o", "pid=,command="]).output().unwrap();
        let text = self.folder.display().to_string();
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        lines.lines().filter(|line| line.contains(&text)).map(str::to_owned).collect()
    }

    pub(crate) fn assert_quiet(&self) {
        assert_eq!(self.processes(), Vec::<String>::new(), "processes left: {}", self.output());
        assert!(!self.folder.join("dev.json").exists(), "dev.json is still there");
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(mut launcher) = self.launcher.take() {
            let _ = launcher.kill();
            let _ = launcher.wait();
        }
        let Output { status, stderr, .. } = self.dev(&["reset"]).output().unwrap();
        if std::thread::panicking() {
            eprintln!("--- output of the launcher\n{}", self.output());
        } else {
            assert!(status.success(), "cleaning up: {}", String::from_utf8_lossy(&stderr));
        }
    }
}

pub(crate) fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

/// Polls until there is a value.
#[expect(clippy::disallowed_methods, reason = "another process is looked at: there is nothing to wait on")]
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(began.elapsed() < PATIENCE, "waited {} s for {what}", PATIENCE.as_secs());
        std::thread::sleep(POLL);
    }
}

/// The first of eight ports in a row that are free.
fn eight_ports() -> u16 {
    let spread = u16::try_from(std::process::id() % 1000).unwrap() * 8;
    for _ in 0..1000 {
        let first = 10_000 + (spread + NEXT_PORT.fetch_add(8, Ordering::Relaxed)) % 16_000;
        if (first..first + 8).all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()) {
            return first;
        }
    }
    panic!("no eight free ports in a row");
}

/// A request by hand: the status and everything after it.
pub(crate) fn http(address: SocketAddr, head: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let request =
        format!("{head}\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

pub(crate) fn address(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").parse().unwrap()
}
