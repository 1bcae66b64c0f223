#!/usr/bin/env python3
"""BYTES: tensors of strings, as JSON and binary, and a classifier of texts as skl2onnx writes one.

    tests/server/strings.py KILN

SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import sys

import numpy

from serve_process import (Server, binary_answer, identities, pack, run_tests, save_model,
                           scratch_for)

KILN = os.path.abspath(sys.argv[1])


def classifier(path):
    """Words of a text in small letters, counted, weighed, and the label with the highest score."""
    save_model(path, """classifier (string[n] text) => (string[1] label, float[1,3] shares)
        <int64[2] row = {1, 3}> {
        words = StringNormalizer <case_change_action = "LOWER", stopwords = ["the"],
                                  locale = "C.UTF-8"> (text)
        counts = TfIdfVectorizer <max_gram_length = 1, min_gram_length = 1, max_skip_count = 0,
            mode = "TF", ngram_counts = [0], ngram_indexes = [0, 1, 2],
            pool_strings = ["good", "bad", "gr\u00fcn"]> (words)
        rows = Reshape (counts, row)
        label, scores = ai.onnx.ml.LinearClassifier <
            classlabels_strings = ["neg", "pos", "gr\u00fcn"], multi_class = 1,
            post_transform = "SOFTMAX", intercepts = [0.0, 0.1, 0.0],
            coefficients = [-2.0, 2.0, 0.0, 2.0, -2.0, 0.0, 0.0, 0.0, 5.0]> (rows)
        shares = ai.onnx.ml.Normalizer <norm = "L1"> (scores) }""", '17, "ai.onnx.ml": 3')


def test_classifier(server):
    for words, expected in ((["The", "GOOD", "good", "bad"], "pos"), (["bad", "the"], "neg"),
                            (["GR\u00dcN"], "gr\u00fcn"), (["else"], "pos")):
        status, found = server.infer("classifier", words, name="text", datatype="BYTES")
        assert status == 200, found
        label, shares = found["outputs"]
        assert label["datatype"] == "BYTES" and label["data"] == [expected], (words, found)
        assert numpy.isclose(sum(shares["data"]), 1), found


def test_strings(server):
    words = ["a", "", "gr\u00fcn", "\U0001f600", "1,2", "\"\\\n", "n\0l", "[x]"]

    def ask(data, size=len(words), binary=None, path="/v2/models/words/infer"):
        entry = {"name": "in_BYTES", "datatype": "BYTES", "shape": [size]}
        entry.update({"data": data} if binary is None else
                     {"parameters": {"binary_data_size": len(binary)}})
        text = json.dumps({"inputs": [entry], "parameters": {
            "binary_data_output": binary is not None}}).encode()
        return server.request("POST", path, text + (binary or b""),
                              {"Inference-Header-Content-Length": str(len(text))})

    about = server.json("GET", "/v2/models/words")[1]
    assert about["inputs"] == [{"name": "in_BYTES", "datatype": "BYTES", "shape": [-1]}], about
    status, _, answer = ask(words)
    assert status == 200 and json.loads(answer)["outputs"] == [
        {"name": "out_BYTES", "datatype": "BYTES", "shape": [8], "data": words}], answer
    # Past what is read as it comes, and past one piece.
    many = [f"{i}, and \u00e9" * (i % 5) for i in range(20000)]
    status, _, answer = ask(many, len(many))
    assert status == 200 and json.loads(answer)["outputs"][0]["data"] == many, answer[:300]
    packed = pack([one.encode() for one in many])
    status, back, answer = ask(None, len(many), packed)
    assert status == 200 and binary_answer(back, answer)[1]["out_BYTES"][1] == packed, answer[:300]
    any_bytes = pack([b"\xff\0\xfe", b""])
    status, back, answer = ask(None, 2, any_bytes)
    assert status == 200 and binary_answer(back, answer)[1]["out_BYTES"][1] == any_bytes, answer
    for size, data, binary, says in (
            (2, ["a", 1], None, "a string is needed, in \"data\""),
            (2, ["a"], None, "has 1 element, its shape asks for 2"),
            (2, None, pack([b"a"]), "its shape asks for 2 strings"),
            (2, None, pack([b"a", b"b"])[:-1], "its 9 bytes end in string 1 of the 2"),
            (1, None, pack([b"a"]) + b"x", "asks for take 5 of its 6 bytes"),
            (1, None, b"\xff\xff\xff\xffabcd", "its 8 bytes end in string 0"),
            (1 << 50, None, pack([b"a"]), "its shape asks for")):
        status, _, answer = ask(data, size, binary)
        assert status == 400 and says in json.loads(answer)["error"], (says, answer)
    text = json.dumps({"inputs": [{"name": "in_BYTES", "datatype": "BYTES", "shape": [1],
                                   "parameters": {"binary_data_size": 5}}]}).encode()
    status, _, answer = server.request("POST", "/v2/models/words/infer", text + pack([b"\xff"]),
                                       {"Inference-Header-Content-Length": str(len(text))})
    assert status == 500 and b"is not UTF-8" in answer, answer


def main():
    with scratch_for(KILN) as folder:
        identities(os.path.join(folder, "words.onnx"), ["n"], [("BYTES", "STRING", "O")])
        classifier(os.path.join(folder, "classifier.onnx"))
        with Server(KILN, [folder]) as server:
            run_tests((test_strings, test_classifier), server)


main()
