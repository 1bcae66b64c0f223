# SPDX-License-Identifier: Apache-2.0
printf '\0\0\200?\0\0\0@\0\0@@\0\0\200@\0\0\240@\0\0\300@' > x.bin
kiln run add.onnx -i x=x.bin -i y=0 | tail -4
kiln run open.onnx -i x.bin -s 1x3x2 | tail -3
kiln run open.onnx -i x.bin
