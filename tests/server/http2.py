"""Frames of HTTP/2 and messages of gRPC, by hand: for clients that mean no good, and to measure.

SPDX-License-Identifier: Apache-2.0
"""
import struct

SERVICE = "/inference.GRPCInferenceService/"
STATUS = b"\x9a\xca\xc8\xb2\x124\xda\x8f"  # "grpc-status" as HPACK writes it
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, body=b""):
    return struct.pack(">I", len(body))[1:] + struct.pack(">BBI", kind, flags, stream) + body


def literal(name, value):
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def head(stream, path="ModelInfer", more=(), content="application/grpc", method="POST", end=False):
    fields = [(":method", method), (":scheme", "http"), (":path", SERVICE + path),
              (":authority", "a"), ("content-type", content), ("te", "trailers"), *more]
    return frame(1, 5 if end else 4, stream, b"".join(literal(*field) for field in fields))


def message(body, compressed=0, size=None):
    return struct.pack(">BI", compressed, len(body) if size is None else size) + body


def varint(value):
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def infer_message(model, name, array):
    """A ModelInferRequest of one FP32 tensor."""
    shape = field(3, b"".join(map(varint, array.shape)))
    tensor = field(1, name.encode()) + field(2, b"FP32") + shape
    return field(1, model.encode()) + field(5, tensor) + field(7, array.tobytes())
