/*
 * network.h - networks, built layer by layer (<kiln/layers.h>) or read from ONNX.
 *
 * A kiln_network is an ONNX graph in memory. It can be saved as an ONNX file, and a network read
 * from a file can be extended and built into an engine.
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
 * Rules for every layer:
 *
 * - `name` names the layer and its output; a second output is "<name>:1", and so on. With NULL,
 *   Kiln generates a name. Names are unique within a network and its branches.
 * - Each layer is checked, and its types and shapes are inferred, as it is added. A call that fails
 *   leaves the network unchanged. Errors: INVALID_ARGUMENT for a tensor of another network, or an
 *   option, axis or value out of range; DTYPE; RANK; SHAPE for contradictory dimensions; NAME for a
 *   name in use; UNSUPPORTED for something that the operator set lacks and that cannot be composed
 *   of other operators; LIMIT; OUT_OF_MEMORY. kiln_network_collect_issues collects such errors
 *   instead.
 * - Negative axes and indices count from the end.
 * - One thread at a time may use a network.
 *
 * WEIGHTS ARE NOT COPIED. The bytes that a kiln_weights points to must be in place at the call that
 * takes it (a layer reads small weights such as axes and shapes). They must stay unchanged until
 * every save and build of the network is done and the network is destroyed, and as long as an
 * engine built from it lives. Small arguments (axes, shapes, names) are copied.
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

/* A tensor of one network: a number returned by its layer, valid as long as the network. */
typedef int32_t kiln_tensor_id;

/* Marks an optional tensor that is omitted. */
#define KILN_NO_TENSOR ((kiln_tensor_id)-1)

/* Constant elements owned by the caller: little-endian, dense, row-major. WEIGHTS ARE NOT COPIED
 * above says how long they must stay. `data.size` is what kiln_tensor_bytes gives. */
typedef struct kiln_weights {
    kiln_dtype dtype;
    kiln_shape shape; /* static */
    kiln_span data;
} kiln_weights;

/* The versions of ONNX's operator set that a network can be built in. ONNX Runtime 1.2x and
 * TensorRT 10.x and 11 all read the default version. */
#define KILN_OPSET_OLDEST 18
#define KILN_OPSET_DEFAULT 21
#define KILN_OPSET_NEWEST 23

typedef struct kiln_network_options {
    size_t struct_size; /* set by KILN_NETWORK_OPTIONS_INIT */
    const char *name;   /* name of the graph; NULL: "network" */
    int32_t opset;      /* 0: KILN_OPSET_DEFAULT */
} kiln_network_options;

#define KILN_NETWORK_OPTIONS(...) KILN_INIT_OF_(kiln_network_options, __VA_ARGS__)
#define KILN_NETWORK_OPTIONS_INIT KILN_INIT_(kiln_network_options)

/* --- networks --- */

/* Creates an empty network. `options` may be NULL. Errors: NULL_ARGUMENT; INVALID_ARGUMENT for an
 * operator set out of range; OUT_OF_MEMORY. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_create(const kiln_network_options *options,
                                                         kiln_network **network);

/* Reads the ONNX model at `path`, of any operator set. The file and its external weight files are
 * mapped as long as the network lives; weights are not copied. Errors: NOT_FOUND, NOT_A_FILE,
 * EMPTY, IO; MALFORMED with the message, field and byte; UNSUPPORTED for an IR version outside 3 to
 * 14; LIMIT (nesting, counts); OUT_OF_MEMORY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_from_onnx(const char *path,
                                                            kiln_network **network);

/* Reads a model from memory, which must stay valid as long as the network. External weights are
 * looked for in `folder`; with NULL they are accepted but not read. Errors: as
 * kiln_network_from_onnx. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_from_bytes(kiln_span bytes, const char *folder,
                                                             kiln_network **network);

typedef enum kiln_weights_place {
    KILN_WEIGHTS_INLINE = 0,  /* in the model file, which is then limited to 2 GiB */
    KILN_WEIGHTS_EXTERNAL = 1 /* weights of 1,024 bytes or more in a file next to the model: `path`,
                                 a dot, the hash of its content in 16 digits (XXH3, 64 bits), and
                                 ".data" */
} kiln_weights_place;

/* Saves the network as an ONNX model, whole or not at all. Outputs have their inferred shapes.
 *
 * A model and its weight file change as one. A reader always finds a model with the weights that it
 * was saved with, even if another thread or process saves to the same path, or if this process is
 * killed. The weight file of a previous model at `path` is removed.
 *
 * Errors: NULL_ARGUMENT; STATE for a branch; LIMIT above 2 GiB inline; IO; BUSY if the folder stays
 * locked; UNSUPPORTED for external weights if `path` is a device or pipe. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_save_onnx(const kiln_network *network,
                                                            const char *path,
                                                            kiln_weights_place weights);

/* With `collect` true, calls that add to the network or its branches no longer fail with
 * INVALID_ARGUMENT, DTYPE, RANK, SHAPE, NAME, SIZE or UNSUPPORTED. They record the error as an
 * issue and return KILN_OK. The tensors that such a call returns are marked as refused. A layer
 * that reads a refused tensor is refused too, and issues report only its own attributes and values.
 *
 * kiln_network_validate lists these issues before its own, in the order of the calls, and omits
 * issues that only follow from them. kiln_network_save_onnx and kiln_engine_build fail with
 * INVALID_NETWORK, the first issue and the number of issues.
 *
 * With `collect` false, calls fail at once again. Collected issues stay, and using a refused tensor
 * is INVALID_ARGUMENT. Other failures (NULL_ARGUMENT, STATE, LIMIT, OUT_OF_MEMORY) are never
 * collected. Errors: NULL_ARGUMENT, OUT_OF_MEMORY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_collect_issues(kiln_network *network,
                                                                 bool collect);

/* Destroys the network and its branches; does nothing for a branch. NULL is allowed. Since 0.1. */
KILN_API void kiln_network_destroy(kiln_network *network);

/* Sets an entry of the model's metadata_props, replacing an old value. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_set_metadata(kiln_network *network,
                                                               const char *key, const char *value);

/* The value of a metadata entry, or NULL. Owned by the network. Since 0.1. */
KILN_API const char *kiln_network_metadata(const kiln_network *network, const char *key);

/* The version of ONNX's standard operator set; 0 if the network imports none. Since 0.1. */
KILN_API int32_t kiln_network_opset(const kiln_network *network);

/* The number of inputs, outputs and layers (nodes); 0 for NULL. Since 0.1. */
KILN_API size_t kiln_network_input_count(const kiln_network *network);
KILN_API size_t kiln_network_output_count(const kiln_network *network);
KILN_API size_t kiln_network_layer_count(const kiln_network *network);

/* Finds a tensor by name: an input, weights, or the output of a layer. Errors: NULL_ARGUMENT; NAME.
 * Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_find(kiln_network *network, const char *name,
                                                       kiln_tensor_id *tensor);
/* Gives input or output `index`, from 0. Errors: NULL_ARGUMENT; INVALID_ARGUMENT past the end.
 * Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_input(kiln_network *network, size_t index,
                                                        kiln_tensor_id *tensor);
KILN_API KILN_MUST_CHECK kiln_status kiln_network_output(kiln_network *network, size_t index,
                                                         kiln_tensor_id *tensor);

/* The tensor's name, owned by the network; NULL for an id of another network. Since 0.1. */
KILN_API const char *kiln_network_tensor_name(const kiln_network *network, kiln_tensor_id tensor);

/* Gives the inferred type and shape of a tensor. UNDEFINED, a rank of -1 and KILN_DYNAMIC mark what
 * is not known or depends on the inputs. A network that was read is inferred at the first call or
 * layer; layers added afterwards are inferred as they are added. Errors: NULL_ARGUMENT;
 * INVALID_ARGUMENT for a tensor of another network; LIMIT (nesting); OUT_OF_MEMORY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_tensor_type(kiln_network *network,
                                                              kiln_tensor_id tensor,
                                                              kiln_dtype *dtype, kiln_shape *shape);

/* Adds an input. A dimension of KILN_DYNAMIC is dynamic. `dim_names`, if not NULL, has a name or
 * NULL for each dimension; dimensions of the same name are equal. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_input(kiln_network *network, const char *name,
                                                            kiln_dtype dtype,
                                                            const kiln_shape *shape,
                                                            const char *const *dim_names,
                                                            kiln_tensor_id *output);

/* Marks the tensor as an output. A tensor can be marked only once. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_mark_output(kiln_network *network,
                                                              kiln_tensor_id tensor);

/* Marks a tensor as an output with a given type and shape. For tensors that are not inferred, such
 * as a plugin's, which TensorRT must be told about. A dimension of `shape` may be KILN_DYNAMIC, and
 * a NULL shape leaves it unknown. Whatever is known already must agree. Errors: as above; DTYPE,
 * RANK and SHAPE for invalid values; DTYPE and RANK if they contradict what is known. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_mark_output_as(kiln_network *network,
                                                                 kiln_tensor_id tensor,
                                                                 kiln_dtype dtype,
                                                                 const kiln_shape *shape);

/* Adds weights as a tensor: kernels, biases, scales, indices. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_constant(kiln_network *network,
                                                               const char *name,
                                                               const kiln_weights *weights,
                                                               kiln_tensor_id *output);

#ifdef __cplusplus
}
#endif

#endif
