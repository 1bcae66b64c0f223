#!/bin/bash
# The scripts find clang whatever version is installed, and install one that the distribution has:
# with a folder of played programs for all of PATH.
#
#     tests/clang_versions.sh
#
# SPDX-License-Identifier: Apache-2.0
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
bash=$(command -v bash)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failures=0

check() { # WHAT FOUND EXPECTED
    [ "$2" = "$3" ] && return
    printf '%s: "%s" was expected, found was\n%s\n' "$1" "$3" "$2"
    failures=$((failures + 1))
}

# play NAME LINE...: a program in PATH that is this script.
play() {
    local name=$1
    shift
    printf '%s\n' "#!$bash" "$@" > "$scratch/bin/$name"
    chmod +x "$scratch/bin/$name"
}

# installed NAME=VERSION...: these programs, and no others.
installed() {
    rm -rf "$scratch/bin"
    mkdir "$scratch/bin"
    for item in "$@"; do
        play "${item%=*}" "echo 'Ubuntu clang version ${item#*=} (1ubuntu1)'"
    done
}
under() { PATH=$scratch/bin "$bash" "$@" 2>&1; }

# --- which clang is taken ---

find() { under scripts/find_clang.sh "$@"; }
none=" of version 14 or newer is not installed"
installed clang-18=18.1.3 clang-14=14.0.6 clang-16=16.0.6 clang=18.1.3
check "14 before others" "$(find clang)" clang-14
installed clang-9=9.0.1 clang-15=15.0.7 clang-18=18.1.3 clang-16=16.0.6 clang=19.1.1 \
    clang-tidy-20=20.1.2
check "the newest" "$(find)" clang-18
check "each program by itself" "$(find clang-tidy)" clang-tidy-20
installed clang=17.0.6 clang-13=13.0.1 clang-cl-18=18.1.3
check "the plain name" "$(find)" clang
installed clang=13.0.1 clang-13=13.0.1 clang-extra=18.1.3
found=$(find)
check "too old" "$? ${found:0:$((5 + ${#none}))}" "1 clang$none"
installed
found=$(find clang++)
check "none" "$? ${found:0:$((7 + ${#none}))}" "1 clang++$none"

# --- another formatter than 14 is refused ---

installed clang-format-18=18.1.3
found=$(under scripts/check_format.sh)
check "format" "$? ${found##*: }" \
    "1 clang-format-18 is version 18; install the package clang-format-14"

# --- what is installed ---

# offers PACKAGE...: what apt has, on a machine that has nothing of it yet.
offers() {
    installed
    for tool in dirname env sed tr; do
        ln -s "$(command -v $tool)" "$scratch/bin/$tool"
    done
    play id 'echo 0'
    play dpkg-query 'exit 1'
    play apt-cache "offered=' $* '" \
        'case "$1 $offered" in' \
        'policy*" $2 "*) echo "  Candidate: 1" ;;' \
        'policy*) echo "  Candidate: (none)" ;;' \
        'depends*" clang "*) echo "  Depends: clang-18" ;;' \
        'esac'
    play apt-get 'case "$*" in *install*) echo "$*" >> '"$scratch/log; exit 1 ;; esac"
}
clang_of_install() {
    rm -f "$scratch/log"
    KILN_NO_APT='' KILN_DEPS_DIR=$scratch/deps under scripts/install_deps.sh check > "$scratch/said"
    tr ' ' '\n' < "$scratch/log" | grep clang | tr '\n' ' '
}
all_14="clang-14 libclang-rt-14-dev clang-format-14 clang-tidy-14"
offers clang $all_14 clang-18 clang-format-18
check "install 14" "$(clang_of_install)" \
    "clang-14 libclang-rt-14-dev clang-tidy-14 clang-format-14 "
offers clang clang-18 clang-format-14
check "install 18" "$(clang_of_install)" \
    "clang-18 libclang-rt-18-dev clang-tidy-18 clang-format-14 "
offers clang clang-18
check "install all of 18" "$(clang_of_install)" \
    "clang-18 libclang-rt-18-dev clang-tidy-18 clang-format-18 "

exit $((failures > 0))
