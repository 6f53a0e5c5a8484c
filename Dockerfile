FROM rust:1.95-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends binutils ca-certificates libssl-dev pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
# The registry and the target folder stay on the builder, so that the next build compiles only changes. The linker folds
# equal functions and packs relocations, which saves 3 MB. libpq from source needs neither Kerberos nor LDAP nor their
# twenty libraries, which saves 9 MB.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo rustc --release --locked --bin fanfare --features bundled-libpq -- -C link-arg=-Wl,--icf=all,-z,pack-relative-relocs \
    && scripts/image-root target/release/fanfare /image

# Only the program and its libraries: no shell, no package manager, and no other packages to update.
FROM scratch
COPY --from=build /image /
# With an explicit owner, since not all builders keep it in a layer. The volume starts as a copy of this folder.
COPY --from=build --chown=10001:10001 /image/var/lib/fanfare /var/lib/fanfare
USER 10001:10001
# The folder of the default database, sqlite://fanfare.db.
WORKDIR /var/lib/fanfare
VOLUME /var/lib/fanfare
# A container must listen on all addresses to be reachable. The service then refuses to start without an API_KEY.
ENV PATH=/usr/local/bin HTTP_HOST=0.0.0.0 LOG_FORMAT=json
EXPOSE 8083
STOPSIGNAL SIGTERM
# Uses the port of the service's configuration, from the environment or the file.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 CMD ["fanfare", "health"]
ENTRYPOINT ["fanfare"]
CMD ["serve"]
