/* SPDX-License-Identifier: Apache-2.0 */
/* What is not ONNX at all is told as what it is, to who checks it and to who builds it; a damaged
 * model is not taken for something else. */
#include "kiln_test.h"
#include "onnx/kln_onnx.h"

typedef struct foreign {
    const char *bytes;
    size_t size;
    const char *words;
} foreign;

#define BYTES(text) text, sizeof(text) - 1

static const foreign kinds[] = {
    {BYTES("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"),
     "git lfs pull"},
    {BYTES("/annex/objects/MD5E-s123--0.onnx\n"), "git annex get"},
    {BYTES("<!DOCTYPE html>\n<html><body>404</body></html>"), "web page"},
    {BYTES("\xEF\xBB\xBF  <HTML>"), "web page"},
    {BYTES("<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>"), "XML"},
    {BYTES("<?xml version=\"1.0\"?>\n<net name=\"x\" version=\"11\">"), "OpenVINO"},
    {BYTES("{\"architectures\": [\"Bert\"]}"), "JSON"},
    {BYTES("Not found\n"), "text"},
    {BYTES("ir_version: 8\ngraph {\n}\n"), "binary form"},
    {BYTES("PK\x03\x04....archive/data.pkl"), "checkpoint of PyTorch"},
    {BYTES("PK\x03\x04....m/data.pkl....m/constants.pkl"), "TorchScript"},
    {BYTES("PK\x03\x04....model.weights.h5"), "Keras"},
    {BYTES("PK\x03\x04....x.npy"), ".npz"},
    {BYTES("PK\x03\x04....readme"), "ZIP"},
    {BYTES("\x18\0\0\0\0\0\0\0{\"w\":{\"dtype\":\"F32\",\"shape\""), "safetensors"},
    {BYTES("GGUF\x03\0\0\0"), "GGUF"},
    {BYTES("\x80\x02}q\0."), "pickle"},
    {BYTES("\x1C\0\0\0TFL3"), "TensorFlow Lite"},
    {BYTES("\x08\0\0\0ORTM"), "ONNX Runtime's own"},
    {BYTES("\x89HDF\r\n\x1A\n"), "HDF5"},
    {BYTES("\x93NUMPY\x01\0"), "NumPy"},
    {BYTES("\x1F\x8B\x08\0"), "gzip"},
    {BYTES("\x28\xB5\x2F\xFD\0"), "Zstandard"},
    {BYTES("\x7F"
           "ELF\x02\x01"),
     "ELF"},
    {BYTES("\x89PNG\r\n\x1A\n"), "PNG"},
    {BYTES("\0\0\0\0\0\0\0\0\0\0\0\0"), "zeros"},
    {BYTES("\x0A\x20\x0A\x05input\x12\x0BPlaceholder*"), "TensorFlow"},
};

TEST(what_is_no_model_is_named)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const kiln_span bytes = {kinds[i].bytes, kinds[i].size};
        kiln_issue_list *issues = NULL;
        assert_int_equal(kiln_check_bytes(bytes, NULL, NULL, &issues), KILN_ERROR_MALFORMED);
        if (strstr(kiln_error_message(), "not an ONNX model: this is ") == NULL) {
            fail_msg("%s: %s", kinds[i].words, kiln_error_message());
        }
        assert_non_null(strstr(kiln_error_message(), kinds[i].words));
        static const char *const backends[] = {"reference", "onnxruntime"};
        for (size_t k = 0; k < 2; k++) {
            kiln_engine *engine = NULL;
            kiln_build_options options = KILN_BUILD_OPTIONS(.backend = backends[k]);
            const kiln_status status = kiln_engine_build_bytes(bytes, &options, &engine);
            if (status == KILN_ERROR_LIBRARY_ABSENT) {
                continue;
            }
            if (status != KILN_ERROR_MALFORMED ||
                strstr(kiln_error_message(), kinds[i].words) == NULL) {
                fail_msg("%s on %s: %s, %s", kinds[i].words, backends[k], kiln_status_name(status),
                         kiln_error_message());
            }
        }
    }
}

/* A model that is cut short or damaged begins as a model does. */
TEST(a_damaged_model_is_none_of_these)
{
    static const unsigned char model[] = {0x08, 0x08, 0x12, 0x06, 't',  'f',  '2',
                                          'o',  'n',  'x',  0x3A, 0x20, 0x0A, 0x10};
    for (size_t size = 1; size < sizeof model; size++) {
        kln_onnx_model *read = NULL;
        assert_int_not_equal(kln_onnx_read_bytes((kiln_span){model, size}, NULL, &read), KILN_OK);
        assert_null(strstr(kiln_error_message(), ", but "));
        assert_null(kln_onnx_foreign((kiln_span){model, size}));
    }
}
