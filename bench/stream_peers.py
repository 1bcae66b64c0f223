#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""GPT-2 small with random weights from a seed: exported with its cache, and run by what one would
pick instead of Kiln.

    bench/stream_peers.py export FOLDER float16|float32      FOLDER/gpt2.onnx
    bench/stream_peers.py profiles BATCH LONGEST [WIDTH]...   options for kiln build, one a line
    bench/stream_peers.py peers float16|float32|tf32 TOKENS [PEER]...   huggingface, eager, compile
    bench/stream_peers.py check float16|float32 TOKENS.json         bench_stream's tokens

Prompts are those of bench_stream. Peers generate for all sequences at once, filled up on the left:
huggingface is transformers' generate; where that is not installed, eager is the same loop written
here, with a cache that grows by torch.cat; compile has a cache of fixed length, and torch.compile
with CUDA graphs makes its steps. tf32 is float32 whose products may be rounded as they are read,
and float32 one whose products may not. check computes each sequence anew in one pass over all its
tokens, and counts how many of them are what that gives: the rest within how much of the largest
logit. Prints a line of JSON for each.
"""
import json
import os
import statistics
import sys
import time

import torch
import torch.nn.functional as F

from prompts import prompts

LAYERS, HEADS, WIDTH, VOCABULARY, PLACES = 12, 12, 768, 50257, 1024
HEAD = WIDTH // HEADS
LONGEST, SEQUENCES = 128, 64
if "--tiny" in sys.argv:  # to try this file
    LAYERS, HEADS, WIDTH, VOCABULARY, HEAD, SEQUENCES = 2, 4, 64, 500, 16, 8
    sys.argv.remove("--tiny")
ROUNDS = 3


class Linear(torch.nn.Module):
    """As transformers' Conv1D: the weight is inputs x outputs."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(inputs, outputs))
        self.bias = torch.nn.Parameter(torch.empty(outputs))

    def forward(self, x):
        return torch.matmul(x, self.weight) + self.bias


class Norm(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(WIDTH))
        self.bias = torch.nn.Parameter(torch.empty(WIDTH))

    def forward(self, x):
        return F.layer_norm(x, (WIDTH,), self.weight, self.bias, 1e-5)


class Attention(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.c_attn = Linear(WIDTH, 3 * WIDTH)
        self.c_proj = Linear(WIDTH, WIDTH)

    def project(self, x):
        shape = (x.shape[0], x.shape[1], HEADS, HEAD)
        return [part.view(shape).transpose(1, 2) for part in self.c_attn(x).split(WIDTH, 2)]

    def mix(self, q, k, v, open_to):
        scores = torch.matmul(q, k.transpose(2, 3)) * HEAD ** -0.5
        far = torch.full((), -10000.0, dtype=scores.dtype, device=scores.device)
        scores = torch.where(open_to, scores, far)
        mixed = torch.matmul(F.softmax(scores, -1), v).transpose(1, 2)
        return self.c_proj(mixed.reshape(q.shape[0], q.shape[2], WIDTH))


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1, self.attn, self.ln_2 = Norm(), Attention(), Norm()
        self.mlp = torch.nn.ModuleDict({"c_fc": Linear(WIDTH, 4 * WIDTH),
                                        "c_proj": Linear(4 * WIDTH, WIDTH)})

    def feed(self, x):
        inner = F.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate="tanh")
        return x + self.mlp["c_proj"](inner)


class GPT2(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = torch.nn.Embedding(VOCABULARY, WIDTH)
        self.wpe = torch.nn.Embedding(PLACES, WIDTH)
        self.h = torch.nn.ModuleList(Block() for _ in range(LAYERS))
        self.ln_f = Norm()

    def forward(self, input_ids, attention_mask, position_ids, *past):
        length, total = input_ids.shape[1], attention_mask.shape[1]
        columns = torch.arange(total, device=input_ids.device)
        rows = columns[total - length:].unsqueeze(1)
        open_to = (columns <= rows)[None, None] & attention_mask.bool()[:, None, None, :]
        x = self.wte(input_ids) + self.wpe(position_ids)
        present = []
        for i, block in enumerate(self.h):
            q, k, v = block.attn.project(block.ln_1(x))
            if past:
                k, v = torch.cat((past[2 * i], k), 2), torch.cat((past[2 * i + 1], v), 2)
            present += [k, v]
            x = block.feed(x + block.attn.mix(q, k, v, open_to))
        logits = torch.matmul(self.ln_f(x), self.wte.weight.t())
        return (logits, *present)

    def step(self, token, open_to, position, column, cache):
        """One token for each row, into a cache of fixed length."""
        x = self.wte(token) + self.wpe(position)
        for i, block in enumerate(self.h):
            q, k, v = block.attn.project(block.ln_1(x))
            cache[2 * i].index_copy_(2, column, k)
            cache[2 * i + 1].index_copy_(2, column, v)
            mixed = F.scaled_dot_product_attention(q, cache[2 * i], cache[2 * i + 1],
                                                   attn_mask=open_to)
            x = block.feed(x + block.attn.c_proj(mixed.transpose(1, 2).reshape(x.shape)))
        return torch.matmul(self.ln_f(x), self.wte.weight.t())[:, -1].argmax(-1, keepdim=True)


def make(dtype, device):
    torch.manual_seed(0)
    model = GPT2()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("bias"):
                value.zero_()
            elif "ln_" in name:
                value.fill_(1)
            else:
                value.normal_(0, 0.05)
    return model.to(device=device, dtype=getattr(torch, dtype)).eval()


def write(model, inputs, path, input_names, output_names, axes):
    how = {"opset_version": 17, "input_names": input_names, "output_names": output_names,
           "dynamic_axes": axes}
    with torch.inference_mode():
        try:
            torch.onnx.export(model, inputs, path, dynamo=False, **how)
        except TypeError:  # a version that knows one exporter
            torch.onnx.export(model, inputs, path, **how)


def export(folder, dtype):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = make(dtype, device)
    past = [torch.zeros(2, HEADS, 3, HEAD, dtype=getattr(torch, dtype), device=device)
            for _ in range(2 * LAYERS)]
    ones = torch.ones(2, 5, dtype=torch.int64, device=device)
    ids = torch.ones(2, 2, dtype=torch.int64, device=device)
    kinds = [f"{i}.{kind}" for i in range(LAYERS) for kind in ("key", "value")]
    axes = {name: {0: "batch", 1: "length"} for name in ("input_ids", "position_ids", "logits")}
    axes["attention_mask"] = {0: "batch", 1: "total"}
    axes |= {f"past_key_values.{kind}": {0: "batch", 2: "past"} for kind in kinds}
    axes |= {f"present.{kind}": {0: "batch", 2: "total"} for kind in kinds}
    write(model, (ids, ones, ids, *past), f"{folder}/gpt2.onnx",
          ["input_ids", "attention_mask", "position_ids"] + [f"past_key_values.{k}" for k in kinds],
          ["logits"] + [f"present.{k}" for k in kinds], axes)


def profiles(batch, longest, *widths):
    """Prompts behind a past of one masked column, and steps: over any past, or over each of these
    widths, as LEAST:BEST:MOST or one for all three."""
    kinds = [f"past_key_values.{i}.{kind}" for i in range(LAYERS) for kind in ("key", "value")]
    def one(tokens, past):
        ranges = list(zip((1, batch, batch), tokens, past))
        shapes = {"input_ids": "{b}x{t}", "position_ids": "{b}x{t}", "attention_mask": "{b}x{all}"}
        shapes |= {kind: f"{{b}}x{HEADS}x{{p}}x{HEAD}" for kind in kinds}
        return " ".join(f"{name}=" + ":".join(shape.format(b=b, t=t, p=p, all=t + p)
                                              for b, t, p in ranges)
                        for name, shape in shapes.items())
    pasts = [[int(n) for n in width.split(":")] for width in widths] or [
        (1, min(192, longest), longest)]
    return [one((1, 72, LONGEST), (1, 1, 1))] + [
        one((1, 1, 1), past * 3 if len(past) == 1 else past) for past in pasts]


def padded(device):
    made = prompts(SEQUENCES, VOCABULARY)
    longest = max(map(len, made))
    ids = torch.tensor([[0] * (longest - len(p)) + p for p in made], device=device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in made], device=device)
    return ids, mask, (mask.cumsum(1) - 1).clamp(min=0)


def by_huggingface(dtype, tokens):
    import transformers
    config = transformers.GPT2Config(n_layer=LAYERS, n_head=HEADS, n_embd=WIDTH,
                                     vocab_size=VOCABULARY, bos_token_id=None, eos_token_id=None)
    model = transformers.GPT2LMHeadModel(config)
    own = make("float32", "cpu").state_dict()
    missing = model.load_state_dict({f"transformer.{name}": value for name, value in own.items()},
                                    strict=False)
    assert not missing.unexpected_keys, missing
    model.tie_weights()
    model = model.to(device="cuda", dtype=getattr(torch, dtype)).eval()
    ids, mask, _ = padded("cuda")
    def run():
        made = model.generate(input_ids=ids, attention_mask=mask, do_sample=False,
                              max_new_tokens=tokens, eos_token_id=None, pad_token_id=0)
        return made[:, ids.shape[1]:]
    return run


def prefill(model, ids, mask, positions):
    found = model(ids, mask, positions)
    return found[0][:, -1].argmax(-1, keepdim=True), list(found[1:])


def by_eager(dtype, tokens):
    model = make(dtype, "cuda")
    ids, mask, positions = padded("cuda")
    def run():
        token, past = prefill(model, ids, mask, positions)
        seen, place, made = mask, positions[:, -1:], [token]
        for _ in range(tokens - 1):
            seen = torch.cat((seen, torch.ones_like(token)), 1)
            place = place + 1
            found = model(token, seen, place, *past)
            token, past = found[0][:, -1].argmax(-1, keepdim=True), list(found[1:])
            made.append(token)
        return torch.cat(made, 1)
    return run


def by_compile(dtype, tokens):
    model = make(dtype, "cuda")
    ids, mask, positions = padded("cuda")
    longest = ids.shape[1] + tokens
    cache = [torch.zeros(SEQUENCES, HEADS, longest, HEAD, dtype=getattr(torch, dtype),
                         device="cuda") for _ in range(2 * LAYERS)]
    for value in cache:
        torch._dynamo.mark_static_address(value)
    step = torch.compile(model.step, mode="reduce-overhead", fullgraph=True)
    def run():
        token, past = prefill(model, ids, mask, positions)
        for to, value in zip(cache, past):
            to[:, :, :ids.shape[1]] = value
        open_to = torch.zeros(SEQUENCES, 1, 1, longest, dtype=torch.bool, device="cuda")
        open_to[:, 0, 0, :ids.shape[1]] = mask.bool()
        place, made = positions[:, -1:].clone(), [token.clone()]
        column = torch.tensor([ids.shape[1]], device="cuda")
        for _ in range(tokens - 1):
            open_to[:, :, :, column] = True
            place += 1
            torch.compiler.cudagraph_mark_step_begin()
            token = step(token, open_to, place, column, cache).clone()
            column += 1
            made.append(token)
        return torch.cat(made, 1)
    return run


def timed(run):
    times = []
    for _ in range(ROUNDS):
        begin = time.monotonic()
        run().cpu()
        times.append(time.monotonic() - begin)
    return statistics.median(times)


def measure(makers, dtype, count, names):
    for backend in (torch.backends.cuda.matmul, torch.backends.cudnn):
        backend.allow_tf32 = dtype == "tf32"
    for name in names or makers:
        found = {"peer": name, "type": dtype}
        begin = time.monotonic()
        try:
            with torch.inference_mode():
                run = makers[name]("float32" if dtype == "tf32" else dtype, int(count))
                run()
                tokens = run().numel()
                torch.cuda.synchronize()
                first = time.monotonic() - begin
                seconds = timed(run)
            yield found | {"tokens": tokens, "seconds": round(seconds, 4),
                           "tokens_per_second": round(tokens / seconds),
                           "first_seconds": round(first, 1)}
        except Exception as error:  # one that is not there, or fails, is named with its reason
            yield found | {"failed": f"{type(error).__name__}: {error}"[:400]}


def recompute(rows, device):
    """How tokens stand among the logits of a run over all before them. ROWS: (logits, tokens)."""
    equal = total = 0
    gap = spread = 0.0
    for logits, tokens in rows:
        logits = logits.float()
        chosen = torch.tensor(tokens, device=device)
        behind = logits.max(-1).values - logits.gather(1, chosen[:, None])[:, 0]
        equal += int((behind == 0).sum())
        total += len(tokens)
        gap = max(gap, float(behind.max()))
        spread = max(spread, float(logits.std()))
    return {"tokens": total, "largest_logit": equal, "furthest_behind": round(gap, 5),
            "logits_deviation": round(spread, 3)}


def check(dtype, path):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    made = json.load(open(path))
    found = {}
    for kind in dict.fromkeys(("float32", dtype)):
        model = make(kind, device)
        torch.backends.cuda.matmul.allow_tf32 = False

        def run(prompt, tokens, model=model):
            ids = torch.tensor([prompt + tokens[:-1]], device=device)
            places = torch.arange(ids.shape[1], device=device)[None]
            return model(ids, torch.ones_like(ids), places)[0][0, len(prompt) - 1:]

        asked = prompts(len(made), VOCABULARY)
        with torch.inference_mode():
            found[kind] = recompute(((run(prompt, tokens), tokens)
                                     for prompt, tokens in zip(asked, made)), device)
    return {"check": os.path.basename(path), "type": dtype, "against": found}


def command(arguments, export, profiles, check, makers):
    """What a peer of a language model is called with."""
    if arguments[0] == "export":
        export(arguments[1], arguments[2])
    elif arguments[0] == "profiles":
        print("\n".join(profiles(int(arguments[1]), int(arguments[2]), *arguments[3:])))
    elif arguments[0] == "check":
        print(json.dumps(check(arguments[1], arguments[2])), flush=True)
    else:
        for found in measure(makers, arguments[1], arguments[2], arguments[3:]):
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    command(sys.argv[1:], export, profiles, check,
            {"huggingface": by_huggingface, "eager": by_eager, "compile": by_compile})
