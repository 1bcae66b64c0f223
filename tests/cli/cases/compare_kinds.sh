# SPDX-License-Identifier: Apache-2.0
# What compare takes: a tensor that is input and output, float16 where sums cancel out, results that
# are not finite, and a model with a dynamic dimension on TensorRT.
save_models both '(float[2] x, float[2] z) => (float[2] y, float[2] z) { y = Relu(x) }' \
    norm '(float16[1,64,768] x, float16[768] s, float16[768] b) => (float16[1,64,768] y)
          { y = LayerNormalization <axis = -1> (x, s, b) }' \
    nans '(float[4] x) => (float[4] y, float[4] z) { y = Log(x) w = Sub(x, x) z = Div(x, w) }' \
    rows '(float[n,8] x) => (float[n,8] y) { y = Relu(x) }' \
    parts '(float[n,64] x, float[64,n] z) => (float[n,n] y)
           { a = Relu(x) b = Neg(z) p = MatMul(a, b) y = Relu(p) }'
pair="-b onnxruntime,reference"
# shellcheck disable=SC2086 # several words
{
    kiln compare both.onnx $pair | tail -n +3
    kiln run both.onnx -q && echo "run: $?"
    kiln compare norm.onnx $pair | tail -n 1
    kiln compare norm.onnx $pair --atol 0 -q || echo "one step of the type is not enough: $?"
    kiln compare nans.onnx $pair -i -2 | tail -n +3
    kiln compare nans.onnx $pair -i -2 --json | grep -c '"cosine":.null'
}

# On TensorRT a profile is made of the shapes.
on_tensorrt rtx15
kiln run rows.onnx -b tensorrt -s 3x8 | tail -n +4
kiln run rows.onnx -b tensorrt -s x=2x8 -q && echo "run: $?"
kiln compare rows.onnx -b tensorrt,reference -s 3x8 | tail -n 1
kiln run rows.onnx -b tensorrt -q || echo "run: $?"
# The parts of a first difference need none.
kiln compare parts.onnx -b tensorrt,reference -s x=3x64 -s z=64x3 --atol 0 --rtol 0 \
    --first-difference -i random:0:1 -i z=random:-1:0 | grep "first node"
