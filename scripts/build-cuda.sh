#!/usr/bin/env bash
# Builds foreseed for NVIDIA GPUs, on a machine with or without one.
#
#   scripts/build-cuda.sh                          # release build with the features cuda and cudnn
#   CUDA_COMPUTE_CAP=90a scripts/build-cuda.sh     # for an H100; 80 (the default) runs on 8.0, 8.6 and 8.9
#   FEATURES=cuda scripts/build-cuda.sh --locked   # without cuDNN; what follows goes to cargo build
#
# Where a CUDA toolkit is installed (nvcc on the path, or CUDA_HOME says where), that one is used.
# Elsewhere NVIDIA's own wheels are fetched from PyPI into target/cuda-toolkit (2 GB), which needs
# python3 with venv, and gcc 12 or newer. The driver's library belongs to the driver: to link without
# one, a stand-in is made that answers every call with CUDA_ERROR_STUB_LIBRARY, as the toolkit's own does.
set -euo pipefail
cd "$(dirname "$0")/.."

export CUDA_COMPUTE_CAP="${CUDA_COMPUTE_CAP:-80}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target/cuda}"
toolkit="${CUDA_TOOLKIT:-$PWD/target/cuda-toolkit}"

# NVIDIA's wheels, at versions that candle's kernels were compiled with.
wheels=(
    nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88
    nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 nvidia-cuda-nvrtc==13.0.88
    nvidia-curand==10.4.0.35 'nvidia-cublas>=13.0,<13.1' nvidia-cudnn-cu13==9.21.1.3
)

fetch_toolkit() {
    python3 -m venv "$toolkit/python"
    "$toolkit/python/bin/pip" install --quiet "${wheels[@]}"
}

# One folder as an installed toolkit has it: bin, include, nvvm and lib with the names that -l asks for.
lay_out_toolkit() {
    local from part library
    from=$(echo "$toolkit"/python/lib/python3*/site-packages/nvidia)
    for part in bin nvvm include; do
        ln -sfn "$from/cu13/$part" "$toolkit/$part"
    done
    mkdir -p "$toolkit/lib/stubs"
    for library in "$from"/cu13/lib/lib*.so.* "$from"/cu13/lib/lib*.a "$from"/cudnn/lib/lib*.so.*; do
        ln -sfn "$library" "$toolkit/lib/"
        case "$library" in
        *.so.*) ln -sfn "$library" "$toolkit/lib/$(basename "${library%%.so.*}").so" ;;
        esac
    done
    ln -sfn lib "$toolkit/lib64"
}

# A libcuda.so.1 to link against, with every function that cuda.h declares.
make_driver_stub() {
    local stubs="$toolkit/lib/stubs"
    {
        echo '#include <cuda.h>' | cc -E -I "$toolkit/include" - |
            grep -oE '\bcu[A-Z][A-Za-z0-9_]* *\(' | tr -d ' (' | sort -u |
            while read -r name; do echo "int $name(void) { return 34; }"; done
    } >"$stubs/cuda.c"
    cc -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$stubs/libcuda.so" "$stubs/cuda.c"
    ln -sfn libcuda.so "$stubs/libcuda.so.1"
}

if [ -z "${CUDA_HOME:-}" ] && ! command -v nvcc >/dev/null; then
    [ -x "$toolkit/bin/nvcc" ] || { fetch_toolkit && lay_out_toolkit && make_driver_stub; }
    export CUDA_HOME="$toolkit"
    export RUSTFLAGS="${RUSTFLAGS:-} -C link-arg=-Wl,-rpath,$toolkit/lib"
fi
if [ -n "${CUDA_HOME:-}" ]; then
    export PATH="$CUDA_HOME/bin:$PATH"
fi
nvcc --version | tail -2

cargo build --release --features "${FEATURES:-cudnn}" "$@"

binary="$CARGO_TARGET_DIR/release/foreseed"
echo "built $binary, which asks for these of CUDA's libraries:"
readelf -d "$binary" | grep NEEDED | grep -E 'cuda|cublas|curand|nvrtc|cudnn'
