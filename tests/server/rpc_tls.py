#!/usr/bin/env python3
"""gRPC over TLS: PyPI tritonclient[grpc] with a certificate, and handshakes that come to nothing.

    tests/server/rpc_tls.py KILN

SPDX-License-Identifier: Apache-2.0
"""
import os
import signal
import socket
import ssl
import struct
import sys
import threading
import time
import warnings

import numpy

import rpc_client
from http2 import PREFACE, frame, head, infer_message, message
from rpc_client import grpc, target, tensor, triton
from serve_process import (Server, continued, fails, in_threads, language, linear,
                           make_certificate, refused, run_tests, scratch_for, until, write)

warnings.simplefilter("ignore", DeprecationWarning)
OLD_TLS = ssl.TLSVersion.TLSv1_1
KILN = os.path.abspath(sys.argv[1])


def client_of(server, pair):
    return triton.InferenceServerClient(target(server), ssl=True, root_certificates=pair[1])


def ask(client, rows, columns=4, **options):
    data = numpy.arange(rows * columns).reshape(rows, columns)
    rpc_client.ask(client, data, "linear" if columns == 4 else "wide", **options)


def connect(server, protocols=("h2",), oldest=None, port=None, room=None):
    """A socket of TLS that asks for no certificate's name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(protocols)
    if oldest is not None:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = oldest
    plain = socket.socket()
    plain.settimeout(20)
    try:
        if room is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        plain.connect(("127.0.0.1", port or server.grpc_port))
        return context.wrap_socket(plain)
    except (ssl.SSLError, OSError):
        plain.close()
        raise


def is_closed(link):
    try:
        while link.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def test_requests(server, pair):
    with client_of(server, pair) as client:
        assert client.is_server_ready() and client.is_model_ready("linear")
        for rows in (1, 1000, 65536):
            ask(client, rows)
        ask(client, 2000, 1000)  # 8 MB, more than a window, in records of TLS

    def one(_):
        with client_of(server, pair) as own:
            for rows in (1, 7, 300, 9000):
                ask(own, rows)
    in_threads(16, one)


def test_text(server, pair):
    found, done = [], threading.Event()

    def told(result, error):
        found.append(error or struct.unpack("<q", result.get_response().raw_output_contents[0])[0])
        if error or "finish_reason" in result.get_response().parameters:
            done.set()
    with client_of(server, pair) as client:
        client.start_stream(told)
        prompt = tensor("input_ids", "INT64", numpy.array([[4, 5, 6]], "<i8"))
        client.async_stream_infer("lm", [prompt], parameters={"max_tokens": 9})
        assert done.wait(30), found
    assert found == continued([4, 5, 6], 9), found


def test_handshakes(server, pair):
    """Who does not speak it is closed, and costs nothing while others are answered."""
    with connect(server) as link:
        assert link.selected_alpn_protocol() == "h2" and link.version() == "TLSv1.3"
    connect(server, ()).close()
    connect(server, oldest=ssl.TLSVersion.TLSv1_2).close()
    for wrong in ({"protocols": ("http/1.1",)}, {"oldest": OLD_TLS},
                  {"oldest": OLD_TLS, "port": server.port}):
        refused((ssl.SSLError, ConnectionError), "", lambda wrong=wrong: connect(server, **wrong))
    for data in (PREFACE + frame(4, 0, 0), b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" * 99):
        with socket.create_connection(("127.0.0.1", server.grpc_port), timeout=20) as link:
            link.sendall(data)
            assert is_closed(link), data[:20]
    idle = [socket.create_connection(("127.0.0.1", server.grpc_port), timeout=20)
            for _ in range(20)]
    for link in idle[10:]:
        link.sendall(b"\x16\x03\x01\x02\x00\x01")  # the begin of a hello
    before = server.processor_seconds()
    time.sleep(0.4)
    with client_of(server, pair) as client:
        ask(client, 3)
    used = server.processor_seconds() - before
    assert used < 0.3, f"handshakes that wait take {used} s of a processor"
    assert all(is_closed(link) for link in idle)  # after --request-time
    for link in idle:
        link.close()


def test_slow(server, pair):
    """Bytes of a handshake and of frames that come one by one; answers that nobody reads."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context(cafile=pair[1])
    context.set_alpn_protocols(["h2"])
    secure = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with socket.create_connection(("127.0.0.1", server.grpc_port), timeout=20) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                secure.do_handshake()
                break
            except ssl.SSLWantReadError:
                for byte in outgoing.read():
                    link.sendall(bytes([byte]))
                incoming.write(link.recv(65536))
        secure.write(PREFACE + frame(4, 0, 0))
        for byte in outgoing.read():
            link.sendall(bytes([byte]))
        found = b""
        while len(found) < 9:
            try:
                found += secure.read(65536)
            except ssl.SSLWantReadError:
                incoming.write(link.recv(65536))
        assert found[3] == 4, found  # its settings
    rows = numpy.ones((225, 1000), "f4")  # 900 kB, which a stream's window has room for
    body = message(infer_message("wide", "x", rows))
    with connect(server, room=4096) as link:
        link.sendall(PREFACE + frame(4, 0, 0, b"\0\4\x7f\xff\xff\xff") +
                     frame(8, 0, 0, b"\x7f\0\0\0"))
        link.recv(65536)  # its settings
        link.sendall(frame(4, 1, 0))
        stream = 1
        try:
            while stream < 100:  # until it does not read, for its answers are not read
                link.sendall(head(stream) + b"".join(
                    frame(0, at + 16384 >= len(body), stream, body[at:at + 16384])
                    for at in range(0, len(body), 16384)))
                stream += 2
            raise AssertionError("it keeps what nobody reads")
        except TimeoutError as problem:
            raise AssertionError("who does not read is not cut off") from problem
        except OSError:
            pass  # --request-time is over
    with client_of(server, pair) as client:
        ask(client, 3)


def test_tokens(server, pair):
    with client_of(server, pair) as client:
        rpc_client.refused("UNAUTHENTICATED", lambda: ask(client, 1))
        ask(client, 1, headers={"authorization": "Bearer secret"})
    # A token may be a credential of the channel, which gRPC allows over TLS alone.
    with open(pair[1], "rb") as file:
        secrets = grpc.composite_channel_credentials(
            grpc.ssl_channel_credentials(file.read()),
            grpc.access_token_call_credentials("secret"))
    with grpc.secure_channel(target(server), secrets) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ServerMetadata")
        assert b"kiln" in call(b"", timeout=20)


def test_stop(folder, pair):
    with Server(KILN, [os.path.join(folder, "lm.onnx"), "--grpc-port", "0", "--drain-time", "0.2",
                       "--tls-key", pair[0], "--tls-certificate", pair[1]]) as server:
        found, ended = [], threading.Event()

        def told(result, error):
            found.append(error)
            if error is not None:
                ended.set()
        with client_of(server, pair) as client:
            client.start_stream(told)
            prompt = tensor("input_ids", "INT64", numpy.array([[1]], "<i8"))
            client.async_stream_infer("lm", [prompt])
            until(lambda: found, "no token")
            server.process.send_signal(signal.SIGTERM)
            assert ended.wait(20) and "stopping" in str(found[-1]), found[-1]
        assert server.process.wait(20) == 0


def test_arguments(folder, pair):
    other = make_certificate(folder, "other")
    for key, certificate, words in ((pair[0], other[1], "cannot be used"),
                                    (pair[1], pair[0], "PEM"),
                                    (pair[0], os.path.join(folder, "none"), "cannot be read")):
        fails(KILN, [folder, "--grpc-port", "0", "--tls-key", key, "--tls-certificate",
                     certificate], words)


def main():
    with scratch_for(KILN) as folder:
        pair = make_certificate(folder)
        if pair is None:
            print("skipped: openssl, which makes a certificate, is not here")
            sys.exit(77)
        models = os.path.join(folder, "m")
        linear(os.path.join(models, "linear.onnx"), 2.0)
        linear(os.path.join(models, "wide.onnx"), 2.0, 1000)
        language(os.path.join(models, "lm.onnx"))
        language(os.path.join(folder, "lm.onnx"), rounds=8)
        tokens = os.path.join(folder, "tokens")
        write(tokens, "secret\n")
        tls = ["--grpc-port", "0", "--tls-key", pair[0], "--tls-certificate", pair[1]]
        with Server(KILN, [models, *tls, "--request-time", "1"]) as server:
            assert any("grpcs://" in line for line in server.said), server.said
            run_tests((test_requests, test_text, test_handshakes, test_slow), server, pair)
        with Server(KILN, [models, *tls, "--tokens", tokens]) as server:
            run_tests((test_tokens,), server, pair)
        run_tests((test_stop, test_arguments), folder, pair)


main()
