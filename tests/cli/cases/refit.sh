# SPDX-License-Identifier: Apache-2.0
# New weights for an engine: what fails its check is not written.
set +e
"$python" - <<'P'
import json
import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

def save(name, values):
    w = numpy_helper.from_array(numpy.array(values, dtype=numpy.float32), "w")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    graph = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["y"])], "g", [x], [y], [w])
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), name)

def tensors(name, **given):
    header, data = {}, b""
    for key, value in given.items():
        kinds = {"float64": "F64", "float32": "F32", "float16": "F16"}
        header[key] = {"dtype": kinds[str(value.dtype)], "shape": list(value.shape),
                       "data_offsets": [len(data), len(data) + value.nbytes]}
        data += value.tobytes()
    text = json.dumps(header).encode()
    with open(name, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + data)

save("net.onnx", [1, 2])
save("other.onnx", [5, 6])
tensors("new.safetensors", w=numpy.array([3, 4], dtype=numpy.float16))
graph = onnx.load("net.onnx")
graph.graph.initializer[0].CopyFrom(numpy_helper.from_array(numpy.ones((2, 3), "f"), "w"))
graph.graph.node[0].op_type = "MatMul"
graph.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 3
onnx.save(graph, "wide.onnx")
for shape in ((3, 2), (2, 3), (6,), (2, 1, 3)):
    tensors("w" + "".join(map(str, shape)) + ".safetensors", w=numpy.ones(shape, dtype="float32"))
tensors("more.safetensors", w=numpy.array([0.1, 4]), v=numpy.array([1.0]))
tensors("lost.safetensors", w=numpy.array([numpy.nan, -numpy.inf], dtype="float32"))
import os
os.mkdir("sample")
numpy.save("sample/x.npy", numpy.array([10, 10], dtype=numpy.float32))
numpy.save("sample/y.npy", numpy.array([30, 41], dtype=numpy.float32))
P
for backend in onnxruntime reference; do
    kiln refit net.onnx new.safetensors -o out.onnx -b $backend --check sample
    echo "exit $?, $(ls out.onnx* 2> /dev/null | wc -l) files"
    kiln refit net.onnx new.safetensors -o out.onnx -b $backend --check sample --atol 1
    kiln run out.onnx -i x=sample/x.npy -o out > /dev/null
    "$python" -c 'import numpy; print(numpy.load("out/y.npy").tolist())'
    kiln refit out.onnx other.onnx -o out.onnx -b $backend
    kiln run out.onnx -i x=sample/x.npy -o out > /dev/null
    "$python" -c 'import numpy; print(numpy.load("out/y.npy").tolist())'
    rm -r out out.onnx*
done
kiln refit net.onnx more.safetensors -o out.onnx
kiln refit net.onnx more.safetensors -o out.onnx --ignore-unknown
kiln refit net.onnx more.safetensors -o out.onnx --ignore-unknown --allow-rounding
ends refit net.onnx new.safetensors
mkdir empty
cp sample/x.npy empty
kiln refit net.onnx new.safetensors -o out.onnx --check empty
kiln refit net.onnx new.safetensors -o out.onnx --check nowhere
# As many numbers in another shape are other weights.
for backend in onnxruntime reference; do
    for shape in 32 23 6 213; do
        kiln refit wide.onnx w$shape.safetensors -o out.onnx -b $backend
    done
done
# A training that came to nothing.
for backend in onnxruntime reference; do
    kiln refit net.onnx lost.safetensors -o out.onnx -b $backend
    kiln refit net.onnx lost.safetensors -o out.onnx -b $backend --allow-nonfinite
    kiln refit out.onnx lost.safetensors -o out.onnx -b $backend
done
