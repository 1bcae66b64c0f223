# SPDX-License-Identifier: Apache-2.0
# Every type is filled, run, written, compared and read again.
kiln run types.onnx -o out | tail -31
kiln run types.onnx -c out | tail -16
set --
for type in float float16 bfloat16 double int8 uint8 int16 uint16 int32 uint32 int64 uint64 bool \
    float8e4m3fn float8e5m2; do
    set -- "$@" -i "in_$type=out/out_$type.npy"
done
kiln run types.onnx "$@" --seed 5 -c out | tail -15
