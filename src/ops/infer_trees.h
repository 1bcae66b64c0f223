/* SPDX-License-Identifier: Apache-2.0 */
/* Declarations shared by the two forms of tree ensembles. Private to this module. */
#ifndef KLN_INFER_TREES_H
#define KLN_INFER_TREES_H

#include "infer_rules.h"

#define KLN_TREE_LEAF UINT32_MAX

/* Nodes by their place in the lists of attributes. */
typedef struct kln_forest {
    kln_rule *rule;
    size_t count;
    uint32_t *children[2]; /* KLN_TREE_LEAF: none */
    bool (*enter)(struct kln_forest *f, uint32_t node);
    uint32_t *stamp; /* the tree that a node was last reached in */
    uint8_t *stage;  /* the side that comes next */
    uint32_t *stack;
    size_t visits;
    bool shares; /* a node's true side may be what the tree went to before */
    int64_t leaves, targets;
    const bool *finds; /* of nodes that look for members: there are some; or NULL */
} kln_forest;

/* infer_trees.c: the attributes with the nodes to go to, the false side first. */
extern const char *const kln_tree_sides[2];

/* An element of a list, or an attribute of one number (`at` SIZE_MAX), past its ends is told. */
bool kln_tree_within(kln_rule *rule, const char *name, size_t at, int64_t value, int64_t least,
                     int64_t most);
/* The same of a list of numbers that is there. */
bool kln_tree_element(const kln_forest *f, const char *name, size_t at, int64_t least,
                      int64_t most);
/* The input has the feature of that node, as far as is known. */
bool kln_tree_feature(const kln_forest *f, uint32_t node);
/* Memory for `count` nodes; false where there are none. */
bool kln_tree_make(kln_forest *f);
/* Goes through a tree from its root on, and to no node twice. `tree`: at least 1. */
bool kln_tree_check(kln_forest *f, uint32_t root, uint32_t tree);

#endif
