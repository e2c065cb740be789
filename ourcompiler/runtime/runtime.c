/* Sessions: memory that is taken once, and threads that work through the launches together.
 *
 * A launch is a number of independent tasks. Every thread has a range of them and takes one after another, so that
 * what a task asks for ahead is what the same thread needs next; who is done helps the others. A launch ends with its
 * last task: nobody waits for a thread that has none of them, asleep or without a processor, which finds its round
 * over when it comes. Between launches threads spin, because the next one follows within microseconds; after SPINS
 * without work they sleep until they are woken.
 */
#include "runtime.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* PATIENCE: looks at other threads' tasks before this thread lets others have its processor. */
enum { CACHE_LINE = 64, SPINS = 20000, PATIENCE = 2000, VERSION = 1 };

/* A launch of a run: the number of the round, which nothing else has, and below it the number of the launch. */
typedef uint64_t round_word;
enum { HALF = 32 };

typedef struct {
  ours_session *session;
  char *scratch;
  pthread_t thread;
  int32_t number;
} worker;

/* The next task of a thread's range, which ends where the one of the next thread begins, below the number of the round
 * that it is of: who comes late must not take what is a task of another launch by now. */
typedef struct {
  _Alignas(CACHE_LINE) _Atomic uint64_t next;
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
  /* What is under way: who changes `round` last publishes the rest. */
  _Alignas(CACHE_LINE) _Atomic round_word round;
  _Alignas(CACHE_LINE) _Atomic int64_t done; /* tasks, by other threads than the caller's */
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

/* The next task of a range in a round, or -1. No memory holds the results of as many tasks as do not fit into HALF. */
static int64_t take_task(range *from, uint64_t round, int64_t end) {
  uint64_t seen = atomic_load_explicit(&from->next, memory_order_relaxed);
  for (;;) {
    int64_t task = (int64_t)(uint32_t)seen;
    if (seen >> HALF != round || task >= end) return -1;
    if (atomic_compare_exchange_weak_explicit(&from->next, &seen, seen + 1, memory_order_relaxed, memory_order_relaxed))
      return task;
  }
}

/* Works through what is left of a round's tasks; returns how many this thread took. */
static int64_t take_tasks(ours_session *session, round_word round, char *scratch, int32_t number) {
  const ours_launch *launch = &ours_description.launches[(uint32_t)round];
  char *const *arguments = session->arguments + launch->first_argument;
  int32_t threads = session->started + 1;
  int64_t taken = 0;
  for (int32_t one = 0; one < threads; one++) {
    int32_t whose = (number + one) % threads;
    int64_t end = first_of(launch, whose + 1, threads), task;
    while ((task = take_task(&session->ranges[whose], round >> HALF, end)) >= 0) {
      launch->phase(arguments, scratch, task);
      taken++;
    }
  }
  return taken;
}

static round_word wait_for_round(ours_session *session, round_word seen) {
  for (int spin = 0; spin < SPINS; spin++) {
    round_word now = atomic_load_explicit(&session->round, memory_order_acquire);
    if (now != seen) return now;
    relax();
  }
  pthread_mutex_lock(&session->mutex);
  atomic_fetch_add(&session->sleeping, 1);
  round_word now;
  while ((now = atomic_load(&session->round)) == seen) pthread_cond_wait(&session->wake, &session->mutex);
  atomic_fetch_sub(&session->sleeping, 1);
  pthread_mutex_unlock(&session->mutex);
  return now;
}

static void *work(void *argument) {
  worker *self = argument;
  ours_session *session = self->session;
  round_word seen = 0;
  for (;;) {
    seen = wait_for_round(session, seen);
    if (atomic_load(&session->ended)) return NULL;
    int64_t taken = take_tasks(session, seen, self->scratch, self->number);
    if (taken) atomic_fetch_add_explicit(&session->done, taken, memory_order_release);
  }
}

static void next_round(ours_session *session, round_word round) {
  atomic_store(&session->round, round);
  if (atomic_load(&session->sleeping)) {
    pthread_mutex_lock(&session->mutex);
    pthread_cond_broadcast(&session->wake);
    pthread_mutex_unlock(&session->mutex);
  }
}

/* Until the others have done so many tasks: who has one may be without a processor, perhaps this one. */
static void wait_for_tasks(ours_session *session, int64_t count) {
  int spins = 0;
  while (atomic_load_explicit(&session->done, memory_order_acquire) < count) {
    if (spins == PATIENCE) sched_yield();
    else spins++, relax();
  }
}

static void execute(ours_session *session, int32_t number) {
  const ours_launch *launch = &ours_description.launches[number];
  if (session->started == 0 || launch->tasks < 2) {
    char *const *arguments = session->arguments + launch->first_argument;
    for (int64_t task = 0; task < launch->tasks; task++) launch->phase(arguments, session->scratch, task);
    return;
  }
  uint64_t round = (uint32_t)((atomic_load_explicit(&session->round, memory_order_relaxed) >> HALF) + 1);
  for (int32_t one = 0; one <= session->started; one++) {
    uint64_t first = (uint64_t)first_of(launch, one, session->started + 1);
    atomic_store_explicit(&session->ranges[one].next, round << HALF | first, memory_order_relaxed);
  }
  atomic_store_explicit(&session->done, 0, memory_order_relaxed);
  next_round(session, round << HALF | (uint32_t)number);
  int64_t taken = take_tasks(session, round << HALF | (uint32_t)number, session->scratch, 0);
  wait_for_tasks(session, launch->tasks - taken);
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
    execute(session, one);
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
    execute(session, one);
    step_ns[launch->step] += now_ns() - start;
    if (take_fault()) return launch->step;
  }
  return -1;
}

void ours_close(ours_session *session) {
  const ours_model *model = &ours_description;
  atomic_store(&session->ended, true);
  next_round(session, ~(round_word)0);
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
