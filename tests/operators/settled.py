# SPDX-License-Identifier: Apache-2.0
"""Where the others do not agree with Kiln, and the specification's text says why."""

RULES = []


def find(case, kind, detail, answer, theirs, reference):
    """The reason that settles a difference, or None."""
    for operators, kinds, applies, reason in RULES:
        if (operators is None or case.op in operators) and kind in kinds and \
                applies(case, detail, answer, theirs, reference):
            return reason
    return None
