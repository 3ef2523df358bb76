//! Messages and their blocks, written from what is meant.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{answer::object, request_out::Body, state};
use crate::{
    canonical::{Content, Losses, Media, Message, Part, Raw, Role, Source, ToolUse, Vendor},
    ids,
};

/// <https://platform.claude.com/docs/en/build-with-claude/vision>.
const IMAGES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];
/// <https://platform.claude.com/docs/en/build-with-claude/pdf-support>.
const PDF: &str = "application/pdf";

#[derive(Serialize)]
pub(super) struct Wire<'a> {
    pub(super) role: &'static str,
    pub(super) content: Vec<Block<'a>>,
}

pub(super) type Cache<'a> = Option<&'a Raw>;

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Block<'a> {
    Text {
        text: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Cache<'a>,
    },
    Image {
        source: WireSource<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Cache<'a>,
    },
    Document {
        source: WireSource<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Cache<'a>,
    },
    ToolUse {
        id: Cow<'a, str>,
        name: &'a str,
        input: Cow<'a, RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Cache<'a>,
    },
    ToolResult {
        tool_use_id: Cow<'a, str>,
        content: Vec<Block<'a>>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Cache<'a>,
    },
    Thinking {
        thinking: &'a str,
        signature: &'a str,
    },
    RedactedThinking {
        data: &'a str,
    },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum WireSource<'a> {
    Base64 { media_type: &'a str, data: &'a str },
    Url { url: &'a str },
    Text { media_type: &'static str, data: Cow<'a, str> },
}

/// Roles take turns, and instructions stand apart from them.
pub(super) fn write_messages<'a>(messages: &'a [Message], body: &mut Body<'a>, losses: &mut Losses) {
    for message in messages {
        let role = match message.role {
            Role::System => {
                if !body.messages.is_empty() {
                    losses.altered("messages.role.system");
                }
                body.system.extend(blocks(&message.parts, losses));
                continue;
            }
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        let content = blocks(&message.parts, losses);
        if content.is_empty() {
            continue;
        }
        match body.messages.last_mut().filter(|last| last.role == role) {
            Some(last) => last.content.extend(content),
            None => body.messages.push(Wire { role, content }),
        }
    }
    for message in &mut body.messages {
        // Results answer the calls before them, so they come first.
        message.content.sort_by_key(|block| !matches!(block, Block::ToolResult { .. }));
    }
    // The beginning of an answer may not end with a space.
    if let Some(Wire { role: "assistant", content }) = body.messages.last_mut()
        && let Some(Block::Text { text, .. }) = content.last_mut()
    {
        *text = text.trim_end().to_owned().into();
    }
    if body.messages.is_empty() && !body.system.is_empty() {
        losses.altered("messages.role.system");
        body.messages.push(Wire { role: "user", content: std::mem::take(&mut body.system) });
    }
    // Instructions are text.
    body.system.retain(|block| {
        match block {
            Block::Text { .. } => return true,
            Block::Image { .. } => losses.dropped("messages.content.image"),
            Block::Document { .. } => losses.dropped("messages.content.document"),
            _ => {}
        }
        false
    });
}

fn blocks<'a>(parts: &'a [Part], losses: &mut Losses) -> Vec<Block<'a>> {
    parts.iter().filter_map(|part| block(part, losses)).collect()
}

fn block<'a>(part: &'a Part, losses: &mut Losses) -> Option<Block<'a>> {
    let cache_control = part.cache.as_ref();
    let thought = matches!(part.content, Content::Thinking(_) | Content::RedactedThinking);
    if !thought && part.opaque.is_some() {
        // Another vendor's: here only thoughts have state.
        losses.dropped("thinking");
    }
    match &part.content {
        Content::Text(text) | Content::Refusal(text) => {
            // Anthropic refuses blank ones.
            (!text.trim().is_empty()).then(|| Block::Text { text: text.into(), cache_control })
        }
        Content::Image(Media { source, detail, .. }) => {
            if detail.as_deref().is_some_and(|d| d != "auto") {
                losses.dropped("messages.content.image_url.detail");
            }
            image(source, losses).map(|source| Block::Image { source, cache_control })
        }
        Content::File(Media { source, name, .. }) => {
            let title = name.as_deref();
            document(source, losses).map(|source| Block::Document { source, title, cache_control })
        }
        Content::ToolUse(ToolUse { id, name, arguments }) => {
            let input = object(arguments);
            if matches!(input, Cow::Owned(_)) && !arguments.trim().is_empty() {
                losses.altered("messages.tool_calls.function.arguments");
            }
            Some(Block::ToolUse { id: ids::plain(id), name, input, cache_control })
        }
        Content::ToolResult(result) => Some(Block::ToolResult {
            tool_use_id: ids::plain(&result.id),
            content: blocks(&result.parts, losses),
            is_error: result.is_error,
            cache_control,
        }),
        Content::Thinking(_) | Content::RedactedThinking => {
            let Some(state) = own(part) else {
                // Without its signature, or with another vendor's, it would be refused.
                if part.opaque.is_some() {
                    losses.dropped("thinking");
                }
                return None;
            };
            Some(match &part.content {
                Content::Thinking(thinking) => Block::Thinking { thinking, signature: state },
                _ => Block::RedactedThinking { data: state },
            })
        }
        Content::Audio(_) | Content::Foreign { .. } => {
            losses.dropped(&format!("messages.content.{}", part.content.kind()));
            None
        }
    }
}

/// Anthropic's own state of a part.
pub(super) fn own(part: &Part) -> Option<&str> {
    let opaque = part.opaque.as_ref().filter(|o| o.vendor == Vendor::Anthropic)?;
    Some(opaque.data.as_str()).filter(|data| !state::worthless(data))
}

fn image<'a>(source: &'a Source, losses: &mut Losses) -> Option<WireSource<'a>> {
    match source {
        Source::Url(url) => Some(WireSource::Url { url }),
        Source::Data { media_type, data } if IMAGES.contains(&plain(media_type)) => {
            Some(WireSource::Base64 { media_type: plain(media_type), data })
        }
        Source::Data { media_type, data } if plain(media_type) == "image/jpg" => {
            Some(WireSource::Base64 { media_type: "image/jpeg", data })
        }
        Source::Id(_) => none("messages.content.image.file_id", losses),
        Source::Data { .. } | Source::Text(_) => none("messages.content.image", losses),
    }
}

/// Base64 is for PDF alone; texts are told as such.
fn document<'a>(source: &'a Source, losses: &mut Losses) -> Option<WireSource<'a>> {
    let text = |data| Some(WireSource::Text { media_type: "text/plain", data });
    match source {
        Source::Url(url) => Some(WireSource::Url { url }),
        Source::Text(data) => text(data.into()),
        Source::Data { media_type, data } => match plain(media_type) {
            PDF => Some(WireSource::Base64 { media_type: PDF, data }),
            kind => match decoded(kind, data) {
                Some(said) => text(said.into()),
                None => none("messages.content.file", losses),
            },
        },
        Source::Id(_) => none("messages.content.file.file_id", losses),
    }
}

/// Without its parameters.
fn plain(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

fn decoded(kind: &str, base64: &str) -> Option<String> {
    if !kind.starts_with("text/") && kind != "application/json" {
        return None;
    }
    String::from_utf8(BASE64.decode(base64).ok()?).ok()
}

fn none<'a>(lost: &str, losses: &mut Losses) -> Option<WireSource<'a>> {
    losses.dropped(lost);
    None
}
