#!/usr/bin/env bash
# The public conformance suite on the real binary, over HTTP, for both revisions of the protocol:
# all required scenarios with the fixtures that they call (the cargo feature `conformance`), and
# the plain product against the lists of what it does not serve.
source "$(dirname "$0")/../clients/setup.sh"
with_node
out=$clients/conformance
rm -rf "$out"
mkdir -p "$out"
cd "$root"

suite() { # NAME REVISION ARGS...
    local name=$1 revision=$2
    shift 2
    start_server
    if ! conformance server --url "$url" --requirements "$revision" -o "$out/$name-$revision" "$@" \
        >"$out/$name-$revision.txt" 2>&1; then
        cat "$out/$name-$revision.txt"
        echo "conformance: $name does not conform to $revision"
        return 1
    fi
    end_server
    local but=
    [ $# = 0 ] || but=" but the $(grep -c '^  - ' "$2") that $2 names with the reason"
    echo "$name, $revision: all required scenarios pass$but"
}

say "the product without fixtures"
build
for revision in 2025-11-25 2026-07-28; do
    suite product "$revision" --expected-failures "tests/conformance/product-$revision.yml"
done

say "with the fixtures"
build --features conformance
cp "$foreseed" "$out/foreseed"
# A binary with fixtures is left nowhere that it could be taken for the product.
build
foreseed=$out/foreseed
for revision in 2025-11-25 2026-07-28; do
    suite fixtures "$revision"
done
