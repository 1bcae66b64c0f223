/*
 * tensor.h - what a tensor is: data type, shape, layout, place, and a view of its bytes.
 *
 * All of these are small plain structs that a caller keeps on the stack. None owns memory, except
 * where kiln_tensor_load_npy says so.
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

/* The most dimensions a tensor can have, as in TensorRT (nvinfer1::Dims::MAX_DIMS). */
#define KILN_MAX_RANK 8

/* A dimension that is not known until a run. */
#define KILN_DYNAMIC ((int64_t)-1)

/* Bytes that somebody else owns, to read. Kiln says at each use how long they must stay. */
typedef struct kiln_span {
    const void *data; /* may be NULL when size is 0 */
    size_t size;      /* bytes */
} kiln_span;

/* Bytes that somebody else owns, to read and write. */
typedef struct kiln_mutable_span {
    void *data;
    size_t size; /* bytes */
} kiln_mutable_span;

/*
 * Every data type: name, value, bits of one element, name in text. The values are ABI.
 * Elements of 4 bits are packed two to a byte, the first in the low half, as ONNX and TensorRT do.
 * A string element is a kiln_span: UTF-8 by convention, though any bytes will do, not terminated.
 * Strings lie in host memory (docs/tensor.md#strings says whose the bytes are).
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

/* "float32"; "undefined" for what is not in the list. Static storage. Any thread. Since 0.1. */
KILN_API const char *kiln_dtype_name(kiln_dtype dtype);

/* The type of that name; the short forms "fp32", "fp16", "bf16", "fp64", "fp8" and "float", "half",
 * "double" are understood too. KILN_DTYPE_UNDEFINED when there is none. Any thread. Since 0.1. */
KILN_API kiln_dtype kiln_dtype_from_name(const char *name);

/* Bits of one element: 32 for float32, 4 for int4; 0 for undefined, and for string, whose length
 * differs from element to element. Any thread. Since 0.1. */
KILN_API unsigned kiln_dtype_bits(kiln_dtype dtype);

/* The smallest alignment an address of this type may have, in bytes: the element's size, for
 * complex types that of one of the two parts, for strings a kiln_span's, 1 for types under a byte.
 * Any thread. Since 0.1. */
KILN_API size_t kiln_dtype_alignment(kiln_dtype dtype);

/* Rank and dimensions. A rank of 0 is a scalar: one element. A dimension of 0 is allowed and makes
 * the tensor empty; KILN_DYNAMIC stands for one that is not known yet. Dimensions past `rank` are
 * ignored. */
typedef struct kiln_shape {
    int32_t rank; /* 0 to KILN_MAX_RANK */
    int64_t dims[KILN_MAX_RANK];
} kiln_shape;

/* KILN_SHAPE(2, 3, 4) is the shape 2x3x4. In C++, write kiln_shape{3, {2, 3, 4}}. */
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

/* A scalar's shape. */
#define KILN_SHAPE_SCALAR KILN_LASTING_(kiln_shape, KILN_LITERAL_(kiln_shape){0, {0}})

/* Whether both have the same rank and the same dimensions. Any thread. Since 0.1. */
KILN_API bool kiln_shape_equal(const kiln_shape *a, const kiln_shape *b);

/* Whether no dimension is KILN_DYNAMIC. Any thread. Since 0.1. */
KILN_API bool kiln_shape_is_static(const kiln_shape *shape);

/* The number of elements, the product of the dimensions, into `count`. Errors: NULL_ARGUMENT; RANK
 * for a rank outside 0 to KILN_MAX_RANK; SHAPE for a negative dimension; LIMIT when the product
 * passes INT64_MAX. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_shape_elements(const kiln_shape *shape, int64_t *count);

/* Writes "2x3x?x5" ("scalar" for rank 0, "?" for a dynamic dimension, "any rank" for a rank of -1
 * or another that no tensor has) into `text`, always terminated when `size` is not 0, and returns
 * the length it would have had in full. Any thread. Since 0.1. */
KILN_API size_t kiln_shape_format(const kiln_shape *shape, char *text, size_t size);

/* Reads "2x3x224x224" or "2,3,224,224"; "?" and "-1" stand for a dynamic dimension, "" and "scalar"
 * for rank 0. Errors: NULL_ARGUMENT; SHAPE with the place that cannot be read; RANK past
 * KILN_MAX_RANK. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_shape_parse(const char *text, kiln_shape *shape);

/* Distance between neighbours along each dimension, in elements. Rank 0 with a shape of another
 * rank means dense: the last dimension lies closest, without gaps. */
typedef struct kiln_strides {
    int32_t rank;
    int64_t steps[KILN_MAX_RANK];
} kiln_strides;

/* The strides of a dense tensor of this shape. Errors: as kiln_shape_elements. Any thread. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_strides_dense(const kiln_shape *shape,
                                                        kiln_strides *strides);

/* How elements lie in memory where that is not row by row. The names are TensorRT's. */
typedef enum kiln_tensor_format {
    KILN_FORMAT_LINEAR = 0, /* row by row, as strides say */
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

/* Where memory is. */
typedef enum kiln_location {
    KILN_LOCATION_HOST = 0,    /* ordinary memory of the process */
    KILN_LOCATION_PINNED = 1,  /* page-locked host memory, which a device reads and writes itself */
    KILN_LOCATION_MANAGED = 2, /* moves between host and device by itself */
    KILN_LOCATION_DEVICE = 3   /* a GPU's own */
} kiln_location;

/* "host", "pinned", "managed", "device"; "?" for another value. Static storage. Any thread. Since
 * 0.1. */
KILN_API const char *kiln_location_name(kiln_location location);

/* What a tensor is, without its bytes. Zeroed, with dtype and shape set, it is a dense host tensor.
 */
typedef struct kiln_tensor_desc {
    kiln_dtype dtype;
    kiln_tensor_format format;
    kiln_location location;
    int32_t device; /* for PINNED, MANAGED and DEVICE: the device's index, from 0 */
    kiln_shape shape;
    kiln_strides strides; /* rank 0: dense */
} kiln_tensor_desc;

/* Bytes that a dense tensor of this dtype and shape takes: elements times bits, rounded up to whole
 * bytes; of strings a kiln_span for each, without what they point to. Errors: as
 * kiln_shape_elements, and DTYPE for undefined. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_tensor_bytes(kiln_dtype dtype, const kiln_shape *shape,
                                                       size_t *bytes);

/* A view: what the tensor is, and where its bytes are. The caller owns the bytes. */
typedef struct kiln_tensor {
    kiln_tensor_desc desc;
    void *data;   /* aligned as kiln_dtype_alignment says; may be NULL when the tensor is empty */
    size_t bytes; /* readable and writable bytes at `data`: at least what kiln_tensor_bytes gives */
} kiln_tensor;

/* A dense host tensor over `data`. The usual way to name an array of one's own:
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

/* A dense linear tensor from plain arguments, for language bindings: `rank` dimensions from `dims`
 * (may be NULL for 0), in `location` on `device` (0 for HOST), over `bytes` bytes at `data`, which
 * stay the caller's. Errors: NULL_ARGUMENT; RANK; DTYPE, SHAPE and LIMIT as kiln_tensor_bytes; SIZE
 * where `bytes` are too few; INVALID_ARGUMENT for a location that does not exist. Any thread. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_tensor_make(kiln_dtype dtype, const int64_t *dims,
                                                      int32_t rank, kiln_location location,
                                                      int32_t device, void *data, size_t bytes,
                                                      kiln_tensor *tensor);

/* A tensor with the name of the binding it is meant for. */
typedef struct kiln_named_tensor {
    const char *name; /* UTF-8, terminated; the caller's, needed during the call only */
    kiln_tensor tensor;
} kiln_named_tensor;

/* How integers stand for real numbers: real = scale * (integer - zero_point). */
typedef struct kiln_quantization {
    kiln_dtype storage;  /* KILN_DTYPE_UNDEFINED: not quantized */
    int32_t axis;        /* -1: one scale for the whole tensor; else one for each index along it */
    int64_t block_size;  /* 0: not blocked; else this many elements along `axis` share a scale */
    int64_t count;       /* scales, and zero points where there are any */
    const float *scales; /* `count` of them, owned by whoever fills this in */
    const int32_t *zero_points; /* `count` of them, or NULL when all are 0 */
} kiln_quantization;

/* --- elements as numbers --- */

/* Reads `count` elements from number `first` on, counted row by row, as doubles. Exact for every
 * type but int64 and uint64 past 2^53, which become the nearest double; bool gives 0 and 1. The
 * tensor is dense and linear, in memory that the CPU can read. Errors: what any view can lack
 * (NULL_ARGUMENT, DTYPE also for complex and string, RANK, SHAPE, SIZE, ALIGNMENT);
 * INVALID_ARGUMENT past the last element; UNSUPPORTED (device memory, format, strides). Any thread.
 * Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_tensor_read(const kiln_tensor *tensor, int64_t first,
                                                      size_t count, double *values);

/* Writes them. A floating-point type gets the nearest value, ties to even; past its largest that is
 * infinity, or NaN for float8e4m3fn and the largest for float4e2m1, which have no infinity. An
 * integer type refuses what it cannot hold exactly. Errors: as kiln_tensor_read, and
 * INVALID_ARGUMENT with the first value that does not fit; nothing is written then. One thread at a
 * time for one tensor. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_tensor_write(const kiln_tensor *tensor, int64_t first,
                                                       size_t count, const double *values);

/* Rounds the numbers of `real` to the integers, or float8, that stand for them in `stored`: as
 * QuantizeLinear does, ties to even, and what lies beyond the type is its least or largest; NaN
 * becomes the zero point. `how` is of `stored` (kiln_binding.quantization); both tensors have one
 * shape, `real` is of floats. Errors: as kiln_tensor_read; NULL_ARGUMENT; DTYPE; SHAPE;
 * INVALID_ARGUMENT where scales are not as many as the shape takes. One thread at a time for one
 * tensor. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_tensor_quantize(const kiln_tensor *real,
                                                          const kiln_quantization *how,
                                                          const kiln_tensor *stored);

/* The numbers that integers stand for, as DequantizeLinear computes them. Errors and threads as
 * kiln_tensor_quantize. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_tensor_dequantize(const kiln_tensor *stored,
                                                            const kiln_quantization *how,
                                                            const kiln_tensor *real);

/* Fills a tensor with random numbers, which depend on `name` (an input's), `seed` and the place
 * alone (docs/cli.md). `range` is two numbers, the least and the largest, of one number for all
 * elements where they are equal; NULL: 0 to 1 for bool, to 7, 15 and 127 for int4, uint4 and int8,
 * to 255 for other integers, all of them whole; -1 to 1 for the rest. An element of a complex type
 * takes two numbers. A string becomes one of 1 to 4 digits in static storage, and takes no range.
 * Errors: as kiln_tensor_write, and INVALID_ARGUMENT where the range is not one.
 * One thread at a time for one tensor. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_tensor_fill(const kiln_tensor *tensor, const char *name,
                                                      uint64_t seed, const double *range);

/* --- .npy files, NumPy's format for one array (format version 1.0 to 3.0) --- */

/* Reads `path` into memory of the library and describes it in `tensor`; release it with
 * kiln_tensor_free. float16, float32, float64, all integers, bool, complex and strings ("U" as
 * UTF-8, "S" as bytes, without zeros at their ends) are read, little-endian or big-endian;
 * bfloat16, float8 and the 4-bit types have no .npy type of their own.
 * Errors: NOT_FOUND, NOT_A_FILE, EMPTY, IO; MALFORMED with the byte where the header stops making
 * sense, or when more or fewer bytes follow it than the shape takes; UNSUPPORTED for Fortran order,
 * objects and records, by name; RANK past KILN_MAX_RANK; LIMIT when the shape takes more
 * bytes than there are addresses; OUT_OF_MEMORY. On an error `tensor` is left as it was. Any
 * thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_tensor_load_npy(const char *path, kiln_tensor *tensor);

/* Releases what kiln_tensor_load_npy gave and zeroes `tensor`. NULL and a zeroed tensor are
 * allowed. Since 0.1. */
KILN_API void kiln_tensor_free(kiln_tensor *tensor);

/* Writes a dense host tensor to `path`. The file appears whole or not at all: it is written beside
 * its place and renamed. bfloat16 and float8 are written as unsigned integers of their size,
 * strings as "U", or as "S" where one is not UTF-8. Errors: UNSUPPORTED for another location,
 * format or strides, 4-bit types, and a string with a zero byte at its end; SIZE when `bytes` is
 * too small; OUT_OF_MEMORY; IO. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_tensor_save_npy(const kiln_tensor *tensor,
                                                          const char *path);

/* --- .npz files, NumPy's format for several arrays --- */

/* Reads every array of `path`, as numpy.savez and numpy.savez_compressed write them, into a list of
 * the library's; release it with kiln_tensors_free. A name is that of the array, without ".npy".
 * Errors: those of kiln_tensor_load_npy, with the array's name; MALFORMED for what is no zip
 * archive, a checksum that does not fit and a name that is there twice; UNSUPPORTED for what is
 * encrypted, or packed by another method than NumPy's. `*tensors` is NULL then. Any thread. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_tensors_load_npz(const char *path,
                                                           kiln_named_tensor **tensors,
                                                           size_t *count);

/* Releases what kiln_tensors_load_npz gave. NULL is allowed. Since 0.1. */
KILN_API void kiln_tensors_free(kiln_named_tensor *tensors, size_t count);

#ifdef __cplusplus
}
#endif

#endif
