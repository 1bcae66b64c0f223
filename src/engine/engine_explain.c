/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "kln_engine.h"
#include "ops/kln_ops.h"

static bool lies_in_the_model(kiln_status status)
{
    switch (status) {
        case KILN_ERROR_INVALID_NETWORK:
        case KILN_ERROR_UNSUPPORTED:
        case KILN_ERROR_MALFORMED:
        case KILN_ERROR_SHAPE:
        case KILN_ERROR_DTYPE:
        case KILN_ERROR_BACKEND: return true;
        default: return false;
    }
}

/* Checks the model; finds nothing if it cannot be read, which the backend has reported already. */
static void check(const kiln_model *model, const kiln_check_options *options,
                  kiln_provider provider, kiln_issue_list **found)
{
    KLN_SCOPED(kln_onnx_model_destroy_at) kln_onnx_model *read = NULL;
    if (model->graph == NULL) {
        if (kln_model_read(model, &read) != KILN_OK) {
            return;
        }
    }
    if (kln_check_model(model->graph != NULL ? model->graph : read, options, provider, found) !=
        KILN_OK) {
        *found = NULL;
    }
}

static kiln_status complete(kiln_issue_list *list, const kiln_issue_list *told, kiln_status status,
                            const char *sentence)
{
    if (told != NULL) {
        KLN_RETURN_IF_ERROR(kln_issues_merge(list, told, 0));
    }
    if (kiln_issue_list_errors(list) > 0) {
        return KILN_OK;
    }
    const kiln_issue said = {
        .severity = KILN_SEVERITY_ERROR,
        .kind = status == KILN_ERROR_UNSUPPORTED ? KILN_ISSUE_UNSUPPORTED : KILN_ISSUE_MODEL,
        .sentence = sentence,
    };
    KLN_RETURN_IF_ERROR(kln_issues_add(list, &said));
    return kln_issues_sort(list);
}

kiln_status kln_engine_explain(kiln_status status, const kiln_model *model,
                               const kiln_build_options *options, const kiln_backend *backend)
{
    if (options->issues == NULL) {
        return status;
    }
    kiln_issue_list *told = *options->issues;
    *options->issues = NULL;
    if (!lies_in_the_model(status)) {
        kiln_issue_list_destroy(told);
        return status;
    }
    char sentence[1024];
    (void)snprintf(sentence, sizeof sentence, "%s", kiln_error_message());
    kiln_check_options how = KILN_CHECK_OPTIONS_INIT;
    how.backend = backend->name;
    how.profiles = options->profiles;
    how.profile_count = options->profile_count;
    kiln_issue_list *list = NULL;
    check(model, &how, options->provider, &list);
    if ((list == NULL && kln_issues_create(&list) != KILN_OK) ||
        complete(list, told, status, sentence) != KILN_OK) {
        kiln_issue_list_destroy(list);
        list = NULL;
    }
    kiln_issue_list_destroy(told);
    *options->issues = list;
    return kln_fail(status, "%s", sentence);
}
