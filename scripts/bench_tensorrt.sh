#!/bin/bash
# TensorRT on a GPU: Kiln against direct calls, trtexec, NVIDIA's Python bindings, PyTorch and ONNX
# Runtime, each in turns on the same plan or model. Writes JSON files and table.md to the folder
# OUT.
#
#     scripts/bench_tensorrt.sh BUILD OUT [PART]...
#
# PART: models (exported and built into plans; what the others need), latency, first, throughput,
# schedule, build, peers, table. Without any, all. Where BENCH_SECONDS are short, latency, first,
# throughput and schedule measure for as long as is left, with fewer rounds; what would not end in
# time even so is left out, and said to be.
#
#   KILN_TENSORRT     the folder of TensorRT's libraries; the dynamic linker must find them too
#   BENCH_SECONDS     how long all of it may take; 600
#   BENCH_MODELS      "mlp magika resnet50 ..."; without it: mlp, magika, resnet50 and bert, float32
#                     and float16
#   BENCH_BATCHES     1,8,32
#   BENCH_FOLDER      where models, plans and timing caches are kept; /tmp/kiln_bench_tensorrt
#   BENCH_TRTEXEC     trtexec, for throughput and schedule
#   BENCH_SCHEDULE, BENCH_AT_ONCE   seconds, and requests outstanding, for schedule: 20, 64
#   BENCH_SWITCHES    of bench_schedule: --pinned --contexts=2,3,4
#   BENCH_LOAD        seconds of a turn of throughput; 1
#   BENCH_LOAD_BATCHES, BENCH_STREAMS, BENCH_WAYS, BENCH_TURNS   for throughput and schedule, where
#                     fewer do
#   BENCH_LOCK        a file, for peers that are prepared at the same time: bench/torch_peers.py
#   BENCH_MAGIKA      Magika's model; build/deps/models/magika/model.onnx
#   BENCH_PEERS       "eager compile ort_cuda ort_tensorrt", or some of them
#   BENCH_PYTHON      python3 with PyTorch, torchvision, transformers and onnx; the bindings of
#                     TensorRT's version for the part build
#
# SPDX-License-Identifier: Apache-2.0
set -uo pipefail
build=${1:?BUILD}
out=${2:?OUT}
shift 2
parts=${*:-models latency first throughput schedule build peers table}
root=$(cd "$(dirname "$0")/.." && pwd)
library=${KILN_TENSORRT:?the folder of TensorRT\'s libraries}
core=$(find -L "$library" -maxdepth 1 -name 'libnvinfer.so.1*' | sort | tail -n 1)
folder=${BENCH_FOLDER:-/tmp/kiln_bench_tensorrt}
limit=${BENCH_SECONDS:-600}
batches=${BENCH_BATCHES:-1,8,32}
python=${BENCH_PYTHON:-python3}
magika=${BENCH_MAGIKA:-$root/build/deps/models/magika/model.onnx}
models=${BENCH_MODELS:-mlp mlp_fp16 magika resnet50 resnet50_fp16 bert bert_fp16}
export LD_LIBRARY_PATH=$build/src:$library${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
mkdir -p "$out" "$folder"
SECONDS=0
failed=0

# The inputs of a model, N for the batch.
shapes() {
    case $1 in
        mlp*) echo x=Nx128 ;;
        magika) echo bytes=Nx2048 ;;
        resnet50*) echo x=Nx3x224x224 ;;
        bert*) echo ids=Nx128 mask=Nx128 ;;
    esac
}

# The same as a profile for every batch size, the middle one first in mind.
profile() {
    local smallest=${batches%%,*} largest=${batches##*,} opt shape text=
    local -a sizes
    IFS=, read -ra sizes <<< "$batches"
    usual=${sizes[${#sizes[@]} / 2]}
    for shape in $(shapes "$1"); do
        local dims=${shape#*=}
        text+="${text:+ }${shape%%=*}=${dims/N/$smallest}:${dims/N/$usual}:${dims/N/$largest}"
    done
    echo "$text"
}

has_time() { # LEAST WHAT [MOST]: whether so many seconds are left; `room` is how many, MOST at most
    room=$((limit - SECONDS))
    if [ $room -lt "$1" ]; then
        echo "left out for want of time: $2 takes $1 s at least" | tee -a "$out/left_out.txt"
        return 1
    fi
    [ $room -le "${3:-$1}" ] || room=${3:-$1}
}

make_model() {
    local name=$1 log=$out/$1.build.log
    if [ "$name" = magika ]; then
        cp "$magika" "$folder/magika.onnx"
    elif [ ! -s "$folder/$name.onnx" ]; then
        "$python" "$root/bench/export_models.py" "$folder" "$name" > "$out/$name.export.log" 2>&1
    fi
    [ -s "$folder/$name.plan" ] && return
    "$build/bin/kiln" build "$folder/$name.onnx" -o "$folder/$name.plan" -b tensorrt \
        --library "$core" --timing-cache "$folder/$name.timing" -p "$(profile "$name")" \
        > "$log" 2>&1
}

part_models() {
    local name
    for name in $models; do
        make_model "$name" &
    done
    wait
    for name in $models; do
        if [ -s "$folder/$name.plan" ]; then
            echo "$name: $(grep -h 'built with' "$out/$name.build.log" 2> /dev/null)"
        else
            echo "$name: no plan"
            tail -n 3 "$out/$name.export.log" "$out/$name.build.log" 2> /dev/null | cut -c 1-300
            failed=1
        fi
    done
}

smaller() { # A B
    awk "BEGIN { print $1 < $2 ? $1 : $2 }"
}

# Each model with a plan, by turns: PART LEAST [MOST], in seconds; the part is given NAME.
each() {
    local what=$1 least=$2 most=${3:-$2} name
    for name in $models; do
        if [ -s "$folder/$name.plan" ] && has_time "$least" "$what $name" "$most"; then
            "part_$what" "$name" || { echo "$what $name failed"; failed=1; }
        fi
    done
}

part_latency() {
    # shellcheck disable=SC2046 # several words
    timeout 60 "$build/bench/bench_gpu_plan" "$core" "$folder/$1.plan" \
        "$(smaller "${BENCH_LATENCY:-9}" $((room - 3)))" \
        "$batches" $(shapes "$1") > "$out/latency_$1.json" 2> "$out/latency_$1.log"
    local status=$?
    grep -h 'best direct' "$out/latency_$1.log" | sed "s/^/$1:/"
    return $status
}

part_first() {
    # shellcheck disable=SC2046
    timeout 60 "$build/bench/bench_gpu_first" "$core" "$folder/$1.plan" \
        "$(smaller "${BENCH_ROUNDS:-9}" $((room * 2 - 1)))" \
        "${batches%%,*}" $(shapes "$1") > "$out/first_$1.json" &&
        sed "s/^/$1: /" "$out/first_$1.json"
}

part_throughput() {
    # shellcheck disable=SC2046
    BENCH_ROOM=$room timeout 240 "$python" "$root/bench/gpu_throughput.py" "$build/bin/kiln" \
        "${BENCH_TRTEXEC:?where trtexec is}" "$folder/$1.plan" "${BENCH_LOAD:-1}" \
        "${BENCH_LOAD_BATCHES:-$batches}" \
        $(shapes "$1") > "$out/throughput_$1.json"
}

part_schedule() {
    local seconds
    seconds=$(smaller "${BENCH_SCHEDULE:-20}" $((room / 2)))
    # shellcheck disable=SC2046,SC2086
    BENCH_ROOM=$room timeout 240 "$python" "$root/bench/gpu_schedule.py" \
        ${BENCH_SWITCHES:---pinned --contexts=2,3,4} "$build/bench/bench_schedule" "$core" \
        "${BENCH_TRTEXEC:?where trtexec is}" "$folder/$1.plan" "$seconds" \
        "${BENCH_LOAD_BATCHES:-16,21,32}" "${BENCH_AT_ONCE:-64}" $(shapes "$1") \
        > "$out/schedule_$1.json" 2> "$out/schedule_$1.log" &&
        sed "s/^/$1: /" "$out/schedule_$1.json"
}

part_build() {
    # shellcheck disable=SC2046
    timeout 300 "$python" "$root/bench/gpu_build.py" "$build/bench/bench_gpu_build" "$core" \
        "${BENCH_BUILDS:-1}" "$folder/$1.onnx" 3 $(profile "$1") > "$out/build_$1.json" &&
        sed "s/^/$1: /" "$out/build_$1.json"
}

part_peers() {
    local batch status=0
    [ "$1" = magika ] && return 0
    for batch in ${batches//,/ }; do
        has_time 20 "peers $1 $batch" || continue
        # shellcheck disable=SC2086
        KILN_TENSORRT=$core timeout 200 "$python" "$root/bench/torch_peers.py" "$folder" "$1" \
            "$batch" "$build/bench/libbench_gpu_peer.so" ${BENCH_PEERS:-} \
            > "$out/peers_$1_$batch.json" || status=1
    done
    return $status
}

for part in $parts; do
    case $part in
        models) part_models ;;
        table) "$python" "$root/bench/tensorrt_table.py" "$out" > "$out/table.md" || failed=1 ;;
        latency) each latency 4 12 ;;
        first) each first 2 5 ;;
        throughput) each throughput 8 30 ;;
        schedule) each schedule 12 40 ;;
        build) each build 20 ;;
        peers) each peers 20 ;;
        *) echo "there is no part $part" >&2; exit 2 ;;
    esac
    echo "$part: done after $SECONDS s"
done
exit $failed
