# SPDX-License-Identifier: Apache-2.0
# Who named a place where a library is not: the variable, or the option.
unset KILN_BACKEND
for variable in KILN_TENSORRT KILN_ONNXRUNTIME; do
    backend=$(tr '[:upper:]' '[:lower:]' <<< "${variable#KILN_}")
    (export "$variable=/no/such"; kiln run add.onnx -b "$backend") || echo "exit $?"
    kiln run add.onnx -b "$backend" --library /no/such || echo "exit $?"
done
export KILN_CUDA_DRIVER=/no/such KILN_TENSORRT=$fake/tensorrt/11
kiln run add.onnx -b tensorrt || echo "exit $?"
# Nobody named a backend: what was named and is not there is passed over aloud.
kiln run add.onnx > /dev/null || echo "exit $?"
unset KILN_CUDA_DRIVER
KILN_TENSORRT=/no/such kiln run add.onnx > /dev/null || echo "exit $?"
KILN_TENSORRT= KILN_ONNXRUNTIME=/no/such kiln run add.onnx > /dev/null || echo "exit $?"
# A driver that is there and fails is no machine without a GPU.
on_tensorrt 11
for result in 803 100; do
    FAKE_CUDA_INIT=$result kiln run add.onnx > /dev/null || echo "exit $?"
done
