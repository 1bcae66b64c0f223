#!/bin/bash
# libkiln.so needs the C library and nothing else at run time.
#
#     scripts/check_needed.sh LIBRARY
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
needed=$(readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
allowed='^(libc|libm|libdl|libpthread|ld-linux[-a-z0-9_]*)\.so\.[0-9]+$'
others=$(grep -v -E "$allowed" <<< "$needed" || true)
if [ -n "$others" ]; then
    echo "$1 needs more than the C library:" $others
    exit 1
fi
echo "needs:" $needed
