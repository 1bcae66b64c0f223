/*
 * issues.h - lists of the problems of a network.
 *
 * Validation does not stop at the first problem. It checks the whole network and reports every
 * problem, with the node, the tensor, what was expected and what was found.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_ISSUES_H
#define KILN_ISSUES_H

#include <stddef.h>

#include <kiln/export.h>
#include <kiln/status.h>
#include <kiln/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kiln_severity {
    KILN_SEVERITY_WARNING = 1, /* the network can run, but something in it is odd or useless */
    KILN_SEVERITY_ERROR = 2    /* the network cannot be built */
} kiln_severity;

/* Every kind of issue: name, value, name as text. The values are ABI: new ones are appended. */
#define KILN_ISSUE_LIST(X)                                                                         \
    X(KILN_ISSUE_NO_OUTPUTS, 1, "no-outputs")         /* the network has no output */              \
    X(KILN_ISSUE_MISSING_OUTPUT, 2, "missing-output") /* an output that nothing computes */        \
    X(KILN_ISSUE_DUPLICATE_NAME, 3, "duplicate-name") /* two tensors or inputs of one name */      \
    X(KILN_ISSUE_UNKNOWN_NAME, 4, "unknown-name")     /* a node reads what is not there */         \
    X(KILN_ISSUE_ORDER, 5, "order")                   /* a node stands before its producer */      \
    X(KILN_ISSUE_CYCLE, 6, "cycle")                   /* nodes that wait for each other */         \
    X(KILN_ISSUE_DTYPE, 7, "dtype")                   /* a data type does not fit */               \
    X(KILN_ISSUE_RANK, 8, "rank")                     /* a number of dimensions */                 \
    X(KILN_ISSUE_SHAPE, 9, "shape")                   /* a dimension */                            \
    X(KILN_ISSUE_ARITY, 10, "arity")                  /* too few or many inputs or outputs */      \
    X(KILN_ISSUE_ATTRIBUTE, 11, "attribute")          /* missing, unknown, or of wrong type */     \
    X(KILN_ISSUE_VALUE, 12, "value")                  /* an attribute's or constant's value */     \
    X(KILN_ISSUE_UNKNOWN_OPERATOR, 13, "unknown-operator") /* not in this operator set */          \
    X(KILN_ISSUE_UNSUPPORTED, 14, "unsupported")           /* the chosen backend lacks it */       \
    X(KILN_ISSUE_OPSET, 15, "opset")                       /* operator sets missing or unknown */  \
    X(KILN_ISSUE_WEIGHTS, 16, "weights")                   /* an initializer of the wrong size */  \
    X(KILN_ISSUE_PROFILE, 17, "profile")                   /* a range that cannot be satisfied */  \
    X(KILN_ISSUE_QUANTIZATION, 18, "quantization")         /* scales that do not fit the tensor */ \
    X(KILN_ISSUE_UNUSED, 19, "unused")                     /* computed or given, but never read */ \
    X(KILN_ISSUE_MODEL, 20, "model")                       /* the model's own header */            \
    X(KILN_ISSUE_NAME, 21, "name")                         /* a name that is empty or malformed */

typedef enum kiln_issue_kind {
#define KILN_ISSUE_ENUM_(name, value, text) name = value,
    KILN_ISSUE_LIST(KILN_ISSUE_ENUM_)
#undef KILN_ISSUE_ENUM_
} kiln_issue_kind;

/* The name as text, such as "shape"; "?" for a value that is not in the list. Static storage. Any
 * thread. Since 0.1. */
KILN_API const char *kiln_issue_kind_name(kiln_issue_kind kind);

/* One problem. Strings are owned by its list; "" if there is nothing to say. */
typedef struct kiln_issue {
    kiln_severity severity;
    kiln_issue_kind kind;
    const char *node;     /* name of the node, or "#12 Conv" if it has none */
    const char *tensor;   /* the tensor, input, output or attribute concerned */
    const char *expected; /* "float32", "[?,3,?,?]", "1 to 3 inputs" */
    const char *found;
    const char *sentence; /* the whole issue as a sentence */
} kiln_issue;

/* Issues in the order of the network, errors before warnings. Immutable; several threads may read
 * it at once. Since 0.1. */
typedef struct kiln_issue_list kiln_issue_list;

/* The number of issues; 0 for NULL. Since 0.1. */
KILN_API size_t kiln_issue_list_count(const kiln_issue_list *list);

/* The number of errors among them; 0 for NULL. Since 0.1. */
KILN_API size_t kiln_issue_list_errors(const kiln_issue_list *list);

/* Issue `index`, from 0; NULL past the end. Valid as long as the list. Since 0.1. */
KILN_API const kiln_issue *kiln_issue_list_get(const kiln_issue_list *list, size_t index);

/* Destroys the list. NULL is allowed. Since 0.1. */
KILN_API void kiln_issue_list_destroy(kiln_issue_list *list);

#ifdef __cplusplus
}
#endif

#endif
