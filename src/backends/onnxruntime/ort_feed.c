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
    made->count = count;
    made->values = kln_alloc_zeroed(count, sizeof(OrtValue *));
    made->spares = kln_alloc_zeroed(count, sizeof(OrtValue *));
    made->views = kln_alloc_zeroed(2 * count, sizeof *made->views);
    made->results = kln_alloc_zeroed(engine->output_count, sizeof(OrtValue *));
    made->stale = kln_alloc_zeroed(count, sizeof *made->stale);
    if (made->names == NULL || made->values == NULL || made->spares == NULL ||
        made->views == NULL || made->results == NULL || made->stale == NULL) {
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
    if (feed->values != NULL && feed->spares != NULL && feed->results != NULL) {
        ort_feed_release_results(engine, feed);
        for (size_t i = 0; i < feed->count; i++) {
            engine->runtime->api.ReleaseValue(feed->values[i]);
            engine->runtime->api.ReleaseValue(feed->spares[i]);
        }
    }
    kln_free(feed->names);
    kln_free(feed->values);
    kln_free(feed->spares);
    kln_free(feed->views);
    kln_free(feed->results);
    kln_free(feed->stale);
    kln_free(feed);
}

static void mark(ort_feed *feed, size_t index)
{
    feed->stale[index] = true;
    feed->changed = true;
}

void ort_feed_set(const ort_engine *engine, ort_feed *feed, size_t index, OrtValue *value,
                  const kiln_tensor *tensor)
{
    ort_feed_view *view = &feed->views[index];
    if (feed->values[index] != NULL) {
        engine->runtime->api.ReleaseValue(feed->spares[index]);
        feed->spares[index] = feed->values[index];
        feed->views[feed->count + index] = *view;
    }
    feed->values[index] = value;
    view->data = tensor != NULL ? tensor->data : NULL;
    if (view->data != NULL) {
        view->shape = tensor->desc.shape;
    }
    mark(feed, index);
}

bool ort_feed_return(ort_feed *feed, size_t index, const kiln_tensor *tensor)
{
    ort_feed_view *spare = &feed->views[feed->count + index];
    OrtValue *value = feed->spares[index];
    if (value == NULL || spare->data == NULL || spare->data != tensor->data ||
        !kiln_shape_equal(&spare->shape, &tensor->desc.shape)) {
        return false;
    }
    const ort_feed_view view = *spare;
    *spare = feed->views[index];
    feed->views[index] = view;
    feed->spares[index] = feed->values[index];
    feed->values[index] = value;
    mark(feed, index);
    return true;
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
