/* analyze: what is found in documents, with the field's codes. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/inputs.h"
#include "cli/print.h"

struct analyze_options {
    const char *output, *ns, *fail_at, *show_at, *mesh;
    struct arg_list suppress;
    enum arg_maybe color;
    bool all, list, use_kube, ignore_unknown, recursive, verbose;
};
#define AT(member) offsetof(struct analyze_options, member)
static const struct arg_flag analyze_flags[] = {
    { "output", 'o', ARG_TEXT, AT(output), "Output format: one of [log json yaml]" },
    { "namespace", 'n', ARG_TEXT, AT(ns),
      "Only findings of this namespace; objects that name none are in it" },
    { "all-namespaces", 'A', ARG_SWITCH, AT(all), "Analyze all namespaces" },
    { "failure-threshold", 0, ARG_TEXT, AT(fail_at),
      "Level from which findings make the exit code 79: Info, Warning or Error (Error)" },
    { "output-threshold", 0, ARG_TEXT, AT(show_at), "Level from which findings are shown (Info)" },
    { "suppress", 'S', ARG_LIST, AT(suppress),
      "<code>=<resource>, as IST0102=Namespace demo; '*' stands for anything" },
    { "list-analyzers", 'L', ARG_SWITCH, AT(list), "Lists the codes that may be found" },
    { "meshConfigFile", 0, ARG_TEXT, AT(mesh),
      "File with the MeshConfig; a directory's own is its mesh.yaml" },
    { "use-kube", 'k', ARG_SWITCH, AT(use_kube), "Not possible: only files are read (false)" },
    { "ignore-unknown", 0, ARG_SWITCH, AT(ignore_unknown),
      "Documents that cannot be read are not an error" },
    { "color", 0, ARG_MAYBE, AT(color),
      "Whether to use colours: true, false; otherwise on terminals only" },
    { "recursive", 'R', ARG_SWITCH, AT(recursive), "Was once: directories are always read whole" },
    { "verbose", 'v', ARG_SWITCH, AT(verbose), "Tell what was analyzed" },
};
#undef AT

static bool level_of(const char *text, enum mz_level *out)
{
    for (int l = MZ_LEVEL_INFO; l <= MZ_LEVEL_ERROR; l++)
        if (mz_str_ieq(mz_str_c(text), mz_str_c(mz_finding_level((enum mz_level)l)))) {
            *out = (enum mz_level)l;
            return true;
        }
    return false;
}

/* '*' in @pattern stands for anything. */
static bool is_like(struct mz_str pattern, struct mz_str text)
{
    size_t p = 0, t = 0, star = SIZE_MAX, mark = 0;
    while (t < text.n) {
        if (p < pattern.n && pattern.p[p] == '*') {
            star = p++;
            mark = t;
        } else if (p < pattern.n && pattern.p[p] == text.p[t]) {
            p++;
            t++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            t = ++mark;
        } else {
            return false;
        }
    }
    while (p < pattern.n && pattern.p[p] == '*')
        p++;
    return p == pattern.n;
}

static bool is_suppressed(const struct analyze_options *o, const struct mz_finding *f)
{
    char code[16], name[600], origin[600];
    const struct mz_object *of = f->of;
    (void)snprintf(code, sizeof(code), "IST%04u", f->code);
    (void)snprintf(name, sizeof(name), "%.*s %.*s%s%.*s", MZ_STR_ARG(of->kind),
                   MZ_STR_ARG(of->name), of->ns.n ? "." : "", MZ_STR_ARG(of->ns));
    (void)snprintf(origin, sizeof(origin), "%.*s %.*s%s%.*s", MZ_STR_ARG(of->kind),
                   MZ_STR_ARG(of->ns), of->ns.n ? "/" : "", MZ_STR_ARG(of->name));
    for (size_t i = 0; i < o->suppress.n; i++) {
        struct mz_str rest = mz_str_c(o->suppress.v[i]), part;
        if (mz_str_split(&rest, '=', &part) && mz_str_eq(part, mz_str_c(code)) &&
            (is_like(rest, mz_str_c(name)) || is_like(rest, mz_str_c(origin))))
            return true;
    }
    return false;
}

static bool is_wanted(const struct analyze_options *o, const struct mz_finding *f)
{
    return !is_suppressed(o, f) &&
           (o->all || mz_str_eq(f->of->ns, mz_str_c(o->ns)) || !f->of->ns.n);
}

/* ---- output ---- */

static bool use_color(const struct analyze_options *o)
{
    const char *term = getenv("TERM"); /* NOLINT(concurrency-mt-unsafe): one thread */
    if (o->color)
        return o->color == ARG_YES;
    return isatty(STDOUT_FILENO) && term && strcmp(term, "dumb") != 0;
}

static void print_line(const struct mz_finding *f, bool color)
{
    static const char *const colors[] = { [MZ_LEVEL_INFO] = "\033[1;32m",
                                          [MZ_LEVEL_WARNING] = "\033[33m",
                                          [MZ_LEVEL_ERROR] = "\033[1;31m" };
    const struct mz_object *of = f->of;
    printf("%s%s%s [IST%04u] (%.*s %.*s%s%.*s %.*s:%u) %.*s\n", color ? colors[f->level] : "",
           mz_finding_level(f->level), color ? "\033[0m" : "", f->code, MZ_STR_ARG(of->kind),
           MZ_STR_ARG(of->ns), of->ns.n ? "/" : "", MZ_STR_ARG(of->name), MZ_STR_ARG(of->file),
           f->line, MZ_STR_ARG(f->text));
}

static struct mz_node *make_text(struct mz_arena *a, struct mz_str s)
{
    struct mz_node *n = mz_arena_new0(a, struct mz_node);
    n->kind = MZ_NODE_STR;
    n->text = s;
    return n;
}

static const struct mz_node *make_finding(struct mz_arena *a, const struct mz_finding *f)
{
    const struct mz_object *of = f->of;
    const struct {
        const char *key;
        struct mz_str value;
    } members[] = {
        { "code", mz_arena_printf(a, "IST%04u", f->code) },
        { "documentationUrl",
          mz_arena_printf(a, "https://istio.io/latest/docs/reference/config/analysis/ist%04u/",
                          f->code) },
        { "level", mz_str_c(mz_finding_level(f->level)) },
        { "message", f->text },
        { "origin", mz_arena_printf(a, "%.*s %.*s%s%.*s", MZ_STR_ARG(of->kind), MZ_STR_ARG(of->ns),
                                    of->ns.n ? "/" : "", MZ_STR_ARG(of->name)) },
        { "reference", mz_arena_printf(a, "%.*s:%u", MZ_STR_ARG(of->file), f->line) },
    };
    struct mz_node *n = mz_arena_new0(a, struct mz_node);
    n->kind = MZ_NODE_MAP;
    n->n = MZ_COUNT(members);
    n->pairs = mz_arena_alloc0(a, sizeof(*n->pairs) * MZ_COUNT(members));
    for (size_t i = 0; i < MZ_COUNT(members); i++)
        n->pairs[i] =
            (struct mz_pair){ mz_str_c(members[i].key), make_text(a, members[i].value), 0, 0 };
    return n;
}

static void print_document(const struct mz_documents *d, const bool *shown, enum show_form form)
{
    struct mz_node *list = mz_arena_new0(d->arena, struct mz_node);
    list->kind = MZ_NODE_LIST;
    list->list = mz_arena_alloc0(d->arena, (d->findings.n + 1) * sizeof(const struct mz_node *));
    for (size_t i = 0; i < d->findings.n; i++)
        if (shown[i])
            list->list[list->n++] = make_finding(d->arena, &d->findings.v[i]);
    show_print(list, form, false, stdout);
}

static void nothing_found(const struct analyze_options *o, const struct inputs *in, size_t broken)
{
    if (broken) {
        fprintf(stderr,
                "No validation issues found when analyzing %s%s (but %zu %s could not be "
                "parsed).\n",
                o->all ? "all namespaces" : "namespace: ", o->all ? "" : o->ns, broken,
                broken == 1 ? "document" : "documents");
        return;
    }
    if (in->files.n == 1) {
        fprintf(stderr, "\u2714 No validation issues found when analyzing %s.\n", in->files.v[0].p);
        return;
    }
    fprintf(stderr, "\u2714 No validation issues found when analyzing:\n");
    for (size_t i = 0; i < in->files.n; i++)
        fprintf(stderr, "  - %s\n", in->files.v[i].p);
    fputc('\n', stderr);
}

static size_t unreadable(const struct mz_documents *d)
{
    size_t n = 0;
    for (size_t i = 0; i < d->faults.n; i++) {
        const struct mz_fault *f = &d->faults.v[i];
        n += f->unreadable;
        if (f->unreadable)
            fprintf(stderr, "Error(s) adding files: %.*s:%u: %.*s\n", MZ_STR_ARG(f->file), f->line,
                    MZ_STR_ARG(f->text));
    }
    return n;
}

static int tell(const struct analyze_options *o, struct mz_documents *d, const struct inputs *in,
                enum mz_level show_at, enum mz_level fail_at)
{
    bool *shown = mz_arena_alloc0(d->arena, d->findings.n + 1);
    const bool log = mz_str_ieq(mz_str_c(o->output), MZ_STR("log")), color = use_color(o);
    const size_t broken = unreadable(d);
    size_t n = 0, failing = 0;
    for (size_t i = 0; i < d->findings.n; i++) {
        const struct mz_finding *f = &d->findings.v[i];
        const bool wanted = is_wanted(o, f);
        shown[i] = wanted && f->level >= show_at;
        failing += wanted && f->level >= fail_at;
        n += shown[i];
        if (shown[i] && log)
            print_line(f, color);
    }
    if (!log)
        print_document(d, shown,
                       mz_str_ieq(mz_str_c(o->output), MZ_STR("yaml")) ? SHOW_YAML : SHOW_JSON);
    (void)fflush(stdout);
    if (o->verbose)
        fprintf(stderr, "Analyzed resources in %s%s\n\n",
                o->all ? "all namespaces" : "namespace: ", o->all ? "" : o->ns);
    if (!n)
        nothing_found(o, in, broken);
    if (!log)
        return EXIT_OK; /* whoever reads the document judges by it */
    if (failing) {
        fprintf(stderr,
                "Error: Analyzers found issues when analyzing %s%s.\nSee "
                "https://istio.io/latest/docs/reference/config/analysis for more information about "
                "causes and resolutions.\n",
                o->all ? "all namespaces" : "namespace: ", o->all ? "" : o->ns);
        return EXIT_FOUND;
    }
    if (broken && !o->ignore_unknown) {
        fprintf(stderr, "Error: Some files couldn't be parsed.\n");
        return EXIT_DATA;
    }
    return EXIT_OK;
}

static bool is_code(struct mz_str text)
{
    uint64_t n;
    bool known = false;
    if (text.n != 7 || !mz_str_starts(text, MZ_STR("IST")) || !mz_str_u64(mz_str_skip(text, 3), &n))
        return false;
    for (size_t i = 0; mz_finding_codes[i]; i++)
        known |= mz_finding_codes[i] == n;
    return known;
}

/* "IST0102=Namespace demo" */
static int check_suppressions(const struct analyze_options *o)
{
    for (size_t i = 0; i < o->suppress.n; i++) {
        const char *s = o->suppress.v[i], *equals = strchr(s, '=');
        if (!equals || strchr(equals + 1, '=')) {
            fprintf(stderr,
                    "Error: %s is not a valid suppression value. See mizzenctl analyze --help\n",
                    s);
            return EXIT_ERROR;
        }
        const struct mz_str code = { s, (size_t)(equals - s) };
        if (!is_code(code))
            fprintf(stderr,
                    "Warning: Supplied message code '%.*s' is an unknown message code and will not "
                    "have any effect.\n",
                    MZ_STR_ARG(code));
    }
    return -1;
}

static int check_options(const struct command *c, const struct analyze_options *o,
                         enum mz_level *show_at, enum mz_level *fail_at)
{
    static const char *const forms[] = { "log", "json", "yaml" };
    bool known = false;
    for (size_t i = 0; i < MZ_COUNT(forms); i++)
        known |= mz_str_ieq(mz_str_c(forms[i]), mz_str_c(o->output));
    if (!known) {
        fprintf(stderr, "Error: %s not a valid option for format. See mizzenctl analyze --help\n",
                o->output);
        return EXIT_USAGE;
    }
    if (!level_of(o->fail_at, fail_at) || !level_of(o->show_at, show_at)) {
        (void)command_usage_error(c, "a threshold is one of Info, Warning, Error");
        return EXIT_USAGE;
    }
    if (o->use_kube)
        return command_usage_error(c, "no cluster is asked: name files or directories");
    return check_suppressions(o);
}

static int run_analyze(const struct command *c, int argc, char **argv)
{
    struct analyze_options o = {
        .output = "log", .ns = "default", .fail_at = "Error", .show_at = "Info"
    };
    struct arg_result r;
    struct mz_err err = { .path = "", .msg = "" };
    enum mz_level show_at = MZ_LEVEL_INFO, fail_at = MZ_LEVEL_ERROR;
    int rc = command_args(c, argc, argv, &o, &r);
    if (rc < 0)
        rc = check_options(c, &o, &show_at, &fail_at);
    if (rc >= 0)
        return rc;
    for (size_t i = 0; o.list && mz_finding_codes[i]; i++)
        printf("IST%04u\n", mz_finding_codes[i]);
    if (o.list)
        return EXIT_OK;
    if (o.recursive) {
        printf("The recursive flag has been removed: directories are always read whole.\n");
        return EXIT_OK;
    }
    if (!r.others.n)
        return command_usage_error(c, "no cluster is asked: name files or directories");
    struct inputs in;
    struct mz_documents d;
    bool ok = true;
    inputs_init(&in);
    mz_documents_init(&d);
    if (o.mesh)
        inputs_add_mesh(&in, o.mesh);
    for (size_t i = 0; ok && i < r.others.n; i++)
        ok = inputs_add(&in, r.others.v[i], &err);
    ok = ok && inputs_read(&in, &d, mz_str_c(o.ns), &err);
    if (ok) {
        mz_documents_add_ingress(&d);
        mz_documents_analyze(&d);
    }
    const int code = ok ? tell(&o, &d, &in, show_at, fail_at) : command_fail(&err);
    mz_documents_fini(&d);
    inputs_fini(&in);
    return code;
}

const struct command command_analyze = {
    .name = "analyze",
    .aliases = "",
    .arguments = "FILE...",
    .run = run_analyze,
    .flags = analyze_flags,
    .flags_n = MZ_COUNT(analyze_flags),
    .help = "Analyze documents and print validation messages",
};
