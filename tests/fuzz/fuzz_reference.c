/* SPDX-License-Identifier: Apache-2.0 */
/* Small models on the reference executor: whatever the model, it is built and run, or refused with
 * a sentence, in bounded time and memory. The mutator changes a model's nodes rather than its
 * bytes, so that most of what it makes can be built. */
#include "backends/kln_backends.h"
#include "backends/reference/ref_internal.h"
#include "fuzz_parts.h"

#define MODEL_LARGEST ((size_t)1 << 16)
#define MEMORY_LARGEST ((size_t)1 << 27)
#define WORK_LARGEST 3e6
#define BINDING_LARGEST 4096

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t largest, unsigned seed);
/* libFuzzer's own; a plain program has none. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t largest) __attribute__((weak));

/* --- memory that ends --- */

static size_t in_use;

static void *allocate(void *user, size_t size, size_t alignment)
{
    (void)user;
    void *memory = NULL;
    if (size > MEMORY_LARGEST || in_use > MEMORY_LARGEST - size ||
        posix_memalign(&memory, alignment, size) != 0) {
        return NULL;
    }
    in_use += size;
    return memory;
}

static void release(void *user, void *memory, size_t size, size_t alignment)
{
    (void)user;
    (void)alignment;
    in_use -= size;
    free(memory);
}

static void limit_memory(void)
{
    static const kiln_allocator allocator = {sizeof(kiln_allocator), NULL, allocate, release};
    static bool done;
    FAULT_IF(!done && kiln_set_allocator(&allocator) != KILN_OK);
    done = true;
}

int LLVMFuzzerInitialize(int *count, char ***arguments)
{
    (void)count;
    (void)arguments;
    limit_memory();
    return 0;
}

/* --- one run --- */

static void fill_texts(int64_t count, uint64_t seed, kiln_span *texts)
{
    static const char *const words[] = {"",      "a",   "b",     "a b",       ",a,,b", "-3",
                                        "1.5e3", "NaN", "1e400", "A\xc3\x9f", "\xff",  "true"};
    for (int64_t i = 0; i < count; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        const char *word = words[(seed >> 33) % KLN_ARRAY_LENGTH(words)];
        texts[i] = (kiln_span){strlen(word) > 0 ? word : NULL, strlen(word)};
    }
}

/* Numbers that are often valid indices, axes and sizes; the model's producer chooses them. */
static void fill(kiln_dtype dtype, int64_t count, uint64_t seed, void *data)
{
    ref_tensor tensor = {.dtype = dtype, .rank = 1, .dims = {count}, .count = count, .data = data};
    for (int64_t i = 0; i < count; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        const int64_t number = (int64_t)(seed >> 33) % 8 - (seed >> 62 == 3 ? 3 : 0);
        if (ref_domain_of(dtype) == REF_DOMAIN_FLOAT) {
            ref_put_float(&tensor, i, seed >> 59 == 31 ? HUGE_VAL : (double)number * 0.75);
        } else {
            ref_put_int(&tensor, i, dtype == KILN_DTYPE_BOOL ? number & 1 : number);
        }
    }
}

static bool bind_input(void *context, size_t index, const kiln_binding *binding, uint64_t seed,
                       unsigned char **memory)
{
    int64_t count = 0;
    kiln_tensor tensor = {.desc = {.dtype = binding->dtype, .shape = binding->shape}};
    const bool texts = binding->dtype == KILN_DTYPE_STRING;
    if (binding->shape.rank < 0 || (!texts && ref_domain_of(binding->dtype) == REF_DOMAIN_NONE)) {
        return false;
    }
    for (int32_t i = 0; i < binding->shape.rank; i++) {
        int64_t *dim = &tensor.desc.shape.dims[i];
        *dim = *dim == KILN_DYNAMIC ? 2 : *dim;
    }
    if (kiln_shape_elements(&tensor.desc.shape, &count) != KILN_OK || count > BINDING_LARGEST ||
        kiln_tensor_bytes(binding->dtype, &tensor.desc.shape, &tensor.bytes) != KILN_OK) {
        return false;
    }
    unsigned char *bytes = calloc(1, (size_t)count * 16 + 1);
    *memory = bytes;
    if (bytes == NULL) {
        return false;
    }
    if (texts) {
        fill_texts(count, seed, (kiln_span *)(void *)bytes);
    } else {
        fill(binding->dtype, count, seed, bytes);
    }
    if (ref_is_packed(binding->dtype)) {
        ref_pack(bytes, count, bytes);
    }
    tensor.data = bytes;
    return kln_backend_reference.context.bind(context, index, &tensor) == KILN_OK;
}

static void read_outputs(void *context, size_t first, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        kiln_tensor tensor;
        FAULT_IF(kln_backend_reference.context.output(context, first + i, &tensor) != KILN_OK);
        const bool texts = tensor.desc.dtype == KILN_DTYPE_STRING;
        const kiln_span whole = {tensor.data, tensor.bytes};
        const kiln_span *parts = texts ? (const kiln_span *)tensor.data : &whole;
        unsigned sum = 0;
        for (size_t j = 0; j < (texts ? tensor.bytes / sizeof *parts : 1); j++) {
            for (size_t k = 0; k < parts[j].size; k++) {
                sum += ((const unsigned char *)parts[j].data)[k];
            }
        }
        volatile unsigned kept = sum;
        (void)kept;
    }
}

static void run(void *engine, const kiln_description *description, uint64_t seed)
{
    void *context = NULL;
    unsigned char *memory[64] = {NULL};
    bool bound = description->input_count <= 64 &&
                 kln_backend_reference.context.create(engine, NULL, &context) == KILN_OK;
    for (size_t i = 0; bound && i < description->input_count; i++) {
        bound = bind_input(context, i, &description->bindings[i], seed + i, &memory[i]);
    }
    for (int i = 0; bound && i < 2; i++) {
        ((ref_context *)context)->work_limit = WORK_LARGEST;
        if (kln_backend_reference.context.run(context) == KILN_OK) {
            read_outputs(context, description->input_count, description->output_count);
        } else if (kiln_error_message()[0] == '\0') {
            abort();
        }
    }
    kln_backend_reference.context.destroy(context);
    for (size_t i = 0; i < 64; i++) {
        free(memory[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    limit_memory();
    const kiln_model model = {.bytes = {data, size}};
    void *engine = NULL;
    if (size == 0 || size > MODEL_LARGEST) {
        return 0;
    }
    if (kln_backend_reference.engine.build(&model, NULL, NULL, &engine) != KILN_OK) {
        FAULT_IF(kiln_error_message()[0] == '\0');
    } else {
        kln_arena arena = {0};
        kiln_description description = {.arena = &arena};
        if (kln_backend_reference.engine.describe(engine, &description) == KILN_OK) {
            const char *producer = ((const ref_engine *)engine)->model->producer_name;
            run(engine, &description, kln_hash(producer, strlen(producer), KLN_HASH_SEED));
        }
        kln_arena_finish(&arena);
        kln_backend_reference.engine.destroy(engine);
    }
    FAULT_IF(in_use != 0);
    return 0;
}

/* --- the mutator --- */

static uint64_t random_state;

static size_t pick(size_t count)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return count == 0 ? 0 : (size_t)(random_state >> 33) % count;
}

static int64_t pick_number(void)
{
    static const int64_t odd[] = {INT64_MIN, INT64_MAX,        INT32_MAX,          -2, -1, 0, 1,
                                  3,         INT64_C(1) << 20, -(INT64_C(1) << 40)};
    return pick(3) == 0 ? odd[pick(KLN_ARRAY_LENGTH(odd))] : (int64_t)pick(8);
}

static void change_attribute(kln_onnx_attribute *attribute)
{
    static const float odd[] = {0.0F, -1.0F, 0.5F, 1e30F, -1e-30F, (float)NAN, HUGE_VALF, 2.0F};
    switch (attribute->type) {
        case KLN_ONNX_ATTRIBUTE_INT: attribute->i = pick_number(); break;
        case KLN_ONNX_ATTRIBUTE_FLOAT: attribute->f = odd[pick(KLN_ARRAY_LENGTH(odd))]; break;
        case KLN_ONNX_ATTRIBUTE_INTS:
            if (attribute->count > 0 && pick(4) != 0) {
                attribute->ints[pick(attribute->count)] = pick_number();
            } else {
                attribute->count -= attribute->count > 0;
            }
            break;
        case KLN_ONNX_ATTRIBUTE_FLOATS:
            if (attribute->count > 0) {
                attribute->floats[pick(attribute->count)] = odd[pick(KLN_ARRAY_LENGTH(odd))];
            }
            break;
        default: attribute->name = "other"; break;
    }
}

static void change_node(kln_onnx_node *node)
{
    switch (pick(6)) {
        case 0: node->op_type = ref_kernel_get(pick(ref_kernel_count()))->op; break;
        case 1:
            if (node->input_count > 1) {
                const size_t i = pick(node->input_count);
                const size_t j = pick(node->input_count);
                const char *held = node->inputs[i];
                node->inputs[i] = node->inputs[j];
                node->inputs[j] = held;
            }
            break;
        case 2: node->input_count -= node->input_count > 0; break;
        case 3: node->output_count -= node->output_count > 1; break;
        default:
            if (node->attribute_count > 0) {
                change_attribute(&node->attributes[pick(node->attribute_count)]);
            }
            break;
    }
}

static void change_value(kln_onnx_value *value)
{
    kln_onnx_type *type = &value->type;
    if (pick(3) == 0) {
        type->wire_dtype = (int32_t)pick(24);
        type->dtype = kln_onnx_dtype(type->wire_dtype);
    } else if (type->rank > 0 && pick(4) != 0) {
        type->dims[pick(type->rank)].value = (int64_t)pick(6);
    } else {
        type->rank -= type->rank > 0;
    }
}

static void change_tensor(kln_onnx_tensor *tensor, kln_arena *arena)
{
    uint8_t *copy = kln_arena_alloc(arena, tensor->data.size + 1);
    if (copy == NULL || tensor->data.size == 0 || tensor->data.data == NULL) {
        return;
    }
    memcpy(copy, tensor->data.data, tensor->data.size);
    copy[pick(tensor->data.size)] = (uint8_t)pick_number();
    tensor->data.data = copy;
}

/* Into the branches and bodies too. */
static kln_onnx_graph *pick_graph(kln_onnx_graph *graph)
{
    for (int depth = 0; depth < 4 && graph->node_count > 0; depth++) {
        const kln_onnx_node *node = &graph->nodes[pick(graph->node_count)];
        kln_onnx_graph *inner = NULL;
        for (size_t i = 0; i < node->attribute_count; i++) {
            const kln_onnx_attribute *attribute = &node->attributes[i];
            if (attribute->type == KLN_ONNX_ATTRIBUTE_GRAPH && attribute->graph != NULL) {
                inner = attribute->graph;
            }
        }
        if (inner == NULL || pick(2) == 0) {
            break;
        }
        graph = inner;
    }
    return graph;
}

static void change_model(kln_onnx_model *model)
{
    kln_onnx_graph *graph = pick_graph(&model->graph);
    const size_t what = pick(12);
    if (what == 0 && graph->initializer_count > 0) {
        change_tensor(&graph->initializers[pick(graph->initializer_count)], &model->arena);
    } else if (what < 4 && graph->input_count > 0) {
        change_value(&graph->inputs[pick(graph->input_count)]);
    } else if (what == 4) {
        model->producer_name = kln_arena_printf(&model->arena, "%zu", pick(1000));
        model->producer_name = model->producer_name != NULL ? model->producer_name : "";
    } else if (what == 5 && model->opset_count > 0) {
        model->opsets[0].version = (int64_t)pick(REF_NEWEST_OPSET + 2);
    } else if (graph->node_count > 0) {
        change_node(&graph->nodes[pick(graph->node_count)]);
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t largest, unsigned seed)
{
    kln_onnx_model *model = NULL;
    kln_text bytes;
    size_t result = 0;
    limit_memory();
    random_state = seed;
    if (pick(16) != 0 && size > 0 &&
        kln_onnx_read_bytes((kiln_span){data, size}, NULL, &model) == KILN_OK) {
        kln_text_init(&bytes, MODEL_LARGEST);
        for (size_t i = pick(3) + 1; i > 0; i--) {
            change_model(model);
        }
        if (kln_onnx_write_bytes(model, KLN_ONNX_WEIGHTS_INLINE, &bytes) == KILN_OK &&
            bytes.size > 0 && bytes.size <= largest) {
            memcpy(data, bytes.data, bytes.size);
            result = bytes.size;
        }
        kln_text_finish(&bytes);
        kln_onnx_model_destroy(model);
    }
    return result != 0 ? result : LLVMFuzzerMutate(data, size, largest);
}
