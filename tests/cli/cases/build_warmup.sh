# SPDX-License-Identifier: Apache-2.0
# A build with --warmup measures how bytes travel and writes it into the manifest; a program that
# loads the plan begins with it.
on_tensorrt 10
kiln build add.onnx -o plain.plan -b tensorrt > /dev/null
kiln build add.onnx -o warm.plan -b tensorrt --warmup > /dev/null
count() { grep -c '"graph_variants"' "$1" || true; }
echo "plain: $(count plain.plan.json), warm: $(count warm.plan.json)"
"$python" - <<'P'
import json
rows = json.load(open("warm.plan.json"))["graph_variants"]
modes = {"mapped", "copied", "outside", "gathered"}
names = sorted(set(rows[0]) - {"fence"})  # which is there where it was worth it
print(len(rows), names, {rows[0]["inputs"], rows[0]["outputs"]} <= modes)
# What stands there is what a run begins with.
rows[0]["inputs"], rows[0]["outputs"] = "outside", "copied"
text = json.load(open("warm.plan.json"))
text["graph_variants"] = rows
json.dump(text, open("warm.plan.json", "w"))
P
kiln run warm.plan --runs 3 -vv 2>&1 > /dev/null |
    grep -o 'inputs [a-z]*, outputs [a-z]*' | head -n 1
set +e
kiln build add.onnx -o cpu.onnx -b reference --warmup > /dev/null
echo "exit $?, $(ls cpu.onnx* 2> /dev/null | wc -l) files"
