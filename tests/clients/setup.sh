# Sourced by the scripts that run other people's clients and suites against the binary: installs
# those by name, once, under target/clients, and starts servers for them.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
target=$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")
clients=$target/clients
foreseed=${FORESEED:-$target/release/foreseed}
work=$(mktemp -d)
# Nobody's own records are touched.
export FORESEED_DATA=$work/data
unset FORESEED_TOKEN
server=

say() { printf '\n-- %s (%d s)\n' "$*" "$SECONDS"; }

# Beside an example, so that the dependencies are built as the tests build them, and once.
build() {
    (cd "$root" && cargo build --release --locked --quiet --bin foreseed --example load "$@")
}

end_server() {
    [ -z "$server" ] && return
    kill "$server" 2>/dev/null || true
    wait "$server" || true
    server=
}

tidy() {
    end_server
    rm -rf "$work"
}
trap tidy EXIT

apt() {
    local as_root=
    [ "$(id -u)" = 0 ] || as_root=sudo
    $as_root apt-get update -qq
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

# What is needed of npm, by name: a Node 22, and what runs on it.
npm_packages="node@22
    @modelcontextprotocol/conformance@0.2.0-alpha.12
    @modelcontextprotocol/inspector@2.12.0
    @modelcontextprotocol/sdk@1.32.2
    @modelcontextprotocol/client@2.4.0"

with_node() {
    command -v npm >/dev/null || apt nodejs npm
    local packages=$npm_packages home=$clients/node
    mkdir -p "$home"
    if [ "$(cat "$home/installed" 2>/dev/null)" != "$packages" ]; then
        say "installing from npm:" $packages
        [ -e "$home/package.json" ] || echo '{"private": true, "type": "module"}' >"$home/package.json"
        # shellcheck disable=SC2086
        npm install --prefix "$home" --no-audit --no-fund --loglevel error $packages
        echo "$packages" >"$home/installed"
    fi
    export PATH="$home/node_modules/.bin:$PATH"
}

# The packages of PyPI with these names, in an environment called $1; sets $python.
with_python() {
    local home=$clients/py/$1
    shift
    python=$home/bin/python
    if [ "$(cat "$home/installed" 2>/dev/null)" != "$*" ]; then
        say "pip: $*"
        python3 -c 'import ensurepip, venv' 2>/dev/null || apt python3 python3-venv
        [ -x "$python" ] || python3 -m venv "$home"
        "$python" -m pip install --quiet --disable-pip-version-check "$@"
        echo "$*" >"$home/installed"
    fi
}

# Starts the server over HTTP on a free port with these options; sets $url and $server.
start_server() {
    local log data
    # Its own, for an older one still names the server before.
    log=$(mktemp -p "$work")
    data=$(mktemp -d -p "$work")
    "$foreseed" serve --http 127.0.0.1:0 --data "$data" "$@" 2>"$log" &
    server=$!
    for _ in $(seq 300); do
        url=$(sed -n 's/.*serving MCP at //p' "$log")
        [ -n "$url" ] && return
        sleep 0.1
    done
    cat "$log"
    echo "the server did not come up"
    return 1
}
