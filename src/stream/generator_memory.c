/* SPDX-License-Identifier: Apache-2.0 */
#include "stream_parts.h"

KLN_SCOPED_POINTER(kiln_buffer, kiln_buffer_destroy)

kiln_status generator_grow(kiln_generator *self, kiln_buffer **buffer, kiln_location location,
                           size_t bytes)
{
    if (bytes <= kiln_buffer_bytes(*buffer)) {
        return KILN_OK;
    }
    KLN_SCOPED(kiln_buffer_destroy_at) kiln_buffer *grown = NULL;
    KLN_RETURN_IF_ERROR(kiln_buffer_create(location, self->model.device, bytes, &grown));
    KLN_RETURN_IF_ERROR(kiln_buffer_fill(grown, 0, NULL));
    if (self->stream != NULL) { /* the old one may still be in use */
        KLN_RETURN_IF_ERROR(kiln_stream_synchronize(self->stream));
    }
    kiln_buffer_destroy(*buffer);
    for (size_t i = 0; i < self->model.step_count; i++) {
        self->model.steps[i].bound.rows = 0; /* it may be bound */
    }
    *buffer = KLN_TAKE(grown);
    return KILN_OK;
}

void generator_release(kiln_generator *self)
{
    if (atomic_fetch_sub(&self->references, 1) == 1) {
        (void)pthread_mutex_destroy(&self->lock);
        (void)pthread_cond_destroy(&self->work);
        (void)pthread_cond_destroy(&self->news);
        kln_free(self);
    }
}
