/* SPDX-License-Identifier: Apache-2.0 */
/* What kind of file is this? Google's magika model looks at the first and last bytes of each file
 * and names one of more than 200 kinds.
 *
 *     01_identify_files FILE...
 *
 * The lesson: build an engine from an ONNX file, run it once on a batch of inputs, read the
 * output. Everything else here turns files into numbers and numbers into words, exactly as
 * magika's own Python package does. */
#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <kiln/kiln.h>

/* From the model's config.json. */
enum { BLOCK = 4096, PART = 1024, FEATURES = 2 * PART, PADDING = 256, MINIMUM = 8, LABELS = 214 };
#define CONFIDENT 0.5

/* What is known of one file: a label without asking the model, or the features to ask it with. */
typedef struct sample {
    const char *path;
    char label[32];
    double score;
    long row; /* in the batch, -1: the model is not needed */
} sample;

static int fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, kiln_error_message());
    return 1;
}

/* --- JSON, as little of it as these two compact files need --- */

static char *read_text(const char *folder, const char *name)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/magika/%s", folder, name);
    FILE *file = fopen(path, "rb");
    char *text = calloc(1, 1 << 20);
    if (file == NULL || text == NULL || fread(text, 1, (1 << 20) - 1, file) == 0) {
        fprintf(stderr, "%s cannot be read: scripts/install_deps.sh demo gets it\n", path);
        exit(1);
    }
    (void)fclose(file);
    return text;
}

/* Copies the string that follows `key` into `value`; "" when it is not a string. */
static void string_after(const char *text, const char *key, char *value, size_t size)
{
    const char *at = strstr(text, key);
    size_t length = 0;
    if (at != NULL && at[strlen(key)] == '"') {
        at += strlen(key) + 1;
        while (at[length] != '"' && at[length] != '\0' && length + 1 < size) {
            value[length] = at[length];
            length++;
        }
    }
    value[length] = '\0';
}

/* Label number `index` of "target_labels_space". */
static void label_at(const char *config, size_t index, char *label, size_t size)
{
    const char *at = strchr(strstr(config, "\"target_labels_space\""), '[');
    while (index-- > 0) {
        at = strchr(at + 1, ',');
    }
    string_after(at, at[0] == '[' ? "[" : ",", label, size);
}

/* The entry of `label` in the knowledge base. */
static const char *known(const char *kinds, const char *label)
{
    char key[64];
    (void)snprintf(key, sizeof key, "\"%s\":{", label);
    const char *entry = strstr(kinds, key);
    return entry != NULL ? entry : "";
}

/* --- from a file to 2,048 numbers --- */

static int is_utf8(const unsigned char *bytes, size_t size)
{
    size_t i = 0;
    while (i < size) {
        const unsigned char first = bytes[i++];
        const int more = first < 0x80 ? 0 : first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
        uint32_t letter = more == 0 ? first : first & (0x3fU >> more);
        if (first > 0xf4 || (first >= 0x80 && first < 0xc2) || size - i < (size_t)more) {
            return 0;
        }
        for (int k = 0; k < more; k++) {
            if ((bytes[i] & 0xc0) != 0x80) {
                return 0;
            }
            letter = letter << 6 | (bytes[i++] & 0x3fU);
        }
        static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
        if (letter < least[more] || letter > 0x10ffff || (letter >= 0xd800 && letter < 0xe000)) {
            return 0;
        }
    }
    return 1;
}

/* The first and the last bytes without the white space around them, filled up to 1,024 each.
 * Returns how many of the first there are. */
static size_t extract(const unsigned char *begin, const unsigned char *end, size_t size,
                      int32_t *features)
{
    size_t first = 0;
    size_t last = size;
    while (first < size && isspace(begin[first])) {
        first++;
    }
    while (last > 0 && isspace(end[last - 1])) {
        last--;
    }
    const size_t head = size - first < PART ? size - first : PART;
    const size_t tail = last < PART ? last : PART;
    for (size_t i = 0; i < PART; i++) {
        features[i] = i < head ? begin[first + i] : PADDING;
        features[FEATURES - 1 - i] = i < tail ? end[last - 1 - i] : PADDING;
    }
    return head;
}

/* Answers without the model where there is too little to look at, else fills `features`. */
static int prepare(sample *of, int32_t *features)
{
    struct stat status;
    of->score = 1.0;
    if (stat(of->path, &status) == 0 && !S_ISREG(status.st_mode)) {
        (void)strcpy(of->label, S_ISDIR(status.st_mode) ? "directory" : "unknown");
        return 0;
    }
    FILE *file = fopen(of->path, "rb");
    if (file == NULL) {
        perror(of->path);
        exit(1);
    }
    unsigned char begin[BLOCK];
    unsigned char end[BLOCK];
    const size_t size = fread(begin, 1, BLOCK, file);
    if (fseek(file, -(long)size, SEEK_END) != 0 || fread(end, 1, size, file) != size) {
        perror(of->path);
        exit(1);
    }
    (void)fclose(file);
    if (size == 0) {
        (void)strcpy(of->label, "empty");
        return 0;
    }
    if (size < MINIMUM || extract(begin, end, size, features) < MINIMUM) {
        (void)strcpy(of->label, is_utf8(begin, size) ? "txt" : "unknown");
        return 0;
    }
    return 1;
}

/* --- from 214 scores to a label --- */

/* The best label, where the model is sure enough; else only whether it is text. */
static void decide(sample *of, const float *scores, const char *config, const char *kinds)
{
    size_t best = 0;
    for (size_t i = 1; i < LABELS; i++) {
        best = scores[i] > scores[best] ? i : best;
    }
    of->score = (double)scores[best];
    char label[32];
    char key[64];
    label_at(config, best, label, sizeof label);
    (void)snprintf(key, sizeof key, "\"%s\":", label);
    string_after(strstr(config, "\"overwrite_map\""), key, of->label, sizeof of->label);
    if (of->label[0] == '\0') {
        (void)strcpy(of->label, label);
    }
    const char *own = strstr(strstr(config, "\"thresholds\""), key);
    const double needed = own != NULL && own < strstr(config, "\"overwrite_map\"")
                              ? strtod(own + strlen(key), NULL)
                              : CONFIDENT;
    if (of->score < needed) {
        const char *text = strstr(known(kinds, of->label), "\"is_text\":");
        (void)strcpy(of->label, text != NULL && text[10] == 't' ? "txt" : "unknown");
    }
}

static void show(const sample *of, const char *kinds)
{
    char description[128];
    char type[128];
    string_after(known(kinds, of->label), "\"description\":", description, sizeof description);
    string_after(known(kinds, of->label), "\"mime_type\":", type, sizeof type);
    printf("%-32s %-12s %5.1f %%  %s%s%s%s\n", of->path, of->label, of->score * 100.0, description,
           type[0] != '\0' ? " (" : "", type, type[0] != '\0' ? ")" : "");
}

/* --- the model --- */

/* Runs `count` rows of features through the model; `scores` gets 214 numbers for each. */
static int ask(const char *models, int32_t *features, int64_t count, float *scores)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/magika/model.onnx", models);
    kiln_engine *engine = NULL;
    kiln_context *context = NULL;
    /* How many files there will be is a dynamic dimension of the model. TensorRT, where it is,
     * wants to know how large the batch gets, and chooses kernels for the usual size, which takes
     * it a minute: the plan is kept for the next start. The others run any size at once. */
    const kiln_profile_input range = {.name = "bytes",
                                      .min = KILN_SHAPE(1, FEATURES),
                                      .opt = KILN_SHAPE(8, FEATURES),
                                      .max = KILN_SHAPE(count < 64 ? 64 : count, FEATURES)};
    const kiln_profile profile = {.inputs = &range, .input_count = 1};
    kiln_backend_info info = {.struct_size = sizeof info};
    kiln_build_options options =
        KILN_BUILD_OPTIONS(.profiles = &profile, .profile_count = 1, .cache = "default");
    if (kiln_backend_choose(NULL, &info) == KILN_OK &&
        (info.capabilities & KILN_CAPABILITY_NATIVE_PLAN) != 0) {
        printf("(%s needs a minute where it has not built this model before)\n", info.name);
        (void)fflush(stdout);
    }
    if (kiln_engine_build_file(path, &options, &engine) != KILN_OK) {
        return fail("building");
    }
    if (kiln_engine_backend(engine, &info) == KILN_OK) {
        printf("(on %s %s)\n", info.name, info.version);
    }
    if (kiln_context_create(engine, NULL, &context) != KILN_OK) {
        kiln_engine_release(engine);
        return fail("making a context");
    }
    const size_t row = FEATURES * sizeof(int32_t);
    const kiln_named_tensor inputs[] = {
        {"bytes", KILN_HOST_TENSOR(KILN_DTYPE_INT32, KILN_SHAPE(count, FEATURES), features,
                                   (size_t)count * row)}};
    kiln_named_tensor outputs[] = {
        {"target_label", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(count, LABELS), scores,
                                          (size_t)count * LABELS * sizeof(float))}};
    const int failed = kiln_context_run_tensors(context, inputs, 1, outputs, 1) != KILN_OK;
    if (failed) {
        (void)fail("running");
    }
    kiln_context_destroy(context);
    kiln_engine_release(engine);
    return failed;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "use: %s FILE...\n", argv[0]);
        return 2;
    }
    const char *models = KILN_MODELS_DIR;
    char *config = read_text(models, "config.json");
    char *kinds = read_text(models, "content_types.json");
    const size_t count = (size_t)argc - 1;
    sample *samples = calloc(count, sizeof *samples);
    int32_t *features = calloc(count * FEATURES, sizeof *features);
    float *scores = calloc(count * LABELS, sizeof *scores);
    int failed = samples == NULL || features == NULL || scores == NULL;
    long rows = 0;
    for (size_t i = 0; i < count && !failed; i++) {
        samples[i].path = argv[i + 1];
        samples[i].row = prepare(&samples[i], features + rows * FEATURES) ? rows++ : -1;
    }
    failed = failed || (rows > 0 && ask(models, features, rows, scores));
    for (size_t i = 0; i < count && !failed; i++) {
        if (samples[i].row >= 0) {
            decide(&samples[i], scores + samples[i].row * LABELS, config, kinds);
        }
        show(&samples[i], kinds);
    }
    free(scores);
    free(features);
    free(samples);
    free(kinds);
    free(config);
    return failed;
}
