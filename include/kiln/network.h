/*
 * network.h - a network, built layer by layer (<kiln/layers.h>) or read from ONNX.
 *
 * A kiln_network is an ONNX graph in memory: what is built here can be saved as an ONNX file, and a
 * file can be read, added to and built.
 *
 *     kiln_network *network = NULL;
 *     kiln_tensor_id x, w, y;
 *     kiln_weights kernel = {KILN_DTYPE_FLOAT32, KILN_SHAPE(16, 3, 3, 3), {data, sizeof data}};
 *     kiln_convolution_options same = KILN_CONVOLUTION_OPTIONS_INIT;
 *     same.padding_mode = KILN_PADDING_SAME_UPPER;
 *     if (kiln_network_create(NULL, &network) == KILN_OK &&
 *         kiln_network_add_input(network, "image", KILN_DTYPE_FLOAT32,
 *                                &KILN_SHAPE(1, 3, 224, 224), NULL, &x) == KILN_OK &&
 *         kiln_network_add_constant(network, "kernel", &kernel, &w) == KILN_OK &&
 *         kiln_network_add_convolution(network, "conv", x, w, KILN_NO_TENSOR, &same, &y) ==
 *             KILN_OK &&
 *         kiln_network_mark_output(network, y) == KILN_OK) {
 *         status = kiln_network_save_onnx(network, "model.onnx", KILN_WEIGHTS_EXTERNAL);
 *     }
 *
 * What holds for every layer:
 *
 * - `name` is the layer's name and that of its output; a second output is "<name>:1", and so on.
 * NULL lets Kiln make one up. Names are unique in a network, its branches included.
 * - A call that fails leaves the network as it was. Each layer is checked and inferred as it is
 *   added: INVALID_ARGUMENT for a tensor of another network, an option, axis or value out of range;
 *   DTYPE; RANK; SHAPE where dimensions contradict each other; NAME for a name in use; UNSUPPORTED
 *   where the operator set lacks something that cannot be put together of other operators; LIMIT;
 *   OUT_OF_MEMORY. kiln_network_collect_issues collects what is refused instead.
 * - Axes and indices may be negative: they count from the end then.
 * - A network is used by one thread at a time.
 *
 * WEIGHTS ARE NOT COPIED. The bytes that a kiln_weights points at must be there from its call on (a
 * layer reads small ones: axes, shapes) and stay as they are until every save and build of the
 * network is done and the network is destroyed, and as long as an engine built from it lives. Small
 * arguments (axes, shapes, names) are copied.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_NETWORK_H
#define KILN_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kiln/export.h>
#include <kiln/status.h>
#include <kiln/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kiln_network kiln_network;

/* A tensor of one network: a number that its layer gave, valid as long as the network. */
typedef int32_t kiln_tensor_id;

/* Stands for an optional tensor that is left out. */
#define KILN_NO_TENSOR ((kiln_tensor_id)-1)

/* Constant elements that the caller owns: little-endian, dense, row by row. They must stay as the
 * head of this file says. `data.size` is what kiln_tensor_bytes gives. */
typedef struct kiln_weights {
    kiln_dtype dtype;
    kiln_shape shape; /* static */
    kiln_span data;
} kiln_weights;

/* The versions of ONNX's operator set that a network can be built in. The default is one that ONNX
 * Runtime 1.2x and TensorRT 10.x and 11 all read. */
#define KILN_OPSET_OLDEST 18
#define KILN_OPSET_DEFAULT 21
#define KILN_OPSET_NEWEST 23

typedef struct kiln_network_options {
    size_t struct_size; /* set by KILN_NETWORK_OPTIONS_INIT */
    const char *name;   /* the graph's; NULL: "network" */
    int32_t opset;      /* 0: KILN_OPSET_DEFAULT */
} kiln_network_options;

#define KILN_NETWORK_OPTIONS(...) KILN_INIT_OF_(kiln_network_options, __VA_ARGS__)
#define KILN_NETWORK_OPTIONS_INIT KILN_INIT_(kiln_network_options)

/* --- the whole network --- */

/* An empty network. `options` may be NULL. Errors: NULL_ARGUMENT; INVALID_ARGUMENT for an operator
 * set out of range; OUT_OF_MEMORY. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_create(const kiln_network_options *options,
                                                         kiln_network **network);

/* Reads the ONNX model at `path`. The file and the external files beside it are mapped and stay so
 * as long as the network; weights are not copied. Any operator set is read. Errors: NOT_FOUND,
 * NOT_A_FILE, EMPTY, IO; MALFORMED with the message, field and byte; UNSUPPORTED for an IR version
 * outside 3 to 14; LIMIT (nesting, counts); OUT_OF_MEMORY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_from_onnx(const char *path,
                                                            kiln_network **network);

/* Reads a model from memory, which must stay as long as the network. External weights are looked
 * for in `folder`; NULL refuses none, but leaves them unread. Errors: as kiln_network_from_onnx.
 * Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_from_bytes(kiln_span bytes, const char *folder,
                                                             kiln_network **network);

typedef enum kiln_weights_place {
    KILN_WEIGHTS_INLINE = 0,  /* in the file itself, which then has a limit of 2 GiB */
    KILN_WEIGHTS_EXTERNAL = 1 /* from 1,024 bytes on in a file beside it: `path`, a dot, the hash of
                                 what is in it in 16 digits (XXH3, 64 bits), and ".data" */
} kiln_weights_place;

/* Writes the network as an ONNX model, whole or not at all; outputs have the shapes that are
 * inferred of them. A model and the file of its weights change as one: who reads meanwhile, saves
 * to the same path, or finds them after this process was killed meets a model with the weights that
 * it was saved with. Weights of a model that was at `path` before are removed. Errors:
 * NULL_ARGUMENT; STATE for a branch; LIMIT past 2 GiB inline; IO; BUSY where the folder stays
 * locked; UNSUPPORTED for external weights beside a device or pipe. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_save_onnx(const kiln_network *network,
                                                            const char *path,
                                                            kiln_weights_place weights);

/* From now on, calls that add to the network or its branches and would fail with INVALID_ARGUMENT,
 * DTYPE, RANK, SHAPE, NAME, SIZE or UNSUPPORTED keep what is wrong as an issue and give KILN_OK.
 * The tensors that such a call hands out are refused ones: a layer that reads one is refused too,
 * and issues tell only of its own attributes and values. kiln_network_validate has these issues
 * before its own, in the order of the calls, and leaves out what only follows from them;
 * kiln_network_save_onnx and kiln_engine_build fail with INVALID_NETWORK, the first one and how
 * many there are. With `collect` false, calls fail at once again; what was collected stays, and a
 * refused tensor is INVALID_ARGUMENT. Other failures (NULL_ARGUMENT, STATE, LIMIT, OUT_OF_MEMORY)
 * are never collected. Errors: NULL_ARGUMENT, OUT_OF_MEMORY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_collect_issues(kiln_network *network,
                                                                 bool collect);

/* NULL is allowed. A branch is destroyed with its network; for one, this does nothing. Since 0.1.
 */
KILN_API void kiln_network_destroy(kiln_network *network);

/* Key and value go into the model's metadata_props; an old value is replaced. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_set_metadata(kiln_network *network,
                                                               const char *key, const char *value);

/* The value, or NULL. Owned by the network. Since 0.1. */
KILN_API const char *kiln_network_metadata(const kiln_network *network, const char *key);

/* The version of ONNX's own operator set; 0 when the network imports none. Since 0.1. */
KILN_API int32_t kiln_network_opset(const kiln_network *network);

/* How many inputs, outputs and layers (nodes) there are; 0 for NULL. Since 0.1. */
KILN_API size_t kiln_network_input_count(const kiln_network *network);
KILN_API size_t kiln_network_output_count(const kiln_network *network);
KILN_API size_t kiln_network_layer_count(const kiln_network *network);

/* The tensor of that name: an input, weights, or the output of a layer. Errors: NULL_ARGUMENT;
 * NAME. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_find(kiln_network *network, const char *name,
                                                       kiln_tensor_id *tensor);
/* Input or output `index`, from 0. Errors: NULL_ARGUMENT; INVALID_ARGUMENT past the end. Since 0.1.
 */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_input(kiln_network *network, size_t index,
                                                        kiln_tensor_id *tensor);
KILN_API KILN_MUST_CHECK kiln_status kiln_network_output(kiln_network *network, size_t index,
                                                         kiln_tensor_id *tensor);

/* The tensor's name, owned by the network; NULL for an id that is not of this network. Since 0.1.
 */
KILN_API const char *kiln_network_tensor_name(const kiln_network *network, kiln_tensor_id tensor);

/* What is inferred of a tensor: UNDEFINED, a rank of -1 and KILN_DYNAMIC stand for what is not
 * known or depends on the inputs. A network that was read is inferred at the first call or layer;
 * what is added afterwards is known as it is added. Errors: NULL_ARGUMENT; INVALID_ARGUMENT for a
 * tensor of another network; LIMIT (nesting); OUT_OF_MEMORY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_tensor_type(kiln_network *network,
                                                              kiln_tensor_id tensor,
                                                              kiln_dtype *dtype, kiln_shape *shape);

/* An input. A dimension of KILN_DYNAMIC is dynamic; `dim_names`, when not NULL, has a name or NULL
 * for each dimension, and the same name means the same number. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_input(kiln_network *network, const char *name,
                                                            kiln_dtype dtype,
                                                            const kiln_shape *shape,
                                                            const char *const *dim_names,
                                                            kiln_tensor_id *output);

/* Makes the tensor an output. Each may be one once. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_mark_output(kiln_network *network,
                                                              kiln_tensor_id tensor);

/* The same for a tensor that nobody infers, as a plugin's, of which TensorRT wants to be told:
 * `dtype` and `shape`, where a dimension may be KILN_DYNAMIC and NULL says nothing of it. What is
 * known already must agree. Errors: as above; DTYPE, RANK and SHAPE for what is none, and DTYPE and
 * RANK where another is known. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_mark_output_as(kiln_network *network,
                                                                 kiln_tensor_id tensor,
                                                                 kiln_dtype dtype,
                                                                 const kiln_shape *shape);

/* Weights as a tensor: kernels, biases, scales, indices. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_constant(kiln_network *network,
                                                               const char *name,
                                                               const kiln_weights *weights,
                                                               kiln_tensor_id *output);

#ifdef __cplusplus
}
#endif

#endif
