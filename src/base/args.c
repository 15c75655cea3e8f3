#include "base/args.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"

static bool add(struct arg_list *l, const char *value, char why[256])
{
    if (l->n == ARG_LIST_MAX) {
        (void)snprintf(why, 256, "more than %d values", ARG_LIST_MAX);
        return false;
    }
    l->v[l->n++] = value;
    return true;
}

static bool is_bool(struct mz_str v, bool *out)
{
    *out = mz_str_ieq(v, MZ_STR("true")) || mz_str_eq(v, MZ_STR("1"));
    return *out || mz_str_ieq(v, MZ_STR("false")) || mz_str_eq(v, MZ_STR("0"));
}

static bool is_switch(const struct arg_flag *f)
{
    return f->kind == ARG_SWITCH || f->kind == ARG_MAYBE;
}

static bool store(const struct arg_flag *f, const char *value, void *options, char why[256])
{
    void *at = (char *)options + f->at;
    const struct mz_str v = mz_str_c(value);
    uint64_t number;
    bool yes;
    switch (f->kind) {
    case ARG_TEXT:
        *(const char **)at = value;
        return true;
    case ARG_LIST:
        return add(at, value, why);
    case ARG_NUMBER:
        if (mz_str_u64(v, &number) && number <= UINT32_MAX) {
            *(uint32_t *)at = (uint32_t)number;
            return true;
        }
        break;
    default:
        if (!is_bool(v, &yes))
            break;
        if (f->kind == ARG_MAYBE)
            *(enum arg_maybe *)at = yes ? ARG_YES : ARG_NO;
        else
            *(bool *)at = yes;
        return true;
    }
    (void)snprintf(why, 256, "invalid argument \"%.80s\" for \"--%s\" flag", value, f->name);
    return false;
}

static const struct arg_flag *find(const struct arg_flag *flags, size_t n, struct mz_str name,
                                   char letter)
{
    for (size_t i = 0; i < n; i++)
        if (letter ? flags[i].letter == letter : mz_str_eq(name, mz_str_c(flags[i].name)))
            return &flags[i];
    return NULL;
}

struct line {
    const struct arg_flag *flags;
    size_t n;
    int argc, at;
    char **argv;
    void *options;
    struct arg_result *out;
    char *why;
};

/* @value NULL: none came with the flag. */
static bool take(struct line *l, const struct arg_flag *f, const char *value)
{
    if (!value && is_switch(f))
        value = "true";
    if (!value && l->at + 1 < l->argc)
        value = l->argv[++l->at];
    if (!value) {
        (void)snprintf(l->why, 256, "flag needs an argument: --%s", f->name);
        return false;
    }
    return store(f, value, l->options, l->why);
}

static bool long_flag(struct line *l, const char *arg)
{
    const char *eq = strchr(arg, '=');
    const struct mz_str name = { arg, eq ? (size_t)(eq - arg) : strlen(arg) };
    if (mz_str_eq(name, MZ_STR("help"))) {
        l->out->help = true;
        return true;
    }
    const struct arg_flag *f = find(l->flags, l->n, name, 0);
    if (!f) {
        (void)snprintf(l->why, 256, "unknown flag: --%.*s", (int)(name.n > 80 ? 80 : name.n),
                       name.p);
        return false;
    }
    return take(l, f, eq ? eq + 1 : NULL);
}

/* Switches may stand together: -vA. */
static bool short_flags(struct line *l, const char *arg)
{
    for (; *arg; arg++) {
        const struct arg_flag *f = find(l->flags, l->n, MZ_STR(""), *arg);
        if (!f && *arg == 'h') {
            l->out->help = true;
            continue;
        }
        if (!f) {
            (void)snprintf(l->why, 256, "unknown shorthand flag: '%c' in -%.80s", *arg, arg);
            return false;
        }
        if (arg[1] == '=')
            return take(l, f, arg + 2);
        if (!is_switch(f))
            return take(l, f, arg[1] ? arg + 1 : NULL);
        if (!take(l, f, NULL))
            return false;
    }
    return true;
}

bool args_parse(const struct arg_flag *flags, size_t n, int argc, char **argv, void *options,
                struct arg_result *out, char out_why[256])
{
    struct line l = { flags, n, argc, 0, argv, options, out, out_why };
    bool ok = true, flags_end = false;
    *out = (struct arg_result){ 0 };
    for (; ok && l.at < argc; l.at++) {
        const char *arg = argv[l.at];
        if (flags_end || arg[0] != '-' || !arg[1])
            ok = add(&out->others, arg, out_why);
        else if (strcmp(arg, "--") == 0)
            flags_end = true;
        else
            ok = arg[1] == '-' ? long_flag(&l, arg + 2) : short_flags(&l, arg + 1);
    }
    return ok;
}
