/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "ort_feed.h"

kiln_status ort_feed_create(const ort_engine *engine, ort_feed **feed)
{
    const size_t count = engine->input_count + engine->output_count;
    ort_feed *made = kln_alloc_zeroed(1, sizeof *made);
    if (made == NULL) {
        return kln_fail_memory(sizeof *made, "a context");
    }
    *feed = made;
    made->names = kln_alloc_zeroed(count, sizeof(char *));
    made->values = kln_alloc_zeroed(count, sizeof(OrtValue *));
    made->results = kln_alloc_zeroed(engine->output_count, sizeof(OrtValue *));
    made->stale = kln_alloc_zeroed(count, sizeof *made->stale);
    if (made->names == NULL || made->values == NULL || made->results == NULL ||
        made->stale == NULL) {
        return kln_fail_memory(count * sizeof(OrtValue *), "a context");
    }
    for (size_t i = 0; i < count; i++) {
        made->names[i] = engine->bindings[i].name;
    }
    return KILN_OK;
}

void ort_feed_destroy(const ort_engine *engine, ort_feed *feed)
{
    if (feed == NULL) {
        return;
    }
    if (feed->values != NULL && feed->results != NULL) {
        ort_feed_release_results(engine, feed);
        for (size_t i = 0; i < engine->input_count + engine->output_count; i++) {
            engine->runtime->api.ReleaseValue(feed->values[i]);
        }
    }
    kln_free(feed->names);
    kln_free(feed->values);
    kln_free(feed->results);
    kln_free(feed->stale);
    kln_free(feed);
}

void ort_feed_set(const ort_engine *engine, ort_feed *feed, size_t index, OrtValue *value)
{
    engine->runtime->api.ReleaseValue(feed->values[index]);
    feed->values[index] = value;
    feed->stale[index] = true;
    feed->changed = true;
}

bool ort_feed_is_due(const ort_feed *feed)
{
    return feed->changed && feed->bound_once;
}

OrtStatus *ort_feed_run(const ort_engine *engine, ort_feed *feed, const OrtRunOptions *options)
{
    OrtValue *const *given = feed->values + engine->input_count;
    ort_feed_release_results(engine, feed);
    memcpy(feed->results, given, engine->output_count * sizeof(OrtValue *));
    feed->changed = false;
    feed->has_results = true;
    return engine->runtime->api.Run(engine->session, options, feed->names,
                                    (const OrtValue *const *)feed->values, engine->input_count,
                                    feed->names + engine->input_count, engine->output_count,
                                    feed->results);
}

void ort_feed_release_results(const ort_engine *engine, ort_feed *feed)
{
    for (size_t i = 0; i < engine->output_count && feed->has_results; i++) {
        if (feed->results[i] != feed->values[engine->input_count + i]) {
            engine->runtime->api.ReleaseValue(feed->results[i]);
        }
        feed->results[i] = NULL;
    }
    feed->has_results = false;
}
