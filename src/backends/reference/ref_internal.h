/* SPDX-License-Identifier: Apache-2.0 */
/* The reference executor: runs ONNX graphs node by node, in plain C. Private to this folder.
 *
 * It has three layers:
 *
 * - A plan (ref_plan.c) is a model prepared once: names are resolved to slots, lifetimes are
 *   computed, weights are aligned, and calls of functions are replaced by their bodies.
 * - The executor (ref_execute.c) walks a plan with a frame of values.
 * - A kernel computes one node: it reads its inputs, requests its outputs by dtype and shape, and
 *   fills them.
 *
 * Inside the executor a 4-bit element takes a byte (sign-extended), and a string is a kiln_span.
 * Both are converted at the boundaries only, so kernels need not know.
 *
 * Floating-point kernels compute in double and round once, when they store. Integer kernels compute
 * in int64_t or uint64_t, and results wrap when they are stored. */
#ifndef REF_INTERNAL_H
#define REF_INTERNAL_H

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/kln_base.h"
#include "onnx/kln_onnx.h"
#include "ops/kln_ops.h"
#include "seam/kln_seam.h"
#include "tensor/kln_tensor.h"

#define REF_RANK KILN_MAX_RANK
/* The newest operator set of ai.onnx that these kernels implement. */
#define REF_NEWEST_OPSET 28
#define REF_CHUNK 256

/* A loop that the compiler vectorizes for several machines, of which the program selects its own.
 * No product is added before it is rounded (src/CMakeLists.txt), so all give the same results. */
#define REF_WIDE KLN_CLONES("avx512f", "avx2", "default")

/* Expands X(data type, its type in C, ...) for each integer type. */
#define REF_INTS(X, ...)                        \
    X(KILN_DTYPE_INT8, int8_t, __VA_ARGS__)     \
    X(KILN_DTYPE_UINT8, uint8_t, __VA_ARGS__)   \
    X(KILN_DTYPE_INT16, int16_t, __VA_ARGS__)   \
    X(KILN_DTYPE_UINT16, uint16_t, __VA_ARGS__) \
    X(KILN_DTYPE_INT32, int32_t, __VA_ARGS__)   \
    X(KILN_DTYPE_UINT32, uint32_t, __VA_ARGS__) \
    X(KILN_DTYPE_INT64, int64_t, __VA_ARGS__)   \
    X(KILN_DTYPE_UINT64, uint64_t, __VA_ARGS__)

/* --- values --- */

typedef struct ref_tensor {
    kiln_dtype dtype;
    int rank;
    int64_t dims[REF_RANK];
    int64_t count; /* elements */
    void *data;    /* dense; aligned for the dtype */
} ref_tensor;

typedef struct ref_buffer ref_buffer;

typedef enum ref_kind {
    REF_NONE = 0, /* an empty optional, or a slot not written yet */
    REF_TENSOR,
    REF_SEQUENCE
} ref_kind;

/* Values share their bytes: copying one increments a count. */
typedef struct ref_value {
    ref_kind kind;
    ref_tensor tensor;  /* TENSOR; for a SEQUENCE: dtype, and data is an array of `count`
                           ref_value */
    ref_buffer *buffer; /* NULL: the bytes are the model's or the caller's */
} ref_value;

/* --- memory (ref_memory.c) --- */

/* Buffers by size class. A free buffer serves only its own class, so all runs with the same shapes
 * need the same buffers of each class, and only the first one allocates. */
typedef struct ref_memory {
    ref_buffer **free;
    uint64_t bytes; /* of all buffers, free ones included */
    uint64_t limit; /* limit of `bytes`; 0: none */
} ref_memory;

KILN_MUST_CHECK kiln_status ref_memory_init(ref_memory *memory);
void ref_memory_finish(ref_memory *memory);
/* A buffer with one reference and at least `size` bytes, aligned to 64. LIMIT above the limit. */
KILN_MUST_CHECK kiln_status ref_memory_take(ref_memory *memory, size_t size, ref_buffer **buffer);
void *ref_buffer_data(const ref_buffer *buffer);
void ref_buffer_release(ref_memory *memory, ref_buffer *buffer); /* NULL is allowed */

void ref_value_copy(ref_value *to, const ref_value *from);
/* Releases the content of `value` and makes it NONE. */
void ref_value_release(ref_memory *memory, ref_value *value);

/* --- elements (ref_element.c) --- */

/* The arithmetic that a dtype is computed in. */
typedef enum ref_domain {
    REF_DOMAIN_NONE = 0, /* strings, complex numbers: only moved */
    REF_DOMAIN_FLOAT,    /* double */
    REF_DOMAIN_SIGNED,   /* int64_t; bool too */
    REF_DOMAIN_UNSIGNED  /* uint64_t */
} ref_domain;

ref_domain ref_domain_of(kiln_dtype dtype);
size_t ref_element_size(kiln_dtype dtype);
bool ref_is_packed(kiln_dtype dtype); /* two elements per byte outside the executor */
bool ref_is_float8(kiln_dtype dtype);

/* `n` elements from `start` on, `step` apart (0: always the same one). load_int is exact for
 * integers; load_float rounds them to double. */
void ref_load_float(const ref_tensor *tensor, int64_t start, int64_t step, int64_t n, double *out);
void ref_load_int(const ref_tensor *tensor, int64_t start, int64_t step, int64_t n, int64_t *out);
/* Floats round to nearest even; integers wrap, or saturate if a float is out of range. */
void ref_store_float(ref_tensor *tensor, int64_t start, int64_t step, int64_t n, const double *in);
void ref_store_int(ref_tensor *tensor, int64_t start, int64_t step, int64_t n, const int64_t *in);
/* Contiguous elements of float16 and bfloat16, rounded as by ref_store_float. (ref_half.c) */
void ref_halves_load(const uint16_t *in, int64_t n, double *out);
void ref_halves_store(const double *in, int64_t n, uint16_t *out);
void ref_bfloats_store(const double *in, int64_t n, uint16_t *out);
double ref_get_float(const ref_tensor *tensor, int64_t index);
int64_t ref_get_int(const ref_tensor *tensor, int64_t index);
void ref_put_float(ref_tensor *tensor, int64_t index, double value);
void ref_put_int(ref_tensor *tensor, int64_t index, int64_t value);
/* `value` as float, rounded to odd, so that a second rounding to fewer bits is correct. */
float ref_narrow(double value);
/* Truncates towards zero. Out of range gives the nearest limit and NaN 0, which C leaves
 * undefined. */
int64_t ref_to_int(double value);
/* Rounds to nearest even, whatever the rounding mode. */
double ref_round_even(double value);
/* Weight of a neighbour at distance `x` in cubic convolution with coefficient `a`
 * (ref_resize.c). */
double ref_cubic_weight(double x, double a);
/* The smallest and largest value of an integer dtype. */
double ref_least(kiln_dtype dtype);
double ref_greatest(kiln_dtype dtype);
/* Converts between the packed form outside and one element per byte inside. */
void ref_unpack(kiln_dtype dtype, const void *packed, int64_t count, void *bytes);
void ref_pack(const void *bytes, int64_t count, void *packed);

/* --- iterating over dimensions (ref_walk.c) --- */

#define REF_WALK_OPERANDS 4

/* Rows over the same dimensions of several operands: for each operand, `next` gives the offset of a
 * row's first element, and its elements are `step` apart. Adjacent dimensions are merged if
 * possible. */
typedef struct ref_walk {
    int rank;
    int operands;
    int64_t dims[REF_RANK + 1];
    int64_t strides[REF_WALK_OPERANDS][REF_RANK + 1];
    int64_t index[REF_RANK + 1];
    int64_t offset[REF_WALK_OPERANDS];
    int64_t step[REF_WALK_OPERANDS];
    int64_t length; /* of a row */
    bool started;
    bool empty;
} ref_walk;

void ref_walk_init(ref_walk *walk, int rank, const int64_t *dims);
void ref_walk_add(ref_walk *walk, const int64_t *strides);
/* Adds an operand, broadcast to the walk's dimensions. */
void ref_walk_add_broadcast(ref_walk *walk, const ref_tensor *tensor);
void ref_walk_begin(ref_walk *walk);
bool ref_walk_next(ref_walk *walk);

void ref_dense_strides(int rank, const int64_t *dims, int64_t *strides);
/* Copies elements of `size` bytes between two strided views of the same dimensions. */
void ref_copy_strided(size_t size, int rank, const int64_t *dims, void *to,
                      const int64_t *to_strides, const void *from, const int64_t *from_strides);
/* to[i * to_row + k] = from[i + k * from_column] for `rows` i and `count` k. */
void ref_turn_floats(int64_t rows, int64_t count, const float *from, int64_t from_column, float *to,
                     int64_t to_row);
/* `n` elements of `size` bytes, `step` elements apart on each side. */
void ref_copy_elements(size_t size, int64_t n, void *to, int64_t to_step, const void *from,
                       int64_t from_step);
/* to[i] = from[places[i]] for `n` elements of `size` bytes. */
void ref_take_elements(size_t size, int64_t n, void *to, const void *from, const int64_t *places);
/* The same for slices of `slice` bytes, whose elements have `size` bytes each. */
void ref_take_slices(size_t size, size_t slice, int64_t n, void *to, const void *from,
                     const int64_t *places);
/* The product of dims[begin] to dims[end - 1], which cannot overflow, because the tensor exists. */
int64_t ref_product(const int64_t *dims, int begin, int end);

/* --- plans (ref_plan.c) --- */

struct ref_call;
typedef kiln_status (*ref_function)(struct ref_call *call);

typedef struct ref_kernel {
    const char *op;
    const char *domain; /* "": ai.onnx */
    int since;          /* oldest version of the operator set that it is compatible with */
    ref_function function;
    int variant; /* for functions that serve several operators */
    /* A letter for each of the first inputs: 't' a tensor, 'n' numbers, 'f' floating-point numbers,
     * 's' strings, 'o' numbers, optional, '1' a single number, '?' a single number, optional, '-'
     * checked by the function. Inputs after a last 'n', 'f', 'o' or '1' are treated as 'o'; those
     * after any other letter are checked by the function. NULL: all are. */
    const char *needs;
} ref_kernel;

/* By operator and domain, or NULL. (ref_table.c) */
const ref_kernel *ref_kernel_find(const char *domain, const char *op);
size_t ref_kernel_count(void);
const ref_kernel *ref_kernel_get(size_t index);

#define REF_SLOT_NONE UINT32_MAX

/* Where a node finds an input: a constant, or slot `slot` of the frame `level` frames up. */
typedef struct ref_source {
    const ref_value *constant;
    uint32_t level;
    uint32_t slot; /* NONE: the input is omitted */
} ref_source;

struct ref_plan;

typedef struct ref_node {
    const kln_onnx_node *node;
    uint32_t index;                        /* in its graph */
    const ref_kernel *kernel;              /* NULL: bodies[0] is that of a function */
    int64_t version;                       /* of the operator set in use */
    const kln_onnx_attribute **attributes; /* references resolved */
    struct ref_plan **bodies;              /* of graph attributes, or NULL */
    size_t attribute_count;
    ref_source *inputs;
    size_t input_count;
    uint32_t *outputs;
    size_t output_count;
    uint32_t *dead; /* slots that no later node reads */
    size_t dead_count;
} ref_node;

typedef struct ref_plan {
    const kln_onnx_graph *graph; /* graph that it was made from; for a function, its body */
    const char **input_names;
    uint32_t *inputs; /* slots */
    size_t input_count;
    size_t optional_count;     /* the last of these, which have a value if none is given */
    const ref_value *optional; /* that value, for each */
    ref_source *outputs;
    size_t output_count;
    size_t slot_count;
    ref_node *nodes;
    size_t node_count;
} ref_plan;

/* A prepared model. */
typedef struct ref_engine {
    kln_onnx_model *model;
    void *copy;           /* of model bytes given in memory, until the model owns them; or NULL */
    kiln_span source;     /* what a save writes; empty until then if weights were replaced */
    pthread_mutex_t lock; /* held while a save makes `source` and `written` */
    kln_text written;     /* the model as one message, if its weights are in other files */
    kln_arena arena;      /* of the plans */
    kln_arena weights;
    ref_plan *plan;
} ref_engine;

/* Fills in `engine->plan` from `engine->model`. */
KILN_MUST_CHECK kiln_status ref_plan_make(ref_engine *engine);
/* `tensor` as a value in this executor's form; misaligned bytes are copied to `arena`. */
KILN_MUST_CHECK kiln_status ref_constant(kln_arena *arena, const kln_onnx_tensor *tensor,
                                         ref_value *value);
/* The value of a Constant node's attribute. */
KILN_MUST_CHECK kiln_status ref_constant_attribute(kln_arena *arena,
                                                   const kln_onnx_attribute *attribute,
                                                   ref_value *value);

/* --- execution (ref_execute.c) --- */

typedef struct ref_frame {
    struct ref_frame *outer;
    const ref_plan *plan;
    ref_value *values;
} ref_frame;

typedef struct ref_text ref_text;
typedef struct ref_table ref_table;

typedef struct ref_context {
    const ref_engine *engine;
    const ref_kernel *(*find)(const char *domain,
                              const char *op); /* for kernels composed of others */
    ref_memory memory;
    ref_text *texts;     /* bytes of strings made by the last run */
    ref_table *tables;   /* of functions on 16-bit types */
    kiln_tensor *bound;  /* inputs, then outputs */
    ref_value *results;  /* of outputs kept here */
    bool *direct;        /* outputs that a kernel may write directly to the caller's memory */
    int depth;           /* of frames */
    atomic_bool stopped; /* by another thread: the run ends at its next check */
    double work_limit;   /* most elements and products that a run may process; HUGE_VAL: no limit */
    double work_left;
    kln_node_time *times; /* for each node of the plan while they are measured; or NULL */
    kln_arena time_names;
    bool is_timed;
} ref_context;

/* Runs `plan` inside `outer` (NULL: none). `inputs` are copied; the caller releases `outputs`. */
KILN_MUST_CHECK kiln_status ref_execute(ref_context *context, const ref_plan *plan,
                                        ref_frame *outer, const ref_value *inputs,
                                        size_t input_count, ref_value *outputs);

/* The value at `source`, as seen by a node of `frame`; NULL if it is omitted. */
const ref_value *ref_find_source(ref_frame *frame, const ref_source *source);

/* Measures each node of the plan itself (ref_times.c): nodes of bodies and functions count for the
 * node that runs them. */
KILN_MUST_CHECK kiln_status ref_time_nodes(void *context, bool on);
KILN_MUST_CHECK kiln_status ref_node_time(void *context, size_t index, kiln_layer_time *layer);
void ref_times_finish(ref_context *context);

/* One run with the present bindings (ref_run.c). */
KILN_MUST_CHECK kiln_status ref_run(void *context);

/* --- the arguments of a kernel (ref_call.c) --- */

#define REF_SCRATCH 16

typedef struct ref_call {
    ref_context *context;
    ref_frame *frame;
    const ref_node *node;
    const ref_value **inputs; /* NULL if omitted */
    ref_value *outputs;       /* moved to the frame if the kernel succeeds */
    ref_buffer *scratch[REF_SCRATCH];
    size_t scratch_count;
    ref_value *steps; /* (ref_step.c) */
    size_t step_count;
    int variant;
} ref_call;

/* Releases steps and scratch memory. */
void ref_call_finish(ref_call *call);

/* Deducts `amount` elements or products, about to be processed, from what the run may still do.
 * LIMIT if that is used up, CANCELLED if the run was stopped. An untrusted model can loop for
 * ever. */
KILN_MUST_CHECK kiln_status ref_spend(const ref_call *call, double amount);
/* The tensor of input `index`, or NULL if it is omitted or not a tensor. */
const ref_tensor *ref_input(const ref_call *call, size_t index);
/* The same, required. */
KILN_MUST_CHECK kiln_status ref_need(const ref_call *call, size_t index, const ref_tensor **tensor);
/* The same with a dtype that is computed in `domain` or, for NONE, any number. */
KILN_MUST_CHECK kiln_status ref_need_number(const ref_call *call, size_t index,
                                            const ref_tensor **tensor);
KILN_MUST_CHECK kiln_status ref_need_float(const ref_call *call, size_t index,
                                           const ref_tensor **tensor);
/* Checks everything in the kernel's row. */
KILN_MUST_CHECK kiln_status ref_need_inputs(const ref_call *call);
bool ref_wants(const ref_call *call, size_t output);
/* Output `index`, released and set to NONE. */
KILN_MUST_CHECK kiln_status ref_output_value(ref_call *call, size_t index, ref_value **value);
/* Memory for output `index`, uninitialized; also for an output that is not requested. */
KILN_MUST_CHECK kiln_status ref_output(ref_call *call, size_t index, kiln_dtype dtype, int rank,
                                       const int64_t *dims, ref_tensor **tensor);
/* Makes output `index` a view of `from` with another shape of as many elements. */
KILN_MUST_CHECK kiln_status ref_output_view(ref_call *call, size_t index, size_t input, int rank,
                                            const int64_t *dims);
/* Memory until the kernel returns. */
KILN_MUST_CHECK kiln_status ref_scratch(ref_call *call, size_t count, size_t size, void *memory);
/* `tensor` as doubles (or int64_t) in scratch memory. */
KILN_MUST_CHECK kiln_status ref_doubles(ref_call *call, const ref_tensor *tensor, double **values);
KILN_MUST_CHECK kiln_status ref_ints(ref_call *call, const ref_tensor *tensor, int64_t **values);

/* Bytes of strings, valid until the next run (ref_text.c). */
KILN_MUST_CHECK kiln_status ref_text_take(ref_call *call, size_t size, char **bytes);
void ref_text_release(ref_context *context);
void ref_tables_finish(ref_context *context); /* (ref_short.c) */

const kln_onnx_attribute *ref_attribute(const ref_call *call, const char *name);
int64_t ref_attribute_int(const ref_call *call, const char *name, int64_t otherwise);
double ref_attribute_float(const ref_call *call, const char *name, double otherwise);
/* A NUL-terminated string. */
const char *ref_attribute_string(const ref_call *call, const char *name, const char *otherwise);
/* NULL and a count of 0 if there is none. */
const int64_t *ref_attribute_ints(const ref_call *call, const char *name, size_t *count);
const struct ref_plan *ref_attribute_plan(const ref_call *call, const char *name);
/* The integers of input `index` or, if the call has none, of the attribute `name` (NULL: none), in
 * scratch memory; `*values` is NULL if there is neither. */
KILN_MUST_CHECK kiln_status ref_int_list(ref_call *call, size_t index, const char *name,
                                         const int64_t **values, size_t *count);

/* `axis` counted from the front; negative ones count from the end. */
KILN_MUST_CHECK kiln_status ref_axis(const ref_call *call, int64_t axis, int rank, int *result);
/* A set of axes as a bit mask. */
KILN_MUST_CHECK kiln_status ref_axes(const ref_call *call, const int64_t *axes, size_t count,
                                     int rank, uint32_t *mask);
KILN_MUST_CHECK kiln_status ref_fail_dtype(const ref_call *call, kiln_dtype dtype);
/* The shape that `a` and `b` broadcast to, in `dims`. */
KILN_MUST_CHECK kiln_status ref_broadcast(const ref_call *call, int a_rank, const int64_t *a_dims,
                                          int b_rank, const int64_t *b_dims, int *rank,
                                          int64_t *dims);
bool ref_same_shape(const ref_tensor *a, const ref_tensor *b);
/* The product of dims; LIMIT if it exceeds memory. */
KILN_MUST_CHECK kiln_status ref_count(int rank, const int64_t *dims, int64_t *count);

/* Clamps to `low` and `high`; unlike fmin and fmax, keeps NaN. */
static inline double ref_clamp(double value, double low, double high)
{
    return value < low ? low : value > high ? high : value;
}
/* The greater of the two, or NaN if one is NaN. */
static inline double ref_greater(double a, double b)
{
    return isnan(a) || a > b ? a : b;
}
static inline int64_t ref_clamp_int(int64_t value, int64_t low, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

#endif
