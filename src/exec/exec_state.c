/* SPDX-License-Identifier: Apache-2.0 */
/* Which of the backend's engines a context belongs to. A refit may replace the engine. A context
 * switches to the new one at its next run; until then its results stay valid. */
#include "exec_parts.h"

void exec_states_init(kln_shared *shared)
{
    (void)pthread_mutex_init(&shared->states, NULL); /* cannot fail on Linux */
}

void exec_states_finish(kln_shared *shared)
{
    (void)pthread_mutex_destroy(&shared->states);
}

/* Drops one user. Returns the engine state that nobody uses any more, for the caller to destroy, or
 * NULL. */
static void *leave(kln_shared *shared, const void *engine)
{
    void *gone = NULL;
    KLN_LOCKED(&shared->states);
    if (engine == shared->state) {
        shared->users--;
    } else {
        kln_former **place = &shared->former;
        while ((*place)->state != engine) {
            place = &(*place)->next;
        }
        kln_former *left = *place;
        left->users--;
        if (left->users == 0) {
            *place = left->next;
            gone = left->state;
            kln_free(left);
        }
    }
    return gone;
}

kiln_status kln_shared_replace(kln_shared *shared, void *state)
{
    kln_former *left = kln_alloc(sizeof *left);
    KLN_RETURN_IF_NO_MEMORY(left, sizeof *left, "an engine");
    (void)pthread_mutex_lock(&shared->states);
    *left = (kln_former){shared->former, shared->state, shared->users};
    shared->state = state;
    shared->users = 0;
    void *gone = left->users == 0 ? left->state : NULL;
    if (gone == NULL) {
        shared->former = left;
    }
    (void)pthread_mutex_unlock(&shared->states);
    if (gone != NULL) {
        kln_free(left);
        shared->backend->engine.destroy(gone);
    }
    return KILN_OK;
}

/* --- contexts --- */

/* Creates a context of the current engine. Counting it as a user keeps the engine from being
 * destroyed. */
static kiln_status create(const kln_exec *exec, void **engine, void **state)
{
    kln_shared *shared = exec->shared;
    (void)pthread_mutex_lock(&shared->states);
    *engine = shared->state;
    shared->users++;
    (void)pthread_mutex_unlock(&shared->states);
    const kiln_status status = shared->backend->context.create(*engine, &exec->options, state);
    if (status != KILN_OK) {
        void *gone = leave(shared, *engine);
        if (gone != NULL) {
            shared->backend->engine.destroy(gone);
        }
        *engine = NULL;
        *state = NULL;
    }
    return status;
}

kiln_status exec_state_create(kln_exec *exec)
{
    return create(exec, &exec->engine, &exec->state);
}

void exec_state_destroy(kln_exec *exec)
{
    const kiln_backend *backend = exec->shared->backend;
    if (exec->state == NULL) {
        return;
    }
    backend->context.destroy(exec->state);
    void *gone = leave(exec->shared, exec->engine);
    if (gone != NULL) {
        backend->engine.destroy(gone);
    }
    exec->state = NULL;
}

kiln_status exec_state_go_over(kln_exec *exec)
{
    void *engine = NULL;
    void *state = NULL;
    KLN_RETURN_IF_ERROR(create(exec, &engine, &state));
    exec_state_destroy(exec);
    exec->engine = engine;
    exec->state = state;
    /* Bindings stay, and the new context has to be told about them. */
    for (size_t i = 0; i < exec->slot_count; i++) {
        const bool is_output =
            i >= exec->shared->description.input_count && i < exec_outputs_end(exec);
        if (exec->slots[i].state != SLOT_EMPTY || is_output) {
            exec->slots[i].pending = true;
        }
    }
    exec->ready = false;
    return KILN_OK;
}
