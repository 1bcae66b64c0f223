# SPDX-License-Identifier: Apache-2.0
# Quantized outputs are compared in steps of their quantization: float32 and float64 end on
# different sides of a half now and then. How many elements do depends on the processor.
save_models q '<ir_version: 10, opset_import: ["": 21]> g
(float[n] x) => (float[k,4] y, uint16[n] q)
<float s = {1e-6}, uint16 z = {7}, int64[2] shape = {-1, 4}> {
    t = Tanh(x) q = QuantizeLinear(t, s, z) d = DequantizeLinear(q, s, z) y = Reshape(d, shape)
}'
run() {
    ends compare q.onnx -s 100000 -i random:0:0.06 -b onnxruntime,reference "$@"
}
run | sed -nE 's/: [1-9][0-9]* of 100000 elements/: some of 100000 elements/p'
run | tail -n 2
run --steps 0 | tail -n 2
run --atol 0 | tail -n 2
run --atol 0 --rtol 0 --steps 1 | tail -n 2
run --json | "$python" -c '
import json, sys
text = sys.stdin.read()
for output in json.loads(text[:text.rindex("}") + 1])["outputs"]:
    print(output["name"], round(output["step"], 9), output["steps_allowed"], output["different"],
          round(output["largest_steps"], 1), output["stepped"] > 0)'
run --first-difference --steps 0 | grep "the first node"
run --steps many
