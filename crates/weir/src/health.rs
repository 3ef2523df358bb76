//! `weir health`: whether a service answers, for health checks of containers that hold no other program.

use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use http::Uri;

use crate::{child::http_status, cli::HealthArgs};

/// Succeeds when the URL answers 200.
pub(crate) async fn run(args: &HealthArgs) -> Result<ExitCode> {
    let (host, port) = place(&args.url)?;
    let mut addresses = tokio::net::lookup_host((host, port)).await?;
    let address = addresses.next().with_context(|| format!("{host} has no address"))?;
    let path = args.url.path_and_query().map_or("/", |path| path.as_str());
    let status = http_status(address, path).await.with_context(|| args.url.to_string())?;
    ensure!(status == 200, "{} answers {status}", args.url);
    Ok(ExitCode::SUCCESS)
}

fn place(url: &Uri) -> Result<(&str, u16)> {
    ensure!(url.scheme_str() == Some("http"), "{url} is not of the form http://host:port/path");
    let host = url.host().context("no host")?.trim_matches(['[', ']']);
    Ok((host, url.port_u16().unwrap_or(80)))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn answer(status: &'static str) -> Uri {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/ready", listener.local_addr().unwrap()).parse().unwrap();
        weir_runtime::Tasks::new().spawn("answer", weir_runtime::OnFailure::Log, async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await.unwrap();
            stream
                .write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes())
                .await
                .unwrap();
        });
        url
    }

    #[tokio::test]
    async fn only_200_is_healthy() {
        assert!(run(&HealthArgs { url: answer("200 OK").await }).await.is_ok());
        let error = run(&HealthArgs { url: answer("503 Service Unavailable").await }).await.unwrap_err();
        assert!(error.to_string().ends_with("/ready answers 503"), "{error}");
        assert!(run(&HealthArgs { url: "https://localhost/ready".parse().unwrap() }).await.is_err());
    }
}
