#ifndef MZ_CONTROL_ANALYZE_DOCUMENTS_H
#define MZ_CONTROL_ANALYZE_DOCUMENTS_H
/*
 * Documents as they stand in files, all kinds of them, and what is found in them (C7, C12): for `mizzenctl analyze` and `validate`.
 * Trees, not messages: a finding names the line of the value that it is about. Everything lies in one arena. Main thread.
 */
#include "base/map.h"
#include "base/vec.h"
#include "control/sources/store.h"
#include "proto/node.h"

struct mz_object {
    struct mz_str group, kind, ns, name, file;
    struct mz_str full; /* "demo/web", once it is asked for */
    const struct mz_node *tree;
    uint32_t line;     /* of its first line */
    uint32_t order;    /* among all */
    uint32_t findings; /* of it */
    bool made;         /* a Pod as a controller makes it of another document */
};
/* Levels are told as "Error", "Warning", "Info". */
struct mz_finding {
    enum mz_level level;
    unsigned code;               /* 101: "IST0101" */
    const struct mz_object *of;
    uint32_t line;
    struct mz_str text;
};
struct mz_fault { /* an object, or what could not become one, fails the checks that are made when it is written */
    bool warning;
    bool unreadable;      /* not a document at all */
    struct mz_str file, key; /* "VirtualService/demo/v"; "" unknown */
    uint32_t line;
    struct mz_str text;
};
struct mz_documents {
    struct mz_arena *arena;
    struct mz_store *store; /* of those that are right, as messages; NULL: none yet */
    MZ_VEC(struct mz_object *) v; /* in the order of files and lines */
    const struct mz_node *mesh;   /* the MeshConfig; NULL: that of an installation */
    bool injects;                 /* pods are still to be made, with proxies: a folder for `up` and mizzend */
    struct mz_map kinds, names, lists; /* of @v, once they are asked for (finders.h) */
    struct mz_map apis;           /* of the Gateway API and Ingress, while they are looked at */
    MZ_VEC(struct mz_fault) faults;
    MZ_VEC(struct mz_finding) findings;
};
void mz_documents_init(struct mz_documents *d);
void mz_documents_fini(struct mz_documents *d);
/* Copies what it keeps. Objects without a namespace are in @ns. */
void mz_documents_add(struct mz_documents *d, struct mz_str file, struct mz_str text, enum mz_text_form form, struct mz_str ns);
/* The MeshConfig, which is a document without apiVersion and kind. */
void mz_documents_add_mesh(struct mz_documents *d, struct mz_str file, struct mz_str text);
/* The ingress gateway that an installation has: for documents that are only a part of a cluster's. */
void mz_documents_add_ingress(struct mz_documents *d);
/* Once, when all are added. Fills findings: errors first, then by code, object and text. */
void mz_documents_analyze(struct mz_documents *d);
const char *mz_finding_level(enum mz_level l);
extern const unsigned mz_finding_codes[]; /* all that may come, ascending; 0 ends them */
#endif
