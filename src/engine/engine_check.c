/* SPDX-License-Identifier: Apache-2.0 */
#include "graph/kln_graph.h"
#include "kln_engine.h"

/* Finds the backend by name only; it does not have to be available, because the check asks what it
 * supports. */
static kiln_status find_backend(const char *name, const kiln_backend **found)
{
    *found = NULL;
    if (name == NULL || name[0] == '\0') {
        return KILN_OK;
    }
    for (size_t i = 0; (*found = kln_backend_at(i)) != NULL; i++) {
        if (strcmp((*found)->name, name) == 0) {
            return KILN_OK;
        }
    }
    return kln_fail(KILN_ERROR_NAME,
                    "there is no backend \"%s\"; kiln_backend_get lists those there are", name);
}

static kiln_status read_ranges(const kiln_profile *profile, kln_profile_range **ranges,
                               size_t *count)
{
    *count = 0;
    KLN_NEW(*ranges, profile->input_count, "ranges of a profile");
    for (size_t i = 0; i < profile->input_count; i++) {
        const kiln_profile_input *input = &profile->inputs[i];
        KLN_RETURN_IF(input->name == NULL, KILN_ERROR_INVALID_ARGUMENT,
                      "input %zu of a profile has no name", i);
        /* Only shapes are tried, not the values of shape tensors. */
        if (input->value_count == 0) {
            (*ranges)[(*count)++] =
                (kln_profile_range){input->name, input->min, input->opt, input->max};
        }
    }
    return KILN_OK;
}

/* One pass for each profile, because each has its own ranges. Issues that do not depend on ranges
 * are the same in every pass and reported once. */
kiln_status kln_check_model(const kln_onnx_model *model, const kiln_check_options *options,
                            kiln_provider provider, kiln_issue_list **issues)
{
    kiln_check_options read = KILN_CHECK_OPTIONS_INIT;
    const kiln_backend *backend = NULL;
    KLN_RETURN_IF_ERROR(kln_options_read("kiln_check_options", options, &read, sizeof read));
    KLN_RETURN_IF_ERROR(find_backend(read.backend, &backend));
    KLN_FAIL_IF(read.profiles == NULL && read.profile_count > 0,
                kln_fail_null("kiln_check", "profiles"));
    kln_validate_options validate = {.backend = read.backend};
    if (backend != NULL) {
        validate.supports = backend->supports;
        validate.lacks = backend->lacks;
        validate.on_gpu = provider == KILN_PROVIDER_CUDA;
        validate.newest_ir = backend->newest_ir;
        validate.holds = backend->holds;
        validate.bound_as = backend->bound_as;
        validate.binds_strings = backend->binds_strings;
        validate.dense_only = backend->dense_only;
        validate.unique_node_names = backend->unique_node_names;
        validate.plugins = backend->has_plugins;
        validate.initializers_are_weights = backend->initializers_are_weights;
    }
    if (read.profile_count == 0) {
        return kln_validate(model, &validate, issues);
    }
    KLN_SCOPED(kiln_issue_list_destroy_at) kiln_issue_list *all = NULL;
    for (size_t i = 0; i < read.profile_count; i++) {
        KLN_SCOPED_FREE kln_profile_range *ranges = NULL;
        KLN_SCOPED(kiln_issue_list_destroy_at) kiln_issue_list *found = NULL;
        KLN_RETURN_IF_ERROR(read_ranges(&read.profiles[i], &ranges, &validate.range_count));
        validate.ranges = ranges;
        KLN_RETURN_IF_ERROR(kln_validate(model, &validate, &found));
        if (all == NULL) {
            all = KLN_TAKE(found);
        } else {
            KLN_RETURN_IF_ERROR(kln_issues_merge(all, found, KILN_ISSUE_PROFILE));
        }
    }
    *issues = KLN_TAKE(all);
    return KILN_OK;
}

kiln_status kiln_check_file(const char *path, const kiln_check_options *options,
                            kiln_issue_list **issues)
{
    KLN_RETURN_IF_NULL_RESULT(issues, path);
    KLN_SCOPED(kln_onnx_model_destroy_at) kln_onnx_model *model = NULL;
    KLN_RETURN_IF_ERROR(kln_onnx_read_partly(path, &model));
    return kln_check_model(model, options, KILN_PROVIDER_CPU, issues);
}

kiln_status kiln_check_bytes(kiln_span model, const char *folder, const kiln_check_options *options,
                             kiln_issue_list **issues)
{
    KLN_RETURN_IF_NULL_RESULT(issues);
    if (model.size > 0) {
        KLN_RETURN_IF_NULL(model.data);
    }
    KLN_SCOPED(kln_onnx_model_destroy_at) kln_onnx_model *read = NULL;
    KLN_RETURN_IF_ERROR(kln_onnx_read_bytes(model, folder, &read));
    return kln_check_model(read, options, KILN_PROVIDER_CPU, issues);
}

kiln_status kiln_network_validate(const kiln_network *network, const kiln_check_options *options,
                                  kiln_issue_list **issues)
{
    KLN_RETURN_IF_NULL_RESULT(issues, network);
    const kln_onnx_model *model = NULL;
    KLN_SCOPED(kiln_issue_list_destroy_at) kiln_issue_list *made = NULL;
    KLN_RETURN_IF_ERROR(kln_network_model(network, &model));
    KLN_RETURN_IF_ERROR(kln_check_model(model, options, KILN_PROVIDER_CPU, &made));
    KLN_RETURN_IF_ERROR(kln_network_issues(network, &made));
    *issues = KLN_TAKE(made);
    return KILN_OK;
}
