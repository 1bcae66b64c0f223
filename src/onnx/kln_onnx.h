/* SPDX-License-Identifier: Apache-2.0 */
/* An ONNX model in memory, read and written without copying weights.
 *
 * The structs mirror onnx.proto (public domain names: ModelProto, GraphProto, ...). Everything
 * lives in one arena, and nothing is freed individually: strings are NUL-terminated copies, arrays
 * are arena memory, and a tensor's data is a span. The span points into the mapped file, into
 * memory of the caller's, or into the arena if the wire format requires decoding (packed varints).
 * An empty string stands for an absent optional name.
 *
 * Unknown fields survive: every message keeps them as raw spans, and they are written back.
 * Protobuf distinguishes an absent optional field from one that holds its default. `present`
 * records that (bit n: field number n was in the message), so that a file is written as it was
 * read. Code that makes or changes a message may ignore it: a field is written if it differs from
 * its default or is present. */
#ifndef KLN_ONNX_H
#define KLN_ONNX_H

#include <stdatomic.h>

#include "base/kln_base.h"
#include "tensor/kln_tensor.h"

/* Unknown fields as in the wire format (tag included), in order. */
typedef struct kln_onnx_unknown {
    kiln_span *fields;
    size_t count;
} kln_onnx_unknown;

typedef struct kln_onnx_entry { /* StringStringEntryProto */
    const char *key;
    const char *value;
    uint32_t present;
    kln_onnx_unknown unknown;
} kln_onnx_entry;

/* The last members of a message with metadata. */
#define KLN_ONNX_COMMON       \
    const char *doc;          \
    kln_onnx_entry *metadata; \
    size_t metadata_count;    \
    uint32_t present;         \
    kln_onnx_unknown unknown

/* A dimension: a number, a name, or neither. */
typedef struct kln_onnx_dim {
    int64_t value;          /* KILN_DYNAMIC if it is not a number */
    const char *parameter;  /* "batch", or NULL */
    const char *denotation; /* or NULL */
    uint32_t present;
    kln_onnx_unknown unknown;
} kln_onnx_dim;

typedef enum kln_onnx_kind {
    KLN_ONNX_KIND_NONE = 0, /* no type given */
    KLN_ONNX_KIND_TENSOR,
    KLN_ONNX_KIND_SPARSE_TENSOR,
    KLN_ONNX_KIND_SEQUENCE,
    KLN_ONNX_KIND_OPTIONAL,
    KLN_ONNX_KIND_MAP,
    KLN_ONNX_KIND_OPAQUE
} kln_onnx_kind;

typedef struct kln_onnx_type { /* TypeProto */
    kln_onnx_kind kind;
    kiln_dtype dtype;   /* TENSOR, SPARSE_TENSOR; the key type of a MAP */
    int32_t wire_dtype; /* TensorProto.DataType as read, also if there is no kiln_dtype for it */
    bool has_shape;     /* false: the rank is not known either */
    size_t rank;        /* not limited to KILN_MAX_RANK: validation reports that, reading does
                           not */
    kln_onnx_dim *dims;
    struct kln_onnx_type *element; /* SEQUENCE, OPTIONAL; the value type of a MAP */
    const char *denotation;        /* or NULL */
    kiln_span opaque;              /* OPAQUE: its message as read */
    uint32_t present;              /* of the inner message (TypeProto.Tensor and its like) */
    kln_onnx_unknown unknown;
    kln_onnx_unknown inner_unknown; /* of the inner message */
    kln_onnx_unknown shape_unknown; /* of TensorShapeProto */
} kln_onnx_type;

typedef struct kln_onnx_value { /* ValueInfoProto */
    const char *name;
    kln_onnx_type type;
    KLN_ONNX_COMMON;
} kln_onnx_value;

/* The field of TensorProto that holds the elements. `data` gives access to all in the same way. */
typedef enum kln_onnx_storage {
    KLN_ONNX_STORAGE_RAW = 0, /* raw_data */
    KLN_ONNX_STORAGE_FLOAT,   /* float_data */
    KLN_ONNX_STORAGE_INT32,   /* int32_data */
    KLN_ONNX_STORAGE_INT64,   /* int64_data */
    KLN_ONNX_STORAGE_DOUBLE,  /* double_data */
    KLN_ONNX_STORAGE_UINT64   /* uint64_data */
} kln_onnx_storage;

typedef struct kln_onnx_tensor { /* TensorProto */
    const char *name;
    kiln_dtype dtype;
    int32_t wire_dtype;
    size_t rank;
    int64_t *dims;
    kiln_span data; /* little-endian elements, dense; NULL for strings. May be unaligned in a file.
                       Its size matches dtype and dims, except for a wire_dtype without a
                       kiln_dtype */
    kln_onnx_storage storage;
    const kiln_span *strings; /* for KILN_DTYPE_STRING: one span per element */
    size_t string_count;
    bool is_external;     /* the data is in `location`; `data` points to it, or is NULL if that is
                             not mapped */
    const char *location; /* relative to the model's folder */
    uint64_t external_offset;
    uint64_t external_length;        /* 0: follows from dtype and dims */
    kln_onnx_entry *external_others; /* entries other than these three: "checksum" and the like */
    size_t external_other_count;
    KLN_ONNX_COMMON;
} kln_onnx_tensor;

typedef enum kln_onnx_attribute_type { /* AttributeProto.AttributeType, same values */
                                       KLN_ONNX_ATTRIBUTE_UNDEFINED = 0,
                                       KLN_ONNX_ATTRIBUTE_FLOAT = 1,
                                       KLN_ONNX_ATTRIBUTE_INT = 2,
                                       KLN_ONNX_ATTRIBUTE_STRING = 3,
                                       KLN_ONNX_ATTRIBUTE_TENSOR = 4,
                                       KLN_ONNX_ATTRIBUTE_GRAPH = 5,
                                       KLN_ONNX_ATTRIBUTE_FLOATS = 6,
                                       KLN_ONNX_ATTRIBUTE_INTS = 7,
                                       KLN_ONNX_ATTRIBUTE_STRINGS = 8,
                                       KLN_ONNX_ATTRIBUTE_TENSORS = 9,
                                       KLN_ONNX_ATTRIBUTE_GRAPHS = 10,
                                       KLN_ONNX_ATTRIBUTE_SPARSE_TENSOR = 11,
                                       KLN_ONNX_ATTRIBUTE_SPARSE_TENSORS = 12,
                                       KLN_ONNX_ATTRIBUTE_TYPE = 13,
                                       KLN_ONNX_ATTRIBUTE_TYPES = 14
} kln_onnx_attribute_type;

struct kln_onnx_graph;

typedef struct kln_onnx_attribute { /* AttributeProto */
    const char *name;
    const char *reference; /* ref_attr_name inside a function, or NULL */
    kln_onnx_attribute_type type;
    /* One of these, selected by `type`. The bytes of a string may include zeros; a NUL follows them
     * as well. */
    float f;
    int64_t i;
    kiln_span s;
    kln_onnx_tensor *tensor;
    struct kln_onnx_graph *graph;
    size_t count; /* number of elements in the lists below */
    float *floats;
    int64_t *ints;
    kiln_span *strings;
    kln_onnx_tensor *tensors;
    struct kln_onnx_graph **graphs;
    kln_onnx_type *types; /* TYPE (one, regardless of `count`) and TYPES */
    /* Sparse tensors, and values of another type than `type`, are in `unknown`. */
    const char *doc;
    uint32_t present;
    kln_onnx_unknown unknown;
} kln_onnx_attribute;

typedef struct kln_onnx_node { /* NodeProto */
    const char *name;
    const char *op_type;
    const char *domain; /* "" for ai.onnx */
    const char *overload;
    const char **inputs; /* "" for an omitted optional input */
    size_t input_count;
    const char **outputs;
    size_t output_count;
    kln_onnx_attribute *attributes;
    size_t attribute_count;
    KLN_ONNX_COMMON;
} kln_onnx_node;

typedef struct kln_onnx_graph { /* GraphProto */
    const char *name;
    kln_onnx_node *nodes;
    size_t node_count, node_capacity;
    kln_onnx_tensor *initializers;
    size_t initializer_count, initializer_capacity;
    kln_onnx_value *inputs;
    size_t input_count, input_capacity;
    kln_onnx_value *outputs;
    size_t output_count, output_capacity;
    kln_onnx_value *values; /* value_info: types of intermediate tensors */
    size_t value_count, value_capacity;
    kiln_span *sparse_initializers;        /* SparseTensorProto messages, written back unchanged */
    const char **sparse_initializer_names; /* for each, the name of its `values` */
    size_t sparse_initializer_count;
    kiln_span *quantization_annotations; /* TensorAnnotation messages, likewise */
    size_t quantization_annotation_count;
    KLN_ONNX_COMMON;
} kln_onnx_graph;

typedef struct kln_onnx_opset { /* OperatorSetIdProto */
    const char *domain;
    int64_t version;
    uint32_t present;
    kln_onnx_unknown unknown;
} kln_onnx_opset;

typedef struct kln_onnx_function { /* FunctionProto */
    const char *name;
    const char *domain;
    const char *overload;
    const char **inputs;
    size_t input_count;
    const char **outputs;
    size_t output_count;
    const char **attribute_names; /* required ones */
    size_t attribute_name_count;
    kln_onnx_attribute *attributes; /* with defaults */
    size_t attribute_count;
    kln_onnx_opset *opsets;
    size_t opset_count;
    kln_onnx_graph body; /* nodes and values only */
    KLN_ONNX_COMMON;
} kln_onnx_function;

/* From this IR version on, an initializer that is also an input of the model is a default that a
 * caller may replace. Before, it is a constant, because every initializer had to be an input. */
#define KLN_ONNX_IR_OF_OPTIONAL_INPUTS 4

/* An unusable external file, in a model that was read without it. */
typedef struct kln_onnx_missing {
    const char *location; /* as named by the model */
    const char *tensor;   /* the first tensor in it, */
    size_t tensors;       /* and the number of tensors */
    const char *reason;   /* the sentence of the error */
} kln_onnx_missing;

typedef struct kln_onnx_model { /* ModelProto */
    kln_arena arena;            /* owns everything except the mappings */
    kln_mapping *mappings;      /* the file and its external files, mapped as long as the model
                                   lives */
    size_t mapping_count;
    bool is_mapped;            /* the first one is the model itself, not an external file */
    kln_onnx_missing *missing; /* their tensors have no data */
    size_t missing_count;
    int64_t ir_version; /* from KLN_ONNX_IR_OF_OPTIONAL_INPUTS on, initializers may be inputs */
    const char *producer_name;
    const char *producer_version;
    const char *domain;
    int64_t model_version;
    const char *doc;
    kln_onnx_graph graph;
    kln_onnx_opset *opsets;
    size_t opset_count;
    kln_onnx_function *functions;
    size_t function_count;
    kln_onnx_entry *metadata;
    size_t metadata_count;
    uint32_t present;
    kln_onnx_unknown unknown;      /* including training_info and device configurations */
    struct kln_onnx_model *origin; /* model that owns parts of this one, kept as long; or NULL */
    void *kept;                    /* memory that the model was read from, for kln_free; or NULL */
    bool *replaced; /* the initializers replaced by kln_onnx_replace, if it made the model from
                       `origin`; or NULL */
    atomic_uint references;
} kln_onnx_model;

/* Appends a node to the graph. The list is in `arena`, or is copied there to grow, so a list whose
 * capacity equals its count is never written to. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_onnx_add_node(kln_arena *arena, kln_onnx_graph *graph,
                                              const kln_onnx_node *node);
KILN_MUST_CHECK kiln_status kln_onnx_add_initializer(kln_arena *arena, kln_onnx_graph *graph,
                                                     const kln_onnx_tensor *tensor);
/* Gives the graph its own, writable list. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_onnx_copy_initializers(kln_arena *arena, kln_onnx_graph *graph);

/* The version of the operator set `domain` ("" and "ai.onnx" are the same) that the model imports;
 * 0 if it does not. */
int64_t kln_onnx_opset_version(const kln_onnx_model *model, const char *domain);

/* Operator sets and functions of a model, and operator sets of its functions, by name, for lookups
 * at each node. The model must outlive it, and may only grow meanwhile. (onnx_index.c) */
typedef struct kln_onnx_index {
    const kln_onnx_model *model;
    kln_keys opsets;    /* (domain; 0 for the model, otherwise the function from 1 on): its
                           import */
    kln_keys functions; /* (domain, name, overload) */
    size_t opsets_done, functions_done;
} kln_onnx_index;

void kln_onnx_index_finish(kln_onnx_index *index);
/* Adds what is new in the model; of two with the same name, the first counts. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_onnx_index_update(kln_onnx_index *index);
/* The version of `domain` in the body of `function` (NULL: in the model); 0 if it is not
 * imported. */
int64_t kln_onnx_index_opset(const kln_onnx_index *index, const kln_onnx_function *function,
                             const char *domain);
/* The function of the model that the node calls, or NULL. */
const kln_onnx_function *kln_onnx_index_function(const kln_onnx_index *index,
                                                 const kln_onnx_node *node);

/* "" for "ai.onnx" and NULL, which name the same domain. */
const char *kln_onnx_plain_domain(const char *domain);

/* The attribute of that name, or NULL. */
const kln_onnx_attribute *kln_onnx_find_attribute(const kln_onnx_node *node, const char *name);
/* The input of the main graph with that name, or NULL. */
const kln_onnx_value *kln_onnx_find_input(const kln_onnx_model *model, const char *name);
/* Whether `node` is this operator of ONNX's own domain. */
bool kln_onnx_node_is(const kln_onnx_node *node, const char *op);
/* Maps the name of each initializer to its index. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_onnx_name_initializers(const kln_onnx_graph *graph,
                                                       kln_names *names);
/* The integer of that name. */
int64_t kln_onnx_int(const kln_onnx_node *node, const char *name, int64_t otherwise);

/* Whether `text` (or NULL) names a dimension. Some exporters write "?" or "-1" for unknown
 * dimensions; those with such a name are unrelated. */
bool kln_onnx_names_dim(const char *text);

/* The number of dimensions of the main graph's inputs, in a serialized model, that have such an
 * invalid name. In `image` (or NULL), a writable copy of the same bytes, the names are removed
 * without moving anything: the field becomes a denotation, which has no meaning. Bytes that are not
 * a model have none. */
size_t kln_onnx_unname_dims(kiln_span model, unsigned char *image);

/* Visits every tensor of a graph until `visit` returns false: initializers and tensors in
 * attributes, also in its subgraphs. Returns the tensor that it stopped at, or NULL.
 * (onnx_visit.c) */
typedef bool (*kln_onnx_visit)(void *user, const kln_onnx_tensor *tensor);
const kln_onnx_tensor *kln_onnx_visit_tensors(const kln_onnx_graph *graph, kln_onnx_visit visit,
                                              void *user);

/* Conversion between TensorProto.DataType and kiln_dtype; UNDEFINED and 0 if there is no match. */
kiln_dtype kln_onnx_dtype(int32_t wire_dtype);
/* Bits per element of a TensorProto.DataType, also of types without a kiln_dtype; 0: not known. */
unsigned kln_onnx_wire_bits(int32_t wire_dtype);
int32_t kln_onnx_wire_dtype(kiln_dtype dtype);
/* "float8e4m3fnuz": also for types without a kiln_dtype. */
const char *kln_onnx_dtype_name(int32_t wire_dtype);

/* The supported IR versions; a model of another version is refused with UNSUPPORTED. */
#define KLN_ONNX_IR_OLDEST 3
#define KLN_ONNX_IR_NEWEST 14

/* Limits of the reader; beyond them, LIMIT names the one exceeded. */
#define KLN_ONNX_MAX_GRAPH_DEPTH 64    /* nested graphs */
#define KLN_ONNX_MAX_TYPE_DEPTH 32     /* nested sequences */
#define KLN_ONNX_MAX_ENTRIES 16777216  /* messages and strings in one model */
#define KLN_ONNX_MAX_NUMBERS 268435456 /* decoded numbers in one model */

/* Reads a model from a file (mapped) or from bytes, which must stay valid as long as the model.
 * External weights are mapped from `folder` (NULL: there are none, or they stay unmapped); a
 * location outside the folder is refused. Errors: those of kln_mapping_open; MALFORMED with the
 * message, field and byte; LIMIT (nesting, counts). On an error `*model` is NULL. */
KILN_MUST_CHECK kiln_status kln_onnx_read_file(const char *path, kln_onnx_model **model);
/* The same, but unusable external files are listed in the model instead of failing: for tools that
 * inspect models without running them. */
KILN_MUST_CHECK kiln_status kln_onnx_read_partly(const char *path, kln_onnx_model **model);
/* The same for an open file, whose mapping the model shares. */
KILN_MUST_CHECK kiln_status kln_onnx_read_mapping(const kln_mapping *file, const char *path,
                                                  kln_onnx_model **model);
KILN_MUST_CHECK kiln_status kln_onnx_read_bytes(kiln_span bytes, const char *folder,
                                                kln_onnx_model **model);
/* What `bytes` that are not a model are instead: "a web page (HTML): ..." with advice; or NULL.
 * (onnx_foreign.c) */
const char *kln_onnx_foreign(kiln_span bytes);
/* Whether the files that the model is mapped from have kept their length: kln_bytes_check of each.
 * NULL is allowed. */
KILN_MUST_CHECK kiln_status kln_onnx_check_files(const kln_onnx_model *model);
/* An empty model with an arena, for a builder. */
KILN_MUST_CHECK kiln_status kln_onnx_model_create(kln_onnx_model **model);
/* Drops a reference; the last one destroys the model and its mappings. NULL is allowed. */
void kln_onnx_model_destroy(kln_onnx_model *model);
KLN_SCOPED_POINTER(kln_onnx_model, kln_onnx_model_destroy)
/* Adds a reference, for code that keeps spans of the model, such as an engine using its weights.
 * Spans never move; everything else in a model may change while its builder works. Any thread. */
kln_onnx_model *kln_onnx_model_retain(const kln_onnx_model *model);

/* Another model with the same content, to be rewritten. What it shares with `model`, which is kept
 * alive, must not be changed in place. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_onnx_model_share(const kln_onnx_model *model,
                                                 kln_onnx_model **shared);

/* New data for an initializer of the main graph. */
typedef struct kln_onnx_weight {
    const char *name;
    kiln_span data; /* of the same size as the initializer */
} kln_onnx_weight;

/* A copy of the model, read from a message of its own, `*bytes`; large weights are shared with
 * `base`. OUT_OF_MEMORY. (onnx_replace.c) */
KILN_MUST_CHECK kiln_status kln_onnx_model_copy(const kln_onnx_model *base, kln_onnx_model **made,
                                                kiln_span *bytes);

/* Another model with copies of these weights in place of its own, for kln_onnx_model_destroy. In a
 * model made this way, earlier replacements stay. The memory of a chain of them does not grow.
 * NAME, SIZE, OUT_OF_MEMORY. (onnx_replace.c) */
KILN_MUST_CHECK kiln_status kln_onnx_replace(const kln_onnx_model *model,
                                             const kln_onnx_weight *weights, size_t count,
                                             kln_onnx_model **made);

/* The numeric initializers of the main graph: their number, and initializer `index`. */
size_t kln_onnx_weight_count(const kln_onnx_model *model);
const kln_onnx_tensor *kln_onnx_weight_at(const kln_onnx_model *model, size_t index);

/* Where the weights go when a model is written. */
typedef enum kln_onnx_weights {
    KLN_ONNX_WEIGHTS_INLINE,   /* in the message itself; LIMIT above 2 GiB */
    KLN_ONNX_WEIGHTS_EXTERNAL, /* in one separate file, large ones at multiples of 4,096 (as the
                                  specification advises) */
    KLN_ONNX_WEIGHTS_LEFT_OUT  /* only names, types and shapes, marked external: the receiver is
                                  given the spans */
} kln_onnx_weights;

/* Writes the model to `path` and, for EXTERNAL, its weights to `path`.HASH.data; both files change
 * as one (onnx_write_file.c). */
KILN_MUST_CHECK kiln_status kln_onnx_write_file(const kln_onnx_model *model, const char *path,
                                                kln_onnx_weights weights);
/* Whether LEFT_OUT leaves out this initializer of the main graph. Small ones stay, because shapes
 * are inferred from their values, and so do those of subgraphs, whose names may not be unique. */
bool kln_onnx_is_left_out(const kln_onnx_tensor *tensor);
/* The location that LEFT_OUT gives to the initializer it leaves out as number `index`, from 0. */
#define KLN_ONNX_LEFT_OUT_TEXT 32
void kln_onnx_left_out_location(size_t index, char location[KLN_ONNX_LEFT_OUT_TEXT]);

/* The largest Protocol Buffers message, in bytes. */
#define KLN_ONNX_MESSAGE_LIMIT ((size_t)INT32_MAX)

/* The same in memory, for INLINE and LEFT_OUT. */
KILN_MUST_CHECK kiln_status kln_onnx_write_bytes(const kln_onnx_model *model,
                                                 kln_onnx_weights weights, kln_text *bytes);

#endif
