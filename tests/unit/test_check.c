/* SPDX-License-Identifier: Apache-2.0 */
#include "graph_maker.h"
#include "kiln_test.h"

/* A model of one Reshape to [-1,4,8], which takes any batch but no other length; and a Softmax. */
static kln_text write_model(const char *op)
{
    owned_maker m;
    maker_model(&m, 17, "in x float32[batch,4,n]; to={-1,4,8}; r=Reshape(x,to)");
    maker_node(&m, op, "r", "y");
    maker_output(&m, "y", 1, NULL);
    assert_ok(m.status);
    kln_text bytes = maker_bytes(m.model);
    return bytes;
}

TEST(files_and_bytes_are_checked)
{
    kiln_issue_list *issues = NULL;
    owned_text bytes = write_model("Bogus");
    const char *path = kiln_test_file("bogus.onnx", bytes.data, bytes.size);
    assert_ok(kiln_check_file(path, NULL, &issues));
    assert_int_equal(1, kiln_issue_list_errors(issues));
    assert_int_equal(KILN_ISSUE_UNKNOWN_OPERATOR, kiln_issue_list_get(issues, 0)->kind);
    kiln_issue_list_destroy(issues);
    assert_ok(kiln_check_bytes((kiln_span){bytes.data, bytes.size}, NULL, NULL, &issues));
    assert_int_equal(1, kiln_issue_list_errors(issues));
    kiln_issue_list_destroy(issues);

    assert_status(KILN_ERROR_MALFORMED,
                  kiln_check_bytes((kiln_span){bytes.data, bytes.size - 3}, NULL, NULL, &issues));
    assert_null(issues);
    assert_status(KILN_ERROR_NOT_FOUND, kiln_check_file("/nowhere.onnx", NULL, &issues));
}

TEST(options_are_read)
{
    kiln_issue_list *issues = NULL;
    owned_text bytes = write_model("Softmax");
    const kiln_span model = {bytes.data, bytes.size};
    kiln_check_options options = KILN_CHECK_OPTIONS(.backend = "reference");
    assert_ok(kiln_check_bytes(model, NULL, &options, &issues));
    assert_int_equal(0, kiln_issue_list_count(issues));
    kiln_issue_list_destroy(issues);
    options.backend = "nobody";
    assert_fails(KILN_ERROR_NAME, kiln_check_bytes(model, NULL, &options, &issues), "\"nobody\"");
    options.backend = NULL;
    options.struct_size = 1;
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_check_bytes(model, NULL, &options, &issues));
    options.struct_size = sizeof options;
    options.profile_count = 1;
    assert_status(KILN_ERROR_NULL_ARGUMENT, kiln_check_bytes(model, NULL, &options, &issues));

    kiln_profile_input small = {.name = "x",
                                .min = KILN_SHAPE(1, 4, 8),
                                .opt = KILN_SHAPE(2, 4, 8),
                                .max = KILN_SHAPE(4, 4, 8)};
    kiln_profile_input large = small;
    large.max = KILN_SHAPE(4, 4, 9);
    const kiln_profile profiles[] = {{.inputs = &small, .input_count = 1},
                                     {.inputs = &large, .input_count = 1}};
    options.profiles = profiles;
    assert_ok(kiln_check_bytes(model, NULL, &options, &issues));
    assert_int_equal(0, kiln_issue_list_count(issues));
    kiln_issue_list_destroy(issues);
    options.profile_count = 2;
    assert_ok(kiln_check_bytes(model, NULL, &options, &issues));
    assert_int_equal(1, kiln_issue_list_count(issues));
    assert_int_equal(KILN_ISSUE_PROFILE, kiln_issue_list_get(issues, 0)->kind);
    assert_string_equal("x", kiln_issue_list_get(issues, 0)->tensor);
    kiln_issue_list_destroy(issues);
    small.name = NULL;
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_check_bytes(model, NULL, &options, &issues));
}

TEST(networks_are_validated)
{
    kiln_issue_list *issues = NULL;
    owned_text bytes = write_model("Bogus");
    owned_network network = network_in((kiln_span){bytes.data, bytes.size}, NULL);
    assert_ok(kiln_network_validate(network, NULL, &issues));
    assert_int_equal(1, kiln_issue_list_errors(issues));
    assert_fails(KILN_ERROR_INVALID_NETWORK, kln_issues_status(issues),
                 "the network has 1 error; the first: node \"y\" (Bogus)");
    kiln_issue_list_destroy(issues);
    /* A build says the same before a backend sees it. */
    kiln_engine *engine = NULL;
    assert_fails(KILN_ERROR_INVALID_NETWORK, kiln_engine_build(network, NULL, &engine),
                 "the network has 1 error; the first: node \"y\" (Bogus)");
    assert_null(engine);
}

static kiln_status check_once(void *user)
{
    const kln_text *bytes = user;
    kiln_profile_input input = {.name = "x",
                                .min = KILN_SHAPE(1, 4, 8),
                                .opt = KILN_SHAPE(1, 4, 8),
                                .max = KILN_SHAPE(4, 5, 9)};
    const kiln_profile profiles[] = {{.inputs = &input, .input_count = 1},
                                     {.inputs = &input, .input_count = 1}};
    kiln_check_options options = KILN_CHECK_OPTIONS(.profiles = profiles, .profile_count = 2);
    owned_issue_list issues = NULL;
    return kiln_check_bytes((kiln_span){bytes->data, bytes->size}, NULL, &options, &issues);
}

TEST(each_allocation_may_fail)
{
    static unsigned char copy[4096];
    kln_text bytes = write_model("Bogus");
    assert_true(bytes.size < sizeof copy);
    memcpy(copy, bytes.data, bytes.size);
    kln_text view = {.data = (char *)copy, .size = bytes.size};
    kln_text_finish(&bytes);
    kiln_test_each_allocation(check_once, &view);
}
