/* SPDX-License-Identifier: Apache-2.0 */
#include "infer_rule.h"

#include <stdio.h>

/* --- inputs --- */

const kln_dim *kln_rule_contents(kln_rule *rule, size_t input, size_t *count)
{
    *count = 0;
    if (input >= rule->in_count || rule->in[input] == NULL) {
        return NULL;
    }
    return kln_value_contents(rule->state->inference, rule->in[input], count);
}

const int64_t *kln_rule_numbers(kln_rule *rule, size_t input, size_t *count)
{
    const kln_dim *contents = kln_rule_contents(rule, input, count);
    if (contents == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < *count; i++) {
        if (contents[i].kind != KLN_DIM_NUMBER) {
            return NULL;
        }
    }
    int64_t *numbers = kln_rule_alloc(rule, *count, sizeof *numbers);
    for (size_t i = 0; numbers != NULL && i < *count; i++) {
        numbers[i] = contents[i].of.number;
    }
    return numbers;
}

kln_dim kln_rule_scalar(kln_rule *rule, size_t input)
{
    size_t count = 0;
    const kln_dim *contents = kln_rule_contents(rule, input, &count);
    return contents != NULL && count == 1 ? contents[0] : KLN_UNKNOWN_DIM;
}

bool kln_rule_single(kln_rule *rule, size_t input, int64_t *number)
{
    size_t count = 0;
    const kln_dim *contents = kln_rule_contents(rule, input, &count);
    if (contents == NULL || count != 1 || contents[0].kind != KLN_DIM_NUMBER ||
        (rule->in[input]->initializer != NULL && !rule->in[input]->is_constant)) {
        return false;
    }
    *number = contents[0].of.number;
    return true;
}

/* --- attributes --- */

const kln_onnx_attribute *kln_rule_attribute(const kln_rule *rule, const char *name)
{
    const kln_onnx_attribute *attribute = kln_onnx_find_attribute(rule->node, name);
    const kln_scope *scope = rule->scope;
    /* Inside a function, an attribute may refer to one of the call, or to its default. */
    while (attribute != NULL && attribute->reference != NULL && attribute->reference[0] != '\0') {
        if (scope == NULL || scope->function == NULL) {
            return NULL;
        }
        const kln_onnx_attribute *given =
            kln_onnx_find_attribute(scope->call, attribute->reference);
        for (size_t i = 0; given == NULL && i < scope->function->attribute_count; i++) {
            if (strcmp(scope->function->attributes[i].name, attribute->reference) == 0) {
                given = &scope->function->attributes[i];
            }
        }
        attribute = given;
        scope = scope->parent;
    }
    return attribute;
}

int64_t kln_rule_int(const kln_rule *rule, const char *name, int64_t otherwise)
{
    const kln_onnx_attribute *attribute = kln_rule_attribute(rule, name);
    return attribute != NULL && attribute->type == KLN_ONNX_ATTRIBUTE_INT ? attribute->i
                                                                          : otherwise;
}

const char *kln_rule_string(const kln_rule *rule, const char *name, const char *otherwise)
{
    const kln_onnx_attribute *attribute = kln_rule_attribute(rule, name);
    if (attribute == NULL || attribute->type != KLN_ONNX_ATTRIBUTE_STRING ||
        attribute->s.data == NULL) {
        return otherwise;
    }
    /* The bytes are in the file, without a terminating NUL. */
    const char *text = kln_arena_strndup(rule->state->arena, attribute->s.data, attribute->s.size);
    kln_state_check(rule->state, text != NULL);
    return text != NULL ? text : otherwise;
}

const int64_t *kln_rule_ints(const kln_rule *rule, const char *name, size_t *count)
{
    static const int64_t none[1] = {0};
    const kln_onnx_attribute *attribute = kln_rule_attribute(rule, name);
    *count = 0;
    if (attribute == NULL || attribute->type != KLN_ONNX_ATTRIBUTE_INTS) {
        return NULL;
    }
    *count = attribute->count;
    return attribute->ints != NULL ? attribute->ints : none;
}

const int64_t *kln_rule_ints_or_input(kln_rule *rule, const char *name, size_t input, size_t *count,
                                      bool *known)
{
    const int64_t *ints = kln_rule_ints(rule, name, count);
    *known = true;
    if (ints == NULL && kln_rule_has(rule, input)) {
        ints = kln_rule_numbers(rule, input, count);
        *known = ints != NULL;
    }
    return ints;
}

const kln_dim *kln_rule_ints_as_contents(kln_rule *rule, const char *name, size_t *count)
{
    const int64_t *ints = kln_rule_ints(rule, name, count);
    kln_dim *dims = ints != NULL ? kln_rule_alloc(rule, *count, sizeof *dims) : NULL;
    for (size_t i = 0; dims != NULL && i < *count; i++) {
        dims[i] = KLN_DIM_OF_NUMBER(ints[i]);
    }
    return dims;
}

bool kln_rule_axis(kln_rule *rule, int64_t axis, size_t rank, size_t *out)
{
    const int64_t wide = (int64_t)rank;
    if (axis < -wide || axis >= wide) {
        const char *expected = KLN_PRINTED("%lld to %lld", (long long)-wide, (long long)wide - 1);
        const char *found = KLN_PRINTED("%lld", (long long)axis);
        kln_rule_fault(rule, KILN_ISSUE_VALUE, "axis", expected, found,
                       "axis %s is outside %s, the dimensions there are", found, expected);
        return false;
    }
    *out = (size_t)(axis < 0 ? axis + wide : axis);
    return true;
}

/* --- outputs --- */

void kln_rule_set_dtype(kln_rule *rule, size_t output, int32_t wire_dtype)
{
    if (kln_rule_wants(rule, output)) {
        rule->out[output].kind = KLN_ONNX_KIND_TENSOR;
        rule->out[output].wire_dtype = wire_dtype;
    }
}

void *kln_rule_alloc(kln_rule *rule, size_t count, size_t size)
{
    if (count > KLN_RANK_MOST) {
        /* Prevents a long list that many nodes refer to from being copied that often. */
        if (count > rule->state->contents_left) {
            return NULL;
        }
        rule->state->contents_left -= count;
    }
    void *memory = kln_arena_alloc_zeroed(rule->state->arena, count, size);
    kln_state_check(rule->state, memory != NULL);
    return memory;
}

kln_dim *kln_rule_new_shape(kln_rule *rule, size_t output, size_t rank)
{
    if (!kln_rule_wants(rule, output) || rank > KLN_RANK_MOST) {
        return NULL;
    }
    kln_dim *dims = kln_rule_alloc(rule, rank, sizeof *dims);
    if (dims != NULL) {
        kln_value *value = &rule->out[output];
        if (value->kind == KLN_ONNX_KIND_NONE) {
            value->kind = KLN_ONNX_KIND_TENSOR;
        }
        value->has_shape = true;
        value->rank = rank;
        value->dims = dims;
    }
    return dims;
}

kln_dim *kln_rule_shape_like(kln_rule *rule, size_t output, size_t rank)
{
    kln_dim *dims = kln_rule_new_shape(rule, output, rank);
    for (size_t i = 0; dims != NULL && i < rank; i++) {
        dims[i] = kln_rule_dim(rule, 0, i);
    }
    return dims;
}

void kln_rule_put_shape(kln_rule *rule, size_t output, const kln_dim *dims, size_t rank)
{
    kln_dim *shape = kln_rule_new_shape(rule, output, rank);
    if (shape != NULL) {
        memcpy(shape, dims, rank * sizeof *dims);
    }
}

void kln_rule_same_shape(kln_rule *rule, size_t input, size_t output)
{
    if (kln_rule_ranked(rule, input) && kln_rule_wants(rule, output)) {
        kln_value *value = &rule->out[output];
        if (value->kind == KLN_ONNX_KIND_NONE) {
            value->kind = KLN_ONNX_KIND_TENSOR;
        }
        kln_value_copy_shape(value, rule->in[input]);
    }
}

void kln_rule_same_type(kln_rule *rule, size_t input, size_t output)
{
    if (kln_rule_wants(rule, output) && input < rule->in_count && rule->in[input] != NULL) {
        kln_value_copy_type(&rule->out[output], rule->in[input], false);
    }
}

void kln_rule_shape_of(kln_rule *rule, size_t output, const kln_dim *dims, size_t rank)
{
    kln_dim *shape = kln_rule_new_shape(rule, output, rank);
    for (size_t i = 0; shape != NULL && i < rank; i++) {
        const bool usable = dims[i].kind == KLN_DIM_EXPRESSION ||
                            (dims[i].kind == KLN_DIM_NUMBER && dims[i].of.number >= 0);
        shape[i] = usable ? dims[i] : KLN_UNKNOWN_DIM;
    }
}

kln_dim *kln_rule_fill(kln_rule *rule, size_t output, size_t count)
{
    kln_infer_state *state = rule->state;
    if (!kln_rule_wants(rule, output) || count > state->options.content_limit ||
        count > state->contents_left) {
        return NULL;
    }
    kln_dim *contents = kln_rule_alloc(rule, count, sizeof *contents);
    if (contents != NULL) {
        state->contents_left -= count;
        rule->out[output].contents = contents;
        rule->out[output].content_count = count;
    }
    return contents;
}

bool kln_rule_elements(const kln_rule *rule, size_t output, size_t *count)
{
    const kln_value *value = &rule->out[output];
    int64_t product = 1;
    if (output >= rule->out_count || !value->has_shape) {
        return false;
    }
    for (size_t i = 0; i < value->rank; i++) {
        if (value->dims[i].kind != KLN_DIM_NUMBER ||
            __builtin_mul_overflow(product, value->dims[i].of.number, &product)) {
            return false;
        }
    }
    *count = (size_t)product;
    return product >= 0;
}

/* --- dimensions --- */

kln_dim kln_rule_unify(kln_rule *rule, kln_dim a, kln_dim b, const char *what)
{
    if (a.kind == KLN_DIM_NUMBER && b.kind == KLN_DIM_NUMBER && a.of.number != b.of.number) {
        const char *expected = KLN_DIM_PRINTED(a);
        const char *found = KLN_DIM_PRINTED(b);
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, "", expected, found,
                       "%s must be the same: %s and %s were found", what, expected, found);
        return a;
    }
    return a.kind == KLN_DIM_NUMBER || b.kind == KLN_DIM_UNKNOWN   ? a
           : b.kind == KLN_DIM_NUMBER || a.kind == KLN_DIM_UNKNOWN ? b
                                                                   : a;
}

kln_dim kln_rule_broadcast_dim(kln_rule *rule, kln_dim a, kln_dim b)
{
    if (kln_rule_is(a, 1)) {
        return b;
    }
    const bool numbers = a.kind == KLN_DIM_NUMBER && b.kind == KLN_DIM_NUMBER;
    if (kln_rule_is(b, 1) || (numbers ? a.of.number == b.of.number : kln_dim_equal(a, b))) {
        return a;
    }
    if (a.kind == KLN_DIM_NUMBER && b.kind == KLN_DIM_NUMBER) {
        return kln_rule_unify(rule, a, b, "dimensions that broadcast");
    }
    /* A number above 1 takes precedence over a name: the other dimension has to be the same, or
     * 1. */
    if (a.kind == KLN_DIM_NUMBER) {
        return a;
    }
    return b.kind == KLN_DIM_NUMBER ? b : KLN_UNKNOWN_DIM;
}

/* Whether inputs [first, last], whose ranks are known, have the same shape, which is then the
 * result's. */
static bool are_alike(const kln_rule *rule, size_t first, size_t last)
{
    const kln_value *one = rule->in[first];
    bool alike = true;
    for (size_t i = first + 1; i <= last && alike; i++) {
        const kln_value *other = rule->in[i];
        alike = other->rank == one->rank;
        for (size_t d = 0; alike && other != one && d < one->rank; d++) {
            alike = one->dims[d].kind == KLN_DIM_NUMBER && other->dims[d].kind == KLN_DIM_NUMBER &&
                    one->dims[d].of.number == other->dims[d].of.number;
        }
    }
    return alike;
}

void kln_rule_broadcast(kln_rule *rule, size_t output, size_t first, size_t last)
{
    size_t rank = 0;
    for (size_t i = first; i <= last; i++) {
        if (!kln_rule_ranked(rule, i)) {
            return;
        }
        rank = kln_rule_rank(rule, i) > rank ? kln_rule_rank(rule, i) : rank;
    }
    if (are_alike(rule, first, last)) {
        kln_value_copy_shape(&rule->out[output], rule->in[first]);
        return;
    }
    kln_dim *dims = kln_rule_new_shape(rule, output, rank);
    for (size_t axis = 0; dims != NULL && axis < rank; axis++) {
        dims[axis] = KLN_DIM_OF_NUMBER(1);
    }
    for (size_t i = first; dims != NULL && i <= last; i++) {
        const kln_value *value = rule->in[i];
        kln_dim *end = dims + (rank - value->rank);
        for (size_t axis = 0; axis < value->rank; axis++) {
            const kln_dim *dim = &value->dims[axis];
            if (kln_rule_is(end[axis], 1)) {
                end[axis] = *dim;
            } else if (!kln_rule_is(*dim, 1)) {
                end[axis] = kln_rule_broadcast_dim(rule, end[axis], *dim);
            }
        }
    }
}

kln_dim kln_rule_product(kln_rule *rule, const kln_dim *dims, size_t first, size_t last)
{
    kln_dim product = KLN_DIM_OF_NUMBER(1);
    for (size_t i = first; i < last; i++) {
        product = kln_dim_multiply(&rule->state->pool, product, dims[i]);
    }
    return product;
}

bool kln_rule_need_rank(kln_rule *rule, size_t input, size_t least, size_t most)
{
    if (!kln_rule_ranked(rule, input)) {
        return true;
    }
    const size_t rank = kln_rule_rank(rule, input);
    if (rank >= least && rank <= most) {
        return true;
    }
    char expected[64];
    kln_range_text(expected, sizeof expected, least, most, "dimension");
    const char *found = KLN_PRINTED("%zu", rank);
    kln_rule_fault(rule, KILN_ISSUE_RANK, rule->node->inputs[input], expected, found,
                   "input \"%s\" must have %s, but has %s", rule->node->inputs[input], expected,
                   found);
    return false;
}

void kln_rule_with(kln_rule *rule, const size_t *inputs, size_t count, kln_rule_function other)
{
    kln_onnx_node node = *rule->node;
    kln_rule of = *rule;
    node.inputs = kln_rule_alloc(rule, count, sizeof *node.inputs);
    of.in = kln_rule_alloc(rule, count, sizeof(void *));
    of.node = &node;
    of.in_count = node.input_count = count;
    if (node.inputs == NULL || of.in == NULL) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (inputs[i] >= rule->in_count) {
            return;
        }
        node.inputs[i] = rule->node->inputs[inputs[i]];
        of.in[i] = rule->in[inputs[i]];
    }
    other(&of);
}

/* --- the state --- */

void kln_state_check(kln_infer_state *state, bool enough)
{
    if (!enough && state->status == KILN_OK) {
        state->status = kln_fail_memory(0, "what is known of a network");
    }
}

void kln_state_status(kln_infer_state *state, kiln_status status)
{
    if (status != KILN_OK && state->status == KILN_OK) {
        state->status = status;
    }
}

/* Files an issue: wrong shapes in a branch that does not run are not faults. */
static void keep(kln_infer_state *state, const kiln_issue *issue)
{
    const bool of_shapes = issue->kind == KILN_ISSUE_SHAPE || issue->kind == KILN_ISSUE_RANK ||
                           issue->kind == KILN_ISSUE_VALUE;
    const bool harmless = issue->severity == KILN_SEVERITY_WARNING; /* not kept as a doubt */
    if (!of_shapes || state->branch == KLN_BRANCH_RUNS ||
        (harmless && state->branch == KLN_BRANCH_MAY_RUN)) {
        kln_state_status(state, kln_issues_add(state->inference->issues, issue));
    } else if (state->branch == KLN_BRANCH_MAY_RUN) {
        kln_state_status(state, kln_issues_add(state->inference->doubts, issue));
    }
}

void kln_state_issue(kln_infer_state *state, kiln_severity severity, kiln_issue_kind kind,
                     const char *node, const char *tensor, const char *expected, const char *found,
                     const char *format, ...)
{
    char sentence[KLN_ISSUE_TEXT];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    const kiln_issue issue = {severity, kind, node, tensor, expected, found, sentence};
    keep(state, &issue);
}

/* --- faults --- */

void kln_rule_tell(kln_rule *rule, kiln_severity severity, kiln_issue_kind kind, const char *tensor,
                   const char *expected, const char *found, const char *format, ...)
{
    char words[384];
    char sentence[KLN_ISSUE_TEXT];
    const char *label = KLN_NODE_LABEL(rule->node, rule->index);
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    (void)snprintf(sentence, sizeof sentence, "node \"%.120s\" (%.60s): %.300s", label,
                   rule->node->op_type, words);
    const kiln_issue issue = {severity, kind, label, tensor, expected, found, sentence};
    keep(rule->state, &issue);
}

/* The first later version of the operator in which the parameter takes tensors of that type, or
 * NULL. */
static const kln_operator *taken_later(const kln_rule *rule, bool is_output, size_t index,
                                       int32_t type)
{
    const kln_operator *row = rule->resolved->schema->row;
    while ((row = kln_operator_next(row)) != NULL) {
        KLN_SCOPED(kln_arena_finish) kln_arena arena = {0};
        const kln_schema *schema = kln_schema_parse(row, &arena);
        const kln_schema_parameter *parameter = schema == NULL ? NULL
                                                : is_output    ? kln_schema_output(schema, index)
                                                               : kln_schema_input(schema, index);
        if (parameter != NULL && kln_type_is_among(parameter->types.tensor, type)) {
            break;
        }
    }
    return row;
}

void kln_rule_wrong_type(kln_rule *rule, bool is_output, size_t index, int32_t type,
                         const char *tensor, const char *subject, const char *found)
{
    char expected[256];
    const kln_schema *schema = rule->resolved->schema;
    const kln_operator *later = taken_later(rule, is_output, index, type);
    kln_type_set_format(
        &(is_output ? kln_schema_output(schema, index) : kln_schema_input(schema, index))->types,
        expected, sizeof expected);
    kln_rule_fault(rule, later != NULL ? KILN_ISSUE_OPSET : KILN_ISSUE_DTYPE, tensor, expected,
                   found, "%.90s is %.60s; allowed are %.120s%s", subject, found, expected,
                   later != NULL ? KLN_PRINTED(", and this from version %d on", later->since) : "");
}
