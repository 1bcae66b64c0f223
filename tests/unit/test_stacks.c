/* SPDX-License-Identifier: Apache-2.0 */
/* Threads with little stack: a graph within a graph within a graph must not end the process. */
#include <sys/mman.h>

#include "base/kln_base.h"
#include "graph_maker.h"
#include "kiln_test.h"
#include "onnx/kln_onnx.h"

#define LITTLE ((size_t)64 * 1024)

/* y = x where c, and so on `depth` times, one If within the other. */
static kiln_span nested(int depth)
{
    char text[8192] = "in c bool[]; in x float32[2]; ";
    size_t size = strlen(text);
    for (int i = depth; i > 0; i--) {
        size += (size_t)snprintf(text + size, sizeof text - size, "y%d=If(c) then_branch={", i);
    }
    size += (size_t)snprintf(text + size, sizeof text - size, "y0=Neg(x); out y0 float32[2]");
    for (int i = 1; i <= depth; i++) {
        size += (size_t)snprintf(text + size, sizeof text - size,
                                 "} else_branch={z%d=Abs(x); out z%d float32[2]}; ", i, i);
        size += (size_t)snprintf(text + size, sizeof text - size,
                                 i < depth ? "out y%d float32[2]" : "y=Identity(y%d)", i);
    }
    return made_model(17, "%s; out y float32[2]", text);
}

/* --- what a step takes of a stack --- */

typedef enum step { CHECK, READ, BUILD, RUN, SAVE, STEPS } step;
static const char *const step_names[STEPS] = {"check", "read", "build", "run", "save"};

typedef struct work {
    kiln_span model;
    step step;
    kiln_engine *engine; /* for RUN and SAVE */
    kiln_status status;
    char sentence[1024];
} work;

static kiln_status run(kiln_engine *engine)
{
    owned_context context = NULL;
    bool condition = true;
    float x[] = {1, -2};
    kiln_named_tensor inputs[] = {
        {"c", KILN_HOST_TENSOR(KILN_DTYPE_BOOL, KILN_SHAPE_SCALAR, &condition, 1)},
        {"x", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(2), x, sizeof x)}};
    kiln_named_tensor output = {"y", {.data = NULL}};
    kiln_status status = kiln_context_create(engine, NULL, &context);
    if (status == KILN_OK) {
        status = kiln_context_run_tensors(context, inputs, 2, &output, 1);
    }
    if (status == KILN_OK && ((const float *)output.tensor.data)[1] != 2) {
        status = KILN_ERROR_INTERNAL;
    }
    return status;
}

static kiln_status build(kiln_span model, kiln_engine **engine)
{
    kiln_build_options options = backend_options("reference");
    return kiln_engine_build_bytes(model, &options, engine);
}

static void *do_step(void *user)
{
    work *self = user;
    kiln_issue_list *issues = NULL;
    kiln_engine *engine = NULL;
    kiln_network *network = NULL;
    switch (self->step) {
        case CHECK:
            self->status = kiln_check_bytes(self->model, NULL, NULL, &issues);
            kiln_issue_list_destroy(issues);
            break;
        case READ:
            self->status = kiln_network_from_bytes(self->model, NULL, &network);
            kiln_network_destroy(network);
            break;
        case BUILD:
            self->status = build(self->model, &engine);
            kiln_engine_release(engine);
            break;
        case RUN: self->status = run(self->engine); break;
        default:
            self->status = kiln_engine_save(self->engine, kiln_test_path("nested.saved"));
            break;
    }
    (void)snprintf(self->sentence, sizeof self->sentence, "%s", kiln_error_message());
    return NULL;
}

/* Bytes of a stack of `size` that the step touched. */
static size_t on_a_stack(work *self, size_t size)
{
    pthread_attr_t attributes;
    pthread_t thread;
    unsigned char *stack =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(stack != MAP_FAILED);
    memset(stack, 0xa5, size);
    assert_int_equal(pthread_attr_init(&attributes), 0);
    assert_int_equal(pthread_attr_setstack(&attributes, stack, size), 0);
    assert_int_equal(pthread_create(&thread, &attributes, do_step, self), 0);
    (void)pthread_join(thread, NULL);
    (void)pthread_attr_destroy(&attributes);
    size_t untouched = 0;
    while (untouched < size && stack[untouched] == 0xa5) {
        untouched++;
    }
    (void)munmap(stack, size);
    return size - untouched;
}

static void do_at(int depth, size_t size, work *self)
{
    owned_engine engine = NULL;
    assert_ok(build(nested(depth), &engine));
    self->engine = engine;
    self->model = nested(depth);
    (void)on_a_stack(self, size);
}

/* The inference looks 48 graphs deep, the reader 64; a stack of 64 KiB has room for some 43. */
TEST(every_step_fits_into_64_kibibytes)
{
    static const int depths[] = {1, 10, 30, 40};
    for (step each = CHECK; each < STEPS; each++) {
        for (size_t i = 0; i < KLN_ARRAY_LENGTH(depths); i++) {
            work self = {.step = each};
            do_at(depths[i], LITTLE, &self);
            if (self.status != KILN_OK) {
                fail_msg("%s, %d deep: %s", step_names[each], depths[i], self.sentence);
            }
        }
    }
}

/* Where there is even less, the sentence says so, and the process goes on. */
TEST(what_does_not_fit_is_refused)
{
    static const size_t sizes[] = {24, 28, 32, 40, 48};
    size_t refused = 0;
    for (step each = CHECK; each <= BUILD; each++) {
        for (size_t i = 0; i < KLN_ARRAY_LENGTH(sizes); i++) {
            work self = {.step = each};
            do_at(62, sizes[i] * 1024, &self);
            if (self.status == KILN_ERROR_LIMIT) {
                assert_non_null(strstr(self.sentence, "bytes of stack left"));
                refused++;
            } else {
                assert_int_equal(self.status, KILN_OK);
            }
        }
    }
    assert_true(refused >= 3);
}

/* The numbers of kln_base.h: no step takes more for a graph than half of what is looked for. */
TEST(a_graph_takes_what_was_measured)
{
    for (step each = CHECK; each < STEPS; each++) {
        size_t touched[2];
        for (size_t i = 0; i < 2; i++) {
            kiln_engine *engine = NULL;
            assert_ok(build(nested(i == 0 ? 6 : 46), &engine));
            work self = {.step = each, .engine = engine, .model = nested(i == 0 ? 6 : 46)};
            touched[i] = on_a_stack(&self, (size_t)1 << 20);
            kiln_engine_release(engine);
            assert_int_equal(self.status, KILN_OK);
        }
        const size_t each_graph = touched[1] > touched[0] ? (touched[1] - touched[0]) / 40 : 0;
        print_message("%s: %zu bytes for each graph, %zu for 46 of them\n", step_names[each],
                      each_graph, touched[1]);
        assert_in_range(each_graph, 0, KLN_STACK_FOR_A_GRAPH / 14);
    }
}

int main(void)
{
#if !defined(__OPTIMIZE__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    print_message("skipped: frames are larger than they will be\n");
    return KILN_TEST_SKIPPED;
#endif
    return kiln_test_run();
}
