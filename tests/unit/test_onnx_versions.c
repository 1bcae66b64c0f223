/* SPDX-License-Identifier: Apache-2.0 */
/* Every IR version and every operator set that is read: written again byte for byte, inferred,
 * checked, and run on the reference executor and on ONNX Runtime with one result. */
#include "graph_maker.h"
#include "kiln_test.h"

#define FLOAT 1
#define OLDEST_OPSET 7
#define NEWEST_OPSET 23

/* What was the attribute `name` is an input of that name from operator set `since` on. */
static void listed(graph_maker *m, int64_t opset, int64_t since, const char *op, const char *input,
                   const char *output, const char *name, size_t count, const int64_t *values)
{
    char inputs[64];
    (void)snprintf(inputs, sizeof inputs, "%s,%s.%s", input, output, name);
    if (opset >= since) {
        char *list = kln_arena_strdup(&m->model->arena, strchr(inputs, ',') + 1);
        assert_non_null(list);
        maker_ints(m, list, count, values);
    }
    maker_node(m, op, opset >= since ? inputs : input, output);
    if (opset < since) {
        maker_attribute_ints(m, name, count, values);
    }
}

/* Pad, Slice, Clip, Unsqueeze, ReduceSum, Squeeze and Softmax changed their forms between 7 and 23.
 */
static kln_text write_model(int64_t ir, int64_t opset)
{
    owned_maker m;
    const float bounds[2] = {-0.5F, 0.75F};
    maker_begin(&m, opset);
    m.model->ir_version = ir;
    maker_input(&m, "x", FLOAT, "2,3");
    listed(&m, opset, 11, "Pad", "x", "padded", "pads", 4, (int64_t[]){0, 1, 1, 0});
    if (opset < 10) {
        maker_text(&m, "sliced=Slice(padded) starts=[0,1] ends=[3,4]");
    } else {
        maker_text(&m, "starts={0,1}; ends={3,4}; sliced=Slice(padded,starts,ends)");
    }
    if (opset < 11) {
        maker_node(&m, "Clip", "sliced", "clipped");
        maker_attribute_float(&m, "min", bounds[0]);
        maker_attribute_float(&m, "max", bounds[1]);
    } else {
        maker_text(&m, "zeros low float32[]; clipped=Clip(sliced,low)");
    }
    listed(&m, opset, 13, "Unsqueeze", "clipped", "wide", "axes", 1, (int64_t[]){0});
    listed(&m, opset, 13, "Squeeze", "wide", "narrow", "axes", 1, (int64_t[]){0});
    listed(&m, opset, 13, "ReduceSum", "narrow", "sum", "axes", 1, (int64_t[]){1});
    maker_text(&m, "added=Add(narrow,sum); y=Softmax(added); out y float32[3,3]");
    assert_ok(m.status);
    kln_text bytes = maker_bytes(m.model);
    return bytes;
}

static void check_copy(kiln_span bytes)
{
    owned_model model = NULL;
    assert_ok(kln_onnx_read_bytes(bytes, NULL, &model));
    owned_text copy = maker_bytes(model);
    assert_int_equal(copy.size, bytes.size);
    assert_memory_equal(copy.data, bytes.data, bytes.size);
}

static void check_issues(kiln_span bytes)
{
    owned_issue_list issues = NULL;
    assert_ok(kiln_check_bytes(bytes, NULL, NULL, &issues));
    if (kiln_issue_list_errors(issues) != 0) {
        fail_msg("%s", kiln_issue_list_get(issues, 0)->sentence);
    }
}

static void run(kiln_span bytes, const char *backend, float y[9])
{
    static const float x[6] = {0.5F, -1.0F, 2.0F, 0.25F, -0.125F, 0.0F};
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = backend, .threads = 1);
    owned_engine engine = built_bytes(bytes, &options);
    owned_context context = context_on(engine);
    kiln_tensor tensor = tensor_in(context, "x");
    memcpy(tensor.data, x, sizeof x);
    assert_ok(kiln_context_run(context));
    assert_ok(kiln_context_tensor(context, "y", &tensor));
    assert_int_equal(tensor.bytes, 9 * sizeof *y);
    memcpy(y, tensor.data, tensor.bytes);
}

static void compare(kiln_span bytes)
{
    float ours[9];
    float theirs[9];
    run(bytes, "reference", ours);
    run(bytes, "onnxruntime", theirs);
    double sum = 0.0;
    for (int i = 0; i < 9; i++) {
        assert_true(fabs((double)ours[i] - (double)theirs[i]) < 1e-6);
        sum += (double)ours[i];
    }
    assert_true(sum > 0.9 && sum < 3.1);
}

TEST(every_version)
{
    for (int64_t ir = KLN_ONNX_IR_OLDEST; ir <= KLN_ONNX_IR_NEWEST; ir++) {
        for (int64_t opset = OLDEST_OPSET; opset <= NEWEST_OPSET; opset++) {
            owned_text text = write_model(ir, opset);
            const kiln_span bytes = {text.data, text.size};
            check_copy(bytes);
            float y[9];
            run(bytes, "reference", y);
            /* An initializer that is no input is of IR version 4. */
            if (ir >= 4) {
                check_issues(bytes);
            }
            if (ir == 10) {
                compare(bytes);
            }
        }
    }
}

TEST(versions_outside_are_refused)
{
    kiln_network *network = NULL;
    for (int64_t ir = KLN_ONNX_IR_OLDEST - 1; ir <= KLN_ONNX_IR_NEWEST + 1;
         ir += KLN_ONNX_IR_NEWEST - KLN_ONNX_IR_OLDEST + 2) {
        owned_text text = write_model(ir, 17);
        assert_status(KILN_ERROR_UNSUPPORTED,
                      kiln_network_from_bytes((kiln_span){text.data, text.size}, NULL, &network));
        assert_null(network);
        assert_message("versions 3 to 14");
    }
}
