"""The files of the tree, for the gates.

SPDX-License-Identifier: Apache-2.0
"""
import functools
import os
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@functools.cache
def every():
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True,
                         capture_output=True, text=True).stdout
    return [path for path in sorted(out.splitlines()) if os.path.isfile(os.path.join(ROOT, path))]


def files(*endings, under=""):
    """Paths from the root, sorted, of what git does not ignore."""
    return [path for path in every() if path.endswith(endings or "") and path.startswith(under)]


@functools.cache
def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()
