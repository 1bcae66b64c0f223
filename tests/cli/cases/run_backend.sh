# SPDX-License-Identifier: Apache-2.0
KILN_BACKEND=onnxruntime kiln run add.onnx -i 1 | tail -1
KILN_BACKEND=nonsense kiln run add.onnx -i 1
echo "exit $?"
KILN_BACKEND=nonsense kiln run add.onnx -i 1 -b onnxruntime \
    -t 1 -O off --parallel-nodes 1 -d 0 | tail -1
ends run add.onnx -b mock
ends run add.onnx -b onnxruntime --library /no/such/library.so
ends run add.onnx -b auto --library /no/such/library.so
ends run add.onnx -b reference --library /no/such/library.so
ends run add.onnx -b onnxruntme
ends run add.onnx -b nonsense
ends run add.onnx -b onnxruntime -d 7
ends run add.onnx -b reference -d 7
