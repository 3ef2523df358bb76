//! Path templates of `google.api.http`: literals, `{field}` for one segment, `{field=**}` at the end for the rest.

use percent_encoding::percent_decode_str;
use weir_error::{Code, Error};

use crate::BuildError;

/// A path as the router wants it, and the fields it takes, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    /// `/v1/tenants/{id}`, and `{*id}` for the rest of a path.
    pub(crate) route: String,
    pub(crate) fields: Vec<String>,
}

impl Template {
    pub(crate) fn parse(path: &str) -> Result<Self, BuildError> {
        let bad = |why: &str| BuildError(format!("path {path}: {why}"));
        let rest = path.strip_prefix('/').ok_or_else(|| bad("begins with a slash"))?;
        let (mut route, mut fields) = (String::new(), Vec::new());
        let mut segments = rest.split('/').peekable();
        while let Some(segment) = segments.next() {
            route.push('/');
            let Some(variable) = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) else {
                if segment.is_empty() || segment.contains(['{', '}', '*', ':']) {
                    return Err(bad("a segment is plain text or one {field}"));
                }
                route.push_str(segment);
                continue;
            };
            let (name, form) = variable.split_once('=').unwrap_or((variable, "*"));
            let open = match form {
                "*" => format!("{{{name}}}"),
                "**" if segments.peek().is_none() => format!("{{*{name}}}"),
                _ => return Err(bad("{field=*} anywhere and {field=**} at the end are all there is")),
            };
            if name.is_empty() || name.contains('.') {
                return Err(bad("only fields of the request itself can stand in it"));
            }
            route.push_str(&open);
            fields.push(name.to_owned());
        }
        Ok(Self { route, fields })
    }
}

/// `%2F` and the like.
///
/// # Errors
/// `NotFound`: what is no text names nothing.
pub(crate) fn decode(segment: &str) -> Result<String, Error> {
    let decoded = percent_decode_str(segment).decode_utf8();
    decoded.map(Into::into).map_err(|_| Error::new(Code::NotFound, "there is nothing at this path"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_read() {
        let parsed = |path: &str| Template::parse(path).map(|t| (t.route, t.fields.join(","))).ok();
        let some = |route: &str, fields: &str| Some((route.to_owned(), fields.to_owned()));
        assert_eq!(parsed("/v1/tenants"), some("/v1/tenants", ""));
        assert_eq!(parsed("/v1/a/{id}/b/{x=*}"), some("/v1/a/{id}/b/{x}", "id,x"));
        assert_eq!(parsed("/v1/a/{name=**}"), some("/v1/a/{*name}", "name"));
        for bad in ["v1", "/v1/", "/v1/{a.b}", "/v1/{a=**}/b", "/v1/{a=x/*}", "/v1/a:b", "/v1/*", "/v1/{}"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }
}
