# SPDX-License-Identifier: Apache-2.0
"""What ai.onnx.ml says of ensembles of trees."""
import operator

import numpy as np
from onnx import numpy_helper

from definitions import define

COMPARISONS = (operator.le, operator.lt, operator.ge, operator.gt, operator.eq, operator.ne)


class Trees:
    def __init__(self, g):
        self.g = g
        members = self.numbers("membership_values", [])
        self.members = set(members[~np.isnan(members)])  # there is one set at most

    def numbers(self, name, otherwise=None):
        tensor = self.g.attr(name)
        return np.asarray(otherwise if tensor is None else numpy_helper.to_array(tensor))

    def leaf(self, row, node):
        """The leaf that a row comes to."""
        while True:
            value = row[self.g.attr("nodes_featureids")[node]]
            mode = int(self.numbers("nodes_modes")[node])
            split = self.numbers("nodes_splits")[node]
            good = value in self.members if mode == len(COMPARISONS) else \
                COMPARISONS[mode](value, split)
            tracks = self.g.attr("nodes_missing_value_tracks_true")[node]
            side = "true" if good or (tracks and np.isnan(value)) else "false"
            ends = self.g.attr(f"nodes_{side}leafs")[node]
            node = self.g.attr(f"nodes_{side}nodeids")[node]
            if ends:
                return node


def transformed(values, kind):
    if kind == 2:
        return 1 / (1 + np.exp(-values))
    if kind in (1, 3):
        shares = np.exp(values - values.max()) * ((values != 0) | (kind == 1))
        return shares / (shares.sum() or 1)
    return values


@define("ai.onnx.ml.TreeEnsemble")
def tree_ensemble(g):
    trees, roots = Trees(g), g.attr("tree_roots")
    weights = trees.numbers("leaf_weights").astype(np.float64)
    fold = {2: min, 3: max}.get(g.attr("aggregate_function"), sum)
    y = np.zeros((len(g.raw(0)), g.attr("n_targets")))
    for row, totals in zip(g.raw(0), y):
        leaves = [trees.leaf(row, root) for root in roots]
        for target in range(len(totals)):
            found = [weights[leaf] for leaf in leaves if g.attr("leaf_targetids")[leaf] == target]
            totals[target] = fold(found) if found else 0
        if g.attr("aggregate_function") == 0:
            totals /= len(roots)
        totals[:] = transformed(totals, g.attr("post_transform"))
    return [y]
