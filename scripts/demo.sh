#!/bin/bash
# Runs the examples on real models and real input.
#
#     scripts/demo.sh BUILD [PICTURE.png]
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/release}
examples=$PWD/$build/examples

echo "What kind of file is this? (examples/01_identify_files.c, Google's model magika)"
"$examples/01_identify_files" README.md Makefile examples/01_identify_files.c LICENSE \
    "$build/src/libkiln.so"
echo
if [ ! -x "$examples/02_read_text" ]; then
    echo "02_read_text was not built: it needs cairo (scripts/install_deps.sh demo)"
    exit 1
fi
mkdir -p build/demo
echo "What does this picture say? (examples/02_read_text.c, the models of PP-OCRv4)"
"$examples/02_read_text" "${2:--}" build/demo/read_text.png
