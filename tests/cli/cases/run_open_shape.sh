# SPDX-License-Identifier: Apache-2.0
kiln run open.onnx -s tokens=2x3x4 | tail -3
kiln run open.onnx -s 1,3,0 | tail -3
