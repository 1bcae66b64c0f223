/* SPDX-License-Identifier: Apache-2.0 */
/* The list of built-in backends, and the choice among them. */
#ifndef KLN_BACKENDS_H
#define KLN_BACKENDS_H

#include "seam/kln_seam.h"

/* One line for each of Kiln's own backends, roughly the best first: its table is
 * kln_backend_<name>, in its folder. */
#define KLN_BACKENDS(ROW) \
    ROW(tensorrt)         \
    ROW(onnxruntime)      \
    ROW(reference)        \
    ROW(mock)

#define KLN_BACKEND_DECLARE(name) extern const kiln_backend kln_backend_##name;
KLN_BACKENDS(KLN_BACKEND_DECLARE)
#undef KLN_BACKEND_DECLARE

/* Backend `index`: the built-in ones in that order, then the registered ones; NULL past the end.
 * Any thread. */
const kiln_backend *kln_backend_at(size_t index);

/* The backend and its probe for `name` (NULL, "" and "auto": the best; see kiln_backend_choose). */
KILN_MUST_CHECK kiln_status kln_backend_select(const char *name, const char *library,
                                               const kiln_backend **backend,
                                               kiln_backend_info *info);

/* The backend in whose own format `bytes` are, with their description in `*what`; NULL if none
 * recognizes them. */
const kiln_backend *kln_backend_of(kiln_span bytes, const char **what);

/* kln_backend_select among the backends of `list`, which is NULL-terminated. */
KILN_MUST_CHECK kiln_status kln_backend_select_from(const kiln_backend *const *list,
                                                    const char *name, const char *library,
                                                    const kiln_backend **backend,
                                                    kiln_backend_info *info);

#endif
