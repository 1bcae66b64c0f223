#!/usr/bin/env python3
"""What Doxygen reads in place of a file (docs/Doxyfile).

The headers' comments are plain C comments: it wants marks of its own on those that tell of a file,
stand before a declaration or behind a member, and the members of kiln_build_options, which are rows
of another file. Headings of documents get the names that links use.

    scripts/doxygen_filter.py FILE

SPDX-License-Identifier: Apache-2.0
"""
import os
import re
import sys


def rows(text):
    """(comment, arguments) of each row of build_options.inc."""
    found = re.findall(r"(?:^/\*((?:(?!\*/).)*)\*/\n)?^KILN_OPTION((?:_LIST)?)\((.*?)\)\n"
                       r"(?=\n|/\*|KILN|#|$)", text, re.S | re.M)
    for comment, is_list, arguments in found:
        told = re.search(r'(?:"(?:[^"\\]|\\.)*"\s*)+$', arguments)
        help_text = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', told[0])) if told else ""
        fields = [field.strip() for field in arguments.split(",")]
        yield " ".join(comment.split()).replace(" * ", " "), bool(is_list), fields, help_text


def member(comment, is_list, fields, help_text):
    type_, name = fields[1], fields[2]
    told = comment or re.sub(r"\\(.)", r"\1", help_text)
    lines = [f"/** {told} */", f"{type_} {'*' if is_list else ''}{name};"]
    return lines + [f"/** Of `{name}`. */", f"size_t {fields[3]};"] if is_list else lines


def options(text, folder):
    with open(os.path.join(folder, "build_options.inc"), encoding="utf-8") as file:
        members = [line for row in rows(file.read()) for line in member(*row)]
    return re.sub(r"^#define KILN_OPTION\(.*?^#include <kiln/build_options.inc>$",
                  lambda _: "\n".join(members), text, flags=re.S | re.M)


def header(text):
    text = re.sub(r"\A/\*\n \* (\w+\.h) - ", r"/** @file\n * ", text)
    text = re.sub(r"^( *)/\* (?!---)", r"\1/** ", text, flags=re.M)
    text = re.sub(r"^/\*$", "/**", text, flags=re.M)
    return re.sub(r"([^ /*\n][^\n]*[^ \n]) +/\* ", r"\1 /**< ", text)


def slug(heading):
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def document(text, page):
    parts = re.split(r"(^```.*?^```$)", text, flags=re.S | re.M)
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"^(##+ (.*))$", lambda m: f"{m[1]} {{#{page}_{slug(m[2])}}}", parts[i],
                          flags=re.M)
        parts[i] = re.sub(r"\]\((?:[\w./]*?(\w+)\.md)?#([\w-]+)\)",
                          lambda m: f"](#{m[1] or page}_{m[2]})", parts[i])
        # Folders and files that are no page.
        parts[i] = re.sub(r"\[([^]]*)\]\((?!#|https?:)(?![^)]*\.(?:md|svg)\))[^)]*\)", r"\1",
                          parts[i])
    return "".join(parts)


def main():
    path = sys.argv[1]
    with open(path, encoding="utf-8") as file:
        text = file.read()
    name = os.path.basename(path)
    if name == "options.h":
        text = options(text, os.path.dirname(path))
    sys.stdout.write(header(text) if name.endswith(".h") else
                     document(text, os.path.splitext(name)[0]))


main()
