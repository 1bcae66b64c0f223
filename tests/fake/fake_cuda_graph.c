/* SPDX-License-Identifier: Apache-2.0 */
/* Captures and graphs of the fake driver; see fake_cuda.h. */
#include "fake_cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

CU cuStreamGetPriority(void *on, int *priority)
{
    ENTER();
    *priority = ((const stream *)on)->priority;
    return fake_unlock(SUCCESS);
}

CU cuStreamBeginCapture_v2(void *on, int mode)
{
    ENTER();
    stream *target = on;
    void *made = NULL;
    if (target == NULL || target->capture != NULL || mode < 0 || mode > 2) {
        return fake_unlock(CAPTURE_UNSUPPORTED);
    }
    const int result = fake_make(&made, sizeof(graph));
    target->capture = made;
    target->capture->priority = target->priority;
    target->broken = 0;
    return fake_unlock(result);
}

CU cuStreamEndCapture(void *on, void **captured)
{
    ENTER();
    stream *target = on;
    graph *written = target->capture;
    target->capture = NULL;
    if (target->broken) {
        free(written);
        fake_objects--;
        *captured = NULL;
        return fake_unlock(CAPTURE_INVALIDATED);
    }
    *captured = written;
    return fake_unlock(SUCCESS);
}

CU cuStreamIsCapturing(void *on, int *status)
{
    ENTER();
    const stream *target = on;
    *status = target == NULL || target->capture == NULL ? 0 : target->broken ? 2 : 1;
    return fake_unlock(SUCCESS);
}

CU cuStreamGetCaptureInfo_v2(void *on, int *status, unsigned long long *id, void **captured,
                             void *const **nodes, size_t *count)
{
    ENTER();
    static void *last;
    const stream *target = on;
    graph *written = target != NULL ? target->capture : NULL;
    *status = written == NULL ? 0 : target->broken ? 2 : 1;
    *id = 1;
    *captured = written;
    *count = written != NULL && written->count != 0;
    last = *count != 0 ? &written->nodes[written->count - 1] : NULL;
    *nodes = &last;
    return fake_unlock(SUCCESS);
}

CU cuGraphGetNodes(void *captured, void **nodes, size_t *count)
{
    ENTER();
    graph *written = captured;
    for (size_t i = 0; nodes != NULL && i < written->count && i < *count; i++) {
        nodes[i] = &written->nodes[i];
    }
    *count = written->count;
    return fake_unlock(SUCCESS);
}

CU cuGraphNodeGetType(void *what, int *type)
{
    ENTER();
    /* The tests' kernels are calls; that they are calls of the host is a wish. */
    const node_kind kind = ((const node *)what)->kind;
    *type = kind == COPY ? 1 : kind == FILL ? 2 : 0;
    *type = kind == CALL && getenv("FAKE_CUDA_HOST_NODES") != NULL ? 3 : *type;
    return fake_unlock(SUCCESS);
}

CU_GIVES(cuGraphDestroy, (void *captured), fake_end(captured))

static int copy_graph(void **made, const void *captured)
{
    const int result = fake_make(made, sizeof(graph));
    if (result == SUCCESS) {
        memcpy(*made, captured, sizeof(graph));
    }
    return result;
}

CU_GIVES(cuGraphInstantiateWithFlags, (void **made, void *captured, unsigned long long flags),
         flags == 0 ? copy_graph(made, captured) : INVALID_VALUE)

CU cuGraphInstantiate_v2(void **made, void *captured, void **wrong, char *log, size_t size)
{
    ENTER();
    *wrong = NULL;
    (void)snprintf(log, size, "%s", "");
    return fake_unlock(copy_graph(made, captured));
}

static int launched_priority;

__attribute__((visibility("default"))) unsigned long fake_cuda_urgency(void)
{
    return (unsigned long)-launched_priority;
}

CU cuGraphLaunch(void *executable, void *on)
{
    ENTER();
    const graph *launched = executable;
    int result = SUCCESS;
    launched_priority = launched->priority;
    for (size_t i = 0; i < launched->count && result == SUCCESS; i++) {
        if (launched->nodes[i].kind == COPY) {
            fake_nanoseconds += (unsigned long)fake_setting("FAKE_CUDA_SLOW", 0) * 1000;
        }
        result = fake_enqueue(on, &launched->nodes[i]);
    }
    return fake_unlock(result);
}

CU_GIVES(cuGraphExecDestroy, (void *executable), fake_end(executable))

static int update(graph *old, const graph *captured)
{
    int same = old->count == captured->count && !fake_says("FAKE_CUDA_UPDATE", "fail");
    for (size_t i = 0; same && i < old->count; i++) {
        same = old->nodes[i].kind == captured->nodes[i].kind;
    }
    if (!same) {
        return UPDATE_FAILURE;
    }
    *old = *captured;
    return SUCCESS;
}

CU cuGraphExecUpdate(void *executable, void *captured, void **wrong, int *result)
{
    ENTER();
    *wrong = NULL;
    *result = 0;
    return fake_unlock(update(executable, captured));
}

CU cuGraphExecUpdate_v2(void *executable, void *captured, void *result)
{
    ENTER();
    memset(result, 0, 3 * sizeof(void *));
    return fake_unlock(update(executable, captured));
}
