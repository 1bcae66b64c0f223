# SPDX-License-Identifier: Apache-2.0
"""Attentions and embeddings as ONNX Runtime's optimizer leaves them in transformers."""
import numpy as np

from generate import F, I32, generator


def ms(*names):
    return generator(*("com.microsoft." + name for name in names))


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
