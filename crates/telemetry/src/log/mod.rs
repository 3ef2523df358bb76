//! Sets up logging for a binary: JSON or readable lines on standard output, JSON lines in a file.

mod access;
mod layer;
mod redact;
mod writer;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

use serde::Deserialize;
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

use self::{
    layer::{Line, LogLayer, Sink},
    writer::{Output, Writer},
};

pub(crate) use self::writer::{lines_dropped, lines_lost};
pub use self::{
    access::{Access, access},
    redact::redact,
};

/// How long the end of the process, or a panic, waits for the last lines to be written.
const FLUSH: Duration = Duration::from_secs(1);

/// The process's log, which `access` and `flush` find without being handed it, as `tracing`'s macros do theirs.
static LOG: OnceLock<Log> = OnceLock::new();

/// How lines on standard output look. The file is always JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    #[default]
    Json,
    Pretty,
}

/// `[log]` of the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    pub format: Format,
    /// A level (`info`, `DEBUG`), or directives as `tracing` has them (`info,weir_router=debug`).
    pub level: String,
    /// One line for each request answered at the edge. They are of level `info`.
    pub access: bool,
    /// Lines are appended here as well; the folder is made if need be.
    pub file: Option<PathBuf>,
    /// Bytes after which the file is moved to `<file>.1`, replacing the one before.
    pub file_max_bytes: u64,
    /// Whose lines these are where no span says it; whose code it was when nothing is said.
    #[serde(skip)]
    pub service: Option<&'static str>,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: Format::Json,
            level: "info".to_owned(),
            access: true,
            file: None,
            file_max_bytes: 256 << 20,
            service: None,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error(
        "log level {given:?} is neither a level (error, warn, info, debug, trace, off) nor a list of directives"
    )]
    Level { given: String, source: tracing_subscriber::filter::ParseError },
    #[error("cannot open the log file {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("cannot start the thread {name}")]
    Thread { name: &'static str, source: io::Error },
    #[error("telemetry.sample_ratio is {0}, expected 0 to 1")]
    Ratio(f64),
    #[error("telemetry.otlp_endpoint {given:?} cannot be used")]
    Endpoint { given: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("logging is set up already")]
    Twice,
}

struct Log {
    targets: Vec<Target>,
    /// Whether requests answered at the edge get a line.
    access: bool,
}

/// One place lines go to, and how they look there.
#[derive(Clone)]
struct Target {
    writer: Writer,
    pretty: bool,
    colour: bool,
}

/// Installs the process's subscriber, and a panic hook that logs instead of printing.
pub(crate) fn install(config: &LogConfig) -> Result<(), InitError> {
    let filter = filter(&config.level)?;
    // Only bare levels switch them off: directives speak of modules, which access lines have none of.
    let access = config.access && filter.max_level_hint().is_none_or(|max| max >= tracing::Level::INFO);
    let targets = targets(config)?;
    let sinks = targets.iter().map(|t| Box::new(t.clone()) as Box<dyn Sink>).collect();
    tracing_subscriber::registry()
        .with(filter)
        .with(LogLayer::new(sinks, config.service))
        .try_init()
        .map_err(|_| InitError::Twice)?;
    drop(LOG.set(Log { targets, access }));
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Waits a moment for lines that are not written yet: before the process ends.
pub(crate) fn flush() {
    for target in LOG.get().map(|log| log.targets.as_slice()).unwrap_or_default() {
        target.writer.flush(FLUSH);
    }
}

fn log_panic(info: &std::panic::PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let text = info.payload_as_str().unwrap_or("(no text)");
    tracing::error!(panic.text = text, panic.location = place, "panic");
}

/// A bare level below `info` is meant for our own code: the wire libraries would drown it, and print headers.
fn filter(level: &str) -> Result<EnvFilter, InitError> {
    let level = level.trim();
    let fail = |source| InitError::Level { given: level.to_owned(), source };
    if level.eq_ignore_ascii_case("debug") || level.eq_ignore_ascii_case("trace") {
        return EnvFilter::try_new(format!("info,weir={level}")).map_err(fail);
    }
    EnvFilter::try_new(level).map_err(fail)
}

fn targets(config: &LogConfig) -> Result<Vec<Target>, InitError> {
    let start = |name, output: Box<dyn Output>| {
        Writer::start(name, output).map_err(|source| InitError::Thread { name, source })
    };
    let pretty = config.format == Format::Pretty;
    let colour = pretty && io::stdout().is_terminal();
    let mut targets = vec![Target { writer: start("log-stdout", Box::new(Stdout))?, pretty, colour }];
    if let Some(path) = &config.file {
        let file = LogFile::open(path, config.file_max_bytes)
            .map_err(|source| InitError::File { path: path.clone(), source })?;
        targets.push(Target { writer: start("log-file", Box::new(file))?, pretty: false, colour: false });
    }
    Ok(targets)
}

impl Sink for Target {
    fn write(&self, line: &Line<'_>) {
        let text = if self.pretty { line.pretty(self.colour) } else { line.json() };
        self.writer.push(text.as_bytes());
    }
}

struct Stdout;

impl Output for Stdout {
    fn write(&mut self, lines: &[u8]) {
        // A closed pipe is no reason to fail.
        let mut out = io::stdout().lock();
        let _ = out.write_all(lines).and_then(|()| out.flush());
    }
}

struct LogFile {
    path: PathBuf,
    file: File,
    written: u64,
    max: u64,
    /// What went wrong has been said, this once: a full disk would fill standard error too.
    said: bool,
}

impl LogFile {
    fn open(path: &Path, max: u64) -> io::Result<Self> {
        if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self {
            path: path.to_owned(),
            written: file.metadata()?.len(),
            file,
            max: max.max(1),
            said: false,
        })
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.written >= self.max
            && let Err(error) = self.rotate()
        {
            // Better a file that is too large than one without the lines.
            self.say("cannot be moved aside, and grows on", &error);
        }
        self.file.write_all(lines)?;
        self.written += lines.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let mut older = self.path.clone().into_os_string();
        older.push(".1");
        match fs::rename(&self.path, older) {
            // Moved already, by us before the new one could be opened, or by somebody else.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        *self = Self { said: self.said, ..Self::open(&self.path, self.max)? };
        Ok(())
    }

    fn say(&mut self, what: &str, error: &io::Error) {
        if !std::mem::replace(&mut self.said, true) {
            let _ = writeln!(io::stderr(), "the log file {} {what}: {error}", self.path.display());
        }
    }
}

impl Output for LogFile {
    fn write(&mut self, lines: &[u8]) {
        // A full disk must not fail requests; standard output still has the lines.
        if let Err(error) = self.append(lines) {
            writer::lost(lines);
            self.say("cannot be written, and lacks lines", &error);
        }
    }
}

impl Output for Box<dyn Output> {
    fn write(&mut self, lines: &[u8]) {
        self.as_mut().write(lines);
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use serde_json::Value;
    use tracing::{debug, error, info, info_span};

    use super::*;

    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<(Vec<String>, Vec<String>)>>);

    impl Sink for Seen {
        fn write(&self, line: &Line<'_>) {
            let mut seen = self.0.lock();
            seen.0.push(line.json());
            seen.1.push(line.pretty(false));
        }
    }

    fn logged(level: &str, f: impl FnOnce()) -> (Vec<String>, Vec<String>) {
        let seen = Seen::default();
        let layer = LogLayer::new(vec![Box::new(seen.clone())], None);
        let subscriber = tracing_subscriber::registry().with(filter(level).unwrap()).with(layer);
        tracing::subscriber::with_default(subscriber, f);
        let seen = seen.0.lock();
        seen.clone()
    }

    fn parse(line: &str) -> Value {
        assert!(line.ends_with("}\n") && line.matches('\n').count() == 1, "one line: {line:?}");
        serde_json::from_str(line).unwrap()
    }

    #[test]
    fn a_line_carries_the_fields_of_its_spans() {
        let (json, pretty) = logged("info", || {
            let span = info_span!("request", request_id = "req_12345", tenant_id = tracing::field::Empty);
            span.record("tenant_id", "t1");
            let _in = span.enter();
            let _inner = info_span!("attempt", n = 2, request_id = "req_inner").entered();
            error!(error.code = "not_found", "no such\nmodel");
        });
        let line = parse(&json[0]);
        assert_eq!(line["level"], "ERROR");
        assert_eq!(line["message"], "no such\nmodel");
        assert_eq!(line["error.code"], "not_found");
        assert_eq!((&line["tenant_id"], &line["n"]), (&"t1".into(), &2.into()));
        assert_eq!(line["request_id"], "req_inner", "the nearest span wins");
        assert!(line["target"].as_str().unwrap().starts_with("weir_telemetry"));
        assert_eq!(line["service"], "telemetry", "whose code it is, when no span says whose work");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
        assert_eq!(pretty[0].matches('\n').count(), 1, "a logged text cannot forge a line: {:?}", pretty[0]);
    }

    #[test]
    fn secrets_do_not_reach_a_line() {
        let (json, pretty) = logged("info", || {
            let _in = info_span!("s", api_key = "hunter2-in-span").entered();
            info!(db.password = "hunter2", url = "redis://:hunter2@host", "got pk_live_abcdefgh_hunter2");
        });
        assert!(!json[0].contains("hunter2") && !pretty[0].contains("hunter2"), "{} {}", json[0], pretty[0]);
        assert_eq!(parse(&json[0])["url"], "redis://:***@host");
    }

    #[test]
    fn fields_named_like_ours_do_not_break_the_line() {
        let (json, _) = logged("info", || info!(level = 3, business_event = "conversation_created", "x"));
        let line = parse(&json[0]);
        assert_eq!((&line["level"], &line["field.level"]), (&"INFO".into(), &3.into()));
        assert_eq!(line["business_event"], "conversation_created");
    }

    #[test]
    fn traces_are_named_as_the_wire_names_them() {
        let (json, _) = logged("info", || {
            let _in =
                info_span!("rpc", service = "router", trace_id = 0xab_u128, span_id = 0xcd_u64).entered();
            info!("x");
        });
        let line = parse(&json[0]);
        assert_eq!(line["trace_id"], "000000000000000000000000000000ab");
        assert_eq!((&line["span_id"], &line["service"]), (&"00000000000000cd".into(), &"router".into()));
    }

    #[test]
    fn levels_are_read_as_people_write_them() {
        let count = |level: &str| {
            logged(level, || {
                debug!("ours");
                debug!(target: "h2::codec", "theirs");
            })
        };
        assert_eq!(count("DEBUG").0.len(), 1, "debug means our code");
        assert_eq!(count("INFO").0.len(), 0);
        assert_eq!(count("h2=debug").0.len(), 1);
        let error = filter("loud,=x").unwrap_err().to_string();
        assert!(error.contains("loud"), "{error}");
    }

    #[test]
    fn the_file_is_json_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/app.log");
        let mut file = LogFile::open(&path, 100).unwrap();
        for _ in 0..5 {
            file.append("x".repeat(60).as_bytes()).unwrap();
        }
        let size = |p: &Path| fs::metadata(p).unwrap().len();
        assert_eq!((size(&path), size(&folder.path().join("logs/app.log.1"))), (60, 120));
    }

    #[test]
    fn a_file_that_cannot_be_moved_aside_is_written_on() {
        let folder = tempfile::tempdir().unwrap();
        let (path, older) = (folder.path().join("app.log"), folder.path().join("app.log.1"));
        fs::create_dir(&older).unwrap();
        let mut file = LogFile::open(&path, 10).unwrap();
        for n in 0..3 {
            Output::write(&mut file, format!("the line {n}\n").as_bytes());
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "the line 0\nthe line 1\nthe line 2\n");
        assert!(file.said);
        // Once it can be again, it is.
        fs::remove_dir(&older).unwrap();
        Output::write(&mut file, b"new\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
        assert_eq!(fs::metadata(&older).unwrap().len(), 33);
        // Somebody else moved it.
        Output::write(&mut file, b"and more\n");
        fs::remove_file(&path).unwrap();
        Output::write(&mut file, b"again\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "again\n");
    }

    #[test]
    fn lines_that_the_file_does_not_take_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.log");
        fs::write(&path, "").unwrap();
        let mut file = LogFile::open(&path, 1 << 20).unwrap();
        file.file = File::open(&path).unwrap();
        let before = writer::lines_lost();
        Output::write(&mut file, b"one\ntwo\n");
        assert_eq!(writer::lines_lost() - before, 2);
        assert!(file.said);
    }
}
