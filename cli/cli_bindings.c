/* SPDX-License-Identifier: Apache-2.0 */
#include "cli_bindings.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Reads "A" or "A:B" after the last '=' of `text`; the name before it is copied to `*name`. Returns
 * the number of values, or 0 if the form is different. */
static int read_numbers(const char *text, char **name, double numbers[2])
{
    const char *equals = strrchr(text, '=');
    const int count = equals == NULL || equals == text ? 0 : cli_numbers_read(equals + 1, numbers);
    *name = count > 0 ? strndup(text, (size_t)(equals - text)) : NULL;
    return *name == NULL ? 0 : count;
}

/* The item with that name, which takes ownership of `name`, or a new one. */
static kiln_binding_quantization *item_of(cli_bindings *b, char *name)
{
    for (size_t i = 0; i < b->count; i++) {
        if (strcmp(b->items[i].name, name) == 0) {
            free(name);
            return &b->items[i];
        }
    }
    b->names[b->count] = name;
    b->items[b->count] = (kiln_binding_quantization){.name = name};
    return &b->items[b->count++];
}

static cli_exit read_scale(const cli_command *command, cli_bindings *b, size_t index)
{
    const char *text = b->scales.items[index];
    char *name = NULL;
    double numbers[2] = {0, 0};
    if (read_numbers(text, &name, numbers) == 0 || !(numbers[0] > 0) ||
        !isfinite((float)numbers[0]) || rint(numbers[1]) != numbers[1] ||
        fabs(numbers[1]) > 65535) {
        free(name);
        return cli_misuse(command,
                          "--scale \"%.200s\": NAME=SCALE or NAME=SCALE:ZERO is needed, with a "
                          "scale above 0 and a whole number as zero point",
                          text);
    }
    kiln_quantization *how = &item_of(b, name)->quantization;
    b->numbers[index] = (float)numbers[0];
    b->zeros[index] = (int32_t)numbers[1];
    how->axis = -1;
    how->count = 1;
    how->scales = &b->numbers[index];
    how->zero_points = &b->zeros[index];
    return CLI_DONE;
}

static cli_exit read_stored(const cli_command *command, cli_bindings *b, size_t index)
{
    const char *text = b->stored.items[index];
    const char *equals = strrchr(text, '=');
    const kiln_dtype type =
        equals != NULL ? kiln_dtype_from_name(equals + 1) : KILN_DTYPE_UNDEFINED;
    char *name =
        strndup(text, equals != NULL && type != KILN_DTYPE_UNDEFINED ? (size_t)(equals - text)
                                                                     : strlen(text));
    if (name == NULL || name[0] == '\0') {
        free(name);
        return cli_misuse(command, "--stored \"%.200s\": NAME or NAME=TYPE is needed", text);
    }
    kiln_binding_quantization *item = item_of(b, name);
    item->stored = true;
    item->quantization.storage = type;
    return CLI_DONE;
}

cli_exit cli_bindings_read(const cli_command *command, cli_bindings *b)
{
    const size_t most = b->scales.count + b->stored.count;
    cli_exit result = CLI_DONE;
    b->items = cli_grow(NULL, (most + 1) * sizeof *b->items);
    b->rounded = cli_grow(NULL, (most + 1) * sizeof *b->rounded);
    b->names = cli_grow(NULL, (most + 1) * sizeof *b->names);
    b->numbers = cli_grow(NULL, (most + 1) * sizeof *b->numbers);
    b->zeros = cli_grow(NULL, (most + 1) * sizeof *b->zeros);
    for (size_t i = 0; result == CLI_DONE && i < b->ranges.count; i++) {
        SCOPED_HEAP char *name = NULL;
        double bounds[2];
        if (read_numbers(b->ranges.items[i], &name, bounds) != 2 || !(bounds[0] < bounds[1])) {
            result =
                cli_misuse(command, "--range \"%.200s\": NAME=LOW:HIGH is needed, the lower first",
                           b->ranges.items[i]);
        }
    }
    for (size_t i = 0; result == CLI_DONE && i < b->scales.count; i++) {
        result = read_scale(command, b, i);
    }
    for (size_t i = 0; result == CLI_DONE && i < b->stored.count; i++) {
        result = read_stored(command, b, i);
    }
    for (size_t i = 0; i < b->count; i++) {
        b->rounded[i] = b->items[i];
        b->rounded[i].stored = false;
    }
    return result;
}

kiln_status cli_bindings_set_ranges(const cli_bindings *b, kiln_range_table **table)
{
    if (b->ranges.count != 0 && *table == NULL) {
        KLN_RETURN_IF_ERROR(kiln_range_table_create(table));
    }
    for (size_t i = 0; i < b->ranges.count; i++) {
        SCOPED_HEAP char *name = NULL;
        double bounds[2] = {0, 0};
        KLN_RETURN_IF_ERROR(read_numbers(b->ranges.items[i], &name, bounds) == 2
                                ? kiln_range_table_set(*table, name, bounds[0], bounds[1])
                                : KILN_ERROR_OUT_OF_MEMORY);
    }
    return KILN_OK;
}

void cli_bindings_finish(cli_bindings *b)
{
    for (size_t i = 0; i < b->count; i++) {
        free(b->names[i]);
    }
    free(b->names);
    free(b->items);
    free(b->rounded);
    free(b->numbers);
    free(b->zeros);
}
