/* SPDX-License-Identifier: Apache-2.0 */
/* .npz files: a zip archive made here, byte for byte, and what is changed in it. NumPy's own are
 * read by tests/cli (calibrate) and tests/fuzz/corpus/npz. */
#include "kiln_test.h"
#include "tensor/kln_tensor.h"

typedef struct archive {
    unsigned char data[8192];
    size_t size;
    unsigned char entries[4096];
    size_t entries_size;
    unsigned count;
} archive;

static void put(unsigned char *data, size_t *at, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        data[(*at)++] = (unsigned char)(i < 8 ? value >> (8 * i) : 0);
    }
}

static void put_bytes(unsigned char *data, size_t *at, const void *bytes, size_t size)
{
    memcpy(data + *at, bytes, size);
    *at += size;
}

/* Bit by bit: slow, and not the one that is tested. */
static uint32_t crc_of(const unsigned char *data, size_t size)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < size * 8; i++) {
        const uint32_t bit = (crc ^ (uint32_t)(data[i / 8] >> (i % 8))) & 1;
        crc = crc >> 1 ^ (bit != 0 ? UINT32_C(0xedb88320) : 0);
    }
    return ~crc;
}

/* A deflated file is one block that is stored as it is: five bytes before it. */
static void add(archive *zip, const char *name, const unsigned char *npy, size_t size,
                unsigned method, bool zip64)
{
    const uint64_t offset = zip->size;
    const size_t packed = size + (method == 8 ? 5 : 0);
    const uint32_t crc = crc_of(npy, size);
    put(zip->data, &zip->size, 0x04034b50, 4);
    put(zip->data, &zip->size, 0, 22); /* only the directory is believed */
    put(zip->data, &zip->size, strlen(name), 2);
    put(zip->data, &zip->size, 3, 2);
    put_bytes(zip->data, &zip->size, name, strlen(name));
    put_bytes(zip->data, &zip->size, "ext", 3);
    if (method == 8) {
        put(zip->data, &zip->size, 1, 1);
        put(zip->data, &zip->size, size, 2);
        put(zip->data, &zip->size, ~size, 2);
    }
    put_bytes(zip->data, &zip->size, npy, size);
    unsigned char *entry = zip->entries;
    size_t *at = &zip->entries_size;
    put(entry, at, 0x02014b50, 4);
    put(entry, at, 0, 4);
    put(entry, at, 0, 2);
    put(entry, at, method, 2);
    put(entry, at, 0, 4);
    put(entry, at, crc, 4);
    put(entry, at, zip64 ? UINT32_MAX : packed, 4);
    put(entry, at, zip64 ? UINT32_MAX : size, 4);
    put(entry, at, strlen(name), 2);
    put(entry, at, zip64 ? 4 + 4 + 28 : 0, 2);
    put(entry, at, 0, 10);
    put(entry, at, zip64 ? UINT32_MAX : offset, 4);
    put_bytes(entry, at, name, strlen(name));
    if (zip64) {
        put(entry, at, UINT64_C(0x00000000cafe), 4); /* an extra field of somebody else's */
        put(entry, at, 1, 2);
        put(entry, at, 24, 2);
        put(entry, at, size, 8);
        put(entry, at, packed, 8);
        put(entry, at, offset, 8);
        put(entry, at, 0, 4);
    }
    zip->count++;
}

static kiln_span finish(archive *zip, const char *comment)
{
    const size_t begin = zip->size;
    put_bytes(zip->data, &zip->size, zip->entries, zip->entries_size);
    put(zip->data, &zip->size, 0x06054b50, 4);
    put(zip->data, &zip->size, 0, 4);
    put(zip->data, &zip->size, zip->count, 2);
    put(zip->data, &zip->size, zip->count, 2);
    put(zip->data, &zip->size, zip->entries_size, 4);
    put(zip->data, &zip->size, begin, 4);
    put(zip->data, &zip->size, strlen(comment), 2);
    put_bytes(zip->data, &zip->size, comment, strlen(comment));
    return (kiln_span){zip->data, zip->size};
}

/* An array of one float. */
static size_t npy_of(float value, unsigned char npy[256])
{
    static const char header[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }\n";
    size_t at = 0;
    put_bytes(npy, &at, "\x93NUMPY\x01\x00", 8);
    put(npy, &at, sizeof header - 1, 2);
    put_bytes(npy, &at, header, sizeof header - 1);
    put_bytes(npy, &at, &value, 4);
    return at;
}

static void assert_arrays(kiln_span file, size_t expected)
{
    kiln_named_tensor *tensors = NULL;
    size_t count = 0;
    assert_ok(kln_npz_read(file, &tensors, &count));
    assert_int_equal(count, expected);
    for (size_t i = 0; i < count; i++) {
        char name[32];
        float value = 0;
        (void)snprintf(name, sizeof name, "a/b:%zu", i);
        assert_string_equal(tensors[i].name, name);
        memcpy(&value, tensors[i].tensor.data, sizeof value);
        assert_true(value == (float)i);
    }
    kiln_tensors_free(tensors, count);
}

static void make(archive *zip, const char *const *names, size_t count)
{
    *zip = (archive){.size = 0};
    for (size_t i = 0; i < count; i++) {
        unsigned char npy[256];
        add(zip, names[i], npy, npy_of((float)i, npy), i % 2 == 0 ? 0 : 8, i % 3 == 2);
    }
}

static const char *const names[] = {"a/b:0.npy", "a/b:1.npy", "a/b:2.npy", "a/b:3", "a/b:4.npy"};

TEST(stored_and_deflated_arrays_are_read)
{
    archive zip;
    make(&zip, names, 5);
    assert_arrays(finish(&zip, "a comment"), 5);
    make(&zip, names, 0);
    assert_arrays(finish(&zip, ""), 0);
}

/* Every byte of the archive changed in turn: an error with a sentence, or the arrays as they are,
 * for some bytes mean nothing; never other numbers. */
TEST(a_changed_byte_is_an_error_or_nothing)
{
    archive zip;
    make(&zip, names, 3);
    const kiln_span file = finish(&zip, "");
    for (size_t i = 0; i < file.size; i++) {
        kiln_named_tensor *tensors = NULL;
        size_t count = 0;
        zip.data[i] ^= 0x41;
        if (kln_npz_read(file, &tensors, &count) == KILN_OK) {
            for (size_t k = 0; k < count; k++) {
                float value = -1;
                memcpy(&value, tensors[k].tensor.data, sizeof value);
                assert_true(value == (float)k);
            }
            kiln_tensors_free(tensors, count);
        } else {
            assert_null(tensors);
            assert_true(kiln_error_message()[0] != '\0');
        }
        zip.data[i] ^= 0x41;
    }
}

TEST(what_is_no_archive_of_arrays_is_refused)
{
    static const struct {
        const char *names[2];
        unsigned method;
        kiln_status status;
        const char *words;
    } cases[] = {
        {{"x.npy", "x"}, 0, KILN_ERROR_MALFORMED, "stands there twice"},
        {{"x.npy", ""}, 0, KILN_ERROR_MALFORMED, "is empty"},
        {{"x.npy", "y.npy"}, 12, KILN_ERROR_UNSUPPORTED, "array \"y\": it is packed by method 12"},
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(cases); i++) {
        archive zip = {.size = 0};
        unsigned char npy[256];
        kiln_named_tensor *tensors = NULL;
        size_t count = 0;
        add(&zip, cases[i].names[0], npy, npy_of(1, npy), 0, false);
        add(&zip, cases[i].names[1], npy, npy_of(1, npy), cases[i].method, false);
        assert_fails(cases[i].status, kln_npz_read(finish(&zip, ""), &tensors, &count),
                     cases[i].words);
        assert_null(tensors);
    }
    kiln_named_tensor *tensors = NULL;
    size_t count = 0;
    const char *path = kiln_test_file("text.npz", "hello, this is no archive", 25);
    assert_fails(KILN_ERROR_MALFORMED, kiln_tensors_load_npz(path, &tensors, &count),
                 "text.npz\": this is not a .npz file");
}

static kiln_status live(void *user)
{
    kiln_named_tensor *tensors = NULL;
    size_t count = 0;
    const kiln_status status = kln_npz_read(*(const kiln_span *)user, &tensors, &count);
    kiln_tensors_free(tensors, count);
    return status;
}

TEST(every_allocation_may_fail)
{
    archive zip;
    make(&zip, names, 4);
    kiln_span file = finish(&zip, "");
    kiln_test_each_allocation(live, &file);
}
