#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every ONNX model below the given folders comes back from Kiln byte for byte, with fields of a
later version of the format in each of its messages, and with operators and domains of nobody's.

    unknown_fields.py <onnx_copy> <scratch folder> <folder or file> ...

Models are first written anew by protobuf's own Python, in whose order Kiln writes too. Ends with 1
when one differs.
"""

import os
import subprocess
import sys

import onnx
from compare_copies import models
from onnx import TensorProto

# Field 500 as a number, as bytes, as 4 and as 8 bytes: one of each wire type.
UNKNOWN = (b"\xa0\x1f\x96\x01", b"\xa2\x1f\x06future", b"\xa5\x1f\x01\x02\x03\x04",
           b"\xa1\x1f\x01\x02\x03\x04\x05\x06\x07\x08")


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def put_varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def with_unknown(data, kind, count):
    """The message `data` of descriptor `kind` with an unknown field at the end of each message."""
    out, at = bytearray(), 0
    while at < len(data):
        start = at
        tag, at = varint(data, at)
        wire = tag & 7
        if wire == 0:
            _, at = varint(data, at)
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            size, begin = varint(data, at)
            at = begin + size
            field = kind.fields_by_number.get(tag >> 3)
            if field is not None and field.message_type is not None:
                inner = with_unknown(data[begin:at], field.message_type, count)
                out += put_varint(tag) + put_varint(len(inner)) + inner
                continue
        out += data[start:at]
    count[0] += 1
    return bytes(out) + UNKNOWN[count[0] % len(UNKNOWN)]


def prepare(path):
    """A model's bytes in protobuf's order, with strangers in them; None where weights are outside,
    since those are named anew."""
    model = onnx.load(path, load_external_data=False)
    if any(t.data_location == TensorProto.EXTERNAL for t in model.graph.initializer):
        return None
    node = model.graph.node.add(op_type="Later", domain="org.nobody", name="n")
    node.input.extend(["", "x"])
    node.attribute.add(name="odd", type=3, s=b"\x00\xff")
    node.attribute.add(name="untyped")
    return model.SerializeToString(deterministic=True)


def main():
    program, scratch, roots = sys.argv[1], sys.argv[2], sys.argv[3:]
    os.makedirs(scratch, exist_ok=True)
    count, wanted, pairs = [0], [], []
    for path in models(roots):
        data = prepare(path)
        if data is not None and len(data) < 1 << 20:
            for more in (False, True):
                made = with_unknown(data, onnx.ModelProto.DESCRIPTOR, count) if more else data
                name = os.path.join(scratch, f"{len(wanted)}.onnx")
                with open(name, "wb") as file:
                    file.write(made)
                wanted.append((path, more, made, name))
                pairs.append(f"{name}\t{name}.copy\n")
    with open(os.path.join(scratch, "pairs"), "w", encoding="utf-8") as file:
        file.writelines(pairs)
    answers = subprocess.run([program, "inline", os.path.join(scratch, "pairs")],
                             capture_output=True, text=True, check=True).stdout.splitlines()
    wrong = 0
    for (path, more, made, name), answer in zip(wanted, answers):
        copy = b""
        if answer == "ok":
            with open(name + ".copy", "rb") as file:
                copy = file.read()
            os.unlink(name + ".copy")
        os.unlink(name)
        if copy != made:
            wrong += 1
            what = " with unknown fields" if more else ""
            print(f"{path}{what}: {answer if answer != 'ok' else 'other bytes come back'}")
    print(f"{len(wanted)} models, {count[0]} unknown fields, {wrong} not the same bytes")
    return 1 if wrong or len(wanted) < 100 or len(answers) != len(wanted) else 0


if __name__ == "__main__":
    sys.exit(main())
