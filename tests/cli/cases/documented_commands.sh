# SPDX-License-Identifier: Apache-2.0
# Every command line of `kiln` in the documents, the headers and the program's own examples has
# options that the command knows.
"$python" - "$kiln_program" "$(dirname "$script")/../../.." <<'P'
import glob, re, subprocess, sys

program, top = sys.argv[1:]
helps, seen, wrong = {}, 0, []


def options(command):
    if command not in helps:
        text = subprocess.run([program, command, "--help"], capture_output=True, text=True).stdout
        helps[command] = set(re.findall(r"(?<![\w-])(--?[A-Za-z][\w-]*)", text))
    return helps[command]


def lines(path):
    """What follows `kiln` in a block of code, between backticks, and in a continued line."""
    text = open(path, encoding="utf-8").read().replace("\\\n", " ")
    yield from re.findall(r"^[ $*/#]*kiln ([a-z]+\b[^\n|#]*)", text, re.M)
    yield from re.findall(r"`kiln ([a-z]+\b[^`]*)`", text)
    if path.endswith(".c"):  # what other tools' options are called here
        for string in re.findall(r'"(kiln [^"]*)"', text):
            yield from re.findall(r"kiln ([a-z]+(?:(?! kiln ).)*)", string)


commands = re.findall(r"^  ([a-z]+) ", subprocess.run([program, "help"], capture_output=True,
                                                      text=True).stdout, re.M)
ends = ("/docs/*.md", "/docs/*/*.md", "/*.md", "/include/kiln/*.h", "/cli/cli_counterparts.c")
paths = [path for end in ends for path in glob.glob(top + end)]
for path in sorted(paths):
    for line in lines(path):
        command = line.split()[0].rstrip(",")
        if command not in commands:
            continue
        seen += 1
        for option in re.findall(r"(?<=\s)(--?[A-Za-z][\w-]*)", re.sub(r"'[^']*'", "", line)):
            # docs/tensorrt.md shows what is said to trtexec's own name.
            if option not in options(command) and option != "--minShapes":
                wrong.append(f"{path[len(top) + 1:]}: kiln {line}: {option}")
print("\n".join(wrong) or "all options are known")
assert seen > 40, seen
P
