#!/bin/bash
# Every gate, each a script of its own, one line each; what a failing one printed follows it.
#
#     scripts/check.sh [--changed] [GATE...]
#
#   --changed   clang-tidy looks at files that differ from the branch main only
#   GATE        format style sentences includes unused docs headers compilers symbols needed
#               cppcheck tidy; without one, all
#
# SPDX-License-Identifier: Apache-2.0
set -uo pipefail
cd "$(dirname "$0")/.."
changed=
if [ "${1:-}" = --changed ]; then
    changed=--changed
    shift
fi
failed=()

gate() { # NAME COMMAND...
    local name=$1 begin=$SECONDS output
    shift
    case " ${gates:-$name} " in *" $name "*) ;; *) return ;; esac
    if output=$("$@" 2>&1); then
        printf 'pass  %-10s %3d s  %s\n' "$name" $((SECONDS - begin)) "$(tail -n 1 <<< "$output")"
    else
        printf 'FAIL  %-10s %3d s\n%s\n' "$name" $((SECONDS - begin)) "$output"
        failed+=("$name")
    fi
}

gates=$*
gate format scripts/check_format.sh
gate style scripts/check_style.py
gate sentences scripts/check_sentences.py
gate includes scripts/check_includes.py
gate unused scripts/check_unused.py
gate docs scripts/check_docs.py
gate headers scripts/check_headers.sh
gate compilers scripts/check_compilers.sh
gate symbols scripts/exported_symbols.sh build/release/src/libkiln.so
gate needed scripts/check_needed.sh build/release/src/libkiln.so
gate cppcheck scripts/check_cppcheck.sh
gate tidy scripts/check_tidy.sh $changed

if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${failed[*]}"
    exit 1
fi
echo "all gates pass"
