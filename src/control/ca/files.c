#include "control/ca/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

static bool path_of(char out[4096], const char *dir, const char *name, const char *suffix,
                    struct mz_err *err)
{
    const int n = snprintf(out, 4096, "%s/%s%s", dir, name, suffix);
    return (n > 0 && n < 4096) || mz_err_set(err, "%s: the name is too long", dir);
}

static bool mode_ok(const char *path, const struct stat *st, struct mz_err *err)
{
    if (st->st_mode & (S_IWGRP | S_IWOTH))
        return mz_err_set(err, "%s: others may write it (mode %03o)", path, st->st_mode & 0777u);
    if (st->st_mode & (S_IRGRP | S_IROTH))
        MZ_LOG(WARN, main, "%s: others may read it (mode %03o)", path, st->st_mode & 0777u);
    return true;
}

static bool read_all(int fd, const char *path, size_t size, struct mz_arena *a, struct mz_str *out,
                     struct mz_err *err)
{
    char *p = mz_arena_alloc(a, size + 1);
    size_t at = 0;
    while (at < size) {
        const ssize_t n = read(fd, p + at, size - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return mz_err_set(err, "%s: %s", path, strerrordesc_np(errno));
        if (n == 0)
            break;
        at += (size_t)n;
    }
    p[at] = 0;
    *out = (struct mz_str){ p, at };
    return true;
}

enum file_found file_read(const char *dir, const char *name, bool secret, struct mz_arena *a,
                          struct mz_str *out, struct mz_err *err)
{
    char path[4096];
    struct stat st;
    if (!path_of(path, dir, name, "", err))
        return FILE_FAULT;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return FILE_ABSENT;
    bool ok = fd >= 0 && fstat(fd, &st) == 0;
    if (!ok)
        mz_err_set(err, "%s: %s", path, strerrordesc_np(errno));
    else if (!S_ISREG(st.st_mode) || st.st_size > (off_t)CA_FILE_MAX)
        ok = mz_err_set(err, "%s: not a file of at most %u bytes", path, CA_FILE_MAX);
    ok = ok && (!secret || mode_ok(path, &st, err)) &&
         read_all(fd, path, (size_t)st.st_size, a, out, err);
    if (fd >= 0)
        (void)close(fd); /* only read */
    return ok ? FILE_FOUND : FILE_FAULT;
}

static bool write_all(int fd, struct mz_str text)
{
    while (text.n) {
        const ssize_t n = write(fd, text.p, text.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        text = mz_str_skip(text, (size_t)n);
    }
    return fsync(fd) == 0;
}

bool file_write(const char *dir, const char *name, bool secret, struct mz_str text,
                struct mz_err *err)
{
    char path[4096], beside[4096];
    if (!path_of(path, dir, name, "", err) || !path_of(beside, dir, name, ".new", err))
        return false;
    (void)unlink(beside); /* of one that was killed */
    const int fd =
        open(beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, secret ? 0600 : 0644);
    bool ok = fd >= 0 && write_all(fd, text);
    if (fd >= 0 && close(fd) != 0)
        ok = false;
    ok = ok && rename(beside, path) == 0;
    if (ok)
        return true;
    mz_err_set(err, "%s: %s", path, strerrordesc_np(errno));
    (void)unlink(beside); /* nothing half stays */
    return false;
}

bool dir_make(const char *dir, struct mz_err *err)
{
    return mkdir(dir, 0700) == 0 || errno == EEXIST ||
           mz_err_set(err, "%s: %s", dir, strerrordesc_np(errno));
}

int dir_lock(const char *dir, struct mz_err *err)
{
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && flock(fd, LOCK_EX) == 0)
        return fd;
    mz_err_set(err, "%s: %s", dir, strerrordesc_np(errno));
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

uint64_t files_stamp(const char *dir, const char *const *names, size_t n)
{
    uint64_t h = 0;
    for (size_t i = 0; i < n; i++) {
        char path[4096];
        struct mz_err err;
        struct stat st;
        if (!path_of(path, dir, names[i], "", &err) || stat(path, &st) != 0)
            continue;
        const uint64_t v[] = { i, (uint64_t)st.st_ino, (uint64_t)st.st_size,
                               (uint64_t)st.st_mtim.tv_sec, (uint64_t)st.st_mtim.tv_nsec };
        h = mz_xxh64(v, sizeof(v), h);
    }
    return h;
}
