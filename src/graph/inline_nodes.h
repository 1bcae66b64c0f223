/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes of a function's body, or of a branch, in the place of the node that holds them. */
#ifndef INLINE_NODES_H
#define INLINE_NODES_H

#include "kln_graph.h"

/* Whose nodes are copied, and what their names become. */
typedef struct inline_frame {
    const kln_onnx_function *function; /* NULL: the model, or a branch */
    const kln_onnx_node *call;         /* with names as the caller's caller knows them */
    const char *prefix;                /* of all other names; NULL: they stay */
    kln_names formal;                  /* names that become others, to `actual` */
    const char **actual;
    size_t depth;
} inline_frame;

struct inliner;
/* Adds the nodes of what `node`, node `index` of its graph, holds or calls, and sets `*replaced`;
 * or leaves it. The node's names and attributes are those of the result already. */
typedef kiln_status (*inline_replace)(struct inliner *in, const inline_frame *frame, size_t index,
                                      const kln_onnx_node *node, bool *replaced);

typedef struct inliner {
    kln_onnx_model *model;
    kln_arena *arena;
    kln_onnx_graph *made; /* that nodes go to, */
    kln_onnx_graph *main; /* and that of the model */
    size_t count;         /* of nodes that were replaced */
    size_t nodes;
    inline_replace replace;
    void *user;
} inliner;

KILN_MUST_CHECK kiln_status inline_no_memory(void);

/* Room in the frame for so many names that become others. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status inline_begin_names(const inliner *in, inline_frame *frame,
                                               size_t count);
/* One of them. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status inline_bind(inline_frame *frame, const char *formal, const char *actual,
                                        size_t *count);
/* What a name of the frame is called in the result. NULL: no memory. */
const char *inline_name(const inliner *in, const inline_frame *frame, const char *name);
/* "NAME/3/", which no other replaced node has. NULL: no memory. */
const char *inline_prefix(inliner *in, const kln_onnx_node *node);
KILN_MUST_CHECK kiln_status inline_identity(inliner *in, const char *from, const char *to);

/* LIMIT, OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status inline_nodes(inliner *in, const inline_frame *frame,
                                         const kln_onnx_node *nodes, size_t count);
/* All nodes of the model's main graph; it is as it was on an error, and where none was replaced. */
KILN_MUST_CHECK kiln_status inline_model(inliner *in);

#endif
