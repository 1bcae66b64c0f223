#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Well-known architectures with random weights as ONNX, from PyTorch: what is measured is their
time, which depends on shapes.

    bench/export_models.py FOLDER NAME...

Writes FOLDER/NAME.onnx. With _fp16 at the end of a name weights, inputs and outputs are float16,
which wants a GPU here. The batch is a dynamic dimension. bench/torch_peers.py measures the same
modules in PyTorch.
"""
import sys
import warnings

warnings.filterwarnings("ignore")

TOKENS = 128


def relu():
    import torch

    return torch.nn.ReLU(), ["x"]


def mlp():
    import torch

    layers = []
    for inside, outside in ((128, 512), (512, 512), (512, 512), (512, 64)):
        layers += [torch.nn.Linear(inside, outside), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1]), ["x"]


def resnet50():
    from torchvision.models import resnet50 as make

    return make(weights=None), ["x"]


def bert():
    import torch
    from transformers import BertConfig, BertModel

    inner = BertModel(BertConfig(attn_implementation="eager"), add_pooling_layer=False)

    class Hidden(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def forward(self, ids, mask):
            return self.inner(input_ids=ids, attention_mask=mask).last_hidden_state

    return Hidden(), ["ids", "mask"]


def efficientnet():
    from torchvision.models import efficientnet_b0 as make

    return make(weights=None), ["x"]


def vit():
    import torch
    from torchvision.models import vit_b_16 as make

    torch.backends.mha.set_fastpath_enabled(False)  # ONNX does not have its operator
    return make(weights=None), ["x"]


MODELS = {"relu": relu, "mlp": mlp, "resnet50": resnet50, "bert": bert,
          "efficientnet": efficientnet, "vit": vit}
SHAPES = {"relu": (), "mlp": (128,)}  # beside the batch; others take images


def make(name):
    """The module in evaluation mode, on the GPU where it is float16, and its inputs' names."""
    import torch

    torch.manual_seed(0)
    module, names = MODELS[name.removesuffix("_fp16")]()
    module = module.eval().requires_grad_(False)
    return (module.half().cuda() if name.endswith("_fp16") else module), names


def feed(name, batch, device):
    """Values for the inputs, in their order."""
    import torch

    kind = name.removesuffix("_fp16")
    if kind == "bert":
        ids = torch.randint(0, 30000, (batch, TOKENS), device=device)
        return ids, torch.ones(batch, TOKENS, dtype=torch.int64, device=device)
    dtype = torch.float16 if name.endswith("_fp16") else torch.float32
    return (torch.rand(batch, *SHAPES.get(kind, (3, 224, 224)), dtype=dtype, device=device),)


def export(folder, name):
    import torch

    module, names = make(name)
    device = next(module.parameters()).device
    axes = {item: {0: "N"} for item in [*names, "y"]}
    with torch.no_grad():
        torch.onnx.export(module, feed(name, 2, device), f"{folder}/{name}.onnx",
                          input_names=names, output_names=["y"], dynamic_axes=axes,
                          opset_version=17, dynamo=False)


if __name__ == "__main__":
    for each in sys.argv[2:]:
        export(sys.argv[1], each)
