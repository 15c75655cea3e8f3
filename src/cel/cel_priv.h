#ifndef MZ_CEL_CEL_PRIV_H
#define MZ_CEL_CEL_PRIV_H
/* Nodes of a program (build.c), who makes them (parse.c of text, ast.c of messages), who runs them (eval.c, functions.c). */
#include "cel/cel.h"

#include "base/regex.h"

#define TEXT_MAX  65536
#define NODES_MAX 10000
#define DEPTH_MAX 100
#define SLOTS_MAX 16 /* variables of loops, two a loop */

enum node_kind {
    NODE_CONST,
    NODE_GLOBAL, /* i: number of the variable */
    NODE_LOCAL,  /* i: slot */
    NODE_SELECT, /* v[0].name */
    NODE_HAS,    /* has(v[0].name) */
    NODE_CALL,   /* fn(v...) */
    NODE_AND,
    NODE_OR,
    NODE_COND,  /* v[0] ? v[1] : v[2] */
    NODE_LIST,  /* v... */
    NODE_MAP,   /* v: key, value, key, value... */
    NODE_LOOP,  /* enum loop_part */
    NODE_TRUTH, /* not_strictly_false(v[0]): true unless it is false */
};
enum loop_part { LOOP_RANGE, LOOP_INIT, LOOP_CONDITION, LOOP_STEP, LOOP_RESULT, LOOP_PARTS };

struct function;
struct node {
    uint8_t kind;
    uint16_t depth; /* levels below, with this one */
    uint32_t n;
    uint32_t i, accu; /* slots of a loop: variable, accumulator */
    struct node **v;
    const struct function *fn;
    struct mz_regex *regex; /* of matches() */
    struct mz_str name;
    struct mz_cel_value value;
};
struct mz_cel {
    struct mz_arena *arena;
    struct node *root;
    uint64_t used; /* bit per variable */
    bool concat;
};

/* ---- evaluation ---- */
struct run {
    const struct mz_cel *program;
    const struct mz_cel_vars *vars;
    struct mz_arena *arena;
    uint64_t cost;
    bool too_dear;
    struct mz_cel_value slots[SLOTS_MAX];
};
/* Charges @n more; false: the limit is reached. */
static inline bool run_pay(struct run *r, uint64_t n)
{
    r->cost += n;
    if (r->cost <= MZ_CEL_COST)
        return true;
    r->too_dear = true;
    return false;
}
void node_eval(struct run *r, const struct node *n, struct mz_cel_value *out);

typedef void (*function_fn)(struct run *r, const struct node *call, const struct mz_cel_value *v,
                            struct mz_cel_value *out);
struct function {
    struct mz_str name;
    uint8_t min, max; /* arguments, the target of a member call counts */
    bool member, global; /* how it may be written */
    bool conversion; /* only with env.string_conversion */
    function_fn run; /* arguments are no errors */
};
#define FUNCTION_ARGS 3
const struct function *function_find(struct mz_str name, bool member, uint32_t n);

/* ---- values (value.c) ---- */
extern const char error_overload[], error_key[], error_overflow[], error_range[];
int value_cmp(const struct mz_cel_value *a, const struct mz_cel_value *b, bool *out_ok);
bool values_equal(struct run *r, const struct mz_cel_value *a, const struct mz_cel_value *b, unsigned depth);
extern const struct mz_cel_map map_of_pairs; /* obj: struct pairs */
struct pairs {
    const struct mz_cel_value *v; /* key, value, key, value... */
    size_t n;                     /* pairs */
};
bool duration_parse(struct mz_str text, struct mz_cel_value *out);
bool timestamp_parse(struct mz_str text, struct mz_cel_value *out);
void type_name(const struct mz_cel_value *v, struct mz_cel_value *out);

/* ---- building (build.c) ---- */
struct local {
    struct mz_str name;
    uint32_t slot;
};
struct build {
    struct mz_cel *p;
    const struct mz_cel_env *env;
    struct mz_err *err;
    uint32_t nodes;
    uint32_t n_locals;
    struct local locals[SLOTS_MAX];
};
/* NULL where a limit is reached or something is wrong: err is set. Members given as NULL pass on as NULL. */
struct node *build_const(struct build *b, struct mz_cel_value v);
struct node *build_ident(struct build *b, struct mz_str name);
struct node *build_select(struct build *b, struct node *of, struct mz_str field, bool test);
struct node *build_call(struct build *b, struct mz_str name, bool member, struct node **args, uint32_t n);
struct node *build_many(struct build *b, enum node_kind kind, struct node **v, uint32_t n);
bool build_enter(struct build *b, struct mz_str name); /* a variable of a loop, until ... */
void build_leave(struct build *b);
struct node *build_loop(struct build *b, uint32_t variable, uint32_t accu, struct node *parts[LOOP_PARTS]);
struct mz_cel *build_done(struct build *b, struct node *root);
bool build_begin(struct build *b, const struct mz_cel_env *env, struct mz_err *err);
#endif
