# SPDX-License-Identifier: Apache-2.0
kiln run names.onnx -i in/put=1=7 -o out | cut -c 1-30
ls -A out
kiln run names.onnx -i in/put=1=7 -c out | tail -8 | cut -c 1-30
