#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Which elements of a Resize the rule of coordinates that lie halfway settles: all that lie so
along some axis, whatever the neighbours are there, and no others."""
import sys

import numpy as np

import definitions_resize  # noqa: F401  pylint: disable=unused-import
from executors import Difference
from known_cases import floats, one_node
from settled_places import halfway


def settled(x, scales, **attributes):
    case = one_node("Resize", 19, {"x": x}, [x], {"roi": None, "s": floats(*scales)})
    case.attributes = attributes
    shape = [int(n * s) for n, s in zip(x.shape, scales)]
    nothing = np.zeros(shape, x.dtype)
    return halfway(case, Difference("y", nothing, nothing, np.ones(shape, bool)))


def main():
    # Each of the nine elements lies in the middle of four, of which opposite ones are the same.
    board = (np.indices((6, 6)).sum(axis=0) % 2).astype(np.float32)
    assert settled(board, (0.5, 0.5)).all()
    # Along the second axis the middle element alone does.
    assert settled(board, (1, 0.5)).all()
    third = settled(board, (1, 1 / 3))
    assert third.shape == (6, 2) and not third.any()
    assert not settled(board, (2, 2)).any()
    assert settled(board, (2, 2), coordinate_transformation_mode="asymmetric").any()
    return 0


if __name__ == "__main__":
    sys.exit(main())
