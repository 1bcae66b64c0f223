# SPDX-License-Identifier: Apache-2.0
"$python" "$models/../make_products.py" batches
ends() {
    kiln inspect small.onnx | grep put
}
kiln quantize products.onnx -o small.onnx -p int8 -c batches --target 0 --range b=0:4 \
    --range x=-1:1.5875 --stored x --scale y=0.05:3 |
    sed 's/[0-9.]* dB/N dB/; s/difference [0-9.]* of [0-9.]*/difference N of N/'
ends
kiln inspect small.onnx --json | "$python" -c '
import json, sys
told = json.load(sys.stdin)
ends = [told[end][0]["quantization"] for end in ("inputs", "outputs")]
print(ends[0]["dtype"], ends[1]["zero_points"])'
kiln build small.onnx -b reference -o kept.onnx > /dev/null
kiln inspect kept.onnx | grep put
kiln quantize products.onnx -o small.onnx --stored x=uint8 --range x=0:255 --stored y \
    --scale y=0.5
ends
kiln quantize products.onnx -o small.onnx -p fp16 --bindings --scale x=0.5
ends
kiln quantize products.onnx -o small.onnx --stored x
echo "status $?"
kiln quantize products.onnx -o small.onnx --scale x=0
echo "status $?"
kiln quantize products.onnx -o small.onnx --scale b=0.5
echo "status $?"
kiln quantize products.onnx -o small.onnx -p int8 --range x=3:1
echo "status $?"
