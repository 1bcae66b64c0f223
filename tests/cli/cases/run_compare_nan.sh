# SPDX-License-Identifier: Apache-2.0
# NaN equals NaN and nothing else; infinity equals infinity of the same sign.
"$python" -c '
import numpy
numpy.save("a.npy", numpy.array([0, 1, -1, 4], "f4"))
numpy.save("b.npy", numpy.array([0, 0, 0, 2], "f4"))
import os
for name, values in {"same": [numpy.nan, numpy.inf, -numpy.inf, 2],
                     "sign": [numpy.nan, numpy.inf, numpy.inf, 2],
                     "number": [1, numpy.inf, -numpy.inf, 2],
                     "type": [0, 0, 0, 0]}.items():
    os.mkdir(name)
    numpy.save(name + "/ratio.npy", numpy.array(values, "f8" if name == "type" else "f4"))
os.mkdir("shape")
numpy.save("shape/ratio.npy", numpy.zeros((2, 2), "f4"))
os.mkdir("none")'
for reference in same sign number type shape none absent; do
    kiln run divide.onnx -i a=a.npy -i b=b.npy -c $reference --atol 1e9 > report
    echo "$reference: exit $?"
    grep -A 9 compared report
done
kiln run divide.onnx -i a=a.npy -i b=b.npy | tail -2
