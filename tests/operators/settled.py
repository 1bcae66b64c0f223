# SPDX-License-Identifier: Apache-2.0
"""Where another executor does not agree with Kiln, and why Kiln does as it does.

    settled.py [--update] DOCUMENT

A rule settles differences of certain operators from one of the others, where its condition holds
for the model (attributes, types, shapes, values) and, where it has one, for the elements that are
not the same: each of them must be settled by some rule. A rule of "onnxruntime" or "reference"
counts only where somebody else - the definition worked out by definitions.py, or the other one -
agrees with Kiln; "open" rules are for what the specification leaves open. The document,
docs/differences.md, lists the rules; as a program this holds it to that."""
import pathlib
import re
import sys
import textwrap

import numpy as np

ORT, REF, OPEN = "onnxruntime", "reference", "open"
TITLES = {OPEN: "Left open by the specification",
          ORT: "ONNX Runtime, where onnx.reference or the definition agrees with Kiln",
          REF: "onnx.reference, where ONNX Runtime or the definition agrees with Kiln"}
RULES = []


class Rule:
    def __init__(self, who, operators, where, reason, model, elements):
        self.who, self.operators, self.where, self.reason = who, operators, where, reason
        self.model, self.elements = model, elements

    def fits(self, case):
        return case.op in self.operators and bool(self.model(case))

    def speaks_of(self, kind):
        return self.who == OPEN or kind == self.who

    def covers(self, case, detail):
        """True, or a mask of the elements that it settles."""
        if self.elements is None:
            return np.True_
        if detail.wrong is None:
            return np.False_
        return np.asarray(self.elements(case, detail))

    def __str__(self):
        names = ", ".join(sorted(self.operators))
        return f"{names}: {self.where}: {self.reason}"


def rule(who, names, where, reason, model=lambda case: True, elements=None):
    """`where`: the condition in words; `model(case)`, `elements(case, difference)`: in code."""
    RULES.append(Rule(who, set(names.split()), where, reason, model, elements))


def fitting(case):
    """The numbers of the rules whose condition on the model holds."""
    return [number for number, one in enumerate(RULES) if one.fits(case)]


def find(numbers, case, kind, detail):
    """Those of the rules `numbers` that settle a difference together; none where they do not."""
    if kind.split()[0] not in (ORT, REF, "definition"):
        return []
    used, rest = [], np.True_ if detail.wrong is None else detail.wrong
    for number in numbers:
        if RULES[number].speaks_of(kind):
            left = rest & ~RULES[number].covers(case, detail)
            if left.sum() < rest.sum():
                used.append(number)
            rest = left
    return [] if rest.any() else used


# --- the document ---

BEGIN, END = "<!-- settled: tests/operators/settled.py -->", "<!-- end -->"


def listed():
    """The rules as lists in Markdown, in their order."""
    lines = []
    for who, title in TITLES.items():
        lines += ["", f"### {title}", ""]
        for one in RULES:
            if one.who == who:
                lines += textwrap.wrap(f"- {one}.", 112, subsequent_indent="  ",
                                       break_on_hyphens=False, break_long_words=False)
    return "\n".join(lines[1:])


def main():
    path = pathlib.Path(sys.argv[-1])
    text = path.read_text(encoding="utf-8")
    wanted = f"{BEGIN}\n{listed()}\n{END}"
    now = re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: wanted, text, flags=re.S)
    if "--update" in sys.argv:
        path.write_text(now, encoding="utf-8")
    elif now != text or BEGIN not in text:
        print(f"{path} does not list the rules of settled.py; settled.py --update {path}")
        return 1
    return 0


if __name__ == "__main__":
    sys.modules["settled"] = sys.modules["__main__"]
    import settled_rules  # noqa: F401  pylint: disable=unused-import
    sys.exit(main())
