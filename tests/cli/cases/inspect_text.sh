# SPDX-License-Identifier: Apache-2.0
kiln inspect add.onnx
kiln inspect open.onnx
kiln inspect types.onnx | head -18
kiln inspect open.onnx -b onnxruntime
