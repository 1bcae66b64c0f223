# SPDX-License-Identifier: Apache-2.0
"""Conditions of the rules in settled_rules.py on windows, grids and lengths."""
import numpy as np

import definitions
import definitions_resize
import definitions_spatial
from settled_conditions import array


def same_mode(case):
    return str(case.attributes.get("auto_pad", "")).startswith("SAME")


def window_sizes(case):
    """For each spatial dimension: length of the input, kernel, stride, dilation."""
    kernel = case.attributes.get("kernel_shape") or array(case, 1).shape[2:]
    ones = [1] * len(kernel)
    return list(zip(array(case, 0).shape[2:], kernel, case.attributes.get("strides") or ones,
                    case.attributes.get("dilations") or ones))


def dilated(case):
    """A dilation of a kernel that has more than one element there."""
    return any(d > 1 and k > 1 for _, k, _, d in window_sizes(case))


def negative_padding(case):
    """SAME padding that would come out negative: the kernel does not reach from one stride to the
    next, behind the last one of which nothing is."""
    return any((-(-n // s) - 1) * s + (k - 1) * d + 1 < n for n, k, s, d in window_sizes(case))


def window_counts(case):
    """How many elements of the input each window has."""
    g = definitions.Given(case)
    window = definitions_spatial.Window(g, g.raw(0).shape[2:], g.attr("kernel_shape"))
    counts = np.zeros(window.out)
    for offset in window.offsets():
        found = window.slices(offset)
        if found is not None:
            counts[found[0]] += 1
    return counts


def reaches_past(case):
    """A window of a pooling that ends behind the input and its padding."""
    g = definitions.Given(case)
    w = definitions_spatial.Window(g, g.raw(0).shape[2:], g.attr("kernel_shape"))
    return any((out - 1) * s + extent > n + begin + end for out, s, extent, n, begin, end in zip(
        w.out, w.strides, w.extent, w.sizes, w.begin, w.end))


def empty_window(case):
    return bool((window_counts(case) == 0).any())


def in_empty_windows(case, detail):
    return np.broadcast_to(window_counts(case) == 0, detail.wrong.shape)


def unreached(case):
    """ConvTranspose: the windows span less than the length of the input times the stride."""
    kernel = array(case, 1).shape[2:]
    d = len(kernel)
    strides = case.attributes.get("strides") or [1] * d
    dilations = case.attributes.get("dilations") or [1] * d
    extra = case.attributes.get("output_padding") or [0] * d
    return any(dilations[i] * (kernel[i] - 1) + 1 + extra[i] < strides[i] for i in range(d))


def aligned_fraction(case):
    scales, sizes = array(case, 2), array(case, 3)
    shape = array(case, 0).shape
    axes = case.attributes.get("axes", range(len(shape)))
    choose = {"not_larger": min, "not_smaller": max}.get(
        case.attributes.get("keep_aspect_ratio_policy"))
    if sizes is not None and choose:
        scales = [choose(size / shape[a] for size, a in zip(sizes, axes))] * len(axes)
    if case.attributes.get("coordinate_transformation_mode") != "align_corners" or scales is None:
        return False
    return any(float(s) * shape[a] % 1 for s, a in zip(scales, axes))


NUDGE = 1e-4  # so much more or less changes what lies halfway


def halfway(case, detail):
    """The elements of a Resize that a nudge of their coordinates takes from other places, whatever
    is there."""
    g = definitions.Given(case)
    changed = np.zeros((1,) * detail.wrong.ndim, bool)
    for number, axis, places in definitions_resize.axes_resized(g, array(case, 0).shape):
        taken = [[definitions_resize.taken(g, axis, p + nudge) for p in places]
                 for nudge in (-NUDGE, NUDGE)]
        changed = changed | np.not_equal(*taken).reshape(
            [-1 if i == number else 1 for i in range(changed.ndim)])
    return np.broadcast_to(changed, detail.wrong.shape)


def halves(case, detail):
    """The elements that a nudge of the quotients that are rounded changes."""
    results = []
    for nudge in (-NUDGE, NUDGE):
        definitions.NUDGE = nudge
        results.append(np.asarray(definitions.unstored(case)[0]))
    definitions.NUDGE = 0.0
    return results[0] != results[1]


def plain_steps(case):
    return max(case.attributes.get("strides") or [1]) == 1 and \
        max(case.attributes.get("dilations") or [1]) == 1


def uneven_pads(case):
    """Pads that are not one number on each side of two dimensions, or go with ceil_mode."""
    pads = case.attributes.get("pads") or []
    return any(pads) and (len(pads) != 4 or len(set(pads)) > 1 or
                          case.attributes.get("ceil_mode") == 1)


def lower_or_not_two(case):
    """SAME_LOWER, or SAME padding that would be negative, or of other than two dimensions."""
    return case.attributes.get("auto_pad") == "SAME_LOWER" or \
        same_mode(case) and (array(case, 0).ndim != 4 or negative_padding(case))


def wide_groups(case):
    """More than one group, of more than one channel each in or out, or with a bias."""
    group = case.attributes.get("group", 1)
    return group > 1 and (array(case, 0).shape[1] > group or array(case, 1).shape[1] > 1 or
                          array(case, 2) is not None)


def parted(case, detail):
    """The windows of a pooling that are not whole, and all where it is dilated."""
    kernel = int(np.prod(case.attributes["kernel_shape"]))
    return np.broadcast_to((window_counts(case) < kernel) | dilated(case), detail.wrong.shape)


def cropped_unseen(case):
    """tf_crop_and_resize of an axis but the last two, or of one whose length stays."""
    roi, rank = array(case, 1), array(case, 0).ndim
    if case.attributes.get("coordinate_transformation_mode") != "tf_crop_and_resize" or \
            roi is None:
        return False
    axes = [a % rank for a in case.attributes.get("axes", range(rank))]
    out = np.asarray(definitions.unstored(case)[0]).shape
    return any((begin != 0 or end != 1) and (a < rank - 2 or out[a] == array(case, 0).shape[a])
               for a, begin, end in zip(axes, roi, roi[len(axes):]))


def fraction_of_a_length(case):
    """tf_crop_and_resize, where a length times its scale is no whole number."""
    if case.attributes.get("coordinate_transformation_mode") != "tf_crop_and_resize":
        return False
    x, scales = array(case, 0), array(case, 2)
    axes = case.attributes.get("axes", range(x.ndim))
    return scales is None or any(x.shape[a] * float(s) % 1 for a, s in zip(axes, scales))


def to_one(case):
    """pytorch_half_pixel to a length of 1."""
    return case.attributes.get("coordinate_transformation_mode") == "pytorch_half_pixel" and \
        1 in np.asarray(definitions.unstored(case)[0]).shape


def valid_ceil(case):
    """VALID and ceil_mode, and a rest behind the last whole window."""
    return case.attributes.get("auto_pad") == "VALID" and \
        case.attributes.get("ceil_mode") == 1 and \
        any((n - (k - 1) * d - 1) % s for n, k, s, d in window_sizes(case))


def dilated_blocks(case):
    """Col2Im of one or three dimensions, with a dilation that matters."""
    blocks = zip(case.attributes["dilations"], array(case, 2))
    return len(array(case, 1)) != 2 and any(d > 1 and k > 1 for d, k in blocks)


def padded_cubic(case):
    return case.attributes.get("mode") in ("cubic", "bicubic") and case.attributes.get(
        "padding_mode") in ("border", "reflection")


def cubic_outside(case, detail):
    """The elements of which one of the 16 that are mixed lies outside."""
    x, grid = array(case, 0), array(case, 1).astype(np.float64)
    outside = np.zeros(grid.shape[:-1], bool)
    for k, n in enumerate(reversed(x.shape[2:])):
        place = (grid[..., k] + 1) / 2 * (n - 1) if case.attributes.get("align_corners") == 1 \
            else ((grid[..., k] + 1) * n - 1) / 2
        outside |= ~((place >= 1) & (place < n - 2))
    return np.broadcast_to(outside[:, None], detail.wrong.shape)
