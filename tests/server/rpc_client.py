"""PyPI tritonclient[grpc], as the tests of gRPC use it; without it they are skipped.

SPDX-License-Identifier: Apache-2.0
"""
import functools
import sys

import numpy

import serve_process

try:
    import grpc
    import tritonclient.grpc as triton
    from tritonclient.utils import InferenceServerException
except ImportError as error:
    print("skipped: no tritonclient[grpc] here:", error)
    sys.exit(77)

CODE = grpc.StatusCode
refused = functools.partial(serve_process.refused, InferenceServerException)


def target(server):
    return f"127.0.0.1:{server.grpc_port}"


def tensor(name, kind, data):
    made = triton.InferInput(name, list(data.shape), kind)
    made.set_data_from_numpy(data)
    return made


def ask(client, values, model="linear", **options):
    data = numpy.array(values, "f4")
    result = client.infer(model, [tensor("x", "FP32", data)], **options)
    assert numpy.array_equal(result.as_numpy("y"), data * 2), values
    return result
