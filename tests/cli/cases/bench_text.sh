# SPDX-License-Identifier: Apache-2.0
kiln bench add.onnx --duration 0.1 --warmup 5 -i 1
