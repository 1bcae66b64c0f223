#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What src/, cli/, server/ and bench/ define and nothing needs.

    check_unused.py

Functions and variables in headers, macros and enumerators, and the rows of trt_slots.inc and
trt_values.inc: each is named once more than it is declared and defined, or has a reason below.
What include/ declares is for others.
"""
import collections
import re
import sys

from tree import files, read

# A pattern of names: why they stay.
REASONS = {
    r"ORT_(CODE|LEVEL|MODE)_\w+|CU_INVALID_VALUE|KLN_WIRE_\w+": "numbered by others, in one piece",
    r"KLN_(FIELD_\w+|\w+_NONE)|TRT_LAYOUT_\w+|CHANGES\w*|MOVES\w*|\w+_(COUNT|KINDS)":
        "counted, not named",
    r"XXH_\w+|PBTXT_C_\w+|kln_fold_none|kln_layout_\w+": "read by a header or by a macro",
    r"ref_kernel_(count|get)|kln_(cuda_close|library_set_version|node_is_call)": "for tests",
}
# A string may have what begins a comment in it.
COMMENT = re.compile(r'("(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\')|/\*.*?\*/', re.S)
WORD = re.compile(r"[A-Za-z_]\w*")
ROWS = "src/backends/tensorrt/trt_slots.inc", "src/backends/tensorrt/trt_values.inc"


def texts(*trees):
    return {path: COMMENT.sub(lambda found: found[1] or " ", read(path))
            for path in files(".c", ".h", ".inc")
            if path.startswith(tuple(tree + "/" for tree in trees))}


def defined(name, text):
    """Yields what a file has for others, and how often it is named until then."""
    yield from ((word, 1) for word in re.findall(r"^#\s*define (\w+)", text, re.M))
    for body in re.findall(r"\benum\b[^;{}()]*\{([^}]*)\}", text):
        yield from ((word, 1) for word in re.findall(r"(?:^|,)\s*([A-Z]\w+)\s*(?=,|=|$)", body))
    if name.endswith(".h"):
        function = (r"^(static inline )?(?!typedef|#|return)[A-Za-z][\w\s*]*?\b(\w+)\([^;{}]*\)"
                    r"\s*[;{]")
        yield from ((word, 1 if inline else 2)
                    for inline, word in re.findall(function, text, re.M))
        yield from ((word, 2) for word in re.findall(r"^extern [^;(]*?\b(\w+)[;\[]", text, re.M))


def unused_rows(own, tests):
    text = "\n".join(body for name, body in {**own, **tests}.items() if name not in ROWS)
    common = set(re.findall(r"TRT_PUT\(table, c, (\w+)", text))  # of every class that Kiln plays
    pasted = set(re.findall(r"\(\w+, (\w+)\b", text)) | set(re.findall(r"\b[A-Z]\w*, (\w+)", text))
    words = set(WORD.findall(text))
    for row in ROWS:
        for of, name in re.findall(r"^(?:METHOD|VOID|VALUE)\d?\((\w+), (\w+),", own[row], re.M):
            known = {f"{kind}{of}_{name}" for kind in ("trt_", "TRT_M_", "TRT_V_")} & words
            if not known and name not in common | pasted and name[3:] not in pasted | words:
                yield f"{row}: {of}, {name}"


def main():
    own, tests = texts("src", "cli", "server", "bench"), texts("tests")
    public = set(WORD.findall("\n".join(texts("include").values())))
    uses = collections.Counter(word for text in own.values() for word in WORD.findall(text))
    allowed = re.compile("|".join(f"({pattern})" for pattern in REASONS))
    wrong = [f"{name}: {word}" for name, text in sorted(own.items())
             for word, named in sorted(set(defined(name, text)))
             if uses[word] <= named and word not in public and not allowed.fullmatch(word)]
    wrong += unused_rows(own, tests)
    print("\n".join(f"nothing uses {line}" for line in wrong) or f"{len(own)} files")
    return 1 if wrong else 0


sys.exit(main())
