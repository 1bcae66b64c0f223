/*
 * parity_run.c MODEL FOLDER... - runs a model through Kiln once for each folder, all in one
 * context: reads input_0.npy and so on, in the model's order, and writes kiln_0.npy and so on. Ends
 * with the sentence of what failed.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <stdlib.h>

#include <kiln/kiln.h>

static void require(kiln_status status)
{
    if (status != KILN_OK) {
        (void)fprintf(stderr, "%s: %s\n", kiln_status_name(status), kiln_error_message());
        exit(1);
    }
}

static const char *path_of(const char *folder, const char *what, size_t index)
{
    static char path[4096];
    (void)snprintf(path, sizeof path, "%s/%s_%zu.npy", folder, what, index);
    return path;
}

static void run(kiln_context *context, const kiln_engine *engine, const char *folder)
{
    const size_t input_count = kiln_engine_input_count(engine);
    kiln_binding binding = {.struct_size = sizeof binding};
    kiln_tensor *inputs = calloc(input_count + 1, sizeof *inputs);
    if (inputs == NULL) {
        exit(1);
    }
    for (size_t i = 0; i < input_count; i++) {
        require(kiln_engine_input(engine, i, &binding));
        require(kiln_tensor_load_npy(path_of(folder, "input", i), &inputs[i]));
        require(kiln_context_bind(context, binding.name, &inputs[i]));
    }
    require(kiln_context_run(context));
    for (size_t i = 0; i < kiln_engine_output_count(engine); i++) {
        kiln_tensor output;
        require(kiln_engine_output(engine, i, &binding));
        require(kiln_context_tensor(context, binding.name, &output));
        require(kiln_tensor_save_npy(&output, path_of(folder, "kiln", i)));
    }
    for (size_t i = 0; i < input_count; i++) {
        const kiln_tensor nothing = {.data = NULL};
        require(kiln_engine_input(engine, i, &binding));
        require(kiln_context_bind(context, binding.name, &nothing));
        kiln_tensor_free(&inputs[i]);
    }
    free(inputs);
}

int main(int count, char **arguments)
{
    if (count < 3) {
        (void)fprintf(stderr, "usage: %s MODEL FOLDER...\n", arguments[0]);
        return 2;
    }
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "onnxruntime", .threads = 1);
    kiln_engine *engine = NULL;
    kiln_context *context = NULL;
    require(kiln_engine_build_file(arguments[1], &options, &engine));
    require(kiln_context_create(engine, NULL, &context));
    for (int i = 2; i < count; i++) {
        run(context, engine, arguments[i]);
    }
    kiln_context_destroy(context);
    kiln_engine_release(engine);
    return 0;
}
