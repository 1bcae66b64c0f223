/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli_list.h"

typedef struct cache_settings {
    const char *cache;
    double keep; /* MiB */
    bool remove;
} cache_settings;

/* "3 days ago" */
static void age_format(uint64_t seconds, char text[32])
{
    static const struct {
        uint64_t seconds;
        const char *name;
    } units[] = {{86400, "day"}, {3600, "hour"}, {60, "minute"}, {1, "second"}};
    const uint64_t now = (uint64_t)time(NULL);
    const uint64_t age = now > seconds ? now - seconds : 0;
    size_t unit = 0;
    while (unit + 1 < CLI_ARRAY_LENGTH(units) && age < 2 * units[unit].seconds) {
        unit++;
    }
    const unsigned long long count = age / units[unit].seconds;
    (void)snprintf(text, 32, "%llu %s%s ago", count, units[unit].name, CLI_S(count));
}

static void add_row(cli_table *table, const kiln_cache_entry *entry)
{
    char age[32];
    age_format(entry->used_seconds, age);
    cli_table_printf(table, "%.8s", entry->key);
    CLI_TABLE_ADD(table, entry->kind[0] != '\0' ? entry->kind : "-",
                  entry->source[0] != '\0' ? entry->source : "-");
    cli_table_printf(table, "%s %s", entry->backend, entry->version);
    cli_table_add(table, entry->gpu);
    cli_table_printf(table, "%.1f", (double)entry->bytes / CLI_MIB);
    cli_table_add(table, age);
}

static cli_exit print_folder(const cache_settings *settings)
{
    char folder[4096];
    size_t length = 0;
    CLI_FAIL_IF_ERROR(kiln_cache_folder(settings->cache, folder, sizeof folder, &length));
    (void)printf("%s\n", folder);
    return CLI_DONE;
}

/* Prints what is wrong with the entry and, if requested, removes it. */
static cli_exit judge(const cache_settings *settings, const kiln_cache_entry *entry)
{
    if (entry->problem == NULL) {
        return CLI_DONE;
    }
    (void)fflush(stdout);
    cli_error("%.8s: %s", entry->key, entry->problem);
    if (settings->remove && kiln_cache_remove(settings->cache, entry->key) != KILN_OK) {
        (void)cli_fail();
    }
    return CLI_FAILED;
}

static cli_exit list(const cache_settings *settings, bool verify)
{
    static const char *const headings[] = {"key", "what", "model", "built with",
                                           "GPU", "MiB",  "used"};
    CLI_OWNED(cache_list) entries = NULL;
    cli_table table;
    uint64_t bytes = 0;
    cli_exit result = print_folder(settings);
    CLI_RETURN_UNLESS_DONE(result);
    CLI_FAIL_IF_ERROR(kiln_cache_list_create(settings->cache, verify, &entries));
    const size_t count = kiln_cache_list_count(entries);
    cli_table_init(&table, "lllllrr", headings);
    for (size_t i = 0; i < count; i++) {
        kiln_cache_entry entry = {.struct_size = sizeof entry};
        if (kiln_cache_list_get(entries, i, &entry) == KILN_OK) {
            add_row(&table, &entry);
            bytes += entry.bytes;
        }
    }
    (void)printf("%zu entr%s, %.1f MiB\n", count, count == 1 ? "y" : "ies",
                 (double)bytes / CLI_MIB);
    if (count > 0) {
        (void)printf("\n");
        cli_table_print(&table, 0);
    } else {
        cli_table_finish(&table);
    }
    for (size_t i = 0; i < count; i++) {
        kiln_cache_entry entry = {.struct_size = sizeof entry};
        if (kiln_cache_list_get(entries, i, &entry) == KILN_OK &&
            judge(settings, &entry) != CLI_DONE) {
            result = verify ? CLI_FAILED : CLI_DONE;
        }
    }
    return result;
}

static cli_exit clear(const cache_settings *settings)
{
    uint64_t freed = 0;
    CLI_RETURN_UNLESS_DONE(print_folder(settings));
    CLI_FAIL_IF_ERROR(
        kiln_cache_clear(settings->cache, (uint64_t)(settings->keep * CLI_MIB), &freed));
    (void)printf("%.1f MiB removed\n", (double)freed / CLI_MIB);
    return CLI_DONE;
}

static cli_exit run(const cli_command *self, void *given, const char **operands)
{
    static const char *const actions[] = {"list", "clear", "verify"};
    const cache_settings *settings = given;
    size_t action = 0;
    while (action < CLI_ARRAY_LENGTH(actions) && strcmp(operands[0], actions[action]) != 0) {
        action++;
    }
    if (action == CLI_ARRAY_LENGTH(actions)) {
        const char *closest = cli_closest(operands[0], actions, CLI_ARRAY_LENGTH(actions));
        return cli_misuse(self, "there is no action \"%.80s\"; it is list, clear or verify%s%s%s",
                          operands[0], closest != NULL ? "; did you mean " : "",
                          closest != NULL ? closest : "", closest != NULL ? "?" : "");
    }
    if (settings->keep > 0 && action != 1) {
        return cli_misuse(self, "--keep goes with clear, as in kiln cache clear --keep 1024");
    }
    if (settings->remove && action != 2) {
        return cli_misuse(self, "--remove goes with verify, as in kiln cache verify --remove");
    }
    return action == 1 ? clear(settings) : list(settings, action == 2);
}

static const cli_option options[] = {
    {"cache", 0, "DIR", CLI_TEXT, offsetof(cache_settings, cache), 0, 0, NULL,
     "The folder. Default: kiln in XDG_CACHE_HOME, or in ~/.cache."},
    {"keep", 0, "MIB", CLI_REAL, offsetof(cache_settings, keep), 0, 1e9, NULL,
     "With clear: keep this much of the most recently used. Default 0."},
    {"remove", 0, NULL, CLI_FLAG, offsetof(cache_settings, remove), 0, 0, NULL,
     "With verify: remove damaged plans, as the next build would."},
    {0},
};

static const cli_group groups[] = {
    {"Cache", options, 0},
    {0},
};

static const cli_example examples[] = {
    {"kiln cache list", "the plans, the most recently used first"},
    {"kiln cache verify", "whether the bytes are those that were written"},
    {"kiln cache clear --keep 1024", "all but the most recently used GiB"},
    {0},
};

const cli_command cli_command_cache = {
    .name = "cache",
    .operands = "ACTION",
    .summary = "list, clear or verify the cached plans",
    .description =
        "ACTION is list, clear or verify. The plans that TensorRT builds for \"kiln run\" and "
        "the other commands that open a model are kept in a folder. The next run of the same "
        "model with the same options, version and GPU loads the plan from there. A plan whose "
        "bytes do not match its manifest is never loaded, but built again.",
    .groups = groups,
    .examples = examples,
    CLI_SETTINGS(cache_settings, .cache = "default"),
    .run = run,
};
