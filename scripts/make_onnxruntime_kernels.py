#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes src/backends/onnxruntime/ort_kernels_*.inc: for which types ONNX Runtime's CPU provider
runs each operator, as the installed onnxruntime package lists its kernels. Of an operator that ONNX
defines as a function, ONNX Runtime runs the function where it has no kernel; whether that has
kernels for all that it is made of is tried, with models of tests/operators.

    make_onnxruntime_kernels.py [--check]

--check: writes nothing, and ends with 1 where the files have not the kernels that are listed; what
was tried is left out, which takes long."""
import collections
import itertools
import pathlib
import sys

import numpy as np
import onnx.defs
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "operators"))
sys.path.insert(0, str(HERE))
import random_operators  # noqa: E402,F401  pylint: disable=unused-import,wrong-import-position
from generate import (  # noqa: E402  pylint: disable=wrong-import-position
    Case, Draw, GENERATORS, NAMES, Unfit, first_version)
from make_op_table import (  # noqa: E402  pylint: disable=wrong-import-position
    LETTERS, OWN, own_schemas, type_of)

FOLDER = HERE.parent / "src" / "backends" / "onnxruntime"
FILES = (("ort_kernels_a_g.inc", "A", "G"), ("ort_kernels_h_q.inc", "H", "Q"),
         ("ort_kernels_r_z.inc", "R", "Z"))
# The newest operator sets that ONNX Runtime takes.
NEWEST = {"": 26, "ai.onnx.ml": 5}
NO_END = 2**31 - 1
SAME = {"CastLike": "Cast"}
BOOL = "tensor(bool)"
INTEGERS = frozenset(f"tensor({sign}int{bits})" for sign in ("", "u") for bits in (8, 16, 32, 64))
DRAWS = 30
TRIES = 30
SCHEMAS = [s for s in onnx.defs.get_all_schemas_with_history() if s.domain in NEWEST]
OWN_SCHEMAS = {s.name: s for s in own_schemas("", OWN)}
onnxruntime.set_default_logger_severity(4)


def schema_of(op, opset, domain):
    return OWN_SCHEMAS[op] if op in OWN_SCHEMAS else onnx.defs.get_schema(op, opset, domain)


def letters(names):
    """Those of plain tensors, then those of sequences behind a /, as in the operator table."""
    groups = ["".join(c for n, c in LETTERS.items() if form % n in names)
              for form in ("tensor(%s)", "seq(tensor(%s))")]
    return "/".join(groups).rstrip("/")


def takes(kernel, since):
    """As ONNX Runtime matches a kernel's versions with the one that a node's form is from."""
    first, last = kernel.version_range
    return first == since or (first < since <= last and last != NO_END)


def variables_of(schema):
    """The type variables, and formal parameters that a kernel may name instead."""
    names = {t.type_param_str: t.type_param_str for t in schema.type_constraints}
    for formal in list(schema.inputs) + list(schema.outputs):
        if type_of(formal) in names:
            names.setdefault(formal.name, type_of(formal))
    return names


def since_of(schema):
    """The version of the operator whose kernels they are."""
    name = SAME.get(schema.name, schema.name)
    return schema_of(name, schema.since_version, schema.domain).since_version


def kernel_terms(schema, kernels):
    names, found = variables_of(schema), []
    # What is a function of another operator alone has its kernels.
    for kernel in kernels[schema.domain, SAME.get(schema.name, schema.name)]:
        if takes(kernel, since_of(schema)):
            term = {}
            for name, types in kernel.type_constraints.items():
                if name in names:
                    term[names[name]] = frozenset(types)
            found.append(term)
    return found


def bound_types(case, schema):
    """The type of each variable in a model, sorted by name."""
    node = next(n for n in case.nodes if n.op_type == case.op)
    types = {**case.types, **dict(case.outputs)}
    bound = {}
    for formals, names in ((schema.inputs, node.input), (schema.outputs, node.output)):
        for i, name in enumerate(names):
            formal = formals[min(i, len(formals) - 1)]
            if name in types and "(" not in formal.type_str:
                kind = onnx.TensorProto.DataType.Name(types[name]).lower()
                bound[formal.type_str] = f"tensor({kind})"
    return tuple(sorted(bound.items()))


def builds(case):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(case.model().SerializeToString(), options,
                                     providers=["CPUExecutionProvider"])
        return True
    except Exception:  # pylint: disable=broad-except
        return False


class Directed(Draw):
    """A model of one operator set, and of one type wherever it may be."""

    def __init__(self, op, opset, wanted, number):
        super().__init__(1, number, op)
        self.wanted = wanted
        self.opset = opset
        self.schema = onnx.defs.get_schema(op, opset, "")
        self.since = self.schema.since_version
        self.case = Case(op, opset)

    def dtype(self, index=0, among=None):
        types = [t for t in self.allowed(index) if among is None or t in among]
        return self.wanted if self.wanted in types and self.chance(0.7) else self.pick(types)


def tried_types(op, opset):
    """The types that ONNX Runtime builds: of each model that was tried, or, where none of those in
    between failed, any of each variable."""
    tries, works = collections.Counter(), set()
    schema = onnx.defs.get_schema(op, opset, "")
    for wanted, number in itertools.product(sorted(NAMES.values()), range(DRAWS)):
        try:
            case = GENERATORS[op](Directed(op, opset, wanted, number))
        except Unfit:
            continue
        bound = bound_types(case, schema)
        if tries[bound] < TRIES and bound not in works:
            tries[bound] += 1
            if builds(case):
                works.add(bound)
    among = collections.defaultdict(set)
    for name, kind in itertools.chain(*works):
        among[name].add(kind)
    if any(all(kind in among[name] for name, kind in bound) for bound in set(tries) - works):
        return [{name: frozenset([kind]) for name, kind in bound} for bound in works]
    return [{name: frozenset(kinds) for name, kinds in among.items()}] if works else []


def tried_terms(op):
    """{operator set: terms} of a function."""
    found = {}
    for opset in range(max(first_version(op), 7), NEWEST[""] + 1):
        if not onnx.defs.get_schema(op, opset, "").deprecated:
            found[opset] = tried_types(op, opset)
    return found


def merged(terms):
    """Fewer terms that say the same: two that differ in one variable become one."""
    terms = [dict(t) for t in
             sorted(terms, key=lambda t: sorted((k, sorted(v)) for k, v in t.items()))]
    again = True
    while again:
        again = False
        for a, b in itertools.combinations(terms, 2):
            if set(a) != set(b):
                continue
            apart = [name for name in a if a[name] != b[name]]
            if len(apart) < 2:
                for name in apart:
                    a[name] = a[name] | b[name]
                terms.remove(b)
                again = True
                break
    return terms


def texts(terms):
    return sorted({" ".join(f"{name}={letters(kinds)}" for name, kinds in sorted(term.items()))
                   for term in merged(terms)})


def is_function(op):
    return any(s.name == op and (s.has_function or s.has_context_dependent_function)
               for s in SCHEMAS) and op not in SAME


def rows_of(domain, op, kernels):
    """(first operator set, last, types) of one operator."""
    tried = tried_terms(op) if is_function(op) and op in GENERATORS else {}
    rows = []
    for opset in range(1, NEWEST[domain] + 1):
        try:
            schema = schema_of(op, opset, domain)
        except onnx.defs.SchemaError:
            continue
        if schema.deprecated:
            continue
        terms = kernel_terms(schema, kernels) + tried.get(opset, [])
        for term in terms:
            # A mask of integers is one of truth values there.
            if op == "Attention" and BOOL in term.get("U", ()):
                term["U"] = term["U"] | INTEGERS
        for text in texts(terms):
            for row in rows:
                if row[1] == opset - 1 and row[2] == text:
                    row[1] = opset
                    break
            else:
                rows.append([opset, opset, text])
    return rows


def lines():
    kernels = collections.defaultdict(list)
    for kernel in onnxruntime_pybind11_state.get_all_opkernel_def():
        kernels[kernel.domain, kernel.op_name].append(kernel)
    for domain in sorted(NEWEST):
        own = set(OWN) if domain == "" else set()
        for op in sorted({s.name for s in SCHEMAS if s.domain == domain} | own):
            if "--check" in sys.argv and is_function(op):
                continue
            for first, last, types in rows_of(domain, op, kernels):
                end = "INT_MAX" if last == NEWEST[domain] else last
                function = "true" if is_function(op) else "false"
                yield op[0], (f'    {{"{domain}", "{op}", {first}, {end}, "{types}", '
                              f'{function}}},\n')


def main():
    np.seterr(all="ignore")
    made = list(lines())
    if "--check" in sys.argv:
        there = [line for name, _, _ in FILES
                 for line in (FOLDER / name).read_text(encoding="utf-8").splitlines(True)]
        listed = [line for line in there if ", false}" in line]
        if sorted(listed) != sorted(line for _, line in made):
            print(f"the files are not what ONNX Runtime {onnxruntime.__version__} lists")
            return 1
        return 0
    for name, first, last in FILES:
        text = ("/* Written by scripts/make_onnxruntime_kernels.py.\n"
                " * SPDX-License-Identifier: Apache-2.0 */\n")
        text += "".join(line for letter, line in made if first <= letter <= last)
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
