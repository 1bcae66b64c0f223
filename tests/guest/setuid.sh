#!/bin/bash
# A setuid program obeys no variable of who starts it, and opens no library that others can write.
#
#     tests/guest/setuid.sh GUEST_SETUID PLANTED
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
program=$1 planted=$2
if [[ $(id -u) != 0 ]]; then
    echo "skipped: only root can make a setuid program of another user"
    exit 77
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
chmod 755 "$scratch"
install -m 4755 -o 65534 -g 65534 "$program" "$scratch/program"
site=lib/python3.11/site-packages
for name in onnxruntime/capi/libonnxruntime.so tensorrt_libs/libnvinfer.so.10 \
    tensorrt_libs/libnvinfer.so.11 tensorrt_rtx_libs/libtensorrt_rtx.so.1; do
    for home in "$site" ".local/$site"; do
        mkdir -p "$scratch/plant/$home/$(dirname "$name")"
        cp "$planted" "$scratch/plant/$home/$name"
    done
done
cp "$planted" "$scratch/plant/libcuda.so.1"
plant=$scratch/plant
capi=$plant/$site/onnxruntime/capi trt=$plant/$site/tensorrt_libs
mkdir -m 777 "$scratch/marks"

# Whether the planted libraries were opened, when started with these variables.
started() {
    rm -f "$scratch/marks/"*
    env -i PLANTED_MARK="$scratch/marks/opened" "$@" > "$scratch/said" 2>&1 || true
    test -e "$scratch/marks/opened"
}

# As an ordinary program it does what it is told: the test would notice.
chmod 755 "$scratch/program"
for variable in VIRTUAL_ENV="$plant" CONDA_PREFIX="$plant" HOME="$plant" \
    KILN_ONNXRUNTIME="$capi" KILN_TENSORRT="$trt" KILN_CUDA_DRIVER="$plant"; do
    chmod 755 "$scratch/program"
    if ! started "$variable" "$scratch/program"; then
        echo "${variable%%=*} should lead an ordinary program to the library"
        cat "$scratch/said"
        exit 1
    fi
    chmod 4755 "$scratch/program"
    if started "$variable" KILN_BACKEND=none "$scratch/program"; then
        echo "${variable%%=*} led a setuid program to a library"
        exit 1
    fi
    if ! grep -q "^secure 1" "$scratch/said"; then
        echo "skipped: this file system does not let programs be setuid"
        exit 77
    fi
    grep -q "^chosen " "$scratch/said" # KILN_BACKEND is not heard either
done
echo "6 variables lead an ordinary program and no setuid one"
