#!/usr/bin/env bash
# Clients that other people wrote, against the real binary: over stdio and HTTP, in both eras.
source "$(dirname "$0")/setup.sh"
here=$root/tests/clients
with_node
cd "$root"
[ -x "$foreseed" ] || build
start_server

# Takes a command and gives it a place of its own to keep its records in.
stdio() { "$@" "$foreseed" serve --data "$(mktemp -d -p "$work")"; }

say "Inspector"
for era in legacy modern; do
    inspect() { mcp-inspector --cli "$@" --protocol-era "$era" --method tools/list --strict; }
    inspect "$foreseed" serve >"$work/stdio.json"
    inspect "$url" --transport http >"$work/http.json"
    cmp "$work/stdio.json" "$work/http.json"
    echo "--strict is clean over stdio and HTTP, $era, with $(grep -c '"inputSchema"' "$work/http.json") tools"
done

say "Python SDK"
with_python sdk mcp==2.3.0
for era in legacy 2026-07-28; do
    "$python" "$here/python_sdk.py" "$era" "$url"
    stdio "$python" "$here/python_sdk.py" "$era"
done

say "fastmcp"
with_python fastmcp fastmcp==4.1.2
for era in legacy 2026-07-28; do
    "$python" "$here/fastmcp_session.py" "$era" "$url"
    stdio "$python" "$here/fastmcp_session.py" "$era"
done

say "TypeScript SDK"
# Modules are looked for beside the script that imports them.
cp "$here"/*.mjs "$clients/node/"
for session in typescript_v1 typescript_v2; do
    for era in legacy 2026-07-28; do
        [ "$session $era" = "typescript_v1 2026-07-28" ] && continue
        node "$clients/node/$session.mjs" "$era" "$url"
        stdio node "$clients/node/$session.mjs" "$era"
    done
done
