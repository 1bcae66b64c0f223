# SPDX-License-Identifier: Apache-2.0
try() {
    echo "- $*" >&2
    kiln run "$@"
    echo "exit $?" >&2
}
try add.onnx -i z=random
try gather.onnx -i idnex=0
try add.onnx -i x=1 -i x=2
try add.onnx -i 1 -i 2
try add.onnx -i x=random:1
try add.onnx -i x=random:2:1
try add.onnx -i x=random:a:b
try add.onnx -s x=2x
try add.onnx -s x=2x3x4
try add.onnx -s x=2x4
try add.onnx -s x=?x3
try open.onnx
try open.onnx -s 1x4x1
try large.onnx -i 0.5
try large.onnx -i 1e300
try text.onnx -i 1
try types.onnx -i in_uint8=256
try types.onnx -i in_bool=2
# A file that cannot be it is told before a shape is asked for.
echo text > some.raw
for file in absent.raw . some.raw; do
    try open.onnx -i "$file"
done
"$python" -c 'import numpy; numpy.savez("arrays.npz", x=numpy.zeros(3))'
mv arrays.npz arrays.zip
try open.onnx -i arrays.zip
