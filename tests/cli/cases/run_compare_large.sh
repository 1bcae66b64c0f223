# SPDX-License-Identifier: Apache-2.0
# Neighbours past 2^53 differ, though as doubles they are one number.
"$python" -c '
import numpy, os
numpy.save("x.npy", numpy.array([2**60, -2**63]))
os.mkdir("near")
numpy.save("near/y.npy", numpy.array([2**60 + 1, 2**63 - 1]))'
kiln run large.onnx -i x.npy -c near | tail -3
