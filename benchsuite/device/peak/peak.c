/* What a processor can do at most, as one JSON object: multiply-adds a second of fp32, bytes a second of memory.
 *
 *     peak THREADS SECONDS CORES [MOST_BYTES]
 *
 * About SECONDS for arithmetic and again for memory. CORES: "7,6" gives each thread the core at its place, "-" leaves
 * them to the scheduler. MOST_BYTES bounds the memory of all threads. Every thread works until a moment that they
 * share, in steps of a fraction of a millisecond: a slow core does less and keeps no fast one waiting, so the sum is what
 * cores of different kinds do together. The best window counts, because a neighbour can only take away. Exit code 2
 * for wrong words, 1 when it cannot be measured; the reason is on stderr.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { MOST_THREADS = 256, LEAST_WINDOWS = 3, CHAINED = 4096, MEBIBYTE = 1 << 20, STEP_BYTES = MEBIBYTE / 4 };
enum { PIECE_BYTES = 64 * MEBIBYTE, LEAST_PIECE_BYTES = 16 * MEBIBYTE };
#define LONGEST_WINDOW_S 0.01
#define MOST_SECONDS 3600.0
#define SOURCE "multiply-adds in registers, copies and reads in C"

/* As many sums as registers hold beside two operands: each must wait for itself, 4 cycles on most processors, and
 * there are up to 4 of them in each cycle. */
#ifdef __x86_64__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function) /* the C library needs none of it */
enum { LANES = 8, SUMS = 12 };
#else
enum { LANES = 4, SUMS = 24 };
#endif
typedef float vector __attribute__((vector_size(LANES * sizeof(float))));
enum { STEP_VECTORS = STEP_BYTES / (int)sizeof(vector), STREAMS = 8 };

typedef struct {
  pthread_t handle;
  int core; /* -1: the scheduler's choice */
  char *from, *to;
  size_t at;
  double done; /* of the window under way: operations or bytes */
  int64_t end_ns;
  int failed;
} worker;

typedef double step(worker *one); /* does a little, returns how much */

static worker workers[MOST_THREADS];
static int thread_count;
static size_t piece_bytes;
static pthread_barrier_t gate;
static step *work; /* NULL: end */
static int64_t deadline_ns;
static vector seeds[SUMS], operands[2];
static volatile float sink;

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Every step begins anew: the sums grow neither so large nor so small that a processor is slow at them. */
static double multiply_add(worker *one) {
  (void)one;
  vector sums[SUMS], x = operands[0], y = operands[1];
#pragma clang loop unroll(full)
  for (int number = 0; number < SUMS; number++) sums[number] = seeds[number];
#pragma clang loop unroll(disable)
  for (int round = 0; round < CHAINED; round++) {
#pragma clang loop unroll(full)
    for (int number = 0; number < SUMS; number++) sums[number] = __builtin_elementwise_fma(x, y, sums[number]);
  }
#pragma clang loop unroll(full)
  for (int number = 1; number < SUMS; number++) sums[0] += sums[number];
  sink = sums[0][0];
  return 2.0 * LANES * SUMS * CHAINED;
}

/* Where the next step of a piece begins; the last one may be used again only after all others. */
static size_t advance(worker *one) {
  size_t at = one->at;
  one->at = at + 2 * STEP_BYTES <= piece_bytes ? at + STEP_BYTES : 0;
  return at;
}

static double copy_all(worker *one) {
  size_t at = advance(one);
  memcpy(one->to + at, one->from + at, STEP_BYTES);
  return 2.0 * STEP_BYTES;
}

static double read_all(worker *one) {
  const vector *from = (const vector *)(one->from + advance(one));
  vector sums[STREAMS] = {};
  for (int number = 0; number < STEP_VECTORS; number += STREAMS) {
#pragma clang loop unroll(full)
    for (int stream = 0; stream < STREAMS; stream++) sums[stream] += from[number + stream];
  }
#pragma clang loop unroll(full)
  for (int stream = 1; stream < STREAMS; stream++) sums[0] += sums[stream];
  sink = sums[0][0];
  return STEP_BYTES;
}

#ifdef __x86_64__
#pragma clang attribute pop
#endif

static int keep_to(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  return sched_setaffinity(0, sizeof set, &set); /* of the calling thread */
}

/* Memory that is there, with as few page tables as the kernel grants; NULL when there is none. */
static char *piece(void) {
  char *place = mmap(NULL, piece_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (place == MAP_FAILED) return NULL;
  madvise(place, piece_bytes, MADV_HUGEPAGE);
  for (size_t number = 0; number < piece_bytes / sizeof(float); number++) ((float *)place)[number] = 1.0f;
  return place;
}

static void *serve(void *given) {
  worker *one = given;
  if (one->core >= 0 && keep_to(one->core)) one->failed = errno;
  one->from = piece();
  one->to = piece();
  if (!one->failed && (!one->from || !one->to)) one->failed = ENOMEM;
  for (;;) {
    pthread_barrier_wait(&gate); /* the one who asks has written what to do */
    if (!work) return NULL;
    do one->done += work(one);
    while ((one->end_ns = now_ns()) < deadline_ns);
    pthread_barrier_wait(&gate);
  }
}

/* How much is done a second in one window: by all threads, until the last of them is done. */
static double window(step *what, double seconds) {
  work = what;
  for (int number = 0; number < thread_count; number++) workers[number].done = 0;
  int64_t start_ns = now_ns(), end_ns = start_ns;
  deadline_ns = start_ns + (int64_t)(seconds * 1e9);
  pthread_barrier_wait(&gate);
  pthread_barrier_wait(&gate);
  double done = 0;
  for (int number = 0; number < thread_count; number++) {
    done += workers[number].done;
    if (workers[number].end_ns > end_ns) end_ns = workers[number].end_ns;
  }
  return done * 1e9 / (double)(end_ns - start_ns);
}

/* The best of the windows that fit into so many seconds, after one that does not count. */
static double best(step *what, double seconds) {
  double length = seconds / LEAST_WINDOWS < LONGEST_WINDOW_S ? seconds / LEAST_WINDOWS : LONGEST_WINDOW_S, most = 0;
  int64_t end_ns = now_ns() + (int64_t)(seconds * 1e9);
  window(what, length);
  for (int count = 0; count < LEAST_WINDOWS || now_ns() < end_ns; count++) {
    double rate = window(what, length);
    if (rate > most) most = rate;
  }
  return most;
}

static _Noreturn void fail(int code, const char *what, const char *about) {
  fprintf(stderr, "peak: %s%s\n", what, about);
  exit(code);
}

static long long available_bytes(void) {
  char line[256];
  long long kilobytes = 0;
  FILE *file = fopen("/proc/meminfo", "r");
  while (file && fgets(line, sizeof line, file))
    if (!strncmp(line, "MemAvailable:", 13)) kilobytes = atoll(line + 13);
  if (file) fclose(file);
  return kilobytes * 1024;
}

/* Two pieces a thread, in half of what is free at most: a phone ends programs when memory runs short. */
static void choose_piece(long long most_bytes) {
  long long available = available_bytes(), share = (available ? available / 2 : most_bytes);
  share = (share < most_bytes ? share : most_bytes) / (2LL * thread_count);
  if (share < LEAST_PIECE_BYTES) fail(1, "too little memory is free for pieces that no cache holds", "");
  piece_bytes = share < PIECE_BYTES ? (size_t)(share / MEBIBYTE * MEBIBYTE) : PIECE_BYTES;
}

static void choose_cores(const char *list) {
  const char *place = list;
  char *end;
  for (int number = 0; number < thread_count; number++) workers[number].core = -1;
  if (!strcmp(list, "-")) return;
  for (int number = 0; number < thread_count; number++, place = end + 1) {
    long core = strtol(place, &end, 10);
    int is_last = number == thread_count - 1;
    if (end == place || *place == '+' || core < 0 || core >= CPU_SETSIZE) fail(2, "no list of cores: ", list);
    if (*end != (is_last ? 0 : ',')) fail(2, "not as many cores as threads: ", list);
    workers[number].core = (int)core;
  }
}

static double number_in(const char *text, double least, double most, const char *complaint) {
  char *end;
  double value = strtod(text, &end);
  if (end == text || *end || !(value >= least && value <= most)) fail(2, complaint, text);
  return value;
}

static void start_threads(void) {
  pthread_barrier_init(&gate, NULL, (unsigned)thread_count + 1);
  for (int number = 0; number < thread_count; number++) {
    int error = pthread_create(&workers[number].handle, NULL, serve, workers + number);
    if (error) fail(1, "no thread could be started: ", strerror(error));
  }
}

static void check_threads(void) {
  for (int number = 0; number < thread_count; number++) {
    char about[128];
    if (!workers[number].failed) continue;
    snprintf(about, sizeof about, "%d, core %d: %s", number, workers[number].core, strerror(workers[number].failed));
    fail(1, "thread ", about);
  }
}

/* Every 64-bit ARM has what is used here. */
static void check_processor(void) {
#ifdef __x86_64__
  char line[8192] = "";
  FILE *file = fopen("/proc/cpuinfo", "r");
  while (file && fgets(line, sizeof line, file) && strncmp(line, "flags", 5)) {}
  if (file) fclose(file);
  if (!strstr(line, " fma ") || !strstr(line, " avx2 ")) fail(1, "this processor has no AVX2 and FMA", "");
#endif
}

static double nothing(worker *one) {
  (void)one;
  return 0;
}

int main(int count, char **words) {
  if (count < 4 || count > 5) fail(2, "THREADS SECONDS CORES [MOST_BYTES]", "");
  double threads = number_in(words[1], 1, MOST_THREADS, "no number of threads from 1 to 256: ");
  double seconds = number_in(words[2], 1e-6, MOST_SECONDS, "no seconds above 0, up to 3600: ");
  double most_bytes = count > 4 ? number_in(words[4], 1, 1e15, "no number of bytes: ") : 1e15;
  if (threads != floor(threads)) fail(2, "no number of threads from 1 to 256: ", words[1]);
  thread_count = (int)threads;
  check_processor();
  choose_cores(words[3]);
  choose_piece((long long)most_bytes);
  operands[0] = operands[1] = (vector){} + 0.5f;
  for (int number = 0; number < SUMS; number++) seeds[number] = (vector){} + (float)number;
  start_threads();
  window(nothing, 0); /* ends once every thread has its memory */
  check_threads();
  double flops = best(multiply_add, seconds), copied = best(copy_all, seconds / 2), read = best(read_all, seconds / 2);
  work = NULL;
  pthread_barrier_wait(&gate);
  for (int number = 0; number < thread_count; number++) pthread_join(workers[number].handle, NULL);
  printf("{\"ok\": true, \"threads\": %d, \"flops_per_second\": %.0f, ", thread_count, flops);
  printf("\"bytes_per_second\": %.0f, \"copied_bytes_per_second\": %.0f, ", fmax(copied, read), copied);
  printf("\"read_bytes_per_second\": %.0f, \"piece_bytes\": %zu, ", read, piece_bytes);
  puts("\"source\": \"" SOURCE "\"}");
  return fflush(stdout) || ferror(stdout) ? 1 : 0;
}
