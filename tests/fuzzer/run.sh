#!/usr/bin/env bash
# mcp-fuzzer against the real binary over both transports: no crash, no hang, and nothing malformed
# accepted. FUZZ_RUNS says how many calls of each tool and kind (default 30).
source "$(dirname "$0")/../clients/setup.sh"
here=$root/tests/fuzzer
runs=${FUZZ_RUNS:-30}
with_python fuzzer mcp-fuzzer==0.7.0 jsonschema
fuzzer=$(dirname "$python")/mcp-fuzzer
[ -x "$foreseed" ] || build
cd "$work"
# A call that works long is answered in part, well before the fuzzer loses its patience.
patience="--call-seconds 2"

fuzz() { # NAME ARGS...
    local name=$1 status=0
    shift
    "$fuzzer" "$@" --runs "$runs" --runs-per-type 5 --seed 1 --timeout 30 --fs-root "$work/fs" \
        --output-dir "$work/$name" --no-network >"$work/$name.txt" 2>&1 || status=$?
    # Its exit code says what it thinks of refusals as well; what matters is looked at below.
    if grep -q -i -E 'timed? ?out waiting|process (exited|crashed)|server (exited|crashed)' "$work/$name.txt"; then
        tail -50 "$work/$name.txt"
        echo "the fuzzer says that the server crashed or hung (exit code $status)"
        return 1
    fi
}

say "tools over stdio"
fuzz stdio-tools --mode tools --phase both --protocol stdio --endpoint \
    "$python $here/record.py stdio $work/stdio.log $foreseed serve --data $work/stdio-data $patience"
say "the protocol over stdio"
fuzz stdio-protocol --mode protocol --protocol-phase aggressive --protocol stdio --endpoint \
    "$python $here/record.py stdio $work/stdio.log $foreseed serve --data $work/stdio-data $patience"
# 139, 134: the server fell over; a fuzzer that kills it is no fault of its own.
if grep -E '"who": "end", "text": "(-?11|-?6|134|139|101)"' "$work/stdio.log"; then
    echo "the server crashed over stdio"
    exit 1
fi

# shellcheck disable=SC2086
start_server $patience
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$python" "$here/record.py" http "$work/http.log" "$port" "$url" &
between=$!
trap 'kill $between 2>/dev/null; tidy' EXIT
sleep 1
say "tools over HTTP"
fuzz http-tools --mode tools --phase both --protocol streamablehttp \
    --endpoint "http://127.0.0.1:$port/mcp"
say "the protocol over HTTP"
fuzz http-protocol --mode protocol --protocol-phase aggressive --protocol streamablehttp \
    --endpoint "http://127.0.0.1:$port/mcp"
kill -0 "$server" || { echo "the server is gone"; exit 1; }
"$python" - "$url" <<'HEALTH'
import sys, urllib.request
assert urllib.request.urlopen(sys.argv[1].replace("/mcp", "/health"), timeout=10).status == 200
HEALTH

say "what was accepted"
"$python" "$here/accepted.py" "$work/stdio.log" "$work/http.log"
