# SPDX-License-Identifier: Apache-2.0
# All that is wrong with a model is told, whatever would have run it.
many=$(for i in {0..29}; do echo " a$i = Add(x, no$i)"; done)
save_models bad '(float[2,3] x) => (float[2,4] y)
 <float[4] four={1,2,3,4}> { a = Add(x,four) b = Bogus(a) y = Concat(b,nowhere) }' \
    many "(float[2,3] x) => (float[2,3] y) { y = Neg(x)$many }"
ends run bad.onnx --backend reference
ends build bad.onnx -o bad.plan --backend reference
kiln run many.onnx --backend reference 2>&1 | tail -n 2
kiln run bad.onnx --backend onnxruntime 2>&1 | tail -n 3
ls *.plan
