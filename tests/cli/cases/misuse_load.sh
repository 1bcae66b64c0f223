# SPDX-License-Identifier: Apache-2.0
set +e
for load in "--batches 1,x" "--batches 0" "--batches 2" "--contexts 1,2 -l" "--contexts 300" \
    "--streams 2" "--ahead 1" --stagger "--plot a.png" "--callers 2 --compare-raw"; do
    # shellcheck disable=SC2086
    kiln bench add.onnx --duration 60 $load && echo "not refused: $load"
    echo "$load: $?"
done
kiln run open.onnx -s Nx2x2 && echo "not refused"
on_tensorrt 10
kiln build open.onnx -b tensorrt -o load.plan -p tokens=1x3x4:2x3x4:4x3x4 > /dev/null
for load in "--contexts 5 --ahead 1" "--contexts 4 --streams 2 --ahead 1" \
    "--contexts 2 --streams 3" "--streams 200 --ahead 1" "--contexts 1,2 --streams 1,2"; do
    # shellcheck disable=SC2086
    kiln bench load.plan -s Nx3x4 --batches 2 --duration 60 $load && echo "not refused: $load"
done
kiln bench load.plan -s Nx3x4 --batches 2,4 --streams 1,2 --ahead 1 --duration 0 -n 50 --warmup 0 \
    --json > found.json
"$python" -c '
import json
points = json.load(open("found.json"))["points"]
got = [(p["batch"], p["contexts"], p["streams"], p["ahead"], p["callers"]) for p in points]
assert got == [(b, 2 * s, s, 1, 1) for b in (2, 4) for s in (1, 2)], got
assert all(p["inferences"] >= 50 for p in points), points
print("good")'
kiln bench load.plan -s Nx3x4 --batches 2 --streams 3 --stagger --duration 0 -n 50 --warmup 0 \
    --json | "$python" -c 'import json, sys; print(json.load(sys.stdin)["points"][0]["staggered"])'
rm -f load.plan load.plan.json found.json
