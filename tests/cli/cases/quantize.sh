# SPDX-License-Identifier: Apache-2.0
kiln quantize add.onnx -o half.onnx -p fp16 --nodes
kiln run half.onnx -b reference -i x=1 -i y=2 | tail -n 3
kiln quantize nodes.onnx -o half.onnx -p bf16 --keep-operator Softmax
kiln quantize add.onnx -o half.onnx -p fp16 --keep-node nothing
echo "status $?"
kiln quantize add.onnx -o half.onnx
echo "status $?"
kiln quantize text.onnx -o half.onnx -p fp16
kiln quantize add.onnx -o half.onnx -p fp16 --keep-operator Add
echo "status $?"
kiln build add.onnx -o half.onnx -b reference --precision fp16 | tail -n 3
