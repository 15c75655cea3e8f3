#ifndef MZ_CONTROL_INJECT_GOTPL_PRIV_H
#define MZ_CONTROL_INJECT_GOTPL_PRIV_H
#include "base/buf.h"
#include "base/map.h"
#include "base/vec.h"
#include "control/inject/gotpl.h"

enum { TPL_MAX_TEXT = 1 << 20, TPL_MAX_DEPTH = 64, TPL_MAX_STEPS = 1000000, TPL_MAX_OUT = 4 << 20, TPL_MAX_WORK = 64 << 20 };

/* ---- what a text means; everything in the template's arena ---- */
enum tpl_arg_kind {
    TPL_VALUE,    /* a literal */
    TPL_DOT,      /* "." and ".A.B" */
    TPL_VARIABLE, /* "$x.A" ; "$" is the data */
    TPL_CALL,     /* a function without arguments of its own here */
    TPL_PIPE      /* "( ... ).A" */
};
struct tpl_pipe;
struct tpl_arg {
    enum tpl_arg_kind kind;
    struct mz_str text; /* of a variable or function */
    json_t *value;      /* of a literal; the template's */
    struct tpl_pipe *pipe;
    struct mz_str *fields; /* behind it */
    size_t n_fields;
};
struct tpl_command {
    struct tpl_arg *v;
    size_t n;
    struct tpl_command *next; /* takes the result as its last argument */
};
struct tpl_pipe {
    struct mz_str vars[2]; /* that get the value; "": none */
    size_t n_vars;
    bool declares; /* ":=", else "=" */
    struct tpl_command *first;
};
enum tpl_kind { TPL_TEXT, TPL_ACTION, TPL_IF, TPL_RANGE, TPL_WITH, TPL_TEMPLATE, TPL_BREAK, TPL_CONTINUE };
struct tpl_node {
    enum tpl_kind kind;
    uint32_t line;
    struct mz_str text; /* of TEXT; the name of TEMPLATE */
    struct tpl_pipe *pipe;
    struct tpl_node *body, *otherwise; /* lists */
    struct tpl_node *next;
};
struct mz_gotpl {
    struct mz_arena *arena;
    struct tpl_node *body;
    struct mz_map defined;     /* name to struct tpl_defined */
    json_t *literals;          /* array: keeps them */
};
struct tpl_defined {
    struct tpl_node *body;
};

/* ---- a run ---- */
struct tpl_var {
    struct mz_str name;
    json_t *value;
};
struct tpl_run {
    const struct mz_gotpl *t;
    struct mz_arena *arena;
    struct mz_buf out;
    json_t *kept; /* array of everything that was made: a value is borrowed of it */
    json_t *data, *dot;
    struct tpl_var vars[256];
    size_t n_vars;
    unsigned steps, depth;
    size_t work;         /* bytes made and looked through */
    struct mz_map depths; /* lists and maps that were made, by address: how deep they are */
    uint32_t line;
    struct mz_err *err;
};
json_t *tpl_keep(struct tpl_run *r, json_t *v); /* takes it; borrowed until the run ends. NULL stays NULL */
/* As tpl_keep(), of a list or map; NULL: it is nested too deeply. */
json_t *tpl_keep_made(struct tpl_run *r, json_t *v);
/* Costs @bytes more of what a run may cost. False: that is too much; whoever goes on all the same is stopped behind the function. */
bool tpl_spend(struct tpl_run *r, size_t bytes);
/* A value as templates print it; "" where that is too much. */
struct mz_str tpl_print(struct tpl_run *r, json_t *v);
bool tpl_is_true(const json_t *v);
json_t *tpl_field(json_t *v, struct mz_str name); /* NULL: there is none */

/* A function. NULL: it failed and @r's err says why; "nothing" is json_null(). */
typedef json_t *tpl_fn(struct tpl_run *r, json_t *const *v, size_t n);
struct tpl_function {
    const char *name;
    tpl_fn *fn;
    size_t min, max; /* arguments */
};
const struct tpl_function *tpl_function_find(struct mz_str name); /* NULL: nobody knows it */
#endif
