# SPDX-License-Identifier: Apache-2.0
# What the layers of a plan compute in, where a kernel is lacking, with the stand-ins for TensorRT
# and CUDA.
export KILN_BACKEND=tensorrt
on_tensorrt 11
kiln build add.onnx -o add.plan --precision fp16 --strict | sed -n '/compute/,$p'
export KILN_FAKE_TENSORRT_WIDE=sum
kiln build add.onnx -o add.plan --precision fp16 2>&1 | sed "s|$PWD/||" |
    sed -n '/kernel/p;/compute in/,$p'
kiln build add.onnx -o add.plan --precision fp16 --strict 2>&1 | sed "s|$PWD/||"
echo "exit ${PIPESTATUS[0]}"
