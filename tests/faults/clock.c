/* SPDX-License-Identifier: Apache-2.0 */
/* A wrong clock for one process: loaded before libc, it adds to CLOCK_REALTIME what the first 8 bytes of the file
   CLOCK_FOLDER/<the process's last argument> say in nanoseconds; without that file the clock is right. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *offset;

__attribute__((constructor)) static void begin(void)
{
    const char *folder = getenv("CLOCK_FOLDER");
    char line[65536], path[4096];
    int command = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t length = command < 0 ? -1 : read(command, line, sizeof line - 1);
    if (command >= 0)
        close(command);
    if (folder == NULL || length < 2)
        return;
    line[length - 1] = 0;
    char *last = line + length - 1;
    while (last > line && last[-1] != 0)
        last--;
    snprintf(path, sizeof path, "%s/%s", folder, last);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    void *mapped = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED)
        offset = mapped;
}

int clock_gettime(clockid_t which, struct timespec *told)
{
    static int (*real)(clockid_t, struct timespec *);
    if (real == NULL)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(which, told);
    if (failed == 0 && which == CLOCK_REALTIME && offset != NULL) {
        int64_t at = (int64_t)told->tv_sec * 1000000000 + told->tv_nsec + *offset;
        told->tv_sec = at / 1000000000;
        told->tv_nsec = at % 1000000000;
    }
    return failed;
}
