/* SPDX-License-Identifier: Apache-2.0 */
/* A saved network and the file of its weights are one thing: whoever saves, reads or is killed
 * meanwhile. */
#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "base/kln_base.h"
#include "kiln_test.h"
#include "onnx/kln_onnx.h"

#define COUNT 2048

/* Two networks of several weights each, in whose outputs, each a weight less a scalar that lies in
 * the model, all is 0 where model and weights belong together. */
static const size_t weight_counts[] = {1, 3};
static const size_t kinds = KLN_ARRAY_LENGTH(weight_counts);

/* y = w - c + x */
static kiln_status add_weights(kiln_network *network, size_t index, const float *values,
                               kiln_tensor_id x)
{
    const kiln_weights many = {
        KILN_DTYPE_FLOAT32, KILN_SHAPE(COUNT), {values, COUNT * sizeof *values}};
    const kiln_weights one = {KILN_DTYPE_FLOAT32, KILN_SHAPE(1), {values, sizeof *values}};
    char name[32];
    kiln_tensor_id w, c, y;
    KLN_RETURN_IF_ERROR(kiln_network_add_constant(network, NULL, &many, &w));
    KLN_RETURN_IF_ERROR(kiln_network_add_constant(network, NULL, &one, &c));
    KLN_RETURN_IF_ERROR(
        kiln_network_add_elementwise(network, NULL, KILN_ELEMENTWISE_SUB, w, c, &y));
    (void)snprintf(name, sizeof name, "y%zu", index);
    KLN_RETURN_IF_ERROR(
        kiln_network_add_elementwise(network, name, KILN_ELEMENTWISE_ADD, y, x, &y));
    return kiln_network_mark_output(network, y);
}

static kiln_network *make(size_t kind)
{
    static float values[2][COUNT];
    kiln_network *network = NULL;
    kiln_tensor_id x;
    for (size_t i = 0; i < COUNT; i++) {
        values[kind][i] = (float)(kind + 1);
    }
    if (kiln_network_create(NULL, &network) != KILN_OK ||
        kiln_network_add_input(network, "x", KILN_DTYPE_FLOAT32, &KILN_SHAPE(1), NULL, &x) !=
            KILN_OK) {
        abort();
    }
    for (size_t i = 0; i < weight_counts[kind]; i++) {
        if (add_weights(network, i, values[kind], x) != KILN_OK) {
            abort();
        }
    }
    return network;
}

static void save(size_t kind, const char *path, kiln_weights_place weights)
{
    owned_network network = make(kind);
    assert_ok(kiln_network_save_onnx(network, path, weights));
}

/* Whether the outputs of a run are all 0. Used in processes that must not fail by cmocka. */
static bool is_zero(kiln_engine *engine)
{
    float x = 0;
    bool zero = true;
    owned_context context = NULL;
    const kiln_tensor input = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(1), &x, sizeof x);
    if (kiln_context_create(engine, NULL, &context) != KILN_OK ||
        kiln_context_bind(context, "x", &input) != KILN_OK ||
        kiln_context_run(context) != KILN_OK) {
        zero = false;
    }
    for (size_t i = 0; zero && i < kiln_engine_output_count(engine); i++) {
        char name[32];
        kiln_tensor y;
        (void)snprintf(name, sizeof name, "y%zu", i);
        zero = kiln_context_tensor(context, name, &y) == KILN_OK;
        for (size_t j = 0; zero && j < COUNT; j++) {
            zero = ((const float *)y.data)[j] == 0.0F;
        }
    }
    return zero;
}

/* What lies there is one of the two networks, whole. */
static bool is_whole(const char *path, const char *backend)
{
    owned_engine engine = NULL;
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = backend);
    const bool whole =
        kiln_engine_build_file(path, &options, &engine) == KILN_OK && is_zero(engine);
    return whole;
}

static bool is_read(const char *path)
{
    kiln_network *network = NULL;
    const kiln_status status = kiln_network_from_onnx(path, &network);
    kiln_network_destroy(network);
    return status == KILN_OK;
}

/* The one file of weights in the folder of `path`: its name, or NULL where there is none. */
static const char *weights_of(const char *path, size_t *count)
{
    static char found[300];
    char folder[4096];
    const char *name = strrchr(path, '/') + 1;
    (void)snprintf(folder, sizeof folder, "%.*s", (int)(name - path), path);
    DIR *directory = opendir(folder);
    assert_non_null(directory);
    *count = 0;
    for (const struct dirent *e = readdir(directory); e != NULL; e = readdir(directory)) {
        const size_t length = strlen(e->d_name);
        if (strncmp(e->d_name, name, strlen(name)) == 0 && length > 5 &&
            strcmp(e->d_name + length - 5, ".data") == 0) {
            (void)snprintf(found, sizeof found, "%s", e->d_name);
            (*count)++;
        }
    }
    (void)closedir(directory);
    return *count > 0 ? found : NULL;
}

/* --- several who save, and who read meanwhile --- */

/* A process of its own that saves the two networks in turns. */
static pid_t start_saving(const char *path, size_t first, int count)
{
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child > 0) {
        return child;
    }
    kiln_network *networks[] = {make(0), make(1)};
    for (int i = 0; i < count; i++) {
        kiln_network *network = networks[(first + (size_t)i) % kinds];
        if (kiln_network_save_onnx(network, path, KILN_WEIGHTS_EXTERNAL) != KILN_OK) {
            (void)fprintf(stderr, "save: %s\n", kiln_error_message());
            _exit(1);
        }
    }
    _exit(0);
}

/* A process that reads until there is a file at `stop`. */
static pid_t start_reading(const char *path, const char *stop, const char *backend)
{
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child > 0) {
        return child;
    }
    do {
        if (!is_whole(path, backend) || !is_read(path)) {
            (void)fprintf(stderr, "read: %s\n", kiln_error_message());
            _exit(1);
        }
    } while (!kln_file_exists(stop));
    _exit(0);
}

static void assert_ended_well(pid_t child)
{
    int result = 0;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
}

TEST(two_save_and_two_read)
{
    size_t count = 0;
    const char *path = kiln_test_path("both.onnx");
    const char *stop = kiln_test_path("both.stop");
    save(0, path, KILN_WEIGHTS_EXTERNAL);
    const pid_t readers[] = {start_reading(path, stop, "reference"),
                             start_reading(path, stop, "onnxruntime")};
    const pid_t savers[] = {start_saving(path, 0, 60), start_saving(path, 1, 60)};
    assert_ended_well(savers[0]);
    assert_ended_well(savers[1]);
    (void)kiln_test_file("both.stop", "", 0);
    assert_ended_well(readers[0]);
    assert_ended_well(readers[1]);
    assert_true(is_whole(path, "reference"));
    (void)weights_of(path, &count);
    assert_int_equal(count, 1);
}

TEST(a_process_is_killed_while_it_saves)
{
    size_t count = 0;
    unsigned seed = 20261;
    const char *path = kiln_test_path("killed.onnx");
    const char *stop = kiln_test_path("killed.stop");
    save(0, path, KILN_WEIGHTS_EXTERNAL);
    const pid_t reader = start_reading(path, stop, "reference");
    for (size_t moment = 0; moment < 100; moment++) {
        const pid_t child = start_saving(path, moment % kinds, 1000000);
        seed = seed * 1103515245U + 12345U;
        const struct timespec pause = {.tv_nsec = (long)((seed >> 8) % 12000000U)};
        (void)nanosleep(&pause, NULL);
        (void)kill(child, SIGKILL);
        assert_int_equal(waitpid(child, NULL, 0), child);
        assert_true(is_whole(path, "reference"));
    }
    (void)kiln_test_file("killed.stop", "", 0);
    assert_ended_well(reader);
    /* What the killed ones left goes with the next save. */
    save(1, path, KILN_WEIGHTS_EXTERNAL);
    (void)weights_of(path, &count);
    assert_int_equal(count, 1);
}

TEST(weights_are_named_by_what_they_are)
{
    char expected[64];
    char first[64];
    size_t count = 0;
    const char *path = kiln_test_path("named.onnx");
    save(0, path, KILN_WEIGHTS_EXTERNAL);
    (void)snprintf(first, sizeof first, "%s", weights_of(path, &count));
    assert_int_equal(count, 1);
    kln_mapping file;
    assert_ok(kln_mapping_open(kiln_test_path(first), &file));
    assert_int_equal(file.bytes.size, COUNT * sizeof(float));
    (void)snprintf(expected, sizeof expected, "named.onnx.%016llx.data",
                   (unsigned long long)kln_hash_bytes(file.bytes.data, file.bytes.size));
    kln_mapping_close(&file);
    assert_string_equal(first, expected);
    save(0, path, KILN_WEIGHTS_EXTERNAL);
    assert_string_equal(weights_of(path, &count), first);
    assert_int_equal(count, 1);
    /* Others' weights go with the model that they belonged to; a neighbour's stay. */
    (void)kiln_test_file("named.onnx.0123456789abcdeg.data", "", 0);
    (void)kiln_test_file("named.onnx.backup.data", "", 0);
    save(1, path, KILN_WEIGHTS_EXTERNAL);
    assert_false(kln_file_exists(kiln_test_path(first)));
    (void)weights_of(path, &count);
    assert_int_equal(count, 3);
    assert_true(is_whole(path, "reference"));
    save(0, path, KILN_WEIGHTS_INLINE);
    (void)weights_of(path, &count);
    assert_int_equal(count, 2);
    assert_true(is_whole(path, "reference"));
}

TEST(weights_are_as_open_as_their_model)
{
    size_t count = 0;
    struct stat facts;
    const char *path = kiln_test_path("private.onnx");
    (void)kiln_test_file("private.onnx", "x", 1);
    assert_int_equal(chmod(path, 0600), 0);
    save(0, path, KILN_WEIGHTS_EXTERNAL);
    assert_int_equal(stat(kiln_test_path(weights_of(path, &count)), &facts), 0);
    assert_int_equal(facts.st_mode & 0777, 0600);
    assert_int_equal(stat(path, &facts), 0);
    assert_int_equal(facts.st_mode & 0777, 0600);
}

TEST(nothing_lies_beside_a_pipe)
{
    int ends[2];
    char path[64];
    kiln_network *network = make(0);
    assert_int_equal(pipe(ends), 0);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", ends[1]);
    assert_fails(KILN_ERROR_UNSUPPORTED,
                 kiln_network_save_onnx(network, path, KILN_WEIGHTS_EXTERNAL),
                 "keep the weights inline");
    kiln_network_destroy(network);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

/* A model that was read without its weights still refers to them when it is saved. */
TEST(weights_that_were_not_read_stay)
{
    size_t count = 0;
    kln_mapping file;
    const char *path = kiln_test_path("unread.onnx");
    save(0, path, KILN_WEIGHTS_EXTERNAL);
    assert_ok(kln_mapping_open(path, &file));
    kiln_network *network = network_in(file.bytes, NULL);
    assert_ok(kiln_network_save_onnx(network, path, KILN_WEIGHTS_EXTERNAL));
    kiln_network_destroy(network);
    kln_mapping_close(&file);
    (void)weights_of(path, &count);
    assert_int_equal(count, 1);
    assert_true(is_whole(path, "reference"));
}

/* What is read is written over the files that it lies in. */
TEST(a_network_is_saved_over_itself)
{
    size_t count = 0;
    const char *path = kiln_test_path("itself.onnx");
    save(1, path, KILN_WEIGHTS_EXTERNAL);
    kiln_network *network = network_file(path);
    assert_ok(kiln_network_save_onnx(network, path, KILN_WEIGHTS_EXTERNAL));
    kiln_network_destroy(network);
    (void)weights_of(path, &count);
    assert_int_equal(count, 1);
    assert_true(is_whole(path, "reference"));
}
