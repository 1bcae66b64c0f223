# SPDX-License-Identifier: Apache-2.0
"""Attentions and embeddings as ONNX Runtime's optimizer leaves them in transformers."""
import numpy as np

from generate import D, F, H, I32, I64, generator
from generate_microsoft import (
    INT8, UINT8, ms, quantized, right_operand, scale, weights_of, zero)


def mask_of(r, batch, queries, keys, kinds):
    """Some form of a mask, of which each query sees the first key."""
    kind = r.pick(kinds)
    if kind == 0:
        return ""
    if kind == 1:
        return r.ints("m", [r.upto(1, keys) for _ in range(batch)], I32, False)
    if kind == 2:  # ends, and begins
        return r.ints("m", [r.upto(1, keys) for _ in range(batch)] + [0] * batch, I32, False)
    seen = r.random.integers(0, 2, (batch, keys) if kind == 3 else (batch, queries, keys))
    seen[..., 0] = 1
    return r.add("m", I32, seen.astype(np.int32))


def scores_bias(r, batch, heads, queries, keys):
    if not r.chance(0.3):
        return ""
    return r.tensor("ab", 0, (r.pick([1, batch]), r.pick([1, heads]), queries, keys), dtype=F)


@ms("Attention")
def attention(r):
    batch, queries, inner = r.upto(1, 3), r.upto(1, 6), r.upto(1, 6)
    heads, size = r.upto(1, 3), r.upto(1, 5)
    r.special = False
    past = r.upto(1, 4) if r.chance(0.3) else 0
    widths = [heads * size] * 3
    if not past and r.chance(0.3):
        widths[2] = heads * r.upto(1, 5)
    keys = past + queries
    names = [r.tensor("x", 0, (batch, queries, inner), dtype=F),
             r.tensor("w", 0, (inner, sum(widths)), dtype=F, low=-1, high=1),
             r.tensor("b", 0, (sum(widths),), dtype=F),
             mask_of(r, batch, queries, keys, [0, 1, 2, 3, 4]),
             r.tensor("p", 0, (2, batch, heads, past, size), dtype=F) if past else "",
             "" if past else scores_bias(r, batch, heads, queries, keys)]
    more = {"scale": 0.3} if r.chance(0.2) else {}
    more.update({"qkv_hidden_sizes": widths} if widths[2] != widths[0] else {})
    outputs = [F, F] if past or widths[2] == widths[0] and r.chance(0.3) else [F]
    return r.finish(names, outputs, num_heads=heads,
                    unidirectional=r.upto(0, 1) if r.chance(0.5) else None, **more)


@ms("MultiHeadAttention")
def multi_head_attention(r):
    batch, queries = r.upto(1, 3), r.upto(1, 6)
    heads, size, value = r.upto(1, 3), r.upto(1, 5), r.upto(1, 5)
    r.special = False
    split = r.chance(0.25)  # keys and values of heads
    past = r.upto(1, 4) if not split and r.chance(0.3) else 0
    value = size if split or past else value
    own = queries if past or r.chance(0.5) else r.upto(1, 6)
    keys = past + own
    width = heads * size

    def side(name, each):
        return r.tensor(name, 0, (batch, heads, own, each) if split else (batch, own, heads * each),
                        dtype=F)

    names = [r.tensor("q", 0, (batch, queries, width), dtype=F), side("k", size), side("v", value),
             r.tensor("b", 0, (2 * width + heads * value,), dtype=F)
             if not split and r.chance(0.5) else "",
             mask_of(r, batch, queries, keys, [0, 0, 1, 3, 4]),
             scores_bias(r, batch, heads, queries, keys)]
    if past:
        names += [r.tensor("pk", 0, (batch, heads, past, size), dtype=F),
                  r.tensor("pv", 0, (batch, heads, past, value), dtype=F)]
    outputs = [F, F, F] if past or not split and r.chance(0.3) else [F]
    more = {"scale": 0.3} if r.chance(0.2) else {}
    # Of more keys than queries ONNX Runtime's last query sees all.
    return r.finish(names, outputs, num_heads=heads,
                    unidirectional=r.upto(0, 1) if own == queries else None, **more)


@ms("EmbedLayerNormalization")
def embed_norm(r):
    batch, length, width = r.upto(1, 3), r.upto(1, 6), r.upto(1, 9)
    words, places, kinds = r.upto(1, 9), r.upto(length, 9), r.upto(1, 3)
    r.special = False
    typed = r.chance(0.6)

    def numbers(name, most, shape):
        return r.add(name, I32, r.random.integers(0, most, shape).astype(np.int32))

    def weights(name, *shape):
        return r.tensor(name, 0, shape, dtype=F, constant=True)

    names = [numbers("ids", words, (batch, length)),
             numbers("kinds", kinds, (batch, length)) if typed else "",
             weights("we", words, width), weights("pe", places, width),
             weights("se", kinds, width) if typed else "", weights("g", width), weights("b", width),
             numbers("m", 2, (batch, length)) if r.chance(0.5) else "",
             numbers("places", places, (r.pick([1, batch]), length)) if r.chance(0.4) else ""]
    return r.finish(names, r.pick([[F, I32], [F, I32, F]]), epsilon=1e-3)


@generator("SimplifiedLayerNormalization")
def simplified_norm(r):
    shape = r.shape(1, empty=False)
    axis = r.upto(-len(shape), len(shape) - 1)
    r.special = False
    dtype = r.pick([F, F, D, H])
    names = [r.tensor("x", 0, shape, dtype=dtype),
             r.tensor("g", 0, shape[axis:] if axis else shape, dtype=dtype)]
    outputs = [dtype, F] if r.chance(0.3) else [dtype]
    return r.finish(names, outputs, axis=axis if axis != -1 or r.chance(0.5) else None,
                    epsilon=r.pick([None, 1e-3]))


@ms("RotaryEmbedding")
def rotary(r):
    batch, length, heads = r.upto(1, 3), r.upto(1, 5), r.upto(1, 3)
    half = r.upto(1, 8)
    part = r.chance(0.3)
    size = 2 * half + (r.upto(0, 5) if part else 0)
    rows = length + r.upto(0, 4)
    r.special = False
    x = (batch, heads, length, size) if r.chance(0.4) else (batch, length, heads * size)
    places = r.random.integers(0, rows, (batch, length)) if r.chance(0.6) else \
        np.array([r.upto(0, rows - length)])
    more = {"num_heads": heads, "rotary_embedding_dim": 2 * half} if part else \
        {"num_heads": heads} if r.chance(0.5) else {}
    return r.finish([r.tensor("x", 0, x, dtype=F), r.add("p", I64, places),
                     r.tensor("c", 0, (rows, half), dtype=F, low=-1, high=1),
                     r.tensor("s", 0, (rows, half), dtype=F, low=-1, high=1)], [F],
                    interleaved=r.upto(0, 1) if r.chance(0.6) else None, **more)


@ms("QAttention")
def quantized_attention(r):
    batch, queries, inner = r.upto(1, 3), r.upto(1, 6), r.upto(1, 6)
    heads, size = r.upto(1, 3), r.upto(1, 5)
    r.special = False
    past = r.upto(1, 4) if r.chance(0.3) else 0
    width = 3 * heads * size
    dtype = r.pick([INT8, UINT8])
    b_scale, b_zero = right_operand(r, width, dtype)
    names = [quantized(r, "x", UINT8, (batch, queries, inner)),
             weights_of(r, "w", dtype, (inner, width)), r.tensor("b", 0, (width,), dtype=F),
             scale(r, "xs", 0.001, 0.01), b_scale,
             mask_of(r, batch, queries, past + queries, [0, 1, 2, 3, 4]),
             zero(r, "xz", UINT8) if r.chance(0.8) else "", b_zero,
             r.tensor("p", 0, (2, batch, heads, past, size), dtype=F) if past else ""]
    outputs = [F, F] if past or r.chance(0.3) else [F]
    more = {"scale": 0.3} if r.chance(0.2) else {}
    return r.finish(names, outputs, num_heads=heads,
                    unidirectional=r.upto(0, 1) if r.chance(0.5) else None, **more)


def sequences(r):
    """Batches, tokens, places of a past (None: there is none), the total length, and the last key
    of each sequence."""
    kind = r.upto(0, 5)
    batch = 1 if kind == 3 else r.upto(1, 3)
    tokens = r.upto(1, 6) if kind < 2 or kind == 3 else 1
    if kind < 2:  # a prompt, whose sequences may end early
        room = r.pick([None, 0, r.upto(tokens, 9)])
        lasts = [r.upto(0, tokens - 1) if r.chance(0.3) else tokens - 1 for _ in range(batch)]
        return batch, tokens, room, tokens, lasts
    before = r.upto(1, 6)
    total = before + tokens
    room = before if r.chance(0.5) else total + r.upto(0, 4)
    lasts = [r.upto(tokens - 1, total - 1) if r.chance(0.3) and batch > 1 else total - 1
             for _ in range(batch)]
    return batch, tokens, room, total, lasts


def angles(r, rows, size):
    half = r.pick([8, size // 2])
    return [r.tensor(name, 0, (rows, half), dtype=F, low=-1, high=1) for name in "cs"]


@ms("GroupQueryAttention")
def grouped_attention(r):
    batch, tokens, room, total, lasts = sequences(r)
    kv_heads = r.upto(1, 3)
    heads = kv_heads * r.upto(1, 3)
    turned = r.chance(0.6)
    size = r.pick([16, 32]) if turned else r.pick([8, 16, 24])
    r.special = False
    packed = r.chance(0.3)
    shared = not packed and room is not None and total <= room and r.chance(0.2)

    def tensor(name, *shape):
        return r.tensor(name, 0, shape, dtype=F)

    names = [tensor("q", batch, tokens, (heads + 2 * kv_heads if packed else heads) * size)]
    names += ["", ""] if packed else \
        [tensor(n, batch, 0 if shared else tokens, kv_heads * size) for n in "kv"]
    names += ["", ""] if room is None else \
        [tensor(n, batch, kv_heads, room, size) for n in ("pk", "pv")]
    names += [r.ints("l", lasts if r.chance(0.5) else [[n] for n in lasts], I32, False),
              r.add("t", I32, np.array(total if r.chance(0.5) else [total], np.int32),
                    r.chance(0.5))]
    rows = total + r.upto(0, 5)
    names += angles(r, rows, size) if turned else ["", ""]
    names.append(r.add("places", I64, np.sort(r.random.integers(0, rows - tokens + 1,
                                                                (batch, tokens))))
                 if turned and r.chance(0.3) else "")
    names.append(r.tensor("ab", 0, (r.pick([1, batch]), r.pick([1, heads]), tokens, total), dtype=F)
                 if r.chance(0.3) else "")
    sink = r.upto(0, 4)
    names.append(tensor("sink", heads) if sink == 0 else "")
    more = {"smooth_softmax": 1} if sink == 1 else {}
    more.update({"scale": 0.3} if r.chance(0.2) else {})
    more.update({"softcap": 1.5} if r.chance(0.2) else {})
    if r.chance(0.3):
        more["local_window_size"] = r.upto(1, total)
    elif r.chance(0.2):
        more["causal"] = 0
    return r.finish(names, [F, F, F], num_heads=heads, kv_num_heads=kv_heads,
                    do_rotary=1 if turned else None,
                    rotary_interleaved=r.upto(0, 1) if turned else None, **more)
