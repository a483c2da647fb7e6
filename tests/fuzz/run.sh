#!/usr/bin/env bash
# Coverage-guided fuzzing of the readers of weights, configuration and handles:
#
#   tests/fuzz/run.sh [SECONDS]     a target; 20 where none are said
#
# FUZZ_SEED=N draws the same inputs each time, as far as the seconds go: so that what fails a change was not
# there before it. Without one every run looks elsewhere.
#
# It needs a stable toolchain and a C++ compiler. Inputs that were findings once (regressions/) come first.
# What it finds is kept in findings/ and fails it.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-20}

# The tree's own: its crates are there.
target=$(cd ../.. && cargo metadata --format-version 1 --no-deps --locked |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
export CARGO_TARGET_DIR="$target" RUSTC_WRAPPER="$PWD/rustc.sh"
cargo build --release --locked --quiet
echo "built after $SECONDS s"

# Links and inputs, thousands a second: in memory where there is a place for it.
work=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d)
trap 'rm -rf "$work"' EXIT
export TMPDIR="$work/scratch" HF_HOME="$work/hub"
mkdir -p "$TMPDIR" findings

# Prints the value behind a name in a log: the first or the last.
first() { sed -n "s|.*$1 *\([0-9]\+\).*|\1|p" "$log" | head -1; }
last() { sed -n "s|.*$1 *\([0-9]\+\).*|\1|p" "$log" | tail -1; }

failed=0
for target in weights configuration handles; do
    binary="$CARGO_TARGET_DIR/release/fuzz-$target"
    corpus="$work/$target"
    log="$work/$target.log"
    mkdir -p "$corpus/found"
    made=$(FUZZ_SEEDS="$corpus" "$binary")
    limits=(-timeout=10 -rss_limit_mb=1024 -seed="${FUZZ_SEED:-0}" -artifact_prefix="$PWD/findings/$target-")

    status=0
    old=(regressions/"$target"/*)
    if [ -e "${old[0]}" ]; then
        "$binary" "${limits[@]}" "${old[@]}" >"$log" 2>&1 || status=$?
    fi
    if [ "$status" = 0 ]; then
        "$binary" "${limits[@]}" -max_total_time="$seconds" -max_len=65536 -print_final_stats=1 \
            -dict="$corpus/words.dict" "$corpus/found" "$corpus/seeds" >"$log" 2>&1 || status=$?
        printf '%s: %s; %s executions, %s a second; coverage %s at the start and %s at the end\n' \
            "$target" "$made" "$(last stat::number_of_executed_units:)" \
            "$(last stat::average_exec_per_sec:)" "$(first 'INITED cov:')" "$(last ' cov:')"
    fi
    if [ "$status" != 0 ]; then
        failed=1
        tail -40 "$log" | cut -c -300
        input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -1)
        echo "$target: a finding. Again: $binary ${input:-${old[*]}}"
    fi
done
rmdir --ignore-fail-on-non-empty findings
exit "$failed"
