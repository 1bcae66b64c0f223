/* SPDX-License-Identifier: Apache-2.0 */
#include "infer_rules.h"

static kln_dim directions(kln_rule *rule)
{
    const char *direction = kln_rule_string(rule, "direction", "forward");
    return KLN_DIM_OF_NUMBER(strcmp(direction, "bidirectional") == 0 ? 2 : 1);
}

static void rule_recurrent(kln_rule *rule)
{
    if (!kln_rule_need_rank(rule, 0, 3, 3)) {
        return;
    }
    const bool batch_first = kln_rule_int(rule, "layout", 0) != 0;
    const int64_t given = kln_rule_int(rule, "hidden_size", -1);
    const kln_dim hidden = given > 0 ? KLN_DIM_OF_NUMBER(given) : KLN_UNKNOWN_DIM;
    const kln_dim steps = kln_rule_dim(rule, 0, batch_first ? 1 : 0);
    const kln_dim batch = kln_rule_dim(rule, 0, batch_first ? 0 : 1);
    const kln_dim ways = directions(rule);
    kln_rule_give(rule, 0, batch_first ? batch : steps, batch_first ? steps : ways,
                  batch_first ? ways : batch, hidden);
    for (size_t o = 1; o < 3; o++) { /* the second is an LSTM's cell state */
        kln_rule_give(rule, o, batch_first ? batch : ways, batch_first ? ways : batch, hidden);
    }
}

static int64_t gates_of(const kln_rule *rule)
{
    const char *name = rule->node->op_type;
    return strcmp(name, "LSTM") == 0 ? 4 : strcmp(name, "GRU") == 0 ? 3 : 1;
}

static bool fit_states(kln_rule *rule, kln_dim ways, kln_dim batch, kln_dim hidden,
                       bool batch_first)
{
    static const size_t states[2] = {5, 6};
    for (size_t i = 0; i < 2; i++) {
        const size_t input = states[i];
        if (!kln_rule_ranked(rule, input)) {
            continue;
        }
        if (!kln_rule_need_rank(rule, input, 3, 3) ||
            !kln_fit_dim(rule, input, batch_first ? 1 : 0, ways, "the directions of a state") ||
            !kln_fit_dim(rule, input, batch_first ? 0 : 1, batch, "the batches of a state") ||
            !kln_fit_dim(rule, input, 2, hidden, "the hidden size and a state's")) {
            return false;
        }
    }
    return true;
}

static bool fit_recurrent(kln_rule *rule)
{
    kln_expressions *pool = &rule->state->pool;
    const bool batch_first = kln_rule_int(rule, "layout", 0) != 0;
    const int64_t given = kln_rule_int(rule, "hidden_size", -1);
    const kln_dim hidden = given > 0 ? KLN_DIM_OF_NUMBER(given) : kln_rule_dim(rule, 2, 2);
    const bool both = strcmp(kln_rule_string(rule, "direction", "forward"), "bidirectional") == 0;
    const kln_dim ways = KLN_DIM_OF_NUMBER(both ? 2 : 1);
    const kln_dim batch = kln_rule_dim(rule, 0, batch_first ? 0 : 1);
    const kln_dim gates = kln_dim_times(pool, hidden, gates_of(rule));
    if (!kln_fit_dim(rule, 1, 0, ways, "the directions and those of W") ||
        !kln_fit_dim(rule, 2, 0, ways, "the directions and those of R") ||
        !kln_fit_dim(rule, 1, 1, gates, "the gates' elements and those of W") ||
        !kln_fit_dim(rule, 2, 1, gates, "the gates' elements and those of R") ||
        !kln_fit_dim(rule, 2, 2, hidden, "the hidden size and that of R") ||
        !kln_fit_dim(rule, 3, 0, ways, "the directions and those of B") ||
        !kln_fit_dim(rule, 3, 1, kln_dim_times(pool, gates, 2), "the biases of all gates and B")) {
        return false;
    }
    if (kln_rule_ranked(rule, 4) &&
        (!kln_rule_need_rank(rule, 4, 1, 1) ||
         !kln_fit_dim(rule, 4, 0, batch, "the batches and the lengths"))) {
        return false;
    }
    return fit_states(rule, ways, batch, hidden, batch_first) &&
           kln_fit_dim(rule, 7, 0, ways, "the directions and those of P") &&
           kln_fit_dim(rule, 7, 1, kln_dim_times(pool, hidden, 3), "the peepholes and P");
}

const kln_op_rule kln_rules_recurrent[] = {
    OP("GRU", rule_recurrent, .form = "1: __i dgi dgh d_", .fit = fit_recurrent),
    OP("LSTM", rule_recurrent, .form = "1: __i dgi dgh d_ - - - d_", .fit = fit_recurrent),
    OP("RNN", rule_recurrent, .form = "1: __i dgi dgh d_", .fit = fit_recurrent),
    OP_MS("DynamicQuantizeLSTM", rule_recurrent), OP_END};
