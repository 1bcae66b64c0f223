# SPDX-License-Identifier: Apache-2.0
# Real models give the same through Kiln as through ONNX Runtime's own Python package, bit for bit
# on one thread: files are what both read and write.
cat > oracle.py <<'P'
import sys
import numpy, onnxruntime
model, folder, *inputs = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
feeds = {name: numpy.load(path) for name, path in (i.split("=") for i in inputs)}
for output, value in zip(session.get_outputs(), session.run(None, feeds)):
    numpy.save(f"{folder}/{output.name}.npy", value)
P
"$python" -c '
import numpy
random = numpy.random.default_rng(1)
numpy.save("bytes.npy", random.integers(0, 256, (2, 2048), dtype="i4"))
numpy.save("input.npy", random.standard_normal((1, 512), dtype="f4"))
numpy.save("state.npy", random.standard_normal((2, 1, 128), dtype="f4"))
numpy.save("sr.npy", numpy.array(16000))'
mkdir magika silero
"$python" oracle.py "$deps/models/magika/model.onnx" magika bytes=bytes.npy
"$python" oracle.py "$deps/models/silero-vad/silero_vad.onnx" silero input=input.npy \
    state=state.npy sr=sr.npy
kiln run "$deps/models/magika/model.onnx" -t 1 -i bytes=bytes.npy -c magika | tail -1
kiln run "$deps/models/silero-vad/silero_vad.onnx" -t 1 -i input=input.npy -i state=state.npy \
    -i sr=sr.npy -c silero | tail -2
