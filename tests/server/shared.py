#!/usr/bin/env python3
"""System shared memory: PyPI tritonclient's own utilities, by HTTP and gRPC, and what is refused.

    tests/server/shared.py KILN

SPDX-License-Identifier: Apache-2.0
"""
import functools
import os
import sys

import numpy

import serve_process
from serve_process import Server, identities, linear, scratch_for

try:
    import tritonclient.grpc as by_grpc
    import tritonclient.http as by_http
    import tritonclient.utils.shared_memory as shared
    from tritonclient.utils import InferenceServerException, serialize_byte_tensor
except (ImportError, RuntimeError) as error:
    print("skipped: no tritonclient[all] here:", error)
    sys.exit(77)

KILN = os.path.abspath(sys.argv[1])
KEY = f"/kiln_test_{os.getpid()}"
ROOM = 1 << 20
BOOL = [("BOOL", "BOOL", "?")]


refused = functools.partial(serve_process.refused, InferenceServerException)


def wish_in(client, offset, size, region="r", name="y"):
    made = client.InferRequestedOutput(name)
    made.set_shared_memory(region, size, offset)
    return made


def input_in(client, shape, offset, size, name="x", kind="FP32", region="r"):
    made = client.InferInput(name, shape, kind)
    made.set_shared_memory(region, size, offset)
    return made


def test_strings(client, opened, memory):
    """Each has its length before it there, too; a shorter region is refused, and not overrun."""
    words = numpy.array([b"a, b", b"", "gr\u00fcn".encode(), b"\xff\0"], object)
    size = sum(4 + len(word) for word in words)
    opened.register_system_shared_memory("r", KEY, ROOM)
    shared.set_shared_memory_region(memory, [serialize_byte_tensor(words)])
    given = input_in(client, [4], 0, size, "in_BYTES", "BYTES")
    opened.infer("words", [given], outputs=[wish_in(client, 1000, 500, name="out_BYTES")])
    found = shared.get_contents_as_numpy(memory, numpy.object_, [4], 1000)
    assert found.tolist() == words.tolist(), found
    assert opened.infer("words", [given]).as_numpy("out_BYTES").tolist() == words.tolist()
    short = wish_in(client, 1000, size - 1, name="out_BYTES")
    refused(f"takes {size} bytes", lambda: opened.infer("words", [given], outputs=[short]))
    less = input_in(client, [4], 0, size - 1, "in_BYTES", "BYTES")
    refused("end in string 3", lambda: opened.infer("words", [less]))
    opened.unregister_system_shared_memory("r")


def test_requests(client, opened, memory):
    opened.register_system_shared_memory("r", KEY, ROOM)
    status = opened.get_system_shared_memory_status()
    regions = list(status.regions.values()) if client is by_grpc else status
    found = [(entry.name, entry.key, entry.byte_size) if client is by_grpc else
             (entry["name"], entry["key"], entry["byte_size"]) for entry in regions]
    assert found == [("r", KEY, ROOM)], found
    for rows in (1, 1000, 20000):  # the output stands where the input did, and behind it
        data = numpy.arange(rows * 4, dtype="<f4").reshape(rows, 4)
        for place in (0, 400016):
            shared.set_shared_memory_region(memory, [data])
            result = opened.infer("linear", [input_in(client, [rows, 4], 0, data.nbytes)],
                                  outputs=[wish_in(client, place, ROOM - place)])
            about = result.get_output("y")
            assert list(about.shape if client is by_grpc else about["shape"]) == [rows, 4], about
            assert client is by_grpc or "parameters" not in about, about  # as Triton has it
            written = shared.get_contents_as_numpy(memory, numpy.float32, [rows, 4], place)
            assert numpy.array_equal(written, data * 2), (rows, place)
    # One side alone; both forms in one request.
    data = numpy.array([[1, 2, 3, 4]], "<f4")
    shared.set_shared_memory_region(memory, [data])
    assert numpy.array_equal(opened.infer("linear", [input_in(client, [1, 4], 0, 16)]).as_numpy(
        "y"), data * 2)
    plain = client.InferInput("x", [1, 4], "FP32")
    plain.set_data_from_numpy(data + 1)
    opened.infer("linear", [plain], outputs=[wish_in(client, 64, 16)])
    assert numpy.array_equal(shared.get_contents_as_numpy(memory, numpy.float32, [1, 4], 64),
                             (data + 1) * 2)


def test_refused(client, opened, memory):
    def ask(*arguments, **options):
        return lambda: opened.infer("linear", [input_in(client, *arguments, **options)])

    def wish(offset, size, **options):
        return lambda: opened.infer("linear", [input_in(client, [1, 4], 0, 16)],
                                    outputs=[wish_in(client, offset, size, **options)])
    refused("no shared memory region", ask([1, 4], 0, 16, region="s"))
    refused("are not in the shared memory region", ask([1, 4], ROOM, 16))
    refused("are not in the shared memory region", ask([10 ** 9, 4], 0, 16 * 10 ** 9))
    refused("its type and shape take 16", ask([1, 4], 0, 12))
    refused("no shared memory region", wish(0, 16, region="s"))
    refused("are not in the shared memory region", wish(ROOM - 8, 16))
    refused("takes 16 bytes", wish(0, 8))
    for key, words in (("/../x", "no key"), ("", "key"), ("/a/b", "no key"), ("/.", "no key"),
                       (KEY + "x", "cannot be opened")):
        refused(words, lambda: opened.register_system_shared_memory("s", key, 16))
    refused("has 1048576 bytes", lambda: opened.register_system_shared_memory("s", KEY, ROOM, 16))
    refused("registered already", lambda: opened.register_system_shared_memory("r", KEY, 16))
    shared.set_shared_memory_region(memory, [numpy.array([7], "u1")])
    refused("neither 0 nor 1", lambda: opened.infer("bools", [
        input_in(client, [1], 0, 1, "in_BOOL", "BOOL")]))
    # Of a GPU there is no region: Triton's clients begin and end with these.
    about = opened.get_cuda_shared_memory_status()
    assert len(about.regions if client is by_grpc else about) == 0, about
    opened.unregister_cuda_shared_memory()
    opened.unregister_cuda_shared_memory("r")
    refused("no region", lambda: opened.get_cuda_shared_memory_status("r"))
    refused("GPU is not shared", lambda: opened.register_cuda_shared_memory("s", b"AAAA", 0, 16))
    refused("no trace", opened.get_trace_settings)
    refused("log settings", opened.get_log_settings)

    # A client that cuts its memory short harms nobody.
    os.truncate("/dev/shm" + KEY, 8)
    refused("cut short", ask([1, 4], 0, 16))
    os.truncate("/dev/shm" + KEY, ROOM)
    ask([1, 4], 0, 16)()
    opened.unregister_system_shared_memory("r")
    refused("no shared memory region", ask([1, 4], 0, 16))
    opened.register_system_shared_memory("r", KEY, 1024, 512)
    ask([1, 4], 1008 - 512, 16)()
    opened.unregister_system_shared_memory()
    refused("no shared memory region", ask([1, 4], 0, 16))


def main():
    with scratch_for(KILN) as folder:
        linear(os.path.join(folder, "linear.onnx"), 2.0)
        identities(os.path.join(folder, "bools.onnx"), ["n"], BOOL)
        identities(os.path.join(folder, "words.onnx"), ["n"], [("BYTES", "STRING", "O")])
        memory = shared.create_shared_memory_region("r", KEY, ROOM)
        try:
            for client, more in ((by_http, ["--shared-memory"]), (by_grpc, ["--shared-memory"]),
                                 (by_http, []), (by_grpc, [])):
                with Server(KILN, [folder, "--grpc-port", "0", *more]) as server:
                    port = server.port if client is by_http else server.grpc_port
                    with client.InferenceServerClient(f"127.0.0.1:{port}") as opened:
                        offered = "system_shared_memory" in str(opened.get_server_metadata())
                        assert offered == bool(more)
                        if not more:
                            refused("--shared-memory", lambda: opened.register_system_shared_memory(
                                "r", KEY, ROOM))
                            refused("--shared-memory", lambda: opened.infer("linear", [
                                input_in(client, [1, 4], 0, 16)]))
                            continue
                        test_strings(client, opened, memory)
                        test_requests(client, opened, memory)
                        test_refused(client, opened, memory)
                        print("ok", client.__name__, flush=True)
        finally:
            shared.destroy_shared_memory_region(memory)


main()
