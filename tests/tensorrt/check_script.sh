#!/bin/bash
# Runs all of scripts/tensorrt_check.sh: with the real TensorRT-RTX up to the plans, which need no
# GPU, and with the stand-in on a played GPU to the end, a played trtexec beside it.
#
#     check_script.sh SOURCE KILN FAKES DEPS
#
# SPDX-License-Identifier: Apache-2.0
set -uo pipefail
script=$1/scripts/tensorrt_check.sh
kiln=$2
fakes=$3
export KILN_DEPS_DIR=$4
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 1
failed=0

# expect STATUS NAME PATTERN... : the last command's output, kept in NAME, has lines like these.
expect() {
    local status=$? wanted=$1 name=$2 pattern
    shift 2
    cat "$name"
    [ $status = "$wanted" ] || { echo "*** $name: status $status, $wanted was expected"; failed=1; }
    for pattern in "$@"; do
        grep -qE -- "$pattern" "$name" || { echo "*** $name: no line like $pattern"; failed=1; }
    done
}

number='[0-9]+\.[0-9]+'
rtx=$KILN_DEPS_DIR/tensorrt/rtx-1.7.1.116/tensorrt_rtx_libs
if [ ! -d "$rtx" ]; then
    echo "skipped: $rtx is not there; scripts/install_deps.sh tensorrt installs it"
    exit 77
fi
bash "$script" -k "$kiln" -l "$rtx" --no-gpu -o plans > real 2>&1
expect 0 real 'TensorRT 10, TensorRT 11 and TensorRT-RTX' 'nothing is run here' \
    '^magika +[0-9]+ s +[0-9]{4} KiB' '^cls ' '^det ' '^rec ' '^resnet50 ' '^0 failed'
for model in magika cls det rec resnet50; do
    head -c 4 plans/$model.plan | grep -q vtrt || { echo "*** $model.plan is no plan"; failed=1; }
done

"$KILN_DEPS_DIR/python/bin/python3" - << 'PY'
from onnx import parser, save
HEAD = '<ir_version: 8, opset_import: ["": 17]> g '
save(parser.parse_model(HEAD + "(float[n,8] x) => (float[n,8] y) { y = Relu(x) }"), "relu.onnx")
save(parser.parse_model(HEAD + """(float[1,1,4,4] x) => (float[1,2,2,2] y)
  <float[2,1,3,3] w = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9}, float[2] b = {1,2}>
  { y = Conv(x, w, b) }"""), "conv.onnx")
save(parser.parse_model(HEAD + "(float[4] x) => (float[4] y) { y = Bogus(x) }"), "bad.onnx")
PY
printf '%s\n' 'relu|relu.onnx|x=1x8:4x8:8x8|x=4x8|random' 'conv|conv.onnx|||random' > good
printf '%s\n' 'conv|conv.onnx|||random' 'bad|bad.onnx|||random' 'none|none.onnx|||random' > mixed
mkdir bin
cat > bin/trtexec << 'SH'
#!/bin/sh
[ -s "${1#--loadEngine=}" ] || exit 1
echo "[I] Latency: min = 0.001 ms, max = 2 ms, mean = 0.5 ms, median = 0.002 ms, percentile = 1 ms"
SH
chmod +x bin/trtexec
export KILN_CUDA_DRIVER=$fakes/cuda/libcuda.so.1 KILN_CHECK_SECONDS=0.1
for layout in 10 11 rtx14 rtx15; do
    bash "$script" -k "$kiln" -l "$fakes/tensorrt/$layout" -m good > "played_$layout" 2>&1
    expect 0 "played_$layout" 'builds for and runs on a GPU of compute' \
        "^relu +[0-9]+ s +[0-9]+ KiB +yes +$number +- +-\$" "^conv .* yes +$number +- " '^0 failed'
    [ "$(grep -c . "played_$layout")" -lt 12 ] || { echo "*** too many lines"; failed=1; }
done
PATH=$PWD/bin:$PATH bash "$script" -k "$kiln" -l "$fakes/tensorrt/10" -m good > trtexec 2>&1
expect 0 trtexec "^relu .* yes +$number +0\.002 +[+-]$number%" '^0 failed'
bash "$script" -k "$kiln" -l "$fakes/tensorrt/10" -m mixed > mixed_out 2>&1
expect 1 mixed_out "^conv .* yes +$number" \
    '^bad +not built: kiln: .*Bogus.*fake_parser' '^none +not built: .*none.onnx' \
    '^2 failed'
bash "$script" -k "$kiln" -l /nowhere -m good > absent 2>&1
expect 1 absent '^relu +not built: .*/nowhere' '^2 failed'
bash "$script" -k /nowhere/kiln > no_kiln 2>&1
expect 2 no_kiln 'make build'
KILN_DEPS_DIR=/nowhere bash "$script" -k "$kiln" > no_models 2>&1
expect 2 no_models 'make demo fetches the models'
exit $failed
