/* A machine whose clock was set: shifts the wall clock of every process that loads it.
 *
 * The file that CLOCK_SHIFT_FILE names holds a double, in seconds, which a test changes while the
 * processes run. Monotonic clocks and times of files are left alone. Waits until a moment of the
 * wall clock are shifted back, as the kernel's clock is not shifted.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile double *shift_of_all;

__attribute__((constructor)) static void map_shift(void) {
    const char *path = getenv("CLOCK_SHIFT_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *found = mmap(NULL, sizeof(double), PROT_READ, MAP_SHARED, file, 0);
    if (found != MAP_FAILED) shift_of_all = found;
    close(file);
}

static time_t shift(void) { return shift_of_all ? (time_t)*shift_of_all : 0; }

#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

int clock_gettime(clockid_t id, struct timespec *out) {
    static typeof(&clock_gettime) real;
    if (!real) real = REAL(clock_gettime);
    int code = real(id, out);
    if (!code && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) out->tv_sec += shift();
    return code;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    static int (*real)(struct timeval *, void *);
    if (!real) real = (int (*)(struct timeval *, void *))dlsym(RTLD_NEXT, "gettimeofday");
    int code = real(out, zone);
    if (!code && out) out->tv_sec += shift();
    return code;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}

static struct timespec unshifted(const struct timespec *until) {
    struct timespec plain = *until;
    plain.tv_sec -= shift();
    return plain;
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until) {
    struct timespec plain = unshifted(until);
    return REAL(sem_timedwait)(semaphore, &plain);
}

int pthread_mutex_timedlock(pthread_mutex_t *restrict lock, const struct timespec *restrict until) {
    struct timespec plain = unshifted(until);
    return REAL(pthread_mutex_timedlock)(lock, &plain);
}
