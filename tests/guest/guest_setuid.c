/* SPDX-License-Identifier: Apache-2.0 */
/* Looks for every backend and says where its library was found. */
#include <stdio.h>
#include <sys/auxv.h>

#include <kiln/kiln.h>

int main(void)
{
    printf("secure %lu\n", getauxval(AT_SECURE));
    for (size_t i = 0; i < kiln_backend_count(); i++) {
        kiln_backend_info info = {.struct_size = sizeof info};
        if (kiln_backend_get(i, &info) != KILN_OK) {
            (void)fprintf(stderr, "%s\n", kiln_error_message());
            return 1;
        }
        printf("%s: %s: %s\n", info.name, info.library, info.reason);
    }
    kiln_backend_info chosen = {.struct_size = sizeof chosen};
    if (kiln_backend_choose(NULL, &chosen) != KILN_OK) {
        (void)fprintf(stderr, "%s\n", kiln_error_message());
        return 1;
    }
    printf("chosen %s\n", chosen.name);
    return 0;
}
