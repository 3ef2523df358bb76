//! Messages and their blocks, written as Converse has them.

use std::{borrow::Cow, collections::HashMap};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::Serialize;
use serde_json::value::RawValue;

use super::model::Kind;
use crate::{
    anthropic::object,
    canonical::{Content, Losses, Media, Message, Part, Raw, Role, Source, ToolResult, ToolUse, Vendor},
    ids,
};

/// Said of a document that came without a word: Converse wants one.
const SEE_DOCUMENT: &str = "See the document.";
const DOCUMENT: &str = "document";
/// A name is as long at most.
const MAX_NAME: usize = 200;

#[derive(Serialize)]
pub(super) struct Wire<'a> {
    pub(super) role: &'static str,
    pub(super) content: Vec<Block<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum Block<'a> {
    Text(Cow<'a, str>),
    Image { format: &'static str, source: WireSource<'a> },
    Document { format: &'static str, name: String, source: WireSource<'a> },
    ToolUse { tool_use_id: Cow<'a, str>, name: &'a str, input: Cow<'a, RawValue> },
    ToolResult { tool_use_id: Cow<'a, str>, content: Vec<Block<'a>>, status: &'static str },
    ReasoningContent(Thought<'a>),
    CachePoint(CachePoint),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum WireSource<'a> {
    /// Base64.
    Bytes(Cow<'a, str>),
    S3Location {
        uri: &'a str,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Thought<'a> {
    ReasoningText {
        text: &'a str,
        signature: &'a str,
    },
    /// Base64.
    RedactedContent(&'a str),
}

#[derive(Serialize, Clone, Copy)]
pub(super) struct CachePoint {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<&'static str>,
}

/// A mark as Anthropic writes it, where the model has a cache.
pub(super) fn cache_point(mark: Option<&Raw>, kind: Kind) -> Option<CachePoint> {
    let mark = mark.filter(|_| kind.caches())?;
    let hour = kind.is_claude() && mark.get().contains("\"1h\"");
    Some(CachePoint { r#type: "default", ttl: hour.then_some("1h") })
}

/// Writes the blocks of one conversation.
pub(super) struct Writer<'l> {
    pub(super) kind: Kind,
    pub(super) losses: &'l mut Losses,
    /// Names of documents, which may not repeat, and the number that one would get next.
    names: HashMap<String, usize>,
}

impl<'l> Writer<'l> {
    pub(super) fn new(kind: Kind, losses: &'l mut Losses) -> Self {
        Self { kind, losses, names: HashMap::new() }
    }

    /// Instructions, and the messages, whose roles take turns.
    pub(super) fn conversation<'a>(&mut self, messages: &'a [Message]) -> (Vec<Block<'a>>, Vec<Wire<'a>>) {
        let (mut system, mut wire) = (Vec::new(), Vec::<Wire<'a>>::new());
        for message in messages {
            let role = match message.role {
                Role::System => {
                    if !wire.is_empty() {
                        self.losses.altered("messages.role.system");
                    }
                    let said = self.blocks(&message.parts);
                    system.extend(said.into_iter().filter(|block| self.is_instruction(block)));
                    continue;
                }
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            let content = self.blocks(&message.parts);
            if content.is_empty() {
                continue;
            }
            match wire.last_mut().filter(|last| last.role == role) {
                Some(last) => last.content.extend(content),
                None => wire.push(Wire { role, content }),
            }
        }
        if wire.is_empty() && !system.is_empty() {
            self.losses.altered("messages.role.system");
            wire.push(Wire { role: "user", content: std::mem::take(&mut system) });
        }
        self.settle(&mut wire);
        (system, wire)
    }

    /// Instructions are words.
    fn is_instruction(&mut self, block: &Block<'_>) -> bool {
        match block {
            Block::Text(_) | Block::CachePoint(_) => return true,
            Block::Image { .. } => self.losses.dropped("messages.content.image"),
            Block::Document { .. } => self.losses.dropped("messages.content.document"),
            _ => {}
        }
        false
    }

    /// What Converse refuses about whole messages.
    fn settle(&mut self, wire: &mut [Wire<'_>]) {
        for message in &mut *wire {
            // Results answer the calls before them, so they come first; a mark stays behind what it marks.
            let mut first = Vec::new();
            let mut rest = Vec::new();
            for block in std::mem::take(&mut message.content) {
                let to_first = match &block {
                    Block::ToolResult { .. } => true,
                    Block::CachePoint(_) => rest.is_empty() && !first.is_empty(),
                    _ => false,
                };
                if to_first { first.push(block) } else { rest.push(block) }
            }
            first.extend(rest);
            message.content = first;
            let has = |fits: fn(&Block<'_>) -> bool| message.content.iter().any(fits);
            if has(|b| matches!(b, Block::Document { .. })) && !has(|b| matches!(b, Block::Text(_))) {
                message.content.push(Block::Text(SEE_DOCUMENT.into()));
            }
        }
        if let Some(Wire { role: "assistant", content }) = wire.last_mut()
            && let Some(Block::Text(text)) = content.last_mut()
        {
            // The beginning of an answer may not end with a space.
            *text = text.trim_end().to_owned().into();
        }
    }

    fn blocks<'a>(&mut self, parts: &'a [Part]) -> Vec<Block<'a>> {
        let mut blocks = Vec::with_capacity(parts.len());
        for part in parts {
            let Some(block) = self.block(part) else { continue };
            blocks.push(block);
            blocks.extend(cache_point(part.cache.as_ref(), self.kind).map(Block::CachePoint));
        }
        blocks
    }

    fn block<'a>(&mut self, part: &'a Part) -> Option<Block<'a>> {
        let thought = matches!(part.content, Content::Thinking(_) | Content::RedactedThinking);
        if part.opaque.as_ref().is_some_and(|state| !thought || !self.wants_back(state.vendor)) {
            // Another vendor's, or of what has no state here.
            self.losses.dropped("thinking");
        }
        match &part.content {
            // Blank ones are refused.
            Content::Text(text) | Content::Refusal(text) => {
                (!text.trim().is_empty()).then(|| Block::Text(text.into()))
            }
            Content::Image(media) => self.image(media),
            Content::File(media) => self.document(media),
            Content::ToolUse(ToolUse { id, name, arguments }) => {
                let input = object(arguments);
                if matches!(input, Cow::Owned(_)) && !arguments.trim().is_empty() {
                    self.losses.altered("messages.tool_calls.function.arguments");
                }
                Some(Block::ToolUse { tool_use_id: tool_id(id), name, input })
            }
            Content::ToolResult(result) => Some(self.result(result)),
            // Without its signature it would be refused.
            Content::Thinking(text) => {
                let signature = part.opaque.as_ref().filter(|o| self.wants_back(o.vendor))?;
                let thought = Thought::ReasoningText { text, signature: &signature.data };
                Some(Block::ReasoningContent(thought))
            }
            Content::RedactedThinking => {
                let state = part.opaque.as_ref().filter(|o| self.wants_back(o.vendor))?;
                Some(Block::ReasoningContent(Thought::RedactedContent(&state.data)))
            }
            Content::Audio(_) | Content::Foreign { .. } => {
                self.losses.dropped(&format!("messages.content.{}", part.content.kind()));
                None
            }
        }
    }

    fn wants_back(&self, vendor: Vendor) -> bool {
        vendor == Vendor::Anthropic && self.kind.is_claude()
    }

    fn result<'a>(&mut self, result: &'a ToolResult) -> Block<'a> {
        let mut content = Vec::with_capacity(result.parts.len());
        for part in &result.parts {
            match &part.content {
                Content::Text(_) | Content::Refusal(_) | Content::Image(_) | Content::File(_) => {
                    content.extend(self.block(part));
                }
                other => self.losses.dropped(&format!("messages.content.tool_result.{}", other.kind())),
            }
        }
        if content.is_empty() {
            // A result of nothing is still one; a blank text is refused.
            content.push(Block::Text("(no output)".into()));
        }
        let status = if result.is_error { "error" } else { "success" };
        Block::ToolResult { tool_use_id: tool_id(&result.id), content, status }
    }

    fn image<'a>(&mut self, media: &'a Media) -> Option<Block<'a>> {
        if media.detail.as_deref().is_some_and(|d| d != "auto") {
            self.losses.dropped("messages.content.image_url.detail");
        }
        let (format, source) = match &media.source {
            Source::Data { media_type, data } => {
                let format = match media_type.split(';').next().unwrap_or_default().trim() {
                    "image/png" => "png",
                    "image/gif" => "gif",
                    "image/webp" => "webp",
                    "image/jpeg" | "image/jpg" => "jpeg",
                    _ => return self.none("messages.content.image"),
                };
                (format, WireSource::Bytes(data.into()))
            }
            Source::Url(url) if url.starts_with("s3://") => {
                let format = match url.rsplit('.').next() {
                    Some("png") => "png",
                    Some("gif") => "gif",
                    Some("webp") => "webp",
                    _ => "jpeg",
                };
                (format, WireSource::S3Location { uri: url })
            }
            // Bedrock fetches nothing from elsewhere.
            Source::Url(_) => return self.none("messages.content.image_url.url"),
            Source::Id(_) | Source::Text(_) => return self.none("messages.content.image.file_id"),
        };
        Some(Block::Image { format, source })
    }

    fn document<'a>(&mut self, media: &'a Media) -> Option<Block<'a>> {
        let (format, source) = match &media.source {
            Source::Data { media_type, data } => match format_of(media_type) {
                Some(format) => (format, WireSource::Bytes(data.into())),
                None => return self.none("messages.content.document"),
            },
            Source::Text(text) => ("txt", WireSource::Bytes(BASE64.encode(text).into())),
            Source::Url(url) if url.starts_with("s3://") => {
                let format = url.rsplit('.').next().and_then(|end| FORMATS.iter().find(|(_, f)| *f == end));
                (format.map_or("pdf", |(_, format)| format), WireSource::S3Location { uri: url })
            }
            Source::Url(_) => return self.none("messages.content.document.url"),
            Source::Id(_) => return self.none("messages.content.file.file_id"),
        };
        Some(Block::Document { format, name: self.name(media.name.as_deref()), source })
    }

    fn none<'a>(&mut self, lost: &str) -> Option<Block<'a>> {
        self.losses.dropped(lost);
        None
    }

    /// Letters, digits, single spaces, hyphens, parentheses and brackets; none twice.
    fn name(&mut self, given: Option<&str>) -> String {
        let stem = given.map(|name| name.rsplit_once('.').map_or(name, |(stem, _)| stem)).unwrap_or(DOCUMENT);
        let fits = |c: char| c.is_ascii_alphanumeric() || "-()[]".contains(c);
        let words: String = stem.chars().map(|c| if fits(c) { c } else { ' ' }).take(MAX_NAME).collect();
        let plain = words.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        let plain = if plain.is_empty() { DOCUMENT.to_owned() } else { plain };
        let mut name = plain.clone();
        while self.names.contains_key(&name) {
            let next = self.names.entry(plain.clone()).or_default();
            name = format!("{plain} ({next})");
            *next += 1;
        }
        self.names.insert(name.clone(), 2);
        name
    }
}

/// At most 64 of letters, digits, `_` and `-`. A long one keeps its end, where such ids differ.
fn tool_id(id: &str) -> Cow<'_, str> {
    let plain = ids::plain(id);
    match plain.len().checked_sub(64) {
        Some(over @ 1..) => plain.get(over..).unwrap_or_default().to_owned().into(),
        _ => plain,
    }
}

const FORMATS: [(&str, &str); 9] = [
    ("application/pdf", "pdf"),
    ("text/csv", "csv"),
    ("application/msword", "doc"),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "docx"),
    ("application/vnd.ms-excel", "xls"),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx"),
    ("text/html", "html"),
    ("text/markdown", "md"),
    ("text/plain", "txt"),
];

fn format_of(media_type: &str) -> Option<&'static str> {
    let kind = media_type.split(';').next().unwrap_or_default().trim();
    let known = FORMATS.iter().find(|(name, _)| *name == kind).map(|(_, format)| *format);
    known.or_else(|| (kind.starts_with("text/") || kind == "application/json").then_some("txt"))
}
