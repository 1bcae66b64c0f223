/* SPDX-License-Identifier: Apache-2.0 */
#include "plan_feed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void feed_require(kiln_status status)
{
    if (status != KILN_OK) {
        (void)fprintf(stderr, "kiln: %s\n", kiln_error_message());
        exit(1);
    }
}

void *feed_allocate(size_t bytes)
{
    void *memory = malloc(bytes > 0 ? bytes : 1);
    if (memory == NULL) {
        (void)fprintf(stderr, "%zu bytes of memory are missing\n", bytes);
        exit(1);
    }
    return memory;
}

/* "x=Nx3x8" for the input of that name. */
static kiln_shape shape_of(const kiln_binding *binding, int64_t batch, char **shapes, size_t count)
{
    kiln_shape shape = binding->shape;
    for (size_t i = 0; i < count; i++) {
        const size_t length = strlen(binding->name);
        if (strncmp(shapes[i], binding->name, length) != 0 || shapes[i][length] != '=') {
            continue;
        }
        shape = (kiln_shape){.rank = 0};
        for (char *at = shapes[i] + length; *at != '\0' && shape.rank < KILN_MAX_RANK;) {
            at++;
            if (*at == 'N') {
                shape.dims[shape.rank++] = batch;
                at++;
            } else {
                shape.dims[shape.rank++] = strtoll(at, &at, 10);
            }
        }
    }
    return shape;
}

static void fill(kiln_tensor *tensor, size_t count)
{
    const bool is_real =
        tensor->desc.dtype == KILN_DTYPE_FLOAT32 || tensor->desc.dtype == KILN_DTYPE_FLOAT16;
    double *values = feed_allocate(count * sizeof *values);
    uint32_t state = 1;
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525U + 1013904223U;
        values[i] = is_real ? (double)(state >> 8) / (double)(1 << 24) : 1.0;
    }
    feed_require(kiln_tensor_write(tensor, 0, count, values));
    free(values);
}

/* A buffer of `location` bound in the place of `from`, with its contents where they matter. */
static void bind(feed *fed, feed_side *side, const kiln_tensor *from, bool is_input,
                 kiln_location location)
{
    int64_t elements = 0;
    size_t bytes = 0;
    feed_require(kiln_shape_elements(&from->desc.shape, &elements));
    feed_require(kiln_tensor_bytes(from->desc.dtype, &from->desc.shape, &bytes));
    feed_require(kiln_buffer_create(location, 0, bytes, &side->buffer));
    if (is_input) {
        feed_require(kiln_buffer_write(side->buffer, 0, (kiln_span){from->data, bytes}, NULL));
    }
    feed_require(
        kiln_buffer_tensor(side->buffer, 0, from->desc.dtype, &from->desc.shape, &side->tensor));
    side->elements = (size_t)elements;
    feed_require(kiln_context_bind(fed->context, side->name, &side->tensor));
}

static void set_inputs(feed *fed, kiln_engine *engine, int64_t batch, char **shapes, size_t count)
{
    for (size_t i = 0; i < fed->input_count; i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        kiln_tensor tensor;
        int64_t elements = 0;
        feed_require(kiln_engine_input(engine, i, &binding));
        const kiln_shape shape = shape_of(&binding, batch, shapes, count);
        fed->inputs[i].name = binding.name;
        feed_require(kiln_context_reshape(fed->context, binding.name, &shape));
        feed_require(kiln_context_tensor(fed->context, binding.name, &tensor));
        feed_require(kiln_shape_elements(&shape, &elements));
        fill(&tensor, (size_t)elements);
    }
}

void feed_open(feed *fed, kiln_engine *engine, kiln_location location, int64_t batch, char **shapes,
               size_t count)
{
    *fed = (feed){.input_count = kiln_engine_input_count(engine),
                  .output_count = kiln_engine_output_count(engine)};
    if (fed->input_count > FEED_MOST || fed->output_count > FEED_MOST) {
        (void)fprintf(stderr, "more than %d inputs or outputs\n", FEED_MOST);
        exit(1);
    }
    feed_require(kiln_context_create(engine, NULL, &fed->context));
    set_inputs(fed, engine, batch, shapes, count);
    /* The first run tells the outputs' shapes. */
    feed_require(kiln_context_run(fed->context));
    for (size_t i = 0; i < fed->output_count; i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        kiln_tensor tensor;
        feed_require(kiln_engine_output(engine, i, &binding));
        feed_require(kiln_context_tensor(fed->context, binding.name, &tensor));
        fed->outputs[i].name = binding.name;
        fed->outputs[i].tensor = tensor;
    }
    for (size_t i = 0; i < fed->output_count; i++) {
        const kiln_tensor from = fed->outputs[i].tensor;
        bind(fed, &fed->outputs[i], &from, false, location);
    }
    for (size_t i = 0; i < fed->input_count; i++) {
        kiln_tensor from;
        feed_require(kiln_context_tensor(fed->context, fed->inputs[i].name, &from));
        bind(fed, &fed->inputs[i], &from, true, location);
    }
    feed_require(kiln_context_run(fed->context));
}

void feed_close(feed *fed)
{
    kiln_context_destroy(fed->context);
    for (size_t i = 0; i < fed->input_count; i++) {
        kiln_buffer_destroy(fed->inputs[i].buffer);
    }
    for (size_t i = 0; i < fed->output_count; i++) {
        kiln_buffer_destroy(fed->outputs[i].buffer);
    }
}

static void to_raw(const feed_side *sides, size_t count, raw_tensor *to)
{
    for (size_t i = 0; i < count; i++) {
        const kiln_shape *shape = &sides[i].tensor.desc.shape;
        to[i] = (raw_tensor){.name = sides[i].name,
                             .rank = shape->rank,
                             .bytes = sides[i].tensor.bytes,
                             .data = sides[i].tensor.data};
        memcpy(to[i].dims, shape->dims, (size_t)shape->rank * sizeof to[i].dims[0]);
    }
}

void feed_raw(const feed *fed, raw_tensor *inputs, raw_tensor *outputs)
{
    to_raw(fed->inputs, fed->input_count, inputs);
    to_raw(fed->outputs, fed->output_count, outputs);
}
