"""onnx.reference, the peer of the reference executor, on the same models with one thread: the
fastest of three runs in processor time. reference_python.py MODEL...

SPDX-License-Identifier: Apache-2.0
"""

import os
import sys
import time

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import numpy  # noqa: E402
import onnx  # noqa: E402
import onnx.reference  # noqa: E402


def feeds_of(model):
    """Random numbers for each input that no initializer gives a value."""
    given = {tensor.name for tensor in model.graph.initializer}
    random = numpy.random.RandomState(1)
    feeds = {}
    for value in model.graph.input:
        if value.name not in given:
            kind = value.type.tensor_type
            shape = [dim.dim_value or 2 for dim in kind.shape.dim]
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
            feeds[value.name] = random.uniform(-1, 1, shape).astype(dtype)
    return feeds


for path in sys.argv[1:]:
    network = onnx.load(path)
    feeds = feeds_of(network)
    session = onnx.reference.ReferenceEvaluator(network)
    best = float("inf")
    for _ in range(3):
        begin = time.thread_time()
        session.run(None, feeds)
        best = min(best, time.thread_time() - begin)
    print(f"{os.path.basename(path):28} onnx.reference {best * 1e3:9.3f} ms")
