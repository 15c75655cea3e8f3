#ifndef MZ_PROTO_TREE_H
#define MZ_PROTO_TREE_H
/*
 * A document as a tree: what YAML and JSON have in common. Nodes live in the arena of the reader and never change; YAML
 * aliases share nodes, so a tree is a graph without cycles whose unfolded size is bounded (MZ_TREE_MAX_ALIASED).
 */
#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

#define MZ_TREE_MAX_BYTES (256u << 20) /* of text */
#define MZ_TREE_MAX_DEPTH 100 /* of nesting: the stack that any walk needs is bounded by it */
#define MZ_TREE_MAX_ALIASED                                                                        \
    100000 /* nodes that aliases of one document may add when unfolded (H02) */

enum mz_node_kind {
    MZ_NODE_NULL,
    MZ_NODE_BOOL,
    MZ_NODE_NUM,
    MZ_NODE_STR,
    MZ_NODE_LIST,
    MZ_NODE_MAP
};

struct mz_node;
struct mz_pair {
    struct mz_str key;
    const struct mz_node *value;
    uint32_t line, col; /* of the key */
};
struct mz_node {
    enum mz_node_kind kind;
    uint32_t line, col; /* from 1; 0 where unknown */
    uint32_t n;         /* of list or pairs */
    bool
        loose; /* NUM of YAML too large for 32 bits: a string may be made of it as well (as Envoy does) */
    bool fraction; /* STR of YAML that is no string for others: 1.5, 1e3 */
    union {
        bool b;
        struct mz_str text; /* STR: the characters; NUM: a JSON number as written */
        const struct mz_node **list;
        struct mz_pair *pairs; /* keys are unique */
    };
};

enum mz_text_form { MZ_TEXT_YAML, MZ_TEXT_JSON };

/**
 * Reads a whole document. Scalars of YAML follow Envoy 1.40 (YAML 1.1 booleans; integers in decimal, octal and hexadecimal;
 * every other plain scalar, fractions included, is a string that a number field may still read).
 * Errors: syntax, duplicate keys, more than one document, the limits above, text that is not UTF-8. Returns NULL then.
 */
const struct mz_node *mz_tree_read(struct mz_arena *a, struct mz_str text, enum mz_text_form form,
                                   struct mz_err *err);
const char *mz_node_what(const struct mz_node *n,
                         char out_text[64]); /* `string "x"`, `number 7`, `an object` ... */

/* The two readers. */
/* @line0: lines that stand before @text in its file, for what is said of it (one document of several). */
const struct mz_node *mz_tree_read_yaml(struct mz_arena *a, struct mz_str text, uint32_t line0,
                                        struct mz_err *err);
/* As Kubernetes reads documents: plain keys that are words for true and false, or whole numbers, are "true", "false", "16" (for 0x10). */
const struct mz_node *mz_tree_read_kubernetes(struct mz_arena *a, struct mz_str text, uint32_t line0,
                                              struct mz_err *err);
/* As Go's reader takes what templates make: a key may stand twice, and pairs then do; the last counts. */
const struct mz_node *mz_tree_read_yaml_loose(struct mz_arena *a, struct mz_str text, struct mz_err *err);
const struct mz_node *mz_tree_read_json(struct mz_arena *a, struct mz_str text, struct mz_err *err);
bool mz_tree_check_pairs(const struct mz_pair *v, size_t n,
                         struct mz_err *err); /* false on a duplicate key */
bool mz_utf8_valid(struct mz_str s);          /* RFC 3629: shortest forms, no surrogates */
#endif
