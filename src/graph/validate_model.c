/* SPDX-License-Identifier: Apache-2.0 */
#include "ops/kln_schema.h"
#include "validate_rules.h"

/* Takes over the inference's list. */
static kiln_issue_list *take_issues(kln_inference *inference)
{
    kiln_issue_list *issues = inference->issues;
    inference->issues = NULL;
    return issues;
}

kiln_status kln_validate(const kln_onnx_model *model, const kln_validate_options *options,
                         kiln_issue_list **issues)
{
    KLN_RETURN_IF_NULL_RESULT(issues, model);
    KLN_SCOPED(kln_inference_destroy_at) kln_inference *inference = NULL;
    KLN_RETURN_IF_ERROR(kln_infer(model, NULL, &inference));
    return kln_validate_inference(inference, options, issues);
}

static void validate_main_graph(kln_validation *v)
{
    kln_validate_graph(v, v->inference->graph, NULL);
}

kiln_status kln_validate_inference(kln_inference *inference, const kln_validate_options *options,
                                   kiln_issue_list **issues)
{
    static const kln_validate_options none = {.backend = NULL};
    kln_validation v = {.inference = inference,
                        .model = inference->model,
                        .options = options != NULL ? options : &none,
                        .status = KILN_OK};
    KLN_NEW(v.functions, v.model->function_count + 1, "validation");
    v.status = kln_issues_add_missing(inference->issues, v.model);
    static void (*const steps[])(kln_validation * v) = {kln_validate_doubts, kln_validate_header,
                                                        validate_main_graph, kln_validate_ranges};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(steps) && v.status == KILN_OK; i++) {
        steps[i](&v);
    }
    KLN_THEN(v.status, kln_issues_sort(inference->issues));
    if (v.status == KILN_OK) {
        *issues = take_issues(inference);
    }
    kln_free(v.functions);
    return v.status;
}
