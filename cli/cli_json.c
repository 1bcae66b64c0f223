/* SPDX-License-Identifier: Apache-2.0 */
#include <cJSON.h>
#include <stdio.h>

#include "cli.h"

cJSON *cli_json_text(const char *text)
{
    CLI_TEXT_SCOPED clean = {NULL, 0, 0};
    cli_text_append(&clean, "", 0);
    while (*text != '\0') {
        const size_t length = cli_utf8_length(text);
        if (length > 0) {
            cli_text_append(&clean, text, length);
        } else {
            cli_text_append(&clean, "\xef\xbf\xbd", 3);
        }
        text += length > 0 ? length : 1;
    }
    return cJSON_CreateString(clean.data);
}

void cli_json_add_text(cJSON *object, const char *key, const char *text)
{
    (void)cJSON_AddItemToObject(object, key, cli_json_text(text));
}

cJSON *cli_json_shape(const kiln_shape *shape)
{
    if (shape->rank < 0) {
        return cJSON_CreateNull();
    }
    cJSON *dims = cJSON_CreateArray();
    for (int32_t i = 0; i < shape->rank; i++) {
        cJSON *dim = shape->dims[i] == KILN_DYNAMIC ? cJSON_CreateNull()
                                                    : cJSON_CreateNumber((double)shape->dims[i]);
        (void)cJSON_AddItemToArray(dims, dim);
    }
    return dims;
}

cJSON *cli_json_backend(const kiln_backend_info *info)
{
    cJSON *backend = cJSON_CreateObject();
    cli_json_add_text(backend, "name", info->name);
    cli_json_add_text(backend, "version", info->version);
    cli_json_add_text(backend, "library", info->library);
    return backend;
}

cli_exit cli_json_print(cJSON *document)
{
    char *text = cJSON_Print(document);
    cJSON_Delete(document);
    if (text == NULL) {
        cli_error("memory is exhausted");
        return CLI_FAILED;
    }
    (void)puts(text);
    cJSON_free(text);
    return CLI_DONE;
}
