/* SPDX-License-Identifier: Apache-2.0 */
#include "serve_nghttp2.h"

#include "serve_library.h"

const serve_nghttp2 *serve_nghttp2_open(char *sentence, size_t size)
{
    static serve_nghttp2 table;
    static const serve_symbol symbols[] = {
#define SERVE_NGHTTP2_ROW_(name) {"nghttp2_" #name, offsetof(serve_nghttp2, name)},
        SERVE_NGHTTP2_FUNCTIONS(SERVE_NGHTTP2_ROW_)
#undef SERVE_NGHTTP2_ROW_
    };
    static const serve_library library = {"libnghttp2.so.14",
                                          "gRPC",
                                          "libnghttp2",
                                          "1.41",
                                          "libnghttp2-14",
                                          symbols,
                                          sizeof symbols / sizeof symbols[0]};
    return serve_library_open(&library, &table, sentence, size) ? &table : NULL;
}
