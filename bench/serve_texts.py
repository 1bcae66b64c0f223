#!/usr/bin/env python3
"""Texts of a language model by `kiln serve` beside the generator in a process of its own.

    bench/serve_texts.py BUILD MODEL BATCH LENGTH SEQUENCES TOKENS [TEXTS]

MODEL is a plan, or an ONNX model for the CPU. bench_stream lets SEQUENCES with prompts of 16 to 128
tokens generate TOKENS each, greedily; then as many clients ask the server for the same, all at
once, as events and in one piece. Prints a line of JSON: tokens a second of each, milliseconds to
the first tokens, what the server's processor time is for a token, and how many texts are those of
bench_stream (in a half type equal logits are not certain: a batch is put together otherwise).

SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import re
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tests", "server"))
from prompts import prompts  # noqa: E402
from serve_process import Server  # noqa: E402

BUILD, MODEL = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
BATCH, LENGTH, SEQUENCES, TOKENS = (int(word) for word in sys.argv[3:7])
TEXTS = sys.argv[7] if len(sys.argv) > 7 else None
ROUNDS = 5


def ask(port, path, made):
    """(seconds, milliseconds to the first byte of each, texts); all connections are open before
    the first asks."""
    selector, clients = selectors.DefaultSelector(), []
    for prompt in made:
        client = socket.create_connection(("127.0.0.1", port))
        clients.append(client)
        selector.register(client, selectors.EVENT_READ, len(clients) - 1)
    bodies = [json.dumps({"input_ids": prompt, "max_tokens": TOKENS}) for prompt in made]
    found, firsts, open_ones = [b""] * len(made), [None] * len(made), len(made)
    begin = time.monotonic()
    for client, body in zip(clients, bodies):
        head = f"POST {path} HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall((head + body).encode())
    while open_ones:
        for key, _ in selector.select():
            piece = key.fileobj.recv(1 << 16)
            if piece:
                firsts[key.data] = firsts[key.data] or time.monotonic()
                found[key.data] += piece
            else:
                selector.unregister(key.fileobj)
                key.fileobj.close()
                open_ones -= 1
    end = time.monotonic()
    texts = [[int(token) for event in re.findall(rb'"output_ids":\[([0-9,]+)\]', answer)
              for token in event.split(b",")] for answer in found]
    return end - begin, [(first - begin) * 1e3 for first in firsts], texts


def keep(kind, texts):
    if TEXTS is not None:
        with open(f"{TEXTS}_{kind}.json", "w", encoding="utf-8") as file:
            json.dump(texts, file)


def main():
    name = os.path.splitext(os.path.basename(MODEL))[0]
    with tempfile.TemporaryDirectory() as folder:
        tokens = os.path.join(folder, "tokens.json")
        alone = json.loads(subprocess.run(
            [os.path.join(BUILD, "bench", "bench_stream"), "run", MODEL, str(BATCH), str(LENGTH),
             str(SEQUENCES), str(TOKENS), "1", tokens], capture_output=True, text=True,
            check=True).stdout)
        with open(tokens, encoding="utf-8") as file:
            expected = json.load(file)
    keep("generator", expected)
    report = {"model": name, "sequences": SEQUENCES, "generator": alone["tokens_per_second"]}
    with Server(os.path.join(BUILD, "bin", "kiln"),
                [MODEL, "--sequences", str(BATCH), "--max-length", str(LENGTH)]) as server:
        about = server.json("GET", f"/v2/models/{name}")[1]
        logits = next(entry for entry in about["outputs"] if entry["name"] == "logits")
        made = prompts(SEQUENCES, logits["shape"][-1])
        for kind in ("generate_stream", "generate"):
            ask(server.port, f"/v2/models/{name}/{kind}", made)
            before = server.processor_seconds()
            rounds = [ask(server.port, f"/v2/models/{name}/{kind}", made) for _ in range(ROUNDS)]
            used = server.processor_seconds() - before
            report[kind] = round(SEQUENCES * TOKENS / statistics.median(r[0] for r in rounds))
            report[kind + "_processor_us"] = round(
                used * 1e6 / (ROUNDS * SEQUENCES * TOKENS), 2)
            equal = [sum(a == b for a, b in zip(r[2], expected)) for r in rounds]
            report[kind + "_equal"] = equal
            keep(kind, rounds[equal.index(min(equal))][2])
            if kind == "generate_stream":
                report["first_ms"] = round(statistics.median(rounds[-1][1]), 1)
    print(json.dumps(report))


main()
