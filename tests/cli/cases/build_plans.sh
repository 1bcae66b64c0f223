# SPDX-License-Identifier: Apache-2.0
# What `kiln build` refuses before it builds, and a build with a backend that needs no GPU.
set +e
ends build add.onnx
ends build add.onnx -o out.onnx -p x=1:2
ends build add.onnx -o out.onnx -c eighty
ends build add.onnx -o out.onnx -b reference --workspace 16
kiln build add.onnx -o out.onnx -b reference |
    sed 's/ in [0-9.]* s.*/ in TIME/; s/reference [0-9.]*/reference VERSION/'
cmp add.onnx out.onnx || ls -l out.onnx | wc -l
ends build add.onnx -o out.onnx -b reference --tune
ends build add.onnx -o out.onnx --provider cuda --tune --time-limit 3
ends build add.onnx -o out.onnx --graph off
ends build add.onnx -o out.onnx -b reference --provider cuda
