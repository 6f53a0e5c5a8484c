FROM rust:1.95-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends libpq-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
# Registry and target stay on the builder: the next build compiles what has changed.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin fanfare \
    && cp target/release/fanfare /fanfare

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libpq5 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/fanfare --create-home fanfare
COPY --from=build /fanfare /usr/local/bin/fanfare
USER fanfare
# Where sqlite://fanfare.db is, unless DATABASE_URL says otherwise.
WORKDIR /var/lib/fanfare
VOLUME /var/lib/fanfare
# A container is reached from outside it or not at all; the service refuses to start so without an API_KEY.
ENV HTTP_HOST=0.0.0.0 LOG_FORMAT=json
EXPOSE 8083
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["fanfare", "health", "--url", "http://127.0.0.1:8083/health"]
ENTRYPOINT ["fanfare"]
CMD ["serve"]
