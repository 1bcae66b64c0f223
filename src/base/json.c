/* SPDX-License-Identifier: Apache-2.0 */
#include <cJSON.h>

#include "kln_base.h"

/* cJSON only reports that it failed; this distinguishes malformed text from a lack of memory. */
static _Thread_local bool out_of_memory;

static void *allocate(size_t size)
{
    void *memory = kln_alloc(size);
    out_of_memory = out_of_memory || memory == NULL;
    return memory;
}

static pthread_once_t hooked = PTHREAD_ONCE_INIT;

static void set_hooks(void)
{
    cJSON_Hooks hooks = {.malloc_fn = allocate, .free_fn = kln_free};
    cJSON_InitHooks(&hooks);
}

void kln_json_begin(void)
{
    (void)pthread_once(&hooked, set_hooks);
}

kiln_status kln_json_parse(kiln_span text, size_t limit, const char *what, const char *advice,
                           cJSON **root)
{
    kln_json_begin();
    *root = NULL;
    KLN_RETURN_IF(text.size > limit, KILN_ERROR_LIMIT,
                  "%s of %zu bytes was refused, %zu are allowed", what, text.size, limit);
    const char *end = NULL;
    out_of_memory = false;
    *root = cJSON_ParseWithLengthOpts(text.data, text.size, &end, false);
    KLN_FAIL_IF(*root == NULL && out_of_memory, kln_fail_memory(text.size, what));
    KLN_RETURN_IF(*root == NULL, KILN_ERROR_MALFORMED, "no JSON from byte %td on%s",
                  end != NULL ? end - (const char *)text.data : 0, advice);
    return KILN_OK;
}
