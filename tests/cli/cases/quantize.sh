# SPDX-License-Identifier: Apache-2.0
kiln quantize add.onnx -o half.onnx -p fp16 --nodes
kiln run half.onnx -b reference -i x=1 -i y=2 | tail -n 3
kiln quantize nodes.onnx -o half.onnx -p bf16 --keep-operator Softmax
kiln quantize add.onnx -o half.onnx -p fp16 --keep-node nothing
echo "status $?"
kiln quantize add.onnx -o half.onnx
echo "status $?"
kiln quantize text.onnx -o half.onnx -p fp16
kiln quantize add.onnx -o half.onnx -p fp16 --keep-operator Add
echo "status $?"
kiln build add.onnx -o half.onnx -b reference --precision fp16 | tail -n 3
"$python" "$models/../make_products.py" batches others
kiln quantize products.onnx -o small.onnx -p int8
kiln quantize products.onnx -o small.onnx -p int8 -c batches --check others --report page.html |
    sed 's/[0-9.]* dB/N dB/; s/difference [0-9.]* of [0-9.]*/difference N of N/'
grep -c '<td>MatMul</td>' page.html
# Of sums that are cut off is told where the processor does so, and where there are some.
here=$([ "$(uname -m)" != x86_64 ] || grep -q vnni /proc/cpuinfo || echo 1)
cuts() {
    kiln quantize products.onnx -o small.onnx -p int8 -c batches "$@" | grep -c "without VNNI"
}
[ "$(cuts)" = "${here:-0}" ] && echo told
cuts --reduce-range
kiln quantize products.onnx -o small.onnx -p fp8 -c batches --reduce-range
kiln quantize products.onnx -o small.onnx -p int8 -c batches --target 45 > /dev/null
echo "status $?"
kiln quantize products.onnx -o small.onnx -p int8 --rest fp16 -c batches --target 60 |
    sed -n '2,3p;5p'
kiln quantize products.onnx -o small.onnx -p int8 --rest fp16 -c batches --target 99 > /dev/null
echo "status $?"
kiln quantize products.onnx -o small.onnx -p bf16 -c batches --report page.html | sed -n '4p'
kiln quantize uneven.onnx -o small.onnx -p fp16 -c batches --report page.html |
    sed -n 's/ alone: .* dB//p'
kiln quantize uneven.onnx -o small.onnx -p int8 -c batches --target 49 |
    sed -n '4p; s/ alone: .* dB//p'
kiln quantize spread.onnx -o small.onnx -p int8 -c spread --report page.html --nodes |
    grep -c '/evened'
grep -c '<td>Flatten</td>' page.html
kiln quantize products.onnx -o small.onnx -p int4 --report page.html
kiln quantize products.onnx -o small.onnx -p int4 --block 16 --zero-points | head -n 2
kiln run small.onnx -b onnxruntime -i x=1 | tail -n 1 | grep -c '^output'
kiln quantize products.onnx -o small.onnx -p fp16 --zero-points
