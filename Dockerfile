# docker build -t foreseed . && docker run --rm -i -v foreseed:/data foreseed
# An agent's client runs the second line and speaks MCP over its stdin and stdout.

FROM rust:1-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src ./src
COPY prompts ./prompts
COPY models/pocket ./models/pocket
# Examples and tests are named in no manifest: the binary builds without them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin foreseed \
    && install -s target/release/foreseed /usr/local/bin/foreseed

# The binary needs the C library and nothing else; the certificates are for `foreseed models pull`.
FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 foreseed \
    && install -d -o foreseed -g foreseed /data
COPY --from=build /usr/local/bin/foreseed /usr/local/bin/foreseed
USER foreseed
ENV FORESEED_DATA=/data
VOLUME /data
# The name under which server.json lists this image.
LABEL io.modelcontextprotocol.server.name="io.github.foreseed/foreseed"
ENTRYPOINT ["foreseed"]
CMD ["serve"]
