/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "ort_feed.h"

kiln_status ort_feed_create(const ort_engine *engine, ort_feed **feed)
{
    const size_t count = engine->input_count + engine->output_count;
    ort_feed *made = kln_alloc_zeroed(1, sizeof *made);
    KLN_RETURN_IF_NO_MEMORY(made, sizeof *made, "a context");
    *feed = made;
    made->names = kln_alloc_zeroed(count, sizeof(char *));
    made->count = count;
    made->values = kln_alloc_zeroed(count, sizeof(OrtValue *));
    made->rings = kln_alloc_zeroed(count, sizeof *made->rings);
    made->results = kln_alloc_zeroed(engine->output_count, sizeof(OrtValue *));
    made->stale = kln_alloc_zeroed(count, sizeof *made->stale);
    KLN_FAIL_IF(made->names == NULL || made->values == NULL || made->rings == NULL ||
                    made->results == NULL || made->stale == NULL,
                kln_fail_memory(count * sizeof *made->rings, "a context"));
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
    }
    for (size_t i = 0; feed->rings != NULL && i < feed->count; i++) {
        for (size_t k = 0; k < ORT_FEED_KEPT; k++) {
            engine->runtime->api.ReleaseValue(feed->rings[i].values[k]);
        }
    }
    kln_free(feed->names);
    kln_free(feed->values);
    kln_free(feed->rings);
    kln_free(feed->results);
    kln_free(feed->stale);
    kln_free(feed);
}

static void use(ort_feed *feed, size_t index, OrtValue *value)
{
    feed->values[index] = value;
    feed->stale[index] = true;
    feed->changed = true;
}

static size_t after(size_t place)
{
    return (place + 1) % ORT_FEED_KEPT;
}

void ort_feed_make_room(const ort_engine *engine, ort_feed *feed, size_t index)
{
    OrtValue **oldest = &feed->rings[index].values[after(feed->rings[index].at)];
    engine->runtime->api.ReleaseValue(*oldest);
    *oldest = NULL;
}

void ort_feed_set(ort_feed *feed, size_t index, OrtValue *value, const kiln_tensor *tensor)
{
    ort_feed_ring *ring = &feed->rings[index];
    ring->at = after(ring->at);
    ring->values[ring->at] = value;
    ring->views[ring->at] = (ort_feed_view){tensor->data, tensor->desc.shape};
    use(feed, index, value);
}

void ort_feed_leave_open(ort_feed *feed, size_t index)
{
    use(feed, index, NULL);
}

bool ort_feed_return(ort_feed *feed, size_t index, const kiln_tensor *tensor)
{
    ort_feed_ring *ring = &feed->rings[index];
    size_t place = ring->at;
    for (size_t k = 0; k < ORT_FEED_KEPT; k++) {
        place = after(place);
        const ort_feed_view *view = &ring->views[place];
        if (view->data == tensor->data && ring->values[place] != NULL && view->data != NULL &&
            kiln_shape_equal(&view->shape, &tensor->desc.shape)) {
            ring->at = place;
            use(feed, index, ring->values[place]);
            return true;
        }
    }
    return false;
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
