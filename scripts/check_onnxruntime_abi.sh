#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# check_onnxruntime_abi.sh HEADER: holds Kiln's own declarations of ONNX Runtime's C interface
# (src/backends/onnxruntime/ort_api.h) against a real onnxruntime_c_api.h, its neighbours beside it.
# Compares the slot and the type of each function and the value of each constant, prints every
# difference and how many were checked. Exit status: 0 all alike, 1 differences, 2 could not check.
set -u

if [ $# -ne 1 ] || [ ! -f "$1" ]; then
    echo "usage: $0 path/of/onnxruntime_c_api.h" >&2
    exit 2
fi
header_folder=$(cd "$(dirname "$1")" && pwd) || exit 2
root=$(cd "$(dirname "$0")/.." && pwd) || exit 2
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT

cat >"$work/check.c" <<'PROGRAM'
#include <stdbool.h>
#include <stdio.h>

#include <onnxruntime_c_api.h>

/* Declarations of the header above, in the words of the one below. */
#include "backends/onnxruntime/ort_api.h"

static int checked;
static int differences;

static void compare(const char *what, const char *name, long ours, long theirs)
{
    checked++;
    if (ours != theirs) {
        differences++;
        printf("%s %s: Kiln says %ld, the header %ld\n", what, name, ours, theirs);
    }
}

int main(void)
{
    OrtApi theirs;
    ort_api ours;
    (void)ours;
#define CHECK(slot, level, result, name, parameters)                                             \
    compare("slot of", #name, slot, (long)(offsetof(OrtApi, name) / sizeof(void *)));            \
    compare("type of", #name, 1,                                                                 \
            __builtin_types_compatible_p(__typeof__(ours.name), __typeof__(theirs.name)));
    ORT_API_LIST(CHECK)
#undef CHECK
    compare("slot of", "GetApi", offsetof(ort_api_base, GetApi), offsetof(OrtApiBase, GetApi));
    compare("slot of", "GetVersionString", offsetof(ort_api_base, GetVersionString),
            offsetof(OrtApiBase, GetVersionString));

#define CONSTANT(ours_, theirs_) compare("value of", #theirs_, ours_, theirs_);
    CONSTANT(ORT_CODE_FAIL, ORT_FAIL)
    CONSTANT(ORT_CODE_INVALID_ARGUMENT, ORT_INVALID_ARGUMENT)
    CONSTANT(ORT_CODE_NO_SUCHFILE, ORT_NO_SUCHFILE)
    CONSTANT(ORT_CODE_NO_MODEL, ORT_NO_MODEL)
    CONSTANT(ORT_CODE_RUNTIME_EXCEPTION, ORT_RUNTIME_EXCEPTION)
    CONSTANT(ORT_CODE_INVALID_PROTOBUF, ORT_INVALID_PROTOBUF)
    CONSTANT(ORT_CODE_NOT_IMPLEMENTED, ORT_NOT_IMPLEMENTED)
    CONSTANT(ORT_CODE_INVALID_GRAPH, ORT_INVALID_GRAPH)
    CONSTANT(ORT_CODE_MODEL_LOAD_CANCELED, ORT_MODEL_LOAD_CANCELED)
    CONSTANT(ORT_LEVEL_VERBOSE, ORT_LOGGING_LEVEL_VERBOSE)
    CONSTANT(ORT_LEVEL_INFO, ORT_LOGGING_LEVEL_INFO)
    CONSTANT(ORT_LEVEL_WARNING, ORT_LOGGING_LEVEL_WARNING)
    CONSTANT(ORT_LEVEL_ERROR, ORT_LOGGING_LEVEL_ERROR)
    CONSTANT(ORT_LEVEL_FATAL, ORT_LOGGING_LEVEL_FATAL)
    CONSTANT(ORT_GRAPH_OFF, ORT_DISABLE_ALL)
    CONSTANT(ORT_GRAPH_BASIC, ORT_ENABLE_BASIC)
    CONSTANT(ORT_GRAPH_EXTENDED, ORT_ENABLE_EXTENDED)
    CONSTANT(ORT_GRAPH_ALL, ORT_ENABLE_ALL)
    CONSTANT(ORT_MODE_SEQUENTIAL, ORT_SEQUENTIAL)
    CONSTANT(ORT_MODE_PARALLEL, ORT_PARALLEL)
    CONSTANT(ORT_VALUE_TENSOR, ONNX_TYPE_TENSOR)
    CONSTANT(ORT_ALLOCATOR_DEVICE, OrtDeviceAllocator)
    CONSTANT(ORT_MEMORY_DEFAULT, OrtMemTypeDefault)
#define MEMBER(name) \
    CONSTANT((long)offsetof(ort_custom_op, name), (long)offsetof(OrtCustomOp, name))
    MEMBER(GetInputType)
    MEMBER(GetInputMemoryType)
    MEMBER(KernelComputeV2)
    CONSTANT(0, INPUT_OUTPUT_REQUIRED)

/* Names of Kiln's data types in the header's words. */
#define KILN_DTYPE_FLOAT32 ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT
#define KILN_DTYPE_UINT8 ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8
#define KILN_DTYPE_INT8 ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8
#define KILN_DTYPE_UINT16 ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16
#define KILN_DTYPE_INT16 ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16
#define KILN_DTYPE_INT32 ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32
#define KILN_DTYPE_INT64 ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64
#define KILN_DTYPE_STRING ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING
#define KILN_DTYPE_BOOL ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL
#define KILN_DTYPE_FLOAT16 ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16
#define KILN_DTYPE_FLOAT64 ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE
#define KILN_DTYPE_UINT32 ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32
#define KILN_DTYPE_UINT64 ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64
#define KILN_DTYPE_COMPLEX64 ONNX_TENSOR_ELEMENT_DATA_TYPE_COMPLEX64
#define KILN_DTYPE_COMPLEX128 ONNX_TENSOR_ELEMENT_DATA_TYPE_COMPLEX128
#define KILN_DTYPE_BFLOAT16 ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16
#define KILN_DTYPE_FLOAT8E4M3 ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E4M3FN
#define KILN_DTYPE_FLOAT8E5M2 ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E5M2
#define KILN_DTYPE_UINT4 ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT4
#define KILN_DTYPE_INT4 ONNX_TENSOR_ELEMENT_DATA_TYPE_INT4
#define KILN_DTYPE_FLOAT4E2M1 ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT4E2M1
#define CHECK(value, dtype) compare("element type", #dtype, value, dtype);
    ORT_ELEMENT_LIST(CHECK)
#undef CHECK

    printf("%d facts compared with the header of level %d, %d differences\n", checked,
           ORT_API_VERSION, differences);
    return differences != 0;
}
PROGRAM

${CC:-cc} -std=gnu11 -I"$header_folder" -I"$root/src" -o "$work/check" "$work/check.c" || exit 2
"$work/check"
