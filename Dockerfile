FROM rust:1.95-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends binutils ca-certificates libssl-dev pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
# Registry and target stay on the builder: the next build compiles what has changed. The linker folds equal functions and
# packs relocations, which is 3 MB of the image. libpq from source goes without Kerberos and LDAP and the twenty libraries of
# these, which are 9 MB.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo rustc --release --locked --bin fanfare --features bundled-libpq -- -C link-arg=-Wl,--icf=all,-z,pack-relative-relocs \
    && scripts/image-root target/release/fanfare /image

# Nothing but the program and what it is linked with: no shell, no package manager, nothing to bring up to date.
FROM scratch
COPY --from=build /image /
# What a layer keeps of an owner depends on the builder; the volume begins as a copy of this folder.
COPY --from=build --chown=10001:10001 /image/var/lib/fanfare /var/lib/fanfare
USER 10001:10001
# Where sqlite://fanfare.db is, unless DATABASE_URL says otherwise.
WORKDIR /var/lib/fanfare
VOLUME /var/lib/fanfare
# A container is reached from outside it or not at all; the service refuses to start so without an API_KEY.
ENV PATH=/usr/local/bin HTTP_HOST=0.0.0.0 LOG_FORMAT=json
EXPOSE 8083
STOPSIGNAL SIGTERM
# It asks the port that the service was told, in its environment or its file.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 CMD ["fanfare", "health"]
ENTRYPOINT ["fanfare"]
CMD ["serve"]
