//! What a proto's author wrote about an RPC and its fields.

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, MethodDescriptor};
use weir_proto::{
    api::{Field, Operation},
    http::{HttpRule, http_rule::Pattern},
};

use crate::BuildError;

/// How one option is read from any descriptor.
fn option<T: Message + Default>(
    pool: &DescriptorPool,
    options: &DynamicMessage,
    name: &str,
) -> Result<Option<T>, BuildError> {
    let Some(extension) = pool.get_extension_by_name(name) else { return Ok(None) };
    if !options.has_extension(&extension) {
        return Ok(None);
    }
    let value = options.get_extension(&extension);
    let message = value.as_message().map(DynamicMessage::transcode_to::<T>).transpose();
    message.map_err(|e| BuildError(format!("option {name}: {e}")))
}

/// `None`: not public.
pub(crate) fn http(method: &MethodDescriptor) -> Result<Option<HttpRule>, BuildError> {
    option(method.parent_pool(), &method.options(), "google.api.http")
}

pub(crate) fn operation(method: &MethodDescriptor) -> Result<Operation, BuildError> {
    Ok(option(method.parent_pool(), &method.options(), "weir.api.v1.operation")?.unwrap_or_default())
}

pub(crate) fn field(field: &FieldDescriptor) -> Result<Field, BuildError> {
    Ok(option(field.parent_pool(), &field.options(), "weir.api.v1.field")?.unwrap_or_default())
}

/// The method and the path of a rule.
pub(crate) fn pattern(rule: &HttpRule) -> Result<(http::Method, &str), BuildError> {
    Ok(match &rule.pattern {
        Some(Pattern::Get(path)) => (http::Method::GET, path),
        Some(Pattern::Put(path)) => (http::Method::PUT, path),
        Some(Pattern::Post(path)) => (http::Method::POST, path),
        Some(Pattern::Delete(path)) => (http::Method::DELETE, path),
        Some(Pattern::Patch(path)) => (http::Method::PATCH, path),
        Some(Pattern::Custom(_)) | None => {
            return Err(BuildError("a rule must be get, put, post, delete or patch".to_owned()));
        }
    })
}

/// The comment above an element, without the marks.
pub(crate) fn comment(file: &prost_types::FileDescriptorProto, path: &[i32]) -> String {
    let info = file.source_code_info.as_ref();
    let location = info.and_then(|info| info.location.iter().find(|l| l.path == path));
    let text = location.map(|l| l.leading_comments()).unwrap_or_default();
    text.lines().map(|l| l.strip_prefix(' ').unwrap_or(l)).collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// A comment's first sentence as a title, and all of it below the first empty line, or else all of it.
pub(crate) fn summary(comment: &str, name: &str) -> (String, String) {
    let (first, rest) = comment.split_once("\n\n").unwrap_or((comment, comment));
    let sentence = first.split(". ").next().unwrap_or_default().replace('\n', " ");
    let sentence = sentence.trim().trim_end_matches('.');
    let title = if sentence.is_empty() { name } else { sentence };
    (title.to_owned(), flowing(rest))
}

/// Lines that only break because a file is narrow become one; paragraphs stay.
pub(crate) fn flowing(text: &str) -> String {
    text.split("\n\n").map(|p| p.replace('\n', " ")).collect::<Vec<_>>().join("\n\n").trim().to_owned()
}
