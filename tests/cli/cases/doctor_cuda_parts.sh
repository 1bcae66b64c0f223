# SPDX-License-Identifier: Apache-2.0
# CUDA's libraries where pip puts them: one is missing, one was cut short. cuRAND and cuDNN have the
# same names for CUDA 13, so the machine may have them.
real=$(find "$deps/onnxruntime" -name 'libonnxruntime.so.*' | sort | head -n 1)
packages=venv/lib/python3.11/site-packages/nvidia
for file in cuda_runtime/libcudart.so.12 cufft/libcufft.so.11 cuda_nvrtc/libnvrtc.so.12; do
    mkdir -p "$packages/${file%/*}/lib"
    ln -s "$(realpath "$fake/cudapart/libcudart.so.12")" "$packages/${file%/*}/lib/${file#*/}"
done
mkdir -p "$packages/cublas/lib"
head -c 4096 "$fake/cudapart/libcudart.so.12" > "$packages/cublas/lib/libcublas.so.12"
VIRTUAL_ENV=$PWD/venv FAKE_ORT_REAL=$real KILN_ONNXRUNTIME=$fake/cudaort kiln doctor \
    | sed -n '/CUDA runtime 12/,/^Devices/p' \
    | grep -viE 'cuRAND|cuDNN' \
    | grep -E '^  [a-zA-Z]+ ?[a-zA-Z]* [0-9]+: |pip install'
