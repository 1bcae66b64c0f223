# SPDX-License-Identifier: Apache-2.0
kiln bench open.onnx -s 2x3x4 --duration 0 --warmup 0 -n 201 --compare-raw --json > found.json
"$python" -c '
import json
found = json.load(open("found.json"))["compare_raw"]
assert found["pairs"] == 201, found
assert 0.2 < found["ratio"] < 20, found
for side in ("kiln_ms", "raw_ms"):
    values = [found[side][name] for name in ("min", "median", "p90", "p99", "max")]
    assert values == sorted(values) and values[0] > 0, found
spread = found["kiln_ms"]["max"] + found["raw_ms"]["max"]
assert abs(found["difference_ms"]) < spread, found
print("good")'
kiln bench add.onnx --duration 0.05 --warmup 5 -i 1 --compare-raw | tail -n 5
kiln bench add.onnx --duration 0 -i 3 --compare-raw -b reference | tail -n 3 | grep -c '^reference '
