#!/usr/bin/env python3
"""Repositories that change while they are served: --poll, --load, and what vanishes in between.

    tests/server/repository.py KILN

SPDX-License-Identifier: Apache-2.0
"""
import os
import shutil
import sys
import threading
import time

from serve_process import Server, fails, linear, run_tests, scratch_for, until, write

KILN = os.path.abspath(sys.argv[1])


def infer(server, model):
    """(status, the factor of a `linear`)"""
    status, answer = server.infer(model, [[1, 1, 1, 1]])
    return status, answer["outputs"][0]["data"][0] if status == 200 else answer["error"]


def state(server, model):
    index = server.json("POST", "/v2/repository/index")[1]
    return next(((entry["state"], entry["reason"]) for entry in index if entry["name"] == model),
                None)


def put(folder, model, factor, version=1, config=None):
    """As a careful deployment does it: the file is written elsewhere and moved."""
    os.makedirs(os.path.join(folder, model, str(version)), exist_ok=True)
    linear(os.path.join(folder, "..", "new.onnx"), factor)
    os.replace(os.path.join(folder, "..", "new.onnx"),
               os.path.join(folder, model, str(version), "model.onnx"))
    if config is not None:
        write(os.path.join(folder, model, "config.pbtxt"), config)


def test_poll(scratch):
    folder = os.path.join(scratch, "polled")
    os.mkdir(folder)  # nothing is there at the start
    with Server(KILN, [folder, "--poll", "0.1"]) as server:
        put(folder, "a", 2.0)
        put(folder, "b", 5.0)
        until(lambda: infer(server, "a") == (200, 2), "a new model is not loaded")
        # Another version, another file, another configuration.
        put(folder, "a", 3.0, version=2)
        until(lambda: infer(server, "a") == (200, 3), "a new version is not loaded")
        put(folder, "a", 4.0, version=2)
        until(lambda: infer(server, "a") == (200, 4), "a new file is not loaded")
        put(folder, "a", 4.0, version=2, config="version_policy { specific { versions: [ 1 ] } }")
        until(lambda: infer(server, "a") == (200, 2), "a new configuration is not read")
        assert server.lines("b, version 1: ready") == 1, server.said  # it has not changed

        # What is broken keeps what there was; what is whole again is loaded.
        write(os.path.join(folder, "a", "1", "model.onnx"), b"no model")
        until(lambda: any("a, version 1: " in line and "ready" not in line
                          for line in server.said), "a broken model is not told of")
        assert infer(server, "a") == (200, 2)
        put(folder, "a", 6.0)
        until(lambda: infer(server, "a") == (200, 6), "a model that is whole again is not loaded")

        # A file that is written slowly is loaded once.
        linear(os.path.join(scratch, "slow.onnx"), 7.0)
        with open(os.path.join(scratch, "slow.onnx"), "rb") as file:
            data = file.read()
        gap = 0
        with open(os.path.join(folder, "slow.onnx"), "wb", buffering=0) as file:
            for byte in range(8):
                begin = time.monotonic()
                file.write(data[len(data) * byte // 8:len(data) * (byte + 1) // 8])
                time.sleep(0.05)
                gap = max(gap, time.monotonic() - begin)
        until(lambda: infer(server, "slow") == (200, 7), "a slow file is not loaded")
        if gap < 0.09:  # a look meets a file as it was at the last one where this machine is slow
            assert server.lines("slow, version 1") == 1, server.said

        # What vanishes is unloaded; a repository that cannot be read takes nothing away.
        shutil.rmtree(os.path.join(folder, "b"))
        until(lambda: infer(server, "b")[0] == 503, "a model that is gone is served")
        assert state(server, "b") == ("UNAVAILABLE", "it is not in the repository any more")
        os.rename(folder, folder + ".away")
        assert server.lines("cannot be opened") == 1, server.said
        time.sleep(0.3)
        assert infer(server, "a") == (200, 6)
        assert server.lines("cannot be opened") == 1, server.said
        os.rename(folder + ".away", folder)
        put(folder, "b", 8.0)
        until(lambda: infer(server, "b") == (200, 8), "a model that came back is not loaded")

        # Unloaded on request, it stays so until it changes.
        assert server.json("POST", "/v2/repository/models/b/unload")[0] == 200
        time.sleep(0.4)
        assert infer(server, "b")[0] == 503
        put(folder, "b", 9.0)
        until(lambda: infer(server, "b") == (200, 9), "a changed model is not loaded")


def test_swap(scratch):
    """No request fails while its model is replaced again and again."""
    folder = os.path.join(scratch, "swapped")
    os.mkdir(folder)
    put(folder, "m", 1.0)
    found, over = [], threading.Event()
    with Server(KILN, [folder, "--poll", "0.05"]) as server:
        def ask():
            while not over.is_set():
                found.append(infer(server, "m"))
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for factor in range(2, 6):
            put(folder, "m", float(factor))
            until(lambda: infer(server, "m") == (200, factor), factor)
        over.set()
        for thread in threads:
            thread.join()
    assert {status for status, _ in found} == {200} and (200, 5) in found, found[-5:]


def test_load(scratch):
    folder = os.path.join(scratch, "chosen")
    os.mkdir(folder)
    for factor, name in enumerate("abc", 1):
        put(folder, name, float(factor))
    with Server(KILN, [folder, "--load", "a", "--load", "c"]) as server:
        assert "2 models are ready\n" in server.said, server.said
        assert [infer(server, name)[0] for name in "abc"] == [200, 503, 200]
        assert state(server, "b") == ("UNAVAILABLE", "it was not loaded yet")
        assert server.json("POST", "/v2/repository/models/b/load")[0] == 200
        assert infer(server, "b") == (200, 2)
    fails(KILN, [folder, "--load", "z"], 'no model "z"')
    fails(KILN, [folder, "--load", "a", "--poll", "1"], "--load says which", codes=(2,))


def test_left_out(scratch):
    """What is no model is named once, and what has no configuration that can be read is none."""
    folder = os.path.join(scratch, "odd")
    for path in ("folder/config.pbtxt", "empty"):
        os.makedirs(os.path.join(folder, path))
    for path in ("version_0/0/model.onnx", "named/v1/model.onnx", "twice.onnx", "good.onnx"):
        linear(os.path.join(folder, path), 1.0)
    put(folder, "twice", 2.0)
    put(folder, "folder", 2.0)
    put(folder, "outside", 2.0)
    os.symlink(os.path.join("..", "..", "secret"), os.path.join(folder, "outside", "config.pbtxt"))
    put(folder, "other", 2.0, config="version_policy { specific { versions: [ 7 ] } }")
    with Server(KILN, [folder, "--lenient", "--poll", "0.1"]) as server:
        time.sleep(0.5)
        index = server.json("POST", "/v2/repository/index")[1]
        assert [(entry["name"], entry["state"]) for entry in index] == [
            ("folder", "UNAVAILABLE"), ("good", "READY"), ("outside", "UNAVAILABLE"),
            ("twice", "READY")], index
        for name in ("folder", "outside"):
            assert "no file of the repository" in state(server, name)[1], state(server, name)
        for name in ("version_0", "empty", "named", "other"):
            assert sum(f"/{name} is left out" in line for line in server.said) == 1, server.said
        assert sum("another model has the name" in line for line in server.said) == 1, server.said


def main():
    with scratch_for(KILN) as scratch:
        run_tests((test_poll, test_swap, test_load, test_left_out), scratch)


main()
