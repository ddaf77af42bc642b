# A static binary on a small base, running as nobody in particular.
#   docker build -t serin .
#   docker run -p 8080:8080 -v "$PWD/config/quickstart:/etc/serin:ro" serin
# The admin port is that of the container alone. To scrape it from outside, mount a token, too:
#   docker run … -p 15000:15000 -v "$PWD/token:/run/token:ro" -e SERIN_ADMIN_TOKEN_FILE=/run/token \
#     serin run /etc/serin --admin 0.0.0.0:15000 --admin-host localhost
# Mount the folder, not a single file: a file that is replaced on the host never changes inside a container.

FROM rust:1-alpine AS build
RUN apk add --no-cache build-base
WORKDIR /src
COPY . .
# Alpine's target is musl, which Rust links statically.
RUN cargo build --release --locked --bin serin

FROM alpine:3
RUN adduser -D -H -u 10001 serin
COPY --from=build /src/target/release/serin /usr/local/bin/serin
USER 10001
EXPOSE 8080 15000
HEALTHCHECK --interval=5s --timeout=2s CMD wget -q -O /dev/null http://127.0.0.1:15000/ready
STOPSIGNAL SIGTERM
ENTRYPOINT ["serin"]
CMD ["run", "/etc/serin"]
