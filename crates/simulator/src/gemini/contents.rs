//! Contents and their parts: that calls have their responses, and signatures are what they were.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use serde_json::Value;

use super::{
    invalid,
    request::{get, known},
    secret,
};
use crate::{error::ApiError, request::Conversation, tokens::count_text};

/// An image or a page, in tokens: <https://ai.google.dev/gemini-api/docs/tokens>.
const PER_MEDIA: u64 = 258;
const MEMBERS: &[&str] = &[
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
    "thought",
    "thoughtSignature",
    "videoMetadata",
    "mediaResolution",
    "toolCall",
    "toolResponse",
    "partMetadata",
];
const DATA: &[&str] = &[
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
    "toolCall",
    "toolResponse",
];

#[derive(Default)]
pub(super) struct Reader {
    pub(super) conversation: Conversation,
    pub(super) tokens: u64,
    /// Calls of the model's last contents, and what came back.
    waiting: usize,
    responses: usize,
    /// What the current turn lacks: a call without a signature.
    pub(super) unsigned: Option<ApiError>,
}

impl Reader {
    pub(super) fn system(&mut self, content: &Value) -> Result<(), ApiError> {
        let mut said = String::new();
        for (i, part) in parts(content, "system_instruction")?.iter().enumerate() {
            let at = format!("system_instruction.parts[{i}]");
            if let Some(text) = get(part, "text").and_then(Value::as_str) {
                self.say(&mut said, text);
            } else {
                return Err(invalid(
                    &at,
                    format!("Invalid value at '{at}': system instruction must be text."),
                ));
            }
        }
        self.conversation.instructed(said);
        Ok(())
    }

    pub(super) fn contents(&mut self, contents: &Value) -> Result<(), ApiError> {
        let one = [contents.clone()];
        let contents = match contents {
            Value::Array(contents) => contents.as_slice(),
            _ => &one,
        };
        if contents.is_empty() {
            return Err(invalid(
                "contents",
                "* GenerateContentRequest.contents: contents is not specified\n",
            ));
        }
        // A client may send what it got as it got it: contents of one role that follow each other are one.
        let mut users = true;
        for (at, content) in contents.iter().enumerate() {
            let parts = parts(content, &format!("contents[{at}]"))?;
            match content["role"].as_str() {
                None | Some("user" | "function" | "") => {
                    users = true;
                    self.user(&parts, at)?;
                }
                Some("model") => {
                    if std::mem::replace(&mut users, false) {
                        self.answered()?;
                    }
                    self.model(&parts, at)?;
                }
                Some(_) => return Err(invalid("", "Please use a valid role: user, model.")),
            }
        }
        self.answered()
    }

    fn say(&mut self, said: &mut String, text: &str) {
        self.tokens += count_text(text);
        said.push_str(text);
        said.push(' ');
    }

    fn user(&mut self, parts: &[Value], at: usize) -> Result<(), ApiError> {
        let (mut said, mut spoke) = (String::new(), false);
        for (i, part) in parts.iter().enumerate() {
            let at = format!("contents[{at}].parts[{i}]");
            check(part, &at)?;
            if let Some(text) = get(part, "text").and_then(Value::as_str) {
                self.say(&mut said, text);
                spoke = true;
            } else if let Some(response) = get(part, "functionResponse") {
                self.responses += 1;
                self.response(response, &at)?;
            } else {
                self.tokens += PER_MEDIA;
                spoke = true;
            }
        }
        if spoke {
            self.conversation.asked(said);
            // Only the turn at hand is looked at.
            self.unsigned = None;
        }
        Ok(())
    }

    fn response(&mut self, response: &Value, at: &str) -> Result<(), ApiError> {
        if response["name"].as_str().is_none_or(str::is_empty) {
            let field = format!("{at}.function_response.name");
            return Err(invalid(
                &field,
                format!("* GenerateContentRequest.{field}: Name cannot be empty.\n"),
            ));
        }
        for (i, part) in get(response, "parts").and_then(Value::as_array).into_iter().flatten().enumerate() {
            let at = format!("{at}.function_response.parts[{i}]");
            if let Value::Object(members) = part {
                known(members, &at, &["inlineData", "fileData"])?;
            }
            whole(part, &at)?;
        }
        let told = &response["response"];
        let only = told.as_object().filter(|told| told.len() == 1).and_then(|told| told.iter().next());
        // The words alone where there is nothing else, as other dialects have them.
        let said = match only {
            Some((name, Value::String(text))) if ["result", "output", "content"].contains(&name.as_str()) => {
                text.clone()
            }
            _ => told.to_string(),
        };
        self.tokens += count_text(&said);
        self.conversation.resulted(said);
        Ok(())
    }

    fn model(&mut self, parts: &[Value], at: usize) -> Result<(), ApiError> {
        let mut said = String::new();
        for (i, part) in parts.iter().enumerate() {
            let place = format!("contents[{at}].parts[{i}]");
            check(part, &place)?;
            let signature = get(part, "thoughtSignature").and_then(Value::as_str).filter(|s| !s.is_empty());
            if let Some(call) = get(part, "functionCall") {
                self.call(call, signature, at, &place)?;
            } else if signature.is_some_and(|signature| !secret::is_of_text(signature)) {
                return Err(corrupted());
            } else if part["thought"] != true
                && let Some(text) = get(part, "text").and_then(Value::as_str)
            {
                self.say(&mut said, text);
            }
        }
        self.conversation.spoke(&said);
        Ok(())
    }

    fn call(
        &mut self,
        call: &Value,
        signature: Option<&str>,
        at: usize,
        place: &str,
    ) -> Result<(), ApiError> {
        let name = call["name"].as_str().unwrap_or_default();
        if name.is_empty() {
            let field = format!("{place}.function_call.name");
            return Err(invalid(
                &field,
                format!("* GenerateContentRequest.{field}: Name cannot be empty.\n"),
            ));
        }
        let args = &call["args"];
        self.tokens += count_text(name) + count_text(&args.to_string());
        match signature {
            Some(signature) if !secret::is_of_call(signature, name, args) => return Err(corrupted()),
            // Of parallel calls the first alone is signed.
            None if self.waiting == 0 && self.unsigned.is_none() => {
                let message = format!(
                    "Function call is missing a thought_signature in functionCall parts. This is required for tools to \
                     work correctly, and missing thought_signature may lead to degraded model performance. Additional \
                     data, function call `default_api:{name}` , position {}. Please refer to \
                     https://ai.google.dev/gemini-api/docs/thought-signatures for more details.",
                    at + 1
                );
                self.unsigned = Some(invalid("", message));
            }
            _ => {}
        }
        self.waiting += 1;
        Ok(())
    }

    fn answered(&mut self) -> Result<(), ApiError> {
        let (waiting, responses) = (std::mem::take(&mut self.waiting), std::mem::take(&mut self.responses));
        if responses == waiting {
            return Ok(());
        }
        let message = match waiting {
            0 => "Please ensure that function response turn comes immediately after a function call turn.",
            _ => {
                "Please ensure that the number of function response parts is equal to the number of function call \
                 parts of the function call turn."
            }
        };
        Err(invalid("", message))
    }
}

fn corrupted() -> ApiError {
    invalid("", "Corrupted thought signature.")
}

fn parts(content: &Value, at: &str) -> Result<Vec<Value>, ApiError> {
    if let Value::Object(members) = content {
        known(members, at, &["parts", "role"])?;
    }
    match content.get("parts") {
        Some(Value::Array(parts)) if !parts.is_empty() => Ok(parts.clone()),
        Some(part @ Value::Object(_)) => Ok(vec![part.clone()]),
        _ => Err(invalid(
            at,
            format!("* GenerateContentRequest.{at}.parts: contents.parts must not be empty.\n"),
        )),
    }
}

/// Bytes are in base64, of either alphabet.
fn whole(part: &Value, at: &str) -> Result<(), ApiError> {
    let Some(data) = get(part, "inlineData").and_then(|blob| blob["data"].as_str()) else { return Ok(()) };
    let read = [STANDARD_NO_PAD, URL_SAFE_NO_PAD]
        .iter()
        .any(|engine| engine.decode(data.trim_end_matches('=')).is_ok());
    if read {
        return Ok(());
    }
    let text = format!("Invalid value at '{at}.inline_data.data' (TYPE_BYTES), Base64 decoding failed");
    Err(invalid(&format!("{at}.inline_data.data"), text))
}

fn check(part: &Value, at: &str) -> Result<(), ApiError> {
    let Value::Object(members) = part else {
        return Err(invalid(at, format!("Invalid value at '{at}'")));
    };
    known(members, at, MEMBERS)?;
    let blob = get(part, "inlineData");
    if blob.is_some_and(|blob| get(blob, "mimeType").is_none() || blob["data"].as_str().is_none()) {
        let field = format!("{at}.inline_data");
        return Err(invalid(
            &field,
            format!("* GenerateContentRequest.{field}: mime_type and data are required.\n"),
        ));
    }
    whole(part, at)?;
    match DATA.iter().filter(|name| get(part, name).is_some()).count() {
        1 => Ok(()),
        // A signature may come alone.
        0 if get(part, "thoughtSignature").is_some() => Ok(()),
        0 => {
            let what = "required oneof field 'data' must have one initialized field";
            Err(invalid(at, format!("* GenerateContentRequest.{at}.data: {what}\n")))
        }
        _ => Err(invalid(at, format!("Invalid value at '{at}' (oneof), oneof field 'data' is already set."))),
    }
}
