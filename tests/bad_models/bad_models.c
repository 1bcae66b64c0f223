/* SPDX-License-Identifier: Apache-2.0 */
/* Models that were cut short or damaged, given to the onnxruntime backend. Each must be refused
 * with a status and a sentence, or be built; never may it crash, hang or take memory without
 * bound. Each damage is tried in a child process, because what is tested is whether it survives.
 *
 * bad_models MODEL... [--seeds N] [--from SEED] */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <kiln/kiln.h>

#define CUTS 50U
#define SECONDS_EACH 20U
/* Beyond what the process has mapped when it starts; a model here has 10 MB at most. */
#define MEMORY_LIMIT ((size_t)1 << 30)

/* What the child tells its parent, in shared memory. */
typedef struct progress {
    unsigned next;
    unsigned refused;
    unsigned built;
    unsigned statuses[80];
} progress;

typedef struct damage {
    const char *path;
    const unsigned char *bytes;
    size_t size;
    bool cut; /* else flipped */
    unsigned first;
    unsigned count;
} damage;

static uint64_t next_random(uint64_t *state)
{
    /* splitmix64: https://prng.di.unimi.it/splitmix64.c */
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Damages `copy` as number `which` says; the size that is left. */
static size_t apply(const damage *plan, unsigned which, unsigned char *copy)
{
    memcpy(copy, plan->bytes, plan->size);
    if (plan->cut) {
        return plan->size / CUTS * which + (which % 2);
    }
    uint64_t state = which;
    const unsigned flips = 1 + (unsigned)(next_random(&state) % 8);
    for (unsigned i = 0; i < flips; i++) {
        /* Half of them in the first and last bytes, where the structure lies rather than weights.
         */
        const size_t edge = plan->size < 16384 ? plan->size : 16384;
        size_t at = (size_t)(next_random(&state) % plan->size);
        if (next_random(&state) % 2 == 0) {
            at = (size_t)(next_random(&state) % edge);
            at = next_random(&state) % 2 == 0 ? at : plan->size - 1 - at;
        }
        copy[at] ^= (unsigned char)(1U << (next_random(&state) % 8));
    }
    return plan->size;
}

static void limit_memory(void)
{
    struct rlimit limit = {0, 0};
    size_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%zu", &pages) != 1) {
        exit(2);
    }
    (void)fclose(file);
    limit.rlim_cur = pages * (size_t)sysconf(_SC_PAGESIZE) + MEMORY_LIMIT;
    limit.rlim_max = limit.rlim_cur;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    (void)setrlimit(RLIMIT_AS, &limit);
#endif
}

/* Runs what was built all the same, with inputs of zeros: an error is as good as a result. */
static void run_once(kiln_engine *engine)
{
    kiln_context *context = NULL;
    kiln_status status = kiln_context_create(engine, NULL, &context);
    for (size_t i = 0; status == KILN_OK && i < kiln_engine_input_count(engine); i++) {
        kiln_binding input = {.struct_size = sizeof input};
        status = kiln_engine_input(engine, i, &input);
        for (int32_t dim = 0; dim < input.shape.rank; dim++) {
            if (input.shape.dims[dim] == KILN_DYNAMIC) {
                input.shape.dims[dim] = dim == 0 ? 1 : 48;
            }
        }
        if (status == KILN_OK && input.shape.rank >= 0) {
            status = kiln_context_reshape(context, input.name, &input.shape);
        }
    }
    if (status == KILN_OK) {
        status = kiln_context_run(context);
    }
    kiln_context_destroy(context);
}

static void try_one(const damage *plan, unsigned which, unsigned char *copy, progress *told)
{
    const size_t size = apply(plan, which, copy);
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "onnxruntime", .threads = 1);
    kiln_engine *engine = NULL;
    (void)alarm(SECONDS_EACH);
    const kiln_status status = kiln_engine_build_bytes((kiln_span){copy, size}, &options, &engine);
    if (status == KILN_OK) {
        told->built++;
        run_once(engine);
    } else if (kiln_error_message()[0] == '\0') {
        abort();
    } else {
        told->refused++;
    }
    told->statuses[(unsigned)status % 80]++;
    kiln_engine_release(engine);
    (void)alarm(0);
}

static void work(const damage *plan, progress *told)
{
    unsigned char *copy = malloc(plan->size);
    kiln_backend_info info = {.struct_size = sizeof info};
    if (copy == NULL || kiln_backend_choose("onnxruntime", &info) != KILN_OK) {
        (void)fprintf(stderr, "%s\n", kiln_error_message());
        exit(2);
    }
    limit_memory();
    while (told->next < plan->first + plan->count) {
        try_one(plan, told->next, copy, told);
        told->next++;
    }
    free(copy);
    exit(0);
}

/* How many of the damages ended the child. */
static unsigned survive(const damage *plan)
{
    progress *told =
        mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (told == MAP_FAILED) {
        exit(2);
    }
    unsigned deaths = 0;
    told->next = plan->first;
    while (told->next < plan->first + plan->count) {
        const pid_t child = fork();
        if (child == 0) {
            work(plan, told);
        }
        int result = 0;
        if (child < 0 || waitpid(child, &result, 0) != child ||
            (WIFEXITED(result) && WEXITSTATUS(result) == 2)) {
            exit(2);
        }
        if (!WIFEXITED(result) || WEXITSTATUS(result) != 0) {
            (void)printf("%s: %s number %u ended the process: %s %d\n", plan->path,
                         plan->cut ? "cut" : "damage", told->next,
                         WIFSIGNALED(result) ? "signal" : "status",
                         WIFSIGNALED(result) ? WTERMSIG(result) : WEXITSTATUS(result));
            deaths++;
            told->next++;
        }
    }
    (void)printf("%s: %u %s, %u refused, %u built, %u died;", plan->path, plan->count,
                 plan->cut ? "cuts" : "damages", told->refused, told->built, deaths);
    for (unsigned i = 0; i < 80; i++) {
        if (told->statuses[i] != 0) {
            (void)printf(" %s %u", kiln_status_name((kiln_status)i), told->statuses[i]);
        }
    }
    (void)printf("\n");
    (void)fflush(stdout);
    if (plan->cut && told->built != 0) {
        deaths++;
    }
    (void)munmap(told, sizeof *told);
    return deaths;
}

static unsigned test_file(const char *path, unsigned first, unsigned seeds)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        (void)fprintf(stderr, "%s cannot be read\n", path);
        exit(2);
    }
    const size_t size = (size_t)ftell(file);
    rewind(file);
    unsigned char *bytes = malloc(size);
    if (bytes == NULL || fread(bytes, 1, size, file) != size) {
        exit(2);
    }
    (void)fclose(file);
    damage plan = {path, bytes, size, true, 0, CUTS};
    unsigned deaths = first == 0 ? survive(&plan) : 0;
    plan.cut = false;
    plan.first = first;
    plan.count = seeds;
    deaths += survive(&plan);
    free(bytes);
    return deaths;
}

int main(int count, char **arguments)
{
    unsigned seeds = 500;
    unsigned first = 0;
    unsigned deaths = 0;
    for (int i = 1; i < count; i++) {
        if (strcmp(arguments[i], "--seeds") == 0 && i + 1 < count) {
            seeds = (unsigned)strtoul(arguments[++i], NULL, 10);
        } else if (strcmp(arguments[i], "--from") == 0 && i + 1 < count) {
            first = (unsigned)strtoul(arguments[++i], NULL, 10);
        } else {
            deaths += test_file(arguments[i], first, seeds);
        }
    }
    return deaths == 0 ? 0 : 1;
}
