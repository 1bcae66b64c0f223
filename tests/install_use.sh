#!/bin/bash
# Installs into a scratch folder and builds a program against that, with pkg-config and with CMake.
#
#     tests/install_use.sh CMAKE BUILD COMPILER
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cmake=$1 build=$2 compiler=$3
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$cmake" --install "$build" --prefix "$scratch/usr" > /dev/null

cat > "$scratch/use.c" <<'C'
#include <kiln/kiln.h>
#include <string.h>

int main(void)
{
    return kiln_version() == KILN_VERSION_NUMBER && strlen(kiln_version_string()) > 0 ? 0 : 1;
}
C
pc=$(dirname "$(find "$scratch/usr" -name kiln.pc)")
# shellcheck disable=SC2046
"$compiler" -std=c11 "$scratch/use.c" -o "$scratch/use" \
    $(PKG_CONFIG_PATH=$pc pkg-config --cflags --libs kiln)
LD_LIBRARY_PATH=$(dirname "$pc") "$scratch/use"

mkdir "$scratch/project"
cat > "$scratch/project/CMakeLists.txt" <<'C'
cmake_minimum_required(VERSION 3.25)
project(use LANGUAGES C)
find_package(kiln 0.1 REQUIRED)
add_executable(use ../use.c)
target_link_libraries(use PRIVATE kiln::kiln)
C
"$cmake" -S "$scratch/project" -B "$scratch/project/build" -DCMAKE_PREFIX_PATH="$scratch/usr" \
    -DCMAKE_C_COMPILER="$compiler" > /dev/null
"$cmake" --build "$scratch/project/build" > /dev/null
"$scratch/project/build/use"

# Until 1.0 a minor version may break: a program that was written for another one gets none, and one
# that is linked asks for its own.
sed -i 's/find_package(kiln 0.1/find_package(kiln 0.0/' "$scratch/project/CMakeLists.txt"
if "$cmake" -S "$scratch/project" -B "$scratch/project/other" -DCMAKE_PREFIX_PATH="$scratch/usr" \
    -DCMAKE_C_COMPILER="$compiler" > /dev/null 2>&1; then
    echo "kiln 0.0 was asked for, and this one was found"
    exit 1
fi
readelf -d "$scratch/use" | grep -q 'NEEDED.*\[libkiln.so.0.1\]'

# The command finds the library beside it, wherever both were put.
mv "$scratch/usr" "$scratch/moved"
test "$("$scratch/moved/bin/kiln" --version)" = "kiln $(sed -n 's/^Version: //p' \
    "$(find "$scratch/moved" -name kiln.pc)")"
mv "$scratch/moved" "$scratch/usr"

# Each command has its page of the manual, as that of `kiln` says.
grep -o 'kiln\\-[a-z]*' "$scratch/usr/share/man/man1/kiln.1" | tr -d '\\' | sort > "$scratch/told"
(cd "$scratch/usr/share/man/man1" && ls kiln-*.1) | sed 's/\.1$//' | sort | diff - "$scratch/told"

# Nothing but the public headers, the library, the command, its manual and how to find them.
ours='/(include/kiln/|lib.*/libkiln\.so|lib.*/kiln|bin/kiln|share/man/man1/kiln)'
if find "$scratch/usr" -type f | grep -v -E "$ours"; then
    echo "these files should not be installed"
    exit 1
fi
echo "used through pkg-config and CMake"
