/* Identifies a file that is not an ONNX model. Called only after reading it has failed, so that a
 * model is never taken for something else.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <strings.h>

#include "onnx_read.h"

/* How many bytes are searched for signatures that have no fixed position. */
#define LOOKED_THROUGH ((size_t)65536)

typedef struct sign {
    const char *what; /* completes "this is ...", with what to do */
    size_t offset;
    const char *bytes;
    size_t size;
} sign;

#define SIGN(what, offset, bytes)              \
    {                                          \
        what, offset, bytes, sizeof(bytes) - 1 \
    }

/* Signatures at a fixed position. */
static const sign signs[] = {
    SIGN("a Git LFS pointer, which stands for the model: `git lfs pull` fetches the file itself", 0,
         "version https://git-lfs.github.com/spec/"),
    SIGN("a git-annex pointer, which stands for the model: `git annex get` fetches the file itself",
         0, "/annex/objects/"),
    SIGN("a GGUF file, weights for llama.cpp; there is no graph in it to run", 0, "GGUF"),
    SIGN("a GGML file, weights for llama.cpp; there is no graph in it to run", 0, "lmgg"),
    SIGN("a GGML file, weights for llama.cpp; there is no graph in it to run", 0, "tjgg"),
    SIGN("a plan of TensorRT: it is loaded as an engine, with the manifest beside it", 0, "ftrt"),
    SIGN("a plan of TensorRT: it is loaded as an engine, with the manifest beside it", 0, "vtrt"),
    SIGN("a TensorFlow Lite model: tf2onnx converts it (--tflite)", 4, "TFL3"),
    SIGN("a model in ONNX Runtime's own format (.ort); the ONNX model that it was made from is "
         "needed",
         4, "ORTM"),
    SIGN("an HDF5 file, as Keras writes them: tf2onnx converts the model", 0, "\x89HDF\r\n"),
    SIGN("a NumPy array (.npy), an input rather than a model", 0, "\x93NUMPY"),
    SIGN("a gzip archive: unpack it first", 0, "\x1F\x8B"),
    SIGN("an xz archive: unpack it first", 0, "\xFD\x37zXZ"),
    SIGN("a Zstandard archive: unpack it first", 0, "\x28\xB5\x2F\xFD"),
    SIGN("a bzip2 archive: unpack it first", 0, "BZh"),
    SIGN("a 7-Zip archive: unpack it first", 0, "7z\xBC\xAF\x27\x1C"),
    SIGN("a RAR archive: unpack it first", 0, "Rar!\x1A\x07"),
    SIGN("a tar archive: unpack it first", 257, "ustar"),
    SIGN("a program or library (ELF)", 0,
         "\x7F"
         "ELF"),
    SIGN("a PNG picture", 0, "\x89PNG\r\n"),
    SIGN("a JPEG picture", 0, "\xFF\xD8\xFF"),
    SIGN("a PDF document", 0, "%PDF-"),
    SIGN("a ncnn model's description; the ONNX model that it was made from is needed", 0,
         "7767517\n"),
    SIGN("an SQLite database", 0, "SQLite format 3"),
};

static bool contains(kiln_span bytes, const char *text)
{
    return bytes.size > 0 && memmem(bytes.data, bytes.size, text, strlen(text)) != NULL;
}

static bool begins(const char *text, size_t size, const char *word)
{
    return size >= strlen(word) && strncasecmp(text, word, strlen(word)) == 0;
}

/* The list of members is at the end of a ZIP file. */
static const char *zip_kind(kiln_span bytes)
{
    const char *data = bytes.data;
    const size_t tail = bytes.size < LOOKED_THROUGH ? bytes.size : LOOKED_THROUGH;
    const kiln_span members = {data + bytes.size - tail, tail};
    if (contains(members, "constants.pkl")) {
        return "a TorchScript archive of PyTorch: torch.onnx.export writes ONNX";
    }
    if (contains(members, "data.pkl")) {
        return "a checkpoint of PyTorch, weights without a graph: torch.onnx.export writes ONNX";
    }
    if (contains(members, "model.weights.h5")) {
        return "a Keras archive: tf2onnx converts the model";
    }
    return contains(members, ".npy") ? "a NumPy archive (.npz), arrays rather than a model"
                                     : "a ZIP archive: unpack it first";
}

static bool is_text(const unsigned char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] < 0x20 && bytes[i] != '\n' && bytes[i] != '\r' && bytes[i] != '\t') {
            return false;
        }
    }
    return size > 0;
}

static const char *text_kind(const char *text, size_t size)
{
    while (size > 0 && (isspace((unsigned char)*text) || (unsigned char)*text >= 0x80)) {
        text++;
        size--;
    }
    const kiln_span rest = {text, size};
    if (begins(text, size, "<!doctype html") || begins(text, size, "<html") ||
        begins(text, size, "<head")) {
        return "a web page (HTML): the address gave a page, a login or an error maybe, instead of "
               "the model; download it again";
    }
    if (begins(text, size, "<?xml") || begins(text, size, "<net ") ||
        begins(text, size, "<error")) {
        return contains(rest, "<net ")
                   ? "a model of OpenVINO (XML); the ONNX model that it was made from is needed"
                   : "an XML document, a server's error maybe; download the model again";
    }
    if (begins(text, size, "ir_version:") || contains(rest, "ir_version:")) {
        return "an ONNX model written as text; onnx.load and onnx.save turn it into the binary "
               "form";
    }
    if (begins(text, size, "{") || begins(text, size, "[")) {
        return "JSON text";
    }
    return "text";
}

static bool is_zero(const unsigned char *bytes, size_t size)
{
    return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

const char *kln_onnx_foreign(kiln_span bytes)
{
    const unsigned char *data = bytes.data;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(signs); i++) {
        const sign *s = &signs[i];
        if (bytes.size >= s->offset + s->size && memcmp(data + s->offset, s->bytes, s->size) == 0) {
            return s->what;
        }
    }
    const size_t head = bytes.size < 512 ? bytes.size : 512;
    if (bytes.size >= 4 && memcmp(data, "PK\x03\x04", 4) == 0) {
        return zip_kind(bytes);
    }
    if (kln_safetensors_is(bytes)) {
        return "a safetensors file, weights without a graph; the model must be exported to ONNX";
    }
    if (bytes.size >= 2 && data[0] == 0x80 && data[1] >= 2 && data[1] <= 5) {
        return "a Python pickle, as old checkpoints of PyTorch are: torch.onnx.export writes ONNX";
    }
    if (is_zero(data, head)) {
        return "zeros: the file was never written, or not downloaded to its end";
    }
    if (is_text(data, head)) {
        return text_kind((const char *)data, head);
    }
    const kiln_span front = {data, bytes.size < LOOKED_THROUGH ? bytes.size : LOOKED_THROUGH};
    /* An ONNX model that was converted from TensorFlow may mention it, but its IR version is above
     * 1. */
    const bool may_be = data[0] == 0x0A || (bytes.size > 1 && data[0] == 0x08 && data[1] == 1);
    if (may_be && (contains(front, "tensorflow") || contains(front, "Placeholder"))) {
        return "a graph of TensorFlow: tf2onnx converts it";
    }
    return NULL;
}
