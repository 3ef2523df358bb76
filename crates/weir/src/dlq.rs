//! `weir dlq`: dead letters at the terminal. It talks to NATS alone, so that it works when services do not.

use std::{
    io::{BufRead as _, IsTerminal as _, Write as _},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use weir_config::Sources;
use weir_events::{Bulk, DeadLetter, DeadLetters, Deed, Filter, LetterId, Operator, Payloads};
use weir_telemetry::redact;
use weir_types::SystemClock;

use crate::{reach::ReachArgs, times::utc};

const PAGE: usize = 100;
/// Of a text in a table.
const SHORT: usize = 60;

#[derive(Debug, Args)]
pub struct DlqArgs {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    reach: ReachArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List dead letters, oldest first.
    List(ListArgs),
    /// Show one dead letter whole: why, when, headers, and the event itself.
    Show {
        id: LetterId,

        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Give events to the consumer that failed on them once more.
    ///
    /// Their letters go; an event that fails again becomes a new one. Safe to repeat: an event has its effect once.
    Replay(ManyArgs),
    /// Forget events for good.
    ///
    /// The consumer that failed on them never has them.
    Drop {
        #[command(flatten)]
        many: ManyArgs,

        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Clone, Args)]
struct FilterArgs {
    /// Only events of this stream, USAGE say.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    stream: String,

    /// Only those this consumer failed on, billing-usage say.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    consumer: String,

    /// Only this tenant's; `unknown`: of none.
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    tenant: String,

    /// Only those dead for this reason: undecodable, rejected, retries_exhausted.
    #[arg(long, value_name = "REASON", default_value = "", hide_default_value = true)]
    reason: String,
}

impl FilterArgs {
    fn filter(&self) -> Filter {
        let Self { stream, consumer, tenant, reason } = self.clone();
        Filter { stream, consumer, reason, tenant }
    }
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,

    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000), conflicts_with = "all")]
    limit: u32,

    /// Those after this one.
    #[arg(long, value_name = "ID")]
    after: Option<LetterId>,

    /// All there are.
    #[arg(long)]
    all: bool,

    /// As JSON, as GET /v1/admin/dlq answers.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ManyArgs {
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with_all = ["all", "stream", "consumer", "tenant", "reason"])]
    ids: Vec<LetterId>,

    /// All there are now and that fit.
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    filter: FilterArgs,

    /// At most so many of them.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    limit: usize,

    /// Say what was done as JSON.
    #[arg(long)]
    json: bool,
}

/// Exit codes: 0 all of it done, 1 not all of it, 2 wrong arguments.
pub(crate) async fn run(args: DlqArgs, sources: Sources) -> Result<ExitCode> {
    let letters = args.reach.bus(sources).await?.dead_letters();
    match args.action {
        Action::List(args) => list(&letters, &args).await,
        Action::Show { id, json } => show(&letters, id, json).await,
        Action::Replay(args) => handle(&letters, Deed::Replay, &args).await,
        Action::Drop { many, yes } => {
            if many.all && !yes && !sure(&letters, &many.filter.filter()).await? {
                return Ok(ExitCode::FAILURE);
            }
            handle(&letters, Deed::Drop, &many).await
        }
    }
}

async fn list(letters: &DeadLetters, args: &ListArgs) -> Result<ExitCode> {
    let filter = args.filter.filter();
    let limit = if args.all { usize::MAX } else { args.limit as usize };
    let (mut found, mut after, mut has_more) = (Vec::new(), args.after, true);
    while has_more && found.len() < limit {
        let page = letters.list(&filter, after, PAGE.min(limit - found.len())).await?;
        has_more = page.has_more;
        after = page.letters.last().map(|letter| letter.id);
        // A table shows no payloads.
        found.extend(page.letters.into_iter().map(|l| if args.json { l } else { l.without_payload() }));
    }
    let next = after.filter(|_| has_more).map(|id| id.to_string());
    let mut text = String::new();
    if args.json {
        let payloads = Payloads::default();
        let data: Vec<_> = found.iter().map(|letter| object(&payloads, letter)).collect();
        text = format!("{}\n", json!({"data": data, "has_more": has_more, "next_cursor": next}));
    } else {
        let rows = found.iter().map(row).collect::<Vec<_>>();
        table(&mut text, ["ID", "SINCE", "CONSUMER", "REASON", "EVENT", "TENANT", "WHY"], &rows);
        if let Some(next) = next {
            text += &format!("there are more: --after {next}, or --all\n");
        }
    }
    say(&text)
}

async fn show(letters: &DeadLetters, id: LetterId, as_json: bool) -> Result<ExitCode> {
    let letter = letters.get(id).await?;
    let payloads = Payloads::default();
    if as_json {
        return say(&format!("{}\n", object(&payloads, &letter)));
    }
    let mut text = String::new();
    let none = || "-".to_owned();
    for (name, value) in [
        ("id", letter.id.to_string()),
        ("reason", letter.reason_code.clone()),
        ("why", redact(&letter.reason).into_owned()),
        ("consumer", letter.consumer.clone()),
        ("stream", format!("{} #{}", letter.stream, letter.sequence)),
        ("subject", letter.subject.clone()),
        ("tenant", letter.tenant.map_or_else(none, |t| t.to_string())),
        ("event", letter.event_id.map_or_else(none, |id| id.to_string())),
        ("deliveries", letter.deliveries.to_string()),
        ("failures", letter.failures.to_string()),
        ("first failure", utc(letter.first_failure_ms)),
        ("last failure", utc(letter.last_failure_ms)),
        ("dead since", utc(letter.stored_at_ms)),
    ] {
        text += &format!("{name:<14} {value}\n");
    }
    for (name, value) in &letter.headers {
        text += &format!("header         {name}: {}\n", redact(value));
    }
    let payload = match payloads.json(&letter) {
        Some(value) => serde_json::to_string_pretty(&value)?,
        None if letter.payload_left_behind => {
            "too large to be kept here; its stream has it until that needs the room".to_owned()
        }
        None => format!("base64 {}", STANDARD.encode(&letter.payload)),
    };
    text += &format!("\n{payload}\n");
    say(&text)
}

async fn handle(letters: &DeadLetters, deed: Deed, args: &ManyArgs) -> Result<ExitCode> {
    let by = Operator { actor: None, clock: Arc::new(SystemClock), deadline: None };
    let mut bulk = Bulk::default();
    if args.all {
        bulk = letters.all(deed, &args.filter.filter(), args.limit, &by).await?;
    } else {
        for &id in &args.ids {
            match letters.one(deed, id, &by).await {
                Ok(_) => bulk.done += 1,
                Err(error) => bulk.failed.push((id, error)),
            }
        }
    }
    let Bulk { done, failed, has_more: more, error } = bulk;
    let word = match deed {
        Deed::Replay => "replayed",
        Deed::Drop => "dropped",
    };
    let text = if args.json {
        let failed: Vec<_> =
            failed.iter().map(|(id, e)| json!({"id": id.to_string(), "text": e.to_string()})).collect();
        format!("{}\n", json!({"handled": done, "failed": failed, "has_more": more}))
    } else {
        let mut text: String = failed.iter().map(|(id, e)| format!("{id}: {e}\n")).collect();
        text += &format!("{done} {word}, {} not", failed.len());
        text += if more { "; there are more\n" } else { "\n" };
        text
    };
    say(&text)?;
    if let Some(error) = error {
        return Err(error.into());
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks whoever sits at the terminal.
async fn sure(letters: &DeadLetters, filter: &Filter) -> Result<bool> {
    ensure!(std::io::stdin().is_terminal(), "dropping many asks first, and nobody is there: add --yes");
    let some = letters.list(filter, None, PAGE).await?;
    let count = format!("{}{}", some.letters.len(), if some.has_more { " or more" } else { "" });
    say(&format!("drop {count} dead letters for good? [y/N] "))?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn object(payloads: &Payloads, letter: &DeadLetter) -> Value {
    let payload = payloads.json(letter);
    let raw = (payload.is_none() && !letter.payload_left_behind).then(|| STANDARD.encode(&letter.payload));
    let headers: Vec<_> =
        letter.headers.iter().map(|(name, value)| json!({"name": name, "value": redact(value)})).collect();
    json!({
        "id": letter.id.to_string(),
        "reason": letter.reason_code,
        "reason_text": redact(&letter.reason),
        "stream": letter.stream,
        "sequence": letter.sequence,
        "consumer": letter.consumer,
        "subject": letter.subject,
        "tenant_id": letter.tenant.map(|t| t.to_string()),
        "event_id": letter.event_id.map(|id| id.to_string()),
        "deliveries": letter.deliveries,
        "failures": letter.failures,
        "first_failure_at_ms": letter.first_failure_ms,
        "last_failure_at_ms": letter.last_failure_ms,
        "dead_at_ms": letter.stored_at_ms,
        "headers": headers,
        "payload": payload,
        "payload_raw": raw,
    })
}

fn row(letter: &DeadLetter) -> [String; 7] {
    let tenant = letter.tenant.map_or_else(|| "-".to_owned(), |t| t.to_string());
    let mut why: String = redact(&letter.reason).chars().take(SHORT).collect();
    if letter.reason.chars().count() > SHORT {
        why.push('…');
    }
    [
        letter.id.to_string(),
        utc(letter.stored_at_ms),
        letter.consumer.clone(),
        letter.reason_code.clone(),
        letter.kind().to_owned(),
        tenant,
        why,
    ]
}

fn table<const N: usize>(text: &mut String, head: [&str; N], rows: &[[String; N]]) {
    let mut widths = head.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut line = |cells: [&str; N]| {
        let mut line = String::new();
        for (cell, width) in cells.into_iter().zip(widths) {
            line += &format!("{cell:<width$}  ");
        }
        *text += line.trim_end();
        text.push('\n');
    };
    line(head);
    for row in rows {
        line(row.each_ref().map(String::as_str));
    }
}

fn say(text: &str) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up() {
        let mut text = String::new();
        table(&mut text, ["A", "BCD"], &[["1234".into(), "ü".into()], ["5".into(), String::new()]]);
        assert_eq!(text, "A     BCD\n1234  ü\n5\n");
    }
}
