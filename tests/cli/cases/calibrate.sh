# SPDX-License-Identifier: Apache-2.0
# What NumPy writes, stored and deflated, is calibrated with, and both texts are written.
save_models m '(float[n,8] x, float[n,8] z) => (float[n,8] y) { r = Relu(x) y = Add(r, z) }' \
    one '(float[2,8] x) => (float[2,8] y) { y = Relu(x) }'
"$python" - <<'P'
import os
import numpy
os.makedirs("d"), os.makedirs("e"), os.makedirs("empty")
ramp = numpy.arange(-32, 32, dtype=numpy.float32).reshape(8, 8)
numpy.savez("d/b1.npz", x=ramp, z=2 * ramp, label=numpy.arange(8))
numpy.savez_compressed("d/b2.npz", z=ramp * 0, x=ramp / 4)
numpy.save("e/x.npy", ramp)
bad = ramp.copy()
bad[0, :3] = numpy.nan, numpy.inf, -numpy.inf
numpy.save("nan.npy", bad)
numpy.savez("wrong.npz", a=ramp, b=ramp)
P
run() { kiln calibrate "$@" -b reference | sed 's/in [0-9.]* s/in S s/'; }
run m.onnx -d d -o c.cache
cat c.cache
run m.onnx --data d --calib c.json --method minmax --batches 1 --tensor y --tensor r
cat c.json
run one.onnx -d e -o p.cache -m percentile --percentile 90 --header TRT-8601-EntropyCalibration2
cat p.cache
run one.onnx -d nan.npy -o n.cache -m mse --memory 1
run one.onnx -d empty -o n.cache
run one.onnx -d none -o n.cache
run m.onnx -d e -o n.cache
run m.onnx -d wrong.npz -o n.cache
run one.onnx -d e -o n.cache --tensor q
run one.onnx -o n.cache
run one.onnx -d e -o n.cache -m best
run one.onnx -d one.onnx -o n.cache
run one.onnx -d e -o n.cache --percentile 90
"$python" -c 'import numpy; numpy.save("rows.npy", numpy.zeros((0, 8), "f4"))'
save_models none '(float[n,8] x) => (float[n,8] y) { y = Relu(x) }'
run none.onnx -d rows.npy -o n.cache
