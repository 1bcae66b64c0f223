"""What soak.py's clients of gRPC ask: as those of HTTP, and they cancel calls, let deadlines pass,
reset connections amid frames, and leave streams whose texts go on.

SPDX-License-Identifier: Apache-2.0
"""
import asyncio
import socket
import struct
import time

import numpy

from http2 import PREFACE, frame, head, infer_message, message
from serve_process import VOCABULARY, continued

import grpc
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc

CODE = grpc.StatusCode
HTTP = {CODE.OK: 200, CODE.INVALID_ARGUMENT: 400, CODE.NOT_FOUND: 404, CODE.INTERNAL: 500,
        CODE.UNAVAILABLE: 503, CODE.DEADLINE_EXCEEDED: 504}


def infer_request(model, name, kind, array, identity="", **parameters):
    made = messages.ModelInferRequest(model_name=model, id=identity,
                                      raw_input_contents=[array.tobytes()])
    made.inputs.add(name=name, datatype=kind, shape=array.shape)
    for key, value in parameters.items():
        made.parameters[key].int64_param = value
    return made


class RpcClient:
    """A channel that is opened anew now and then."""

    def __init__(self, server, tally, chance):
        self.server, self.tally, self.chance = server, tally, chance
        self.channel = self.stub = None

    async def open(self):
        if self.channel is None:
            self.channel = grpc.aio.insecure_channel(
                f"127.0.0.1:{self.server.grpc_port}",
                options=[("grpc.use_local_subchannel_pool", 1)])
            self.stub = service_pb2_grpc.GRPCInferenceServiceStub(self.channel)

    async def close(self):
        if self.channel is not None:
            await self.channel.close()
        self.channel = None

    async def ask(self, model, method, request, expected, check=None, deadline=None):
        """A call of one answer, which may be cancelled."""
        await self.open()
        self.tally.sent += 1
        call = getattr(self.stub, method)(request, timeout=deadline)
        if self.chance.random() < 0.06:
            await asyncio.sleep(self.chance.choice((0, 0.001, 0.01)))
            call.cancel()
            self.tally.leave(model)
            return
        try:
            async with self.tally.waiting(f"{model} by gRPC"):
                answer = await call
            status = 200
        except grpc.aio.AioRpcError as failure:
            status = HTTP.get(failure.code())
            assert status in expected, (method, model, failure)
            if status == 504 and deadline:  # the client's clock, or the server's
                self.tally.leave(model)
                return
        assert status in expected, (method, model, status, answer)
        self.tally.answered(model, status)
        if check and status == 200:
            check(answer)
        if self.chance.random() < 0.01:
            await self.close()

    def rows(self):
        return numpy.array([[self.chance.randint(-50, 50) for _ in range(4)]
                            for _ in range(self.chance.choice((1, 2, 6, 20000)))], "<f4")

    async def infer(self):
        array = self.rows()

        def check(answer):
            assert answer.raw_output_contents[0] == (array * 3).tobytes()
        await self.ask("linear", "ModelInfer", infer_request("linear", "x", "FP32", array), (200,),
                       check)

    async def slow(self):
        short = self.chance.random() < 0.5
        await self.ask("slow", "ModelInfer", infer_request(
            "slow", "x", "FP32", numpy.ones(1, "<f4"), timeout=self.chance.choice((0, 1, 2000))),
            (200, 504), deadline=self.chance.choice((0.0005, 0.003)) if short else None)

    async def coming(self):
        await self.ask("coming", "ModelInfer", infer_request(
            "coming", "x", "FP32", numpy.ones((1, 4), "<f4")), (200, 404, 503))

    async def bad(self):
        array = numpy.ones((1, 4), "<f4")
        request = self.chance.choice((
            infer_request("linear", "y", "FP32", array),
            infer_request("linear", "x", "INT8", array),
            infer_request("linear", "x", "FP32", array[:, :3]),
            infer_request("nothing", "x", "FP32", array)))
        await self.ask(request.model_name if request.model_name == "linear" else "none",
                       "ModelInfer", request, (400, 404))

    async def look(self):
        method, request = self.chance.choice((
            ("ServerMetadata", messages.ServerMetadataRequest()),
            ("ModelMetadata", messages.ModelMetadataRequest(name="lm")),
            ("ModelStatistics", messages.ModelStatisticsRequest()),
            ("RepositoryIndex", messages.RepositoryIndexRequest())))
        await self.ask("none", method, request, (200,))

    async def requests(self):
        """Several of one stream, which is answered in order, and may be left in the middle."""
        await self.open()
        count = self.chance.randint(1, 8)
        arrays = [self.rows() for _ in range(count)]
        models = [self.chance.choice(("linear", "linear", "nothing")) for _ in range(count)]
        leaves = self.chance.randint(0, count) if self.chance.random() < 0.3 else count
        self.tally.sent += count

        async def write():
            for number, (model, array) in enumerate(zip(models, arrays)):
                yield infer_request(model, "x", "FP32", array, str(number))
        call = self.stub.ModelStreamInfer(write())
        answered = 0
        while answered < leaves:
            async with self.tally.waiting("a stream"):
                answer = await call.read()
            assert answer is not grpc.aio.EOF, (answered, leaves)
            if models[answered] == "linear":
                assert answer.infer_response.id == str(answered), (answer, answered)
                assert answer.infer_response.raw_output_contents[0] == \
                    (arrays[answered] * 3).tobytes()
                self.tally.answered("linear", 200)
            else:
                assert "there is no model" in answer.error_message, answer
            answered += 1
        if leaves == count:
            assert await call.read() is grpc.aio.EOF
        call.cancel()
        for model in models[answered:]:
            self.tally.leave(model)

    async def text(self):
        """A text by its tokens, which its reader may not wait for."""
        await self.open()
        prompt = [self.chance.randrange(VOCABULARY) for _ in range(self.chance.randint(1, 20))]
        count = self.chance.randint(1, 30)
        leaves = self.chance.randint(0, count) if self.chance.random() < 0.2 else None
        self.tally.sent += 1

        async def write():
            yield infer_request("lm", "input_ids", "INT64", numpy.array([prompt], "<i8"),
                                max_tokens=count)
        call = self.stub.ModelStreamInfer(write())
        found = []
        while leaves is None or len(found) < leaves:
            async with self.tally.waiting("a text by gRPC"):
                answer = await call.read()
            if answer is grpc.aio.EOF:
                break
            assert not answer.error_message, answer
            found.append(struct.unpack("<q", answer.infer_response.raw_output_contents[0])[0])
        call.cancel()
        expected = continued(prompt, count)
        assert found == expected[:leaves], (prompt, found, expected)
        self.tally.tokens += len(found)
        if leaves is None:
            self.tally.answered("lm", 200)
        else:
            self.tally.leave("lm")

    async def wild(self):
        """Frames by hand, cut off anywhere; streams are reset, and at last the connection."""
        body = message(infer_message("linear", "x", numpy.ones((self.chance.choice((1, 3000)), 4),
                                                               "<f4")))
        count = self.chance.randint(1, 12)
        frames = [PREFACE + frame(4, 0, 0)]
        for stream in range(1, 2 * count, 2):
            self.tally.sent += 1
            self.tally.leave("linear")
            frames.append(head(stream))
            frames += [frame(0, at + 16384 >= len(body), stream, body[at:at + 16384])
                       for at in range(0, len(body), 16384)]
            if self.chance.random() < 0.4:
                frames.append(frame(3, 0, stream, b"\0\0\0\x08"))
        data = b"".join(frames)
        data = data[:self.chance.randrange(len(data))] if self.chance.random() < 0.5 else data
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.grpc_port)
        try:
            writer.write(data)
            await asyncio.wait_for(reader.read(self.chance.choice((1, 70000))),
                                   self.chance.choice((0.001, 0.02)))
        except (OSError, asyncio.TimeoutError):
            pass
        if self.chance.random() < 0.5:  # a reset
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                                       struct.pack("ii", 1, 0))
        writer.close()

    async def go_on(self, wanted, end):
        kinds = [(self.infer, 30), (self.requests, 8), (self.text, 8), (self.bad, 6),
                 (self.coming, 4), (self.slow, 1), (self.look, 2), (self.wild, 6)]
        weights = [weight for _, weight in kinds]
        while self.tally.sent < wanted and time.monotonic() < end:
            await self.chance.choices(kinds, weights)[0][0]()
        await self.close()
