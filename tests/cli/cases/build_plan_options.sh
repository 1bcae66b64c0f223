# SPDX-License-Identifier: Apache-2.0
# The rarer options of `kiln build` over the stand-in for TensorRT: they reach it, and what a
# version lacks is refused by name.
set +e
export KILN_CUDA_DRIVER=$fake/cuda/libcuda.so.1
common="add.onnx -o add.plan -b tensorrt --verbosity detailed"
build() { # LAYOUT OPTION...
    local layout=$1
    shift
    echo "== $layout $*"
    # shellcheck disable=SC2086 # several words
    KILN_TENSORRT=$fake/tensorrt/$layout kiln build $common "$@" 2>&1 |
        grep -v "^kiln: \"kiln build" | sed "s/ in [0-9.]* s.*/ in TIME/; s:$PWD/::"
}
for layout in 10 11 rtx14 rtx15; do
    build $layout --workspace 16 --tactic-dram 64 --gpu-memory 1 --aux-streams 0 \
        --max-tactics 4 --avg-timing 2 --tiling 1 --l2-limit 64 --strict-nans --direct-io \
        --distributive-independence --no-timing-cache
done
build 11 --gpu-allocator library
build 11 --gpu-memory 0.001
build 11 --gpu-allocator library --gpu-memory 1
build 10 --dla-core 1 --gpu-fallback --dla-sram 1
build 10 --gpu-fallback
build rtx15 --dla-core 0
build rtx14 --no-compilation-cache
build 11 --need-timing-cache
build 11 --need-timing-cache --timing-cache empty.cache
build 11 --plugin no/such.so
build 11 --gpu-memory 1e13
build 11 --workspace much
build 11 --tiling 9
build 10 --version-compatible --exclude-lean-runtime --windows
