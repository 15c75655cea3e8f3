/*
 * Puts rules in place. iptables: what is there is compared with what is wanted, so that a container that starts again changes
 * nothing; other rules are replaced behind a guard that drops everything meanwhile (--reconcile). nft replaces in one step.
 */
#include <stdio.h>

#include "agent/capture/capture.h"

#define TIMEOUT "--wait=30" /* seconds that another program may hold the lock */

struct family {
    int version;      /* 4 or 6 */
    const char *name; /* "IPv4" */
    const char *tool, *save, *restore;
    struct mz_capture_rules rules;
};

static const char *tool(struct mz_arena *a, int version, const char *binary, const char *suffix)
{
    return mz_arena_printf(a, "ip%stables%s%s%s", version == 6 ? "6" : "", binary[0] ? "-" : "",
                           binary, suffix)
        .p;
}

static struct mz_capture_run run(const struct mz_capture_config *c, struct mz_arena *a,
                                 const char *const *argv, struct mz_str input)
{
    if (c->dry_run)
        return (struct mz_capture_run){ 0 };
    return mz_capture_exec(a, argv, input);
}

/* The words of a rule are separated by single blanks and hold no quotes: see mz_capture_check(). */
static struct mz_capture_run run_rule(const struct mz_capture_config *c, struct mz_arena *a,
                                      const struct family *f, const char *operation,
                                      const struct mz_capture_rule *r)
{
    const char *argv[64] = { f->tool, TIMEOUT, "-t", r->table, operation, r->chain };
    size_t n = 6;
    struct mz_str rest = r->text, word;
    while (n < 63 && mz_str_split(&rest, ' ', &word))
        if (word.n)
            argv[n++] = mz_arena_dup(a, word).p;
    argv[n] = NULL;
    return run(c, a, argv, (struct mz_str){ 0 });
}

static size_t lines_starting(struct mz_str text, struct mz_str table, struct mz_str start)
{
    struct mz_str line;
    bool inside = false;
    size_t n = 0;
    while (mz_str_split(&text, '\n', &line)) {
        if (line.n && line.p[0] == '*')
            inside = mz_str_eq(mz_str_trim(mz_str_skip(line, 1)), table);
        n += inside && mz_str_starts(line, start);
    }
    return n;
}

static bool is_ours(struct mz_str line)
{
    return mz_str_starts(line, MZ_STR(":ISTIO_")) ||
           (mz_str_starts(line, MZ_STR("-A ")) && mz_str_find(line, MZ_STR("-j ISTIO_")) >= 0);
}

static bool has_ours(struct mz_str saved)
{
    struct mz_str line;
    while (mz_str_split(&saved, '\n', &line))
        if (is_ours(line))
            return true;
    return false;
}

/* Every wanted rule is there, and our chains hold no others. */
static bool in_place(const struct mz_capture_config *c, struct mz_arena *a, const struct family *f,
                     struct mz_str saved)
{
    size_t ours = 0, wanted = 0;
    struct mz_str line, rest = saved;
    while (mz_str_split(&rest, '\n', &line))
        ours += mz_str_starts(line, MZ_STR("-A ISTIO_"));
    MZ_CAPTURE_EACH (r, &f->rules)
        wanted += mz_str_starts(mz_str_c(r->chain), MZ_STR("ISTIO_"));
    if (ours != wanted)
        return false;
    MZ_CAPTURE_EACH (r, &f->rules) {
        struct mz_str chain = mz_arena_printf(a, ":%s ", r->chain);
        if (!lines_starting(saved, mz_str_c(r->table), chain) ||
            run_rule(c, a, f, "-C", r).status != 0)
            return false;
    }
    return true;
}

/* What is there under our names goes, whichever settings made it: jumps first, then the chains. */
static void clean(const struct mz_capture_config *c, struct mz_arena *a, const struct family *f,
                  struct mz_str saved)
{
    MZ_VEC(struct mz_str) out = { 0 };
    struct mz_str line, table = { 0 };
    for (int pass = 0; pass < 3; pass++) {
        struct mz_str rest = saved;
        while (mz_str_split(&rest, '\n', &line)) {
            struct mz_str head;
            if (line.n && line.p[0] == '*') {
                table = line;
                *mz_vec_push(&out, MZ_MEM_CONFIG) =
                    mz_arena_printf(a, MZ_STR_FMT "\n", MZ_STR_ARG(table));
            } else if (mz_str_eq(line, MZ_STR("COMMIT"))) {
                *mz_vec_push(&out, MZ_MEM_CONFIG) = MZ_STR("COMMIT\n");
            } else if (pass == 0 && is_ours(line) && line.p[0] == '-' &&
                       !mz_str_starts(line, MZ_STR("-A ISTIO_"))) {
                *mz_vec_push(&out, MZ_MEM_CONFIG) =
                    mz_arena_printf(a, "-D" MZ_STR_FMT "\n", MZ_STR_ARG(mz_str_skip(line, 2)));
            } else if (pass > 0 && mz_str_starts(line, MZ_STR(":ISTIO_")) &&
                       mz_str_split(&line, ' ', &head)) {
                *mz_vec_push(&out, MZ_MEM_CONFIG) =
                    mz_arena_printf(a, "-%c " MZ_STR_FMT "\n", pass == 1 ? 'F' : 'X',
                                    MZ_STR_ARG(mz_str_skip(head, 1)));
            }
        }
    }
    const char *const argv[] = { f->restore, "--noflush", TIMEOUT, NULL };
    struct mz_str text = out.n ? mz_arena_cat(a, out.n, out.v) : (struct mz_str){ 0 };
    mz_vec_free(&out, MZ_MEM_CONFIG);
    (void)run(c, a, argv, text);
    /* rules outside of our chains that do not name them (TPROXY's marks, interfaces left alone) go by their words */
    struct mz_capture_config tproxy = *c;
    struct mz_capture_rules all = { 0 };
    tproxy.mode = "TPROXY"; /* whatever was set the last time */
    mz_capture_iptables_rules(&tproxy, f->version, a, &all);
    MZ_CAPTURE_EACH (r, &all)
        if (!mz_str_starts(mz_str_c(r->chain), MZ_STR("ISTIO_")) &&
            mz_str_find(r->text, MZ_STR("-j ISTIO_")) < 0)
            while (!c->dry_run && run_rule(c, a, f, "-D", r).status == 0) {
            }
    mz_vec_free(&all.v, MZ_MEM_CONFIG);
}

/* Between the old rules and the new ones nothing may pass uncaptured. */
static bool guard(const struct mz_capture_config *c, struct mz_arena *a, const struct family *f,
                  bool on)
{
    static const char *const chains[] = { "INPUT", "FORWARD", "OUTPUT" };
    bool ok = true;
    for (size_t i = 0; i < 6; i++) {
        const struct mz_capture_rule r = {
            "filter", chains[i / 2], i % 2 ? MZ_STR("-p udp -j DROP") : MZ_STR("-p tcp -j DROP"), -1
        };
        if (on)
            ok = run_rule(c, a, f, "-I", &r).status == 0 && ok;
        else
            ok = run_rule(c, a, f, "-D", &r).status == 0 && ok;
    }
    return ok;
}

static struct mz_str saved_rules(const struct mz_capture_config *c, struct mz_arena *a,
                                 const struct family *f)
{
    const char *const argv[] = { f->save, NULL };
    struct mz_capture_run r = run(c, a, argv, (struct mz_str){ 0 });
    return r.status == 0 ? r.out : (struct mz_str){ 0 };
}

static bool restore(const struct mz_capture_config *c, struct mz_arena *a, const struct family *f,
                    struct mz_err *err)
{
    const char *const argv[] = { f->restore, "--noflush", TIMEOUT, NULL };
    const struct mz_str text = mz_capture_restore_text(&f->rules, a);
    printf("[info] Running iptables restore with: %s and the following input:\n" MZ_STR_FMT,
           f->restore, MZ_STR_ARG(text));
    struct mz_capture_run r = run(c, a, argv, text);
    return r.status == 0 ? true
                         : mz_err_set(err, "%s failed with status %d: %.*s", f->restore, r.status,
                                      (int)(r.out.n > 400 ? 400 : r.out.n), r.out.p ? r.out.p : "");
}

static bool apply(const struct mz_capture_config *c, struct mz_arena *a, struct family *f, size_t n,
                  struct mz_err *err)
{
    struct mz_str saved[2] = { { 0 }, { 0 } };
    bool residue = false, differs = false, guarded = false, ok = true;
    for (size_t i = 0; i < n; i++) {
        saved[i] = saved_rules(c, a, &f[i]);
        residue = residue || has_ours(saved[i]);
    }
    for (size_t i = 0; i < n && residue; i++)
        differs = differs || !in_place(c, a, &f[i], saved[i]);
    differs = differs || !residue;
    printf(
        "[info] %s\n",
        !residue ? "Clean-state detected, new iptables are needed"
        : differs
            ? "Found residues of old iptables rules/chains, reconciliation is recommended"
            : "Found compatible residues of old iptables rules/chains, reconciliation not needed");
    if (residue && differs && !c->reconcile && !c->cleanup)
        printf("[info] The rules that are there are kept beside the new ones: --reconcile would "
               "replace them\n");
    if ((residue && differs && c->reconcile) || c->cleanup) {
        for (size_t i = 0; i < n && !c->cleanup; i++)
            guarded = guard(c, a, &f[i], true) || guarded;
        printf("[info] Performing cleanup of existing iptables\n");
        for (size_t i = 0; i < n; i++)
            clean(c, a, &f[i], saved[i]);
    }
    if ((differs || c->force) && !c->cleanup) {
        printf("[info] Applying iptables chains and rules\n");
        for (size_t i = 0; i < n && ok; i++)
            ok = restore(c, a, &f[i], err);
    }
    for (size_t i = 0; i < n && guarded; i++)
        (void)guard(c, a, &f[i], false);
    for (size_t i = 0; i < n; i++)
        printf("[info] Final iptables state (%s):\n" MZ_STR_FMT "\n", f[i].name,
               MZ_STR_ARG(saved_rules(c, a, &f[i])));
    return ok;
}

bool mz_capture_iptables(const struct mz_capture_config *c, struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct family f[2] = { { .version = 4, .name = "IPv4" }, { .version = 6, .name = "IPv6" } };
    const size_t n = c->ipv6 ? 2 : 1;
    for (size_t i = 0; i < n; i++) {
        f[i].tool = tool(a, f[i].version, c->binary, "");
        f[i].save = tool(a, f[i].version, c->binary, "-save");
        f[i].restore = tool(a, f[i].version, c->binary, "-restore");
        mz_capture_iptables_rules(c, f[i].version, a, &f[i].rules);
    }
    bool ok = apply(c, a, f, n, err);
    for (size_t i = 0; i < n; i++)
        mz_vec_free(&f[i].rules.v, MZ_MEM_CONFIG);
    mz_arena_destroy(a);
    return ok;
}

bool mz_capture_nft(const struct mz_capture_config *c, struct mz_err *err)
{
    static const char *const argv[] = { "nft", "-f", "-", NULL };
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_capture_rules rules = { 0 };
    struct mz_str text =
        MZ_STR("add table inet istio-proxy-nat\ndelete table inet istio-proxy-nat\n"
               "add table inet istio-proxy-mangle\ndelete table inet istio-proxy-mangle\n"
               "add table inet istio-proxy-raw\ndelete table inet istio-proxy-raw\n");
    if (!c->cleanup) {
        mz_capture_nft_rules(c, a, &rules);
        text = mz_capture_nft_text(&rules, a);
    }
    struct mz_capture_run r = run(c, a, argv, text);
    bool ok = r.status == 0;
    if (ok)
        printf("[info] nftables rules programmed:\n" MZ_STR_FMT, MZ_STR_ARG(text));
    else
        (void)mz_err_set(err, "nft failed with status %d: %.*s", r.status,
                         (int)(r.out.n > 400 ? 400 : r.out.n), r.out.p ? r.out.p : "");
    mz_vec_free(&rules.v, MZ_MEM_CONFIG);
    mz_arena_destroy(a);
    return ok;
}
