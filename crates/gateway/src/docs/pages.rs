//! Pages in HTML. Everything on them is our own text; none of a request's gets here.

use std::fmt::Write as _;

use weir_error::{Code, Retry};

pub(super) const DOCS: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Weir: API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="docs"></div>
<noscript>This page needs scripts; <a href="/openapi.json">openapi.json</a> has all that it shows.</noscript>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/initializer.js"></script>
</body>
</html>
"#;

pub(super) fn errors() -> String {
    let mut rows = String::new();
    for &code in Code::ALL {
        let (name, status) = (code.as_str(), code.http().as_u16());
        let meaning = escaped(code.explanation().meaning);
        let _ = writeln!(
            rows,
            r#"<tr><td><a href="/errors/{name}"><code>{name}</code></a></td><td>{status}</td><td>{meaning}</td></tr>"#
        );
    }
    let body = format!(
        "<h1>Error codes</h1>\n<p>Errors carry a <code>code</code> that stays what it is. See the \
         <a href=\"/docs\">API</a>.</p>\n\
         <table>\n<tr><th>Code</th><th>Status</th><th>Meaning</th></tr>\n{rows}</table>"
    );
    page("Error codes", &body)
}

pub(super) fn error(code: Code) -> String {
    let explained = code.explanation();
    let retry = match explained.retry {
        Retry::No => "No: change the request first.",
        Retry::Later => "Yes, later: after Retry-After where the answer has it, else with growing pauses.",
        Retry::Unsure => "Perhaps: it may have had an effect already.",
    };
    let body = format!(
        "<h1><code>{}</code></h1>\n<p>{} (HTTP {}, gRPC {:?})</p>\n<dl>\n<dt>What it means</dt><dd>{}</dd>\n\
         <dt>What to do</dt><dd>{}</dd>\n<dt>Is it worth trying again?</dt><dd>{retry}</dd>\n</dl>\n\
         <p><a href=\"/errors\">All error codes</a></p>",
        code.as_str(),
        escaped(code.title()),
        code.http().as_u16(),
        code.grpc(),
        escaped(explained.meaning),
        escaped(explained.remedy),
    );
    page(code.title(), &body)
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>Weir: {}</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n<link rel=\"stylesheet\" href=\"/docs/page.css\">\n</head>\n\
         <body>\n{body}\n</body>\n</html>\n",
        escaped(title)
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
