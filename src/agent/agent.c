#include "agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "base/str.h"

bool mz_agent_bool(const char *text, bool *out_value)
{
    const struct mz_str s = mz_str_c(text);
    if (mz_str_ieq(s, MZ_STR("true")) || mz_str_ieq(s, MZ_STR("t")) || mz_str_eq(s, MZ_STR("1")))
        *out_value = true;
    else if (mz_str_ieq(s, MZ_STR("false")) || mz_str_ieq(s, MZ_STR("f")) ||
             mz_str_eq(s, MZ_STR("0")))
        *out_value = false;
    else
        return false;
    return true;
}

bool mz_agent_duration(const char *text, uint64_t *out_ms)
{
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = { { "ms", 1 }, { "h", 3600000 }, { "m", 60000 }, { "s", 1000 } };
    uint64_t sum = 0;
    if (!*text)
        return false;
    while (*text) {
        uint64_t value = 0, ms = 0;
        size_t digits = strspn(text, "0123456789");
        if (!digits || digits > 9 || !mz_str_u64((struct mz_str){ text, digits }, &value))
            return false;
        text += digits;
        for (size_t i = 0; i < sizeof(units) / sizeof(units[0]) && !ms; i++)
            if (strncmp(text, units[i].unit, strlen(units[i].unit)) == 0) {
                ms = units[i].ms;
                text += strlen(units[i].unit);
            }
        if (!ms)
            return false;
        sum += value * ms;
    }
    *out_ms = sum;
    return true;
}

bool mz_agent_enter_namespace(const char *path, struct mz_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return mz_err_set(err, "cannot open the network namespace %s: %s", path,
                          strerrordesc_np(errno));
    bool ok = setns(fd, CLONE_NEWNET) == 0
                  ? true
                  : mz_err_set(err, "cannot enter the network namespace %s: %s", path,
                               strerrordesc_np(errno));
    (void)close(fd);
    return ok;
}

uint64_t mz_agent_anonymous_bytes(void)
{
    FILE *f = fopen("/proc/self/smaps_rollup", "re");
    char line[256];
    uint64_t kb = 0;
    while (f && fgets(line, sizeof(line), f)) {
        struct mz_str s = mz_str_c(line);
        if (!mz_str_starts(s, MZ_STR("Anonymous:")))
            continue;
        s = mz_str_trim(mz_str_skip(s, 10));
        (void)mz_str_u64((struct mz_str){ s.p, strspn(s.p, "0123456789") }, &kb);
    }
    if (f)
        (void)fclose(f);
    return kb * 1024;
}

void mz_agent_flags_help(const struct arg_flag *flags, size_t n)
{
    printf("Flags:\n");
    for (size_t i = 0; i < n; i++) {
        char letter[8] = "    ";
        if (flags[i].letter)
            (void)snprintf(letter, sizeof(letter), "-%c, ", flags[i].letter);
        printf("  %s--%-36s %s\n", letter, flags[i].name, flags[i].help);
    }
}
