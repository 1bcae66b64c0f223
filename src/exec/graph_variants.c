/* SPDX-License-Identifier: Apache-2.0 */
#include "graph_variants.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <cJSON.h>

#include "base/kln_base.h"
#include "exec_parts.h"

#define KEY "graph_variants"

/* Above these sizes, kernels that access host memory over the bus were never faster. Below, a first
 * layer that reads its input once is as fast as a copy: on an H200, ResNet-50 with 4.6 MiB (18 MiB)
 * of input takes 882 (2,529) us a run mapped and 888 (2,536) us copied. */
#define LARGEST_MAPPED_IN ((size_t)32 << 20)
#define LARGEST_MAPPED_OUT ((size_t)4 << 20)

/* Above this size, what the gather kernel saves is negligible beside the transfer itself, and the
 * driver's own copy leaves the SMs to other work. */
#define LARGEST_GATHERED ((size_t)16 << 20)

/* Without measurements: outputs up to RULE_MAPPED are written to host memory by the model's own
 * kernels, and inputs and outputs up to RULE_GATHERED are moved by the gather kernel. Inputs are
 * not mapped, because a model's kernels may read them more than once. On an H200 (TensorRT 10.6; an
 * MLP and ResNet-50 with batches of 1, 8 and 32) this choice was within 1 % of the best;
 * bench/gpu_plan.c shows it. */
#define RULE_MAPPED ((size_t)256 << 10)
#define RULE_GATHERED ((size_t)1 << 20)

/* With overlapped copies: up to this size they stay in the graph, which saves ordering between
 * streams. Inputs then go through one kernel, because two streams whose graphs begin with copies
 * sometimes run the same kernels in lockstep. On an H200 (BERT-base in float16, two streams with
 * two contexts each, inputs of 16 KiB) copies in the graph gave 2 % more runs than outside, and the
 * kernel 1 % more than copies. */
#define RULE_INSIDE ((size_t)256 << 10)

/* For pageable memory the driver's own copy, whose small buffer stays in the CPU cache, is faster
 * than a staging buffer of the full size (on an H200 60 against 75 us for 588 KiB and 1.5 against
 * 2.2 ms for 18 MiB; from the device 459 against 518 us for 4.6 MiB, but 97 against 71 for 588
 * KiB). */
#define RULE_DIRECT_IN ((size_t)256 << 10)
#define RULE_DIRECT_OUT ((size_t)4 << 20)
#define LEAST_DIRECT ((size_t)64 << 10)

static const char *const mode_names[TRANSFER_MODES] = {
    [TRANSFER_MAPPED] = "mapped",     [TRANSFER_COPIED] = "copied", [TRANSFER_OUTSIDE] = "outside",
    [TRANSFER_GATHERED] = "gathered", [TRANSFER_DIRECT] = "direct",
};

const char *transfer_mode_name(transfer_mode mode)
{
    return mode_names[mode];
}

static transfer_mode input_by_rule(transfer_load load)
{
    return load.bytes == 0                   ? TRANSFER_MAPPED
           : load.ordinary >= RULE_DIRECT_IN ? TRANSFER_DIRECT
           : load.bytes <= RULE_GATHERED     ? TRANSFER_GATHERED
                                             : TRANSFER_COPIED;
}

static transfer_mode output_by_rule(transfer_load load)
{
    return load.bytes <= RULE_MAPPED          ? TRANSFER_MAPPED
           : load.bytes <= RULE_GATHERED      ? TRANSFER_GATHERED
           : load.ordinary >= RULE_DIRECT_OUT ? TRANSFER_DIRECT
                                              : TRANSFER_COPIED;
}

/* The default variant, without measurements. */
static graph_variant by_rule(transfer_load in, transfer_load out)
{
    return (graph_variant){.in = input_by_rule(in), .out = output_by_rule(out)};
}

static graph_variant by_rule_of_lanes(transfer_load in, transfer_load out)
{
    return (graph_variant){.in = in.bytes <= RULE_INSIDE ? TRANSFER_GATHERED : TRANSFER_OUTSIDE,
                           .out = out.bytes <= RULE_INSIDE ? TRANSFER_COPIED : TRANSFER_OUTSIDE};
}

graph_variant graph_variant_choose(kln_exec *exec, const graph_entry *entry)
{
    kln_shared *shared = exec->shared;
    const transfer_load in = transfers_load(exec, entry, true);
    const transfer_load out = transfers_load(exec, entry, false);
    if (exec->gpu->lane != NULL) {
        return by_rule_of_lanes(in, out);
    }
    graph_variant variant = by_rule(in, out);
    KLN_LOCKED(&shared->measured->mutex);
    (void)measured_variants_get(&shared->measured->variants, graph_cache_shapes(exec), shared->gpu,
                                &variant);
    return variant;
}

/* With nothing to transfer, all modes are the same, and only MAPPED is tried. */
bool transfer_mode_is_worth_trying(transfer_mode mode, transfer_load load, bool inputs)
{
    switch (mode) {
        case TRANSFER_MAPPED:
            return load.bytes <= (inputs ? LARGEST_MAPPED_IN : LARGEST_MAPPED_OUT);
        case TRANSFER_GATHERED: return load.bytes != 0 && load.bytes <= LARGEST_GATHERED;
        case TRANSFER_OUTSIDE: return load.bytes != 0 && inputs;
        case TRANSFER_DIRECT: return load.ordinary >= LEAST_DIRECT;
        default: return load.bytes != 0;
    }
}

/* --- measurements --- */

static size_t find(const measured_variants *measured, uint64_t bindings, const char *gpu)
{
    size_t i = 0;
    while (i < measured->count &&
           (measured->rows[i].bindings != bindings || strcmp(measured->rows[i].gpu, gpu) != 0)) {
        i++;
    }
    return i;
}

void measured_variants_put(measured_variants *measured, const measured_variant *row)
{
    size_t place = find(measured, row->bindings, row->gpu);
    if (place == measured->count && measured->count < MEASURED_VARIANTS) {
        measured->count++;
    } else if (place == measured->count) {
        place = measured->next;
        measured->next = (measured->next + 1) % MEASURED_VARIANTS;
    }
    measured->rows[place] = *row;
}

bool measured_variants_same(const measured_variants *a, const measured_variants *b)
{
    bool same = a->count == b->count && a->next == b->next;
    for (size_t i = 0; same && i < a->count; i++) {
        const measured_variant *x = &a->rows[i];
        const measured_variant *y = &b->rows[i];
        same = x->bindings == y->bindings && strcmp(x->gpu, y->gpu) == 0 &&
               x->variant.in == y->variant.in && x->variant.out == y->variant.out &&
               x->variant.unfenced == y->variant.unfenced && x->nanoseconds == y->nanoseconds;
    }
    return same;
}

bool measured_variants_get(const measured_variants *measured, uint64_t bindings, const char *gpu,
                           graph_variant *variant)
{
    const size_t place = find(measured, bindings, gpu);
    if (place == measured->count) {
        return false;
    }
    *variant = measured->rows[place].variant;
    return true;
}

/* --- in a manifest --- */

static bool write_row(cJSON *list, const measured_variant *row)
{
    const char *bindings = KLN_PRINTED("%016" PRIx64, row->bindings);
    cJSON *object = cJSON_CreateObject();
    if (object == NULL || !cJSON_AddItemToArray(list, object)) {
        cJSON_Delete(object);
        return false;
    }
    return cJSON_AddStringToObject(object, "bindings", bindings) != NULL &&
           cJSON_AddStringToObject(object, "gpu", row->gpu) != NULL &&
           cJSON_AddStringToObject(object, "inputs", mode_names[row->variant.in]) != NULL &&
           cJSON_AddStringToObject(object, "outputs", mode_names[row->variant.out]) != NULL &&
           (!row->variant.unfenced || cJSON_AddFalseToObject(object, "fence") != NULL) &&
           cJSON_AddNumberToObject(object, "nanoseconds", (double)row->nanoseconds) != NULL;
}

bool measured_variants_write(const measured_variants *measured, cJSON *root)
{
    if (measured->count == 0) {
        return true;
    }
    cJSON *list = cJSON_AddArrayToObject(root, KEY);
    bool written = list != NULL;
    for (size_t i = 0; written && i < measured->count; i++) {
        written = write_row(list, &measured->rows[i]);
    }
    return written;
}

static const char *text_of(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsString(item) ? item->valuestring : "";
}

static transfer_mode mode_of(const cJSON *object, const char *key)
{
    int mode = TRANSFER_MAPPED;
    while (mode < TRANSFER_MODES && strcmp(mode_names[mode], text_of(object, key)) != 0) {
        mode++;
    }
    return (transfer_mode)mode;
}

static bool read_row(const cJSON *object, measured_variant *row)
{
    const char *bindings = text_of(object, "bindings");
    const char *gpu = text_of(object, "gpu");
    const cJSON *took = cJSON_GetObjectItemCaseSensitive(object, "nanoseconds");
    char *end = NULL;
    row->bindings = strtoull(bindings, &end, 16);
    const cJSON *fence = cJSON_GetObjectItemCaseSensitive(object, "fence");
    row->variant = (graph_variant){mode_of(object, "inputs"), mode_of(object, "outputs"),
                                   cJSON_IsFalse(fence) != 0};
    if (strlen(bindings) != 16 || *end != '\0' || gpu[0] == '\0' ||
        strlen(gpu) >= sizeof row->gpu || row->variant.in == TRANSFER_MODES ||
        row->variant.out == TRANSFER_MODES || row->variant.out == TRANSFER_OUTSIDE ||
        !cJSON_IsNumber(took) || !(took->valuedouble >= 0) ||
        took->valuedouble > KLN_JSON_LARGEST_INTEGER) {
        return false;
    }
    (void)snprintf(row->gpu, sizeof row->gpu, "%s", gpu);
    row->nanoseconds = (uint64_t)took->valuedouble;
    return true;
}

kiln_status measured_variants_read(measured_variants *measured, const cJSON *root)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(root, KEY);
    const cJSON *object = NULL;
    measured->count = 0;
    measured->next = 0;
    cJSON_ArrayForEach(object, list)
    {
        measured_variant row;
        KLN_RETURN_IF(measured->count == MEASURED_VARIANTS || !read_row(object, &row),
                      KILN_ERROR_MALFORMED,
                      "\"" KEY
                      "\" has a row %zu that cannot be read, or more than %d rows; "
                      "remove it from the manifest, and what is fastest is measured again",
                      measured->count, MEASURED_VARIANTS);
        measured->rows[measured->count++] = row;
    }
    return KILN_OK;
}
