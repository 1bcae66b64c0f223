/* SPDX-License-Identifier: Apache-2.0 */
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
    made->copies = kln_alloc_zeroed(engine->input_count, sizeof *made->copies);
    made->results = kln_alloc_zeroed(engine->output_count, sizeof(OrtValue *));
    made->stale = kln_alloc_zeroed(count, sizeof *made->stale);
    KLN_FAIL_IF(made->names == NULL || made->values == NULL || made->rings == NULL ||
                    made->copies == NULL || made->results == NULL || made->stale == NULL,
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
    for (size_t i = 0; feed->copies != NULL && i < engine->input_count; i++) {
        engine->runtime->api.ReleaseValue(feed->copies[i].value);
        kln_free(feed->copies[i].memory);
    }
    kln_free(feed->names);
    kln_free(feed->values);
    kln_free(feed->rings);
    kln_free(feed->copies);
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

void ort_feed_lend(ort_feed *feed, size_t index, OrtValue *value)
{
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

/* --- small inputs whose address changes --- */

static bool is_small(const kiln_tensor *tensor)
{
    return tensor->bytes <= ORT_FEED_COPIED && tensor->bytes != 0;
}

bool ort_feed_take_copy(ort_feed *feed, size_t index, const kiln_tensor *tensor)
{
    ort_feed_copy *copy = &feed->copies[index];
    if (copy->value == NULL) {
        return false;
    }
    if (!is_small(tensor) || !kiln_shape_equal(&copy->shape, &tensor->desc.shape)) {
        copy->unused++;
        return false;
    }
    copy->source = tensor->data;
    copy->bytes = tensor->bytes;
    copy->unused = 0;
    if (feed->values[index] != copy->value) {
        use(feed, index, copy->value);
    }
    return true;
}

/* A copy that was made for another shape is kept while that shape keeps coming back. */
bool ort_feed_moves(const ort_engine *engine, const ort_feed *feed, size_t index,
                    const kiln_tensor *tensor)
{
    if (index >= engine->input_count || !is_small(tensor)) {
        return false;
    }
    const ort_feed_ring *ring = &feed->rings[index];
    const ort_feed_copy *copy = &feed->copies[index];
    const ort_feed_view *last = &ring->views[ring->at];
    return copy->value != NULL ? copy->unused >= ORT_FEED_KEPT
                               : ring->values[ring->at] != NULL && last->data != tensor->data &&
                                     kiln_shape_equal(&last->shape, &tensor->desc.shape);
}

void *ort_feed_copy_memory(const ort_engine *engine, ort_feed *feed, size_t index)
{
    ort_feed_copy *copy = &feed->copies[index];
    if (copy->memory == NULL) {
        copy->memory = kln_alloc_zeroed(1, ORT_FEED_COPIED);
    }
    if (feed->values[index] == copy->value) {
        feed->values[index] = NULL;
    }
    engine->runtime->api.ReleaseValue(copy->value);
    copy->value = NULL;
    return copy->memory;
}

void ort_feed_set_copy(ort_feed *feed, size_t index, OrtValue *value, const kiln_tensor *tensor)
{
    ort_feed_copy *copy = &feed->copies[index];
    copy->value = value;
    copy->shape = tensor->desc.shape;
    feed->has_copies = true;
    (void)ort_feed_take_copy(feed, index, tensor);
}

void ort_feed_copy_all(const ort_engine *engine, const ort_feed *feed)
{
    for (size_t i = 0; feed->has_copies && i < engine->input_count; i++) {
        const ort_feed_copy *copy = &feed->copies[i];
        if (copy->value != NULL && feed->values[i] == copy->value) {
            memcpy(copy->memory, copy->source, copy->bytes);
        }
    }
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
