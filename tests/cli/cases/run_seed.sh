# SPDX-License-Identifier: Apache-2.0
# The same seed gives the same numbers, whatever else is given; another seed gives others. The
# numbers themselves are part of the documentation.
kiln run add.onnx -o a > /dev/null
kiln run add.onnx -o b --seed 0 -i y=random > /dev/null
kiln run add.onnx -o c --seed 1 > /dev/null
cmp a/sum.npy b/sum.npy && echo same
cmp -s a/sum.npy c/sum.npy || echo other
kiln run large.onnx -o d | tail -1
kiln run large.onnx -i random:5:5 | tail -1
kiln run gather.onnx -i random:0:2 | tail -2
"$python" -c '
import numpy

def numbers(name, seed, count):
    state = 0xcbf29ce484222325
    for byte in name.encode():
        state = (state ^ byte) * 0x100000001b3 % 2**64
    state ^= seed
    for _ in range(count):
        state = (state + 0x9e3779b97f4a7c15) % 2**64
        mixed = state
        mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9 % 2**64
        mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb % 2**64
        yield ((mixed ^ mixed >> 31) >> 11) * 2.0**-53

x, y = (numpy.array([-1 + 2 * u for u in numbers(name, 0, 6)], "f4") for name in "xy")
assert (numpy.load("a/sum.npy").ravel() == x + y).all()
d = [int(u * 256) for u in numbers("x", 0, 2)]
assert (numpy.load("d/y.npy") == d).all()
print("as documented")'
