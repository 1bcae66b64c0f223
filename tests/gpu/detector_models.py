# SPDX-License-Identifier: Apache-2.0
"""torchvision's detectors with random weights: small ones, whose parts are those of the originals,
and the originals (WHOLE). Their outputs are boxes, scores and labels, and their scores lie apart.

Each function gives a module that takes and gives tensors alone, and its inputs."""
import torch
from architecture_models import Call
from torch import nn

SIDE = 320  # of the images of the whole ones


FEW_BOXES = {"min_size": 128, "max_size": 128, "box_score_thresh": 0.0,
             "box_detections_per_img": 10, "rpn_pre_nms_top_n_test": 40,
             "rpn_post_nms_top_n_test": 20}


def detector():
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.resnet import BasicBlock, ResNet

    trunk = ResNet(BasicBlock, [1, 1, 1, 1])
    body = nn.Sequential(trunk.conv1, trunk.bn1, trunk.relu, trunk.maxpool, trunk.layer1,
                         trunk.layer2)
    body.out_channels = 128
    anchors = AnchorGenerator(((16, 32),), ((0.5, 1.0),))
    net = FasterRCNN(body, num_classes=4, rpn_anchor_generator=anchors, **FEW_BOXES)
    return two_stages(net)


def pyramid_detector():
    """Boxes of two sizes of features, each pooled where it fits."""
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    anchors = AnchorGenerator(((16,), (32,)), ((0.5, 1.0),) * 2)
    net = FasterRCNN(Pyramid(32), num_classes=4, rpn_anchor_generator=anchors, **FEW_BOXES)
    net.roi_heads.box_roi_pool.featmap_names = ["0", "1"]
    return two_stages(net)


class Pyramid(nn.Module):
    """Two sizes of features, as the detectors of one stage want them."""

    def __init__(self, out_channels):
        super().__init__()
        self.out_channels = out_channels
        self.first = nn.Sequential(nn.Conv2d(3, 32, 7, 8, 3), nn.BatchNorm2d(32), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(32, 32, 3, 2, 1), nn.ReLU())

    def forward(self, x):
        from collections import OrderedDict

        first = self.first(x)
        return OrderedDict([("0", first), ("1", self.second(first))])


def two_stages(net):
    return detecting(net, (net.roi_heads.box_predictor.cls_score, net.rpn.head.cls_logits,
                           net.rpn.head.bbox_pred))


def detecting(net, heads, side=128, deviation=0.2):
    for layer in heads:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(layer.weight, std=deviation)  # scores that lie apart

    def detect(model, x):
        found = model([x[0]])[0]
        return found["boxes"], found["scores"], found["labels"]

    return Call(net, detect), {"x": torch.rand(1, 3, side, side)}


def ssd():
    from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
    from torchvision.models.detection.ssd import SSD

    net = SSD(Pyramid([32, 32]), DefaultBoxGenerator([[2], [2]]), (128, 128), 4, score_thresh=0.0,
              topk_candidates=20, detections_per_img=10)
    return detecting(net, net.head.modules())


def retinanet():
    from torchvision.models.detection import RetinaNet
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    anchors = AnchorGenerator(((16,), (32,)), ((0.5, 1.0, 2.0),) * 2)
    net = RetinaNet(Pyramid(32), 4, min_size=128, max_size=128, anchor_generator=anchors,
                    score_thresh=0.0, topk_candidates=20, detections_per_img=10)
    return detecting(net, net.head.modules(), deviation=0.06)  # 0.2 makes every score 1


def fcos():
    from torchvision.models.detection import FCOS
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    anchors = AnchorGenerator(((8,), (16,)), ((1.0,),) * 2)
    net = FCOS(Pyramid(32), 4, min_size=128, max_size=128, anchor_generator=anchors,
               score_thresh=0.0, topk_candidates=20, detections_per_img=10)
    return detecting(net, net.head.modules())


def nms():
    """RetinaNet's head and anchors with one step behind them, which every exporter can write: the
    best boxes, without those that overlap better ones."""
    from torchvision.models.detection._utils import BoxCoder
    from torchvision.models.detection.retinanet import RetinaNetHead
    from torchvision.ops import nms as suppress

    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk = Pyramid(32)
            self.head = RetinaNetHead(32, 2, 4)
            places = (torch.arange(16) + 0.5) * 8
            y, x = torch.meshgrid(places, places, indexing="ij")
            centers = torch.stack([x, y], -1).reshape(-1, 1, 2)
            halves = torch.tensor([[8.0, 8.0], [12.0, 6.0]]).reshape(1, -1, 2)
            anchors = torch.cat([centers - halves, centers + halves], -1).reshape(-1, 4)
            self.register_buffer("anchors", anchors)
            for layer in self.head.modules():
                if isinstance(layer, nn.Conv2d):
                    nn.init.normal_(layer.weight, std=0.1)  # scores that lie apart

        def forward(self, x):
            found = self.head([self.trunk(x)["0"]])
            boxes = BoxCoder((1.0, 1.0, 1.0, 1.0)).decode_single(found["bbox_regression"][0],
                                                                 self.anchors)
            scores, labels = found["cls_logits"][0].sigmoid().max(1)
            scores, order = scores.topk(50)
            boxes, labels = boxes[order], labels[order]
            kept = suppress(boxes.float(), scores.float(), 0.5)
            return boxes[kept], scores[kept], labels[kept]

    return Detector(), {"x": torch.rand(1, 3, 128, 128)}


# --- as torchvision has them ---


def whole(name):
    """The detector of that name, for images of SIDE pixels."""

    def make():
        from torchvision.models import detection

        sizes = {} if name.startswith("ssd") else {"min_size": SIDE, "max_size": SIDE}
        most = "box_detections_per_img" if name.startswith("faster") else "detections_per_img"
        net = getattr(detection, name)(weights=None, weights_backbone=None, num_classes=5,
                                       **{most: 20}, **sizes)
        parts = [net.head] if hasattr(net, "head") else [net.roi_heads.box_predictor, net.rpn.head]
        return detecting(net, [layer for part in parts for layer in part.modules()], SIDE, 0.02)

    return make


SMALL = {f.__name__: f for f in (detector, pyramid_detector, ssd, retinanet, fcos, nms)}
WHOLE = {name: whole(name) for name in (
    "fasterrcnn_resnet50_fpn", "fasterrcnn_mobilenet_v3_large_fpn", "fcos_resnet50_fpn",
    "retinanet_resnet50_fpn", "ssd300_vgg16")}
