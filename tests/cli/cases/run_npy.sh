# SPDX-License-Identifier: Apache-2.0
# What --output writes can be an input again, in another shape too; and arrays of one archive.
kiln run add.onnx -i x=1 -i y=2 -o first > /dev/null
kiln run add.onnx -i first/sum.npy | tail -4
kiln run open.onnx -i first/sum.npy -s 2x3x1 -o second | tail -3
ls first second
"$python" -c '
import numpy
print(numpy.load("first/sum.npy"), numpy.load("second/negated.npy").shape)'
"$python" -c '
import numpy
numpy.savez_compressed("both.npz", y=numpy.full((2, 3), 5, "f"), x=numpy.ones((2, 3), "f"))'
kiln run add.onnx -i both.npz | tail -3
kiln run add.onnx -i x=both.npz -i 7 | tail -3
