/* SPDX-License-Identifier: Apache-2.0 */
/* Functions of one 16-bit number, as tables of the results for all of them. */
#include "ref_ops.h"

#define EVERY 65536
#define WORTH_TABLE 1024 /* elements; for fewer the function is computed, */
#define MOST_TABLES 32   /* and also once there are 4 MiB of tables */

struct ref_table {
    ref_table *next;
    ref_row_function function;
    ref_parameters parameters;
    kiln_dtype dtype;
    uint16_t values[EVERY];
};

void ref_tables_finish(ref_context *context)
{
    while (context->tables != NULL) {
        ref_table *table = context->tables;
        context->tables = table->next;
        kln_free(table);
    }
}

static void compute(ref_row_function function, const ref_parameters *p, const ref_tensor *x,
                    ref_tensor *y)
{
    double chunk[REF_CHUNK];
    for (int64_t i = 0; i < x->count; i += REF_CHUNK) {
        const int64_t n = x->count - i < REF_CHUNK ? x->count - i : REF_CHUNK;
        ref_load_float(x, i, 1, n, chunk);
        function(p, n, chunk, chunk);
        ref_store_float(y, i, 1, n, chunk);
    }
}

static kiln_status make_table(ref_context *context, ref_row_function function,
                              const ref_parameters *p, kiln_dtype dtype)
{
    ref_table *table = NULL;
    KLN_NEW(table, 1, "the table of a function");
    table->next = context->tables; /* one by one: together they might be built on the stack */
    table->function = function;
    table->parameters = *p;
    table->dtype = dtype;
    for (int64_t i = 0; i < EVERY; i++) {
        table->values[i] = (uint16_t)i;
    }
    ref_tensor values = {.dtype = dtype, .count = EVERY, .data = table->values};
    compute(function, p, &values, &values);
    context->tables = table;
    return KILN_OK;
}

static const uint16_t *find_table(const ref_context *context, ref_row_function function,
                                  const ref_parameters *p, kiln_dtype dtype, int *count)
{
    const ref_table *table = context->tables;
    while (table != NULL && (table->function != function || table->dtype != dtype ||
                             memcmp(&table->parameters, p, sizeof *p) != 0)) {
        table = table->next;
        ++*count;
    }
    return table != NULL ? table->values : NULL;
}

kiln_status ref_apply(ref_context *context, ref_row_function function, const ref_parameters *p,
                      const ref_tensor *x, ref_tensor *y)
{
    const bool is_short = x->dtype == KILN_DTYPE_FLOAT16 || x->dtype == KILN_DTYPE_BFLOAT16;
    int count = 0;
    const uint16_t *values = is_short ? find_table(context, function, p, x->dtype, &count) : NULL;
    if (is_short && values == NULL && x->count >= WORTH_TABLE && count < MOST_TABLES) {
        KLN_RETURN_IF_ERROR(make_table(context, function, p, x->dtype));
        values = context->tables->values;
    }
    if (values == NULL) {
        compute(function, p, x, y);
        return KILN_OK;
    }
    for (int64_t i = 0; i < x->count; i++) {
        ((uint16_t *)y->data)[i] = values[((const uint16_t *)x->data)[i]];
    }
    return KILN_OK;
}
