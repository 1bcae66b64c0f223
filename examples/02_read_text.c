/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the text in a picture: one network finds the lines, a second one reads them.
 *
 *     02_read_text [PICTURE.png [MARKED.png]]
 *
 * Without a picture, or with "-", it draws one. The lines found are drawn into MARKED.png
 * (read_text.png).
 *
 * The lesson: dynamic shapes and two engines. Both networks (PP-OCRv4, as the package rapidocr
 * ships them) take pictures of any size; kiln_context_reshape gives the size of this one,
 * kiln_context_tensor shows the memory to fill, and the result is read where the backend left it.
 * The characters come from the model's metadata.
 *
 * Lines are boxed upright: text that is much rotated is not straightened first. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cairo.h>
#include <kiln/kiln.h>

/* The numbers of rapidocr's config.yaml. */
#define SHORTEST_SIDE 736   /* a picture is enlarged until its shorter side has this many pixels */
#define LONGEST_SIDE 2000   /* but not beyond this */
#define LONGEST_INPUT 2016  /* which is a multiple of 32 */
#define MASK_THRESHOLD 0.3F /* a pixel belongs to text */
#define BOX_THRESHOLD 0.5   /* the mean over a box, for it to count as a line */
#define UNCLIP_RATIO 1.6    /* how much the shrunken line is grown again */
#define SMALLEST_BOX 3      /* pixels of the map */
#define LINE_HEIGHT 48      /* what the second network wants */
#define LINE_WIDTH 320      /* at least */
#define LONGEST_LINE 4096   /* longer ones are squeezed */
#define TEXT_SCORE 0.5      /* lines read with less are not shown */
#define MOST_LINES 1000

typedef struct box {
    int left, top, right, bottom; /* pixels; right and bottom are outside */
} box;

typedef struct picture {
    cairo_surface_t *surface;
    const unsigned char *pixels; /* blue, green, red, unused */
    int width, height, stride;
} picture;

static void require(kiln_status status, const char *what)
{
    if (status != KILN_OK) {
        fprintf(stderr, "%s: %s\n", what, kiln_error_message());
        exit(1);
    }
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count > 0 ? count : 1, size);
    if (memory == NULL) {
        fprintf(stderr, "no memory for %zu elements\n", count);
        exit(1);
    }
    return memory;
}

/* --- pictures --- */

static cairo_surface_t *draw_sample(void)
{
    static const struct {
        const char *text;
        double size, x, y;
    } lines[] = {{"Kiln reads this picture.", 44, 40, 80},
                 {"TensorRT from C, 2 networks, 1 file", 30, 40, 150},
                 {"Platform 9: departs 12:45", 36, 40, 230},
                 {"Total 1,299.00 EUR", 40, 420, 320}};
    cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, 840, 380);
    cairo_t *pen = cairo_create(surface);
    cairo_set_source_rgb(pen, 0.98, 0.97, 0.94);
    cairo_paint(pen);
    cairo_select_font_face(pen, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_source_rgb(pen, 0.1, 0.1, 0.15);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        cairo_set_font_size(pen, lines[i].size);
        cairo_move_to(pen, lines[i].x, lines[i].y);
        cairo_show_text(pen, lines[i].text);
    }
    cairo_destroy(pen);
    return surface;
}

/* Any PNG as opaque 32-bit pixels on white. */
static cairo_surface_t *load_png(const char *path)
{
    cairo_surface_t *file = cairo_image_surface_create_from_png(path);
    if (cairo_surface_status(file) != CAIRO_STATUS_SUCCESS) {
        /* cairo says "out of memory" of a file that is no PNG. */
        fprintf(stderr, "%s cannot be read as a PNG (%s)\n", path,
                cairo_status_to_string(cairo_surface_status(file)));
        exit(1);
    }
    cairo_surface_t *surface =
        cairo_image_surface_create(CAIRO_FORMAT_RGB24, cairo_image_surface_get_width(file),
                                   cairo_image_surface_get_height(file));
    cairo_t *pen = cairo_create(surface);
    cairo_set_source_rgb(pen, 1, 1, 1);
    cairo_paint(pen);
    cairo_set_source_surface(pen, file, 0, 0);
    cairo_paint(pen);
    cairo_destroy(pen);
    cairo_surface_destroy(file);
    return surface;
}

static picture look_at(cairo_surface_t *surface)
{
    cairo_surface_flush(surface);
    return (picture){
        surface, cairo_image_surface_get_data(surface), cairo_image_surface_get_width(surface),
        cairo_image_surface_get_height(surface), cairo_image_surface_get_stride(surface)};
}

/* Where between two pixels of a side of `size` the centre of pixel `i` of `scaled` lies. */
static int between(int i, int size, int scaled, float *share)
{
    const float at = ((float)i + 0.5F) * (float)size / (float)scaled - 0.5F;
    const float clamped = fminf(fmaxf(at, 0), (float)(size - 1));
    const int first = (int)clamped < size - 1 ? (int)clamped : (size > 1 ? size - 2 : 0);
    *share = clamped - (float)first;
    return first;
}

/* Scales `part` of the picture to width x height (bilinear) and writes it as three planes of -1 to
 * 1, whose rows are `row` floats apart, in OpenCV's order blue, green, red, with which both
 * networks were trained. */
static void fill_planes(const picture *from, box part, int width, int height, int row,
                        float *planes)
{
    const int part_width = part.right - part.left;
    const int part_height = part.bottom - part.top;
    for (int y = 0; y < height; y++) {
        float fy = 0;
        const int y0 = between(y, part_height, height, &fy);
        const unsigned char *upper = from->pixels + (size_t)(part.top + y0) * (size_t)from->stride;
        const unsigned char *lower = part_height > 1 ? upper + from->stride : upper;
        for (int x = 0; x < width; x++) {
            float fx = 0;
            const int x0 = between(x, part_width, width, &fx);
            const size_t left = (size_t)(part.left + x0) * 4;
            const size_t right = part_width > 1 ? left + 4 : left;
            for (size_t c = 0; c < 3; c++) {
                const float above =
                    (float)upper[left + c] * (1 - fx) + (float)upper[right + c] * fx;
                const float below =
                    (float)lower[left + c] * (1 - fx) + (float)lower[right + c] * fx;
                const float value = above * (1 - fy) + below * fy;
                planes[(c * (size_t)height + (size_t)y) * (size_t)row + (size_t)x] =
                    value / 127.5F - 1;
            }
        }
    }
}

/* --- one network --- */

typedef struct network {
    kiln_engine *engine;
    kiln_context *context;
    const char *input;
    const char *output;
} network;

/* The sizes of its input, as height and width: TensorRT, where it is, builds for this range of them
 * and chooses kernels for the usual one; the other backends take any size. */
typedef struct range {
    int64_t least[2];
    int64_t usual[2];
    int64_t most[2];
} range;

static network open_network(const char *name, const range *sizes)
{
    char path[4096];
    network opened = {NULL, NULL, NULL, NULL};
    kiln_binding binding = {.struct_size = sizeof binding};
    const kiln_profile_input pictures = {.name = "x",
                                         .min = KILN_SHAPE(1, 3, sizes->least[0], sizes->least[1]),
                                         .opt = KILN_SHAPE(1, 3, sizes->usual[0], sizes->usual[1]),
                                         .max = KILN_SHAPE(1, 3, sizes->most[0], sizes->most[1])};
    const kiln_profile profile = {.inputs = &pictures, .input_count = 1};
    kiln_build_options options =
        KILN_BUILD_OPTIONS(.profiles = &profile, .profile_count = 1, .cache = "default");
    (void)snprintf(path, sizeof path, "%s/rapidocr/%s.onnx", KILN_MODELS_DIR, name);
    kiln_backend_info info = {.struct_size = sizeof info};
    if (kiln_backend_choose(NULL, &info) == KILN_OK &&
        (info.capabilities & KILN_CAPABILITY_NATIVE_PLAN) != 0) {
        options.builder_optimization_level = 1; /* a lesson is rather built soon than run fast */
        printf("(%s needs a minute or two where it has not built %s.onnx before)\n", info.name,
               name);
        (void)fflush(stdout);
    }
    require(kiln_engine_build_file(path, &options, &opened.engine), name);
    require(kiln_engine_backend(opened.engine, &info), name);
    printf("(%s.onnx on %s %s)\n", name, info.name, info.version);
    require(kiln_context_create(opened.engine, NULL, &opened.context), name);
    require(kiln_engine_input(opened.engine, 0, &binding), name);
    opened.input = binding.name;
    require(kiln_engine_output(opened.engine, 0, &binding), name);
    opened.output = binding.name;
    return opened;
}

static void close_network(network *opened)
{
    kiln_context_destroy(opened->context);
    kiln_engine_release(opened->engine);
}

/* Memory of the context for one picture of this size, all zero. */
static float *input_of(network *opened, int width, int height)
{
    kiln_tensor tensor;
    require(kiln_context_reshape(opened->context, opened->input, &KILN_SHAPE(1, 3, height, width)),
            opened->input);
    require(kiln_context_tensor(opened->context, opened->input, &tensor), opened->input);
    return tensor.data;
}

static kiln_tensor result_of(network *opened)
{
    kiln_tensor tensor;
    require(kiln_context_run(opened->context), opened->output);
    require(kiln_context_tensor(opened->context, opened->output, &tensor), opened->output);
    return tensor;
}

/* --- finding lines --- */

/* The box around the pixels that hang together with `start`, which are taken out of `mask`. */
static box take_component(unsigned char *mask, int width, int height, int start, int *stack)
{
    box around = {width, height, 0, 0};
    size_t depth = 0;
    stack[depth++] = start;
    mask[start] = 0;
    while (depth > 0) {
        const int at = stack[--depth];
        const int x = at % width;
        const int y = at / width;
        around.left = x < around.left ? x : around.left;
        around.top = y < around.top ? y : around.top;
        around.right = x + 1 > around.right ? x + 1 : around.right;
        around.bottom = y + 1 > around.bottom ? y + 1 : around.bottom;
        for (int dy = -1; dy <= 1; dy++) {
            for (int dx = -1; dx <= 1; dx++) {
                const int next = at + dy * width + dx;
                if (x + dx >= 0 && x + dx < width && y + dy >= 0 && y + dy < height &&
                    mask[next] != 0) {
                    mask[next] = 0;
                    stack[depth++] = next;
                }
            }
        }
    }
    return around;
}

static double mean_over(const float *map, int width, box part)
{
    double sum = 0;
    for (int y = part.top; y < part.bottom; y++) {
        for (int x = part.left; x < part.right; x++) {
            sum += (double)map[y * width + x];
        }
    }
    return sum / ((double)(part.right - part.left) * (part.bottom - part.top));
}

/* The network was trained on lines that are shrunk; this grows one again and scales it to the
 * picture. */
static box grow(box part, int width, int height, const picture *from)
{
    const double w = part.right - part.left;
    const double h = part.bottom - part.top;
    const double by = w * h * UNCLIP_RATIO / (2 * (w + h));
    const double sx = (double)from->width / width;
    const double sy = (double)from->height / height;
    return (box){(int)fmax((part.left - by) * sx, 0), (int)fmax((part.top - by) * sy, 0),
                 (int)fmin(ceil((part.right + by) * sx), from->width),
                 (int)fmin(ceil((part.bottom + by) * sy), from->height)};
}

static int in_reading_order(const void *left, const void *right)
{
    const box *a = left;
    const box *b = right;
    const int half = (a->bottom - a->top) / 2;
    if (b->top - a->top > half || a->top - b->top > half) {
        return a->top < b->top ? -1 : 1;
    }
    return a->left < b->left ? -1 : a->left > b->left;
}

static size_t boxes_in_map(const float *map, int width, int height, const picture *from, box *boxes)
{
    const size_t area = (size_t)width * (size_t)height;
    unsigned char *mask = allocate(area, 1);
    int *stack = allocate(area, sizeof *stack);
    size_t count = 0;
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            /* One pixel to the right and below joins the letters of a word. */
            for (int i = 0; i < 4 && map[y * width + x] > MASK_THRESHOLD; i++) {
                if (x + i % 2 < width && y + i / 2 < height) {
                    mask[(y + i / 2) * width + x + i % 2] = 1;
                }
            }
        }
    }
    for (int i = 0; i < (int)area && count < MOST_LINES; i++) {
        if (mask[i] != 0) {
            const box found = take_component(mask, width, height, i, stack);
            if (found.right - found.left >= SMALLEST_BOX &&
                found.bottom - found.top >= SMALLEST_BOX &&
                mean_over(map, width, found) >= BOX_THRESHOLD) {
                boxes[count++] = grow(found, width, height, from);
            }
        }
    }
    free(stack);
    free(mask);
    qsort(boxes, count, sizeof *boxes, in_reading_order);
    return count;
}

/* A side of the picture as the first network wants it: scaled, and a multiple of 32. */
static int side(int pixels, double scale)
{
    const int rounded = (int)lround(pixels * scale / 32) * 32;
    return rounded > 32 ? rounded : 32;
}

static size_t find_lines(network *detector, const picture *from, box *boxes)
{
    const int shorter = from->width < from->height ? from->width : from->height;
    const int longer = from->width < from->height ? from->height : from->width;
    double scale = shorter < SHORTEST_SIDE ? (double)SHORTEST_SIDE / shorter : 1;
    scale = longer * scale > LONGEST_SIDE ? (double)LONGEST_SIDE / longer : scale;
    const int width = side(from->width, scale);
    const int height = side(from->height, scale);
    const box whole = {0, 0, from->width, from->height};
    fill_planes(from, whole, width, height, width, input_of(detector, width, height));
    const kiln_tensor map = result_of(detector);
    return boxes_in_map(map.data, (int)map.desc.shape.dims[3], (int)map.desc.shape.dims[2], from,
                        boxes);
}

/* --- reading lines --- */

/* The characters of the recognizer, one a line in its metadata. Class 0 is "nothing", the last one
 * a space. */
static size_t read_alphabet(const network *recognizer, char **text, const char **characters,
                            size_t room)
{
    size_t count = 1;
    for (size_t i = 0; i < kiln_engine_metadata_count(recognizer->engine); i++) {
        kiln_metadata line;
        require(kiln_engine_metadata(recognizer->engine, i, &line), "metadata");
        if (strcmp(line.key, "metadata.character") == 0) {
            *text = allocate(strlen(line.value) + 1, 1);
            memcpy(*text, line.value, strlen(line.value));
            char *rest = NULL;
            for (char *at = strtok_r(*text, "\n", &rest); at != NULL && count + 1 < room;
                 at = strtok_r(NULL, "\n", &rest)) {
                characters[count++] = at;
            }
            break;
        }
    }
    characters[count++] = " ";
    return count;
}

/* The likeliest class of each step; repetitions and "nothing" fall out (CTC). Returns the mean
 * score. */
static double decode(const kiln_tensor *result, const char **characters, size_t count, char *text,
                     size_t size)
{
    const int64_t steps = result->desc.shape.dims[1];
    const size_t classes = (size_t)result->desc.shape.dims[2];
    const float *scores = result->data;
    size_t before = 0;
    size_t used = 0;
    double sum = 0;
    int letters = 0;
    for (int64_t step = 0; step < steps; step++, scores += classes) {
        size_t best = 0;
        for (size_t i = 1; i < classes; i++) {
            best = scores[i] > scores[best] ? i : best;
        }
        if (best != 0 && best != before && best < count) {
            const size_t length = strlen(characters[best]);
            if (used + length < size) {
                memcpy(text + used, characters[best], length);
                used += length;
            }
            sum += (double)scores[best];
            letters++;
        }
        before = best;
    }
    text[used] = '\0';
    return letters > 0 ? sum / letters : 0;
}

static double read_line(network *recognizer, const picture *from, box part, const char **characters,
                        size_t count, char *text, size_t size)
{
    const double ratio = (double)(part.right - part.left) / (part.bottom - part.top);
    const double fitting = ceil(LINE_HEIGHT * ratio);
    const int width = fitting < LONGEST_LINE ? (int)fitting : LONGEST_LINE;
    const int padded = width > LINE_WIDTH ? width : LINE_WIDTH;
    float *planes = input_of(recognizer, padded, LINE_HEIGHT);
    memset(planes, 0, sizeof(float) * 3 * LINE_HEIGHT * (size_t)padded);
    fill_planes(from, part, width, LINE_HEIGHT, padded, planes);
    const kiln_tensor result = result_of(recognizer);
    return decode(&result, characters, count, text, size);
}

/* --- the program --- */

static void mark(cairo_surface_t *surface, const box *part)
{
    cairo_t *pen = cairo_create(surface);
    cairo_set_source_rgb(pen, 0.85, 0.15, 0.1);
    cairo_set_line_width(pen, 2);
    cairo_rectangle(pen, part->left, part->top, part->right - part->left, part->bottom - part->top);
    cairo_stroke(pen);
    cairo_destroy(pen);
}

int main(int count, char **arguments)
{
    static box boxes[MOST_LINES];
    static const char *characters[8192];
    const char *path = count > 1 && strcmp(arguments[1], "-") != 0 ? arguments[1] : NULL;
    const char *marked = count > 2 ? arguments[2] : "read_text.png";
    cairo_surface_t *surface = path != NULL ? load_png(path) : draw_sample();
    const picture seen = look_at(surface);
    const range pictures = {
        {32, 32}, {SHORTEST_SIDE, SHORTEST_SIDE}, {LONGEST_INPUT, LONGEST_INPUT}};
    const range strips = {
        {LINE_HEIGHT, LINE_WIDTH}, {LINE_HEIGHT, LINE_WIDTH}, {LINE_HEIGHT, LONGEST_LINE}};
    network detector = open_network("det", &pictures);
    network recognizer = open_network("rec", &strips);
    char *alphabet = NULL;
    const size_t letters = read_alphabet(&recognizer, &alphabet, characters, 8192);
    const size_t lines = find_lines(&detector, &seen, boxes);

    printf("%s, %d x %d pixels: %zu %s of text\n", path != NULL ? path : "a drawn picture",
           seen.width, seen.height, lines, lines == 1 ? "line" : "lines");
    for (size_t i = 0; i < lines; i++) {
        char text[1024];
        const double score =
            read_line(&recognizer, &seen, boxes[i], characters, letters, text, sizeof text);
        if (score >= TEXT_SCORE) {
            printf("  at %4d,%-4d  %3.0f %%  %s\n", boxes[i].left, boxes[i].top, 100 * score, text);
        }
    }
    /* After the last look at the pixels, because a line may reach into its neighbour's box. */
    for (size_t i = 0; i < lines; i++) {
        mark(surface, &boxes[i]);
    }
    const int failed = cairo_surface_write_to_png(surface, marked) != CAIRO_STATUS_SUCCESS;
    if (failed) {
        fprintf(stderr, "%s cannot be written\n", marked);
    } else {
        printf("the lines are marked in %s\n", marked);
    }
    free(alphabet);
    close_network(&recognizer);
    close_network(&detector);
    cairo_surface_destroy(surface);
    return failed;
}
