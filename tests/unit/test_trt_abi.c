/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/tensorrt/trt_abi.h"
#include "kiln_test.h"

TEST(each_library_has_its_layout)
{
    static const struct {
        bool is_rtx;
        int32_t version;
        trt_layout layout;
    } known[] = {{false, 100000, TRT_LAYOUT_10},   {false, 101601, TRT_LAYOUT_10},
                 {false, 110000, TRT_LAYOUT_11},   {false, 110400, TRT_LAYOUT_11},
                 {true, 10300, TRT_LAYOUT_RTX_13}, {true, 10400, TRT_LAYOUT_RTX_13},
                 {true, 10500, TRT_LAYOUT_RTX_15}, {true, 10701, TRT_LAYOUT_RTX_15}};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(known); i++) {
        trt_abi abi;
        assert_ok(trt_abi_resolve(known[i].is_rtx, known[i].version, &abi));
        assert_int_equal(abi.layout, known[i].layout);
        assert_int_equal(abi.version, known[i].version);
    }
}

TEST(an_unknown_version_is_refused_with_the_known_ones)
{
    static const int32_t trt[] = {0, 8601, 90300, 99999, 101700, 109999, 110500, 120000, -5};
    trt_abi abi;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(trt); i++) {
        assert_fails(KILN_ERROR_LIBRARY_VERSION, trt_abi_resolve(false, trt[i], &abi),
                     "TensorRT 10.0 to 10.16");
    }
    assert_fails(KILN_ERROR_LIBRARY_VERSION, trt_abi_resolve(true, 10800, &abi),
                 "TensorRT-RTX 1.8.0: ", "1.3 to 1.7");
    assert_status(KILN_ERROR_LIBRARY_VERSION, trt_abi_resolve(true, 101601, &abi));
    assert_status(KILN_ERROR_LIBRARY_VERSION, trt_abi_resolve(false, 10701, &abi));
}

TEST(a_method_is_there_from_its_version_on)
{
    trt_abi abi;
    assert_ok(trt_abi_resolve(false, 100600, &abi));
    assert_false(trt_has(&abi, TRT_M_Parser_loadModelProto));
    assert_true(trt_has(&abi, TRT_M_CudaEngine_setWeightStreamingBudget));
    assert_false(trt_has(&abi, TRT_M_BuilderConfig_setComputeCapability));
    assert_ok(trt_abi_resolve(false, 101300, &abi));
    assert_int_equal(abi.slots[TRT_M_Parser_loadModelProto], 21);
    assert_ok(trt_abi_resolve(true, 10701, &abi));
    assert_int_equal(abi.slots[TRT_M_Parser_loadModelProto], 19);
    assert_false(trt_has(&abi, TRT_M_CudaEngine_setWeightStreamingBudget));
    assert_string_equal(trt_method_name(TRT_M_Parser_loadModelProto), "Parser.loadModelProto");
}

TEST(what_moved_in_one_version_only_is_absent_there)
{
    trt_abi abi;
    assert_ok(trt_abi_resolve(false, 100700, &abi));
    assert_int_equal(abi.slots[TRT_M_NetworkDefinition_markWeightsRefittable], 72);
    assert_ok(trt_abi_resolve(false, 100803, &abi));
    assert_false(trt_has(&abi, TRT_M_NetworkDefinition_markWeightsRefittable));
    assert_ok(trt_abi_resolve(false, 100900, &abi));
    assert_int_equal(abi.slots[TRT_M_NetworkDefinition_markWeightsRefittable], 72);
}

TEST(enumerators_have_a_number_for_each_layout)
{
    trt_abi abi;
    assert_ok(trt_abi_resolve(false, 101601, &abi));
    assert_int_equal(trt_value(&abi, TRT_V_BuilderFlag_STRIP_PLAN), 19);
    assert_int_equal(trt_value(&abi, TRT_V_NetworkDefinitionCreationFlag_STRONGLY_TYPED), 1);
    assert_int_equal(trt_value(&abi, TRT_V_BuilderFlag_FP16), 0);
    assert_ok(trt_abi_resolve(true, 10701, &abi));
    assert_int_equal(trt_value(&abi, TRT_V_BuilderFlag_STRIP_PLAN), 18);
    assert_int_equal(trt_value(&abi, TRT_V_NetworkDefinitionCreationFlag_STRONGLY_TYPED), 0);
    assert_int_equal(trt_value(&abi, TRT_V_BuilderFlag_FP16), -1);
    assert_int_equal(trt_value(&abi, TRT_V_ComputeCapability_SM121), 121);
    assert_string_equal(trt_enumerator_name(TRT_V_BuilderFlag_FP16), "BuilderFlag.FP16");
    assert_ok(trt_abi_resolve(false, 100100, &abi));
    assert_int_equal(trt_value(&abi, TRT_V_BuilderFlag_REFIT_INDIVIDUAL), -1);
}

static int32_t errors_of(void *self)
{
    return 42;
}

/* A slot belongs to one method of its class in every version. */
TEST(no_two_methods_share_a_slot)
{
    static const int32_t versions[][2] = {{0, 100000}, {0, 101601}, {0, 110000}, {0, 110400},
                                          {1, 10300},  {1, 10400},  {1, 10500},  {1, 10701}};
    for (size_t v = 0; v < KLN_ARRAY_LENGTH(versions); v++) {
        trt_abi abi;
        assert_ok(trt_abi_resolve(versions[v][0] != 0, versions[v][1], &abi));
        for (int i = 0; i < TRT_METHOD_COUNT; i++) {
            const char *a = trt_method_name((trt_method)i);
            const size_t length = (size_t)(strchr(a, '.') - a) + 1;
            for (int j = i + 1; j < TRT_METHOD_COUNT; j++) {
                const char *b = trt_method_name((trt_method)j);
                if (abi.slots[i] >= 0 && strncmp(a, b, length) == 0) {
                    assert_int_not_equal(abi.slots[i], abi.slots[j]);
                }
            }
        }
    }
}

TEST(a_call_goes_through_its_slot_or_gives_zero)
{
    trt_abi abi;
    assert_ok(trt_abi_resolve(true, 10701, &abi));
    trt_slot table[64] = {NULL};
    table[abi.slots[TRT_M_Parser_getNbErrors]] = (trt_slot)errors_of;
    trt_Parser parser = {table};
    assert_int_equal(trt_Parser_getNbErrors(&abi, &parser), 42);
    abi.slots[TRT_M_Parser_getNbErrors] = -1;
    assert_int_equal(trt_Parser_getNbErrors(&abi, &parser), 0);
    assert_true(trt_is_null((void *)0x228));
    assert_false(trt_is_null(&parser));
    trt_Runtime_destroy(NULL);
}
