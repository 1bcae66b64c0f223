/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include "library_record.h"

/* Whoever can write or replace a library controls this process. */

static bool is_ours(const struct stat *facts)
{
    return facts->st_uid == 0 || facts->st_uid == geteuid();
}

static bool refuse(char reason[KLN_LIBRARY_REASON], const char *what, const char *remedy)
{
    (void)snprintf(reason, KLN_LIBRARY_REASON, "it was not opened: %s; %s", what, remedy);
    return false;
}

/* In a folder where everybody may create files (/tmp), an entry must belong to a trusted user. */
static bool check_entry(const struct stat *facts, bool anybody_makes_files,
                        char reason[KLN_LIBRARY_REASON])
{
    if ((facts->st_mode & S_IWOTH) != 0 &&
        !(S_ISDIR(facts->st_mode) && (facts->st_mode & S_ISVTX) != 0)) {
        return refuse(reason,
                      S_ISDIR(facts->st_mode) ? "everybody may write to its folder or to one above"
                                              : "everybody may write to it",
                      "take that right away (chmod o-w)");
    }
    if (!is_ours(facts) && anybody_makes_files) {
        return refuse(reason, "it lies in a folder of everybody's and belongs to another user",
                      "move it to a folder of yours");
    }
    if (!is_ours(facts) && getauxval(AT_SECURE) != 0) {
        return refuse(reason,
                      "it belongs to another user, and this program has more rights than who "
                      "started it",
                      "give it to root");
    }
    return true;
}

bool kln_library_is_safe(const char *path, char reason[KLN_LIBRARY_REASON])
{
    char part[PATH_MAX];
    struct stat facts;
    bool anybody_makes_files = false;
    /* Checks "/", "/usr", "/usr/lib", ... down to the file itself. */
    for (const char *end = path; end != NULL; end = *end != '\0' ? strchrnul(end + 1, '/') : NULL) {
        const int length = end == path ? 1 : (int)(end - path);
        if (length >= PATH_MAX || path[0] != '/') {
            return true;
        }
        (void)snprintf(part, sizeof part, "%.*s", length, path);
        if (stat(part, &facts) != 0) {
            /* Opening it will report that. */
            return true;
        }
        if (!check_entry(&facts, anybody_makes_files, reason)) {
            return false;
        }
        anybody_makes_files = S_ISDIR(facts.st_mode) && (facts.st_mode & S_IWOTH) != 0;
    }
    return true;
}
