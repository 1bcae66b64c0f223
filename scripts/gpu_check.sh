#!/bin/bash
# Everything that only a GPU can show: the tests of tests/gpu, compute-sanitizer over them where it
# is installed, the soak and the pool's figures. Runs on a machine that has the build and no more.
#
#     scripts/gpu_check.sh BUILD [OUT]
#
# KILN_TENSORRT names the TensorRT that gpu_tensorrt* run over; without it they are skipped. No
# build of TensorRT comes to an end under compute-sanitizer, so it looks at plans built before.
#
# GPU_CHECK_MODEL names Magika's model (or another whose input "bytes" is 1x2048), which kiln bench
# then measures against bare ONNX Runtime.
#
# Writes OUT/gpu_check.json, one object a line of its list, and prints a table. Ends with 1 if
# something failed. Where there is no GPU the tests are reported as skipped.
#
# SPDX-License-Identifier: Apache-2.0
set -uo pipefail
build=${1:?BUILD}
out=${2:-$build/gpu_check}
limit=${GPU_CHECK_SECONDS:-120}
mkdir -p "$out"
KILN_TEST_SCRATCH=$(mktemp -d)
export KILN_TEST_SCRATCH
trap 'rm -rf "$KILN_TEST_SCRATCH"' EXIT
sanitizer=$(command -v compute-sanitizer ||
    find /usr/local/cuda* /opt/nvidia -name compute-sanitizer -type f 2> /dev/null | head -n 1)
rows=()
failed=0

step() { # NAME COMMAND...
    local name=$1 begin=$SECONDS state=passed status log
    shift
    log=$out/${name//[^a-z0-9_]/_}.log
    timeout "$limit" "$@" > "$log" 2>&1
    status=$?
    case $status in
        0) ;;
        77) state=skipped ;;
        124) state="timed out"; failed=1 ;;
        *) state=failed; failed=1 ;;
    esac
    local took=$((SECONDS - begin))
    printf '%-44s %-10s %4d s\n' "$name" "$state" "$took"
    [ "$state" = passed ] || tail -n 5 "$log" | cut -c 1-200 | sed 's/^/    /'
    rows+=("{\"step\": \"$name\", \"state\": \"$state\", \"status\": $status,\
 \"seconds\": $took}")
}

for test in "$build"/tests/gpu/gpu_*; do
    if [ ! -f "$test" ] || [ ! -x "$test" ]; then
        continue
    fi
    name=$(basename "$test")
    step "$name" "$test"
    if [ -n "$sanitizer" ] && [[ $name != gpu_tensorrt* ]]; then
        for tool in memcheck racecheck; do
            # Racecheck loses track of launches that several threads make while one captures, and
            # counts that as an error of its own.
            without=()
            [ "$name $tool" = "gpu_onnxruntime racecheck" ] && without=('threads_*')
            # Asking for more memory than there is, and calls in a capture, fail on purpose.
            step "$name $tool" "$sanitizer" --tool "$tool" --report-api-errors no \
                --error-exitcode 9 "$test" "${without[@]}"
        done
    fi
done
if [ -n "$sanitizer" ] && [ -n "${KILN_TENSORRT:-}" ]; then
    plans=$KILN_TEST_SCRATCH/plans
    mkdir "$plans"
    step "plans for the sanitizer" "$build/tests/gpu/gpu_tensorrt_layers" save "$plans"
    # Initcheck would report what the library's own kernels read past what they need.
    for tool in memcheck racecheck synccheck; do
        step "plans $tool" "$sanitizer" --tool "$tool" --report-api-errors no \
            --error-exitcode 9 "$build/tests/gpu/gpu_tensorrt_layers" load "$plans"
    done
fi
[ -n "$sanitizer" ] || echo "no compute-sanitizer here: memcheck and racecheck are left out"
gpu=()
[ -e /dev/nvidiactl ] && gpu=(cuda)
step "soak reference" "$build/bench/bench_soak" 1000000 1000 reference
step "soak onnxruntime${gpu:+ cuda}" "$build/bench/bench_soak" \
    "${GPU_CHECK_RUNS:-1000000}" 1000 onnxruntime "${gpu[@]}"
if [ -n "${KILN_TENSORRT:-}" ]; then
    step "soak tensorrt" "$build/bench/bench_soak" "${GPU_CHECK_RUNS:-1000000}" \
        "${GPU_CHECK_LOADS:-1000}" tensorrt
fi
step "pool" "$build/bench/bench_pool" 8
if [ -n "${GPU_CHECK_MODEL:-}" ]; then
    step "bench magika" "$build/bin/kiln" bench "$GPU_CHECK_MODEL" --backend onnxruntime \
        ${gpu:+--provider cuda} --shape bytes=1x2048 --compare-raw
    cat "$out"/bench_magika.log
fi
cat "$out"/pool.log
cat "$out"/soak*.log | grep '^{' || true
(
    IFS=,
    printf '{"gpu_check": [%s],\n "soak": [%s]}\n' "${rows[*]}" \
        "$(cat "$out"/soak*.log | grep '^{' | paste -s -d ,)"
) > "$out/gpu_check.json"
exit $failed
