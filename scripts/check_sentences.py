#!/usr/bin/env python3
"""What people read: the sentences and comments of the sources, the documents and the headers.

    scripts/check_sentences.py          says which words nobody knows, and which sentences of the
                                        library would name a function of C in a shell
    scripts/check_sentences.py --list   prints every sentence of src/, cli/ and server/

SPDX-License-Identifier: Apache-2.0
"""
import re
import sys

from tree import files, read

TERMS = "cli/cli_terms.c"

# What only this project would call so, and the word that everybody knows.
BANNED = {
    r"open (dimension|input|shape|batch)s?": "dynamic dimension",
    r"(dimension|input|shape|batch)s? (that )?(is|are) open\b": "is dynamic",
    r"leaves? (a dimension|it) open": "is dynamic",
    r"inner tensors?": "intermediate tensor",
    r"inner graphs?": "subgraph",
    r"(most )?usual shapes?": "opt shape",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bheld against\b": "compared with",
    r"\btwins?\b": "counterpart",
    r"\brooms\b": "modules",
    r"\broom of `?src": "module",
    r"the other way round": "transposed, or in the other order",
    r"matrices turned|turned matri": "transposed weights",
    r"was (not )?understood": "what failed, or wrong use",
    r"which the caller names": "the variable or option that names it",
    r"makes? no sense": "what is allowed",
    r"\bstands twice\b": "is given twice",
    r"has no such thing": "what has it",
    r"do(es)? not fit (each other|queries and keys|the (input|data|operands|axes|signal|cache|node"
    r"|image|channels|scores|graph))$": "what is needed",
}
# A document may speak so of itself.
ALLOWED = {
    ("docs/onnxruntime.md", "the other way round"),
}

# Functions and constants in sentences that `kiln` cannot bring about: it uses nothing whose name
# begins so.
NOT_USED = (
    "kiln_pipeline_", "kiln_stream_capture", "kiln_pool_", "kiln_network_add_",
    "kiln_network_create", "kiln_network_capture",
    "kiln_engine_create_mock",
    "kiln_set_allocator",
    "kiln_engine_set_weight_streaming", "kiln_context_cancel", "kiln_context_set_profile",
    "kiln_build_start_bytes", "kiln_engine_refit_get",
    "kiln_engine_plan_buffers", "kiln_plugin_get", "kiln_context_save_runtime_cache",
)
# Where such sentences are made.
NOT_REACHED = re.compile(
    r"src/(graph/build_|memory/|stream/|cuda/cuda_(stream|graph|memory)|backends/mock/)")
# And single ones, with the reason.
REASONS = {
    "kiln_context_wait": "kiln lets no run go on that it does not wait for (stop_waiting)",
    "kiln_context_run": "kiln bench runs a context before it measures the library itself",
    "kiln_context_tensor": "kiln binds every input before it runs",
    "kiln_engine_create_": "kiln refuses backends without files by name before",
    "kiln_network_inspect": "kiln inspect asks for nodes before it reads them",
    "kiln_engine_load_bytes": "kiln loads files",
    "kiln_compare_fill": "kiln compare sets no fill",
    "KILN_BY_DTYPE": "an option's number is checked before",
    "kiln_graph_policy": "an option's word is checked before",
    "kiln_build_option_get": "kiln sets options of the library's own list",
    "kiln_build_options_create": "kiln sets options that it made so",
    "kiln_fence": "the name of a kernel",
    "kiln_gather": "the name of a kernel",
    "kiln_bounds": "the name of a kernel",
    "kiln_bins": "the name of a kernel",
    "kiln_rows": "the name of a kernel",
    "kiln_context_options.runtime_cache": "kiln sets no runtime cache, and saves none",
    "kiln_compare": "kiln compare asks for a first difference of files only",
    "kiln_compare_file": "as kiln_compare",
}

TOKEN = re.compile(
    r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\])*\'|\s+|[A-Za-z_]\w*|.', re.S)
NAME = re.compile(r"\b(?:kiln_[a-z0-9_]+(?:\.[a-z_]+)?|KILN_[A-Z0-9_]+)")


# They put the name of the caller's function before a sentence, where a shell leaves it out.
NAMING = {"kln_options_read", "kln_fail_null", "context_enter", "trt_engine_need",
          "module_function"}


def sentences(path):
    """(line, text) of every text of several words, and of names that go into one; adjacent
    literals are one text."""
    found, current, line, call, word = [], None, 1, "", ""
    for token in TOKEN.findall(read(path)):
        call = word if token == "(" else call
        word = token if re.fullmatch(r"[A-Za-z_]\w*", token) else word
        if token.startswith('"') and call in NAMING and NAME.fullmatch(token[1:-1]):
            pass
        elif token.startswith('"'):
            current = current or [line, ""]
            current[1] += token[1:-1]
        elif current and token.startswith("PRI"):
            current[1] += "d"
        elif current and not token.isspace() and not token.startswith("/*"):
            found.append(current)
            current = None
        line += token.count("\n")
    return [(line, text) for line, text in found
            if " " in text.strip() or NAME.fullmatch(text)]


def all_sentences(*folders):
    for path in files():
        if path.startswith(folders) and path.endswith((".c", ".h")):
            for line, text in sentences(path):
                yield path, line, text


def check_words(problems):
    words = [(re.compile(pattern, re.I), better) for pattern, better in BANNED.items()]
    texts = list(all_sentences("src/", "cli/", "server/", "examples/"))
    for path in files():
        if path.endswith(".md") or path.startswith(("include/kiln/", "src/", "cli/", "server/",
                                                    "bench/", "tests/unit/")):
            # A phrase may go over the end of a line, and a comment's line begins with a star.
            text = re.sub(r"\n( \*)?", " ", read(path))
            texts.append((path, 0, text))
    for path, line, text in texts:
        for word, better in words:
            for match in word.finditer(text):
                if (path, match.group().lower()) not in ALLOWED:
                    around = text[max(0, match.start() - 30):match.end() + 30]
                    problems.append(f"{path}:{line or ''} \"{match.group()}\" in "
                                    f"\"...{around}...\": say {better}")
    return len(texts)


def table(name):
    body = re.search(rf"static const term {name}\[\] = \{{(.*?)\n\}};", read(TERMS), re.S).group(1)
    return re.findall(r'\{"([^"]+)",\s*"([^"]*)"\}', body)


def check_shell(problems):
    advice, members = table("advice"), table("members")
    variables = set(re.findall(r"`(KILN_\w+)`", read("docs/env_vars.md")))
    library = [entry for entry in all_sentences("src/")]
    cli = "\n".join(read(path) for path in files() if re.fullmatch(r"cli/cli_\w+\.c", path)
                    and path != TERMS)
    for path, line, text in library:
        if NOT_REACHED.match(path):
            continue
        rest = re.sub(r"\bkiln_\w+: ", "", text)
        rest = re.sub(r'^kiln_\w+$', "", rest) if path.endswith(".h") else rest
        for phrase, _ in advice:
            rest = rest.replace(phrase, "")
        for name in NAME.findall(rest):
            if name in variables or name in REASONS or name.startswith(NOT_USED):
                continue
            problems.append(f"{path}:{line} \"{name}\" would be shown in a shell: put what does it "
                            f"there into {TERMS}")
    for prefix in NOT_USED:
        if prefix.startswith("kiln_") and re.search(rf"\b{prefix}\w*\(", cli):
            problems.append(f"kiln uses {prefix}*, and scripts/check_sentences.py says it does not")
    said = "\n".join(text for _, _, text in library)
    for phrase, _ in advice:
        if phrase not in said and not re.fullmatch(r"kiln_\w+: ", phrase):
            problems.append(f"{TERMS}: no sentence says \"{phrase}\"")
    structs = read("include/kiln/context.h") + read("include/kiln/build_options.inc")
    for member, _ in members:
        if not re.search(rf"[ *]{member}\b[^;()]*[;,]", structs):
            problems.append(f"{TERMS}: no option of the library is called {member}")
    flags = cli + re.sub(r"(?:CLI|TRTEXEC)\([^,]*, ", "{", read("include/kiln/build_options.inc"))
    shells = [shell for _, shell in advice] + ["--" + shell for _, shell in members]
    for shell in shells:
        for option in re.findall(r"--([a-z0-9-]+)", shell):
            if not re.search(rf'\{{"{option}",', flags):
                problems.append(f"{TERMS}: kiln has no option --{option}")


# Behind a number, but not what is counted.
NOT_COUNTED = {"captures", "comes", "does", "gives", "goes", "has", "is", "its", "lies", "ms",
               "needs", "others", "reaches", "takes", "this", "was", "weights"}


# Sentences of the command with a number that is more than 1.
NEVER_ONE = {("cli/cli_inspect.c", "bytes"), ("cli/cli_memory.c", "bytes"),
             ("cli/cli_run.c", "runs"), ("cli/cli_serve.c", "files"),
             ("cli/cli_serve.c", "connections"),
             ("cli/cli_sweep.c", "contexts")}


# Plurals of src/base/agree.c that are verbs too.
VERBS = {"ends", "lines", "passes", "places", "points", "repeats", "runs", "starts", "steps"}


def check_counts(problems):
    """A number that may be 1 stands before a word that src/base/agree.c puts into the singular."""
    nouns = dict(re.findall(r'\{"(\w+)", "(\w+)"\}', read("src/base/agree.c")))
    counted = set(nouns)
    numbered = rf"\b(?:character|{'|'.join(nouns.values())}) %(?:zu|d|lld|u|llu) ([a-z]+s)\b"
    for path, line, text in all_sentences("src/", "server/"):
        for word in re.findall(r"%(?:zu|d|lld|u|llu) ([a-z]+s)\b", text):
            if word not in counted | NOT_COUNTED:
                problems.append(f"{path}:{line} counts \"{word}\": src/base/agree.c lacks its "
                                "singular")
        # "string 1 ends" is a verb behind the number of one string.
        for word in VERBS.intersection(re.findall(numbered, text)):
            problems.append(f"{path}:{line} says \"{word}\" of a thing with a number, which "
                            "src/base/agree.c takes for what is counted: use another verb")
    for path, line, text in all_sentences("cli/"):
        # Behind "of" a number is all there are, and behind a limit never 1.
        counts = re.findall(r"(\b\w+ |^|\W)%(?:zu|d|lld|u|llu) (?:\w+ )?([a-z]+s)\b(?!%)", text)
        for before, word in counts:
            if word in counted and before.strip() not in ("of", "than", "are") and \
                    (path, word) not in NEVER_ONE:
                problems.append(f"{path}:{line} counts \"{word}\": write it with CLI_S")


def main():
    if sys.argv[1:] == ["--list"]:
        for path, line, text in all_sentences("src/", "cli/", "server/"):
            print(f"{path}:{line}: {text}")
        return 0
    problems = []
    count = check_words(problems)
    check_shell(problems)
    check_counts(problems)
    print("\n".join(problems) if problems else f"{count} sentences and pages")
    return 1 if problems else 0


sys.exit(main())
