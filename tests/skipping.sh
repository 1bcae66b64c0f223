#!/bin/sh
# skipping.sh TESTS SCRATCH: what a test lacks is seen. needing.sh ends with 77, and no test is left
# unregistered because a file is not there.
#
# SPDX-License-Identifier: Apache-2.0
set -u
tests=$1 scratch=$2 failed=0

said=$("$tests/needing.sh" "$tests" "$scratch/is not there" -- echo run)
status=$?
[ $status = 77 ] || { echo "status $status, 77 was expected"; failed=1; }
case $said in
"skipped: $scratch/is not there is not there"*) ;;
*) echo "it said: $said"; failed=1 ;;
esac
said=$("$tests/needing.sh" "$tests" -- printf '%s|' a "b c")
[ "$said" = "a|b c|" ] || { echo "the command printed: $said"; failed=1; }
"$tests/needing.sh" -- false && { echo "the command's status is lost"; failed=1; }

for file in "$tests"/CMakeLists.txt "$tests"/*/CMakeLists.txt; do
    awk -v file="$file" '
        /^ *if *\(.*EXISTS/ { inside = 1 }
        inside && /add_test/ { print file ":" NR ": a test that is not registered"; found = 1 }
        /^ *endif/ { inside = 0 }
        END { exit found }' "$file" || failed=1
done
exit $failed
