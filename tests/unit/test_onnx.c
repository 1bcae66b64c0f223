/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/stat.h>

#include "onnx_message.h"

/* --- a model made by structs --- */

static const float weights[600] = {1.0F, 2.0F, 3.0F};
static const int64_t axes[] = {-1};

/* Relu and a Constant, an initializer of 2,400 bytes, an attribute of each list. */
static kiln_status make_model(kln_onnx_model **result)
{
    KLN_RETURN_IF_ERROR(kln_onnx_model_create(result));
    kln_onnx_model *model = *result;
    kln_arena *arena = &model->arena;
    kln_onnx_node *nodes = kln_arena_alloc_zeroed(arena, 1, sizeof *nodes);
    const char **names = kln_arena_alloc_zeroed(arena, 2, sizeof *names);
    kln_onnx_attribute *attributes = kln_arena_alloc_zeroed(arena, 2, sizeof *attributes);
    kln_onnx_tensor *tensor = kln_arena_alloc_zeroed(arena, 1, sizeof *tensor);
    kln_onnx_opset *opset = kln_arena_alloc_zeroed(arena, 1, sizeof *opset);
    int64_t *numbers = kln_arena_alloc_zeroed(arena, 2, sizeof *numbers);
    if (nodes == NULL || names == NULL || attributes == NULL || tensor == NULL || opset == NULL ||
        numbers == NULL) {
        kln_onnx_model_destroy(model);
        *result = NULL;
        return kln_fail_memory(1, "a test model");
    }
    names[0] = "x";
    names[1] = "y";
    numbers[0] = 20;
    numbers[1] = 30;
    attributes[0] = (kln_onnx_attribute){.name = "axes", .type = KLN_ONNX_ATTRIBUTE_INTS};
    attributes[0].ints = (int64_t *)(uintptr_t)axes;
    attributes[0].count = 1;
    attributes[1] = (kln_onnx_attribute){.name = "alpha", .type = KLN_ONNX_ATTRIBUTE_FLOAT};
    attributes[1].f = 0.5F;
    nodes[0] = (kln_onnx_node){.name = "n", .op_type = "Relu", .inputs = names, .input_count = 1};
    nodes[0].outputs = names + 1;
    nodes[0].output_count = 1;
    nodes[0].attributes = attributes;
    nodes[0].attribute_count = 2;
    *tensor = (kln_onnx_tensor){.name = "w", .dtype = KILN_DTYPE_FLOAT32, .rank = 2};
    tensor->dims = numbers;
    tensor->data = (kiln_span){weights, sizeof weights};
    *opset = (kln_onnx_opset){.domain = "", .version = 17};
    model->ir_version = 8;
    model->graph.name = "g";
    model->graph.nodes = nodes;
    model->graph.node_count = 1;
    model->graph.initializers = tensor;
    model->graph.initializer_count = 1;
    model->opsets = opset;
    model->opset_count = 1;
    return KILN_OK;
}

static void check_model(const kln_onnx_model *model)
{
    const kln_onnx_graph *graph = &model->graph;
    assert_int_equal(model->ir_version, 8);
    assert_int_equal(kln_onnx_opset_version(model, "ai.onnx"), 17);
    assert_int_equal(kln_onnx_opset_version(model, "com.example"), 0);
    assert_string_equal(graph->name, "g");
    assert_int_equal(graph->node_count, 1);
    assert_string_equal(graph->nodes[0].op_type, "Relu");
    assert_string_equal(graph->nodes[0].domain, "");
    assert_string_equal(graph->nodes[0].outputs[0], "y");
    assert_null(kln_onnx_find_attribute(&graph->nodes[0], "beta"));
    const kln_onnx_attribute *ints = kln_onnx_find_attribute(&graph->nodes[0], "axes");
    assert_non_null(ints);
    assert_int_equal(ints->count, 1);
    assert_int_equal(ints->ints[0], -1);
    assert_true(kln_onnx_find_attribute(&graph->nodes[0], "alpha")->f == 0.5F);
    assert_int_equal(graph->initializer_count, 1);
    assert_int_equal(graph->initializers[0].dtype, KILN_DTYPE_FLOAT32);
    assert_int_equal(graph->initializers[0].dims[1], 30);
}

TEST(round_trip_in_memory)
{
    owned_model model = NULL;
    kln_onnx_model *copy = NULL;
    kln_text bytes;
    kln_text_init(&bytes, SIZE_MAX / 4);
    assert_ok(make_model(&model));
    assert_ok(kln_onnx_write_bytes(model, KLN_ONNX_WEIGHTS_INLINE, &bytes));
    assert_ok(kln_onnx_read_bytes((kiln_span){bytes.data, bytes.size}, NULL, &copy));
    check_model(copy);
    const kiln_span data = copy->graph.initializers[0].data;
    assert_int_equal(data.size, sizeof weights);
    assert_memory_equal(data.data, weights, sizeof weights);
    /* The data is a place in the bytes, not a copy. */
    assert_true((const char *)data.data > bytes.data &&
                (const char *)data.data < bytes.data + bytes.size);
    kln_onnx_model_destroy(copy);
    kln_text_finish(&bytes);

    assert_ok(kln_onnx_write_bytes(model, KLN_ONNX_WEIGHTS_LEFT_OUT, &bytes));
    assert_true(bytes.size < 300);
    assert_true(kln_onnx_is_left_out(&model->graph.initializers[0]));
    assert_ok(kln_onnx_read_bytes((kiln_span){bytes.data, bytes.size}, NULL, &copy));
    check_model(copy);
    assert_true(copy->graph.initializers[0].is_external);
    assert_null(copy->graph.initializers[0].data.data);
    assert_fails(KILN_ERROR_INVALID_ARGUMENT,
                 kln_onnx_write_bytes(model, KLN_ONNX_WEIGHTS_EXTERNAL, &bytes),
                 "no file beside it");
    kln_onnx_model_destroy(copy);
    kln_text_finish(&bytes);
}

TEST(round_trip_in_files)
{
    kln_onnx_model *model = NULL;
    kln_onnx_model *copy = NULL;
    char name[64];
    const char *path = kiln_test_path("files.onnx");
    (void)snprintf(name, sizeof name, "files.onnx.%016llx.data",
                   (unsigned long long)kln_hash_bytes(weights, sizeof weights));
    assert_ok(make_model(&model));
    assert_ok(kln_onnx_write_file(model, path, KLN_ONNX_WEIGHTS_EXTERNAL));
    kln_onnx_model_destroy(model);
    assert_ok(kln_onnx_read_file(path, &copy));
    check_model(copy);
    assert_int_equal(copy->mapping_count, 2);
    assert_string_equal(copy->graph.initializers[0].location, name);
    assert_memory_equal(copy->graph.initializers[0].data.data, weights, sizeof weights);
    /* Over the files that it lies in: the mapping keeps the old ones. */
    assert_ok(kln_onnx_write_file(copy, path, KLN_ONNX_WEIGHTS_EXTERNAL));
    assert_ok(kln_onnx_write_file(copy, path, KLN_ONNX_WEIGHTS_INLINE));
    kln_onnx_model_destroy(copy);
    assert_ok(kln_onnx_read_file(path, &copy));
    assert_false(copy->graph.initializers[0].is_external);
    assert_memory_equal(copy->graph.initializers[0].data.data, weights, sizeof weights);
    kln_onnx_model_destroy(copy);

    assert_ok(make_model(&model));
    assert_status(KILN_ERROR_NOT_FOUND,
                  kln_onnx_write_file(model, "/nowhere/x.onnx", KLN_ONNX_WEIGHTS_INLINE));
    kln_onnx_model_destroy(model);
}

static message external_tensor(const char *location, const char *offset, const char *length)
{
    const char *const keys[] = {"location", "offset", "length"};
    const char *const values[] = {location, offset, length};
    message tensor = {.size = 0};
    put_number(&tensor, 1, 4);
    put_number(&tensor, 2, 1);
    put_text(&tensor, 8, "w");
    for (size_t i = 0; i < 3; i++) {
        message entry = {.size = 0};
        put_text(&entry, 1, keys[i]);
        put_text(&entry, 2, values[i]);
        if (values[i][0] != '\0') {
            put_message(&tensor, 13, &entry);
        }
    }
    put_number(&tensor, 14, 1);
    return tensor;
}

static void assert_external(kiln_status status, const char *words, const char *location,
                            const char *offset, const char *length)
{
    const message tensor = external_tensor(location, offset, length);
    const message bytes = model_of_tensor(&tensor);
    kln_onnx_model *model = NULL;
    const char *path = kiln_test_file("external.onnx", bytes.bytes, bytes.size);
    assert_status(status, kln_onnx_read_file(path, &model));
    if (status != KILN_OK) {
        assert_message(words);
        assert_message("external.onnx");
        return;
    }
    assert_int_equal(model->graph.initializers[0].data.size, 16);
    kln_onnx_model_destroy(model);
}

TEST(external_files)
{
    char outside[4200];
    (void)kiln_test_file("weights.bin", weights, 64);
    assert_external(KILN_OK, "", "weights.bin", "", "");
    assert_external(KILN_OK, "", "./weights.bin", "48", "16");
    assert_external(KILN_ERROR_MALFORMED, "bytes 49 to 65", "weights.bin", "49", "16");
    assert_external(KILN_ERROR_MALFORMED, "need 16 bytes", "weights.bin", "0", "12");
    assert_external(KILN_ERROR_MALFORMED, "the file has 64", "weights.bin", "18446744073709551615",
                    "");
    assert_external(KILN_ERROR_MALFORMED, "no number", "weights.bin", "18446744073709551616", "");
    assert_external(KILN_ERROR_MALFORMED, "no number", "weights.bin", "-1", "");
    assert_external(KILN_ERROR_MALFORMED, "not below", "../weights.bin", "", "");
    assert_external(KILN_ERROR_MALFORMED, "not below", "a/../../weights.bin", "", "");
    assert_external(KILN_ERROR_MALFORMED, "not below", "/etc/passwd", "", "");
    assert_external(KILN_ERROR_MALFORMED, "not below", "", "", "");
    assert_external(KILN_ERROR_NOT_FOUND, "cannot be found", "absent.bin", "", "");
    assert_external(KILN_ERROR_MALFORMED, "tensor \"w\"", ".", "", "");
    (void)snprintf(outside, sizeof outside, "%s", kiln_test_path("folder"));
    (void)mkdir(outside, 0777);
    assert_external(KILN_ERROR_NOT_A_FILE, "a directory", "folder", "", "");
    (void)snprintf(outside, sizeof outside, "%s", kiln_test_path("link.bin"));
    (void)unlink(outside);
    assert_int_equal(symlink("/etc/passwd", outside), 0);
    assert_external(KILN_ERROR_MALFORMED, "out of the model's folder", "link.bin", "", "");
    (void)unlink(outside);
    assert_int_equal(symlink("weights.bin", outside), 0);
    assert_external(KILN_OK, "", "link.bin", "", "");
}

TEST(truncation_and_bit_flips)
{
    kln_onnx_model *model = NULL;
    owned_text text;
    kln_text_init(&text, 65536);
    assert_ok(make_model(&model));
    model->graph.initializers[0].dims[0] = 2; /* small, so that every bit has its turn */
    model->graph.initializers[0].data.size = 240;
    assert_ok(kln_onnx_write_bytes(model, KLN_ONNX_WEIGHTS_INLINE, &text));
    kln_onnx_model_destroy(model);
    size_t read = 0;
    for (size_t size = 1; size < text.size; size++) {
        const kiln_status status = kln_onnx_read_bytes((kiln_span){text.data, size}, NULL, &model);
        assert_true(status == KILN_ERROR_MALFORMED || status == KILN_OK);
        read += status == KILN_OK;
        kln_onnx_model_destroy(model);
    }
    assert_int_equal(read, 1); /* where the opset at the end is missing */
    for (size_t bit = 0; bit < text.size * 8; bit++) {
        text.data[bit / 8] = (char)(text.data[bit / 8] ^ 1 << bit % 8);
        if (kln_onnx_read_bytes((kiln_span){text.data, text.size}, NULL, &model) != KILN_OK) {
            assert_null(model);
        }
        kln_onnx_model_destroy(model);
        text.data[bit / 8] = (char)(text.data[bit / 8] ^ 1 << bit % 8);
    }
}

/* --- memory that runs out --- */

static kiln_status copy_file(void *user)
{
    const char *const *paths = user;
    kln_onnx_model *model = NULL;
    KLN_RETURN_IF_ERROR(kln_onnx_read_file(paths[0], &model));
    kiln_status status = kln_onnx_write_file(model, paths[1], KLN_ONNX_WEIGHTS_EXTERNAL);
    kln_onnx_model_destroy(model);
    KLN_RETURN_IF_ERROR(status);
    KLN_RETURN_IF_ERROR(kln_onnx_read_file(paths[1], &model));
    owned_text text;
    kln_text_init(&text, SIZE_MAX / 4);
    status = kln_onnx_write_bytes(model, KLN_ONNX_WEIGHTS_LEFT_OUT, &text);
    kln_onnx_model_destroy(model);
    return status;
}

TEST(every_allocation_may_fail)
{
    static const char *const models[] = {"magika/model.onnx", "silero-vad/silero_vad.onnx"};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(models); i++) {
        char from[4096];
        (void)snprintf(from, sizeof from, "%s/models/%s", kiln_test_deps_folder, models[i]);
        const char *to = kiln_test_path("allocation.onnx");
        const char *paths[] = {from, to};
        kiln_test_each_allocation(copy_file, paths);
    }
}

/* --- past 2 GiB --- */

TEST(large_files)
{
    const uint64_t size = UINT64_C(5) << 30; /* a hole in the file, not on the disk */
    kln_onnx_model *model = NULL;
    message tensor = {.size = 0};
    message head = {.size = 0};
    put_number(&tensor, 1, size / 4);
    put_number(&tensor, 2, 1);
    put_text(&tensor, 8, "w");
    put_varint(&tensor, 9 << 3 | 2);
    put_varint(&tensor, size);
    message graph = {.size = 0};
    put_varint(&graph, 5 << 3 | 2);
    put_varint(&graph, tensor.size + size);
    put_number(&head, 1, 8);
    put_varint(&head, 7 << 3 | 2);
    put_varint(&head, graph.size + tensor.size + size);
    memcpy(head.bytes + head.size, graph.bytes, graph.size);
    memcpy(head.bytes + head.size + graph.size, tensor.bytes, tensor.size);
    head.size += graph.size + tensor.size;
    const char *path = kiln_test_file("large.onnx", head.bytes, head.size);
    assert_int_equal(truncate(path, (off_t)(head.size + size)), 0);
    assert_ok(kln_onnx_read_file(path, &model));
    const kiln_span data = model->graph.initializers[0].data;
    assert_true(data.size == size);
    assert_int_equal(((const uint8_t *)data.data)[size - 1], 0);
    assert_true(model->arena.bytes < 65536);
    kln_text text;
    kln_text_init(&text, 65536);
    assert_fails(KILN_ERROR_LIMIT, kln_onnx_write_bytes(model, KLN_ONNX_WEIGHTS_INLINE, &text),
                 "must go to an external file");
    assert_ok(kln_onnx_write_bytes(model, KLN_ONNX_WEIGHTS_LEFT_OUT, &text));
    kln_text_finish(&text);
    kln_onnx_model_destroy(model);
    assert_int_equal(unlink(path), 0);
}

TEST(arguments)
{
    kln_onnx_model *model = NULL;
    assert_status(KILN_ERROR_NULL_ARGUMENT, kln_onnx_read_file(NULL, &model));
    assert_status(KILN_ERROR_NULL_ARGUMENT, kln_onnx_read_file("x", NULL));
    assert_status(KILN_ERROR_NOT_FOUND, kln_onnx_read_file("/nowhere.onnx", &model));
    assert_status(KILN_ERROR_NULL_ARGUMENT,
                  kln_onnx_read_bytes((kiln_span){NULL, 3}, NULL, &model));
    assert_status(KILN_ERROR_NULL_ARGUMENT,
                  kln_onnx_write_file(NULL, "x", KLN_ONNX_WEIGHTS_INLINE));
    assert_status(KILN_ERROR_NOT_A_FILE, kln_onnx_read_file("/", &model));
    kln_onnx_model_destroy(NULL);
    for (int dtype = KILN_DTYPE_FLOAT32; dtype <= KILN_DTYPE_STRING; dtype++) {
        assert_int_equal(kln_onnx_dtype(kln_onnx_wire_dtype((kiln_dtype)dtype)), dtype);
    }
    assert_int_equal(kln_onnx_dtype(0), KILN_DTYPE_UNDEFINED);
    assert_int_equal(kln_onnx_dtype(-1), KILN_DTYPE_UNDEFINED);
    assert_int_equal(kln_onnx_dtype(18), KILN_DTYPE_UNDEFINED);
    assert_int_equal(kln_onnx_wire_dtype(KILN_DTYPE_UNDEFINED), 0);
}
