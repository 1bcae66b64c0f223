/*
 * check.h - checking a model before it is built.
 *
 *     kiln_issue_list *issues = NULL;
 *     if (kiln_check_file("model.onnx", NULL, &issues) == KILN_OK) {
 *         for (size_t i = 0; i < kiln_issue_list_count(issues); i++) {
 *             printf("%s\n", kiln_issue_list_get(issues, i)->sentence);
 *         }
 *     }
 *     kiln_issue_list_destroy(issues);
 *
 * A build that fails because of the model gives the same list: kiln_build_options.issues.
 *
 * A check infers the types and shapes of all tensors, and so finds problems that would otherwise
 * appear in the middle of a build or a run. A model that the checker of the onnx package accepts
 * has no errors here.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_CHECK_H
#define KILN_CHECK_H

#include <kiln/engine.h>
#include <kiln/export.h>
#include <kiln/issues.h>
#include <kiln/network.h>
#include <kiln/status.h>
#include <kiln/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kiln_check_options {
    size_t struct_size;  /* set by KILN_CHECK_OPTIONS_INIT */
    const char *backend; /* also report operators that this backend cannot run, as far as can be
                            told; NULL: none. The backend need not be installed */
    const kiln_profile *profiles; /* ranges of shapes that the network must support, or NULL */
    size_t profile_count;
} kiln_check_options;

#define KILN_CHECK_OPTIONS(...) KILN_INIT_OF_(kiln_check_options, __VA_ARGS__)
#define KILN_CHECK_OPTIONS_INIT KILN_INIT_(kiln_check_options)

/* Gives all problems of the ONNX model at `path`; the list is empty if there are none. `options`
 * may be NULL. The caller destroys the list with kiln_issue_list_destroy.
 *
 * A model with problems is KILN_OK, also if its external weight files are missing. Errors are for
 * models that cannot be read at all: NULL_ARGUMENT, INVALID_ARGUMENT (options), NAME (no such
 * backend); NOT_FOUND, NOT_A_FILE, EMPTY, IO; MALFORMED with the message, field and byte; LIMIT;
 * OUT_OF_MEMORY. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_check_file(const char *path,
                                                     const kiln_check_options *options,
                                                     kiln_issue_list **issues);

/* Like kiln_check_file, for a model in memory, which is needed during the call only. `folder` holds
 * its external weights; NULL: their sizes are not checked. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_check_bytes(kiln_span model, const char *folder,
                                                      const kiln_check_options *options,
                                                      kiln_issue_list **issues);

/* Like kiln_check_file, for a network in its present state. A build of the network makes the same
 * check. Errors: STATE for a branch. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_validate(const kiln_network *network,
                                                           const kiln_check_options *options,
                                                           kiln_issue_list **issues);

#ifdef __cplusplus
}
#endif

#endif
