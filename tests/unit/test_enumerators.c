/* SPDX-License-Identifier: Apache-2.0 */
/* A number that is none of an enumeration's: INVALID_ARGUMENT and the number in the sentence, for
 * every enumeration that a caller fills; DTYPE for data types. */
#include <kiln/calibrate.h>
#include <kiln/compare.h>
#include <kiln/memory.h>
#include <kiln/pipeline.h>
#include <kiln/precision.h>
#include <kiln/scheduler.h>
#include <kiln/stream.h>

#include "base/kln_base.h"
#include "context_test.h"
#include "graph_maker.h"
#include "kiln_owned.h"

typedef struct subject {
    kiln_engine *engine;
    kiln_context *context;
    kiln_network *network;
    kiln_tensor_id x; /* of the network */
} subject;

typedef kiln_status probe(const subject *on, int bad);

static float numbers[4];

static kiln_tensor tensor_with(int bad, size_t member)
{
    kiln_tensor tensor = floats(numbers, 4);
    memcpy((char *)&tensor.desc + member, &bad, sizeof bad);
    return tensor;
}

#define LOCATION offsetof(kiln_tensor_desc, location)
#define FORMAT offsetof(kiln_tensor_desc, format)
#define DTYPE offsetof(kiln_tensor_desc, dtype)

static kiln_status bind(const subject *on, int bad, size_t member)
{
    const kiln_tensor x = tensor_with(bad, member);
    return kiln_context_bind(on->context, "x", &x);
}

static kiln_status run(const subject *on, int bad, size_t member)
{
    const kiln_named_tensor x = {"x", tensor_with(bad, member)};
    return kiln_context_run_tensors(on->context, &x, 1, NULL, 0);
}

static kiln_status push(const subject *on, int bad, size_t member)
{
    const kiln_named_tensor x = {"x", tensor_with(bad, member)};
    owned_pipeline pipeline = pipeline_on(on->engine, NULL);
    return kiln_pipeline_push(pipeline, &x, 1);
}

static kiln_status submit_as(const subject *on, const kiln_tensor *tensor, int schedule)
{
    owned_request request = NULL;
    kiln_engine *const engines[] = {on->engine};
    const kiln_named_tensor x = {"x", *tensor};
    kiln_request_options options = KILN_REQUEST_OPTIONS(.priority = 0);
    memcpy(&options.schedule, &schedule, sizeof schedule);
    owned_scheduler scheduler = scheduler_on(engines, 1, NULL);
    return kiln_scheduler_submit(scheduler, &x, 1, NULL, 0, &options, &request);
}

static kiln_status submit(const subject *on, int bad, size_t member)
{
    const kiln_tensor x = tensor_with(bad, member);
    return submit_as(on, &x, 0);
}

static kiln_status save(const subject *on, int bad, size_t member)
{
    const kiln_tensor x = tensor_with(bad, member);
    return kiln_tensor_save_npy(&x, kiln_test_path("none.npy"));
}

TEST(a_tensor_is_somewhere_in_some_format)
{
    static kiln_status (*const calls[])(const subject *, int, size_t) = {bind, run, push, submit,
                                                                         save};
    static const struct {
        size_t member;
        kiln_status status;
    } members[] = {{LOCATION, KILN_ERROR_INVALID_ARGUMENT},
                   {FORMAT, KILN_ERROR_INVALID_ARGUMENT},
                   {DTYPE, KILN_ERROR_DTYPE}};
    const kiln_build_options reference = KILN_BUILD_OPTIONS(.backend = "reference");
    subject on = {.engine = built_bytes(unary_model("Neg", "4"), &reference)};
    on.context = context_on(on.engine);
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(calls) * KLN_ARRAY_LENGTH(members); i++) {
        const size_t member = i % KLN_ARRAY_LENGTH(members);
        static const int bad[] = {77, -7};
        for (size_t k = 0; k < 2; k++) {
            assert_fails(members[member].status,
                         calls[i / KLN_ARRAY_LENGTH(members)](&on, bad[k], members[member].member),
                         k == 0 ? "77" : "-7");
        }
    }
    kiln_context_destroy(on.context);
    kiln_engine_release(on.engine);
}

/* --- options and arguments --- */

#define PROBE_CONTEXT(member)                                       \
    static kiln_status context_##member(const subject *on, int bad) \
    {                                                               \
        kiln_context_options options = KILN_CONTEXT_OPTIONS_INIT;   \
        kiln_context *context = NULL;                               \
        memcpy(&options.member, &bad, sizeof bad);                  \
        return kiln_context_create(on->engine, &options, &context); \
    }
PROBE_CONTEXT(graphs)
PROBE_CONTEXT(kernel_specialization)
PROBE_CONTEXT(rtx_graphs)

static kiln_status pipeline_graphs(const subject *on, int bad)
{
    kiln_pipeline_options options = KILN_PIPELINE_OPTIONS(.graphs = (kiln_graph_policy)bad);
    kiln_pipeline *pipeline = NULL;
    return kiln_pipeline_create(on->engine, &options, &pipeline);
}

static kiln_status request_schedule(const subject *on, int bad)
{
    const kiln_tensor x = floats(numbers, 4);
    return submit_as(on, &x, bad);
}

static kiln_status pool_location(const subject *on, int bad)
{
    kiln_buffer *buffer = NULL;
    return kiln_buffer_create((kiln_location)bad, 0, 16, &buffer);
}

static kiln_status made_location(const subject *on, int bad)
{
    kiln_tensor tensor;
    return kiln_tensor_make(KILN_DTYPE_FLOAT32, &(int64_t){4}, 1, (kiln_location)bad, 0, numbers,
                            sizeof numbers, &tensor);
}

static kiln_status compare_fill(const subject *on, int bad)
{
    kiln_compare_options options = KILN_COMPARE_OPTIONS_INIT;
    kiln_comparison *comparison = NULL;
    options.fill = (kiln_compare_fill)bad;
    return kiln_compare_engines(on->engine, on->engine, &options, &comparison);
}

static kiln_status none_more(void *user, const kiln_named_tensor **inputs, size_t *count)
{
    *count = 0;
    return KILN_OK;
}

static kiln_status calibrate(const subject *on, const kiln_calibrate_options *options)
{
    const kiln_batch_source source = {none_more, NULL};
    kiln_range_table *ranges = NULL;
    return kiln_calibrate(on->network, NULL, &source, options, &ranges);
}

static kiln_status calibrate_method(const subject *on, int bad)
{
    kiln_calibrate_options options = KILN_CALIBRATE_OPTIONS_INIT;
    options.method = (kiln_calibration_method)bad;
    return calibrate(on, &options);
}

static kiln_status calibrate_precision(const subject *on, int bad)
{
    kiln_calibrate_options options = KILN_CALIBRATE_OPTIONS_INIT;
    options.precision = (kiln_precision)bad;
    return calibrate(on, &options);
}

static kiln_status convert(const subject *on, int precision, int rest)
{
    kiln_precision_options options = KILN_PRECISION_OPTIONS(.precision = (kiln_precision)precision,
                                                            .rest = (kiln_precision)rest);
    return kiln_network_convert(on->network, &options, NULL);
}

static kiln_status convert_precision(const subject *on, int bad)
{
    return convert(on, bad, 0);
}

static kiln_status convert_rest(const subject *on, int bad)
{
    return convert(on, KILN_PRECISION_INT4, bad);
}

static kiln_status generator_layout(const subject *on, int bad)
{
    kiln_generator_options options = KILN_GENERATOR_OPTIONS_INIT;
    kiln_generator *generator = NULL;
    options.layout = (kiln_cache_layout)bad;
    return kiln_generator_create(on->engine, &options, &generator);
}

static kiln_status weights_place(const subject *on, int bad)
{
    return kiln_network_save_onnx(on->network, kiln_test_path("none.onnx"),
                                  (kiln_weights_place)bad);
}

static kiln_status activation(const subject *on, int bad)
{
    kiln_tensor_id y;
    return kiln_network_add_activation(on->network, "n", (kiln_activation)bad, on->x, 0, 0, &y);
}

static kiln_status unary(const subject *on, int bad)
{
    kiln_tensor_id y;
    return kiln_network_add_unary(on->network, "n", (kiln_unary)bad, on->x, &y);
}

static kiln_status elementwise(const subject *on, int bad)
{
    kiln_tensor_id y;
    return kiln_network_add_elementwise(on->network, "n", (kiln_elementwise)bad, on->x, on->x, &y);
}

static kiln_status reduce(const subject *on, int bad)
{
    kiln_tensor_id y;
    return kiln_network_add_reduce(on->network, "n", (kiln_reduction)bad, on->x, NULL, 0, false,
                                   &y);
}

TEST(an_option_is_one_of_its_enumeration)
{
    static probe *const probes[] = {context_graphs,     context_kernel_specialization,
                                    context_rtx_graphs, pipeline_graphs,
                                    request_schedule,   pool_location,
                                    made_location,      compare_fill,
                                    calibrate_method,   calibrate_precision,
                                    convert_precision,  convert_rest,
                                    generator_layout,   weights_place,
                                    activation,         unary,
                                    elementwise,        reduce};
    const kiln_build_options reference = KILN_BUILD_OPTIONS(.backend = "reference");
    subject on = {.engine = built_bytes(unary_model("Neg", "4"), &reference)};
    assert_ok(kiln_network_create(NULL, &on.network));
    assert_ok(
        kiln_network_add_input(on.network, "x", KILN_DTYPE_FLOAT32, &KILN_SHAPE(4), NULL, &on.x));
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(probes); i++) {
        assert_fails(KILN_ERROR_INVALID_ARGUMENT, probes[i](&on, 77), "77");
        assert_fails(KILN_ERROR_INVALID_ARGUMENT, probes[i](&on, -7), "-7");
    }
    kiln_network_destroy(on.network);
    kiln_engine_release(on.engine);
}

TEST(a_build_option_is_one_of_its_choices)
{
    static const struct {
        const char *name;
        kiln_option_kind kind;
        size_t offset;
    } rows[] = {
#define KILN_OPTION(kind, type, name, ...) \
    {#name, KILN_OPTION_##kind, offsetof(kiln_build_options, name)},
#define KILN_OPTION_LIST(...)
#include <kiln/build_options.inc>
    };
    const kiln_span model = unary_model("Neg", "4");
    size_t choices = 0;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(rows); i++) {
        static const int bad[] = {77, -7};
        for (size_t k = 0; k < 2 && rows[i].kind == KILN_OPTION_CHOICE; k++) {
            kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "reference");
            kiln_engine *engine = NULL;
            memcpy((char *)&options + rows[i].offset, &bad[k], sizeof bad[k]);
            assert_fails(KILN_ERROR_INVALID_ARGUMENT,
                         kiln_engine_build_bytes(model, &options, &engine), rows[i].name,
                         k == 0 ? "77" : "-7");
            choices++;
        }
    }
    assert_true(choices > 10);
}
