//! Query strings: each parameter at most once, unknown ones refused by their name.

use std::str::FromStr as _;

use axum::extract::Query as Extracted;
use http::Uri;
use weir_error::Error;

pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// # Errors
    /// `InvalidArgument` when a parameter stands twice or none of `known` has its name.
    pub(crate) fn parse(uri: &Uri, known: &[&str]) -> Result<Self, Error> {
        let Extracted(pairs) = Extracted::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|_| Error::invalid("query", "the query string is malformed"))?;
        for (at, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                return Err(Error::invalid(name, "unknown parameter"));
            }
            if pairs.iter().take(at).any(|(other, _)| other == name) {
                return Err(Error::invalid(name, "given twice"));
            }
        }
        Ok(Self(pairs))
    }

    /// Empty when absent.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    /// Zero when absent.
    pub(crate) fn number(&self, name: &str) -> Result<u32, Error> {
        match self.text(name) {
            "" => Ok(0),
            text => text.parse().map_err(|_| Error::invalid(name, "must be a whole number, zero or more")),
        }
    }

    /// RFC 3339 or Unix seconds, as Unix milliseconds; zero when absent.
    pub(crate) fn time_ms(&self, name: &str) -> Result<i64, Error> {
        match self.text(name) {
            "" => Ok(0),
            text => parse_time(text)
                .ok_or_else(|| Error::invalid(name, "must be a time in RFC 3339 or in Unix seconds")),
        }
    }
}

fn parse_time(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<i64>() {
        return seconds.checked_mul(1_000).filter(|ms| *ms > 0);
    }
    // Its parser takes a bare date, too, which says too little about the zone.
    if !text.contains(['T', 't']) {
        return None;
    }
    // A plus sign in a query means a space, and everybody forgets to escape it.
    let time = prost_types::Timestamp::from_str(&text.replace(' ', "+")).ok()?;
    time.seconds.checked_mul(1_000)?.checked_add(i64::from(time.nanos) / 1_000_000).filter(|ms| *ms > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_forms() {
        assert_eq!(parse_time("1700000000"), Some(1_700_000_000_000));
        assert_eq!(parse_time("2023-11-14T22:13:20Z"), Some(1_700_000_000_000));
        assert_eq!(parse_time("2023-11-14T23:13:20.250+01:00"), Some(1_700_000_000_250));
        assert_eq!(parse_time("2023-11-14T23:13:20 01:00"), Some(1_700_000_000_000));
        for bad in
            ["x", "2023-11-14", "-5", "2023-13-14T00:00:00Z", "99999999999999999999", "9223372036854775807"]
        {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
    }

    #[test]
    fn parameters_are_known_and_single() {
        let parse = |query: &str| Query::parse(&format!("/x?{query}").parse().unwrap(), &["from", "limit"]);
        let param = |query: &str| parse(query).err().and_then(|e| e.param().map(str::to_owned));
        assert_eq!(param("from=1&form=2").as_deref(), Some("form"));
        assert_eq!(param("from=1&from=2").as_deref(), Some("from"));
        let query = parse("limit=20&from=").unwrap();
        assert_eq!((query.number("limit").unwrap(), query.time_ms("from").unwrap()), (20, 0));
        assert!(parse("limit=x").unwrap().number("limit").is_err());
        assert!(parse("from=yesterday").unwrap().time_ms("from").is_err());
        assert!(Query::parse(&"/x".parse().unwrap(), &[]).is_ok());
    }
}
