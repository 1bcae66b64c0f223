/* SPDX-License-Identifier: Apache-2.0 */
/* The mock backend, which a test implements. */
#ifndef KLN_MOCK_H
#define KLN_MOCK_H

#include "seam/kln_seam.h"

typedef struct kln_mock kln_mock;

/* An engine of kln_backend_mock; the options were read and checked but for their bindings. */
KILN_MUST_CHECK kiln_status kln_mock_create(const kiln_mock_options *options, kln_mock **mock);

#endif
