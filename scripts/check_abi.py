#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the public headers promise to those who cannot see them: other languages, and programs that
were compiled against an older Kiln.

- A struct that one side fills in memory of the other, and that may grow, begins with struct_size.
  Without it are those that the library alone makes and hands out by pointer to const (so nobody
  has their size), and those of STAY, which have all the members that they will ever have.
- No call takes a struct by value, which not every language can, unless another takes plain
  arguments: kiln_x_bytes(kiln_span, ...) and kiln_x_data(const void *, size_t, ...)."""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# What they are is fixed by what they mean, or they are elements of arrays, which a caller's size
# would not help to walk: what comes later goes into a struct of its own.
STAY = {
    "kiln_span", "kiln_mutable_span", "kiln_shape", "kiln_strides", "kiln_tensor_desc",
    "kiln_tensor", "kiln_named_tensor", "kiln_quantization", "kiln_weights", "kiln_metadata",
    "kiln_block", "kiln_batch_source", "kiln_allocation_counters", "kiln_buffer_request",
    "kiln_buffer_alias", "kiln_profile", "kiln_profile_input", "kiln_shape_hint",
    "kiln_refit_sample", "kiln_binding_quantization", "kiln_scheduler_padding", "kiln_cache_pair",
    "kiln_channel",
}
PLAIN = {"kiln_buffer_write": "kiln_buffer_write_data", "kiln_buffer_read": "kiln_buffer_read_data"}


def main():
    folder = os.path.join(ROOT, "include/kiln")
    text = ""
    for name in sorted(os.listdir(folder)):
        if name.endswith(".h"):
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                text += re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)
    structs = dict(re.findall(r"typedef struct (\w+) \{\s*(.*?)\n\} \1;", text, re.S))
    calls = {match[1]: " ".join(match[2].split())
             for match in re.finditer(r"KILN_API[^;(]*?(\w+)\s*\(([^;]*?)\);", text, re.S)}
    problems = []
    for name, members in structs.items():
        sized = members.startswith("size_t struct_size;")
        taken = [call for call, taken_as in calls.items()
                 if re.search(rf"\b{name} \*(?!\*)", taken_as)]
        embedded = re.findall(rf"^ *(?:const )?{name} \*?\w+;", text, re.M)
        if sized and name in STAY:
            problems.append(f"{name} has struct_size, so it is none of STAY")
        if not sized and name not in STAY and (taken or embedded):
            problems.append(f"{name} has no struct_size, but {(taken or embedded)[0].strip()}")
    problems += [f"STAY has {name}, which is no struct" for name in STAY - set(structs)]
    for call, arguments in calls.items():
        by_value = [words for words in arguments.split(", ")
                    if words.removeprefix("const ").split(" ")[0] in structs and "*" not in words
                    and "[" not in words]
        plain = PLAIN.get(call, call.replace("_bytes", "_data"))
        if by_value and (plain == call or plain not in calls):
            problems.append(f"{call} takes {by_value[0]} by value, and no call takes it apart")
    for problem in problems:
        print(problem)
    if not problems:
        print(f"{len(structs)} structs, {len(calls)} calls")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
