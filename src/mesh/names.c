#include "mesh/names.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEADER = 12, LABEL_MAX = 63, NAME_MAX_BYTES = 255, AT_ONCE = 64 };

/* Where the first question ends; 0: it does not. */
static size_t question_end(const unsigned char *m, size_t n)
{
    size_t at = HEADER;
    while (at < n && m[at]) {
        if (m[at] > LABEL_MAX || at - HEADER > NAME_MAX_BYTES)
            return 0; /* a pointer has nothing to point at here */
        at += 1u + m[at];
    }
    at += 1 + 4; /* the root, type and class */
    return at <= n ? at : 0;
}

size_t mz_mesh_no_such_name(unsigned char *m, size_t n)
{
    const size_t end = n >= HEADER ? question_end(m, n) : 0;
    const bool question = end && !(m[2] & 0x80) && m[4] == 0 && m[5] == 1;
    if (!question || (m[2] & 0x78)) /* an answer, several, or another operation */
        return 0;
    m[2] = (unsigned char)(0x80 | (m[2] & 1)); /* answer; recursion was desired or not */
    m[3] = 0x83;                               /* recursion is there; no such name */
    for (size_t i = 6; i < HEADER; i++)
        m[i] = 0;
    return end;
}

struct mz_mesh_names {
    struct mz_io io;
};

static void on_question(struct mz_io *io, unsigned events)
{
    unsigned char m[MZ_MESH_QUESTION_MAX];
    (void)events;
    for (int i = 0; i < AT_ONCE; i++) {
        struct sockaddr_in from;
        socklen_t len = sizeof(from);
        const ssize_t n = recvfrom(io->fd, m, sizeof(m), 0, (struct sockaddr *)&from, &len);
        if (n < 0)
            return;
        const size_t answer = mz_mesh_no_such_name(m, (size_t)n);
        if (answer)
            (void)sendto(io->fd, m, answer, 0, (const struct sockaddr *)&from,
                         len); /* it asks again */
    }
}

struct mz_mesh_names *mz_mesh_names_create(struct mz_loop *l, uint32_t ip)
{
    const struct sockaddr_in a = { .sin_family = AF_INET,
                                   .sin_port = htons(53),
                                   .sin_addr.s_addr = htonl(ip) };
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct mz_mesh_names *v = mz_new0(MZ_MEM_MISC, struct mz_mesh_names);
    if (fd >= 0 && bind(fd, (const struct sockaddr *)&a, sizeof(a)) == 0 &&
        mz_io_add_level(l, &v->io, fd, MZ_IO_READ, on_question) == 0)
        return v;
    if (fd >= 0)
        (void)close(fd);
    mz_free(MZ_MEM_MISC, v);
    return NULL;
}

void mz_mesh_names_destroy(struct mz_mesh_names *v)
{
    if (!v)
        return;
    mz_io_del(&v->io);
    (void)close(v->io.fd);
    mz_free(MZ_MEM_MISC, v);
}
