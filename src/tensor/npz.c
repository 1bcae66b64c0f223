/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NumPy's archive of arrays: a zip file of .npy files, stored by numpy.savez or deflated by
 * numpy.savez_compressed. The format of zip files, including zip64:
 * https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
 */
#include <zlib.h>

#include "kln_tensor.h"

enum { END_SIZE = 22, LOCATOR_SIZE = 20, END64_SIZE = 56, ENTRY_SIZE = 46, LOCAL_SIZE = 30 };
#define END_MARK UINT32_C(0x06054b50)
#define LOCATOR_MARK UINT32_C(0x07064b50)
#define END64_MARK UINT32_C(0x06064b50)
#define ENTRY_MARK UINT32_C(0x02014b50)
#define LOCAL_MARK UINT32_C(0x04034b50)
#define IN_ZIP64 UINT32_C(0xffffffff)
#define LONGEST_COMMENT 65535
#define ENCRYPTED 1U
enum { STORED = 0, DEFLATED = 8 };
/* Deflate expands one byte to at most 1032: https://zlib.net/zlib_tech.html */
#define LARGEST_RATIO 1032

typedef struct entry {
    const char *name;
    size_t name_size;
    unsigned flags, method;
    uint32_t crc;
    uint64_t packed, size, offset;
} entry;

static uint64_t number_at(kiln_span file, size_t at, size_t bytes)
{
    const unsigned char *data = file.data;
    uint64_t value = 0;
    for (size_t i = bytes; i-- > 0;) {
        value = value << 8 | data[at + i];
    }
    return value;
}

static uint32_t word_at(kiln_span file, size_t at)
{
    return (uint32_t)number_at(file, at, 4);
}

static size_t half_at(kiln_span file, size_t at)
{
    return (size_t)number_at(file, at, 2);
}

static bool is_inside(kiln_span file, uint64_t at, uint64_t size)
{
    return at <= file.size && size <= file.size - at;
}

static bool is_marked(kiln_span file, uint64_t at, size_t size, uint32_t mark)
{
    return is_inside(file, at, size) && word_at(file, (size_t)at) == mark;
}

/* --- the directory at the end of the file --- */

typedef struct directory {
    uint64_t count, at;
} directory;

static kiln_status find_directory(kiln_span file, directory *found)
{
    size_t at = file.size >= END_SIZE ? file.size - END_SIZE : 0;
    const size_t last = at > LONGEST_COMMENT ? at - LONGEST_COMMENT : 0;
    while (at > last && !is_marked(file, at, END_SIZE, END_MARK)) {
        at--;
    }
    KLN_RETURN_IF(!is_marked(file, at, END_SIZE, END_MARK), KILN_ERROR_MALFORMED,
                  "this is not a .npz file: the end of a zip archive's directory is missing");
    *found = (directory){half_at(file, at + 10), word_at(file, at + 16)};
    if (at >= LOCATOR_SIZE && is_marked(file, at - LOCATOR_SIZE, LOCATOR_SIZE, LOCATOR_MARK)) {
        const uint64_t end = number_at(file, at - LOCATOR_SIZE + 8, 8);
        KLN_RETURN_IF(!is_marked(file, end, END64_SIZE, END64_MARK), KILN_ERROR_MALFORMED,
                      "the zip archive's directory does not end at byte %llu, as it says",
                      (unsigned long long)end);
        *found =
            (directory){number_at(file, (size_t)end + 32, 8), number_at(file, (size_t)end + 48, 8)};
    }
    KLN_RETURN_IF(found->count > file.size / ENTRY_SIZE, KILN_ERROR_MALFORMED,
                  "a zip archive of %zu bytes has no room for %llu files", file.size,
                  (unsigned long long)found->count);
    return KILN_OK;
}

/* Reads the numbers that do not fit in 32 bits, in their order. */
static void read_zip64(kiln_span file, size_t at, size_t end, entry *found)
{
    uint64_t *const wide[] = {&found->size, &found->packed, &found->offset};
    while (end - at >= 4) {
        const size_t id = half_at(file, at);
        const size_t size = half_at(file, at + 2);
        at += 4;
        if (size > end - at) {
            return;
        }
        size_t next = at;
        for (size_t i = 0; id == 1 && i < KLN_ARRAY_LENGTH(wide); i++) {
            if (*wide[i] == IN_ZIP64 && at + size - next >= 8) {
                *wide[i] = number_at(file, next, 8);
                next += 8;
            }
        }
        at += size;
    }
}

static kiln_status read_entry(kiln_span file, uint64_t *at, entry *found)
{
    KLN_RETURN_IF(!is_marked(file, *at, ENTRY_SIZE, ENTRY_MARK), KILN_ERROR_MALFORMED,
                  "byte %llu is no entry of a zip archive's directory", (unsigned long long)*at);
    const size_t begin = (size_t)*at;
    const size_t name = half_at(file, begin + 28);
    const size_t extra = half_at(file, begin + 30);
    const size_t size = ENTRY_SIZE + name + extra + half_at(file, begin + 32);
    KLN_RETURN_IF(!is_inside(file, begin, size), KILN_ERROR_MALFORMED,
                  "the zip archive's directory is cut off at byte %zu", begin);
    *found = (entry){.name = (const char *)file.data + begin + ENTRY_SIZE,
                     .name_size = name,
                     .flags = (unsigned)half_at(file, begin + 8),
                     .method = (unsigned)half_at(file, begin + 10),
                     .crc = word_at(file, begin + 16),
                     .packed = word_at(file, begin + 20),
                     .size = word_at(file, begin + 24),
                     .offset = word_at(file, begin + 42)};
    read_zip64(file, begin + ENTRY_SIZE + name, begin + ENTRY_SIZE + name + extra, found);
    *at += size;
    return KILN_OK;
}

/* --- one array --- */

static void *zip_allocate(void *user, unsigned count, unsigned size)
{
    (void)user;
    return kln_alloc_zeroed(count, size);
}

static void zip_release(void *user, void *memory)
{
    (void)user;
    kln_free(memory);
}

/* zlib counts in 32 bits, so large arrays are inflated in pieces. */
static int inflate_all(z_stream *stream, kiln_span packed, kiln_mutable_span whole)
{
    const size_t piece = (size_t)1 << 30;
    int result = Z_OK;
    union {
        const void *from;
        unsigned char *to; /* zlib does not write here, although the pointer is not const */
    } in = {packed.data};
    stream->next_in = in.to;
    stream->next_out = whole.data;
    while (result == Z_OK || (result == Z_BUF_ERROR && (packed.size > 0 || whole.size > 0))) {
        const size_t given = packed.size < piece ? packed.size : piece;
        const size_t room = whole.size < piece ? whole.size : piece;
        stream->avail_in = (unsigned)given;
        stream->avail_out = (unsigned)room;
        result = inflate(stream, Z_NO_FLUSH);
        packed.size -= given - stream->avail_in;
        whole.size -= room - stream->avail_out;
        if (given == stream->avail_in && room == stream->avail_out) {
            break;
        }
    }
    if (result == Z_MEM_ERROR) {
        return result;
    }
    return result == Z_STREAM_END && whole.size == 0 ? Z_OK : Z_DATA_ERROR;
}

static kiln_status unpack(kiln_span packed, kiln_mutable_span whole)
{
    z_stream stream = {.zalloc = zip_allocate, .zfree = zip_release};
    int result = inflateInit2(&stream, -MAX_WBITS);
    if (result == Z_OK) {
        result = inflate_all(&stream, packed, whole);
        (void)inflateEnd(&stream);
    }
    KLN_FAIL_IF(result == Z_MEM_ERROR, kln_fail_memory(whole.size, "an array of a .npz file"));
    return result == Z_OK
               ? KILN_OK
               : kln_fail(KILN_ERROR_MALFORMED,
                          "it cannot be inflated to the %zu bytes it should have", whole.size);
}

static uint32_t checksum(const unsigned char *data, size_t size)
{
    unsigned long crc = crc32(0, NULL, 0);
    while (size > 0) {
        const size_t piece = size < ((size_t)1 << 30) ? size : (size_t)1 << 30;
        crc = crc32(crc, data, (unsigned)piece);
        data += piece;
        size -= piece;
    }
    return (uint32_t)crc;
}

static kiln_status read_checked(kiln_span npy, uint32_t crc, kiln_tensor *tensor)
{
    return checksum(npy.data, npy.size) == crc
               ? kln_npy_read(npy, tensor)
               : kln_fail(KILN_ERROR_MALFORMED, "its checksum does not fit its bytes");
}

static kiln_status read_deflated(kiln_span packed, const entry *of, kiln_tensor *tensor)
{
    KLN_RETURN_IF(of->size / LARGEST_RATIO > packed.size, KILN_ERROR_MALFORMED,
                  "%zu bytes cannot inflate to %llu", packed.size, (unsigned long long)of->size);
    KLN_SCOPED_FREE unsigned char *whole = kln_alloc((size_t)of->size);
    KLN_RETURN_IF_NO_MEMORY(whole, (size_t)of->size, "an array of a .npz file");
    KLN_RETURN_IF_ERROR(unpack(packed, (kiln_mutable_span){whole, (size_t)of->size}));
    return read_checked((kiln_span){whole, (size_t)of->size}, of->crc, tensor);
}

static kiln_status read_array(kiln_span file, const entry *of, kiln_tensor *tensor)
{
    KLN_RETURN_IF((of->flags & ENCRYPTED) != 0 || (of->method != STORED && of->method != DEFLATED),
                  KILN_ERROR_UNSUPPORTED,
                  "it is packed by method %u%s; numpy.savez and savez_compressed store and deflate",
                  of->method, (of->flags & ENCRYPTED) != 0 ? " and encrypted" : "");
    KLN_RETURN_IF(!is_marked(file, of->offset, LOCAL_SIZE, LOCAL_MARK), KILN_ERROR_MALFORMED,
                  "byte %llu is no file of a zip archive", (unsigned long long)of->offset);
    const uint64_t begin = of->offset + LOCAL_SIZE + half_at(file, (size_t)of->offset + 26) +
                           half_at(file, (size_t)of->offset + 28);
    KLN_RETURN_IF(
        !is_inside(file, begin, of->packed) || (of->method == STORED && of->packed != of->size),
        KILN_ERROR_MALFORMED, "its %llu bytes from byte %llu on are not all in the file",
        (unsigned long long)of->packed, (unsigned long long)begin);
    const kiln_span packed = {(const char *)file.data + begin, (size_t)of->packed};
    return of->method == STORED ? read_checked(packed, of->crc, tensor)
                                : read_deflated(packed, of, tensor);
}

/* --- all arrays --- */

static bool is_named(const kiln_named_tensor *tensors, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(tensors[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* "x.npy" holds the array "x". Names are stored after the list. */
static kiln_status take_name(const entry *of, char **room, const kiln_named_tensor *tensors,
                             size_t count, const char **name)
{
    const size_t size = of->name_size;
    const size_t length = size > 4 && memcmp(of->name + size - 4, ".npy", 4) == 0 ? size - 4 : size;
    char *copy = *room;
    memcpy(copy, of->name, length);
    copy[length] = '\0';
    *room += length + 1;
    *name = copy;
    KLN_RETURN_IF(length == 0 || strlen(copy) != length || is_named(tensors, count, copy),
                  KILN_ERROR_MALFORMED,
                  "the name \"%.100s\" of an array is empty, has a zero byte or stands there twice",
                  copy);
    return KILN_OK;
}

static kiln_status read_all(kiln_span file, const directory *of, char *names,
                            kiln_named_tensor *tensors, size_t *count)
{
    uint64_t at = of->at;
    for (uint64_t i = 0; i < of->count; i++) {
        entry next;
        const char *name = NULL;
        KLN_RETURN_IF_ERROR(read_entry(file, &at, &next));
        if (next.name_size > 0 && next.name[next.name_size - 1] == '/') {
            continue; /* a folder */
        }
        KLN_RETURN_IF_ERROR(take_name(&next, &names, tensors, *count, &name));
        KLN_RETURN_WITHIN(read_array(file, &next, &tensors[*count].tensor), "array \"%s\"", name);
        tensors[(*count)++].name = name;
    }
    return KILN_OK;
}

/* The bytes that all names take, including terminators. */
static kiln_status measure_names(kiln_span file, const directory *of, size_t *bytes)
{
    uint64_t at = of->at;
    *bytes = 0;
    for (uint64_t i = 0; i < of->count; i++) {
        entry next;
        KLN_RETURN_IF_ERROR(read_entry(file, &at, &next));
        *bytes += next.name_size + 1;
    }
    return KILN_OK;
}

kiln_status kln_npz_read(kiln_span file, kiln_named_tensor **tensors, size_t *count)
{
    directory of = {0, 0};
    size_t names = 0;
    *tensors = NULL;
    *count = 0;
    KLN_RETURN_IF_ERROR(find_directory(file, &of));
    KLN_RETURN_IF_ERROR(measure_names(file, &of, &names));
    const size_t lists = ((size_t)of.count + 1) * sizeof **tensors;
    kiln_named_tensor *made = kln_alloc_zeroed(1, lists + names);
    KLN_RETURN_IF_NO_MEMORY(made, lists + names, "the arrays of a .npz file");
    const kiln_status status = read_all(file, &of, (char *)made + lists, made, count);
    if (status != KILN_OK) {
        kiln_tensors_free(made, *count);
        *count = 0;
        return status;
    }
    *tensors = made;
    return KILN_OK;
}

kiln_status kiln_tensors_load_npz(const char *path, kiln_named_tensor **tensors, size_t *count)
{
    KLN_RETURN_IF_NULL_RESULT(tensors, count);
    *count = 0;
    KLN_RETURN_IF_NULL(path);
    KLN_SCOPED(kln_mapping_close) kln_mapping mapping = {0};
    KLN_RETURN_IF_ERROR(kln_mapping_open(path, &mapping));
    const kiln_status status = kln_npz_read(mapping.bytes, tensors, count);
    return status == KILN_OK ? status : kln_fail_within(status, "\"%s\"", path);
}

void kiln_tensors_free(kiln_named_tensor *tensors, size_t count)
{
    for (size_t i = 0; tensors != NULL && i < count; i++) {
        kiln_tensor_free(&tensors[i].tensor);
    }
    kln_free(tensors);
}
