# SPDX-License-Identifier: Apache-2.0
# What `kiln build` refuses before it builds, and a build with a backend that needs no GPU.
set +e
kiln build add.onnx
echo "exit $?"
kiln build add.onnx -o out.onnx -p x=1:2
echo "exit $?"
kiln build add.onnx -o out.onnx -c eighty
echo "exit $?"
kiln build add.onnx -o out.onnx -b reference --workspace 16
echo "exit $?"
kiln build add.onnx -o out.onnx -b reference |
    sed 's/ in [0-9.]* s.*/ in TIME/; s/reference [0-9.]*/reference VERSION/'
cmp add.onnx out.onnx || ls -l out.onnx | wc -l
kiln build add.onnx -o out.onnx -b reference --tune
echo "exit $?"
kiln build add.onnx -o out.onnx --provider cuda --tune --time-limit 3
echo "exit $?"
kiln build add.onnx -o out.onnx --graph off
echo "exit $?"
kiln build add.onnx -o out.onnx -b reference --provider cuda
echo "exit $?"
