/* SPDX-License-Identifier: Apache-2.0 */
#include <glob.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "kiln_test.h"
#include "tensor/kln_tensor.h"

/* A file of version 1 whose header is `dictionary` and a line end, then `data`. */
static size_t compose(unsigned char *file, const char *dictionary, const void *data, size_t size)
{
    const size_t length = strlen(dictionary) + 1;
    memcpy(file, "\x93NUMPY\x01\x00", 8);
    file[8] = (unsigned char)(length & 0xff);
    file[9] = (unsigned char)(length >> 8);
    memcpy(file + 10, dictionary, length - 1);
    file[10 + length - 1] = '\n';
    if (size > 0) {
        memcpy(file + 10 + length, data, size);
    }
    return 10 + length + size;
}

static kiln_status read_text(const char *dictionary, const void *data, size_t size,
                             kiln_tensor *tensor)
{
    static unsigned char file[1024];
    const size_t length = compose(file, dictionary, data, size);
    return kln_npy_read((kiln_span){file, length}, tensor);
}

TEST(every_type_comes_back)
{
    static const struct {
        kiln_dtype saved;
        kiln_dtype loaded;
    } types[] = {
        {KILN_DTYPE_FLOAT32, KILN_DTYPE_FLOAT32},
        {KILN_DTYPE_FLOAT16, KILN_DTYPE_FLOAT16},
        {KILN_DTYPE_FLOAT64, KILN_DTYPE_FLOAT64},
        {KILN_DTYPE_INT8, KILN_DTYPE_INT8},
        {KILN_DTYPE_UINT8, KILN_DTYPE_UINT8},
        {KILN_DTYPE_INT16, KILN_DTYPE_INT16},
        {KILN_DTYPE_UINT16, KILN_DTYPE_UINT16},
        {KILN_DTYPE_INT32, KILN_DTYPE_INT32},
        {KILN_DTYPE_UINT32, KILN_DTYPE_UINT32},
        {KILN_DTYPE_INT64, KILN_DTYPE_INT64},
        {KILN_DTYPE_UINT64, KILN_DTYPE_UINT64},
        {KILN_DTYPE_BOOL, KILN_DTYPE_BOOL},
        {KILN_DTYPE_COMPLEX64, KILN_DTYPE_COMPLEX64},
        {KILN_DTYPE_COMPLEX128, KILN_DTYPE_COMPLEX128},
        {KILN_DTYPE_BFLOAT16, KILN_DTYPE_UINT16},
        {KILN_DTYPE_FLOAT8E4M3, KILN_DTYPE_UINT8},
        {KILN_DTYPE_FLOAT8E5M2, KILN_DTYPE_UINT8},
    };
    const kiln_shape shapes[] = {
        KILN_SHAPE_SCALAR,
        KILN_SHAPE(3),
        KILN_SHAPE(2, 3),
        KILN_SHAPE(2, 0, 3),
        KILN_SHAPE(1, 2, 1, 2, 1, 2, 1, 2),
    };
    static _Alignas(16) unsigned char data[256];
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (unsigned char)(i * 7 + 1);
    }
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(types); i++) {
        for (size_t s = 0; s < KLN_ARRAY_LENGTH(shapes); s++) {
            const kiln_tensor saved =
                KILN_HOST_TENSOR(types[i].saved, shapes[s], data, sizeof data);
            const char *path = kiln_test_path("round.npy");
            assert_ok(kiln_tensor_save_npy(&saved, path));
            struct stat facts;
            assert_int_equal(stat(path, &facts), 0);
            size_t bytes = 0;
            assert_ok(kiln_tensor_bytes(types[i].saved, &shapes[s], &bytes));
            assert_int_equal(((size_t)facts.st_size - bytes) % 64, 0);
            kiln_tensor loaded;
            assert_ok(kiln_tensor_load_npy(path, &loaded));
            assert_int_equal(loaded.desc.dtype, types[i].loaded);
            assert_true(kiln_shape_equal(&loaded.desc.shape, &shapes[s]));
            assert_int_equal(loaded.bytes, bytes);
            assert_memory_equal(loaded.data, data, bytes);
            assert_ok(kln_tensor_check("loaded", &loaded));
            kiln_tensor_free(&loaded);
            assert_null(loaded.data);
            assert_int_equal(loaded.desc.dtype, KILN_DTYPE_UNDEFINED);
        }
    }
    kiln_tensor_free(NULL);
    kiln_tensor none;
    memset(&none, 0, sizeof none);
    kiln_tensor_free(&none);
}

TEST(headers_of_other_writers_are_read)
{
    static const unsigned char bytes[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    static const struct {
        const char *dictionary;
        kiln_dtype dtype;
        unsigned char first[2];
    } cases[] = {
        {"{'descr': '<i2', 'fortran_order': False, 'shape': (4,), }", KILN_DTYPE_INT16, {0, 1}},
        {"{'descr': '>i2', 'fortran_order': False, 'shape': (4,)}", KILN_DTYPE_INT16, {1, 0}},
        {"{\"shape\":(2,2),\"fortran_order\":False,\"descr\":\"=i2\"}", KILN_DTYPE_INT16, {0, 1}},
        {"  { 'shape' : ( 1 , 4 , ) , 'descr' : 'i2' , 'fortran_order' : False }  ",
         KILN_DTYPE_INT16,
         {0, 1}},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (2L, 4L)}", KILN_DTYPE_UINT8, {0, 1}},
        {"{'descr': '>u1', 'fortran_order': False, 'shape': (8,)}", KILN_DTYPE_UINT8, {0, 1}},
        {"{'descr': '>f8', 'fortran_order': False, 'shape': ()}", KILN_DTYPE_FLOAT64, {7, 6}},
        {"{'descr': '>c8', 'fortran_order': False, 'shape': ()}", KILN_DTYPE_COMPLEX64, {3, 2}},
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(cases); i++) {
        kiln_tensor tensor;
        assert_ok(read_text(cases[i].dictionary, bytes, sizeof bytes, &tensor));
        assert_int_equal(tensor.desc.dtype, cases[i].dtype);
        assert_memory_equal(tensor.data, cases[i].first, 2);
        kiln_tensor_free(&tensor);
    }
    /* Versions 2 and 3 have four bytes for the length. */
    for (unsigned char version = 2; version <= 3; version++) {
        unsigned char file[256];
        const char *dictionary = "{'descr': '|i1', 'fortran_order': False, 'shape': (2,)}";
        const size_t length = strlen(dictionary);
        memcpy(file, "\x93NUMPY", 6);
        file[6] = version;
        file[7] = 0;
        file[8] = (unsigned char)length;
        memset(file + 9, 0, 3);
        memcpy(file + 12, dictionary, length);
        memcpy(file + 12 + length, bytes, 2);
        kiln_tensor tensor;
        assert_ok(kln_npy_read((kiln_span){file, 12 + length + 2}, &tensor));
        assert_memory_equal(tensor.data, bytes, 2);
        kiln_tensor_free(&tensor);
    }
}

TEST(bad_headers_are_refused)
{
    static const struct {
        const char *dictionary;
        kiln_status status;
        const char *words;
    } cases[] = {
        {"", KILN_ERROR_MALFORMED, "the { of a dictionary"},
        {"[]", KILN_ERROR_MALFORMED, "byte 10 of the .npy header: the { of a dictionary"},
        {"{}", KILN_ERROR_MALFORMED, "without \"descr\""},
        {"{'descr': '<f4'}", KILN_ERROR_MALFORMED, "without \"fortran_order\""},
        {"{'descr': '<f4', 'fortran_order': False}", KILN_ERROR_MALFORMED, "without \"shape\""},
        {"{'shape': (1,), 'shape': (1,)}", KILN_ERROR_MALFORMED, "\"shape\" stands there twice"},
        {"{'descr': '<f4', 'descr': '<f4'}", KILN_ERROR_MALFORMED, "twice"},
        {"{'fortran_order': False, 'fortran_order': False}", KILN_ERROR_MALFORMED, "twice"},
        {"{'color': 'red'}", KILN_ERROR_MALFORMED, "byte 11 of the .npy header: the key is not"},
        {"{'shape' (1,)}", KILN_ERROR_MALFORMED, "a colon is needed, this is ("},
        {"{'shape': 1}", KILN_ERROR_MALFORMED, "the ( of a shape"},
        {"{'shape': (1)}", KILN_ERROR_MALFORMED, "comma of a shape"},
        {"{'shape': (1 2)}", KILN_ERROR_MALFORMED, ", or )"},
        {"{'shape': (-1,)}", KILN_ERROR_MALFORMED, "a dimension is needed, this is -"},
        {"{'shape': (,)}", KILN_ERROR_MALFORMED, "a dimension is needed"},
        {"{'shape': (9223372036854775808,)}", KILN_ERROR_MALFORMED, "passes"},
        {"{'shape': (1,) 'descr'", KILN_ERROR_MALFORMED, ", or }"},
        {"{'shape': (1,", KILN_ERROR_MALFORMED, "the .npy header ends at byte 24"},
        {"{'shape: (1,)", KILN_ERROR_MALFORMED, "the string that begins here has no end"},
        {"{'fortran_order': 0}", KILN_ERROR_MALFORMED, "True or False"},
        {"{shape: (1,)}", KILN_ERROR_MALFORMED, "a key of the dictionary is needed, this is s"},
        {"{\x01", KILN_ERROR_MALFORMED, "this is \\x01"},
        {"{'descr': 4}", KILN_ERROR_MALFORMED, "a type like '<f4'"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': ()} x", KILN_ERROR_MALFORMED,
         "the end of the header"},
        {"{'shape': (1,1,1,1,1,1,1,1,1)}", KILN_ERROR_RANK, "more than 8 dimensions"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 2)}",
         KILN_ERROR_LIMIT, "9223372036854775807x2"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807,)}",
         KILN_ERROR_LIMIT, "addresses"},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (1, 1)}", KILN_ERROR_UNSUPPORTED,
         "Fortran order"},
        {"{'descr': '|O'}", KILN_ERROR_UNSUPPORTED, "Python objects (\"|O\")"},
        {"{'descr': '|S'}", KILN_ERROR_UNSUPPORTED, "\"|S\" is not known"},
        {"{'descr': '<U5x'}", KILN_ERROR_UNSUPPORTED, "\"<U5x\" is not known"},
        {"{'descr': '|S99999999999'}", KILN_ERROR_UNSUPPORTED, "is not known"},
        {"{'descr': '|T16'}", KILN_ERROR_UNSUPPORTED, "strings of variable width"},
        {"{'descr': '|S5', 'fortran_order': False, 'shape': (1,)}", KILN_ERROR_MALFORMED,
         "the shape is of 1 string with 5 bytes each, 4 bytes follow the header"},
        {"{'descr': '|S0', 'fortran_order': False, 'shape': (9999999999,)}", KILN_ERROR_MALFORMED,
         "of 9999999999 strings with 0 bytes each, 4 bytes"},
        {"{'descr': '<U1', 'fortran_order': False, 'shape': (1,)}", KILN_ERROR_MALFORMED,
         "string 0 has a number that is no character's"},
        {"{'descr': '|V2'}", KILN_ERROR_UNSUPPORTED, "records or raw bytes"},
        {"{'descr': '<M8[ns]'}", KILN_ERROR_UNSUPPORTED, "dates"},
        {"{'descr': '<f16'}", KILN_ERROR_UNSUPPORTED, "floats of a size"},
        {"{'descr': '<q9'}", KILN_ERROR_UNSUPPORTED, "\"<q9\" is not known"},
        {"{'descr': ''}", KILN_ERROR_UNSUPPORTED, "\"\" is not known"},
        {"{'descr': '<'}", KILN_ERROR_UNSUPPORTED, "\"<\" is not known"},
        {"{'descr': [('a', '<f4')]}", KILN_ERROR_UNSUPPORTED, "records (a list of fields"},
        {"{'descr': ('<f4', (2,))}", KILN_ERROR_UNSUPPORTED, "arrays (a type with a shape"},
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(cases); i++) {
        kiln_tensor tensor = KILN_HOST_TENSOR(KILN_DTYPE_INT8, KILN_SHAPE(1), NULL, 0);
        assert_fails(cases[i].status, read_text(cases[i].dictionary, "1234", 4, &tensor),
                     cases[i].words);
        assert_int_equal(tensor.desc.dtype, KILN_DTYPE_INT8);
    }
    kiln_tensor tensor;
    static const char dictionary[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}";
    assert_fails(KILN_ERROR_MALFORMED, read_text(dictionary, "", 0, &tensor),
                 "float32 elements in the shape 2x3 take 24 bytes, 0 stand after the header");
    static const unsigned char data[25];
    assert_fails(KILN_ERROR_MALFORMED, read_text(dictionary, data, 25, &tensor),
                 "take 24 bytes, 25 stand after the header at byte 68");
    assert_fails(KILN_ERROR_UNSUPPORTED,
                 kln_npy_read((kiln_span){"\x93NUMPY\x04\x00\x01\x00{", 11}, &tensor),
                 "version 4.0");
    assert_fails(KILN_ERROR_MALFORMED,
                 kln_npy_read((kiln_span){"\x93NUMPY\x01\x00\xff\x00{", 11}, &tensor),
                 "is 255 bytes long, as it says, and the file has 1 more");
    assert_status(KILN_ERROR_MALFORMED, kln_npy_read((kiln_span){"\x93NUMPY", 6}, &tensor));
    assert_fails(KILN_ERROR_MALFORMED, kln_npy_read((kiln_span){"NUMPY", 5}, &tensor),
                 "byte 0: this is not a .npy file");
    assert_status(KILN_ERROR_MALFORMED, kln_npy_read((kiln_span){NULL, 0}, &tensor));
}

static size_t example(unsigned char *file)
{
    static const int32_t data[] = {1, -2, 3, -4, 5, -6};
    return compose(file, "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3), }         ",
                   data, sizeof data);
}

TEST(no_truncation_gets_through)
{
    unsigned char file[256];
    const size_t whole = example(file);
    for (size_t size = 0; size < whole; size++) {
        /* A copy of just that size, so that AddressSanitizer sees a read past it. */
        unsigned char *part = malloc(size + (size == 0));
        assert_non_null(part);
        memcpy(part, file, size);
        kiln_tensor tensor;
        assert_status(KILN_ERROR_MALFORMED, kln_npy_read((kiln_span){part, size}, &tensor));
        free(part);
    }
    kiln_tensor tensor;
    assert_ok(kln_npy_read((kiln_span){file, whole}, &tensor));
    kiln_tensor_free(&tensor);
}

TEST(flipped_bits_do_no_harm)
{
    unsigned char file[256];
    const size_t whole = example(file);
    const size_t header = whole - 24;
    size_t refused = 0;
    for (size_t bit = 0; bit < whole * 8; bit++) {
        file[bit / 8] ^= (unsigned char)(1u << bit % 8);
        kiln_tensor tensor;
        const kiln_status status = kln_npy_read((kiln_span){file, whole}, &tensor);
        if (status == KILN_OK) {
            /* All that is there, whatever it now means: strings of four bytes (a4) too. */
            assert_int_equal(tensor.bytes, tensor.desc.dtype == KILN_DTYPE_STRING ? 96 : 24);
            kiln_tensor_free(&tensor);
        } else {
            assert_true(bit / 8 < header);
            assert_true(status == KILN_ERROR_MALFORMED || status == KILN_ERROR_UNSUPPORTED);
            refused++;
        }
        file[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    /* What gets through is 'i' to 'u' and back, and white space to other white space. */
    assert_true(refused > header * 8 - 40);
}

static kiln_status save_and_load(void *user)
{
    const char *path = user;
    static int32_t data[6];
    const kiln_tensor saved =
        KILN_HOST_TENSOR(KILN_DTYPE_INT32, KILN_SHAPE(2, 3), data, sizeof data);
    kiln_tensor loaded;
    memset(&loaded, 0, sizeof loaded);
    TRY(kiln_tensor_save_npy(&saved, path));
    TRY(kiln_tensor_load_npy(path, &loaded));
    kiln_tensor_free(&loaded);
    return KILN_OK;
}

TEST(every_allocation_may_fail)
{
    const char *path = kiln_test_path("memory.npy");
    kiln_test_each_allocation(save_and_load, (void *)(uintptr_t)path);
}

TEST(files_that_are_not_there)
{
    kiln_tensor tensor = KILN_HOST_TENSOR(KILN_DTYPE_INT8, KILN_SHAPE(1), NULL, 7);
    assert_fails(KILN_ERROR_NOT_FOUND, kiln_tensor_load_npy(kiln_test_path("absent.npy"), &tensor),
                 "absent.npy");
    assert_status(KILN_ERROR_NOT_A_FILE, kiln_tensor_load_npy("/", &tensor));
    assert_status(KILN_ERROR_EMPTY,
                  kiln_tensor_load_npy(kiln_test_file("empty.npy", "", 0), &tensor));
    assert_fails(KILN_ERROR_MALFORMED,
                 kiln_tensor_load_npy(kiln_test_file("text.npy", "hello\n", 6), &tensor),
                 "text.npy\": byte 0: this is not a .npy file");
    assert_int_equal(tensor.bytes, 7);
}

TEST(what_cannot_be_saved)
{
    static float data[6];
    const char *path = kiln_test_path("unsaved.npy");
    const kiln_tensor good =
        KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(2, 3), data, sizeof data);
    kiln_tensor bad = good;
    bad.bytes = 23;
    assert_status(KILN_ERROR_SIZE, kiln_tensor_save_npy(&bad, path));
    bad = good;
    bad.desc.location = KILN_LOCATION_DEVICE;
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_tensor_save_npy(&bad, path), "device memory");
    bad = good;
    bad.desc.format = KILN_FORMAT_CHW4;
    assert_status(KILN_ERROR_UNSUPPORTED, kiln_tensor_save_npy(&bad, path));
    bad = good;
    bad.desc.strides = (kiln_strides){2, {1, 2}};
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_tensor_save_npy(&bad, path), "strides");
    bad = good;
    bad.desc.dtype = KILN_DTYPE_INT4;
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_tensor_save_npy(&bad, path), "int4");
    bad.desc.dtype = KILN_DTYPE_UNDEFINED;
    assert_status(KILN_ERROR_DTYPE, kiln_tensor_save_npy(&bad, path));
    assert_false(kln_file_exists(path));
    assert_status(KILN_ERROR_NOT_FOUND,
                  kiln_tensor_save_npy(&good, kiln_test_path("no/such/folder.npy")));
    /* A file that may not grow as far: neither it nor what was written of it stays. */
    const pid_t child = fork();
    if (child == 0) {
        const struct rlimit limit = {100, 100};
        (void)signal(SIGXFSZ, SIG_IGN);
        (void)setrlimit(RLIMIT_FSIZE, &limit);
        _exit(kiln_tensor_save_npy(&good, path) == KILN_ERROR_IO &&
                      strstr(kiln_error_message(), "writing failed") != NULL
                  ? 0
                  : 1);
    }
    int result = 1;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
    assert_false(kln_file_exists(path));
    char pattern[4096];
    glob_t found;
    (void)snprintf(pattern, sizeof pattern, "%s*", kiln_test_path("unsaved"));
    assert_int_equal(glob(pattern, 0, NULL, &found), GLOB_NOMATCH);
}

/* The exit status of a shell command. */
static int shell(const char *command)
{
    const pid_t child = fork();
    if (child == 0) {
        (void)execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    int result = -1;
    assert_int_equal(waitpid(child, &result, 0), child);
    return WIFEXITED(result) ? WEXITSTATUS(result) : -1;
}

/* NumPy writes, Kiln reads and writes again, NumPy reads that and compares. */
TEST(numpy_agrees)
{
    const char *python = kiln_test_deps("python/bin/python3");
    char command[8192];
    (void)snprintf(command, sizeof command, "%s -c 'import numpy' 2>/dev/null", python);
    if (access(python, X_OK) != 0 || shell(command) != 0) {
        print_message("NumPy is not installed in %s: skipped\n", kiln_test_deps_folder);
        skip();
    }
    char folder[2048];
    (void)snprintf(folder, sizeof folder, "%s", kiln_test_path("."));
    (void)snprintf(
        command, sizeof command,
        "cd '%s' && %s -c \"\n"
        "import numpy as n\n"
        "kinds = 'f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 ?  c8 c16'.split()\n"
        "shapes = [(), (5,), (2, 3), (4, 0, 2), (1, 2, 1, 3, 1, 2, 1, 2)]\n"
        "i = 0\n"
        "for kind in kinds:\n"
        "  for order in '<>':\n"
        "    for shape in shapes:\n"
        "      a = (n.random.default_rng(i).standard_normal(shape) * 99)\n"
        "      n.save('n%%d.npy' %% i, n.asarray(a).astype(kind).astype(order + kind))\n"
        "      i += 1\n"
        "n.lib.format.write_array(open('n%%d.npy' %% i, 'wb'), n.arange(6.), version=(2, 0))\n"
        "n.lib.format.write_array(open('n%%d.npy' %% (i + 1), 'wb'), n.arange(6.), "
        "version=(3, 0))\n"
        "open('count', 'w').write(str(i + 2))\n\"",
        folder, python);
    assert_int_equal(shell(command), 0);
    FILE *file = fopen(kiln_test_path("count"), "r");
    assert_non_null(file);
    char digits[32] = "";
    assert_non_null(fgets(digits, sizeof digits, file));
    const int count = (int)strtol(digits, NULL, 10);
    (void)fclose(file);
    assert_int_equal(count, 14 * 2 * 5 + 2);
    for (int i = 0; i < count; i++) {
        char name[32];
        kiln_tensor tensor;
        (void)snprintf(name, sizeof name, "n%d.npy", i);
        assert_ok(kiln_tensor_load_npy(kiln_test_path(name), &tensor));
        name[0] = 'k';
        assert_ok(kiln_tensor_save_npy(&tensor, kiln_test_path(name)));
        kiln_tensor_free(&tensor);
    }
    (void)snprintf(command, sizeof command,
                   "cd '%s' && %s -W error -c \"\n"
                   "import numpy as n\n"
                   "for i in range(%d):\n"
                   "  a, b = n.load('n%%d.npy' %% i), n.load('k%%d.npy' %% i)\n"
                   "  assert a.dtype.newbyteorder('=') == b.dtype, (i, a.dtype, b.dtype)\n"
                   "  assert a.shape == b.shape and b.dtype.isnative, (i, a.shape, b.shape)\n"
                   "  assert a.astype(b.dtype).tobytes() == b.tobytes(), i\n\"",
                   folder, python, count);
    assert_int_equal(shell(command), 0);
}
