# SPDX-License-Identifier: Apache-2.0
kiln inspect add.onnx --json > add.json
kiln inspect open.onnx -j > open.json
kiln inspect names.onnx -j > names.json
kiln inspect text.onnx -j > text.json
"$python" -c '
import json
add, open_, names, text = (json.load(open(n + ".json")) for n in "add open names text".split())
assert add["model"] == "add.onnx" and add["backend"]["name"] == "onnxruntime", add
assert add["inputs"][1] == {"name": "y", "dtype": "float32", "shape": [2, 3],
                            "dim_names": [None, None]}, add
assert add["metadata"]["metadata.long"] == "word " * 100, add
assert open_["inputs"][0]["shape"] == [None, 3, None], open_
assert open_["inputs"][0]["dim_names"] == ["batch", None, None], open_
assert [o["name"] for o in names["outputs"]][6] == "esc\x1b[31m", names
assert text["outputs"][0]["dtype"] == "string", text
print("good")'
