#!/bin/sh
# needing.sh PATH... -- COMMAND...: runs the command where all paths are there, and else says
# what is missing and ends with 77, which CTest shows as skipped.
#
# SPDX-License-Identifier: Apache-2.0
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    if [ ! -e "$1" ]; then
        echo "skipped: $1 is not there; scripts/install_deps.sh test installs what it can"
        exit 77
    fi
    shift
done
shift
exec "$@"
