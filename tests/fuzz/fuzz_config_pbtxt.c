/* SPDX-License-Identifier: Apache-2.0 */
/* A model's configuration in protobuf's text format: what is refused says where, and what is taken
 * can be read to its last byte. */
#include "config_pbtxt.h"
#include "fuzz_parts.h"

static volatile size_t seen; /* so that all is read */

static size_t read_tensors(const model_config_tensor *tensors, size_t count)
{
    size_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += strlen(tensors[i].name) + strlen(model_config_type_name(tensors[i].data_type));
        for (size_t d = 0; d < tensors[i].dim_count; d++) {
            sum += (size_t)tensors[i].dims[d];
        }
    }
    return sum;
}

static volatile size_t seen; /* so that all is read */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    model_config config;
    char error[PBTXT_ERROR_SIZE] = "";
    const bool taken = model_config_read((const char *)data, size, &config, error);
    size_t sum = 0;
    FAULT_IF(!taken && strncmp(error, "line ", 5) != 0);
    for (size_t i = 0; i < config.memory.warning_count; i++) {
        sum += strlen(config.memory.warnings[i]);
    }
    if (taken) {
        sum += read_tensors(config.inputs, config.input_count);
        sum += read_tensors(config.outputs, config.output_count);
        for (size_t i = 0; i < config.parameter_count; i++) {
            const char *key = config.parameters[i].key;
            FAULT_IF(key != NULL && model_config_parameter_of(&config, key) == NULL);
        }
    }
    seen = sum;
    model_config_finish(&config);
    return 0;
}
