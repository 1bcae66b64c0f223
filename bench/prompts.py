# SPDX-License-Identifier: Apache-2.0
"""The prompts of bench_stream (bench/stream.c), so that others are asked for the same texts."""


def prompts(count, vocabulary, shortest=16, longest=128):
    state, made = 1, []

    def draw():
        nonlocal state
        state = (state * 1664525 + 1013904223) % (1 << 32)
        return state >> 8

    for _ in range(count):
        length = shortest + draw() % (longest - shortest + 1)
        made.append([draw() % vocabulary for _ in range(length)])
    return made
