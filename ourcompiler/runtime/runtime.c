/* Sessions: memory that is taken once, and threads that work through the launches together.
 *
 * A launch is a number of independent tasks. Every thread has a range of them and takes one after another, so that
 * what a task asks for ahead is what the same thread needs next; who is done helps the others. Between launches
 * threads spin, because the next one follows within microseconds; after SPINS without work they sleep until they are
 * woken.
 */
#include "runtime.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CACHE_LINE = 64, SPINS = 20000, VERSION = 1 };

typedef struct {
  ours_session *session;
  char *scratch;
  pthread_t thread;
  int32_t number;
} worker;

/* The next task of a thread's range, which ends where the one of the next thread begins. */
typedef struct {
  _Alignas(CACHE_LINE) _Atomic int64_t next;
} range;

struct ours_session {
  char *arena, *scratch;
  char **inputs, **outputs;
  char **arguments; /* of all launches one after another, as addresses */
  int32_t threads, started;
  worker *workers;
  range *ranges;
  pthread_mutex_t mutex;
  pthread_cond_t wake;
  /* The launch that is under way: who changes `round` last publishes the rest. */
  const ours_launch *launch;
  _Alignas(CACHE_LINE) atomic_int round;
  _Alignas(CACHE_LINE) atomic_int working;
  atomic_int sleeping;
  atomic_bool ended;
};

static void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static void *zeroed(int64_t bytes) {
  size_t size = ((size_t)bytes / CACHE_LINE + 2) * CACHE_LINE;
  void *memory = aligned_alloc(CACHE_LINE, size);
  if (memory) memset(memory, 0, size);
  return memory;
}

static int64_t first_of(const ours_launch *launch, int32_t number, int32_t threads) {
  return launch->tasks * number / threads;
}

static void take_tasks(ours_session *session, const ours_launch *launch, char *scratch, int32_t number) {
  char *const *arguments = session->arguments + launch->first_argument;
  int32_t threads = session->started + 1;
  for (int32_t one = 0; one < threads; one++) {
    int32_t whose = (number + one) % threads;
    int64_t end = first_of(launch, whose + 1, threads);
    for (;;) {
      int64_t task = atomic_fetch_add_explicit(&session->ranges[whose].next, 1, memory_order_relaxed);
      if (task >= end) break;
      launch->phase(arguments, scratch, task);
    }
  }
}

static int wait_for_round(ours_session *session, int seen) {
  for (int spin = 0; spin < SPINS; spin++) {
    int now = atomic_load_explicit(&session->round, memory_order_acquire);
    if (now != seen) return now;
    relax();
  }
  pthread_mutex_lock(&session->mutex);
  atomic_fetch_add(&session->sleeping, 1);
  int now;
  while ((now = atomic_load(&session->round)) == seen) pthread_cond_wait(&session->wake, &session->mutex);
  atomic_fetch_sub(&session->sleeping, 1);
  pthread_mutex_unlock(&session->mutex);
  return now;
}

static void *work(void *argument) {
  worker *self = argument;
  ours_session *session = self->session;
  int seen = 0;
  for (;;) {
    seen = wait_for_round(session, seen);
    if (atomic_load(&session->ended)) return NULL;
    take_tasks(session, session->launch, self->scratch, self->number);
    atomic_fetch_sub_explicit(&session->working, 1, memory_order_release);
  }
}

static void next_round(ours_session *session) {
  atomic_fetch_add(&session->round, 1);
  if (atomic_load(&session->sleeping)) {
    pthread_mutex_lock(&session->mutex);
    pthread_cond_broadcast(&session->wake);
    pthread_mutex_unlock(&session->mutex);
  }
}

static void execute(ours_session *session, const ours_launch *launch) {
  if (session->started == 0 || launch->tasks < 2) {
    char *const *arguments = session->arguments + launch->first_argument;
    for (int64_t task = 0; task < launch->tasks; task++) launch->phase(arguments, session->scratch, task);
    return;
  }
  session->launch = launch;
  for (int32_t one = 0; one <= session->started; one++) {
    int64_t first = first_of(launch, one, session->started + 1);
    atomic_store_explicit(&session->ranges[one].next, first, memory_order_relaxed);
  }
  atomic_store_explicit(&session->working, session->started, memory_order_relaxed);
  next_round(session);
  take_tasks(session, launch, session->scratch, 0);
  while (atomic_load_explicit(&session->working, memory_order_acquire)) relax();
}

static char *address(ours_session *session, const char *weights, ours_place place) {
  switch (place.region) {
    case REGION_WEIGHTS: return (char *)weights + place.offset;
    case REGION_ARENA: return session->arena + place.offset;
    case REGION_INPUT: return session->inputs[place.offset];
    default: return session->outputs[place.offset];
  }
}

static bool take_memory(ours_session *session) {
  const ours_model *model = &ours_description;
  session->arena = zeroed(model->arena_bytes);
  session->scratch = zeroed(model->scratch_bytes);
  session->inputs = zeroed((int64_t)sizeof(char *) * model->input_count);
  session->outputs = zeroed((int64_t)sizeof(char *) * model->output_count);
  session->arguments = zeroed((int64_t)sizeof(char *) * model->place_count);
  session->workers = zeroed((int64_t)sizeof(worker) * session->threads);
  session->ranges = zeroed((int64_t)sizeof(range) * session->threads);
  bool good = session->arena && session->scratch && session->inputs && session->outputs && session->arguments &&
              session->workers && session->ranges;
  for (int32_t one = 0; good && one < model->input_count; one++)
    good = (session->inputs[one] = zeroed(model->input_bytes[one])) != NULL;
  for (int32_t one = 0; good && one < model->output_count; one++)
    good = (session->outputs[one] = zeroed(model->output_bytes[one])) != NULL;
  for (int32_t one = 0; good && one < session->threads - 1; one++) {
    session->workers[one].session = session;
    session->workers[one].number = one + 1;
    good = (session->workers[one].scratch = zeroed(model->scratch_bytes)) != NULL;
  }
  return good;
}

ours_session *ours_open(const void *weights, int64_t weights_bytes, int32_t threads) {
  const ours_model *model = &ours_description;
  if (weights_bytes < model->weights_bytes || threads < 1) return NULL;
  ours_session *session = zeroed(sizeof(ours_session));
  if (!session) return NULL;
  session->threads = threads;
  pthread_mutex_init(&session->mutex, NULL);
  pthread_cond_init(&session->wake, NULL);
  if (!take_memory(session)) {
    ours_close(session);
    return NULL;
  }
  for (int32_t one = 0; one < model->place_count; one++)
    session->arguments[one] = address(session, weights, model->places[one]);
  for (int32_t one = 0; one < threads - 1; one++) {
    if (pthread_create(&session->workers[one].thread, NULL, work, &session->workers[one])) {
      ours_close(session);
      return NULL;
    }
    session->started++;
  }
  return session;
}

void *ours_input(ours_session *session, int32_t number) { return session->inputs[number]; }

void *ours_output(ours_session *session, int32_t number) { return session->outputs[number]; }

int32_t ours_fault = 0;

/* Whether a kernel found an index outside, and none from now on. */
static bool take_fault(void) {
  return __atomic_load_n(&ours_fault, __ATOMIC_RELAXED) && __atomic_exchange_n(&ours_fault, 0, __ATOMIC_RELAXED);
}

int32_t ours_run(ours_session *session) {
  for (int32_t one = 0; one < ours_description.launch_count; one++) {
    const ours_launch *launch = &ours_description.launches[one];
    execute(session, launch);
    if (take_fault()) return launch->step;
  }
  return -1;
}

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int32_t ours_profile(ours_session *session, int64_t *step_ns) {
  for (int32_t one = 0; one < ours_description.launch_count; one++) {
    const ours_launch *launch = &ours_description.launches[one];
    int64_t start = now_ns();
    execute(session, launch);
    step_ns[launch->step] += now_ns() - start;
    if (take_fault()) return launch->step;
  }
  return -1;
}

void ours_close(ours_session *session) {
  const ours_model *model = &ours_description;
  atomic_store(&session->ended, true);
  next_round(session);
  for (int32_t one = 0; one < session->started; one++) pthread_join(session->workers[one].thread, NULL);
  for (int32_t one = 0; session->workers && one < session->threads - 1; one++) free(session->workers[one].scratch);
  for (int32_t one = 0; session->inputs && one < model->input_count; one++) free(session->inputs[one]);
  for (int32_t one = 0; session->outputs && one < model->output_count; one++) free(session->outputs[one]);
  free(session->arena);
  free(session->scratch);
  free(session->inputs);
  free(session->outputs);
  free(session->arguments);
  free(session->workers);
  free(session->ranges);
  pthread_mutex_destroy(&session->mutex);
  pthread_cond_destroy(&session->wake);
  free(session);
}
