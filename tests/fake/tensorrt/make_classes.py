#!/usr/bin/env python3
"""Makes the C++ classes of the stand-in for TensorRT from its table of virtual methods.

    make_classes.py VTABLES.TSV OUT.H

Each layout is a namespace (layout0 to layout3) with the classes as a compiler lays them out:
virtual methods in the order of their slots. Classes that the stand-in plays are templates over a
body, to which they hand each call that it has; classes that the caller plays are abstract, with a
function for each method that picks the layout.

SPDX-License-Identifier: Apache-2.0
"""
import re
import sys

PLAYED_BY_CALLER = {"ILogger", "IErrorRecorder", "IProgressMonitor", "IGpuAllocator",
                    "IOutputAllocator", "IProfiler", "IStreamReader", "IStreamReaderV2",
                    "IStreamWriter"}
LAYOUTS = 4
PLAIN = {"void", "bool", "int32_t", "int64_t", "uint32_t", "uint64_t", "size_t", "float", "int"}
UNSIGNED = re.compile(r"(Flags|TacticSources|TensorFormats)$")


def type_of(text, is_result=False):
    """The C++ type that crosses the interface in the same way."""
    text = text.replace("nvinfer1::", "").replace("nvonnxparser::", "").replace("std::", "")
    text = text.replace("v_1_0::", "").replace("*const", "*").strip()
    bare = text.replace("const", "").replace(" ", "")
    if bare in PLAIN:
        return bare
    if bare in ("char*", "AsciiChar*", "IErrorRecorder::ErrorDesc"):
        return "const char *"
    if bare in ("char**", "char*[]"):
        return "const char **"
    if bare in ("Dims", "Weights", "InterfaceInfo"):
        return bare
    if bare == "Dims&":
        return "const Dims *"
    match = re.match(r"^(int32_t|int64_t|uint64_t|size_t)[*&]$", bare)
    if match:
        return ("const " if is_result else "") + match.group(1) + " *"
    if bare.endswith("**") or bare.endswith("*[]"):
        return "void **"
    if bare.endswith(("*", "&")) or bare in ("cudaStream_t", "cudaEvent_t",
                                             "IPluginRegistry::PluginLibraryHandle"):
        return "void *"
    if bare == "TimingCacheValue":
        return "int64_t"
    return "uint32_t" if UNSIGNED.search(bare) else "int32_t"


def version_of(text):
    """As getInferLibVersion counts: 10.13 is 101300."""
    major, minor = (int(part) for part in text.split(".")[:2])
    return major * 10000 + minor * 100


def read(path):
    classes = {}
    for line in open(path, encoding="utf-8"):
        cells = line.rstrip("\n").split("\t")
        if line.startswith("#") or len(cells) < 5:
            continue
        cells += [""] * (12 - len(cells))
        inner = cells[2].strip("()").strip()
        method = {"name": cells[1], "result": type_of(cells[3] or "void", True),
                  "arguments": [type_of(a) for a in inner.split(",")] if inner else [],
                  "slots": [(int(cells[4 + 2 * i]), version_of(cells[5 + 2 * i]))
                            if cells[4 + 2 * i] else None for i in range(LAYOUTS)]}
        others = classes.setdefault(cells[0], [])
        if any(o["name"] == method["name"] and o["arguments"] == method["arguments"]
               for o in others) and not method["name"].startswith("~"):
            method["name"] += "Old"  # overloads that differ in the class of a reference
        others.append(method)
    return classes


def parameters(method):
    return ", ".join(f"{t}{'' if t.endswith('*') else ' '}a{i}"
                     for i, t in enumerate(method["arguments"]))


def forwarded(name, method, slot, since):
    """A method that hands its call to the body, if that has it."""
    result, own = method["result"], method["name"]
    arguments = ", ".join(f"a{i}" for i in range(len(method["arguments"])))
    call = f"body->{own}({arguments})"
    enters = f'entered<R>(body, "{name}", "{own}", {since})'
    lines = [f"    virtual {result} {own}({parameters(method)})", "    {",
             f"        using R = {result};",
             f"        if constexpr (requires {{ {call}; }}) {{"]
    if result == "void":
        lines.append(f"            if ({enters}) {{ {call}; }}")
    else:
        lines.append(f"            return {enters} ? static_cast<R>({call}) : refused<R>();")
    lines.append("        } else {")
    lines += [f"            (void)a{i};" for i in range(len(method["arguments"]))]
    lines.append(f'            stray("{name}", "{own}", {slot});')
    lines += [] if result == "void" else ["            return R();"]
    return lines + ["        }", "    }"]


def played(name, by_slot):
    lines = ["template <class B>", f"struct {name} {{"]
    for slot in range(max(by_slot) + 1):
        method, since = by_slot.get(slot, (None, 0))
        if method is None:
            lines.append(f'    virtual void gap{slot}() {{ stray("{name}", "gap", {slot}); }}')
        elif method["name"] == "~D1":
            lines.append(f"    virtual ~{name}() {{ dropped(body); }}")
        elif method["name"] != "~D0":
            lines += forwarded(name, method, slot, since)
    return lines + ["    B *body;", "};"]


def abstract(name, by_slot):
    lines = [f"struct {name} {{"]
    for slot in range(max(by_slot) + 1):
        method, _ = by_slot.get(slot, (None, 0))
        if method is None:
            lines.append(f"    virtual void gap{slot}() = 0;")
        elif method["name"] == "~D1":
            lines.append(f"    virtual ~{name}() = default;")
        elif method["name"] != "~D0":
            lines.append(f"    virtual {method['result']} {method['name']}"
                         f"({parameters(method)}) = 0;")
    return lines + ["};"]


def dispatch(name, method):
    arguments = ", ".join(f"a{i}" for i in range(len(method["arguments"])))
    rest = parameters(method)
    lines = [f"inline {method['result']} {name}_{method['name']}(int layout, void *self"
             f"{', ' + rest if rest else ''})", "{", "    switch (layout) {"]
    for layout, cell in enumerate(method["slots"]):
        if cell is not None:
            lines.append(f"    case {layout}: return static_cast<layout{layout}::{name} *>(self)"
                         f"->{method['name']}({arguments});")
    lines += ["    default: break;", "    }"]
    lines += [f"    (void)a{i};" for i in range(len(method["arguments"]))]
    lines += [f'    stray("{name}", "{method["name"]}", layout);']
    if method["result"] != "void":
        lines += [f"    using R = {method['result']};", "    return R();"]
    return lines + ["}"]


def maker(name, layouts):
    lines = ["template <class B>", f"void *make_{name}(int layout, B *body)", "{",
             "    switch (layout) {"]
    for layout in layouts:
        lines.append(f"    case {layout}: {{ auto made = new layout{layout}::{name}<B>; "
                     f"made->body = body; return made; }}")
    return lines + ["    default: return nullptr;", "    }", "}"]


def main():
    classes = read(sys.argv[1])
    out = ["/* Made by make_classes.py. SPDX-License-Identifier: Apache-2.0 */"]
    present = {}
    for layout in range(LAYOUTS):
        out.append(f"namespace layout{layout} {{")
        for name, methods in classes.items():
            by_slot = {m["slots"][layout][0]: (m, m["slots"][layout][1])
                       for m in methods if m["slots"][layout] is not None}
            if by_slot:
                present.setdefault(name, []).append(layout)
                out += (abstract if name in PLAYED_BY_CALLER else played)(name, by_slot)
        out.append("}")
    for name, methods in classes.items():
        if name in PLAYED_BY_CALLER:
            for method in methods:
                if not method["name"].startswith("~"):
                    out += dispatch(name, method)
        else:
            out += maker(name, present[name])
    with open(sys.argv[2], "w", encoding="utf-8") as to:
        to.write("\n".join(out) + "\n")


main()
