# SPDX-License-Identifier: Apache-2.0
# Graphs are a promise of engines on a GPU: on the CPU a required one is refused.
kiln run add.onnx --provider cpu --graph off > out.txt && echo fine
kiln run add.onnx -b reference --graph required
echo "status $?"
kiln bench add.onnx --graph never
echo "status $?"
