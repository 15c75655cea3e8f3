#ifndef MZ_OBSERVE_MATCH_TREE_PRIV_H
#define MZ_OBSERVE_MATCH_TREE_PRIV_H
/* The unified matcher inside: inputs (match_input.c), building (match_build.c), matching (match_tree.c). */
#include "observe/attributes.h"
#include "observe/match_tree.h"
#include "observe/matcher.h"
#include "proto/names.h"
#include "stats/stats.h"

enum input_kind {
    INPUT_HEADER,
    INPUT_QUERY,
    INPUT_DESTINATION_IP,
    INPUT_DESTINATION_PORT,
    INPUT_SOURCE_IP,
    INPUT_SOURCE_PORT,
    INPUT_DIRECT_SOURCE_IP,
    INPUT_SOURCE_TYPE,
    INPUT_SERVER_NAME,
    INPUT_TRANSPORT,
    INPUT_PROTOCOLS, /* "'h2','http/1.1'" */
    INPUT_URI_SAN,
    INPUT_DNS_SAN,
    INPUT_SUBJECT,
    INPUT_FILTER_STATE,
    INPUT_METADATA, /* for the metadata matcher only */
    INPUT_CEL,      /* for the CEL matcher only */
};
struct input {
    enum input_kind kind;
    struct mz_str name;                  /* header, parameter, key; namespace */
    const pb_DynamicMetadataInput *path; /* METADATA, while it is being built */
};
bool input_build(const pb_core_TypedExtensionConfig *m, const struct mz_match_env *env, struct mz_arena *a,
                 struct input *out, struct mz_err *err);
/* Texts of an input, one after the other: of a header first all, joined. False: no more. */
struct values {
    const struct input *input;
    const struct mz_match_input *in;
    unsigned i;
    const struct mz_header *next;
    char text[MZ_ADDR_TEXT];
};
bool values_next(struct values *v, struct mz_str *out);
const struct mz_addr *input_address(const struct input *i, const struct mz_match_input *in); /* NULL: it is none */

enum test_kind { TEST_STRING, TEST_IP, TEST_METADATA, TEST_CEL };
enum predicate_kind { PREDICATE_ONE, PREDICATE_OR, PREDICATE_AND, PREDICATE_NOT };
struct predicate {
    enum predicate_kind kind;
    struct predicate *v; /* OR, AND, NOT */
    size_t n;
    /* ONE */
    struct input input;
    enum test_kind test;
    struct mz_string_match *string;
    struct mz_cidr *cidrs;
    size_t n_cidrs;
    struct mz_scope *scope; /* of TEST_IP; NULL: not counted */
    struct mz_metadata_match *metadata;
    struct mz_cel *cel;
};
struct node;
struct on_match { /* nothing where both are NULL */
    const struct node *node;
    const void *action;
};
struct entry { /* of a list, or of a map */
    struct predicate predicate; /* LIST */
    struct mz_str key;          /* EXACT, PREFIX, DOMAIN */
    struct mz_cidr cidr;        /* IP */
    bool exclusive;
    size_t at; /* where it stands in the configuration */
    struct on_match on;
};
enum node_kind { NODE_LIST, NODE_EXACT, NODE_PREFIX, NODE_IP, NODE_DOMAIN };
struct node {
    enum node_kind kind;
    struct input input;
    struct entry *v; /* EXACT: sorted; PREFIX, IP, DOMAIN: the longest first */
    size_t n;
    struct on_match on_no_match;
};
struct mz_match_tree {
    struct mz_arena *arena;
    struct node root;
};
enum { IP_PARSING_FAILED };
bool node_build(const pb_Matcher *m, const struct mz_match_env *env, struct mz_arena *a, struct node *out,
                struct mz_err *err);
bool predicate_build(const pb_Matcher_MatcherList_Predicate *m, const struct mz_match_env *env, struct mz_arena *a,
                     struct predicate *out, struct mz_err *err);
#endif
