//! OpenMetrics text turned into the older Prometheus text format 0.0.4.
//!
//! The formats differ in the name a counter's `TYPE` line carries, in exemplars, units and the end mark:
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>.

/// The same samples in text format 0.0.4.
pub(crate) fn prometheus(openmetrics: &str) -> String {
    let mut out = String::with_capacity(openmetrics.len());
    let mut help: Option<(&str, &str)> = None;
    for line in openmetrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "unknown"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            if let Some((_, text)) = help.take().filter(|(n, _)| *n == name) {
                push(&mut out, &["# HELP ", name, suffix, " ", text]);
            }
            push(&mut out, &["# TYPE ", name, suffix, " ", kind]);
        } else if !line.starts_with('#') {
            push(&mut out, &[without_exemplar(line)]);
        }
    }
    out
}

fn push(out: &mut String, parts: &[&str]) {
    for part in parts {
        out.push_str(part);
    }
    out.push('\n');
}

/// An exemplar follows the value as ` # {…}`; the same characters inside a label's quotes are not one.
fn without_exemplar(sample: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    for (i, byte) in sample.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'#' if !quoted => return sample[..i].trim_end(),
            _ => {}
        }
    }
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_keep_their_name_and_exemplars_go() {
        let open = "# HELP a_b Things.\n# TYPE a_b counter\na_b_total{x=\"q # {\\\"\"} 1\n\
                    # HELP h_seconds Time.\n# TYPE h_seconds histogram\n# UNIT h_seconds seconds\n\
                    h_seconds_bucket{le=\"0.1\"} 1 # {trace_id=\"ab\"} 0.05\n# EOF\n";
        assert_eq!(
            prometheus(open),
            "# HELP a_b_total Things.\n# TYPE a_b_total counter\na_b_total{x=\"q # {\\\"\"} 1\n\
             # HELP h_seconds Time.\n# TYPE h_seconds histogram\nh_seconds_bucket{le=\"0.1\"} 1\n"
        );
    }
}
