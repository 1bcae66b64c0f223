/* SPDX-License-Identifier: Apache-2.0 */
/* A network's whole life, from its first layer over its checks to an engine that runs, and for some
 * over files to a saved engine that is loaded again, with each allocation failing in its turn: an
 * error each time, nothing left behind, and no pointer where there is no object. */
#include "../network/layer_cases.h"
#include "kiln_test.h"

static char onnx_path[4096];
static char engine_path[4096];

typedef struct journey {
    const layer_case *each;
    const char *backend;
    bool over_files; /* each is written through to the disk, which takes most of the time */
    kiln_network *network;
    kiln_network *copy;
    kiln_issue_list *issues;
    kiln_engine *engine;
    kiln_engine *again;
    kiln_context *context;
} journey;

/* Anything but NULL, to see that a failing call sets it. */
static char nowhere;

#define OUT(pointer) ((pointer) = (void *)&nowhere, &(pointer))

/* Passes the status on; an object must be there just when the call worked. */
static kiln_status made(kiln_status status, const void *object)
{
    if ((status == KILN_OK) != (object != NULL) || object == &nowhere) {
        fail_msg("%s came with %s object", kiln_status_name(status), object != NULL ? "an" : "no");
    }
    return status;
}

#define MAKE(call, pointer)                       \
    do {                                          \
        status = (call);                          \
        if (made(status, (pointer)) != KILN_OK) { \
            return status;                        \
        }                                         \
    } while (0)

static kiln_status run(journey *j)
{
    kiln_status status = KILN_OK;
    MAKE(kiln_context_create(j->engine, NULL, OUT(j->context)), j->context);
    for (size_t i = 0; i < kiln_engine_input_count(j->engine); i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        kiln_tensor tensor;
        TRY(kiln_engine_input(j->engine, i, &binding));
        TRY(kiln_context_reshape(j->context, binding.name, &binding.shape));
        TRY(kiln_context_tensor(j->context, binding.name, &tensor));
    }
    TRY(kiln_context_run(j->context));
    for (size_t i = 0; i < kiln_engine_output_count(j->engine); i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        kiln_tensor tensor;
        TRY(kiln_engine_output(j->engine, i, &binding));
        TRY(kiln_context_tensor(j->context, binding.name, &tensor));
        assert_true(tensor.data != NULL || tensor.bytes == 0);
    }
    return KILN_OK;
}

static kiln_status travel(journey *j)
{
    kiln_status status = KILN_OK;
    kiln_network_options network_options = KILN_NETWORK_OPTIONS_INIT;
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = j->backend, .threads = 1);
    network_options.opset = j->each->oldest > KILN_OPSET_DEFAULT ? KILN_OPSET_NEWEST : 0;
    MAKE(kiln_network_create(&network_options, OUT(j->network)), j->network);
    TRY(j->each->build(j->network));
    const kiln_network *network = j->network;
    if (j->over_files) {
        TRY(kiln_network_save_onnx(j->network, onnx_path, KILN_WEIGHTS_EXTERNAL));
        MAKE(kiln_network_from_onnx(onnx_path, OUT(j->copy)), j->copy);
        network = j->copy;
    }
    MAKE(kiln_network_validate(network, NULL, OUT(j->issues)), j->issues);
    assert_int_equal(kiln_issue_list_errors(j->issues), 0);
    MAKE(kiln_engine_build(network, &options, OUT(j->engine)), j->engine);
    TRY(run(j));
    if (j->over_files) {
        TRY(kiln_engine_save(j->engine, engine_path));
        MAKE(kiln_engine_load(engine_path, &options, OUT(j->again)), j->again);
    }
    return KILN_OK;
}

/* What was not reached is NULL; what failed is NULL as travel has seen to. */
static kiln_status live(void *user)
{
    journey j = *(const journey *)user;
    const kiln_status status = travel(&j);
    kiln_context_destroy(j.context);
    kiln_engine_release(j.again);
    kiln_engine_release(j.engine);
    kiln_issue_list_destroy(j.issues);
    kiln_network_destroy(j.copy);
    kiln_network_destroy(j.network);
    return status;
}

TEST_EACH(each_layer_on_the_reference_executor, i, layer_case_count)
{
    journey j = {.each = &layer_cases[i], .backend = "reference"};
    kiln_test_each_allocation(live, &j);
}

static void some_layers_over_files(const char *backend)
{
    static const char *const names[] = {"convolution", "branches"};
    size_t found = 0;
    for (size_t i = 0; i < layer_case_count; i++) {
        for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
            if (strcmp(layer_cases[i].name, names[k]) == 0) {
                journey j = {.each = &layer_cases[i], .backend = backend, .over_files = true};
                kiln_test_each_allocation(live, &j);
                found++;
            }
        }
    }
    assert_int_equal(found, sizeof names / sizeof names[0]);
}

TEST(some_layers_over_files_on_the_reference_executor)
{
    some_layers_over_files("reference");
}

TEST(some_layers_over_files_on_onnxruntime)
{
    some_layers_over_files("onnxruntime");
}

int main(void)
{
    /* Each save waits for the disk, thousands of times; memory does not. */
    if (access("/dev/shm", W_OK) == 0) {
        assert_int_equal(setenv("KILN_TEST_SCRATCH", "/dev/shm/kiln_tests", 0), 0);
    }
    (void)snprintf(onnx_path, sizeof onnx_path, "%s", kiln_test_path("every.onnx"));
    (void)snprintf(engine_path, sizeof engine_path, "%s", kiln_test_path("every.engine.onnx"));
    return kiln_test_run();
}
