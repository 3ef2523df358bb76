//! Who asks: the key in the headers, and the tenant it acts for.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, header};
use weir_access::Grant;
use weir_error::{Code, Error};
use weir_types::TenantId;

use crate::{
    House,
    asked::Asked,
    endpoint::{self, Dialect},
    entry::Who,
    gemini,
};

const TENANT: HeaderName = HeaderName::from_static("x-tenant-id");

impl House {
    /// The grant of an endpoint that works inside a tenant.
    ///
    /// # Errors
    /// `InvalidApiKey`; `TenantRequired` for a platform key that names no tenant, `NotFound` when it names one that
    /// is not there; `TenantMismatch` for any other key that names a tenant other than its own.
    pub(crate) async fn tenant_grant(&self, asked: &Asked) -> Result<Grant, Error> {
        let grant = self.grant(asked).await?;
        if let Some(tenant) = grant.tenant() {
            tracing::Span::current().record("tenant", tracing::field::display(tenant));
        } else {
            // Its own target, so that audits can find it.
            tracing::warn!(target: "weir::audit", request_id = %asked.request_id, "platform key named no tenant");
            return Err(Error::new(
                Code::TenantRequired,
                "this credential belongs to no tenant: name one in X-Tenant-ID",
            )
            .with_param("X-Tenant-ID"));
        }
        Ok(grant)
    }

    /// The grant of an endpoint that works without a tenant, too.
    ///
    /// # Errors
    /// As [`House::tenant_grant`], but for `TenantRequired`.
    pub(crate) async fn grant(&self, asked: &Asked) -> Result<Grant, Error> {
        let grant = self.check(asked).await?;
        let _ = asked.who.set(Who::of(&grant));
        Ok(grant)
    }

    async fn check(&self, asked: &Asked) -> Result<Grant, Error> {
        let in_query = in_query(asked);
        let key = presented(&asked.headers).or(in_query.as_deref()).ok_or_else(|| {
            Error::new(Code::InvalidApiKey, "no API key was given: send it as `Authorization: Bearer`")
        })?;
        let grant = self.access.authenticate_from(&asked.request_id, key, asked.peer).await?;
        let Some(named) = asked.headers.get(TENANT) else { return Ok(grant) };
        let named = named.to_str().ok().and_then(|text| text.parse::<TenantId>().ok());
        match named {
            Some(tenant) => self.access.acting_for(&grant, tenant, &asked.request_id).await,
            None if grant.is_platform() => {
                Err(Error::invalid("X-Tenant-ID", "not a tenant id: expected a UUID"))
            }
            // Of a text that is no id, too, nothing is said but that it is not the caller's own tenant.
            None => Err(Error::new(Code::TenantMismatch, "this credential may not act for that tenant")
                .with_param("X-Tenant-ID")),
        }
    }
}

/// As Google's clients may send it, to paths of its dialect alone: a query is in more logs than a header.
fn in_query(asked: &Asked) -> Option<Cow<'_, str>> {
    asked.uri.query()?;
    let google = endpoint::find(asked.uri.path()).is_some_and(|f| f.endpoint.dialect() == Dialect::Gemini);
    if google { gemini::query(asked, "key").filter(|key| !key.is_empty()) } else { None }
}

/// `Authorization: Bearer …`, else `x-api-key`, else `x-goog-api-key`.
fn presented(headers: &HeaderMap) -> Option<&str> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let authorization = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let bearer = authorization.and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let others = || ["x-api-key", "x-goog-api-key"].iter().find_map(|name| text(name)).map(str::trim);
    bearer.or_else(others).filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_key_is_found_in_any_of_the_headers() {
        let of = |pairs: &[(&'static str, &'static str)]| {
            let headers: HeaderMap =
                pairs.iter().map(|(k, v)| (k.parse().unwrap(), HeaderValue::from_static(v))).collect();
            presented(&headers).map(str::to_owned)
        };
        assert_eq!(of(&[("authorization", "Bearer a")]).as_deref(), Some("a"));
        assert_eq!(of(&[("authorization", "bearer  a ")]).as_deref(), Some("a"));
        assert_eq!(of(&[("x-api-key", "b"), ("authorization", "Bearer a")]).as_deref(), Some("a"));
        assert_eq!(of(&[("authorization", "Basic x"), ("x-api-key", "b")]).as_deref(), Some("b"));
        assert_eq!(of(&[("x-goog-api-key", "c")]).as_deref(), Some("c"));
        for none in
            [&[][..], &[("authorization", "a")], &[("authorization", "Bearer ")], &[("x-api-key", "")]]
        {
            assert_eq!(of(none), None);
        }
    }
}
