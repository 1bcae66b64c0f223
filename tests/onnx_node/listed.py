# SPDX-License-Identifier: Apache-2.0
"""Lists of the node models that are not right, and why: node_test.c and tests/gpu/node_models.py.

A line is a pattern (`*` stands for anything) and a reason, with `: ` or a tab between; of those
that fit a name the last decides, and its reason "right" says that the model is right."""
import fnmatch


def read_listed(path, divider="\t"):
    """What tells of a name why it is listed, None where it is not."""
    with open(path, encoding="utf-8") as file:
        rows = [line.rstrip("\n").partition(divider) for line in file
                if line.strip() and not line.startswith("#")]

    def why(name):
        reasons = [reason for pattern, _, reason in rows if fnmatch.fnmatchcase(name, pattern)]
        return reasons[-1] if reasons and reasons[-1] != "right" else None

    return why


def shortest(reasons):
    """As few rows as words from the front allow for {name: reason}, which has the right ones too.
    Models whose operator is expanded into others come last, as they are not like it."""
    rows = []
    plain = {tuple(name.split("_")): why
             for name, why in reasons.items() if "_expanded" not in name}
    others = {tuple(name.replace("_expanded", "").split("_")): (name, why)
              for name, why in reasons.items() if "_expanded" in name}
    for leaves, middle in ((plain, ""), ({k: why for k, (_, why) in others.items()}, "*_expanded")):
        if middle:
            rows.append(("*_expanded*", "right"))
        found = _rows_below(leaves, 0)
        for words, more, why in found.get("right", found[None]):
            name = "_".join(words)
            rows.append((f"{name}{middle}*" if more else others[words][0] if middle else name, why))
    return rows


def _rows_below(leaves, depth):
    """{inherited reason, None for others': rows} of these leaves, of the same first words."""
    begin = next(iter(leaves), ())[:depth]
    below = {}
    for words, why in leaves.items():
        if len(words) > depth:
            below.setdefault(words[depth], {})[words] = why
    parts = [_rows_below(part, depth + 1) for part in below.values()]
    reasons = sorted(set(leaves.values()))

    def under(why):
        own = leaves.get(begin, why)
        rows = [] if own == why else [(begin, False, own)]
        return rows + [row for part in parts for row in part.get(why, part[None])]

    found = {why: under(why) for why in (*reasons, None)}
    if depth:
        best = min(reasons, key=lambda why: len(found[why]))
        instead = [(begin, True, best), *found[best]]
        found = {why: min(rows, instead, key=len) for why, rows in found.items()}
    return found
