# SPDX-License-Identifier: Apache-2.0
# Small models after public bug reports of many projects: what the check says of each, and what the
# backends give.
"$python" - <<'P'
import onnx
from onnx import TensorProto, helper, parser, save
MODELS = {
    "pool": """(float[1,1,2,2] x) => (float[] y)
               { y = MaxPool <ceil_mode = 1, kernel_shape = [3, 3], strides = [2, 2]> (x) }""",
    "ellipsis": """(float x, float[3,4] b) => (float[] y)
                   { y = Einsum <equation = "...,...->..."> (x, b) }""",
    "ranks": """(float[1,3,4] x, float[2] b) => (float[3,2] y)
                { y = Einsum <equation = "...ik, ...j -> ij"> (x, b) }""",
    "label": '(float[2,3] x) => (float[2,3,1] y) { y = Einsum <equation = "ij->ijk"> (x) }',
    "scan": """(int64 n, float[2,3] x) => (float[2,3] last, float[?,2,3] all)
               { last, all = Loop (n, "", x) <body = body (int64 i, bool ci, float[2,3] a) =>
                 (bool co, float[2,3] ao, float[2,3] sc)
                 { co = Identity (ci) ao = Add (a, a) sc = Identity (ao) }> }""",
    "reduced": """(int64 n, float[2,3] x) => (float[2,3] y) <int64[1] ax = {0}>
                  { all = Loop (n, "") <body = body (int64 i, bool ci) => (bool co, float[2,3] sc)
                    { co = Identity (ci) sc = Identity (x) }>
                    y = ReduceSum <keepdims = 0> (all, ax) }""",
    "below": """(float[4] x) => (float[] y)
                <int64[1] s = {-6}, int64[1] e = {-9}, int64[1] a = {0}, int64[1] t = {-1}>
                { y = Slice (x, s, e, a, t) }""",
    "cubic": """(float[1,1,1,2] x) => (float[1,1,1,1] y) <int64[4] z = {1, 1, 1, 1}>
                { y = Resize <coordinate_transformation_mode = "pytorch_half_pixel",
                  mode = "cubic"> (x, "", "", z) }""",
    "fnuz": "(float[11] x) => (float[11] y) { q = Cast <to = 18> (x) y = Cast <to = 1> (q) }",
    "both": "(float[2] x, float[2] z) => (float[2] y, float[2] z) { y = Relu (x) }",
    "nodes": "(float[2,3] x) => (float[2,3] y) { [n] t = Relu (x) [n] y = Neg (t) }",
    "outputs": "(float[2,3] x) => (float[2,3] y, float[2,3] y) { y = Relu (x) }",
    "fed": "(float[2,3] x, float[3,2] w) => (float[2,2] y) <float[3,2] w = {1, 2, 3, 4, 5, 6}> "
           "{ y = MatMul (x, w) }",
    "axes": """(float[1,4] x) => (float[] y)
               <int64[1] s = {0}, int64[1] e = {2}, int64[2] a = {0, 1}>
               { y = Slice (x, s, e, a) }""",
    "rank": "(float[] x) => (float[] y) { y = Relu (x) }",
    "sparse": "(float[2,3] x) => (float[2,3] y) { y = Add (x, w) }",
    "question": "(float[h,3,w] x) => (float[h,3,w] y) { y = Relu (x) }",
}
for name, text in MODELS.items():
    opset = 21 if name == "fnuz" else 17
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> g ' + text)
    if name == "sparse":
        model.graph.sparse_initializer.append(helper.make_sparse_tensor(
            helper.make_tensor("w", TensorProto.FLOAT, [2], [3, -2]),
            helper.make_tensor("wi", TensorProto.INT64, [2], [1, 5]), [2, 3]))
    if name == "question":
        for value in (model.graph.input[0], model.graph.output[0]):
            for dim in (0, 2):
                value.type.tensor_type.shape.dim[dim].dim_param = "?"
    save(model, name + ".onnx")
model = parser.parse_model('<ir_version: 8, opset_import: ["": 17]> g (float[3] x) => (float[3] y) '
                           "{ y = Relu (x) }")
model.ir_version = 14
save(model, "version.onnx")
P
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n' > pointer.onnx
printf '<!DOCTYPE html><html><body>404</body></html>' > page.onnx

# The last line of each; a model without an answer says why.
for name in pool ellipsis ranks label scan reduced below cubic fnuz both nodes outputs fed axes \
    sparse version pointer page; do
    echo "== $name"
    case $name in
        scan | reduced) inputs=(-i n=0 -i x=1) ;;
        fed) inputs=(-i x=1 -i w=1) ;;
        cubic) inputs=(--seed 0) ;; # numbers that differ
        *) inputs=(-i 1) ;;
    esac
    for backend in onnxruntime reference; do
        kiln check $name.onnx -b $backend 2>&1 | tail -n 2 | head -n 1
        kiln run $name.onnx -b $backend "${inputs[@]}" 2> said | tail -n 1
        grep -v warning said | tail -n 1
    done
    kiln compare $name.onnx -b onnxruntime,reference "${inputs[@]}" 2> /dev/null | tail -n 1
done
echo "== unknown rank, and dimensions that have nothing to do with each other"
kiln inspect rank.onnx | grep input
kiln run rank.onnx
on_tensorrt 11
kiln run question.onnx -b tensorrt -s x=1x3x2 -i 1 | tail -n 1
