/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

__attribute__((constructor)) static void tell(void)
{
    const char *mark = getenv("PLANTED_MARK");
    if (mark != NULL) {
        const int descriptor = open(mark, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
        if (descriptor >= 0) {
            (void)close(descriptor);
        }
    }
}
