# SPDX-License-Identifier: Apache-2.0
# Numbers that are not finite, and outputs whose shape the numbers decide.
"$python" - <<'PY'
import os
import numpy as np
from onnx import TensorProto, helper, numpy_helper, save
node, info = helper.make_node, helper.make_tensor_value_info
rows = np.sin(np.arange(64, dtype=np.float32)).reshape(4, 16)


def write(name, nodes, outputs, rows=4, **constants):
    graph = helper.make_graph(
        nodes, "g", [info("x", TensorProto.FLOAT, [rows, 16])],
        [info(output, TensorProto.FLOAT, shape) for output, shape in outputs.items()],
        [numpy_helper.from_array(np.float32(value), key) for key, value in constants.items()])
    save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), name)


# exp(12) is beyond float16; its difference with itself is NaN there.
write("overflow.onnx", [node("Mul", ["x", "c"], ["a"]), node("Exp", ["a"], ["e"]),
                        node("Sub", ["e", "e"], ["y"])], {"y": [4, 16]}, c=12)
w = np.cos(np.arange(256)).reshape(16, 16)
write("chosen.onnx", [node("MatMul", ["x", "w"], ["a"]), node("Greater", ["a", "c"], ["b"]),
                      node("NonZero", ["b"], ["i"]), node("Transpose", ["i"], ["t"], perm=[1, 0]),
                      node("GatherND", ["a", "t"], ["y"])], {"y": ["k"]}, w=w,
      c=np.sort((rows @ w).ravel())[45] - 1e-5)
write("product.onnx", [node("MatMul", ["x", "w"], ["y"])], {"y": [4, 16]}, w=w)
write("products.onnx", [node("MatMul", ["x", "w"], ["a"]), node("Relu", ["a"], ["b"]),
                        node("MatMul", ["b", "w"], ["y"])], {"y": [4, 16]}, w=w)
write("dynamic.onnx", [node("MatMul", ["x", "w"], ["y"])], {"y": ["n", 16]}, "n", w=w)
write("named.onnx", [node("MatMul", ["x", "w"], ["a"], name="first"),
                     node("MatMul", ["a", "w"], ["y"], name="second")], {"y": [4, 16]}, w=w)
save(helper.make_model(
    helper.make_graph([node("Dense", ["x", "w"], ["a"], domain="f", name="first"),
                       node("Dense", ["a", "w"], ["y"], domain="f", name="second")], "g",
                      [info("x", TensorProto.FLOAT, [4, 16])],
                      [info("y", TensorProto.FLOAT, [4, 16])],
                      [numpy_helper.from_array(np.float32(w), "w")]),
    ir_version=8, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("f", 1)],
    functions=[helper.make_function("f", "Dense", ["p", "q"], ["r"],
                                    [node("MatMul", ["p", "q"], ["s"]), node("Relu", ["s"], ["r"])],
                                    [helper.make_opsetid("", 17)])]), "functions.onnx")
os.mkdir("none")
np.save("none/0.npy", rows * np.float32("nan"))
for folder in ("usual", "strange"):
    os.mkdir(folder)
    np.save(f"{folder}/0.npy", rows)
    rows[1, 1] = np.nan
PY
only() {
    grep '^"' | sed 's/ [0-9.]* dB/ N dB/; s/difference 0[0-9.]* of [0-9.]*/difference N of N/'
}
export KILN_BACKEND=reference
kiln quantize overflow.onnx -o new.onnx -p fp16 --check usual | only
kiln quantize overflow.onnx -o new.onnx -p fp16 --check usual --target 40 | only
kiln quantize overflow.onnx -o new.onnx -p fp16 --check usual --report page.html | only
grep -c 'under -160.0 dB' page.html
kiln quantize chosen.onnx -o new.onnx -p int8 -c usual --target 0 | only
kiln quantize product.onnx -o new.onnx -p int8 -c strange --target 0 | only
kiln quantize products.onnx -o new.onnx -p int8 -c strange | only
kiln quantize products.onnx -o new.onnx -p int8 -c strange --target 30 | only
# A node is kept by its name, by an output's, and by a pattern.
for kept in first a second y 'fi*' '*' 'third*'; do
    kiln quantize named.onnx -o new.onnx -p fp16 --keep-node "$kept" --nodes | grep " MatMul "
done
# Functions are looked into, with the ranges of what lies between their nodes.
kiln quantize functions.onnx -o new.onnx -p int8 -c usual --nodes | grep " MatMul "
kiln calibrate functions.onnx -d usual -o ranges.json | cut -d' ' -f2-6
kiln quantize functions.onnx -o new.onnx -p int8 -r ranges.json --nodes | grep " MatMul "
# A recurrent layer counts as what it multiplies, and zeros alone are no range.
"$python" - << 'PY'
import numpy as np
from onnx import TensorProto, helper, numpy_helper, save
def constant(name, *shape):
    return numpy_helper.from_array(np.zeros(shape, np.float32), name)
node, info = helper.make_node, helper.make_tensor_value_info
graph = helper.make_graph(
    [node("GRU", ["x", "w", "r"], ["", "h"], hidden_size=8), node("MatMul", ["h", "v"], ["y"])],
    "g", [info("x", TensorProto.FLOAT, [4, 1, 16])], [info("y", TensorProto.FLOAT, [1, 1, 16])],
    [constant("w", 1, 24, 16), constant("r", 1, 24, 8), constant("v", 8, 16)])
save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]),
     "gru.onnx")
np.save("zeros.npy", np.zeros((4, 1, 16), np.float32))
PY
kiln quantize gru.onnx -o new.onnx -p int4 | grep arithmetic
kiln quantize gru.onnx -o new.onnx -p int8 -c zeros.npy
save_models conv '(float[1,8,4,4] x) => (float[1,1,4,4] y)
    <float[1,8,1,1] w = {1, 2, 3, 4, 5, 6, 7, 8}> { y = Conv(x, w) }'
kiln quantize conv.onnx -o new.onnx -p int4
# What was seen is no range, and half types are not quantized.
kiln quantize product.onnx -o new.onnx -p int8 -c none
kiln quantize product.onnx -o half.onnx -p fp16 --bindings | grep -c fp16
kiln quantize half.onnx -o new.onnx -p int4
# Where TensorRT is the best backend, which wants an optimization profile for each engine.
on_tensorrt 10
unset KILN_BACKEND
kiln quantize dynamic.onnx -o new.onnx -p int8 -c usual | only
