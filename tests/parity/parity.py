#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kiln's outputs against those of ONNX Runtime's own Python API, bit for bit.

    parity.py PARITY_RUN MODELS_FOLDER [--nodes FOLDER] [--at-least CASES]

The models: those of Magika, Silero VAD (with their state, step by step) and RapidOCR (three input
shapes each), and every model of the onnx package's backend tests that lies in its wheel (simple,
pytorch-operator, pytorch-converted, light). Both sides run the same release of ONNX Runtime with
one thread; a case is one run, and the cases of a model run in one context. A model that the Python
API does not run, or whose inputs or outputs are no tensors, is skipped, listed with its reason, and
not counted; where the Python API does not load it, Kiln must not either. What draws random numbers
without a seed is left out by its operators; with one, both sides draw the same from the first run
of a session on. --nodes takes a folder of such backend tests (test_*/model.onnx with
test_data_set_*) instead of those models.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy
import onnx
import onnxruntime
from onnx import numpy_helper

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "onnx"))
from drawing_operators import drawing_operators_of_file  # pylint: disable=wrong-import-position

SEED = 20240229
REFUSALS = ("KILN_ERROR_UNSUPPORTED", "KILN_ERROR_INVALID_NETWORK", "KILN_ERROR_BACKEND")


class Skip(Exception):
    """Why a model cannot be compared."""


class Refused(Skip):
    """The Python API does not load it."""


def brief(error):
    """The first line of what ONNX Runtime says, without the paths in it."""
    return re.sub(r"\S*/\S+ ?", "", str(error).splitlines()[0])[:120]


def session_of(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    except Exception as error:  # pylint: disable=broad-except
        raise Refused(f"the Python API does not load it: {brief(error)}") from error
    for value in session.get_inputs() + session.get_outputs():
        if not value.type.startswith("tensor(") or value.type == "tensor(string)":
            raise Skip(f"\"{value.name}\" is a {value.type}")
    return session


def run_python(session, case):
    try:
        return session.run(None, dict(zip([i.name for i in session.get_inputs()], case)))
    except Exception as error:  # pylint: disable=broad-except
        raise Skip(f"the Python API does not run it: {brief(error)}") from error


def difference(name, ours, theirs):
    """What is different, or None."""
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        return f"{name}: {ours.dtype} {ours.shape} instead of {theirs.dtype} {theirs.shape}"
    if ours.tobytes() != theirs.tobytes():
        count = numpy.count_nonzero(ours != theirs)
        return f"{name}: {count} of {theirs.size} elements are different"
    return None


class Parity:
    def __init__(self, program):
        self.program = program
        self.models = 0
        self.cases = 0
        self.outputs = 0
        self.skipped = []
        self.failures = []

    def compare(self, label, path, cases, session):
        """`cases`: lists of arrays in the order of the session's inputs."""
        draws = drawing_operators_of_file(path)
        if draws:
            raise Skip(f"it draws random numbers without a seed: {', '.join(draws)}")
        expected = [run_python(session, case) for case in cases]
        names = [output.name for output in session.get_outputs()]
        with tempfile.TemporaryDirectory() as scratch:
            folders = []
            for number, case in enumerate(cases):
                folder = pathlib.Path(scratch) / str(number)
                folder.mkdir()
                folders.append(folder)
                for index, array in enumerate(case):
                    numpy.save(folder / f"input_{index}.npy", array)
            result = subprocess.run([self.program, path, *folders], capture_output=True, text=True,
                                    check=False)
            if result.returncode != 0:
                self.failures.append(f"{label}: ended with {result.returncode}: {result.stderr}")
                return
            self.models += 1
            for folder, outputs in zip(folders, expected):
                self.cases += 1
                for index, theirs in enumerate(outputs):
                    ours = numpy.load(folder / f"kiln_{index}.npy")
                    self.outputs += 1
                    found = difference(names[index], ours, numpy.asarray(theirs))
                    if found is not None:
                        self.failures.append(f"{label}: {found}")

    def attempt(self, label, path, make_cases):
        try:
            session = session_of(path)
            self.compare(label, path, make_cases(session), session)
        except Refused as reason:
            result = subprocess.run([self.program, path, "/nowhere"], capture_output=True,
                                    text=True, check=False)
            words = result.stderr.split(":")[0]
            if words in REFUSALS:
                self.skipped.append(f"{label}: {reason}; Kiln says {words}")
            else:
                self.failures.append(f"{label}: {reason}; Kiln says {result.stderr.strip()}")
        except Skip as reason:
            self.skipped.append(f"{label}: {reason}")


# --- the models of the dependency folder ---


def compare_magika(parity, folder):
    random = numpy.random.default_rng(SEED)
    parity.attempt("magika", folder / "magika/model.onnx", lambda session: [
        [random.integers(0, 257, (batch, 2048), dtype=numpy.int32)] for batch in (1, 3, 7)])


def compare_ocr(parity, folder):
    random = numpy.random.default_rng(SEED)
    shapes = {"det": [(1, 3, 64, 64), (1, 3, 96, 160), (2, 3, 128, 96)],
              "rec": [(1, 3, 48, 100), (1, 3, 48, 320), (3, 3, 48, 160)],
              "cls": [(1, 3, 48, 192), (2, 3, 48, 192), (6, 3, 48, 192)]}
    for name, sizes in shapes.items():
        parity.attempt(f"rapidocr {name}", folder / f"rapidocr/{name}.onnx", lambda session: [
            [random.standard_normal(size, dtype=numpy.float32)] for size in sizes])


def speech_case(session, random, rate, state):
    """One step: sound, and the state that the step before left."""
    case = []
    for value in session.get_inputs():
        fixed = [dim if isinstance(dim, int) else 0 for dim in value.shape]
        if value.name == "sr":
            case.append(numpy.array(rate, numpy.int64))
        elif value.name in state:
            case.append(state[value.name])
        elif value.name == "input":
            samples = fixed[1] if fixed[1] > 0 else (576 if rate == 16000 else 288)
            case.append(random.standard_normal((1, samples), dtype=numpy.float32) / 10)
        else:
            case.append(numpy.zeros([dim if dim > 0 else 1 for dim in fixed], numpy.float32))
    return case


def speech_cases(session):
    """Five steps at each rate that the model knows."""
    random = numpy.random.default_rng(SEED)
    cases = []
    rates = (16000, 8000) if "sr" in [i.name for i in session.get_inputs()] else (16000,)
    for rate in rates:
        state = {}
        for _ in range(5):
            case = speech_case(session, random, rate, state)
            outputs = dict(zip([o.name for o in session.get_outputs()], run_python(session, case)))
            cases.append(case)
            state = {name[:-1] if name.endswith("N") else name[0]: array
                     for name, array in outputs.items() if name in ("stateN", "hn", "cn")}
    return cases


def compare_speech(parity, folder):
    for path in sorted((folder / "silero-vad").glob("*.onnx")):
        parity.attempt(f"silero-vad {path.stem}", path, speech_cases)


# --- the models of the onnx package ---


def read_tensor(path, value):
    proto = onnx.TensorProto()
    try:
        proto.ParseFromString(path.read_bytes())
        array = numpy_helper.to_array(proto)
    except Exception as error:  # pylint: disable=broad-except
        raise Skip(f"{path.name} is no tensor") from error
    if array.dtype.kind not in "fiubc":
        raise Skip(f"\"{value.name}\" is of type {array.dtype}, which .npy does not have")
    return array


def given_cases(session, sets):
    cases = []
    values = session.get_inputs()
    for folder in sets:
        files = sorted(folder.glob("input_*.pb"), key=lambda path: int(path.stem.split("_")[1]))
        if len(files) != len(values):
            raise Skip(f"{len(files)} inputs are given, {len(values)} are needed")
        cases.append([read_tensor(path, value) for path, value in zip(files, values)])
    return cases


def drawn_case(session):
    """Inputs from a seeded generator, for a model that comes without any."""
    random = numpy.random.default_rng(SEED)
    case = []
    for value in session.get_inputs():
        if value.type != "tensor(float)":
            raise Skip(f"\"{value.name}\" is a {value.type} and no input is given")
        if any(not isinstance(dim, int) for dim in value.shape):
            raise Skip(f"\"{value.name}\" has the dynamic shape {value.shape} and no input is "
                       "given")
        case.append(random.standard_normal(value.shape, dtype=numpy.float32))
    return case


def compare_folder(parity, group, folder):
    path = folder / "model.onnx"
    sets = sorted(folder.glob("test_data_set_*"))
    label = f"{group}/{folder.name}"
    if not path.exists():
        parity.skipped.append(f"{label}: there is no model.onnx")
    elif sets:
        parity.attempt(label, path, lambda session: given_cases(session, sets))
    else:
        parity.attempt(label, path, lambda session: [drawn_case(session)])


def compare_package(parity):
    data = pathlib.Path(onnx.__file__).parent / "backend/test/data"
    for group in ("simple", "pytorch-operator", "pytorch-converted"):
        for folder in sorted((data / group).iterdir()):
            compare_folder(parity, group, folder)
    for path in sorted((data / "light").glob("*.onnx")):
        parity.attempt(f"light/{path.stem}", path, lambda session: [drawn_case(session)])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("models", type=pathlib.Path)
    parser.add_argument("--nodes", type=pathlib.Path)
    parser.add_argument("--at-least", type=int, default=0)
    arguments = parser.parse_args()
    parity = Parity(arguments.program)
    if arguments.nodes:
        for folder in sorted(arguments.nodes.glob("test_*")):
            compare_folder(parity, "nodes", folder)
    else:
        compare_magika(parity, arguments.models)
        compare_speech(parity, arguments.models)
        compare_ocr(parity, arguments.models)
        compare_package(parity)
    for line in parity.skipped:
        print(f"skipped: {line}")
    for line in parity.failures:
        print(f"DIFFERENT: {line}")
    print(f"ONNX Runtime {onnxruntime.__version__}: {parity.models} models, {parity.cases} cases, "
          f"{parity.outputs} outputs compared bit for bit, {len(parity.failures)} differences, "
          f"{len(parity.skipped)} models skipped")
    if parity.cases < arguments.at_least:
        print(f"at least {arguments.at_least} cases were expected")
        return 1
    return 1 if parity.failures else 0


if __name__ == "__main__":
    sys.exit(main())
