# SPDX-License-Identifier: Apache-2.0
kiln bench open.onnx -s Nx3x4 --batches 1,2,5 --contexts 1,3 --duration 0 --warmup 0 -n 40 \
    --plot load.svg --json > found.json
"$python" -c '
import json
import xml.etree.ElementTree as tree
points = json.load(open("found.json"))["points"]
got = [(p["batch"], p["contexts"], p["streams"], p["ahead"], p["callers"]) for p in points]
assert got == [(b, c, 0, 0, c) for b in (1, 2, 5) for c in (1, 3)], got
for point in points:
    assert point["inferences"] >= 40, point
    rate = point["inferences"] / point["seconds"]
    assert abs(point["inferences_per_second"] - rate) < 1e-6 * rate, point
    assert abs(point["items_per_second"] - rate * point["batch"]) < 1e-5 * rate, point
    values = [point["latency_ms"][name] for name in ("min", "median", "p90", "p99", "max")]
    assert values == sorted(values) and values[0] > 0, point
    # Each context has one inference at a time.
    busy = point["latency_ms"]["mean"] * point["inferences"] / 1e3
    assert busy <= point["seconds"] * point["contexts"] * 1.0001, point
svg = tree.parse("load.svg").getroot()
space = "{http://www.w3.org/2000/svg}"
assert len(svg.findall(f".//{space}path")) == 6 and len(svg.findall(f".//{space}circle")) == 12
names = [text.text for text in svg.findall(f".//{space}text")]
assert [name for name in names if name.startswith("batch")] and "open.onnx" in names, names
for item in svg.iter():
    for key in ("cx", "cy", "x", "y"):
        assert 0 <= float(item.get(key, "0")) <= 860, (item.tag, item.attrib)
print("good")'
kiln bench add.onnx --contexts 2 --callers 1 --duration 0 -n 20 --warmup 0 --plot 'a<b>.html' |
    head -n 4
grep -c '<svg' 'a<b>.html'
grep -c '<tr><td>1<td>2<td>0<td>1<td>' 'a<b>.html'
# A build for TensorRT has room for each of them, in whatever order.
fake=$(dirname "$(dirname "$kiln_program")")/tests/fake
KILN_CUDA_DRIVER=$fake/cuda/libcuda.so.1 KILN_TENSORRT=$fake/tensorrt/10 kiln bench open.onnx \
    -s Nx3x4 --batches 8,1,2 -b tensorrt --no-cache --duration 0 -n 5 --warmup 0 | tail -n 3
rm -f found.json load.svg 'a<b>.html'
