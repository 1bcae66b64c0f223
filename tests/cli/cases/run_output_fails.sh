# SPDX-License-Identifier: Apache-2.0
# Nothing appears where it cannot appear whole.
echo > file
kiln run add.onnx -o file > /dev/null
echo "exit $?"
kiln run add.onnx -o no/such/folder > /dev/null
echo "exit $?"
mkdir -p out/sum.npy
kiln run add.onnx -o out > /dev/null
echo "exit $?"
ls -A out out/sum.npy
kiln run add.onnx > /dev/full
echo "exit $?"
kiln --version > /dev/full
echo "exit $?"
