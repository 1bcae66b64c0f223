/* SPDX-License-Identifier: Apache-2.0 */
/* Real models on the reference backend and on ONNX Runtime, which must agree.
 *
 *     model_test FOLDER
 *
 * Prints, for each output, how far apart they are; a model that is not there is passed over, but
 * one must be. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kiln/kiln.h>

/* ONNX Runtime computes in float32, and its sigmoid is good to some 1e-7 however small it is: an
 * absolute part, and one of the greatest value of an output. */
#define ABSOLUTE 1e-6
#define RELATIVE 1e-5

#define ANY ((double)NAN)

typedef struct feed {
    const char *name;
    kiln_dtype dtype;
    kiln_shape shape;
    double fixed; /* the value of each element, or ANY: numbers from a generator */
} feed;

typedef struct model {
    const char *path;
    feed feeds[3];
    size_t count;
} model;

#define SHAPE2(a, b) \
    {                \
        2,           \
        {            \
            a, b     \
        }            \
    }
#define SHAPE3(a, b, c) \
    {                   \
        3,              \
        {               \
            a, b, c     \
        }               \
    }
#define SHAPE4(a, b, c, d) \
    {                      \
        4,                 \
        {                  \
            a, b, c, d     \
        }                  \
    }

static const model models[] = {
    {"magika/model.onnx", {{"bytes", KILN_DTYPE_INT32, SHAPE2(1, 2048), ANY}}, 1},
    {"rapidocr/cls.onnx", {{"x", KILN_DTYPE_FLOAT32, SHAPE4(1, 3, 48, 192), ANY}}, 1},
    {"rapidocr/det.onnx", {{"x", KILN_DTYPE_FLOAT32, SHAPE4(1, 3, 320, 320), ANY}}, 1},
    {"rapidocr/rec.onnx", {{"x", KILN_DTYPE_FLOAT32, SHAPE4(1, 3, 48, 160), ANY}}, 1},
    {"silero-vad/silero_vad.onnx",
     {{"input", KILN_DTYPE_FLOAT32, SHAPE2(1, 576), ANY},
      {"state", KILN_DTYPE_FLOAT32, SHAPE3(2, 1, 128), 0.0},
      {"sr", KILN_DTYPE_INT64, {0, {0}}, 16000.0}},
     3},
    {"silero-vad/silero_vad.onnx",
     {{"input", KILN_DTYPE_FLOAT32, SHAPE2(1, 288), ANY},
      {"state", KILN_DTYPE_FLOAT32, SHAPE3(2, 1, 128), 0.25},
      {"sr", KILN_DTYPE_INT64, {0, {0}}, 8000.0}},
     3},
    {"silero-vad/silero_vad_op18_ifless.onnx",
     {{"input", KILN_DTYPE_FLOAT32, SHAPE2(1, 576), ANY},
      {"state", KILN_DTYPE_FLOAT32, SHAPE3(2, 1, 128), 0.0},
      {"sr", KILN_DTYPE_INT64, {0, {0}}, 16000.0}},
     3},
    {"silero-vad/silero_vad_half.onnx",
     {{"input", KILN_DTYPE_FLOAT32, SHAPE2(1, 576), ANY},
      {"state", KILN_DTYPE_FLOAT32, SHAPE3(2, 1, 128), 0.0}},
     2},
    {"silero-vad/silero_vad_16k_sequence.onnx",
     {{"input", KILN_DTYPE_FLOAT32, SHAPE2(4, 576), ANY},
      {"h", KILN_DTYPE_FLOAT32, SHAPE3(1, 1, 128), 0.0},
      {"c", KILN_DTYPE_FLOAT32, SHAPE3(1, 1, 128), 0.0}},
     3},
};

typedef struct session {
    kiln_engine *engine;
    kiln_context *context;
    void *memory[3];
} session;

static uint32_t random_state;

static double next_number(void)
{
    random_state = random_state * UINT32_C(1664525) + UINT32_C(1013904223);
    return (double)(random_state >> 8) / 16777216.0;
}

static void fill(const feed *f, int64_t count, void *data)
{
    for (int64_t i = 0; i < count; i++) {
        const double r = next_number();
        if (f->dtype == KILN_DTYPE_FLOAT32) {
            ((float *)data)[i] = (float)(isnan(f->fixed) ? 2.0 * r - 1.0 : f->fixed);
        } else if (f->dtype == KILN_DTYPE_INT64) {
            ((int64_t *)data)[i] = (int64_t)(isnan(f->fixed) ? r * 256.0 : f->fixed);
        } else {
            ((int32_t *)data)[i] = (int32_t)(isnan(f->fixed) ? r * 256.0 : f->fixed);
        }
    }
}

static bool open_session(const char *backend, const char *path, const model *m, session *s)
{
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = backend);
    random_state = 7;
    if (kiln_engine_build_file(path, &options, &s->engine) != KILN_OK ||
        kiln_context_create(s->engine, NULL, &s->context) != KILN_OK) {
        return false;
    }
    for (size_t i = 0; i < m->count; i++) {
        const feed *f = &m->feeds[i];
        int64_t count = 0;
        kiln_tensor tensor = {.desc = {.dtype = f->dtype, .shape = f->shape}};
        if (kiln_shape_elements(&f->shape, &count) != KILN_OK ||
            kiln_tensor_bytes(f->dtype, &f->shape, &tensor.bytes) != KILN_OK) {
            return false;
        }
        tensor.data = s->memory[i] = malloc(tensor.bytes);
        if (tensor.data == NULL) {
            return false;
        }
        fill(f, count, tensor.data);
        if (kiln_context_bind(s->context, f->name, &tensor) != KILN_OK) {
            return false;
        }
    }
    return kiln_context_run(s->context) == KILN_OK;
}

static void close_session(session *s)
{
    kiln_context_destroy(s->context);
    kiln_engine_release(s->engine);
    for (size_t i = 0; i < 3; i++) {
        free(s->memory[i]);
    }
}

static bool compare(const char *path, const char *name, const kiln_tensor *a, const kiln_tensor *b)
{
    int64_t count = 0;
    double apart = 0.0;
    double greatest = 0.0;
    if (a->desc.dtype != KILN_DTYPE_FLOAT32 || b->desc.dtype != KILN_DTYPE_FLOAT32 ||
        !kiln_shape_equal(&a->desc.shape, &b->desc.shape) ||
        kiln_shape_elements(&a->desc.shape, &count) != KILN_OK) {
        (void)printf("%s: %s has another type or shape\n", path, name);
        return false;
    }
    for (int64_t i = 0; i < count; i++) {
        const double x = (double)((const float *)a->data)[i];
        const double y = (double)((const float *)b->data)[i];
        apart = fabs(x - y) > apart || isnan(x - y) ? fabs(x - y) : apart;
        greatest = fmax(greatest, fabs(x));
    }
    (void)printf("%s: %s is %g apart, the greatest value is %g\n", path, name, apart, greatest);
    return greatest > 0.0 && apart <= ABSOLUTE + RELATIVE * greatest;
}

static bool run_model(const char *path, const model *m)
{
    session ours = {0};
    session theirs = {0};
    bool good =
        open_session("reference", path, m, &ours) && open_session("onnxruntime", path, m, &theirs);
    if (!good) {
        (void)printf("%s: %s\n", path, kiln_error_message());
    }
    for (size_t i = 0; good && i < kiln_engine_output_count(ours.engine); i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        kiln_tensor a;
        kiln_tensor b;
        good = kiln_engine_output(ours.engine, i, &binding) == KILN_OK &&
               kiln_context_tensor(ours.context, binding.name, &a) == KILN_OK &&
               kiln_context_tensor(theirs.context, binding.name, &b) == KILN_OK &&
               compare(path, binding.name, &a, &b);
    }
    close_session(&ours);
    close_session(&theirs);
    return good;
}

int main(int argc, char **argv)
{
    int good = 0;
    int bad = 0;
    for (size_t i = 0; argc == 2 && i < sizeof models / sizeof models[0]; i++) {
        char path[4096];
        (void)snprintf(path, sizeof path, "%s/%s", argv[1], models[i].path);
        FILE *file = fopen(path, "rb");
        if (file == NULL) {
            continue;
        }
        (void)fclose(file);
        if (run_model(path, &models[i])) {
            good++;
        } else {
            bad++;
        }
    }
    (void)printf("%d models agree, %d do not\n", good, bad);
    return good > 0 && bad == 0 ? 0 : 1;
}
