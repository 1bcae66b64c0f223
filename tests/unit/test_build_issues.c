/* SPDX-License-Identifier: Apache-2.0 */
/* A build that fails because of the network gives everything that is wrong with it. */
#include "fake_tensorrt_test.h"

/* Four faults: two unknown names, an unknown operator, and an output that nothing computes. */
static kiln_span four_faults(void)
{
    return made_model(
        17,
        "in x float32[4]; a=Add(x,nowhere); b=Bogus(x); c=Mul(x,neither); out a float32[4]; "
        "out b float32[4]; out c float32[4]; out never float32[4]");
}

static const kiln_issue *find(const kiln_issue_list *list, kiln_issue_kind kind, const char *word)
{
    for (size_t i = 0; i < kiln_issue_list_count(list); i++) {
        const kiln_issue *issue = kiln_issue_list_get(list, i);
        if (issue->kind == kind && strstr(issue->sentence, word) != NULL) {
            return issue;
        }
    }
    return NULL;
}

static void check_four(const kiln_issue_list *list)
{
    assert_true(kiln_issue_list_errors(list) >= 4);
    assert_non_null(find(list, KILN_ISSUE_UNKNOWN_NAME, "nowhere"));
    assert_non_null(find(list, KILN_ISSUE_UNKNOWN_NAME, "neither"));
    assert_non_null(find(list, KILN_ISSUE_UNKNOWN_OPERATOR, "Bogus"));
    assert_non_null(find(list, KILN_ISSUE_MISSING_OUTPUT, "never"));
}

TEST(a_network_fails_with_the_list_of_its_check)
{
    kiln_engine *engine = NULL;
    owned_issue_list checked = NULL;
    owned_issue_list issues = NULL;
    kiln_build_options options = backend_options("reference");
    options.issues = &issues;
    owned_network network = network_in(four_faults(), NULL);
    assert_ok(kiln_network_validate(network, NULL, &checked));
    assert_fails(KILN_ERROR_INVALID_NETWORK, kiln_engine_build(network, &options, &engine),
                 "the network has 4 errors; the first: ");
    check_four(issues);
    assert_int_equal(kiln_issue_list_count(issues), kiln_issue_list_count(checked));
    for (size_t i = 0; i < kiln_issue_list_count(checked); i++) {
        assert_string_equal(kiln_issue_list_get(issues, i)->sentence,
                            kiln_issue_list_get(checked, i)->sentence);
    }
}

TEST(a_model_fails_with_it_on_every_backend)
{
    static const char *const backends[] = {"reference", "onnxruntime"};
    const char *path = NULL;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(backends); i++) {
        kiln_engine *engine = NULL;
        kiln_issue_list *issues = NULL;
        kiln_build_options options = backend_options(backends[i]);
        options.issues = &issues;
        const kiln_span model = four_faults();
        assert_int_not_equal(kiln_engine_build_bytes(model, &options, &engine), KILN_OK);
        check_four(issues);
        kiln_issue_list_destroy(issues);
        path = kiln_test_file("four_faults.onnx", model.data, model.size);
        const kiln_status status = kiln_engine_build_file(path, &options, &engine);
        char sentence[1024];
        (void)snprintf(sentence, sizeof sentence, "%s", kiln_error_message());
        check_four(issues);
        kiln_issue_list_destroy(issues);
        /* A load of ONNX is a build; without the list the failure is the same. */
        assert_status(status, kiln_engine_load(path, &options, &engine));
        check_four(issues);
        kiln_issue_list_destroy(issues);
        options.issues = NULL;
        assert_status(status, kiln_engine_build_file(path, &options, &engine));
        assert_string_equal(kiln_error_message(), sentence);
        assert_null(engine);
    }
}

/* What Kiln's check has nothing against is in the backend's own words. */
TEST(what_only_the_backend_says_is_an_issue_too)
{
    kiln_engine *engine = NULL;
    owned_issue_list issues = NULL;
    kiln_build_options options = backend_options("onnxruntime");
    options.issues = &issues;
    assert_status(KILN_ERROR_UNSUPPORTED,
                  kiln_engine_build_bytes(made_model(17, "in x 14[n]; y=Identity(x); out y 14[n]"),
                                          &options, &engine));
    assert_true(kiln_issue_list_errors(issues) >= 1);
    kiln_issue_list_destroy(issues);
    static const unsigned char text[] = "this is no model";
    assert_status(KILN_ERROR_MALFORMED,
                  kiln_engine_build_bytes((kiln_span){text, sizeof text}, &options, &engine));
    assert_int_equal(kiln_issue_list_errors(issues), 1);
    assert_string_equal(kiln_issue_list_get(issues, 0)->sentence, kiln_error_message());
    assert_int_equal(kiln_issue_list_get(issues, 0)->kind, KILN_ISSUE_MODEL);
}

TEST(another_failure_leaves_no_list)
{
    owned_engine engine = NULL;
    kiln_issue_list *issues = (kiln_issue_list *)(void *)&engine;
    kiln_build_options options = KILN_BUILD_OPTIONS(.issues = &issues);
    assert_status(KILN_ERROR_NOT_FOUND, kiln_engine_build_file("/no/such", &options, &engine));
    assert_null(issues);
    options.backend = "nobody";
    issues = (kiln_issue_list *)(void *)&engine;
    assert_status(KILN_ERROR_NAME,
                  kiln_engine_build_bytes(unary_model("Neg", "n"), &options, &engine));
    assert_null(issues);
    options.backend = "reference";
    assert_ok(kiln_engine_build_bytes(unary_model("Neg", "n"), &options, &engine));
    assert_null(issues);
}

TEST(a_job_hands_it_over_once)
{
    kiln_build *build = NULL;
    kiln_engine *engine = NULL;
    kiln_issue_list *issues = NULL;
    kiln_build_options options = backend_options("reference");
    options.issues = &issues;
    const kiln_span model = four_faults();
    assert_ok(kiln_build_start_bytes(model, &options, NULL, &build));
    assert_int_not_equal(kiln_build_wait(build, UINT64_MAX, &engine), KILN_OK);
    check_four(issues);
    kiln_issue_list_destroy(issues);
    issues = NULL;
    assert_int_not_equal(kiln_build_wait(build, UINT64_MAX, &engine), KILN_OK);
    assert_null(issues);
    kiln_build_destroy(build);
    /* Nobody waits: the job keeps it, and takes it along. */
    assert_ok(kiln_build_start_bytes(model, &options, NULL, &build));
    kiln_build_destroy(build);
    assert_null(issues);
}

/* TensorRT's parser names the node; what it says stands beside what Kiln found. */
FAKE_TEST(a_parser_is_listened_to)
{
    const kiln_span model = unary_model("Bogus", "4");
    for (size_t i = 0; i < FAKE_LAYOUTS; i++) {
        kiln_engine *engine = NULL;
        owned_issue_list issues = NULL;
        kiln_build_options options = fake_options(i);
        options.issues = &issues;
        const kiln_status status = kiln_engine_build_bytes(model, &options, &engine);
        assert_int_not_equal(status, KILN_OK);
        assert_message("fake_parser.cpp:42");
        const kiln_issue *said = find(
            issues, status == KILN_ERROR_UNSUPPORTED ? KILN_ISSUE_UNSUPPORTED : KILN_ISSUE_MODEL,
            "fake_parser.cpp:42");
        assert_non_null(said);
        assert_string_equal(said->found, "Bogus");
        assert_non_null(find(issues, KILN_ISSUE_UNKNOWN_OPERATOR, "Bogus"));
    }
}

static kiln_status fail_once(void *user)
{
    kiln_engine *engine = NULL;
    kiln_issue_list *issues = NULL;
    kiln_build_options options = backend_options("reference");
    options.issues = &issues;
    const kiln_status status = kiln_engine_build_bytes(*(const kiln_span *)user, &options, &engine);
    const bool listed = kiln_issue_list_errors(issues) >= 4;
    kiln_issue_list_destroy(issues);
    /* The right failure and its list are what shall come of it in the end. */
    return status == KILN_ERROR_OUT_OF_MEMORY || !listed ? KILN_ERROR_OUT_OF_MEMORY : KILN_OK;
}

TEST(every_allocation_may_fail)
{
    kiln_span model = four_faults();
    kiln_test_each_allocation(fail_once, &model);
}
