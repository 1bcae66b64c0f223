/* SPDX-License-Identifier: Apache-2.0 */
#include <cJSON.h>
#include <stdio.h>

#include "cli_list.h"

typedef struct check_settings {
    const char *backend;
    kiln_build_options *build; /* the library's options */
    bool json;
    bool strict;
} check_settings;

/* --- text --- */

static void print_text(const kiln_issue_list *issues)
{
    const size_t count = kiln_issue_list_count(issues);
    const size_t errors = kiln_issue_list_errors(issues);
    for (size_t i = 0; i < count; i++) {
        const kiln_issue *issue = kiln_issue_list_get(issues, i);
        if (issue->severity == KILN_SEVERITY_ERROR || !cli_is_quiet()) {
            cli_issue_print(stdout, issue);
        }
    }
    (void)printf("%zu error%s, %zu warning%s\n", errors, CLI_S(errors), count - errors,
                 CLI_S(count - errors));
}

/* --- JSON --- */

static cli_exit print_json(const char *path, const kiln_issue_list *issues)
{
    cJSON *document = cJSON_CreateObject();
    cli_json_add_text(document, "model", path);
    (void)cJSON_AddNumberToObject(document, "errors", (double)kiln_issue_list_errors(issues));
    (void)cJSON_AddNumberToObject(
        document, "warnings",
        (double)(kiln_issue_list_count(issues) - kiln_issue_list_errors(issues)));
    cJSON *list = cJSON_AddArrayToObject(document, "issues");
    for (size_t i = 0; i < kiln_issue_list_count(issues); i++) {
        const kiln_issue *issue = kiln_issue_list_get(issues, i);
        cJSON *item = cJSON_CreateObject();
        cli_json_add_text(item, "severity",
                          issue->severity == KILN_SEVERITY_ERROR ? "error" : "warning");
        cli_json_add_text(item, "kind", kiln_issue_kind_name(issue->kind));
        cli_json_add_text(item, "node", issue->node);
        cli_json_add_text(item, "tensor", issue->tensor);
        cli_json_add_text(item, "expected", issue->expected);
        cli_json_add_text(item, "found", issue->found);
        cli_json_add_text(item, "sentence", issue->sentence);
        (void)cJSON_AddItemToArray(list, item);
    }
    return cli_json_print(document);
}

/* --- the command --- */

static cli_exit check(const char *path, const check_settings *settings)
{
    CLI_OWNED(issue_list) issues = NULL;
    kiln_check_options options = KILN_CHECK_OPTIONS(.backend = settings->backend);
    if (settings->build != NULL) {
        options.profiles = settings->build->profiles;
        options.profile_count = settings->build->profile_count;
    }
    const kiln_status status = kiln_check_file(path, &options, &issues);
    if (status != KILN_OK) {
        const cli_exit failed = cli_fail();
        return status == KILN_ERROR_NAME ? CLI_MISUSED : failed;
    }
    cli_exit result = CLI_DONE;
    if (settings->json) {
        result = print_json(path, issues);
    } else {
        print_text(issues);
    }
    const size_t counted =
        settings->strict ? kiln_issue_list_count(issues) : kiln_issue_list_errors(issues);
    return result == CLI_DONE && counted > 0 ? CLI_FAILED : result;
}

static cli_exit run(const cli_command *self, void *given, const char **operands)
{
    (void)self;
    return check(operands[0], given);
}

static const cli_option options[] = {
    {"backend", 'b', "NAME", CLI_TEXT, offsetof(check_settings, backend), 0, 0, NULL,
     "Also report operators that this backend cannot run, as far as is known. The backend need "
     "not be installed."},
    CLI_ROWS_OF("profiles", offsetof(check_settings, build)),
    {"json", 'j', NULL, CLI_FLAG, offsetof(check_settings, json), 0, 0, NULL,
     "Write JSON: model, errors, warnings, and issues (severity, kind, node, tensor, expected, "
     "found, sentence)."},
    {"strict", 's', NULL, CLI_FLAG, offsetof(check_settings, strict), 0, 0, NULL,
     "Count warnings as errors in the exit status."},
    {0},
};

static const cli_group groups[] = {
    {"Check", options, 0},
    {0},
};

static const cli_example examples[] = {
    {"kiln check model.onnx", "everything that is wrong with it"},
    {"kiln check model.onnx --backend reference", "whether the built-in executor runs it"},
    {"kiln check model.onnx -p 'x=1x8:4x8:8x8'", "and whether it takes batches of 1 to 8"},
    {"kiln check model.onnx --json | jq -r '.issues[].sentence'", "for a script"},
    {0},
};

const cli_command cli_command_check = {
    .name = "check",
    .operands = "MODEL",
    .summary = "list everything that is wrong with a model",
    .description =
        "Checks the ONNX file MODEL without building it and lists every problem: names, order, "
        "cycles, operators, attributes, types, shapes, weights and quantization, also in "
        "subgraphs and functions. The types and shapes of all tensors are inferred.\n\nThe exit "
        "status is 0 if there is no error, 1 if there is one or the file cannot be read, 2 for "
        "wrong use.",
    .groups = groups,
    .examples = examples,
    CLI_SETTINGS(check_settings, .json = false),
    .run = run,
    .tells_errors = true,
};
