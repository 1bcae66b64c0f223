/* SPDX-License-Identifier: Apache-2.0 */
/* What a network is checked against before a backend sees it: the operators of that backend, and
 * the profiles it is built with. */
#include "graph_maker.h"
#include "kiln_test.h"
#include "seam/kln_seam.h"

TEST(profiles_are_tried)
{
    owned_engine engine = NULL;
    kiln_issue_list *issues = NULL;
    kiln_build_options options = KILN_BUILD_OPTIONS_INIT;
    const kiln_profile_input input = {
        .name = "x", .min = KILN_SHAPE(4, 2), .opt = KILN_SHAPE(2, 2), .max = KILN_SHAPE(8, 2)};
    const kiln_profile profile = {.inputs = &input, .input_count = 1};
    options.backend = "reference";
    options.issues = &issues;
    options.profiles = &profile;
    options.profile_count = 1;
    owned_network network = network_in(unary_model("Relu", "n,2"), NULL);
    assert_fails(KILN_ERROR_SHAPE, kiln_engine_build(network, &options, &engine),
                 "min must not pass opt");
    assert_int_equal(1, kiln_issue_list_count(issues));
    assert_int_equal(kiln_issue_list_get(issues, 0)->kind, KILN_ISSUE_PROFILE);
    kiln_issue_list_destroy(issues);
    options.profile_count = 0;
    assert_ok(kiln_engine_build(network, &options, &engine));
    assert_null(issues);
}

/* A backend that runs any shape has no use for profiles, but a slip in them waits for TensorRT. */
TEST(profiles_of_a_file_are_looked_at_by_each_backend)
{
    const struct {
        kiln_profile_input input;
        kiln_status status;
        const char *words;
    } rows[] = {
        {{.name = "y", .min = KILN_SHAPE(1, 2), .opt = KILN_SHAPE(1, 2), .max = KILN_SHAPE(1, 2)},
         KILN_ERROR_NAME,
         "there is no input \"y\"; there is \"x\""},
        {{.name = "x", .min = KILN_SHAPE(1, 2), .opt = KILN_SHAPE(4, 2), .max = KILN_SHAPE(2, 2)},
         KILN_ERROR_SHAPE,
         "in dimension 0, max (2) is less than opt (4)"},
        {{.name = "x", .min = KILN_SHAPE(1, 3), .opt = KILN_SHAPE(1, 3), .max = KILN_SHAPE(1, 3)},
         KILN_ERROR_SHAPE,
         "min is 1x3, the model has ?x2 (dimension 1)"},
        {{.name = "x", .min = KILN_SHAPE(1), .opt = KILN_SHAPE(1), .max = KILN_SHAPE(1)},
         KILN_ERROR_RANK,
         "min is 1, the model has ?x2"},
        {{.name = NULL}, KILN_ERROR_NULL_ARGUMENT, "profile 0: input 0 has no name"},
        {{.name = "x", .value_count = 1}, KILN_ERROR_INVALID_ARGUMENT, "min_values is NULL"},
        {{.name = "x", .min = KILN_SHAPE(1, 2), .opt = KILN_SHAPE(4, 2), .max = KILN_SHAPE(8, 2)},
         KILN_OK,
         ""},
    };
    const kiln_span model = unary_model("Relu", "n,2");
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(rows); i++) {
        const kiln_profile profile = {.inputs = &rows[i].input, .input_count = 1};
        kiln_build_options options = backend_options("reference");
        owned_engine engine = NULL;
        options.profiles = &profile;
        options.profile_count = 1;
        const kiln_status status = kiln_engine_build_bytes(model, &options, &engine);
        if (rows[i].status == KILN_OK) {
            assert_ok(status);
        } else {
            assert_fails(rows[i].status, status, rows[i].words);
        }
    }
}

/* Two operators of a domain of its own, one after the other. */
static kiln_network *foreign_network(void)
{
    graph_maker m;
    kln_onnx_opset sets[] = {{.domain = "", .version = 17},
                             {.domain = "com.example", .version = 1}};
    static char copy[4096];
    maker_model(&m, 17, "in x float32[2,3]; a=First(x)");
    m.node->domain = "com.example";
    maker_node(&m, "Second", "a", "b");
    m.node->domain = "com.example";
    maker_text(&m, "y=Add(a,b); out y float32");
    m.model->opsets = sets;
    m.model->opset_count = 2;
    assert_ok(m.status);
    owned_text bytes = maker_bytes(m.model);
    maker_end(&m);
    assert_true(bytes.size < sizeof copy);
    memcpy(copy, bytes.data, bytes.size);
    return network_in((kiln_span){copy, bytes.size}, NULL);
}

TEST(operators_that_a_backend_lacks_are_all_named)
{
    owned_network network = foreign_network();
    kiln_engine *engine = NULL;
    owned_issue_list issues = NULL;
    kiln_build_options options = backend_options("reference");
    options.issues = &issues;
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_engine_build(network, &options, &engine),
                 "the network has 2 errors; the first: ");
    assert_int_equal(2, kiln_issue_list_errors(issues));
    assert_non_null(strstr(kiln_issue_list_get(issues, 0)->sentence, "First"));
    assert_non_null(strstr(kiln_issue_list_get(issues, 1)->sentence, "Second"));
}

TEST(a_comparison_leaves_one_list)
{
    owned_network network = foreign_network();
    kiln_comparison *comparison = NULL;
    kiln_issue_list *lists[2] = {NULL, NULL};
    kiln_build_options options[2] = {KILN_BUILD_OPTIONS_INIT, KILN_BUILD_OPTIONS_INIT};
    for (size_t i = 0; i < 2; i++) {
        options[i].backend = "reference";
        options[i].issues = &lists[i];
    }
    assert_status(KILN_ERROR_UNSUPPORTED,
                  kiln_compare(network, &options[0], &options[1], NULL, &comparison));
    assert_int_equal(2, kiln_issue_list_errors(lists[0]));
    assert_null(lists[1]);
    kiln_issue_list_destroy(lists[0]);
}

/* What checks a model, builds it and explains a failure shares what was read. */
TEST(a_model_is_read_once)
{
    char bytes[512];
    const kiln_span model = unary_model("Relu", "n,2");
    assert_true(model.size <= sizeof bytes);
    memcpy(bytes, model.data, model.size);
    owned_model read = NULL;
    kln_onnx_model *found[3] = {NULL};
    const kiln_model source = {.bytes = {bytes, model.size}, .read = &read};
    assert_ok(kln_model_read(&source, &found[0]));
    bytes[0] = 0x7f; /* no wire type */
    assert_ok(kln_model_read(&source, &found[1]));
    assert_ptr_equal(found[0], found[1]);
    assert_ptr_equal(found[0], read);
    assert_status(KILN_ERROR_MALFORMED, kln_model_read_anew(&source, &found[2]));
    kln_onnx_model_destroy(found[0]);
    kln_onnx_model_destroy(found[1]);
}
