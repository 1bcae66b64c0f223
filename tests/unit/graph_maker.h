/* SPDX-License-Identifier: Apache-2.0 */
/* Models made in a few words, for the tests of operators and graphs.
 *
 *     owned_maker m;
 *     maker_model(&m, 21, "in x float32[batch,3,h]; shape={0,-1}; y=Reshape(x,shape); out y");
 *
 * or by the calls that such a text stands for. */
#ifndef GRAPH_MAKER_H
#define GRAPH_MAKER_H

#include "kiln_owned.h"
#include "ops/kln_ops.h"

typedef struct graph_maker {
    kln_onnx_model *model;
    kln_onnx_graph *graph; /* that is added to: the model's, or an inner one */
    kln_onnx_node *node;   /* the last one, for attributes */
    kiln_status status;    /* the first failure */
    const float *floats;   /* what "floats" takes next */
} graph_maker;

/* A model that imports `opset`: of this text, or empty. */
void maker_model(graph_maker *m, int64_t opset, const char *text);
void maker_begin(graph_maker *m, int64_t opset);
void maker_end(graph_maker *m);
/* A model as bytes. What is owned ends with its block, as in kiln_owned.h. */
kln_text maker_bytes(const kln_onnx_model *model);
/* The same outside Kiln's heap, valid until 64 others were made by one of these. */
kiln_span maker_span(const kln_onnx_model *model);
/* A model of this text, with producer "a test", domain "example", description "what it is",
 * version 42 and the metadata "greeting" = "hello"; y = OP(x) over float32 of these dimensions. */
__attribute__((format(printf, 2, 3))) kiln_span made_model(int64_t opset, const char *format, ...);
kiln_span unary_model(const char *op, const char *dims);
/* A network, whose outputs are of the types that are inferred. */
kiln_network *maker_network(graph_maker *m);
/* A network of this text, whose weights are these numbers where it says "floats". */
__attribute__((format(printf, 2, 3))) kiln_network *made_network(const float *floats,
                                                                 const char *format, ...);
#define owned_text __attribute__((cleanup(kln_text_finish))) kln_text
KILN_TEST_ENDS_OF(kln_onnx_model, kln_onnx_model_destroy)
KILN_TEST_ENDS_OF(kln_inference, kln_inference_destroy)
#define owned_model KILN_TEST_OWNED_OF(kln_onnx_model)
#define owned_inference KILN_TEST_OWNED_OF(kln_inference)
#define owned_mapping __attribute__((cleanup(kln_mapping_close))) kln_mapping
#define owned_maker __attribute__((cleanup(maker_end))) graph_maker

/* `wire` is TensorProto.DataType, 0: no type. `dims`: "batch,3,?", "" for a scalar, NULL: no rank.
 */
void maker_input(graph_maker *m, const char *name, int32_t wire, const char *dims);
void maker_output(graph_maker *m, const char *name, int32_t wire, const char *dims);
void maker_value(graph_maker *m, const char *name, int32_t wire, const char *dims);
/* Weights of zeros, of these dimensions. */
void maker_weights(graph_maker *m, const char *name, int32_t wire, const char *dims);
/* int64 elements in one dimension, and one of rank 0. */
void maker_ints(graph_maker *m, const char *name, size_t count, const int64_t *elements);
void maker_int(graph_maker *m, const char *name, int64_t element);
void maker_floats(graph_maker *m, const char *name, size_t count, const float *elements);

/* Names divided by commas; "a,,b" leaves one out. The node's name is its first output's. */
void maker_node(graph_maker *m, const char *op, const char *inputs, const char *outputs);
/* That the last node is of another domain, of which version 1 is imported. */
void maker_domain(graph_maker *m, const char *domain);
void maker_attribute_int(graph_maker *m, const char *name, int64_t value);
void maker_attribute_ints(graph_maker *m, const char *name, size_t count, const int64_t *values);
void maker_attribute_float(graph_maker *m, const char *name, float value);
void maker_attribute_string(graph_maker *m, const char *name, const char *value);
/* Statements divided by "; ", in which types are written as Kiln shows them; "?" is none, and
 * a number is TensorProto.DataType:
 *     in x float32[n,3]       an input; `out` is an output, `value` a value, `zeros` weights of 0
 *     sequence y float32      an output that is a sequence of such tensors
 *     file w float32[2] w.bin weights that lie in a file beside the model
 *     const s int8[2]={3,-4}  weights of these values
 *     floats w float32[8,4]   weights of the numbers that come next in `floats`
 *     a={1,2}  b={1.5}  c=3   weights: int64, float32 in one dimension, an int64 of rank 0
 *     y,z=Op(x,,a) axis=1 alpha=0.5 pads=[1,1] mode='linear' body={out v; v=Neg(x)} */
void maker_text(graph_maker *m, const char *text);
/* A graph's operators in their order: "Add If Neg". */
void operators_of(const kln_onnx_graph *graph, char text[1024]);
/* For graph_text.c: memory of the model, a copy of a word in it, an initializer. NULL where
 * something failed. */
void *maker_take(graph_maker *m, size_t count, size_t size);
const char *maker_word(graph_maker *m, const char *text, size_t size);
kln_onnx_tensor *maker_tensor(graph_maker *m, const char *name, int32_t wire, const char *dims);
/* A subgraph as an attribute of the last node; add to it until maker_leave. */
void maker_enter(graph_maker *m, const char *attribute, kln_onnx_graph **outer);
void maker_leave(graph_maker *m, kln_onnx_graph *outer);

#endif
