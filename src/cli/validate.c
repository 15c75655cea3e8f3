/* validate -f: what would be refused when these objects are written, and what would be warned of. */
#include <stdio.h>

#include "cli/command.h"
#include "cli/inputs.h"
#include "control/analyze/written.h"

struct validate_options {
    struct arg_list files;
    const char *ns;
};
#define AT(member) offsetof(struct validate_options, member)
static const struct arg_flag validate_flags[] = {
    { "filename", 'f', ARG_LIST, AT(files), "Inputs of files to validate" },
    { "namespace", 'n', ARG_TEXT, AT(ns), "Namespace of objects that name none (default)" },
};
#undef AT

static size_t count(const struct mz_documents *d, bool warnings, struct mz_str file)
{
    size_t n = 0;
    for (size_t i = 0; i < d->faults.n; i++)
        n +=
            d->faults.v[i].warning == warnings && (!file.n || mz_str_eq(d->faults.v[i].file, file));
    return n;
}

static void list(const struct mz_documents *d, bool warnings, struct mz_str file, FILE *to)
{
    for (size_t i = 0; i < d->faults.n; i++) {
        const struct mz_fault *f = &d->faults.v[i];
        if (f->warning != warnings || (file.n && !mz_str_eq(f->file, file)))
            continue;
        if (f->key.n)
            fprintf(to, "\t* %.*s: %.*s\n", MZ_STR_ARG(f->key), MZ_STR_ARG(f->text));
        else
            fprintf(to, "\t* %.*s:%u: %.*s\n", MZ_STR_ARG(f->file), f->line, MZ_STR_ARG(f->text));
    }
}

static int tell(struct mz_documents *d, const struct inputs *in)
{
    const size_t errors = count(d, false, MZ_STR(""));
    for (size_t i = 0; i < in->files.n; i++) {
        const struct mz_str file = in->files.v[i];
        const bool standard = mz_str_eq(file, MZ_STR("-"));
        if (count(d, true, file)) {
            if (!standard)
                printf("\"%.*s\" has warnings: \n", MZ_STR_ARG(file));
            list(d, true, file, stdout);
            printf("\n");
        } else if (!errors && standard) {
            printf("validation succeed\n");
        } else if (!errors) {
            printf("\"%.*s\" is valid\n", MZ_STR_ARG(file));
        }
    }
    if (!errors)
        return EXIT_OK;
    (void)fflush(stdout);
    fprintf(stderr, "Error: %zu error%s occurred:\n", errors, errors == 1 ? "" : "s");
    list(d, false, MZ_STR(""), stderr);
    fputc('\n', stderr);
    return EXIT_ERROR;
}

static int run_validate(const struct command *c, int argc, char **argv)
{
    struct validate_options o = { .ns = "default" };
    struct arg_result r;
    struct mz_err err = { .path = "", .msg = "" };
    const int rc = command_args(c, argc, argv, &o, &r);
    if (rc >= 0)
        return rc;
    if (!o.files.n || r.others.n)
        return command_usage_error(c, "must specify a filename with -f");
    struct inputs in;
    struct mz_documents d;
    bool ok = true;
    inputs_init(&in);
    mz_documents_init(&d);
    for (size_t i = 0; ok && i < o.files.n; i++)
        ok = inputs_add(&in, o.files.v[i], &err);
    ok = ok && inputs_read(&in, &d, mz_str_c(o.ns), &err);
    if (ok)
        mz_documents_check_written(&d);
    const int code = ok ? tell(&d, &in) : command_fail(&err);
    mz_documents_fini(&d);
    inputs_fini(&in);
    return code;
}

const struct command command_validate = {
    .name = "validate",
    .aliases = "v",
    .arguments = "-f FILE",
    .run = run_validate,
    .flags = validate_flags,
    .flags_n = MZ_COUNT(validate_flags),
    .help = "Validate policy and rules files",
};
