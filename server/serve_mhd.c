/* SPDX-License-Identifier: Apache-2.0 */
#include "serve_mhd.h"

#include "serve_library.h"

const serve_mhd *serve_mhd_open(char *sentence, size_t size)
{
    static serve_mhd table;
    static const serve_symbol symbols[] = {
#define SERVE_MHD_ROW_(name) {"MHD_" #name, offsetof(serve_mhd, name)},
        SERVE_MHD_FUNCTIONS(SERVE_MHD_ROW_)
#undef SERVE_MHD_ROW_
    };
    static const serve_library library = {"libmicrohttpd.so.12",
                                          "the server",
                                          "libmicrohttpd",
                                          "0.9.74",
                                          "libmicrohttpd12",
                                          symbols,
                                          sizeof symbols / sizeof symbols[0]};
    return serve_library_open(&library, &table, sentence, size) ? &table : NULL;
}
