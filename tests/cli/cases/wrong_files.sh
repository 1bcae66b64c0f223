# SPDX-License-Identifier: Apache-2.0
try() {
    echo "- $*" >&2
    kiln run add.onnx -i "$@"
    echo "exit $?" >&2
}
kiln run add.onnx -i 1 -o good > /dev/null
cp good/sum.npy x.npy
: > empty.npy
echo "not an array" > text.npy
head -c 140 x.npy > truncated.npy
cat x.npy x.npy > twice.npy
mkdir folder.npy folder.raw
head -c 23 x.npy > short.raw
: > empty.raw
for file in absent.npy empty.npy text.npy truncated.npy twice.npy folder.npy; do
    try x=$file
done
for file in absent.raw empty.raw short.raw folder.raw /dev/zero; do
    try x=$file
done
# Arrays under other names, in an archive, and words for an input of numbers.
cp x.npy array.raw
"$python" -c 'import numpy; numpy.savez("others.npz", y=numpy.load("x.npy"), z=numpy.zeros(2))'
cp others.npz arrays.zip
head -c 100 others.npz > truncated.npz
for file in array.raw arrays.zip others.npz truncated.npz absent.npz text:words; do
    try x=$file
done
kiln run large.onnx -i x=x.npy
echo "exit $?" >&2
kiln run divide.onnx -i a=x.npy
echo "exit $?" >&2
kiln run divide.onnx -i a=x.npy -s a=4
echo "exit $?" >&2
