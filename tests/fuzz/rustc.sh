#!/usr/bin/env bash
# rustc as cargo is to call it: with coverage for the crate whose branches are to be explored. These
# are the flags that cargo-fuzz passes, and nothing of it is missing in a stable compiler.
set -euo pipefail
case " $* " in
    *" --crate-name foreseed "*)
        exec "$@" --cfg fuzzing -Cpasses=sancov-module \
            -Cllvm-args=-sanitizer-coverage-level=3 \
            -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
            -Cllvm-args=-sanitizer-coverage-pc-table \
            -Cllvm-args=-sanitizer-coverage-trace-compares
        ;;
esac
exec "$@"
