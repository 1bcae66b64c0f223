# SPDX-License-Identifier: Apache-2.0
# Strings in and out, by NumPy's files and by words, on two backends.
"$python" - <<'PY'
import numpy
numpy.save("words.npy", numpy.array(["gr\u00fcn, \U0001f600", ""]))
numpy.save("bytes.npy", numpy.array([b"\xff\x01", b"two"]))
numpy.save("swapped.npy", numpy.array(["a", "bc"]).astype(">U2"))
numpy.save("objects.npy", numpy.array(["a", 1], object))
PY
for backend in onnxruntime reference; do
    for data in words.npy bytes.npy swapped.npy text:hello "text:" random; do
        kiln run text.onnx -b "$backend" -i "words=$data" -o out | tail -2
        "$python" -c 'import numpy; print(numpy.load("out/same.npy"))'
    done
done
kiln run text.onnx -i words.npy -o out > report && kiln run text.onnx -i words.npy -c out | tail -3
kiln run text.onnx -i swapped.npy -c out | tail -3
echo "exit $?"
for data in objects.npy 1 zeros words.txt; do
    kiln run text.onnx -i words=$data
    echo "exit $?" >&2
done
kiln compare text.onnx -b onnxruntime,reference | tail -3
ends check text.onnx -b tensorrt
kiln check text.onnx -b onnxruntime
kiln inspect text.onnx | grep -e words -e same
