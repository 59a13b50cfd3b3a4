# syntax=docker/dockerfile:1.7
# The engine, alone in its image. `docker compose up` builds it; by hand: docker build -t blend:0.1.0 .

FROM rust:1.95.0-slim-bookworm AS build
# The image's own toolchain, whatever rust-toolchain.toml would add to it (formatter and lints).
ENV RUSTUP_TOOLCHAIN=1.95.0 CARGO_TERM_COLOR=never
WORKDIR /src
COPY . .
# Dependencies and objects stay in the builder's cache between builds; the binary is taken out of it.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked --bin blend \
    && install -D target/release/blend /out/usr/local/bin/blend \
    && install -d -m 0750 /out/var/lib/blend

FROM debian:12.12-slim AS run
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="blend" \
      org.opencontainers.image.description="Sells stock once: an actor-based stream-processing engine for retail stock" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Certificate authorities, for servers that are reached over TLS. Nothing else is needed beside the C library.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build --chown=10001:10001 /out/var/lib/blend /var/lib/blend
COPY --from=build /out/usr/local/bin/blend /usr/local/bin/blend
USER 10001:10001
ENV BLEND_DATA_DIR=/var/lib/blend \
    BLEND_SERVER__LISTEN=0.0.0.0:8080 \
    BLEND_LOG__FORMAT=json
VOLUME /var/lib/blend
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --start-interval=1s --retries=3 \
    CMD ["blend", "healthcheck"]
ENTRYPOINT ["blend"]
CMD ["serve"]
