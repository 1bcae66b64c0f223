/* SPDX-License-Identifier: Apache-2.0 */
/* Models' configurations as Triton's repositories have them, from the files of the fuzz corpus and
 * from lines written here. */
#include "config_pbtxt.h"
#include "kiln_test.h"

#define TENSORS                                              \
    "input { name: 'x' data_type: TYPE_FP32 dims: [ 4 ] }\n" \
    "output { name: 'y' data_type: TYPE_FP32 dims: [ 4 ] }\n"

static size_t allowed = SIZE_MAX; /* allocations before one fails */

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);

void *__wrap_calloc(size_t count, size_t size)
{
    if (allowed == 0) {
        return NULL;
    }
    allowed -= allowed != SIZE_MAX;
    return __real_calloc(count, size);
}

static char *read_corpus(const char *name, size_t *size)
{
    char path[600];
    (void)snprintf(path, sizeof path, "%s/%s", KILN_CONFIG_CORPUS, name);
    FILE *file = fopen(path, "rb");
    char *text = malloc(8192);
    assert_non_null(file);
    assert_non_null(text);
    *size = fread(text, 1, 8192, file);
    (void)fclose(file);
    return text;
}

static model_config take_text(const char *text, size_t size)
{
    model_config config;
    char error[PBTXT_ERROR_SIZE] = "";
    if (!model_config_read(text, size, &config, error)) {
        fail_msg("%s", error);
    }
    return config;
}

static model_config take(const char *text)
{
    return take_text(text, strlen(text));
}

static model_config take_file(const char *name)
{
    size_t size = 0;
    char *text = read_corpus(name, &size);
    const model_config config = take_text(text, size);
    free(text);
    return config;
}

static void check_resnet_tensors(const model_config *config)
{
    const model_config_tensor *input = &config->inputs[0];
    assert_int_equal(config->input_count, 1);
    assert_string_equal(input->name, "data");
    assert_int_equal(input->data_type, MODEL_TYPE_FP32);
    assert_int_equal(input->format, 2);
    assert_int_equal(input->dim_count, 3);
    assert_int_equal(input->dims[0], 3);
    assert_int_equal(input->dims[2], 224);
    assert_null(input->reshape);
    assert_int_equal(input->place.line, 6);
    assert_int_equal(input->place.column, 3);
    assert_int_equal(config->output_count, 1);
    assert_string_equal(config->outputs[0].label_filename, "labels.txt");
}

static void check_resnet_batching(const model_config_batching *batching)
{
    assert_int_equal(batching->preferred_count, 3);
    assert_int_equal(batching->preferred_batch_size[2], 32);
    assert_int_equal(batching->max_queue_delay_microseconds, 500);
    assert_int_equal(batching->priority_levels, 3);
    assert_int_equal(batching->default_priority_level, 2);
    assert_int_equal(batching->default_queue_policy->timeout_action, MODEL_TIMEOUT_REJECT);
    assert_int_equal(batching->default_queue_policy->default_timeout_microseconds, 100000);
    assert_true(batching->default_queue_policy->allow_timeout_override);
    assert_int_equal(batching->default_queue_policy->max_queue_size, 256);
    assert_int_equal(batching->level_count, 1);
    assert_int_equal(batching->levels[0].priority, 1);
    assert_int_equal(batching->levels[0].queue->timeout_action, MODEL_TIMEOUT_DELAY);
}

static void check_resnet_optimization(const model_config_optimization *optimization)
{
    const model_config_accelerator *tensorrt = &optimization->accelerators->gpu[0];
    assert_int_equal(optimization->graph->level, 1);
    assert_int_equal(optimization->priority, 1);
    assert_true(optimization->cuda_graphs->on);
    assert_false(optimization->input_pinned_memory->on);
    assert_null(optimization->output_pinned_memory);
    assert_int_equal(optimization->accelerators->gpu_count, 1);
    assert_string_equal(tensorrt->name, "tensorrt");
    assert_int_equal(tensorrt->parameter_count, 2);
    assert_string_equal(tensorrt->parameters[1].key, "max_workspace_size_bytes");
    assert_string_equal(tensorrt->parameters[1].value, "1073741824");
}

TEST(everything_that_a_classifier_says)
{
    model_config config = take_file("resnet50.pbtxt");
    assert_string_equal(config.name, "resnet50");
    assert_string_equal(config.platform, "onnxruntime_onnx");
    assert_string_equal(config.backend, "onnxruntime");
    assert_int_equal(config.max_batch_size, 32);
    check_resnet_tensors(&config);
    check_resnet_batching(config.batching);
    check_resnet_optimization(config.optimization);
    assert_int_equal(config.versions->latest->num_versions, 2);
    assert_int_equal(config.group_count, 2);
    assert_int_equal(config.groups[0].count, 2);
    assert_int_equal(config.groups[0].kind, MODEL_KIND_GPU);
    assert_int_equal(config.groups[0].gpu_count, 2);
    assert_int_equal(config.groups[0].gpus[1], 1);
    assert_int_equal(config.groups[1].kind, MODEL_KIND_CPU);
    assert_string_equal(model_config_parameter_of(&config, "intra_op_thread_count"), "4");
    assert_string_equal(model_config_parameter_of(&config, "enable_mem_area"), "1");
    assert_null(model_config_parameter_of(&config, "other"));
    assert_int_equal(config.warmup_count, 1);
    assert_int_equal(config.warmups[0].batch_size, 1);
    assert_string_equal(config.warmups[0].inputs[0].name, "data");
    assert_int_equal(config.warmups[0].inputs[0].tensor->dims[2], 224);
    assert_true(config.warmups[0].inputs[0].tensor->zeros);
    assert_int_equal(config.memory.warning_count, 2);
    assert_string_equal(config.memory.warnings[0],
                        "line 45, column 23: busy_wait_events of cuda is not acted on");
    assert_non_null(strstr(config.memory.warnings[1], "response_cache"));
    model_config_finish(&config);
}

TEST(every_form_that_a_value_can_have)
{
    model_config config = take_file("plan.pbtxt");
    assert_string_equal(config.backend, "tensorrt");
    assert_null(config.name);
    assert_int_equal(config.input_count, 2);
    assert_int_equal(config.inputs[0].dim_count, 2);
    assert_int_equal(config.inputs[0].dims[0], -1);
    assert_int_equal(config.inputs[0].dims[1], 128);
    assert_int_equal(config.inputs[1].dims[1], 128);
    assert_true(config.inputs[1].optional);
    assert_string_equal(config.outputs[0].name,
                        "answer\n\xc3\xa9"
                        "AA");
    assert_int_equal(config.groups[0].profile_count, 2);
    assert_string_equal(config.groups[0].profiles[1], "1");
    assert_int_equal(config.versions->specific->version_count, 3);
    assert_int_equal(config.versions->specific->versions[2], 16);
    assert_int_equal(config.memory.warning_count, 0);
    model_config_finish(&config);
}

TEST(shapes_that_differ_from_the_models_and_fields_that_nobody_knows)
{
    model_config config = take_file("scalar.pbtxt");
    assert_int_equal(config.inputs[0].reshape->shape_count, 0);
    assert_int_equal(config.outputs[0].reshape->shape_count, 3);
    assert_string_equal(model_config_type_name(config.outputs[0].data_type), "BYTES");
    assert_non_null(config.versions->all);
    assert_non_null(config.batching);
    assert_int_equal(config.batching->preferred_count, 0);
    assert_int_equal(config.memory.warning_count, 2);
    assert_string_equal(config.memory.warnings[0],
                        "line 7, column 1: future_field of the model's configuration is not known "
                        "and is ignored");
    assert_non_null(strstr(config.memory.warnings[1], "line 8, column 1: [some.extension]"));
    model_config_finish(&config);
}

TEST(an_empty_text_says_nothing)
{
    model_config config = take("# only this");
    assert_int_equal(config.input_count, 0);
    assert_null(config.backend);
    assert_null(config.batching);
    model_config_finish(&config);
}

TEST(texts_and_numbers_at_their_ends)
{
    static const struct {
        const char *text, *name;
    } texts[] = {{"name: 'it\\'s \"x\"'", "it's \"x\""},
                 {"name: \"\\a\\b\\f\\n\\r\\t\\v\\?\\\\\\'\\\"\"", "\a\b\f\n\r\t\v?\\'\""},
                 {"name: '\\U0001F600\\ud83d\\ude00'", "\xf0\x9f\x98\x80\xf0\x9f\x98\x80"},
                 {"name: 'a' # joined\n \"b\" 'c'", "abc"},
                 {"name: '\xc3\xa9'", "\xc3\xa9"},
                 {"name: ''", ""}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        model_config config = take(texts[i].text);
        assert_string_equal(config.name, texts[i].name);
        model_config_finish(&config);
    }
    model_config config = take(
        "max_batch_size: 2147483647 dynamic_batching { "
        "max_queue_delay_microseconds: 18446744073709551615 } "
        "optimization { graph { level: - 1 } eager_batching: t }"
        "version_policy { specific { versions: 9223372036854775807 } }");
    assert_int_equal(config.max_batch_size, INT32_MAX);
    assert_true(config.batching->max_queue_delay_microseconds == UINT64_MAX);
    assert_int_equal(config.optimization->graph->level, -1);
    assert_true(config.optimization->eager_batching);
    assert_true(config.versions->specific->versions[0] == INT64_MAX);
    model_config_finish(&config);
}

/* --- what is wrong, and where --- */

static const struct {
    const char *text;
    const char *error;
} wrong[] = {
    {"name \"x\"", "line 1, column 6: : or { is expected, and here is \"x\""},
    {"name: x", "line 1, column 7: a text in quotes for name is expected, and here is x"},
    {"name: 'x\n'", "line 1, column 7: a text begins here and does not end in this line"},
    {"name: 'x", "does not end in this line"},
    {"name: 'x\\", "does not end in this line"},
    {"name: 'x\\q'", "line 1, column 7: the text has an escape \\q that the format does not know"},
    {"name: '\\xZ'", "an escape"},
    {"name: '\\400'", "an escape"},
    {"name: '\\ud800'", "\\u with no character behind it"},
    {"name: '\\ud83d\\u0041'", "\\u with no character behind it"},
    {"name: '\\U00110000'", "\\U with no character behind it"},
    {"name: '\\0'", "the text is not UTF-8, or has a zero byte"},
    {"name: '\xff'", "not UTF-8"},
    {"name: '\xed\xa0\x80'", "not UTF-8"},
    {"name: 'a'\nname: 'b'", "line 2, column 1: name is given twice in the model's configuration"},
    {"name: ['a']", "line 1, column 7: name is one value, and here is a list"},
    {"max_batch_size: 2147483648",
     "line 1, column 17: max_batch_size is 2147483648; -2147483648 to 2147483647 is allowed"},
    {"max_batch_size: 99999999999999999999", "is allowed"},
    {"max_batch_size: 1.5", "a whole number for max_batch_size is expected, and here is 1.5"},
    {"max_batch_size: 08", "a whole number"},
    {"max_batch_size: 4x", "a whole number"},
    {"max_batch_size: -1", "line 1, column 1: max_batch_size is -1; 0 and more are allowed"},
    {"dynamic_batching { max_queue_delay_microseconds: -1 }",
     "max_queue_delay_microseconds is -1; 0 to 18446744073709551615 is allowed"},
    {"dynamic_batching { default_queue_policy { max_queue_size: 4294967296 } }", "is allowed"},
    {"dynamic_batching: 3", "line 1, column 19: { of dynamic_batching is expected"},
    {"dynamic_batching { preserve_ordering: 2 }", "true or false for preserve_ordering"},
    {"dynamic_batching {",
     "line 1, column 19: } of dynamic_batching is expected, and the text "
     "ends here"},
    {"dynamic_batching { >", "the name of a field is expected, and here is >"},
    {"dynamic_batching { }\n}", "line 2, column 1: the name of a field is expected, and here is }"},
    {"dynamic_batching { preferred_batch_size: [ 1, ] }", "a value behind the comma"},
    {"dynamic_batching { preferred_batch_size: [ 1 2 ] }", ", or ] of a list"},
    {"max_batch_size: 4\n dynamic_batching { preferred_batch_size: 8 }",
     "line 2, column 2: a preferred_batch_size is 8; 1 to 4 (max_batch_size) are allowed"},
    {"dynamic_batching { priority_levels: 2 }",
     "default_priority_level is 0; 1 to 2 (priority_levels) are allowed"},
    {"dynamic_batching { priority_levels: 2 default_priority_level: 1 "
     "priority_queue_policy { key: 3 value { } } }",
     "a policy for priority 3 is given; there are 1 to 2 (priority_levels)"},
    {"dynamic_batching { }\nsequence_batching { }",
     "line 2, column 1: sequence_batching of the model's configuration is not supported"},
    {"ensemble_scheduling { step [ { model_name: 'x' } ] }", "ensemble_scheduling"},
    {"batch_input [ ]", "batch_input"},
    {"version_policy { all { } latest { num_versions: 1 } }",
     "line 1, column 26: all and latest are both given in version_policy"},
    {"version_policy { latest { } }", "the latest 0 versions"},
    {"version_policy { specific { } }", "no versions are named"},
    {"version_policy { specific { versions: [ 0 ] } }", "version 0 is asked for"},
    {"input { data_type: TYPE_FP32 dims: 1 }", "line 1, column 1: this input has no name"},
    {"input { name: 'x' dims: 1 }", "input \"x\" has no data_type"},
    {"input { name: 'x' data_type: TYPE_FP32 }", "input \"x\" has no dims"},
    {"input { name: 'x' data_type: TYPE_FLOAT dims: 1 }",
     "line 1, column 30: data_type is TYPE_FLOAT; known are TYPE_INVALID, TYPE_BOOL"},
    {"input { name: 'x' data_type: 99 dims: 1 }", "which stands for none of TYPE_INVALID"},
    {"input { name: 'x' data_type: TYPE_FP32 dims: [ 2, 0 ] }", "a dimension of \"x\" is 0"},
    {"input { name: 'x' data_type: 11 dims: [ 9223372036854775807, 2 ] }", "can be counted"},
    {"input { name: 'x' data_type: 11 dims: [ 4 ] reshape { shape: [ 2 ] } }",
     "line 1, column 45: the reshape of \"x\" has 2 elements, its dims 4"},
    {"input { name: 'x' data_type: 11 dims: [ -1 ] reshape { shape: [ 1 ] } }",
     "has 1 element, its dims 1 of -1"},
    {TENSORS "input { name: 'x' data_type: TYPE_FP32 dims: [ 4 ] }",
     "line 3, column 1: input \"x\" is given already in line 1"},
    {"instance_group { count: -1 }", "the count of an instance_group is -1"},
    {"instance_group { kind: KIND_CPU gpus: [ 0 ] }", "of KIND_CPU names 1 GPUs"},
    {"instance_group { gpus: [ -1 ] }", "GPU -1 is asked for"},
    {"platform: 'pytorch_libtorch'", "known are onnxruntime_onnx and tensorrt_plan"},
    {"platform: 'tensorrt_plan' backend: 'onnxruntime'", "which is of backend \"tensorrt\""},
    {"x: { a: [ }", "a value, or the end of another bracket, is expected, and here is }"},
    {"x: [ 1", "the end of a value that began before is expected, and the text ends here"},
    {"x: , 1", "a value is expected, and here is ,"},
    {"\xe2\x82\xac", "line 1, column 1: a byte 0xE2 that means nothing here"},
    {"name: 'x' \x01", "line 1, column 11: a byte 0x01 that means nothing here"},
};

TEST_EACH(each_error_has_its_place, i, sizeof wrong / sizeof wrong[0])
{
    model_config config;
    char error[PBTXT_ERROR_SIZE] = "";
    if (model_config_read(wrong[i].text, strlen(wrong[i].text), &config, error) ||
        strncmp(error, "line ", 5) != 0 || strstr(error, wrong[i].error) == NULL) {
        fail_msg("%s\n  came to \"%s\", not to \"%s\"", wrong[i].text, error, wrong[i].error);
    }
    model_config_finish(&config);
}

TEST(a_text_that_is_large_or_deep)
{
    enum { SIZE = (1 << 20) + 1 };
    char *text = malloc(SIZE);
    char error[PBTXT_ERROR_SIZE] = "";
    model_config config;
    assert_non_null(text);
    memset(text, '\n', SIZE);
    assert_false(model_config_read(text, SIZE, &config, error));
    assert_non_null(strstr(error, "1048577 bytes; 1048576 at most are read"));
    config = take_text(text, SIZE - 1);
    model_config_finish(&config);
    memset(text, '[', SIZE);
    text[0] = 'x';
    assert_false(model_config_read(text, SIZE - 1, &config, error));
    assert_non_null(strstr(error, "column 66: values lie 65 deep in each other"));
    model_config_finish(&config);
    free(text);
}

TEST(many_unknown_fields_are_counted)
{
    char text[400] = "";
    for (int i = 0; i < 40; i++) {
        (void)strcat(text, "x: 1 ");
    }
    model_config config = take(text);
    assert_int_equal(config.memory.warning_count, PBTXT_MOST_WARNINGS);
    assert_int_equal(config.memory.unnamed, 8);
    model_config_finish(&config);
}

TEST(each_allocation_may_fail)
{
    size_t size = 0;
    char *text = read_corpus("resnet50.pbtxt", &size);
    bool taken = false;
    size_t failures = 0;
    for (; !taken && failures < 100; failures++) {
        model_config config;
        char error[PBTXT_ERROR_SIZE] = "";
        allowed = failures;
        taken = model_config_read(text, size, &config, error);
        allowed = SIZE_MAX;
        assert_true(taken || strstr(error, "no memory") != NULL);
        model_config_finish(&config);
    }
    assert_true(taken);
    assert_true(failures > 1);
    free(text);
}
