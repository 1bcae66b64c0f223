/*
 * tensor.h - tensors: data type, shape, layout, location, and a view of the bytes.
 *
 * All of these are small plain structs that a caller keeps on the stack. None owns memory, except
 * for tensors from kiln_tensor_load_npy and kiln_tensors_load_npz.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_TENSOR_H
#define KILN_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kiln/export.h>
#include <kiln/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The maximum rank of a tensor, as in TensorRT (nvinfer1::Dims::MAX_DIMS). */
#define KILN_MAX_RANK 8

/* A dynamic dimension: its size is not known until a run. */
#define KILN_DYNAMIC ((int64_t)-1)

/* Read-only bytes owned by someone else. Each use says how long they must stay valid. */
typedef struct kiln_span {
    const void *data; /* may be NULL when size is 0 */
    size_t size;      /* bytes */
} kiln_span;

/* Writable bytes owned by someone else. */
typedef struct kiln_mutable_span {
    void *data;
    size_t size; /* bytes */
} kiln_mutable_span;

/*
 * Every data type: name, value, bits per element, name as text. The values are ABI.
 *
 * Elements of 4 bits are packed two to a byte, the first in the low half, as in ONNX and TensorRT.
 *
 * A string element is a kiln_span: UTF-8 by convention, although any bytes are allowed, and not
 * NUL-terminated. Strings are always in host memory; docs/tensor.md#strings says who owns the
 * bytes.
 */
#define KILN_DTYPE_LIST(X)                          \
    X(KILN_DTYPE_UNDEFINED, 0, 0, "undefined")      \
    X(KILN_DTYPE_FLOAT32, 1, 32, "float32")         \
    X(KILN_DTYPE_FLOAT16, 2, 16, "float16")         \
    X(KILN_DTYPE_BFLOAT16, 3, 16, "bfloat16")       \
    X(KILN_DTYPE_FLOAT64, 4, 64, "float64")         \
    X(KILN_DTYPE_INT8, 5, 8, "int8")                \
    X(KILN_DTYPE_UINT8, 6, 8, "uint8")              \
    X(KILN_DTYPE_INT16, 7, 16, "int16")             \
    X(KILN_DTYPE_UINT16, 8, 16, "uint16")           \
    X(KILN_DTYPE_INT32, 9, 32, "int32")             \
    X(KILN_DTYPE_UINT32, 10, 32, "uint32")          \
    X(KILN_DTYPE_INT64, 11, 64, "int64")            \
    X(KILN_DTYPE_UINT64, 12, 64, "uint64")          \
    X(KILN_DTYPE_BOOL, 13, 8, "bool")               \
    X(KILN_DTYPE_INT4, 14, 4, "int4")               \
    X(KILN_DTYPE_UINT4, 15, 4, "uint4")             \
    X(KILN_DTYPE_FLOAT8E4M3, 16, 8, "float8e4m3fn") \
    X(KILN_DTYPE_FLOAT8E5M2, 17, 8, "float8e5m2")   \
    X(KILN_DTYPE_FLOAT4E2M1, 18, 4, "float4e2m1")   \
    X(KILN_DTYPE_COMPLEX64, 19, 64, "complex64")    \
    X(KILN_DTYPE_COMPLEX128, 20, 128, "complex128") \
    X(KILN_DTYPE_STRING, 21, 0, "string")

typedef enum kiln_dtype {
#define KILN_DTYPE_ENUM_(name, value, bits, text) name = value,
    KILN_DTYPE_LIST(KILN_DTYPE_ENUM_)
#undef KILN_DTYPE_ENUM_
} kiln_dtype;

/* The name as text: "float32"; "undefined" for a value that is not in the list. Static storage. Any
 * thread. Since 0.1. */
KILN_API const char *kiln_dtype_name(kiln_dtype dtype);

/* The data type of that name, or KILN_DTYPE_UNDEFINED if there is none. The aliases "fp32", "fp16",
 * "bf16", "fp64", "fp8", "float", "half" and "double" are accepted too. Any thread. Since 0.1. */
KILN_API kiln_dtype kiln_dtype_from_name(const char *name);

/* Bits per element: 32 for float32, 4 for int4. 0 for undefined, and for string, whose elements
 * vary in length. Any thread. Since 0.1. */
KILN_API unsigned kiln_dtype_bits(kiln_dtype dtype);

/* The minimum alignment of an address of this type, in bytes: the size of an element; for complex
 * types the size of one part; for strings the alignment of a kiln_span; 1 for types smaller than a
 * byte. Any thread. Since 0.1. */
KILN_API size_t kiln_dtype_alignment(kiln_dtype dtype);

/* Rank and dimensions. Rank 0 is a scalar: one element. A dimension of 0 is allowed and makes the
 * tensor empty. KILN_DYNAMIC marks a dimension that is not known yet. Dimensions past `rank` are
 * ignored. */
typedef struct kiln_shape {
    int32_t rank; /* 0 to KILN_MAX_RANK */
    int64_t dims[KILN_MAX_RANK];
} kiln_shape;

/* KILN_SHAPE(2, 3, 4) is the shape 2x3x4. In C++, also kiln_shape{3, {2, 3, 4}}. */
#ifdef __cplusplus
#define KILN_SHAPE(...) KILN_LASTING_(kiln_shape, kiln_shape_of_(__VA_ARGS__))
extern "C++" {
template <typename... Dim>
inline kiln_shape kiln_shape_of_(Dim... dims)
{
    return kiln_shape{static_cast<int32_t>(sizeof...(dims)), {static_cast<int64_t>(dims)...}};
}
}
#else
#define KILN_SHAPE(...) \
    ((kiln_shape){(int32_t)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), {__VA_ARGS__}})
#endif

/* The shape of a scalar. */
#define KILN_SHAPE_SCALAR KILN_LASTING_(kiln_shape, KILN_LITERAL_(kiln_shape){0, {0}})

/* Whether both shapes have the same rank and dimensions. Any thread. Since 0.1. */
KILN_API bool kiln_shape_equal(const kiln_shape *a, const kiln_shape *b);

/* Whether no dimension is KILN_DYNAMIC. Any thread. Since 0.1. */
KILN_API bool kiln_shape_is_static(const kiln_shape *shape);

/* Gives the number of elements, which is the product of the dimensions. Errors: NULL_ARGUMENT; RANK
 * for a rank outside 0 to KILN_MAX_RANK; SHAPE for a negative dimension; LIMIT if the product
 * exceeds INT64_MAX. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_shape_elements(const kiln_shape *shape, int64_t *count);

/* Writes the shape as text, such as "2x3x?x5", and returns the full length without the NUL. The
 * text is truncated to `size` and always NUL-terminated if `size` is not 0. A dynamic dimension is
 * "?", rank 0 is "scalar", and a rank of -1 or any other invalid rank is "any rank". Any thread.
 * Since 0.1. */
KILN_API size_t kiln_shape_format(const kiln_shape *shape, char *text, size_t size);

/* Parses "2x3x224x224" or "2,3,224,224". "?" and "-1" are dynamic dimensions; "" and "scalar" are
 * rank 0. Errors: NULL_ARGUMENT; SHAPE with the position that cannot be parsed; RANK above
 * KILN_MAX_RANK. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_shape_parse(const char *text, kiln_shape *shape);

/* Distance between adjacent elements along each dimension, in elements. Rank 0 with a shape of
 * another rank means dense: row-major without gaps, the last dimension contiguous. */
typedef struct kiln_strides {
    int32_t rank;
    int64_t steps[KILN_MAX_RANK];
} kiln_strides;

/* Gives the strides of a dense tensor of this shape. Errors: as kiln_shape_elements. Any thread.
 * Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_strides_dense(const kiln_shape *shape,
                                                        kiln_strides *strides);

/* Memory layouts of elements. The names are TensorRT's. */
typedef enum kiln_tensor_format {
    KILN_FORMAT_LINEAR = 0, /* row-major, or as the strides say */
    KILN_FORMAT_CHW2 = 1,   /* two channels interleaved */
    KILN_FORMAT_HWC8 = 2,   /* channels last, padded to 8 */
    KILN_FORMAT_CHW4 = 3,
    KILN_FORMAT_CHW16 = 4,
    KILN_FORMAT_CHW32 = 5,
    KILN_FORMAT_DHWC8 = 6,
    KILN_FORMAT_CDHW32 = 7,
    KILN_FORMAT_HWC = 8, /* channels last */
    KILN_FORMAT_DLA_LINEAR = 9,
    KILN_FORMAT_DLA_HWC4 = 10,
    KILN_FORMAT_HWC16 = 11,
    KILN_FORMAT_DHWC = 12
} kiln_tensor_format;

/* Memory locations. */
typedef enum kiln_location {
    KILN_LOCATION_HOST = 0,    /* ordinary memory of the process */
    KILN_LOCATION_PINNED = 1,  /* page-locked host memory, which a device accesses directly */
    KILN_LOCATION_MANAGED = 2, /* migrates between host and device automatically */
    KILN_LOCATION_DEVICE = 3   /* a GPU's own memory */
} kiln_location;

/* "host", "pinned", "managed" or "device"; "?" for any other value. Static storage. Any thread.
 * Since 0.1. */
KILN_API const char *kiln_location_name(kiln_location location);

/* A tensor's description, without its bytes. If zeroed, with dtype and shape set, it describes a
 * dense host tensor. */
typedef struct kiln_tensor_desc {
    kiln_dtype dtype;
    kiln_tensor_format format;
    kiln_location location;
    int32_t device; /* for PINNED, MANAGED and DEVICE: index of the device, from 0 */
    kiln_shape shape;
    kiln_strides strides; /* rank 0: dense */
} kiln_tensor_desc;

/* Gives the bytes that a dense tensor of this dtype and shape takes: elements times bits, rounded
 * up to whole bytes. For strings that is one kiln_span each, without the bytes they point to.
 * Errors: as kiln_shape_elements; DTYPE for undefined. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_tensor_bytes(kiln_dtype dtype, const kiln_shape *shape,
                                                       size_t *bytes);

/* A view of a tensor: its description, and where its bytes are. The caller owns the bytes. */
typedef struct kiln_tensor {
    kiln_tensor_desc desc;
    void *data;   /* aligned to kiln_dtype_alignment; may be NULL if the tensor is empty */
    size_t bytes; /* bytes accessible at `data`; at least what kiln_tensor_bytes gives */
} kiln_tensor;

/* A dense host tensor over the caller's array:
 *     float pixels[3 * 224 * 224];
 *     const kiln_shape shape = KILN_SHAPE(1, 3, 224, 224);
 *     kiln_tensor image = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, shape, pixels, sizeof pixels);
 */
#define KILN_HOST_TENSOR(dtype_, shape_, data_, bytes_)                                          \
    KILN_LASTING_(kiln_tensor,                                                                   \
                  KILN_LITERAL_(kiln_tensor){                                                    \
                      {(dtype_), KILN_FORMAT_LINEAR, KILN_LOCATION_HOST, 0, (shape_), {0, {0}}}, \
                      (data_),                                                                   \
                      (bytes_)})

/* Makes a dense linear tensor from plain arguments, for language bindings: `rank` dimensions from
 * `dims` (may be NULL for rank 0), in `location` on `device` (0 for HOST), over `bytes` bytes at
 * `data`, which remain the caller's. Errors: NULL_ARGUMENT; RANK; DTYPE, SHAPE and LIMIT as
 * kiln_tensor_bytes; SIZE if `bytes` is too small; INVALID_ARGUMENT for a location that does not
 * exist. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_tensor_make(kiln_dtype dtype, const int64_t *dims,
                                                      int32_t rank, kiln_location location,
                                                      int32_t device, void *data, size_t bytes,
                                                      kiln_tensor *tensor);

/* A tensor with the name of the input or output it belongs to. */
typedef struct kiln_named_tensor {
    const char *name; /* UTF-8, NUL-terminated; the caller's, needed during the call only */
    kiln_tensor tensor;
} kiln_named_tensor;

/* How integers represent real numbers: real = scale * (integer - zero_point). */
typedef struct kiln_quantization {
    kiln_dtype storage; /* KILN_DTYPE_UNDEFINED: not quantized */
    int32_t axis; /* -1: per-tensor, one scale; otherwise one scale per index along this axis */
    int64_t
        block_size; /* 0: not blocked; otherwise this many elements along `axis` share a scale */
    int64_t count;  /* number of scales, and of zero points if there are any */
    const float *scales;        /* `count` scales, owned by whoever fills in this struct */
    const int32_t *zero_points; /* `count` zero points, or NULL if all are 0 */
} kiln_quantization;

/* --- reading and writing elements as numbers --- */

/* Reads `count` elements as doubles, starting with element `first` in row-major order. Exact for
 * every type except int64 and uint64 beyond 2^53, which become the nearest double. bool gives 0 and
 * 1. The tensor must be dense and linear, in memory that the CPU can read.
 *
 * Errors: those of any invalid view (NULL_ARGUMENT; DTYPE, also for complex and string; RANK,
 * SHAPE, SIZE, ALIGNMENT); INVALID_ARGUMENT past the last element; UNSUPPORTED (device memory,
 * format, strides). Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_tensor_read(const kiln_tensor *tensor, int64_t first,
                                                      size_t count, double *values);

/* Writes `count` elements from doubles, starting with element `first`. A floating-point type gets
 * the nearest value, ties to even. A value beyond the largest becomes infinity; in types without
 * infinity it becomes NaN (float8e4m3fn) or the largest value (float4e2m1). An integer type accepts
 * only values that it can hold exactly.
 *
 * Errors: as kiln_tensor_read; INVALID_ARGUMENT with the first value that does not fit, and nothing
 * is written then. One thread at a time for one tensor. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_tensor_write(const kiln_tensor *tensor, int64_t first,
                                                       size_t count, const double *values);

/* Quantizes the numbers of `real` to integers, or float8, in `stored`, as QuantizeLinear does: ties
 * round to even, values beyond the type's range saturate. NaN becomes the zero point. `how`
 * describes `stored` (kiln_binding.quantization). Both tensors have the same shape, and `real` has
 * a floating-point type.
 *
 * Errors: as kiln_tensor_read; NULL_ARGUMENT; DTYPE; SHAPE; INVALID_ARGUMENT if the number of
 * scales does not match the shape. One thread at a time for one tensor. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_tensor_quantize(const kiln_tensor *real,
                                                          const kiln_quantization *how,
                                                          const kiln_tensor *stored);

/* Dequantizes integers to the real numbers they represent, as DequantizeLinear does. Errors and
 * threads as kiln_tensor_quantize. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_tensor_dequantize(const kiln_tensor *stored,
                                                            const kiln_quantization *how,
                                                            const kiln_tensor *real);

/* Fills a tensor with random numbers that depend only on `name` (an input's), `seed` and the
 * position of the element (docs/cli.md).
 *
 * `range` is two numbers, the least and the largest value; if they are equal, every element has
 * that value. NULL selects a range by type: 0 to 1 for bool; whole numbers from 0 to 7 for int4, 15
 * for uint4, 127 for int8 and 255 for other integers; -1 to 1 for all others. An element of a
 * complex type takes two numbers. A string becomes one of 1 to 4 digits in static storage, and
 * accepts no range.
 *
 * Errors: as kiln_tensor_write; INVALID_ARGUMENT if the range is invalid. One thread at a time for
 * one tensor. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_tensor_fill(const kiln_tensor *tensor, const char *name,
                                                      uint64_t seed, const double *range);

/* --- .npy files, NumPy's format for one array (format version 1.0 to 3.0) --- */

/* Loads `path` into memory owned by the library and describes it in `tensor`; release it with
 * kiln_tensor_free. Reads float16, float32, float64, all integers, bool, complex and strings,
 * little-endian or big-endian. Strings of kind "U" become UTF-8 and those of kind "S" bytes,
 * without trailing zeros. The .npy format has no types for bfloat16, float8 and the 4-bit types.
 *
 * Errors: NOT_FOUND, NOT_A_FILE, EMPTY, IO; MALFORMED with the byte at which the header becomes
 * invalid, or if it is followed by more or fewer bytes than the shape takes; UNSUPPORTED for
 * Fortran order, objects and records, by name; RANK above KILN_MAX_RANK; LIMIT if the shape takes
 * more bytes than the address space has; OUT_OF_MEMORY. On an error `tensor` is left unchanged. Any
 * thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_tensor_load_npy(const char *path, kiln_tensor *tensor);

/* Frees a tensor from kiln_tensor_load_npy and zeroes `tensor`. NULL and a zeroed tensor are
 * allowed. Since 0.1. */
KILN_API void kiln_tensor_free(kiln_tensor *tensor);

/* Saves a dense host tensor to `path`. The file is written under a temporary name in the same
 * folder and then renamed, so it appears whole or not at all. bfloat16 and float8 are written as
 * unsigned integers of their size, strings as "U", or as "S" if one is not UTF-8. Errors:
 * UNSUPPORTED for another location, format or strides, 4-bit types, and a string that ends in a
 * zero byte; SIZE if `bytes` is too small; OUT_OF_MEMORY; IO. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_tensor_save_npy(const kiln_tensor *tensor,
                                                          const char *path);

/* --- .npz files, NumPy's format for several arrays --- */

/* Loads every array of `path`, as numpy.savez and numpy.savez_compressed write them, into a list
 * owned by the library; release it with kiln_tensors_free. Names are those of the arrays, without
 * ".npy". Errors: those of kiln_tensor_load_npy, with the array's name; MALFORMED if the file is
 * not a zip archive, a checksum is wrong or a name occurs twice; UNSUPPORTED for an encrypted
 * archive, or a compression method that NumPy does not use. On an error `*tensors` is NULL. Any
 * thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_tensors_load_npz(const char *path,
                                                           kiln_named_tensor **tensors,
                                                           size_t *count);

/* Frees a list from kiln_tensors_load_npz. NULL is allowed. Since 0.1. */
KILN_API void kiln_tensors_free(kiln_named_tensor *tensors, size_t count);

#ifdef __cplusplus
}
#endif

#endif
