# SPDX-License-Identifier: Apache-2.0
kiln run add.onnx -i x=1 -i y=1 -o good > /dev/null
kiln run add.onnx -i x=1 -i y=1 -c good | tail -4
echo "exit $?"
kiln run add.onnx -i x=1 -i y=1.001 -c good > report
echo "exit $?"
tail -4 report
kiln run add.onnx -i x=1 -i y=1.001 -c good --atol 0.0005 > report
echo "exit $?"
kiln run add.onnx -i x=1 -i y=1.001 -c good --atol 0.002 | tail -4
kiln run add.onnx -i x=1 -i y=1.001 -c good --rtol 1e-3 | tail -4
kiln run add.onnx -i x=1 -i y=1.001 -c good --rtol 1e-4 > /dev/null
echo "exit $?"
