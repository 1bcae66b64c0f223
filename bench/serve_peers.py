#!/usr/bin/env python3
"""Other servers with the same model and the same request; serve.py starts one after the other.

    serve_peers.py KIND MODEL PORT THREADS    KIND: fastapi, litserve, bentoml, ray

mlserver loads the class MlserverModel of this file. Each takes a request of the Open Inference
Protocol as JSON and runs ONNX Runtime with THREADS threads.

SPDX-License-Identifier: Apache-2.0
"""
import os
import sys

import numpy
import onnxruntime

TYPES = {"FP32": numpy.float32, "INT32": numpy.int32}


def session_of(model, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def infer(session, document):
    feed = {entry["name"]: numpy.array(entry["data"], TYPES[entry["datatype"]]).reshape(
        entry["shape"]) for entry in document["inputs"]}
    names = [output.name for output in session.get_outputs()]
    return {"model_name": "model", "outputs": [
        {"name": name, "datatype": "FP32", "shape": list(array.shape),
         "data": array.ravel().tolist()} for name, array in zip(names, session.run(names, feed))]}


def fastapi(model, port, threads):
    import fastapi as api
    import uvicorn

    session = session_of(model, threads)
    app = api.FastAPI()

    @app.post("/v2/models/model/infer")
    async def answer(request: api.Request):
        document = await request.json()
        return await api.concurrency.run_in_threadpool(infer, session, document)

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


try:
    import litserve as lit

    class LitModel(lit.LitAPI):
        def setup(self, device):
            self.session = session_of(sys.argv[2], int(sys.argv[4]))

        def decode_request(self, request):
            return request

        def predict(self, x):
            return infer(self.session, x)

        def encode_response(self, output):
            return output
except ImportError:
    pass


def litserve(model, port, threads):
    server = lit.LitServer(LitModel(api_path="/v2/models/model/infer"), accelerator="cpu",
                           workers_per_device=2)
    server.run(host="127.0.0.1", port=port, log_level="error", generate_client_file=False)


def ray(model, port, threads):
    import time

    from ray import serve

    @serve.deployment(num_replicas=2, ray_actor_options={"num_cpus": 0.5},
                      max_ongoing_requests=64)
    class Model:
        def __init__(self):
            self.session = session_of(model, threads)

        async def __call__(self, request):
            return infer(self.session, await request.json())

    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(Model.bind(), route_prefix="/v2/models/model/infer")
    while True:
        time.sleep(1)


def bentoml(model, port, threads):
    os.environ.update(PEER_MODEL=model, PEER_THREADS=str(threads))
    os.execvp("bentoml", ["bentoml", "serve", "serve_peers:BentoService", "--host", "127.0.0.1",
                          "--port", str(port), "--working-dir", os.path.dirname(__file__)])


if "PEER_MODEL" in os.environ:
    try:
        import typing

        import bentoml as bento

        @bento.service(traffic={"timeout": 60})
        class BentoService:
            def __init__(self):
                self.session = session_of(os.environ["PEER_MODEL"],
                                          int(os.environ["PEER_THREADS"]))

            @bento.api(route="/v2/models/model/infer")
            def answer(self, inputs: list[dict[str, typing.Any]]) -> dict[str, typing.Any]:
                return infer(self.session, {"inputs": inputs})
    except ImportError:
        pass

try:
    from mlserver import MLModel
    from mlserver.codecs import NumpyCodec
    from mlserver.types import InferenceResponse

    class MlserverModel(MLModel):
        async def load(self):
            self.session = session_of(self.settings.parameters.uri,
                                      int(os.environ.get("PEER_THREADS", "1")))
            return True

        async def predict(self, payload):
            feed = {entry.name: NumpyCodec.decode_input(entry) for entry in payload.inputs}
            names = [output.name for output in self.session.get_outputs()]
            return InferenceResponse(model_name=self.name, outputs=[
                NumpyCodec.encode_output(name, array)
                for name, array in zip(names, self.session.run(names, feed))])
except ImportError:
    pass

if __name__ == "__main__":
    {"fastapi": fastapi, "litserve": litserve, "bentoml": bentoml,
     "ray": ray}[sys.argv[1]](sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
