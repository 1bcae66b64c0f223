# SPDX-License-Identifier: Apache-2.0
# An initializer that is an input too can be fed, with TensorRT where an option names it.
text='(float[n,4] x, float[4] w) => (float[n,4] y) <float[4] w = {1, 2, 3, 4}> { y = Add(x, w) }'
save_models feed "$text" constant "<ir_version: 3, opset_import: [\"\": 17]> g $text"
export KILN_CUDA_DRIVER=$fake/cuda/libcuda.so.1
for kind in 10 11 rtx15; do
    export KILN_TENSORRT=$fake/tensorrt/$kind
    echo "== $kind"
    kiln run feed.onnx -b tensorrt -s x=2x4 -i x=1 | tail -n 2
    kiln run feed.onnx -b tensorrt -s x=2x4 -i x=1 -i w=10 | tail -n 3
    kiln compare feed.onnx -b tensorrt,reference -s x=2x4 -i w=10 | tail -n 1
done
kiln inspect feed.onnx -b tensorrt -s x=2x4 -s w=4 | tail -n 3
kiln build feed.onnx -b tensorrt -o feed.plan -p 'x=1x4:2x4:8x4 w=4:4:4' > build.log
kiln inspect feed.plan | head -n 8
echo "== the others"
kiln run feed.onnx -b onnxruntime -s x=2x4 -i x=1 2>&1 | grep warning
kiln compare feed.onnx -b onnxruntime,reference -s x=2x4 -i x=1 -i w=10 -q && echo "the same"
kiln run feed.onnx -b reference -s x=2x4 -i x=1 -i w=10 | tail -n 1
kiln run constant.onnx -b reference -s x=2x4 -i w=10
kiln run constant.onnx -b tensorrt -s x=2x4 -i w=10
echo "== check"
kiln check feed.onnx -b tensorrt
kiln check feed.onnx -b reference
kiln check constant.onnx -b tensorrt
