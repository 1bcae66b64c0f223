# SPDX-License-Identifier: Apache-2.0
# With --quiet every command prints errors alone, and JSON where it is asked for; the exit status
# tells the rest.
says() { # ARGUMENT...
    kiln "$@" > out 2> err
    echo "$1: $? $(wc -c < out) $(wc -c < err)"
}
says run add.onnx -q
says bench add.onnx --duration 0.01 --warmup 0 -q
says build add.onnx -o add.saved -b onnxruntime --quiet
says inspect add.onnx -q
says check add.onnx -q
says doctor -q
says compare add.onnx -q
says compare divide.onnx -i zeros -q
says compare divide.onnx -i a=1 -i b=3 --rtol 0 --atol 0 -b onnxruntime,reference -q
kiln inspect add.onnx -q --json | head -c 1; echo
kiln run add.onnx -q -i nobody=1
