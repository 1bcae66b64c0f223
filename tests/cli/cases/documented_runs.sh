# SPDX-License-Identifier: Apache-2.0
# Each line `kiln ...` in a block of the documents works as it stands, on a model and data under the
# names that they use, in their order; output shown beneath it is what comes, but for numbers. What
# cannot run is listed with the reason.
"$python" - "$(dirname "$script")/../../.." <<'P'
import glob, os, re, sys
import numpy
from onnx import parser, save, numpy_helper

ELSEWHERE = {  # how a line begins, and why it is not run
    "kiln build model.onnx -o model.plan -b tensorrt": "needs a GPU",
    "kiln build rec.onnx -o rec.plan -b tensorrt": "needs a GPU",
    "kiln bench model.plan ": "needs a GPU",
    "kiln build ready.onnx -b tensorrt ": "needs a GPU",
    "kiln refit net.plan ": "needs a GPU",
    "kiln serve ": "goes on until it is stopped; tests/server runs it",
}
SHORTER = ("--duration 1", "--duration 0.02 --warmup 0.01")
top = sys.argv[1]
unused, found = set(ELSEWHERE), []
for path in [top + "/README.md", *sorted(glob.glob(top + "/docs/*.md"))]:
    text = open(path, encoding="utf-8").read()
    for kind, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.S | re.M):
        if kind not in ("", "sh") or re.search(r"^kiln \w+ MODEL ", block, re.M):
            continue  # the list of commands, compared with `kiln help` below
        lines = block.replace("\\\n", " ").splitlines()
        for at, line in enumerate(lines):
            if not re.match(r"(\$ )?kiln ", line):
                continue
            line = re.sub(r"^\$ ", "", line)
            begin = next((b for b in ELSEWHERE if line.startswith(b)), None)
            unused.discard(begin)
            if begin:
                continue
            shown = []
            for after in lines[at + 1:]:
                if re.match(r"(\$ )?\w+ .*\.onnx|(\$ )?kiln |#", after):
                    break
                shown.append(after)
            line = re.sub(r"\s{3,}[^#\s].*", "", line).replace(*SHORTER)
            ways = {line.replace("[", "").replace("]", ""): shown}
            if "[" in line:
                line = line.replace("MIB", "1")
                ways = {re.sub(r" \[.*\]", "", line): shown, re.sub(r"[][]", "", line): shown}
            found += [(os.path.basename(path), *way) for way in ways.items()]
assert not unused, f"no longer in the documents: {unused}"
assert len(found) >= 10, found
with open("lines", "w") as file:
    for number, (path, line, shown) in enumerate(found):
        print(path, number, line, sep="\t", file=file)
        with open(f"shown.{number}", "w") as beneath:
            beneath.writelines(text + "\n" for text in shown)

page = open(top + "/docs/cli.md", encoding="utf-8").read()
with open("commands", "w") as file:
    file.writelines(command + "\n" for command in re.findall(
        r"^kiln (\w+) ", re.search(r"^```\n(.*?)^```", page, re.S | re.M)[1], re.M))

random = numpy.random.default_rng(1)
weights = random.standard_normal((16, 8)).astype(numpy.float32)
for name, rows in ("open.onnx", "n"), ("fixed.onnx", "1"):
    model = parser.parse_model(f"""
<ir_version: 10, opset_import: ["": 21]> g (float[{rows},16] x) => (float[{rows},8] y) {{
    h = MatMul(x, w) y = Relu(h)
}}""")
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    save(model, name)
for folder in ("batches", "others"):
    os.mkdir(folder)
    for i in range(2):
        numpy.savez(f"{folder}/{i}.npz", x=random.standard_normal((4, 16)).astype(numpy.float32))
P
plain() { sed -E 's/[0-9][0-9.e+-]*/N/g; s/ +/ /g; s/ $//' "$1"; }
while IFS=$'\t' read -r path number line; do
    # Data comes in batches, and what is made up needs fixed shapes.
    case $line in *" compare "*) cp fixed.onnx model.onnx ;; *) cp open.onnx model.onnx ;; esac
    (eval "$line") > out 2> err < /dev/null || { echo "$path: $line: ended with $?"; cat out err; }
    [[ ! -s shown.$number ]] || diff <(plain "shown.$number") <(plain out) ||
        echo "$path: $line: shows something else"
done < lines
kiln help | sed -nE 's/^  ([a-z]+) .*/\1/p' | sort > known
sort commands | diff known - || echo "docs/cli.md: other commands than kiln help has"
echo "$(($(wc -l < lines) >= 10)): lines ran"
