# One image for every service: `weir serve SERVICE…`, `weir migrate`, `weir simulator`. Nothing is downloaded while it is
# built but these two images and the crates of Cargo.lock.
#
#   docker build --tag weir .
#   docker run weir serve --help

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
ARG WEIR_GIT_SHA
# Symbols stay for backtraces, line tables don't.
ENV CARGO_PROFILE_DIST_STRIP=debuginfo
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,id=weir-target-$TARGETARCH \
    cargo build --locked --profile dist --package weir --bin weir && \
    install -D target/dist/weir /image/usr/bin/weir && \
    mkdir -p /image/var/lib/weir/spool /image/var/lib/weir/keys && \
    for service in gateway realtime router orchestrator analytics billing ingestion control; do \
    mkdir /image/var/lib/weir/keys/$service; done

# glibc, libgcc, CA certificates and a user; no shell. Of the same Debian as above: weir needs its glibc.
FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="weir" \
      org.opencontainers.image.description="One address for many tenants and many language models" \
      org.opencontainers.image.licenses="Apache-2.0"
# Volumes begin with what is here, owner included.
COPY --from=build --chown=65532:65532 /image/var/ /var/
COPY --from=build /image/usr/ /usr/
USER 65532:65532
WORKDIR /var/lib/weir
EXPOSE 8000 8001 8002 8003 8004 8005 8006 8007 9100
# The gateway's; the others' ports are said where they are started.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["/usr/bin/weir", "health", "--url", "http://127.0.0.1:8000/ready"]
ENTRYPOINT ["/usr/bin/weir"]
CMD ["--help"]
