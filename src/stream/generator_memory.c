/* SPDX-License-Identifier: Apache-2.0 */
#include "stream_parts.h"

kiln_status generator_check_process(const kiln_generator *self, const char *function)
{
    return self->forks == kln_forks()
               ? KILN_OK
               : kln_fail(KILN_ERROR_STATE,
                          "%s: the generator was made before this process was forked; make one "
                          "here",
                          function);
}

kiln_status generator_grow(kiln_generator *self, kiln_buffer **buffer, kiln_location location,
                           size_t bytes)
{
    if (bytes <= kiln_buffer_bytes(*buffer)) {
        return KILN_OK;
    }
    kiln_buffer *grown = NULL;
    KLN_RETURN_IF_ERROR(kiln_buffer_create(location, self->model.device, bytes, &grown));
    kiln_status status = kiln_buffer_fill(grown, 0, NULL);
    if (status == KILN_OK && self->stream != NULL) {
        status = kiln_stream_synchronize(self->stream); /* the old one may be in use */
    }
    if (status != KILN_OK) {
        kiln_buffer_destroy(grown);
        return status;
    }
    kiln_buffer_destroy(*buffer);
    *buffer = grown;
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
