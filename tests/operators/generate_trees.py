# SPDX-License-Identifier: Apache-2.0
"""Ensembles of trees, in the form of ai.onnx.ml 5."""
import numpy as np
from onnx import numpy_helper

from generate import D, F, generator, numpy_type

MEMBER = 6


class Forest:
    """The lists of attributes, to which trees are added from their leaves on."""

    def __init__(self, r, kind, features, targets):
        self.r, self.kind, self.features, self.targets = r, kind, features, targets
        self.nodes = []   # [feature, mode, split, tracks, true, true ends, false, false ends]
        self.leaves = []  # (target, weight)
        self.member = None

    def leaf(self):
        self.leaves.append((self.r.upto(0, self.targets - 1), self.r.random.normal()))
        return len(self.leaves) - 1, 1

    def grow(self, depth):
        """A place, and whether it is a leaf's."""
        r = self.r
        if depth == 0 or (self.nodes and r.chance(0.2)):
            return self.leaf()
        place = len(self.nodes)
        # One set of members at most: their order among several is told in two ways.
        mode = r.upto(0, MEMBER if self.member is None else MEMBER - 1)
        if mode == MEMBER:
            self.member = place
        self.nodes.append([r.upto(0, self.features - 1), mode, r.upto(-3, 3) / 2, r.upto(0, 1)])
        true = self.grow(depth - 1)
        self.nodes[place] += [*true, *self.grow(depth - 1)]
        return place, 0

    def attributes(self, roots):
        def tensor(values, kind):
            return numpy_helper.from_array(np.array(values, kind))
        columns = list(zip(*self.nodes))
        more = {"membership_values": tensor([1, 2, 4, np.nan], self.kind)} \
            if self.member is not None else {}
        return {"nodes_featureids": columns[0], "nodes_modes": tensor(columns[1], np.uint8),
                "nodes_splits": tensor(columns[2], self.kind),
                "nodes_missing_value_tracks_true": columns[3],
                "nodes_truenodeids": columns[4], "nodes_trueleafs": columns[5],
                "nodes_falsenodeids": columns[6], "nodes_falseleafs": columns[7],
                "leaf_targetids": [t for t, _ in self.leaves],
                "leaf_weights": tensor([w for _, w in self.leaves], self.kind),
                "tree_roots": roots, "n_targets": self.targets, **more}


@generator("ai.onnx.ml.TreeEnsemble")
def tree_ensemble(r):
    dtype = r.pick([F, D])
    features, targets = r.upto(1, 4), r.upto(1, 3)
    r.special = False
    forest = Forest(r, numpy_type(dtype), features, targets)
    roots = []
    for _ in range(r.upto(1, 5)):
        roots.append(len(forest.nodes))
        depth = r.upto(1, 4)
        place = len(forest.nodes)
        while forest.grow(depth)[1]:  # a tree begins with a node
            forest.leaves.pop()
        roots[-1] = place
    x = np.round(r.random.normal(0, 2, (r.dim(), features)) * 2) / 2
    if r.chance(0.3):
        x[r.random.random(x.shape) < 0.2] = np.nan
    name = r.add("x", dtype, x.astype(numpy_type(dtype)))
    return r.finish([name], [dtype], **forest.attributes(roots), aggregate_function=r.upto(0, 3),
                    post_transform=r.pick([0, 0, 1, 2, 3]))
