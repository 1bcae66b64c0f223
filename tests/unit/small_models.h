/* SPDX-License-Identifier: Apache-2.0 */
/* ONNX models of a few nodes, written field by field for tests that must not depend on the reader
 * and writer they stand beside. */
#ifndef SMALL_MODELS_H
#define SMALL_MODELS_H

#include <stddef.h>
#include <stdint.h>

#include <kiln/tensor.h>

/* TensorProto.DataType. */
enum {
    SMALL_FLOAT = 1,
    SMALL_INT32 = 6,
    SMALL_INT64 = 7,
    SMALL_STRING = 8,
    SMALL_BOOL = 9,
    SMALL_DOUBLE = 11,
};

/* Bytes of one protobuf message that grows. Too much for it fails the test. */
typedef struct small_message {
    unsigned char bytes[32768];
    size_t size;
} small_message;

/* A graph in the making; zeroed at first. */
typedef struct small_graph {
    small_message message;
} small_graph;

/* Names are separated by commas; "" is one empty name. */
void small_node(small_graph *graph, const char *op, const char *inputs, const char *outputs);
void small_cast(small_graph *graph, const char *input, const char *output, int type);
/* If: `inputs` is the condition. */
void small_if(small_graph *graph, const char *inputs, const char *outputs,
              const small_graph *then_branch, const small_graph *else_branch);
/* `shape`: "2,n,?" (a number, a name, nothing said), "" for a scalar, NULL for an open rank. */
void small_input(small_graph *graph, const char *name, int type, const char *shape);
void small_output(small_graph *graph, const char *name, int type, const char *shape);
/* An output that is a sequence of float tensors. */
void small_sequence_output(small_graph *graph, const char *name);
void small_floats(small_graph *graph, const char *name, const float *values, size_t count);
/* Floats that lie in a file beside the model. */
void small_external(small_graph *graph, const char *name, size_t count, const char *location);

/* The model around `graph`, valid until the next call: IR 8, opset 17 of ai.onnx, with producer,
 * domain, description, version and the metadata "greeting" = "hello". */
kiln_span small_model(const small_graph *graph);

/* y = OP(x) over `type` and `shape` alike. Valid until the next call of either. */
kiln_span small_unary(const char *op, int type, const char *shape);

#endif
