#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A model of Whisper-tiny's shape with random weights from a seed, as an encoder, a decoder without
a past and one with it.

    bench/speech_peers.py export FOLDER float16|float32    encoder.onnx, first.onnx, cross.onnx
    bench/speech_peers.py profiles BATCH LONGEST    options for kiln build, in that order
    bench/speech_peers.py peers float16|float32|tf32 TOKENS [PEER]...   huggingface, eager, compile
    bench/speech_peers.py check float16|float32 TOKENS.json bench_stream's tokens

As bench/stream_peers.py, whose modules it is made of; huggingface is its Whisper of that size.
`--tiny` is for trying this file.
"""
import json
import os
import sys

TINY = "--tiny" in sys.argv

import torch
import torch.nn.functional as F

import stream_peers
from stream_peers import command, recompute, write

LAYERS, HEADS, WIDTH, VOCABULARY, PLACES, MELS, FRAMES = 4, 6, 384, 51865, 448, 80, 3000
if TINY:
    LAYERS, HEADS, WIDTH, VOCABULARY, MELS, FRAMES = 2, 2, 32, 300, 8, 40
HEAD = WIDTH // HEADS
SEQUENCES = 8 if TINY else 64
PROMPT = [1, 2, 3, 4]
stream_peers.WIDTH, stream_peers.HEADS, stream_peers.HEAD = WIDTH, HEADS, HEAD
KINDS = [f"{i}.{{}}.{kind}" for i in range(LAYERS) for kind in ("key", "value")]


def attend(q, k, v, open_to=None):
    scores = torch.matmul(q, k.transpose(2, 3)) * HEAD ** -0.5
    if open_to is not None:
        far = torch.full((), -10000.0, dtype=scores.dtype, device=scores.device)
        scores = torch.where(open_to, scores, far)
    mixed = torch.matmul(F.softmax(scores, -1), v).transpose(1, 2)
    return mixed.reshape(q.shape[0], q.shape[2], WIDTH)


class Cross(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.out = (stream_peers.Linear(WIDTH, WIDTH) for _ in range(4))

    def heads(self, x):
        return x.view(x.shape[0], x.shape[1], HEADS, HEAD).transpose(1, 2)


class Layer(stream_peers.Block):
    def __init__(self):
        super().__init__()
        self.ln_3, self.cross = stream_peers.Norm(), Cross()


class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv1d(MELS, WIDTH, 3, padding=1)
        self.conv2 = torch.nn.Conv1d(WIDTH, WIDTH, 3, stride=2, padding=1)
        self.places = torch.nn.Parameter(torch.empty(FRAMES // 2, WIDTH))
        self.h = torch.nn.ModuleList(stream_peers.Block() for _ in range(LAYERS))
        self.ln_f = stream_peers.Norm()

    def forward(self, features):
        x = F.gelu(self.conv2(F.gelu(self.conv1(features)))).transpose(1, 2) + self.places
        for block in self.h:
            q, k, v = block.attn.project(block.ln_1(x))
            x = block.feed(x + block.attn.c_proj(attend(q, k, v)))
        return self.ln_f(x)


class Decoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = torch.nn.Embedding(VOCABULARY, WIDTH)
        self.wpe = torch.nn.Embedding(PLACES, WIDTH)
        self.h = torch.nn.ModuleList(Layer() for _ in range(LAYERS))
        self.ln_f = stream_peers.Norm()

    def run(self, ids, hidden, past, kept):
        length = ids.shape[1]
        before = past[0].shape[2] if past else 0
        columns = torch.arange(before + length, device=ids.device)
        rows = columns[before:]
        open_to = (columns <= rows.unsqueeze(1))[None, None]
        x = self.wte(ids) + self.wpe(rows)[None]
        present, made = [], []
        for i, layer in enumerate(self.h):
            q, k, v = layer.attn.project(layer.ln_1(x))
            if past:
                k, v = torch.cat((past[2 * i], k), 2), torch.cat((past[2 * i + 1], v), 2)
            present += [k, v]
            x = x + layer.attn.c_proj(attend(q, k, v, open_to))
            if kept:
                k, v = kept[2 * i], kept[2 * i + 1]
            else:
                k, v = (layer.cross.heads(part(hidden)) for part in (layer.cross.k, layer.cross.v))
                made += [k, v]
            q = layer.cross.heads(layer.cross.q(layer.ln_3(x)))
            x = layer.feed(x + layer.cross.out(attend(q, k, v)))
        x = self.ln_f(x[:, -1].unsqueeze(1) if self.last else x)
        return torch.matmul(x, self.wte.weight.t()), present, made

    def step(self, token, open_to, column, cache, kept):
        """One token for each row, into a cache of fixed length."""
        x = self.wte(token) + self.wpe(column)[None]
        for i, layer in enumerate(self.h):
            q, k, v = layer.attn.project(layer.ln_1(x))
            cache[2 * i].index_copy_(2, column, k)
            cache[2 * i + 1].index_copy_(2, column, v)
            mixed = F.scaled_dot_product_attention(q, cache[2 * i], cache[2 * i + 1],
                                                   attn_mask=open_to)
            x = x + layer.attn.c_proj(mixed.transpose(1, 2).reshape(x.shape))
            q = layer.cross.heads(layer.cross.q(layer.ln_3(x)))
            mixed = F.scaled_dot_product_attention(q, kept[2 * i], kept[2 * i + 1])
            x = layer.feed(x + layer.cross.out(mixed.transpose(1, 2).reshape(x.shape)))
        return torch.matmul(self.ln_f(x), self.wte.weight.t())[:, -1].argmax(-1, keepdim=True)

    last = False


class First(torch.nn.Module):
    def __init__(self, decoder):
        super().__init__()
        self.decoder = decoder

    def forward(self, ids, hidden):
        logits, present, made = self.decoder.run(ids, hidden, [], [])
        return (logits, *present, *made)


class Step(First):
    def forward(self, ids, *tensors):
        logits, present, _ = self.decoder.run(ids, None, tensors[:2 * LAYERS], tensors[2 * LAYERS:])
        return (logits, *present)


def make(dtype, device):
    torch.manual_seed(0)
    encoder, decoder = Encoder(), Decoder()
    with torch.no_grad():
        for part in (encoder, decoder):
            for name, value in part.named_parameters():
                if name.endswith("bias"):
                    value.zero_()
                elif "ln_" in name:
                    value.fill_(1)
                else:
                    value.normal_(0, 0.06)
    return [part.to(device=device, dtype=getattr(torch, dtype)).eval()
            for part in (encoder, decoder)]


def features(count, dtype, device):
    """As bench_stream makes them."""
    i, c, t = torch.arange(count), torch.arange(MELS), torch.arange(FRAMES)
    i, c, t = i[:, None, None], c[None, :, None], t[None, None]
    value = (i * 131 + c * 31 + t * 17 * (1 + i % 3)) % 256
    return (value.float() / 128 - 1).to(device=device, dtype=getattr(torch, dtype))


def export(folder, dtype):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder, decoder = make(dtype, device)
    decoder.last = True
    ids = torch.ones(2, 3, dtype=torch.int64, device=device)
    tensor = lambda *shape: torch.zeros(shape, dtype=getattr(torch, dtype), device=device)
    write(encoder, (features(2, dtype, device),), f"{folder}/encoder.onnx", ["input_features"],
          ["last_hidden_state"], {name: {0: "batch"} for name in ("input_features",
                                                                  "last_hidden_state")})
    own = [kind.format("decoder") for kind in KINDS]
    kept = [kind.format("encoder") for kind in KINDS]
    axes = {"input_ids": {0: "batch", 1: "length"}, "logits": {0: "batch"},
            "encoder_hidden_states": {0: "batch"}}
    axes |= {f"present.{kind}": {0: "batch", 2: "total"} for kind in own}
    axes |= {f"present.{kind}": {0: "batch"} for kind in kept}
    write(First(decoder), (ids, tensor(2, FRAMES // 2, WIDTH)), f"{folder}/first.onnx",
          ["input_ids", "encoder_hidden_states"],
          ["logits"] + [f"present.{kind}" for kind in own + kept], axes)
    axes = {"input_ids": {0: "batch"}, "logits": {0: "batch"}}
    axes |= {f"present.{kind}": {0: "batch", 2: "total"} for kind in own}
    axes |= {f"past_key_values.{kind}": {0: "batch", 2: "past"} for kind in own}
    axes |= {f"past_key_values.{kind}": {0: "batch"} for kind in kept}
    past = [tensor(2, HEADS, 3, HEAD) for _ in own]
    past += [tensor(2, HEADS, FRAMES // 2, HEAD) for _ in kept]
    write(Step(decoder), (ids[:, :1], *past), f"{folder}/cross.onnx",
          ["input_ids"] + [f"past_key_values.{kind}" for kind in own + kept],
          ["logits"] + [f"present.{kind}" for kind in own], axes)


def profiles(batch, longest):
    def line(shapes):
        return " ".join(f"{name}=" + ":".join(shape.format(b=b, p=p) for b, p in
                                              ((1, 1), (batch, longest // 2), (batch, longest)))
                        for name, shape in shapes.items())
    own = {f"past_key_values.{k.format('decoder')}": f"{{b}}x{HEADS}x{{p}}x{HEAD}" for k in KINDS}
    kept = {f"past_key_values.{k.format('encoder')}": f"{{b}}x{HEADS}x{FRAMES // 2}x{HEAD}"
            for k in KINDS}
    return [line({"input_features": f"{{b}}x{MELS}x{FRAMES}"}),
            line({"input_ids": f"{{b}}x{len(PROMPT)}",
                  "encoder_hidden_states": f"{{b}}x{FRAMES // 2}x{WIDTH}"}),
            line({"input_ids": "{b}x1"} | own | kept)]


def begun(dtype):
    """(the decoder, a function that gives the first tokens, the past and what is kept)."""
    encoder, decoder = make(dtype, "cuda")
    decoder.last = True
    host = features(SEQUENCES, dtype, "cpu").pin_memory()

    def begin():
        ids = torch.tensor([PROMPT] * SEQUENCES, device="cuda")
        logits, past, kept = decoder.run(ids, encoder(host.cuda()), [], [])
        return logits[:, -1].argmax(-1, keepdim=True), past, kept
    return decoder, begin


def by_eager(dtype, tokens):
    decoder, begin = begun(dtype)

    def run():
        token, past, kept = begin()
        made = [token]
        for _ in range(tokens - 1):
            logits, past, _ = decoder.run(made[-1], None, past, kept)
            made.append(logits[:, -1].argmax(-1, keepdim=True))
        return torch.cat(made, 1)
    return run


def by_compile(dtype, tokens):
    decoder, begin = begun(dtype)
    longest = len(PROMPT) + tokens
    shape = (SEQUENCES, HEADS, longest, HEAD)
    cache = [torch.zeros(shape, dtype=getattr(torch, dtype), device="cuda") for _ in KINDS]
    stays = [torch.zeros((SEQUENCES, HEADS, FRAMES // 2, HEAD), dtype=getattr(torch, dtype),
                         device="cuda") for _ in KINDS]
    for value in cache + stays:
        torch._dynamo.mark_static_address(value)
    step = torch.compile(decoder.step, mode="reduce-overhead", fullgraph=True)

    def run():
        token, past, kept = begin()
        for to, value in zip(cache, past):
            to[:, :, :len(PROMPT)] = value
        for to, value in zip(stays, kept):
            to.copy_(value)
        open_to = torch.zeros(1, 1, 1, longest, dtype=torch.bool, device="cuda")
        open_to[..., :len(PROMPT)] = True
        column, made = torch.tensor([len(PROMPT)], device="cuda"), [token.clone()]
        for _ in range(tokens - 1):
            open_to[..., column] = True
            torch.compiler.cudagraph_mark_step_begin()
            token = step(token, open_to, column, cache, stays).clone()
            column += 1
            made.append(token)
        return torch.cat(made, 1)
    return run


def by_huggingface(dtype, tokens):
    import transformers
    config = transformers.WhisperConfig(
        vocab_size=VOCABULARY, d_model=WIDTH, encoder_layers=LAYERS, decoder_layers=LAYERS,
        encoder_attention_heads=HEADS, decoder_attention_heads=HEADS, encoder_ffn_dim=4 * WIDTH,
        decoder_ffn_dim=4 * WIDTH, num_mel_bins=MELS, max_source_positions=FRAMES // 2,
        max_target_positions=PLACES)
    torch.manual_seed(0)
    model = transformers.WhisperForConditionalGeneration(config)
    model = model.to(device="cuda", dtype=getattr(torch, dtype)).eval()
    host = features(SEQUENCES, dtype, "cpu").pin_memory()
    ids = torch.tensor([PROMPT] * SEQUENCES, device="cuda")

    def run():  # without what Whisper's own generate adds for timestamps and languages
        made = transformers.GenerationMixin.generate(
            model, host.cuda(), decoder_input_ids=ids, do_sample=False, max_new_tokens=tokens,
            min_new_tokens=tokens, pad_token_id=0)
        return made[:, len(PROMPT):]
    return run


def check(dtype, path):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    made = json.load(open(path))
    found = {}
    for kind in dict.fromkeys(("float32", dtype)):
        encoder, decoder = make(kind, device)
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        all_features = features(len(made), kind, device)

        def run(i, tokens, encoder=encoder, decoder=decoder, given=all_features):
            ids = torch.tensor([PROMPT + tokens[:-1]], device=device)
            return decoder.run(ids, encoder(given[i:i + 1]), [], [])[0][0, len(PROMPT) - 1:]

        with torch.inference_mode():
            found[kind] = recompute(((run(i, tokens), tokens) for i, tokens in enumerate(made)),
                                    device)
        found[kind]["different_texts"] = len(set(map(tuple, made)))
    return {"check": os.path.basename(path), "model": "speech", "type": dtype, "against": found}


if __name__ == "__main__":
    command([word for word in sys.argv[1:] if word != "--tiny"], export, profiles, check,
            {"huggingface": by_huggingface, "eager": by_eager, "compile": by_compile})
