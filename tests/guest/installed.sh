#!/bin/bash
# What is installed knows nothing of the folders it was built in, and opens nothing in them.
#
#     tests/guest/installed.sh CMAKE BUILD DEPS PLANTED
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cmake=$1 build=$2 deps=$3 planted=$4
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$cmake" --install "$build" --prefix "$scratch/usr" > /dev/null
library=$(find "$scratch/usr" -name 'libkiln.so.*.*')
source=$("$cmake" -L -N "$build" | sed -n 's/^kiln_SOURCE_DIR:STATIC=//p')
[[ -n $source ]] || source=$(sed -n 's/^CMAKE_HOME_DIRECTORY:INTERNAL=//p' "$build/CMakeCache.txt")
for file in "$library" "$scratch/usr/bin/kiln"; do
    for folder in "$deps" "$(realpath "$deps")" "$build" "$source"; do
        if strings -a "$file" | grep -F -e "$folder"; then
            echo "$(basename "$file") names a folder of its build"
            exit 1
        fi
    done
    if readelf -d "$file" | grep -E 'R(UN)?PATH' | grep -v 'ORIGIN'; then
        echo "$(basename "$file") looks in a folder of its build"
        exit 1
    fi
done

# A library that everybody can write is refused, and the sentence says what to do.
mkdir "$scratch/open"
cp "$planted" "$scratch/open/libonnxruntime.so"
chmod 666 "$scratch/open/libonnxruntime.so"
said=$(PLANTED_MARK=$scratch/opened KILN_ONNXRUNTIME=$scratch/open "$scratch/usr/bin/kiln" doctor)
if [[ -e $scratch/opened ]]; then
    echo "a library that everybody can write was opened"
    exit 1
fi
grep -q "everybody may write to it" <<< "$said"
chmod 644 "$scratch/open/libonnxruntime.so"
chmod 777 "$scratch/open"
said=$(PLANTED_MARK=$scratch/opened KILN_ONNXRUNTIME=$scratch/open "$scratch/usr/bin/kiln" doctor)
test ! -e "$scratch/opened"
tr '\n' ' ' <<< "$said" | tr -s ' ' | grep -q "everybody may write to its folder"
chmod 755 "$scratch/open"
said=$(PLANTED_MARK=$scratch/opened KILN_ONNXRUNTIME=$scratch/open "$scratch/usr/bin/kiln" doctor)
if [[ ! -e $scratch/opened ]]; then
    echo "a library of ours was not opened: the test would notice nothing"
    exit 1
fi
echo "no folder of the build, and nothing that everybody can write"
