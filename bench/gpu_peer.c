/* SPDX-License-Identifier: Apache-2.0 */
/* A plan run by Kiln for a program in another language that measures it beside others: a library to
 * load, with three functions. bench/torch_peers.py does. */
#include <kiln/kiln.h>
#include <stdlib.h>

#include "bench_times.h"
#include "plan_feed.h"

#define PEER __attribute__((visibility("default")))

/* A warm context over pinned memory. `shapes` as for feed_open. */
PEER void *peer_open(const char *library, const char *plan, int64_t batch, char **shapes,
                     size_t count);
PEER void peer_run(void *peer);
PEER void peer_close(void *peer);

void *peer_open(const char *library, const char *plan, int64_t batch, char **shapes, size_t count)
{
    kiln_engine *engine = NULL;
    feed *made = bench_allocate(sizeof *made);
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "tensorrt", .library = library);
    bench_require(kiln_engine_load(plan, &options, &engine));
    feed_open(made, engine, KILN_LOCATION_PINNED, batch, shapes, count);
    kiln_engine_release(engine);
    bench_require(kiln_context_warmup(made->context, 20, 0, NULL));
    return made;
}

void peer_run(void *peer)
{
    const feed *made = peer;
    bench_require(kiln_context_run(made->context));
}

void peer_close(void *peer)
{
    feed_close(peer);
    free(peer);
}
