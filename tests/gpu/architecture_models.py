# SPDX-License-Identifier: Apache-2.0
"""Known architectures with random weights, small enough to be built in seconds: their blocks are
those of the originals, their depths and widths are not.

Each function gives a module that takes and gives tensors alone, and its inputs."""
import torch
from torch import nn


def image(size=64, batch=2):
    return {"x": torch.rand(batch, 3, size, size)}


class Call(nn.Module):
    """A function of a module, as a module."""

    def __init__(self, inner, function):
        super().__init__()
        self.inner = inner
        self.function = function

    def forward(self, *inputs):
        return self.function(self.inner, *inputs)


# --- images ---


def resnet():
    from torchvision.models.resnet import Bottleneck, ResNet

    return ResNet(Bottleneck, [1, 1, 1, 1], num_classes=20), image()


def resnext():
    from torchvision.models.resnet import Bottleneck, ResNet

    return ResNet(Bottleneck, [1, 1, 1, 1], num_classes=20, groups=8, width_per_group=8), image()


def efficientnet():
    from torchvision.models.efficientnet import EfficientNet, MBConvConfig

    blocks = [MBConvConfig(1, 3, 1, 32, 16, 1), MBConvConfig(6, 3, 2, 16, 24, 1),
              MBConvConfig(6, 5, 2, 24, 40, 1), MBConvConfig(6, 3, 2, 40, 80, 1)]
    return EfficientNet(blocks, dropout=0.0, num_classes=20), image()


def convnext():
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    blocks = [CNBlockConfig(32, 64, 1), CNBlockConfig(64, 128, 1), CNBlockConfig(128, None, 1)]
    return ConvNeXt(blocks, num_classes=20, layer_scale=0.5), image()


def vit():
    from torchvision.models.vision_transformer import VisionTransformer

    net = VisionTransformer(64, 16, 2, 4, 64, 128, num_classes=20)
    nn.init.normal_(net.heads[0].weight, std=0.1)
    return net, image()


def swin():
    from torchvision.models.swin_transformer import SwinTransformer

    return SwinTransformer([4, 4], 32, [2, 2], [2, 4], [4, 4], num_classes=20), image()


def mobilenet():
    from functools import partial

    from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3

    block = partial(InvertedResidualConfig, width_mult=1.0)
    blocks = [block(16, 3, 16, 16, True, "RE", 2, 1), block(16, 3, 72, 24, False, "RE", 2, 1),
              block(24, 5, 96, 40, True, "HS", 2, 1)]
    return MobileNetV3(blocks, 64, num_classes=20, dropout=0.0), image()


def mobilenet_v2():
    from torchvision.models.mobilenetv2 import MobileNetV2

    return MobileNetV2(20, inverted_residual_setting=[[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 1, 2]],
                       dropout=0.0), image()


def densenet():
    from torchvision.models.densenet import DenseNet

    return DenseNet(16, (2, 2, 2), 32, num_classes=20), image()


def regnet():
    from torchvision.models.regnet import BlockParams, RegNet

    return RegNet(BlockParams.from_init_params(4, 24, 36.0, 2.5, 8, se_ratio=0.25),
                  num_classes=20), image()


def shufflenet():
    from torchvision.models.shufflenetv2 import ShuffleNetV2

    return ShuffleNetV2([2, 2, 2], [24, 48, 96, 192, 256], num_classes=20), image()


def unet():
    class Twice(nn.Sequential):
        def __init__(self, inside, outside):
            super().__init__(nn.Conv2d(inside, outside, 3, padding=1), nn.BatchNorm2d(outside),
                             nn.ReLU(), nn.Conv2d(outside, outside, 3, padding=1), nn.ReLU())

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.down = nn.ModuleList([Twice(3, 16), Twice(16, 32), Twice(32, 64)])
            self.up = nn.ModuleList([nn.ConvTranspose2d(64, 32, 2, 2),
                                     nn.ConvTranspose2d(32, 16, 2, 2)])
            self.join = nn.ModuleList([Twice(64, 32), Twice(32, 16)])
            self.last = nn.Conv2d(16, 4, 1)

        def forward(self, x):
            a = self.down[0](x)
            b = self.down[1](nn.functional.max_pool2d(a, 2))
            c = self.down[2](nn.functional.max_pool2d(b, 2))
            b = self.join[0](torch.cat([b, self.up[0](c)], 1))
            return self.last(self.join[1](torch.cat([a, self.up[1](b)], 1)))

    return UNet(), image()


def deeplab():
    from torchvision.models._utils import IntermediateLayerGetter
    from torchvision.models.resnet import Bottleneck, ResNet
    from torchvision.models.segmentation.deeplabv3 import DeepLabHead, DeepLabV3

    trunk = ResNet(Bottleneck, [1, 1, 1, 1], replace_stride_with_dilation=[False, True, True])
    net = DeepLabV3(IntermediateLayerGetter(trunk, {"layer4": "out"}), DeepLabHead(2048, 6))
    return Call(net, lambda m, x: m(x)["out"]), image(96)


def segformer():
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    config = SegformerConfig(num_encoder_blocks=2, depths=[1, 1], sr_ratios=[4, 2],
                             hidden_sizes=[32, 64], patch_sizes=[7, 3], strides=[4, 2],
                             num_attention_heads=[1, 2], mlp_ratios=[2, 2],
                             decoder_hidden_size=64, num_labels=6)
    return Call(SegformerForSemanticSegmentation(config), lambda m, x: m(x).logits), image()


def raft():
    from torchvision.models.optical_flow.raft import _raft, BottleneckBlock

    net = _raft(feature_encoder_layers=(32, 32, 64, 96, 128), feature_encoder_block=BottleneckBlock,
                feature_encoder_norm_layer=nn.InstanceNorm2d,
                context_encoder_layers=(32, 32, 64, 96, 160),
                context_encoder_block=BottleneckBlock, context_encoder_norm_layer=None,
                corr_block_num_levels=4, corr_block_radius=3, motion_encoder_corr_layers=(96,),
                motion_encoder_flow_layers=(64, 32), motion_encoder_out_channels=82,
                recurrent_block_hidden_state_size=96, recurrent_block_kernel_size=(3,),
                recurrent_block_padding=(1,), flow_head_hidden_size=128, use_mask_predictor=False)
    frames = {"a": torch.rand(1, 3, 128, 128) * 2 - 1, "b": torch.rand(1, 3, 128, 128) * 2 - 1}
    return Call(net, lambda m, a, b: m(a, b, num_flow_updates=2)[-1]), frames


def detr():
    class Detr(nn.Module):
        """A trunk of convolutions, a transformer over its pixels, queries that become boxes."""

        def __init__(self):
            super().__init__()
            self.trunk = nn.Sequential(nn.Conv2d(3, 32, 7, 4, 3), nn.ReLU(),
                                       nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU())
            self.transformer = nn.Transformer(64, 4, 2, 2, 128, dropout=0.0, batch_first=True)
            self.queries = nn.Parameter(torch.rand(10, 64))
            self.places = nn.Parameter(torch.rand(64, 64))
            self.classes = nn.Linear(64, 5)
            self.boxes = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))

        def forward(self, x):
            seen = self.trunk(x).flatten(2).permute(0, 2, 1) + self.places
            found = self.transformer(seen, self.queries.expand(x.shape[0], -1, -1))
            return self.classes(found), self.boxes(found).sigmoid()

    return Detr(), image()


# --- sequences ---


def lstm():
    class Lstm(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.LSTM(32, 48, 2, bidirectional=True, batch_first=True)
            self.last = nn.Linear(96, 10)

        def forward(self, x):
            seen, (hidden, cell) = self.inner(x)
            return self.last(seen), hidden, cell

    return Lstm(), {"x": torch.randn(2, 20, 32)}


def gru():
    class Gru(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.GRU(32, 48, 2, batch_first=True)

        def forward(self, x):
            return self.inner(x)

    return Gru(), {"x": torch.randn(2, 20, 32)}


def words(count=16, batch=2):
    ids = torch.randint(0, 100, (batch, count))
    mask = torch.ones(batch, count, dtype=torch.int64)
    mask[1, count // 2:] = 0
    return {"ids": ids, "mask": mask}


def bert():
    from transformers import BertConfig, BertModel

    config = BertConfig(vocab_size=100, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
                        intermediate_size=128, attn_implementation="eager")
    return Call(BertModel(config), lambda m, ids, mask: m(
        input_ids=ids, attention_mask=mask)[:2]), words()


def distilbert():
    from transformers import DistilBertConfig, DistilBertModel

    config = DistilBertConfig(vocab_size=100, dim=64, n_layers=2, n_heads=4, hidden_dim=128,
                              attn_implementation="eager")
    return Call(DistilBertModel(config), lambda m, ids, mask: m(
        input_ids=ids, attention_mask=mask).last_hidden_state), words()


def electra():
    from transformers import ElectraConfig, ElectraModel

    config = ElectraConfig(vocab_size=100, embedding_size=32, hidden_size=64, num_hidden_layers=2,
                           num_attention_heads=4, intermediate_size=128,
                           attn_implementation="eager")
    return Call(ElectraModel(config), lambda m, ids, mask: m(
        input_ids=ids, attention_mask=mask).last_hidden_state), words()


def cached(model, ids, *past):
    """One step over keys and values of `past`, which grow."""
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    for layer in range(len(past) // 2):
        cache.update(past[2 * layer], past[2 * layer + 1], layer)
    found = model(input_ids=ids, past_key_values=cache, use_cache=True)
    keys = [part for layer in found.past_key_values.layers for part in (layer.keys, layer.values)]
    return (found.logits, *keys)


def past_of(layers, heads, width, length=12):
    names = [f"past.{layer}.{kind}" for layer in range(layers) for kind in ("key", "value")]
    return {name: torch.randn(1, heads, length, width) for name in names}


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=100, n_positions=64, n_embd=64, n_layer=2, n_head=4,
                        attn_implementation="eager")
    return Call(GPT2LMHeadModel(config), cached), {"ids": torch.randint(0, 100, (1, 1)),
                                                   **past_of(2, 4, 16)}


def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=100, hidden_size=64, intermediate_size=128,
                         num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                         max_position_embeddings=64, attn_implementation="eager")
    return Call(LlamaForCausalLM(config), cached), {"ids": torch.randint(0, 100, (1, 1)),
                                                    **past_of(2, 2, 16)}


def t5_config():
    from transformers import T5Config

    return T5Config(vocab_size=100, d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4,
                    decoder_start_token_id=0)


def t5_encoder():
    from transformers import T5EncoderModel

    return Call(T5EncoderModel(t5_config()), lambda m, ids, mask: m(
        input_ids=ids, attention_mask=mask).last_hidden_state), words()


def t5_decoder():
    from transformers import T5ForConditionalGeneration

    net = T5ForConditionalGeneration(t5_config())
    return Call(net, lambda m, ids, seen: m.lm_head(m.decoder(
        input_ids=ids, encoder_hidden_states=seen, use_cache=False).last_hidden_state)), {
            "ids": torch.randint(0, 100, (2, 7)), "seen": torch.randn(2, 16, 64)}


def whisper_config():
    from transformers import WhisperConfig

    return WhisperConfig(vocab_size=100, num_mel_bins=20, d_model=64, encoder_layers=2,
                         decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
                         encoder_ffn_dim=128, decoder_ffn_dim=128, max_source_positions=50,
                         max_target_positions=32, pad_token_id=0, bos_token_id=1, eos_token_id=2,
                         decoder_start_token_id=1, attn_implementation="eager")


def whisper_encoder():
    from transformers import WhisperModel

    return Call(WhisperModel(whisper_config()).encoder, lambda m, x: m(x).last_hidden_state), {
        "x": torch.randn(1, 20, 100)}


def whisper_decoder():
    from transformers import WhisperForConditionalGeneration

    net = WhisperForConditionalGeneration(whisper_config())
    return Call(net, lambda m, ids, seen: m.proj_out(m.model.decoder(
        input_ids=ids, encoder_hidden_states=seen, use_cache=False).last_hidden_state)), {
            "ids": torch.randint(3, 100, (1, 7)), "seen": torch.randn(1, 50, 64)}


def clip():
    from transformers import CLIPConfig, CLIPModel

    shared = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
              "num_attention_heads": 4}
    config = CLIPConfig(text_config={"vocab_size": 100, "max_position_embeddings": 16,
                                     "eos_token_id": 99, "bos_token_id": 1, **shared},
                        vision_config={"image_size": 64, "patch_size": 16, **shared},
                        projection_dim=32, attn_implementation="eager")

    def match(model, ids, x):
        found = model(input_ids=ids, pixel_values=x)
        return found.logits_per_image, found.text_embeds, found.image_embeds

    ids = torch.randint(2, 99, (3, 16))
    ids[:, -1] = 99
    return Call(CLIPModel(config), match), {"ids": ids, **image()}


def wav2vec2():
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    config = Wav2Vec2Config(hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
                            intermediate_size=128, conv_dim=(32, 32, 32), conv_stride=(5, 4, 4),
                            conv_kernel=(10, 8, 4), num_conv_pos_embeddings=16,
                            num_conv_pos_embedding_groups=4, attn_implementation="eager")
    return Call(Wav2Vec2Model(config), lambda m, x: m(x).last_hidden_state), {
        "x": torch.randn(1, 4000)}


ALL = {f.__name__: f for f in (
    resnet, resnext, efficientnet, convnext, vit, swin, mobilenet, mobilenet_v2, densenet, regnet,
    shufflenet, unet, deeplab, segformer, raft, detr, lstm, gru, bert, distilbert, electra, gpt2,
    llama, t5_encoder, t5_decoder, whisper_encoder, whisper_decoder, clip, wav2vec2)}
