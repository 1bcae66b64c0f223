/*
 * check.h - finding out what is wrong with a model before it is built.
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
 * The types and shapes of all tensors are inferred on the way, so that a check finds what would
 * otherwise come up in the middle of a build or a run. A model that the checker of the onnx package
 * accepts has no errors here.
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
    const char *backend; /* report operators that this backend cannot run, where it can tell; NULL:
                            none in particular. It need not be installed */
    const kiln_profile *profiles; /* ranges that the network shall be able to take, or NULL */
    size_t profile_count;
} kiln_check_options;

#define KILN_CHECK_OPTIONS(...) KILN_INIT_OF_(kiln_check_options, __VA_ARGS__)
#define KILN_CHECK_OPTIONS_INIT KILN_INIT_(kiln_check_options)

/* All problems of the ONNX model at `path`; none makes an empty list. `options` may be NULL. The
 * list is the caller's: kiln_issue_list_destroy. A model with problems is KILN_OK, one whose
 * external files of weights are missing too; errors are for what cannot be read at all:
 * NULL_ARGUMENT, INVALID_ARGUMENT (options), NAME (no such backend); NOT_FOUND, NOT_A_FILE, EMPTY,
 * IO; MALFORMED with the message, field and byte; LIMIT; OUT_OF_MEMORY. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_check_file(const char *path,
                                                     const kiln_check_options *options,
                                                     kiln_issue_list **issues);

/* The same for a model in memory, needed during the call only. `folder` holds its external weights;
 * NULL: their sizes are not checked. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_check_bytes(kiln_span model, const char *folder,
                                                      const kiln_check_options *options,
                                                      kiln_issue_list **issues);

/* The same for a network, as it stands; a build of the network does it too. STATE for a branch.
 * Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_validate(const kiln_network *network,
                                                           const kiln_check_options *options,
                                                           kiln_issue_list **issues);

#ifdef __cplusplus
}
#endif

#endif
