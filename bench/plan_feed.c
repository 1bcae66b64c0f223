/* SPDX-License-Identifier: Apache-2.0 */
#include "plan_feed.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_times.h"

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

static void fill(const kiln_tensor *tensor, const char *name)
{
    static const double reals[] = {0, 1};
    static const double ones[] = {1, 1};
    const bool is_real =
        tensor->desc.dtype == KILN_DTYPE_FLOAT32 || tensor->desc.dtype == KILN_DTYPE_FLOAT16;
    bench_require(kiln_tensor_fill(tensor, name, 1, is_real ? reals : ones));
}

/* A buffer of `location` bound in the place of `from`, with its contents where they matter. */
static void bind(feed *fed, feed_side *side, const kiln_tensor *from, bool is_input,
                 kiln_location location)
{
    int64_t elements = 0;
    size_t bytes = 0;
    bench_require(kiln_shape_elements(&from->desc.shape, &elements));
    bench_require(kiln_tensor_bytes(from->desc.dtype, &from->desc.shape, &bytes));
    bench_require(kiln_buffer_create(location, 0, bytes, &side->buffer));
    if (is_input) {
        bench_require(kiln_buffer_write(side->buffer, 0, (kiln_span){from->data, bytes}, NULL));
    }
    bench_require(
        kiln_buffer_tensor(side->buffer, 0, from->desc.dtype, &from->desc.shape, &side->tensor));
    side->elements = (size_t)elements;
    bench_require(kiln_context_bind(fed->context, side->name, &side->tensor));
}

static void set_inputs(feed *fed, kiln_engine *engine, int64_t batch, char **shapes, size_t count)
{
    for (size_t i = 0; i < fed->input_count; i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        kiln_tensor tensor;
        bench_require(kiln_engine_input(engine, i, &binding));
        const kiln_shape shape = shape_of(&binding, batch, shapes, count);
        fed->inputs[i].name = binding.name;
        bench_require(kiln_context_reshape(fed->context, binding.name, &shape));
        bench_require(kiln_context_tensor(fed->context, binding.name, &tensor));
        fill(&tensor, binding.name);
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
    bench_require(kiln_context_create(engine, NULL, &fed->context));
    set_inputs(fed, engine, batch, shapes, count);
    /* The first run tells the outputs' shapes. */
    bench_require(kiln_context_run(fed->context));
    for (size_t i = 0; i < fed->output_count; i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        kiln_tensor tensor;
        bench_require(kiln_engine_output(engine, i, &binding));
        bench_require(kiln_context_tensor(fed->context, binding.name, &tensor));
        fed->outputs[i].name = binding.name;
        fed->outputs[i].tensor = tensor;
    }
    for (size_t i = 0; i < fed->output_count; i++) {
        const kiln_tensor from = fed->outputs[i].tensor;
        bind(fed, &fed->outputs[i], &from, false, location);
    }
    for (size_t i = 0; i < fed->input_count; i++) {
        kiln_tensor from;
        bench_require(kiln_context_tensor(fed->context, fed->inputs[i].name, &from));
        bind(fed, &fed->inputs[i], &from, true, location);
    }
    bench_require(kiln_context_run(fed->context));
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

static unsigned type_of(kiln_dtype dtype)
{
    return dtype == KILN_DTYPE_INT64     ? RAW_INT64
           : dtype == KILN_DTYPE_INT32   ? RAW_INT32
           : dtype == KILN_DTYPE_FLOAT16 ? RAW_FLOAT16
                                         : RAW_FLOAT32;
}

static void to_raw(const feed_side *sides, size_t count, raw_tensor *to)
{
    for (size_t i = 0; i < count; i++) {
        const kiln_shape *shape = &sides[i].tensor.desc.shape;
        to[i] = (raw_tensor){.name = sides[i].name,
                             .type = type_of(sides[i].tensor.desc.dtype),
                             .rank = (size_t)shape->rank,
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

void feed_run(void *fed)
{
    bench_require(kiln_context_run(((const feed *)fed)->context));
}

static void show_form(void *user, kiln_log_level level, const char *component, const char *message)
{
    (void)user;
    (void)level;
    if (strcmp(component, "engine") == 0) {
        (void)fprintf(stderr, "    %s\n", message);
    }
}

uint64_t feed_warm_up(const feed *fed, const char *what)
{
    kiln_context_counters counters = {.struct_size = sizeof counters};
    kiln_log_set_sink(show_form, NULL, KILN_LOG_DEBUG);
    const uint64_t begin = bench_now();
    bench_require(kiln_context_warmup(fed->context, 20, 0, NULL));
    kiln_log_set_sink(NULL, NULL, KILN_LOG_OFF);
    bench_require(kiln_context_get_counters(fed->context, &counters));
    (void)fprintf(stderr, "  %s: warm after %.0f ms%s%s\n", what,
                  (double)(bench_now() - begin) / 1e6, counters.graphs == 0 ? ", no graph: " : "",
                  counters.graph_reason);
    return counters.graphs;
}

double feed_difference(const feed *fed, size_t index, const void *direct)
{
    double most = 0;
    double scale = 1e-30;
    const size_t count = fed->outputs[index].elements;
    double *own = bench_allocate(2 * count * sizeof *own);
    double *other = own + count;
    kiln_tensor tensor = fed->outputs[index].tensor;
    bench_require(kiln_tensor_read(&tensor, 0, count, own));
    tensor.data = (void *)(uintptr_t)direct;
    tensor.desc.location = KILN_LOCATION_HOST;
    bench_require(kiln_tensor_read(&tensor, 0, count, other));
    for (size_t i = 0; i < count; i++) {
        const double off = fabs(own[i] - other[i]);
        most = off > most || isnan(off) ? off : most;
        scale = fabs(other[i]) > scale ? fabs(other[i]) : scale;
    }
    free(own);
    return most / scale;
}

size_t feed_batches(char *text, int64_t *batches)
{
    size_t count = 0;
    for (char *at = text; *at != '\0' && count < FEED_BATCHES; at += *at == ',') {
        batches[count++] = strtoll(at, &at, 10);
    }
    return count;
}
