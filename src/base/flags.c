#include "base/flags.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/str.h"

static void print_help(const struct mz_program *p, const char *called)
{
    printf("\nUSAGE: \n\n   %s %s\n\n\nWhere: \n\n", called, p->usage);
    for (size_t i = 0; i < p->flags_n; i++) {
        const struct mz_flag *f = &p->flags[i];
        const char *value = f->kind == MZ_FLAG_SWITCH   ? ""
                            : f->kind == MZ_FLAG_NUMBER ? " <uint32_t>"
                                                        : " <string>";
        if (f->letter)
            printf("   -%c%s,  --%s%s\n     %s\n\n", f->letter, value, f->name, value, f->help);
        else
            printf("   --%s%s\n     %s\n\n", f->name, value, f->help);
    }
    printf("   --version\n     Displays version information and exits.\n\n   -h,  --help\n"
           "     Displays usage information and exits.\n\n\n   %s\n\n",
           p->name);
}

static const struct mz_flag *find(const struct mz_program *p, struct mz_str arg)
{
    for (size_t i = 0; i < p->flags_n; i++) {
        const struct mz_flag *f = &p->flags[i];
        if (arg.n == 2 && arg.p[0] == '-' && f->letter && arg.p[1] == f->letter)
            return f;
        if (arg.n > 2 && mz_str_starts(arg, MZ_STR("--")) &&
            mz_str_eq(mz_str_skip(arg, 2), mz_str_c(f->name)))
            return f;
    }
    return NULL;
}

int mz_flags_refuse(const char *program, const char *arg, const char *why)
{
    fprintf(stderr,
            "PARSE ERROR: Argument: %s\n             %s\n\nFor complete USAGE and HELP type: \n   "
            "%s --help\n\n",
            arg, why, program);
    return 1;
}

static bool store(const struct mz_flag *f, const char *value, void *options)
{
    void *at = (char *)options + f->at;
    uint64_t n;
    struct mz_flag_texts *texts = at;
    switch (f->kind) {
    case MZ_FLAG_TEXT:
        *(const char **)at = value;
        return true;
    case MZ_FLAG_TEXTS:
        if (texts->n == MZ_FLAG_TEXTS_MAX)
            return false;
        texts->v[texts->n++] = value;
        return true;
    case MZ_FLAG_NUMBER:
        if (!mz_str_u64(mz_str_c(value), &n) || n > UINT32_MAX)
            return false;
        *(uint32_t *)at = (uint32_t)n;
        return true;
    default:
        *(bool *)at = true;
        return true;
    }
}

int mz_flags_parse(const struct mz_program *p, int argc, char **argv, void *out_options)
{
    for (int i = 1; i < argc; i++) {
        struct mz_str arg = mz_str_c(argv[i]);
        const char *value = NULL;
        if (mz_str_eq(arg, MZ_STR("--version"))) {
            printf("\n%s  version: %s\n\n", argv[0], p->version);
            return 0;
        }
        if (mz_str_eq(arg, MZ_STR("--help")) || mz_str_eq(arg, MZ_STR("-h"))) {
            print_help(p, argv[0]);
            return 0;
        }
        ptrdiff_t eq = mz_str_starts(arg, MZ_STR("--")) ? mz_str_chr(arg, '=') : -1;
        if (eq > 0) {
            value = argv[i] + eq + 1;
            arg.n = (size_t)eq;
        }
        const struct mz_flag *f = find(p, arg);
        if (!f)
            return mz_flags_refuse(argv[0], argv[i], "Couldn't find match for argument");
        if (f->kind != MZ_FLAG_SWITCH && !value)
            value = i + 1 < argc ? argv[++i] : NULL;
        if (f->kind != MZ_FLAG_SWITCH && !value)
            return mz_flags_refuse(argv[0], argv[i], "Missing a value for this argument!");
        if (!store(f, value, out_options))
            return mz_flags_refuse(argv[0], argv[i], "Couldn't read argument value");
    }
    return -1;
}
