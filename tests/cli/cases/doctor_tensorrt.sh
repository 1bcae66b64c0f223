# SPDX-License-Identifier: Apache-2.0
# Which TensorRT is taken where several are installed, with a GPU and without; and with one named,
# that one alone. The stand-in, as pip would lay it out.
packages=$PWD/venv/lib/python3.11/site-packages
put() { # FOLDER FROM FILE AS
    mkdir -p "$packages/$1"
    cp "$fake/tensorrt/$2/$3" "$packages/$1/$4"
}
chosen() { # GPU|none
    echo "--- $1: $(ls "$packages" | paste -s -d ' ')"
    if [ "$1" = GPU ]; then export KILN_CUDA_DRIVER=$fake/cuda/libcuda.so.1
    else export KILN_CUDA_DRIVER=/nowhere/libcuda.so.1; fi
    VIRTUAL_ENV=$PWD/venv kiln doctor > out.txt
    grep '^[ *] tensorrt' out.txt
    grep -A1 "^  TensorRT.*: found" out.txt | grep -v '^--' | sed "s#$PWD#PWD#g; s#$fake#FAKE#g"
}
put tensorrt_lean_libs 11 libnvinfer.so.11 libnvinfer_lean.so.11
put tensorrt_rtx_libs rtx15 libtensorrt_rtx.so.1 libtensorrt_rtx.so.1
put tensorrt_cu12_libs 10 libnvinfer.so.10 libnvinfer.so.10
put tensorrt_libs 11 libnvinfer.so.11 libnvinfer.so.11
chosen GPU
chosen none
rm -r "$packages/tensorrt_libs"
chosen GPU
rm -r "$packages/tensorrt_cu12_libs"
chosen GPU
rm -r "$packages/tensorrt_rtx_libs"
chosen GPU
put tensorrt_rtx_libs rtx15 libtensorrt_rtx.so.1 libtensorrt_rtx.so.1
export KILN_TENSORRT=$fake/tensorrt/10
chosen GPU
export KILN_TENSORRT=rtx
chosen GPU
