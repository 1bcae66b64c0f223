/* SPDX-License-Identifier: Apache-2.0 */
#include "kln_ops.h"
#include "kln_schema.h"

/* A version that differs from the one before it in its types alone. */
#define NEXT(domain_, name_, since_, types_)                               \
    {                                                                      \
        .domain = domain_, .name = name_, .since = since_, .types = types_ \
    }

/* In the order of domain, name and version, by bytes. */
static const kln_operator rows[] = {
#include "op_rows_a_c.inc"
#include "op_rows_d_h.inc"
#include "op_rows_i_p.inc"
#include "op_rows_q_r.inc"
#include "op_rows_s_z.inc"
/* Behind it by its domain. */
#include "op_rows_microsoft.inc"
};

static int compare(const char *domain, const char *name, const kln_operator *row)
{
    const int order = strcmp(domain, row->domain);
    return order != 0 ? order : strcmp(name, row->name);
}

/* The first row past every version of `name` up to `opset`. */
static size_t upper_bound(const char *domain, const char *name, int64_t opset)
{
    size_t low = 0;
    size_t high = KLN_ARRAY_LENGTH(rows);
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = compare(domain, name, &rows[middle]);
        if (order > 0 || (order == 0 && rows[middle].since <= opset)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

const kln_operator *kln_operator_find(const char *domain, const char *name, int64_t opset)
{
    domain = kln_onnx_plain_domain(domain);
    const size_t place = upper_bound(domain, name, opset);
    return place > 0 && compare(domain, name, &rows[place - 1]) == 0 ? &rows[place - 1] : NULL;
}

const kln_operator *kln_operator_form(const kln_operator *row)
{
    while (row->inputs == NULL) {
        row--;
    }
    return row;
}

const kln_operator *kln_operator_next(const kln_operator *row)
{
    const kln_operator *next = row + 1;
    return next < rows + KLN_ARRAY_LENGTH(rows) && compare(row->domain, row->name, next) == 0
               ? next
               : NULL;
}

bool kln_operator_known(const char *domain, const char *name)
{
    return kln_operator_find(domain, name, INT64_MAX) != NULL;
}

int64_t kln_operator_newest(const char *domain)
{
    domain = kln_onnx_plain_domain(domain);
    int64_t newest = 0;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(rows) && strcmp(domain, "com.microsoft") != 0; i++) {
        if (strcmp(rows[i].domain, domain) == 0 && rows[i].since > newest) {
            newest = rows[i].since;
        }
    }
    return newest;
}
