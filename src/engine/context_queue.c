/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "context_parts.h"

#define DEFAULT_GRAPHS 8
#define LARGEST_GRAPHS 64

/* --- create and destroy --- */

static kiln_status check_options(const kiln_context *context, const kiln_context_options *options)
{
    const kiln_engine *engine = context->engine;
    const int policy = (int)options->graphs;
    if (policy < KILN_GRAPH_AUTOMATIC || policy > KILN_GRAPH_REQUIRED || options->max_graphs < 0 ||
        options->max_graphs > LARGEST_GRAPHS) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                        "kiln_context_options: graphs is %d, one of kiln_graph_policy (0 to %d) is "
                        "needed; max_graphs is %d, 0 to %d are possible",
                        policy, KILN_GRAPH_REQUIRED, options->max_graphs, LARGEST_GRAPHS);
    }
    const bool wants_graphs = options->graphs == KILN_GRAPH_REQUIRED || options->max_graphs != 0;
    if (engine->device < 0 && (wants_graphs || options->stream != NULL)) {
        return kln_fail(KILN_ERROR_UNSUPPORTED,
                        "kiln_context_options: \"%s\" is set, and this engine of the %s backend "
                        "computes on the CPU",
                        options->stream != NULL ? "stream"
                        : options->max_graphs   ? "max_graphs"
                                                : "graphs",
                        engine->info.name);
    }
    if (options->stream != NULL && options->stream->device != engine->device) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                        "kiln_context_options: the stream is of device %d, the engine of device %d",
                        options->stream->device, engine->device);
    }
    return KILN_OK;
}

/* The stream where the work goes: the engine's, where it has one; the caller's; or an own one. */
static kiln_status choose_stream(context_queue *queue, const kiln_engine *engine)
{
    if (engine->stream != NULL) {
        queue->work = engine->stream;
        queue->shared = true;
        return KILN_OK;
    }
    if (queue->caller != NULL) {
        queue->work = queue->caller;
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(kiln_stream_create(engine->device, 0, &queue->work));
    queue->owns_work = true;
    return KILN_OK;
}

static kiln_status fill_queue(context_queue *queue, const kiln_context *context)
{
    const size_t sides = queue->entry_count * context->slot_count;
    queue->entries = kln_alloc_zeroed(queue->entry_count, sizeof *queue->entries);
    queue->keys = kln_alloc_zeroed(sides, sizeof *queue->keys);
    queue->sides = kln_alloc_zeroed(sides, sizeof *queue->sides);
    if (queue->entries == NULL || queue->keys == NULL || queue->sides == NULL) {
        return kln_fail_memory(sides * sizeof *queue->sides, "a context's queue");
    }
    for (size_t i = 0; i < queue->entry_count; i++) {
        queue->entries[i].keys = queue->keys + i * context->slot_count;
        queue->entries[i].sides = queue->sides + i * context->slot_count;
    }
    KLN_RETURN_IF_ERROR(choose_stream(queue, context->engine));
    KLN_RETURN_IF_ERROR(kiln_event_create(queue->device, false, &queue->before));
    return kiln_event_create(queue->device, false, &queue->after);
}

kiln_status context_queue_create(kiln_context *context, const kiln_context_options *options)
{
    KLN_RETURN_IF_ERROR(check_options(context, options));
    if (context->engine->device < 0) {
        return KILN_OK;
    }
    context->queue = kln_alloc_zeroed(1, sizeof *context->queue);
    if (context->queue == NULL) {
        return kln_fail_memory(sizeof *context->queue, "a context's queue");
    }
    context->queue->device = context->engine->device;
    context->queue->policy = options->graphs;
    context->queue->asked = options->graphs;
    context->queue->caller = options->stream;
    context->queue->entry_count =
        options->max_graphs != 0 ? (size_t)options->max_graphs : DEFAULT_GRAPHS;
    return fill_queue(context->queue, context);
}

static void drop_entry(kiln_context *context, graph_entry *entry)
{
    context_queue *queue = context->queue;
    if (entry->graph != NULL) {
        kiln_graph_destroy(entry->graph);
        queue->graphs--;
    }
    entry->graph = NULL;
    context_drop_sides(context, entry);
    entry->mode = ENTRY_NEW;
    entry->last_used = 0;
    entry->uses = 0;
    queue->current = queue->current == entry ? NULL : queue->current;
    queue->bound = queue->bound == entry ? NULL : queue->bound;
    queue->shown = queue->shown == entry ? NULL : queue->shown;
}

void context_queue_destroy(kiln_context *context)
{
    context_queue *queue = context->queue;
    if (queue == NULL) {
        return;
    }
    if (queue->is_under_way && kiln_stream_synchronize(queue->target) != KILN_OK) {
        kln_log(KILN_LOG_WARNING, "engine", "destroying a context: %s", kiln_error_message());
    }
    for (size_t i = 0; queue->entries != NULL && i < queue->entry_count; i++) {
        if (queue->entries[i].last_used != 0) {
            drop_entry(context, &queue->entries[i]);
        }
    }
    kiln_event_destroy(queue->after);
    kiln_event_destroy(queue->before);
    if (queue->owns_work) {
        kiln_stream_destroy(queue->work);
    }
    kln_free(queue->sides);
    kln_free(queue->keys);
    kln_free(queue->entries);
    kln_free(queue);
    context->queue = NULL;
}

/* --- memory of an entry --- */

void context_drop_sides(kiln_context *context, graph_entry *entry)
{
    context_queue *queue = context->queue;
    for (size_t i = 0; entry->has_sides && i < context->slot_count; i++) {
        graph_side *side = &entry->sides[i];
        queue->staging_bytes -= side->staging != NULL ? side->bytes : 0;
        queue->staging_bytes -= side->device != NULL ? side->bytes : 0;
        kln_cuda_release(KILN_LOCATION_PINNED, queue->device, side->staging);
        kln_cuda_release(KILN_LOCATION_DEVICE, queue->device, side->device);
        *side = (graph_side){.bytes = 0};
    }
    entry->has_sides = false;
}

/* What the backend says, or the caller, of the tensor of a slot. */
static kiln_status tensor_of(kiln_context *context, size_t index, kiln_tensor *tensor)
{
    const context_slot *slot = &context->slots[index];
    if (slot->state != SLOT_EMPTY) {
        *tensor = slot->tensor;
        return KILN_OK;
    }
    const kiln_binding *binding = context_binding(context, index);
    if (kiln_dtype_bits(binding->dtype) == 0) {
        return kln_fail(KILN_ERROR_UNSUPPORTED, "output \"%s\" is of type %s, which no device has",
                        binding->name, kiln_dtype_name(binding->dtype));
    }
    return context->engine->backend->output(context->state, index, tensor);
}

static kiln_status make_side(kiln_context *context, size_t index, graph_side *side)
{
    context_queue *queue = context->queue;
    kiln_tensor tensor = {.data = NULL};
    KLN_RETURN_IF_ERROR(tensor_of(context, index, &tensor));
    KLN_RETURN_IF_ERROR(kiln_tensor_bytes(tensor.desc.dtype, &tensor.desc.shape, &side->bytes));
    side->tensor = tensor;
    side->tensor.desc.location = KILN_LOCATION_DEVICE;
    side->tensor.desc.device = queue->device;
    side->tensor.bytes = side->bytes;
    const bool is_callers = context->slots[index].state != SLOT_EMPTY;
    const kiln_location location = is_callers ? tensor.desc.location : KILN_LOCATION_HOST;
    if (location == KILN_LOCATION_DEVICE || location == KILN_LOCATION_MANAGED) {
        return KILN_OK;
    }
    const size_t bytes = side->bytes != 0 ? side->bytes : 1;
    side->host = tensor.data;
    if (location == KILN_LOCATION_HOST) {
        KLN_RETURN_IF_ERROR(
            kln_cuda_allocate(KILN_LOCATION_PINNED, queue->device, bytes, &side->staging));
        side->host = side->staging;
        queue->staging_bytes += side->bytes;
    }
    KLN_RETURN_IF_ERROR(
        kln_cuda_allocate(KILN_LOCATION_DEVICE, queue->device, bytes, &side->device));
    queue->staging_bytes += side->bytes;
    side->tensor.data = side->device;
    side->way = SIDE_COPIED;
    return KILN_OK;
}

kiln_status context_make_sides(kiln_context *context, graph_entry *entry)
{
    entry->has_sides = true;
    for (size_t i = 0; i < context->slot_count; i++) {
        const kiln_status status = make_side(context, i, &entry->sides[i]);
        if (status != KILN_OK) {
            context_drop_sides(context, entry);
            return kln_fail_within(status, "\"%s\"", context_binding(context, i)->name);
        }
    }
    return KILN_OK;
}

kiln_status context_bind_sides(kiln_context *context, graph_entry *entry)
{
    context->ready = false;
    context->queue->bound = NULL;
    for (size_t i = 0; i < context->slot_count; i++) {
        context->slots[i].pending = true;
        KLN_RETURN_IF_ERROR(
            context->engine->backend->bind(context->state, i, &entry->sides[i].tensor));
    }
    context->queue->bound = entry;
    return KILN_OK;
}

static kiln_status enqueue_copies(const kiln_context *context, const graph_entry *entry,
                                  kiln_stream *stream, bool inputs, side_way way)
{
    const size_t input_count = context->engine->description.input_count;
    const size_t end = inputs ? input_count : context->slot_count;
    for (size_t i = inputs ? 0 : input_count; i < end; i++) {
        const graph_side *side = &entry->sides[i];
        if (side->way == way && side->bytes != 0) {
            KLN_RETURN_IF_ERROR(kln_cuda_copy(stream->device, inputs ? side->device : side->host,
                                              inputs ? side->host : side->device, side->bytes,
                                              stream));
        }
    }
    return KILN_OK;
}

static kiln_status enqueue_gathered(const kiln_context *context, const graph_entry *entry,
                                    kiln_stream *stream, bool inputs)
{
    const size_t input_count = context->engine->description.input_count;
    const size_t end = inputs ? input_count : context->slot_count;
    kln_cuda_piece pieces[KLN_CUDA_PIECES];
    size_t count = 0;
    for (size_t i = inputs ? 0 : input_count; i < end; i++) {
        const graph_side *side = &entry->sides[i];
        if (side->way != SIDE_GATHERED || side->bytes == 0) {
            continue;
        }
        if (count == KLN_CUDA_PIECES) {
            KLN_RETURN_IF_ERROR(kln_cuda_gather(stream, pieces, count));
            count = 0;
        }
        pieces[count++] = inputs ? (kln_cuda_piece){side->device, side->host, side->bytes}
                                 : (kln_cuda_piece){side->host, side->device, side->bytes};
    }
    return kln_cuda_gather(stream, pieces, count);
}

kiln_status context_enqueue_ahead(const kiln_context *context, const graph_entry *entry,
                                  kiln_stream *stream)
{
    return enqueue_copies(context, entry, stream, true, SIDE_AHEAD);
}

kiln_status context_enqueue_sides(kiln_context *context, graph_entry *entry, kiln_stream *stream)
{
    KLN_RETURN_IF_ERROR(enqueue_copies(context, entry, stream, true, SIDE_COPIED));
    KLN_RETURN_IF_ERROR(enqueue_gathered(context, entry, stream, true));
    KLN_RETURN_IF_ERROR(context->engine->backend->enqueue(context->state, stream));
    KLN_RETURN_IF_ERROR(enqueue_gathered(context, entry, stream, false));
    return enqueue_copies(context, entry, stream, false, SIDE_COPIED);
}

void context_copy_in(const kiln_context *context, const graph_entry *entry)
{
    for (size_t i = 0; i < context->engine->description.input_count; i++) {
        const graph_side *side = &entry->sides[i];
        if (side->staging != NULL && side->bytes != 0) {
            memcpy(side->staging, context->slots[i].tensor.data, side->bytes);
        }
    }
}

static void copy_out(const kiln_context *context, const graph_entry *entry)
{
    for (size_t i = context->engine->description.input_count; i < context->slot_count; i++) {
        const graph_side *side = &entry->sides[i];
        const context_slot *slot = &context->slots[i];
        if (side->staging != NULL && slot->state == SLOT_CALLER && side->bytes != 0) {
            memcpy(slot->tensor.data, side->staging, side->bytes);
        }
    }
}

bool context_queue_output(const kiln_context *context, size_t index, kiln_tensor *tensor)
{
    const graph_entry *entry = context->queue != NULL ? context->queue->shown : NULL;
    if (entry == NULL) {
        return false;
    }
    if (context->slots[index].state == SLOT_CALLER) {
        *tensor = context->slots[index].tensor;
        return true;
    }
    const graph_side *side = &entry->sides[index];
    *tensor = side->tensor;
    tensor->desc.location = KILN_LOCATION_PINNED;
    tensor->data = side->host;
    return true;
}

/* --- finding the entry of what is bound --- */

static binding_key key_of(const context_slot *slot)
{
    binding_key key = {.state = slot->state, .location = KILN_LOCATION_HOST, .shape = {.rank = -1}};
    if (slot->state != SLOT_EMPTY) {
        key.location = slot->tensor.desc.location;
        key.address = key.location != KILN_LOCATION_HOST ? slot->tensor.data : NULL;
        key.shape = slot->tensor.desc.shape;
    }
    return key;
}

static bool fits(const kiln_context *context, const graph_entry *entry)
{
    for (size_t i = 0; i < context->slot_count; i++) {
        const binding_key key = key_of(&context->slots[i]);
        const binding_key *kept = &entry->keys[i];
        if (kept->location != key.location || kept->address != key.address ||
            (kept->state == SLOT_EMPTY) != (key.state == SLOT_EMPTY) ||
            kept->shape.rank != key.shape.rank ||
            (key.shape.rank >= 0 && !kiln_shape_equal(&kept->shape, &key.shape))) {
            return false;
        }
    }
    return true;
}

static graph_entry *find_entry(kiln_context *context)
{
    context_queue *queue = context->queue;
    graph_entry *oldest = &queue->entries[0];
    for (size_t i = 0; i < queue->entry_count; i++) {
        graph_entry *entry = &queue->entries[i];
        if (entry->last_used != 0 && fits(context, entry)) {
            return entry;
        }
        oldest = entry->last_used < oldest->last_used ? entry : oldest;
    }
    if (oldest->last_used != 0) {
        queue->evictions++;
        drop_entry(context, oldest);
    }
    for (size_t i = 0; i < context->slot_count; i++) {
        oldest->keys[i] = key_of(&context->slots[i]);
    }
    return oldest;
}

void context_queue_drop_address(kiln_context *context, const void *address)
{
    context_queue *queue = context->queue;
    for (size_t i = 0; i < queue->entry_count; i++) {
        graph_entry *entry = &queue->entries[i];
        for (size_t k = 0; entry->last_used != 0 && k < context->slot_count; k++) {
            if (entry->keys[k].address == address) {
                drop_entry(context, entry);
            }
        }
    }
}

void context_queue_forget(kiln_context *context, bool graphs)
{
    context_queue *queue = context->queue;
    context->has_results = false;
    if (queue == NULL) {
        return;
    }
    for (size_t i = 0; i < queue->entry_count; i++) {
        if (queue->entries[i].last_used != 0) {
            drop_entry(context, &queue->entries[i]);
        }
    }
    /* The backend may be bound to memory that just went. */
    context->ready = false;
    for (size_t i = 0; i < context->slot_count; i++) {
        context->slots[i].pending = true;
    }
    queue->policy = graphs ? queue->asked : KILN_GRAPH_OFF;
}

/* --- a run --- */

static kiln_status order(kiln_event *event, kiln_stream *earlier, kiln_stream *later)
{
    KLN_RETURN_IF_ERROR(kiln_event_record(event, earlier));
    return kiln_stream_wait_event(later, event);
}

static kiln_status finish(kiln_context *context)
{
    context_queue *queue = context->queue;
    queue->is_under_way = false;
    const kiln_status status = queue->has_event ? kiln_event_synchronize(queue->after)
                                                : kiln_stream_synchronize(queue->target);
    if (status != KILN_OK) {
        context->has_results = false;
        return status;
    }
    copy_out(context, queue->shown);
    return KILN_OK;
}

kiln_status context_queue_finish(kiln_context *context)
{
    kln_cuda_scope scope;
    KLN_RETURN_IF_ERROR(kln_cuda_enter(context->queue->device, &scope));
    const kiln_status status = finish(context);
    kln_cuda_leave(&scope);
    return status;
}

/* Replays the entry's graph, or enqueues its work anew where it has none. */
static kiln_status launch(kiln_context *context, graph_entry *entry, kiln_stream *stream,
                          bool waits)
{
    context_queue *queue = context->queue;
    kiln_stream *target = stream == NULL || queue->shared ? queue->work : stream;
    const bool orders = stream != NULL && target != stream;
    context_copy_in(context, entry);
    if (orders) {
        KLN_RETURN_IF_ERROR(order(queue->before, stream, target));
    }
    if (entry->graph == NULL) {
        KLN_RETURN_IF_ERROR(context_bind_sides(context, entry));
    }
    KLN_RETURN_IF_ERROR(context_enqueue_ahead(context, entry, target));
    if (entry->graph != NULL) {
        KLN_RETURN_IF_ERROR(kiln_graph_launch(entry->graph, target));
        queue->hits++;
    } else {
        KLN_RETURN_IF_ERROR(context_enqueue_sides(context, entry, target));
        queue->misses++;
    }
    queue->target = target;
    queue->shown = entry;
    queue->is_under_way = true;
    queue->has_event = !waits;
    if (!waits || orders) {
        KLN_RETURN_IF_ERROR(kiln_event_record(queue->after, target));
    }
    return orders ? kiln_stream_wait_event(stream, queue->after) : KILN_OK;
}

/* What the backend found in a plain run is lost when it is bound to an entry's memory: where that
 * came to nothing, it runs again. */
static kiln_status run_again(kiln_context *context)
{
    context->queue->shown = NULL;
    return context_run_plainly(context);
}

static kiln_status consider(kiln_context *context, graph_entry *entry)
{
    context_queue *queue = context->queue;
    entry->uses++;
    if (queue->policy == KILN_GRAPH_OFF) {
        entry->mode = ENTRY_PLAIN;
        return KILN_OK;
    }
    if (queue->policy == KILN_GRAPH_AUTOMATIC && entry->uses < 2) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(context_capture(context, entry));
    if (entry->mode == ENTRY_GRAPH) {
        queue->shown = entry;
        return KILN_OK;
    }
    return context->ready ? KILN_OK : run_again(context);
}

static kiln_status run_plain_entry(kiln_context *context, graph_entry *entry, kiln_stream *stream,
                                   bool waits)
{
    context_queue *queue = context->queue;
    if (stream != NULL && stream != queue->work) {
        KLN_RETURN_IF_ERROR(order(queue->before, stream, queue->work));
    }
    queue->shown = NULL;
    queue->misses++;
    KLN_RETURN_IF_ERROR(context_run_plainly(context));
    if (entry->mode == ENTRY_NEW) {
        return consider(context, entry);
    }
    /* The next one need not wait. */
    if (!waits && !entry->has_sides && context->engine->backend->enqueue != NULL &&
        context_make_sides(context, entry) != KILN_OK) {
        kln_log(KILN_LOG_DEBUG, "engine", "runs are not enqueued: %s", kiln_error_message());
    }
    return KILN_OK;
}

static kiln_status run_entry(kiln_context *context, graph_entry *entry, kiln_stream *stream,
                             bool waits)
{
    context_queue *queue = context->queue;
    entry->last_used = ++queue->clock;
    const bool enqueues = !waits && entry->mode == ENTRY_PLAIN && entry->has_sides;
    if (entry->mode != ENTRY_GRAPH && !enqueues) {
        return run_plain_entry(context, entry, stream, waits);
    }
    const kiln_status status = launch(context, entry, stream, waits);
    if ((status == KILN_ERROR_SHAPE || status == KILN_ERROR_UNSUPPORTED) && enqueues) {
        /* Outputs whose shape depends on values, and the like: they cannot be enqueued after all.
         */
        context_drop_sides(context, entry);
        return run_again(context);
    }
    return status;
}

kiln_status context_queue_run(kiln_context *context, kiln_stream *stream, bool waits)
{
    context_queue *queue = context->queue;
    kln_cuda_scope scope;
    KLN_RETURN_IF_ERROR(context_check_all_bound(context));
    KLN_RETURN_IF_ERROR(kln_cuda_enter(queue->device, &scope));
    const unsigned long refits = atomic_load(&context->engine->refits);
    if (refits != queue->refits) {
        context_queue_forget(context, queue->policy == queue->asked);
        queue->refits = refits;
    }
    if (queue->current == NULL) {
        queue->current = find_entry(context);
    }
    if (queue->shared) {
        (void)pthread_mutex_lock(&context->engine->order);
    }
    kiln_status status =
        run_entry(context, queue->current, stream != NULL ? stream : queue->caller, waits);
    if (queue->shared) {
        (void)pthread_mutex_unlock(&context->engine->order);
    }
    if (status == KILN_OK && waits && queue->is_under_way) {
        status = finish(context);
    }
    kln_cuda_leave(&scope);
    return status;
}
