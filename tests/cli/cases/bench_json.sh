# SPDX-License-Identifier: Apache-2.0
kiln bench open.onnx -s 2x3x4 --duration 0 --warmup 0 --iterations 200 --json > found.json
"$python" -c '
import json
found = json.load(open("found.json"))
assert found["inferences"] == 200 and found["warmup"]["inferences"] == 1, found
assert found["inputs"] == [{"name": "tokens", "dtype": "float32", "shape": [2, 3, 4]}], found
names = ["min", "median", "p90", "p95", "p99", "p99.9", "max"]
values = [found["latency_ms"][name] for name in names]
assert values == sorted(values) and values[0] > 0, found
assert values[0] <= found["latency_ms"]["mean"] <= values[-1], found
rate = found["inferences"] / found["seconds"]
assert abs(found["inferences_per_second"] - rate) < 1e-6 * rate, found
assert found["seconds"] * 1000 >= found["latency_ms"]["mean"] * 200, found
assert found["allocations"] == 0, found
print("good")'
