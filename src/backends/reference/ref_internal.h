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
/* The newest operator set of ai.onnx whose meaning these kernels were written for. */
#define REF_NEWEST_OPSET 28
#define REF_CHUNK 256

/* A loop that the compiler makes for the vectors of several machines, of which the program takes
 * its own. No product is added before it is rounded (src/CMakeLists.txt), so all give the same. */
#define REF_WIDE KLN_CLONES("avx512f", "avx2", "default")

/* What is made for each type of integers: X(data type, its type in C, ...). */
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
    REF_NONE = 0, /* an optional that holds nothing, or a slot not written yet */
    REF_TENSOR,
    REF_SEQUENCE
} ref_kind;

/* A value shares its bytes: copying one costs a count. */
typedef struct ref_value {
    ref_kind kind;
    ref_tensor tensor; /* TENSOR; of a SEQUENCE: dtype, and data is an array of `count` ref_value */
    ref_buffer *buffer; /* NULL: the bytes are the model's or the caller's */
} ref_value;

/* --- memory (ref_memory.c) --- */

/* Buffers by size class. A free buffer serves only its own class, so what a run needs of each class
 * is the same in each run of the same shapes, and after the first one nothing is allocated. */
typedef struct ref_memory {
    ref_buffer **free;
    uint64_t bytes; /* of all buffers, the free ones too */
    uint64_t limit; /* of `bytes`; 0: none */
} ref_memory;

KILN_MUST_CHECK kiln_status ref_memory_init(ref_memory *memory);
void ref_memory_finish(ref_memory *memory);
/* A buffer with one reference and at least `size` bytes, aligned to 64. LIMIT past the limit. */
KILN_MUST_CHECK kiln_status ref_memory_take(ref_memory *memory, size_t size, ref_buffer **buffer);
void *ref_buffer_data(const ref_buffer *buffer);
void ref_buffer_release(ref_memory *memory, ref_buffer *buffer); /* NULL is allowed */

void ref_value_copy(ref_value *to, const ref_value *from);
/* Lets go what `value` holds and makes it NONE. */
void ref_value_release(ref_memory *memory, ref_value *value);

/* --- elements (ref_element.c) --- */

/* What arithmetic a dtype is computed in. */
typedef enum ref_domain {
    REF_DOMAIN_NONE = 0, /* strings, complex numbers: moved only */
    REF_DOMAIN_FLOAT,    /* double */
    REF_DOMAIN_SIGNED,   /* int64_t; bool too */
    REF_DOMAIN_UNSIGNED  /* uint64_t */
} ref_domain;

ref_domain ref_domain_of(kiln_dtype dtype);
size_t ref_element_size(kiln_dtype dtype);
bool ref_is_packed(kiln_dtype dtype); /* two elements to a byte outside */
bool ref_is_float8(kiln_dtype dtype);

/* `n` elements from `start` on, `step` apart (0: the same one over and over). Integers are exact in
 * load_int; load_float rounds them to double. */
void ref_load_float(const ref_tensor *tensor, int64_t start, int64_t step, int64_t n, double *out);
void ref_load_int(const ref_tensor *tensor, int64_t start, int64_t step, int64_t n, int64_t *out);
/* Floats round to nearest even; integers wrap, or saturate where a float is out of range. */
void ref_store_float(ref_tensor *tensor, int64_t start, int64_t step, int64_t n, const double *in);
void ref_store_int(ref_tensor *tensor, int64_t start, int64_t step, int64_t n, const int64_t *in);
/* Neighbouring elements of float16 and bfloat16, rounded as by ref_store_float. (ref_half.c) */
void ref_halves_load(const uint16_t *in, int64_t n, double *out);
void ref_halves_store(const double *in, int64_t n, uint16_t *out);
void ref_bfloats_store(const double *in, int64_t n, uint16_t *out);
double ref_get_float(const ref_tensor *tensor, int64_t index);
int64_t ref_get_int(const ref_tensor *tensor, int64_t index);
void ref_put_float(ref_tensor *tensor, int64_t index, double value);
void ref_put_int(ref_tensor *tensor, int64_t index, int64_t value);
/* `value` as float, rounded to odd, so that a second rounding to fewer bits is right. */
float ref_narrow(double value);
/* Towards zero; out of range becomes the nearest end and NaN 0, which C leaves undefined. */
int64_t ref_to_int(double value);
/* Rounds to nearest even, whatever the rounding mode. */
double ref_round_even(double value);
/* Of a neighbour at distance `x` in cubic convolution with coefficient `a` (ref_resize.c). */
double ref_cubic_weight(double x, double a);
/* The least and greatest value of an integer dtype. */
double ref_least(kiln_dtype dtype);
double ref_greatest(kiln_dtype dtype);
/* Between the packed form outside and a byte an element in here. */
void ref_unpack(kiln_dtype dtype, const void *packed, int64_t count, void *bytes);
void ref_pack(const void *bytes, int64_t count, void *packed);

/* --- walking over dimensions (ref_walk.c) --- */

#define REF_WALK_OPERANDS 4

/* Rows over the same dimensions of several operands: `next` gives, for each, the offset of a row's
 * first element; its elements are `step` apart. Neighbouring dimensions are merged where they can
 * be. */
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
/* Adds an operand that is broadcast to the walk's dimensions. */
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
/* The same of slices of `slice` bytes, of whose elements each has `size`. */
void ref_take_slices(size_t size, size_t slice, int64_t n, void *to, const void *from,
                     const int64_t *places);
/* The product of dims[begin] to dims[end - 1], which fits since the tensor exists. */
int64_t ref_product(const int64_t *dims, int begin, int end);

/* --- plans (ref_plan.c) --- */

struct ref_call;
typedef kiln_status (*ref_function)(struct ref_call *call);

typedef struct ref_kernel {
    const char *op;
    const char *domain; /* "": ai.onnx */
    int since;          /* the oldest version of the operator set it keeps */
    ref_function function;
    int variant; /* for functions that serve several operators */
    /* A letter for each of the first inputs: 't' is a tensor, 'n' one of numbers, 'f' one of
     * floating-point numbers, 's' one of strings, 'o' one of numbers or left out, '1' is one
     * number, '?' one or left out, '-' is the function's to look at. Inputs behind a last 'n',
     * 'f', 'o' or '1' are as by 'o', those behind another the function's. NULL: all are. */
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
    uint32_t slot; /* NONE: the input is left out */
} ref_source;

struct ref_plan;

typedef struct ref_node {
    const kln_onnx_node *node;
    uint32_t index;                        /* in its graph */
    const ref_kernel *kernel;              /* NULL: bodies[0] is a function's */
    int64_t version;                       /* of the operator set in force */
    const kln_onnx_attribute **attributes; /* references resolved */
    struct ref_plan **bodies;              /* of graph attributes, else NULL */
    size_t attribute_count;
    ref_source *inputs;
    size_t input_count;
    uint32_t *outputs;
    size_t output_count;
    uint32_t *dead; /* slots that nothing reads after this node */
    size_t dead_count;
} ref_node;

typedef struct ref_plan {
    const kln_onnx_graph *graph; /* that it was made from; of a function, its body */
    const char **input_names;
    uint32_t *inputs; /* slots */
    size_t input_count;
    size_t optional_count;     /* of these, the last: they have a value where none is given */
    const ref_value *optional; /* that value of each */
    ref_source *outputs;
    size_t output_count;
    size_t slot_count;
    ref_node *nodes;
    size_t node_count;
} ref_plan;

/* A model made ready. */
typedef struct ref_engine {
    kln_onnx_model *model;
    void *copy;       /* of bytes that were given in memory, until the model has them; or NULL */
    kiln_span source; /* what a save writes; empty until then where weights were replaced */
    pthread_mutex_t lock; /* held while `source` and `written` are made for a save */
    kln_text written;     /* the model as one message, where its weights lie in other files */
    kln_arena arena;      /* the plans */
    kln_arena weights;
    ref_plan *plan;
} ref_engine;

/* Fills in `engine->plan` from `engine->model`. */
KILN_MUST_CHECK kiln_status ref_plan_make(ref_engine *engine);
/* `tensor` as a value in this executor's form; bytes that do not lie right are copied to `arena`.
 */
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
    const ref_kernel *(*find)(const char *domain, const char *op); /* for kernels made of others */
    ref_memory memory;
    ref_text *texts;     /* bytes of strings that the last run made */
    ref_table *tables;   /* of functions of 16 bits */
    kiln_tensor *bound;  /* inputs, then outputs */
    ref_value *results;  /* of outputs that lie here */
    bool *direct;        /* outputs that a kernel may write where the caller wants them */
    int depth;           /* of frames */
    atomic_bool stopped; /* by another thread: the run ends where it looks */
    double work_limit;   /* elements and products that one run may touch; HUGE_VAL: no limit */
    double work_left;
    kln_node_time *times; /* one for each node of the plan, while they are measured; or NULL */
    kln_arena time_names;
    bool is_timed;
} ref_context;

/* Runs `plan` inside `outer` (NULL: none); `inputs` are copied from, `outputs` are released by the
 * caller. */
KILN_MUST_CHECK kiln_status ref_execute(ref_context *context, const ref_plan *plan,
                                        ref_frame *outer, const ref_value *inputs,
                                        size_t input_count, ref_value *outputs);

/* What a node of `frame` finds at `source`; NULL where it was left out. */
const ref_value *ref_find_source(ref_frame *frame, const ref_source *source);

/* What each node of the plan itself takes (ref_times.c): the nodes of its bodies and functions
 * count with the one that runs them. */
KILN_MUST_CHECK kiln_status ref_time_nodes(void *context, bool on);
KILN_MUST_CHECK kiln_status ref_node_time(void *context, size_t index, kiln_layer_time *layer);
void ref_times_finish(ref_context *context);

/* One run with what is bound (ref_run.c). */
KILN_MUST_CHECK kiln_status ref_run(void *context);

/* --- what a kernel is given (ref_call.c) --- */

#define REF_SCRATCH 16

typedef struct ref_call {
    ref_context *context;
    ref_frame *frame;
    const ref_node *node;
    const ref_value **inputs; /* NULL where left out */
    ref_value *outputs;       /* taken over by the frame when the kernel succeeds */
    ref_buffer *scratch[REF_SCRATCH];
    size_t scratch_count;
    ref_value *steps; /* (ref_step.c) */
    size_t step_count;
    int variant;
} ref_call;

/* Lets go of steps and scratch memory. */
void ref_call_finish(ref_call *call);

/* Takes `amount` elements or products, about to be touched, from what the run may still do; LIMIT
 * when that is spent, CANCELLED when the run was stopped. A model that is not trusted can loop for
 * ever. */
KILN_MUST_CHECK kiln_status ref_spend(const ref_call *call, double amount);
/* The tensor of input `index`, or NULL when it is left out or is no tensor. */
const ref_tensor *ref_input(const ref_call *call, size_t index);
/* The same, required. */
KILN_MUST_CHECK kiln_status ref_need(const ref_call *call, size_t index, const ref_tensor **tensor);
/* The same with a dtype that is computed in `domain` or, for NONE, any number. */
KILN_MUST_CHECK kiln_status ref_need_number(const ref_call *call, size_t index,
                                            const ref_tensor **tensor);
KILN_MUST_CHECK kiln_status ref_need_float(const ref_call *call, size_t index,
                                           const ref_tensor **tensor);
/* All that the kernel's row says. */
KILN_MUST_CHECK kiln_status ref_need_inputs(const ref_call *call);
bool ref_wants(const ref_call *call, size_t output);
/* Output `index`, let go and NONE for now. */
KILN_MUST_CHECK kiln_status ref_output_value(ref_call *call, size_t index, ref_value **value);
/* Memory for output `index`, uninitialised; also for one that nobody asked for. */
KILN_MUST_CHECK kiln_status ref_output(ref_call *call, size_t index, kiln_dtype dtype, int rank,
                                       const int64_t *dims, ref_tensor **tensor);
/* Output `index` has the bytes of `from` under another shape of as many elements. */
KILN_MUST_CHECK kiln_status ref_output_view(ref_call *call, size_t index, size_t input, int rank,
                                            const int64_t *dims);
/* Memory until the kernel returns. */
KILN_MUST_CHECK kiln_status ref_scratch(ref_call *call, size_t count, size_t size, void *memory);
/* `tensor` as doubles (or int64_t) in scratch memory. */
KILN_MUST_CHECK kiln_status ref_doubles(ref_call *call, const ref_tensor *tensor, double **values);
KILN_MUST_CHECK kiln_status ref_ints(ref_call *call, const ref_tensor *tensor, int64_t **values);

/* Bytes of strings, until the next run (ref_text.c). */
KILN_MUST_CHECK kiln_status ref_text_take(ref_call *call, size_t size, char **bytes);
void ref_text_release(ref_context *context);
void ref_tables_finish(ref_context *context); /* (ref_short.c) */

const kln_onnx_attribute *ref_attribute(const ref_call *call, const char *name);
int64_t ref_attribute_int(const ref_call *call, const char *name, int64_t otherwise);
double ref_attribute_float(const ref_call *call, const char *name, double otherwise);
/* A terminated string. */
const char *ref_attribute_string(const ref_call *call, const char *name, const char *otherwise);
/* NULL and a count of 0 when there is none. */
const int64_t *ref_attribute_ints(const ref_call *call, const char *name, size_t *count);
const struct ref_plan *ref_attribute_plan(const ref_call *call, const char *name);
/* The integers of input `index` or, when the call has none, of the attribute `name` (NULL: none) in
 * scratch memory; `*values` is NULL when there is neither. */
KILN_MUST_CHECK kiln_status ref_int_list(ref_call *call, size_t index, const char *name,
                                         const int64_t **values, size_t *count);

/* `axis` counted from the front; negative ones count from the end. */
KILN_MUST_CHECK kiln_status ref_axis(const ref_call *call, int64_t axis, int rank, int *result);
/* A set of axes as a bit mask. */
KILN_MUST_CHECK kiln_status ref_axes(const ref_call *call, const int64_t *axes, size_t count,
                                     int rank, uint32_t *mask);
KILN_MUST_CHECK kiln_status ref_fail_dtype(const ref_call *call, kiln_dtype dtype);
/* The shape that `a` and `b` broadcast to, into `dims`. */
KILN_MUST_CHECK kiln_status ref_broadcast(const ref_call *call, int a_rank, const int64_t *a_dims,
                                          int b_rank, const int64_t *b_dims, int *rank,
                                          int64_t *dims);
bool ref_same_shape(const ref_tensor *a, const ref_tensor *b);
/* Product of dims, with LIMIT past what memory can hold. */
KILN_MUST_CHECK kiln_status ref_count(int rank, const int64_t *dims, int64_t *count);

/* Between `low` and `high`; unlike with fmin and fmax, what is no number stays so. */
static inline double ref_clamp(double value, double low, double high)
{
    return value < low ? low : value > high ? high : value;
}
/* The greater one, or the one that is no number. */
static inline double ref_greater(double a, double b)
{
    return isnan(a) || a > b ? a : b;
}
static inline int64_t ref_clamp_int(int64_t value, int64_t low, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

#endif
