/* SPDX-License-Identifier: Apache-2.0 */
/* Inputs that are filled with numbers, random ones or one for all. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli_model.h"

#define CHUNK 1024

/* SplitMix64, https://prng.di.unimi.it/splitmix64.c: one addition and three mixing steps. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t mixed = (*state += UINT64_C(0x9e3779b97f4a7c15));
    mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ (mixed >> 31);
}

/* Where the numbers of an input begin: FNV-1a of its name, so that the order of the inputs does not
 * matter, and the seed. */
static uint64_t random_start(const char *name, int64_t seed)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (; *name != '\0'; name++) {
        hash = (hash ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
    }
    return hash ^ (uint64_t)seed;
}

static cli_filling default_filling(kiln_dtype dtype)
{
    switch (dtype) {
        case KILN_DTYPE_BOOL: return (cli_filling){0, 1, true};
        case KILN_DTYPE_INT8: return (cli_filling){0, 127, true};
        case KILN_DTYPE_INT4: return (cli_filling){0, 7, true};
        case KILN_DTYPE_UINT4: return (cli_filling){0, 15, true};
        case KILN_DTYPE_UINT8:
        case KILN_DTYPE_INT16:
        case KILN_DTYPE_UINT16:
        case KILN_DTYPE_INT32:
        case KILN_DTYPE_UINT32:
        case KILN_DTYPE_INT64:
        case KILN_DTYPE_UINT64: return (cli_filling){0, 255, true};
        case KILN_DTYPE_UNDEFINED:
        case KILN_DTYPE_FLOAT32:
        case KILN_DTYPE_FLOAT16:
        case KILN_DTYPE_BFLOAT16:
        case KILN_DTYPE_FLOAT64:
        case KILN_DTYPE_FLOAT8E4M3:
        case KILN_DTYPE_FLOAT8E5M2:
        case KILN_DTYPE_FLOAT4E2M1:
        case KILN_DTYPE_COMPLEX64:
        case KILN_DTYPE_COMPLEX128:
        case KILN_DTYPE_STRING: break;
    }
    return (cli_filling){-1, 1, false};
}

bool cli_filling_read(const char *text, kiln_dtype dtype, cli_filling *how, bool *is_wrong)
{
    *how = default_filling(dtype);
    *is_wrong = false;
    double value = 0;
    if (text == NULL || strcmp(text, "random") == 0) {
        return true;
    }
    if (strcmp(text, "zeros") == 0) {
        text = "0";
    }
    if (cli_number(text, &value)) {
        how->low = value;
        how->high = value;
        return true;
    }
    if (strncmp(text, "random:", 7) != 0) {
        return false;
    }
    char low[64];
    const char *colon = strchr(text + 7, ':');
    *is_wrong = true;
    if (colon != NULL && (size_t)(colon - text - 7) < sizeof low) {
        (void)snprintf(low, sizeof low, "%.*s", (int)(colon - text - 7), text + 7);
        *is_wrong = !cli_number(low, &how->low) || !cli_number(colon + 1, &how->high) ||
                    !(how->low <= how->high) || !(how->high - how->low < 1e300);
    }
    return true;
}

/* Fills `tensor`, which is `parts` numbers an element (two for complex). */
static kiln_status fill(const kiln_tensor *tensor, const cli_filling *how, uint64_t state)
{
    int64_t count = 0;
    kiln_status status = kiln_shape_elements(&tensor->desc.shape, &count);
    for (int64_t first = 0; first < count && status == KILN_OK; first += CHUNK) {
        double values[CHUNK];
        const size_t size = count - first < CHUNK ? (size_t)(count - first) : CHUNK;
        for (size_t i = 0; i < size; i++) {
            /* 53 random bits: as many as a double holds. */
            const double unit = (double)(next_random(&state) >> 11) * 0x1p-53;
            if (how->low == how->high) {
                values[i] = how->low;
            } else if (how->is_whole) {
                values[i] = how->low + (double)(int64_t)(unit * (how->high - how->low + 1));
            } else {
                values[i] = how->low + unit * (how->high - how->low);
            }
        }
        status = kiln_tensor_write(tensor, first, size, values);
    }
    return status;
}

/* The elements of a complex tensor as twice as many floats; any other tensor as it is. */
static kiln_tensor parts_of(const kiln_tensor *tensor)
{
    kiln_tensor parts = *tensor;
    if (tensor->desc.dtype == KILN_DTYPE_COMPLEX64 || tensor->desc.dtype == KILN_DTYPE_COMPLEX128) {
        const bool is_small = tensor->desc.dtype == KILN_DTYPE_COMPLEX64;
        parts.desc.dtype = is_small ? KILN_DTYPE_FLOAT32 : KILN_DTYPE_FLOAT64;
        parts.desc.shape = KILN_SHAPE((int64_t)(tensor->bytes / (is_small ? 4 : 8)));
    }
    return parts;
}

cli_exit cli_filling_bind(const cli_command *command, kiln_context *context,
                          const kiln_binding *binding, const kiln_shape *shape,
                          const cli_filling *how, int64_t seed)
{
    kiln_tensor tensor;
    if (kiln_context_reshape(context, binding->name, shape) != KILN_OK ||
        cli_tensor_of(context, binding, &tensor) != KILN_OK) {
        return cli_fail();
    }
    const kiln_tensor parts = parts_of(&tensor);
    if (fill(&parts, how, random_start(binding->name, seed)) != KILN_OK) {
        char range[96];
        (void)snprintf(range, sizeof range,
                       how->low == how->high ? "%.15g" : "all numbers from %.15g to %.15g",
                       how->low, how->high);
        return cli_misuse(command, "--input: input \"%.200s\" is of type %s, which cannot hold %s",
                          binding->name, kiln_dtype_name(binding->dtype), range);
    }
    return CLI_DONE;
}
