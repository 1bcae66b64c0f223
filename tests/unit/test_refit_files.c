/* SPDX-License-Identifier: Apache-2.0 */
/* New weights of other types, and from files. */
#include "base/kln_base.h"
#include "refit_test.h"
#include "tensor/kln_tensor.h"

/* --- types --- */

TEST_EACH(nothing_is_lost_silently, i, BACKENDS)
{
    owned_engine engine = build(backends[i]);
    kiln_named_tensor unused[2];
    kiln_refit_report report = {.struct_size = sizeof report};
    prepare(1, 10, unused);
    kiln_refit_options options = KILN_REFIT_OPTIONS(.report = &report);
    owned_context context = context_on(engine);
    uint16_t half = kln_half_from_float(2.5F);
    kiln_named_tensor b = {
        "b", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT16, KILN_SHAPE(1, 1), &half, sizeof half)};
    assert_ok(kiln_engine_refit(engine, &b, 1, &options));
    assert_true(report.converted == 1 && report.rounded == 0);
    check_run(context, 1, 2.5F);
    half = kln_bfloat16_from_float(-4);
    b.tensor.desc.dtype = KILN_DTYPE_BFLOAT16;
    assert_ok(kiln_engine_refit(engine, &b, 1, &options));
    check_run(context, 1, -4);
    double wide = 8;
    b.tensor = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT64, KILN_SHAPE(1), &wide, sizeof wide);
    assert_ok(kiln_engine_refit(engine, &b, 1, &options));
    check_run(context, 1, 8);
    wide = 0.1;
    assert_status(KILN_ERROR_DTYPE, kiln_engine_refit(engine, &b, 1, &options));
    assert_message("of the float64 that were given would be rounded");
    check_run(context, 1, 8);
    options.allow_rounding = true;
    wide = 1e300;
    assert_status(KILN_ERROR_DTYPE, kiln_engine_refit(engine, &b, 1, &options));
    assert_message("past that type's largest");
    check_run(context, 1, 8);
    wide = 16 + 1e-9;
    assert_ok(kiln_engine_refit(engine, &b, 1, &options));
    assert_true(report.rounded == 1);
    check_run(context, 1, 16);
}

/* --- NaN and infinities --- */

static void check_refused(kiln_engine *engine, kiln_dtype dtype, double value, const char *words)
{
    unsigned char bytes[8];
    kiln_tensor tensor = KILN_HOST_TENSOR(dtype, KILN_SHAPE(1), bytes, kiln_dtype_bits(dtype) / 8);
    assert_ok(kiln_tensor_write(&tensor, 0, 1, &value));
    const kiln_named_tensor b = {"b", tensor};
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_refit(engine, &b, 1, NULL), words);
}

TEST_EACH(what_is_not_finite_is_refused, i, BACKENDS)
{
    static const kiln_dtype types[] = {KILN_DTYPE_FLOAT32, KILN_DTYPE_FLOAT16, KILN_DTYPE_BFLOAT16,
                                       KILN_DTYPE_FLOAT64};
    owned_engine engine = build(backends[i]);
    owned_context context = context_on(engine);
    for (size_t k = 0; k < KLN_ARRAY_LENGTH(types); k++) {
        check_refused(engine, types[k], (double)NAN,
                      "weights \"b\" 1 are NaN and 0 infinite, and the engine's are not known to "
                      "have NaN; set kiln_refit_options.allow_nonfinite");
        check_refused(engine, types[k], (double)-INFINITY, "not known to have infinities");
    }
    const kiln_span model = model_of(NAN, 10);
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_refit_bytes(engine, model, NULL, NULL),
                 "weights \"w\" 1024 are NaN");
    check_run(context, 1, 10);
    /* What is wanted, and what there was before. */
    const float values[] = {-INFINITY, -INFINITY, 4, -INFINITY};
    const bool allowed[] = {true, false, false, false};
    for (size_t k = 0; k < KLN_ARRAY_LENGTH(values); k++) {
        float value = values[k];
        const kiln_named_tensor b = named("b", &value, 1);
        const kiln_refit_options options = KILN_REFIT_OPTIONS(.allow_nonfinite = allowed[k]);
        const kiln_status status = kiln_engine_refit(engine, &b, 1, &options);
        assert_int_equal(status, k < 3 ? KILN_OK : KILN_ERROR_INVALID_ARGUMENT);
        if (k == 1) {
            check_refused(engine, KILN_DTYPE_FLOAT32, (double)NAN, "not known to have NaN");
        }
    }
    check_run(context, 1, 4);
}

/* --- files --- */

/* A .safetensors file of this header and `size` bytes of data. */
static kiln_span safetensors(const char *header, const void *data, size_t size)
{
    static unsigned char file[8192];
    const size_t length = strlen(header);
    assert_true(8 + length + size <= sizeof file);
    for (size_t i = 0; i < 8; i++) {
        file[i] = (unsigned char)((uint64_t)length >> (8 * i));
    }
    memcpy(file + 8, header, length);
    memcpy(file + 8 + length, data, size);
    return (kiln_span){file, 8 + length + size};
}

TEST_EACH(weights_come_from_files, i, BACKENDS)
{
    owned_engine engine = build(backends[i]);
    kiln_named_tensor weights[2];
    kiln_refit_sample sample;
    kiln_named_tensor tensors[2];
    unsigned char data[4 + N * 4];
    prepare(20, 30, weights);
    memcpy(data, new_b, 4);
    memcpy(data + 4, new_w, N * 4);
    /* Unaligned, as the length of the header will have it. */
    const kiln_span file = safetensors(
        "{\"__metadata__\":{\"format\":\"pt\"},"
        "\"w\":{\"dtype\":\"F32\",\"shape\":[1024],\"data_offsets\":[4,4100]},"
        "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
        data, sizeof data);
    const kiln_refit_options options = checked(&sample, tensors);
    owned_context context = context_on(engine);
    const char *path = kiln_test_file("new.safetensors", file.data, file.size);
    assert_ok(kiln_engine_refit_file(engine, path, &options));
    check_run(context, 20, 30);
    for (size_t cut = 1; cut < file.size; cut += 97) {
        assert_int_not_equal(
            kiln_engine_refit_bytes(engine, (kiln_span){file.data, file.size - cut}, NULL, NULL),
            KILN_OK);
    }
    check_run(context, 20, 30);
    assert_ok(kiln_engine_refit_bytes(engine, model_of(2, 4), NULL, NULL));
    check_run(context, 2, 4);
    assert_ok(kiln_engine_refit_bytes(engine, file, NULL, &options));
    check_run(context, 20, 30);
}

TEST(files_that_are_no_safetensors_are_refused)
{
    static const char data[8] = "12345678";
    static const struct {
        const char *header, *why;
        kiln_status status;
    } cases[] = {
        {"[]", "no JSON object", KILN_ERROR_MALFORMED},
        {"{\"a\":", "no JSON", KILN_ERROR_MALFORMED},
        {"{\"a\":3}", "it is no JSON object", KILN_ERROR_MALFORMED},
        {"{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", "no \"dtype\"", KILN_ERROR_MALFORMED},
        {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", "no \"shape\"",
         KILN_ERROR_MALFORMED},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", "is no length",
         KILN_ERROR_MALFORMED},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2.5],\"data_offsets\":[0,8]}}", "is no length",
         KILN_ERROR_MALFORMED},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,12]}}", "not two places",
         KILN_ERROR_MALFORMED},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", "not two places",
         KILN_ERROR_MALFORMED},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", "not two places",
         KILN_ERROR_MALFORMED},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}", "take 4 bytes",
         KILN_ERROR_MALFORMED},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
         "4 bytes at the end are no tensor's", KILN_ERROR_MALFORMED},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", "do not follow on",
         KILN_ERROR_MALFORMED},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
         "overlap", KILN_ERROR_MALFORMED},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
         "is there twice", KILN_ERROR_MALFORMED},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[2],\"data_offsets\":[0,8]}}", "is not known here",
         KILN_ERROR_UNSUPPORTED},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,8],\"data_offsets\":[0,8]}}",
         "more than 8 dimensions", KILN_ERROR_RANK},
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(cases); i++) {
        kln_arena arena = {0};
        kiln_named_tensor *tensors = NULL;
        size_t count = 0;
        assert_status(cases[i].status, kln_safetensors_read(safetensors(cases[i].header, data, 8),
                                                            &arena, &tensors, &count));
        assert_message(cases[i].why);
        assert_int_equal(count, 0);
        kln_arena_finish(&arena);
    }
    /* No tensor, and one without elements. */
    kln_arena arena = {0};
    kiln_named_tensor *tensors = NULL;
    size_t count = 7;
    assert_ok(kln_safetensors_read(safetensors("{}", data, 0), &arena, &tensors, &count));
    assert_int_equal(count, 0);
    assert_ok(kln_safetensors_read(
        safetensors("{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},"
                    "\"b\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]}}",
                    data, 8),
        &arena, &tensors, &count));
    assert_int_equal(count, 2);
    kln_arena_finish(&arena);
}
