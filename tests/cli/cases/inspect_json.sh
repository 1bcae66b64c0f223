# SPDX-License-Identifier: Apache-2.0
kiln inspect add.onnx --json > add.json
kiln inspect open.onnx -j > open.json
kiln inspect names.onnx -j > names.json
kiln inspect text.onnx -j > text.json
kiln inspect add.onnx -j -b onnxruntime > built.json
"$python" -c '
import json
files = "add open names text built".split()
add, open_, names, text, built = (json.load(open(name + ".json")) for name in files)
assert add["model"] == "add.onnx" and "backend" not in add, add
assert built["backend"]["name"] == "onnxruntime" and built["inputs"] == add["inputs"], built
assert add["inputs"][1] == {"name": "y", "dtype": "float32", "shape": [2, 3],
                            "dim_names": [None, None]}, add
assert add["metadata"]["metadata.long"] == "word " * 100, add
assert open_["inputs"][0]["shape"] == [None, 3, None], open_
assert open_["inputs"][0]["dim_names"] == ["batch", None, None], open_
assert [o["name"] for o in names["outputs"]][6] == "esc\x1b[31m", names
assert text["outputs"][0]["dtype"] == "string", text
print("good")'
