# SPDX-License-Identifier: Apache-2.0
kiln run add.onnx -i x=1 -i y=0.5 -n 3
kiln run add.onnx -i zeros
