/* SPDX-License-Identifier: Apache-2.0 */
#include <cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli_list.h"

#define WIDTH 79

typedef struct doctor_settings {
    bool json;
} doctor_settings;

/* What is found out about the machine, once for both kinds of output. */
typedef struct findings {
    kiln_system_report *report;
    const char *name; /* of the backend that would be chosen; "" if none */
    bool has_chosen;
    char reason[1024]; /* why this one is chosen, or why none is */
} findings;

static const char *state_name(kiln_library_state state)
{
    switch (state) {
        case KILN_LIBRARY_FOUND: return "found";
        case KILN_LIBRARY_ABSENT: return "absent";
        case KILN_LIBRARY_BROKEN: return "broken";
        case KILN_LIBRARY_REFUSED: return "refused";
    }
    return "?";
}

/* --- text --- */

static void print_wrapped(const char *before, const char *source, size_t indent)
{
    CLI_TEXT_SCOPED text = {NULL, 0, 0};
    SCOPED_HEAP char *printable = cli_printable(source);
    cli_text_printf(&text, "%*s", (int)(indent - strlen(before)), "");
    cli_text_add(&text, before);
    cli_text_wrap(&text, printable, indent, WIDTH);
    (void)puts(text.data);
}

static const char *usable(const kiln_backend_info *info)
{
    return info->available                                     ? "usable"
           : info->score == 0                                  ? "not usable"
           : (info->capabilities & KILN_CAPABILITY_BUILD) != 0 ? "builds only"
           : (info->capabilities & KILN_CAPABILITY_RUN) != 0   ? "runs plans only"
                                                               : "not usable";
}

static cli_exit print_backends(const findings *found)
{
    (void)puts("Backends");
    for (size_t i = 0; i < kiln_backend_count(); i++) {
        kiln_backend_info info = {.struct_size = sizeof info};
        CLI_FAIL_IF_ERROR(kiln_backend_get(i, &info));
        const bool is_chosen = strcmp(info.name, found->name) == 0;
        (void)printf("%c %-12s %s%s%s\n", is_chosen ? '*' : ' ', info.name, usable(&info),
                     info.version[0] != '\0' ? ", " : "", info.version);
        print_wrapped("", info.description, 15);
        print_wrapped("", info.reason, 15);
    }
    if (found->has_chosen) {
        (void)printf("\n* %s is what a model runs on where nothing else is asked for.\n",
                     found->name);
    } else {
        (void)puts("");
        print_wrapped("", "No backend would be chosen.", 0);
        print_wrapped("", found->reason, 0);
    }
    return CLI_DONE;
}

static cli_exit print_libraries(const kiln_system_report *report)
{
    (void)puts("\nLibraries");
    for (size_t i = 0; i < kiln_system_report_library_count(report); i++) {
        kiln_library_info info = {.struct_size = sizeof info};
        CLI_FAIL_IF_ERROR(kiln_system_report_library(report, i, &info));
        (void)printf("%s  %s: %s%s%s (%s)\n", i > 0 ? "\n" : "", info.name, state_name(info.state),
                     info.version[0] != '\0' ? ", " : "", info.version, info.purpose);
        if (info.path[0] != '\0') {
            (void)printf("    %s\n", info.path);
        }
        if (info.advice[0] != '\0') {
            print_wrapped("", info.advice, 4);
        }
        for (size_t place = 0; place < info.place_count; place++) {
            const char *line = kiln_system_report_place(report, i, place);
            print_wrapped(place == 0 ? "looked at: " : "", line != NULL ? line : "", 15);
        }
    }
    return CLI_DONE;
}

static cli_exit print_devices(const kiln_system_report *report)
{
    (void)puts("\nDevices");
    const size_t count = kiln_system_report_device_count(report);
    cli_table table;
    cli_table_init(&table, "rlrrl", NULL);
    for (size_t i = 0; i < count; i++) {
        kiln_device_info info = {.struct_size = sizeof info};
        CLI_FAIL_IF_ERROR(kiln_system_report_device(report, i, &info));
        cli_table_printf(&table, "%d", info.index);
        cli_table_add(&table, info.name);
        cli_table_printf(&table, "compute %d.%d", info.compute_major, info.compute_minor);
        cli_table_printf(&table, "%.1f GiB", (double)info.total_bytes / 0x1p30);
        cli_table_add(&table, info.pci_address);
    }
    if (count == 0) {
        (void)puts("  none");
    }
    cli_table_print(&table, 2);
    return CLI_DONE;
}

/* --- the cache --- */

typedef struct cache_facts {
    char folder[4096]; /* or the reason why there is none */
    bool has_folder;
    size_t count;
    uint64_t bytes;
} cache_facts;

static void look_at_cache(cache_facts *facts)
{
    CLI_OWNED(cache_list) list = NULL;
    size_t length = 0;
    *facts = (cache_facts){.count = 0};
    facts->has_folder =
        kiln_cache_folder("default", facts->folder, sizeof facts->folder, &length) == KILN_OK;
    if (!facts->has_folder || kiln_cache_list_create("default", false, &list) != KILN_OK) {
        (void)snprintf(facts->folder, sizeof facts->folder, "%s", kiln_error_message());
        facts->has_folder = false;
    }
    facts->count = kiln_cache_list_count(list);
    for (size_t i = 0; i < facts->count; i++) {
        kiln_cache_entry entry = {.struct_size = sizeof entry};
        facts->bytes += kiln_cache_list_get(list, i, &entry) == KILN_OK ? entry.bytes : 0;
    }
}

static void print_cache(void)
{
    cache_facts facts;
    look_at_cache(&facts);
    (void)printf("\nPlans that are kept\n  %s\n", facts.folder);
    if (facts.has_folder) {
        (void)printf("  %zu entr%s, %.1f MiB\n", facts.count, facts.count == 1 ? "y" : "ies",
                     (double)facts.bytes / 0x1p20);
    }
}

static void add_cache(cJSON *document)
{
    cache_facts facts;
    look_at_cache(&facts);
    cJSON *object = cJSON_AddObjectToObject(document, "cache");
    cli_json_add_text(object, facts.has_folder ? "folder" : "problem", facts.folder);
    (void)cJSON_AddNumberToObject(object, "entries", (double)facts.count);
    (void)cJSON_AddNumberToObject(object, "bytes", (double)facts.bytes);
}

static cli_exit print_text(const findings *found)
{
    (void)printf("Kiln %s\n\n", kiln_version_string());
    CLI_RETURN_UNLESS_DONE(print_backends(found));
    CLI_RETURN_UNLESS_DONE(print_libraries(found->report));
    CLI_RETURN_UNLESS_DONE(print_devices(found->report));
    print_cache();
    return CLI_DONE;
}

/* --- JSON --- */

static cli_exit add_backends(cJSON *document)
{
    cJSON *array = cJSON_AddArrayToObject(document, "backends");
    for (size_t i = 0; i < kiln_backend_count(); i++) {
        kiln_backend_info info = {.struct_size = sizeof info};
        CLI_FAIL_IF_ERROR(kiln_backend_get(i, &info));
        cJSON *object = cli_json_backend(&info);
        cli_json_add_text(object, "description", info.description);
        (void)cJSON_AddBoolToObject(object, "available", info.available);
        (void)cJSON_AddNumberToObject(object, "score", info.score);
        cli_json_add_text(object, "reason", info.reason);
        (void)cJSON_AddItemToArray(array, object);
    }
    return CLI_DONE;
}

static cli_exit add_libraries(cJSON *document, const kiln_system_report *report)
{
    cJSON *array = cJSON_AddArrayToObject(document, "libraries");
    for (size_t i = 0; i < kiln_system_report_library_count(report); i++) {
        kiln_library_info info = {.struct_size = sizeof info};
        CLI_FAIL_IF_ERROR(kiln_system_report_library(report, i, &info));
        cJSON *object = cJSON_CreateObject();
        cli_json_add_text(object, "name", info.name);
        cli_json_add_text(object, "purpose", info.purpose);
        cli_json_add_text(object, "state", state_name(info.state));
        cli_json_add_text(object, "version", info.version);
        cli_json_add_text(object, "path", info.path);
        cli_json_add_text(object, "advice", info.advice);
        cJSON *places = cJSON_AddArrayToObject(object, "places");
        for (size_t place = 0; place < info.place_count; place++) {
            const char *line = kiln_system_report_place(report, i, place);
            (void)cJSON_AddItemToArray(places, cli_json_text(line != NULL ? line : ""));
        }
        (void)cJSON_AddItemToArray(array, object);
    }
    return CLI_DONE;
}

static cli_exit add_devices(cJSON *document, const kiln_system_report *report)
{
    cJSON *array = cJSON_AddArrayToObject(document, "devices");
    for (size_t i = 0; i < kiln_system_report_device_count(report); i++) {
        kiln_device_info info = {.struct_size = sizeof info};
        CLI_FAIL_IF_ERROR(kiln_system_report_device(report, i, &info));
        cJSON *object = cJSON_CreateObject();
        (void)cJSON_AddNumberToObject(object, "index", info.index);
        cli_json_add_text(object, "name", info.name);
        (void)cJSON_AddNumberToObject(object, "compute_major", info.compute_major);
        (void)cJSON_AddNumberToObject(object, "compute_minor", info.compute_minor);
        (void)cJSON_AddNumberToObject(object, "total_bytes", (double)info.total_bytes);
        cli_json_add_text(object, "pci_address", info.pci_address);
        (void)cJSON_AddItemToArray(array, object);
    }
    return CLI_DONE;
}

static cli_exit print_json(const findings *found)
{
    cJSON *document = cJSON_CreateObject();
    cli_json_add_text(document, "kiln", kiln_version_string());
    (void)cJSON_AddItemToObject(
        document, "chosen", found->has_chosen ? cli_json_text(found->name) : cJSON_CreateNull());
    cli_json_add_text(document, "reason", found->reason);
    if (add_backends(document) != CLI_DONE || add_libraries(document, found->report) != CLI_DONE ||
        add_devices(document, found->report) != CLI_DONE) {
        cJSON_Delete(document);
        return CLI_FAILED;
    }
    add_cache(document);
    return cli_json_print(document);
}

/* --- the command --- */

static kiln_status examine(findings *found)
{
    kiln_backend_info chosen = {.struct_size = sizeof chosen};
    KLN_RETURN_IF_ERROR(kiln_system_report_create(&found->report));
    found->has_chosen = kiln_backend_choose(NULL, &chosen) == KILN_OK;
    found->name = found->has_chosen ? chosen.name : "";
    (void)snprintf(found->reason, sizeof found->reason, "%s",
                   found->has_chosen ? chosen.reason : kiln_error_message());
    return KILN_OK;
}

static void finish(findings *found)
{
    kiln_system_report_destroy(found->report);
}

static cli_exit run(const cli_command *self, void *given, const char **operands)
{
    (void)self;
    (void)operands;
    const doctor_settings *settings = given;
    SCOPED(finish) findings found = {.report = NULL};
    cli_progress_begin("looking for libraries");
    const kiln_status status = examine(&found);
    cli_progress_end();
    CLI_FAIL_IF_ERROR(status);
    CLI_RETURN_UNLESS_DONE(settings->json ? print_json(&found) : print_text(&found));
    return found.has_chosen ? CLI_DONE : CLI_FAILED;
}

static const cli_option options[] = {
    {"json", 'j', NULL, CLI_FLAG, offsetof(doctor_settings, json), 0, 0, NULL,
     "Write JSON: chosen, reason, backends, libraries with the places searched, devices, cache."},
    {0},
};

static const cli_group groups[] = {{"Output", options, 0}, {0}};

static const cli_example examples[] = {
    {"kiln doctor", "what is installed and what is missing"},
    {"kiln doctor --json | jq .chosen", "the backend that would be used"},
    {0},
};

const cli_command cli_command_doctor = {
    .name = "doctor",
    .operands = "",
    .summary = "show what is installed and what would be used",
    .description =
        "Looks for every library that Kiln can use and shows where it looked, what was found "
        "there and what to do about missing ones; then the GPUs, which backend a model would "
        "run on and why, and where plans are kept.\n\nA library is found; absent, if it is "
        "nowhere; broken, if a file is there that cannot be opened or lacks something; refused, "
        "if Kiln does not know its version. The exit status is 0 if a backend can be used, else "
        "1.",
    .groups = groups,
    .examples = examples,
    CLI_SETTINGS(doctor_settings, .json = false),
    .run = run,
};
