/* A package that answers requests in files, for phones: it measures itself, and outlives a pulled cable.
 *
 *     model serve FOLDER WEIGHTS INPUTS THREADS CORES
 *
 * Opens the session (CORES: "7,6" or "-"), writes `reply-0`, then for N = 1, 2 … waits for SIGUSR1, reads the line
 * in `request-N` and writes `reply-N`, one JSON object, beside its place first. Lines: `run ITERATIONS REWARM`,
 * `outputs PATH`, `profile RUNS`, `memory`, `quit`. `waiter` names a process that wants SIGUSR1 after a reply, as
 * its number and its start time: a number alone may be another process by then. The same protocol as
 * adapters/mailbox.py.
 */
#define _GNU_SOURCE
#include "runtime.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { LONGEST_LINE = 4096, MOST_CORES = 256, LOOK_AGAIN_S = 30, GIVE_UP_S = 7200 };

void *ours_contents(const char *path, int64_t *bytes);

typedef struct {
  ours_session *session;
  char *inputs; /* all inputs one after another; copied in before every run */
  int cores[MOST_CORES], core_count;
  char placement[256];
} served;

static int64_t clock_ns(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t status_bytes(const char *field) {
  char line[256];
  long long kilobytes = 0;
  FILE *file = fopen("/proc/self/status", "r");
  while (file && fgets(line, sizeof line, file))
    if (!strncmp(line, field, strlen(field))) kilobytes = atoll(line + strlen(field) + 1);
  if (file) fclose(file);
  return kilobytes * 1024;
}

/* Field 22 of /proc/PID/stat, the time a process started; 0 for none. */
static long long started(long long pid) {
  char path[64], text[1024];
  snprintf(path, sizeof path, "/proc/%lld/stat", pid);
  FILE *file = fopen(path, "r");
  if (!file) return 0;
  size_t length = fread(text, 1, sizeof text - 1, file);
  fclose(file);
  text[length] = 0;
  char *place = strrchr(text, ')');
  if (!place) return 0;
  for (int field = 2; field < 22 && place; field++) place = strchr(place + 1, ' ');
  return place ? strtoll(place, NULL, 10) : 0;
}

static void wake_waiter(void) {
  long long pid = 0, start = 0;
  FILE *file = fopen("waiter", "r");
  if (!file) return;
  if (fscanf(file, "%lld %lld", &pid, &start) == 2 && pid > 1 && started(pid) == start) kill((pid_t)pid, SIGUSR1);
  fclose(file);
}

static void set_core(pid_t thread, int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  sched_setaffinity(thread, sizeof set, &set);
}

static int confine(served *one, const char *list) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const char *place = list; *place && *place != '-' && one->core_count < MOST_CORES; place++) {
    int core = (int)strtol(place, (char **)&place, 10);
    one->cores[one->core_count++] = core;
    CPU_SET(core, &set);
    if (!*place) break;
  }
  return !one->core_count || !sched_setaffinity(0, sizeof set, &set);
}

/* The caller computes too: it gets the first core, each other thread one of the rest. */
static void spread(served *one) {
  int next = 1;
  DIR *tasks = one->core_count ? opendir("/proc/self/task") : NULL;
  struct dirent *entry;
  snprintf(one->placement, sizeof one->placement, "scheduler's choice");
  if (!tasks) return;
  while ((entry = readdir(tasks))) {
    pid_t thread = (pid_t)atoi(entry->d_name);
    if (thread > 0 && thread != getpid() && next < one->core_count) set_core(thread, one->cores[next++]);
  }
  closedir(tasks);
  set_core(0, one->cores[0]);
  int length = snprintf(one->placement, sizeof one->placement, "one thread a core:");
  for (int number = 0; number < one->core_count && length < 200; number++)
    length += snprintf(one->placement + length, sizeof one->placement - length, "%s %d", number ? "," : "", one->cores[number]);
}

static void feed(served *one) {
  const char *place = one->inputs;
  for (int32_t number = 0; number < ours_description.input_count; number++) {
    memcpy(ours_input(one->session, number), place, (size_t)ours_description.input_bytes[number]);
    place += ours_description.input_bytes[number];
  }
}

static void print_list(FILE *reply, const char *name, const int64_t *values, long count) {
  fprintf(reply, "\"%s\": [", name);
  for (long index = 0; index < count; index++) fprintf(reply, "%s%lld", index ? ", " : "", (long long)values[index]);
  fprintf(reply, "], ");
}

/* The reply to a run that an index in the data stopped: a reply all the same. */
static int print_fault(FILE *reply, int32_t step) {
  const char *what = "an index in the data lies outside what it chooses from: kernel call";
  return fprintf(reply, "{\"ok\": false, \"kind\": \"failed\", \"error\": \"%s %d\"}\n", what, step) > 0;
}

static int run(served *one, FILE *reply, long iterations, long rewarm) {
  int32_t fault = -1;
  int64_t *run_ns = calloc((size_t)iterations + 1, sizeof *run_ns), *input_ns = calloc((size_t)iterations + 1, sizeof *input_ns);
  if (!run_ns || !input_ns || iterations < 0) return 0;
  int64_t cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID), begin = clock_ns(CLOCK_MONOTONIC_RAW);
  for (long index = 0; index < rewarm; index++) {
    feed(one);
    int32_t step = ours_run(one->session);
    if (step >= 0) fault = step;
  }
  int64_t rewarm_ns = clock_ns(CLOCK_MONOTONIC_RAW) - begin;
  for (long index = 0; index < iterations; index++) {
    int64_t start = clock_ns(CLOCK_MONOTONIC_RAW);
    feed(one);
    int64_t fed = clock_ns(CLOCK_MONOTONIC_RAW);
    int32_t step = ours_run(one->session);
    run_ns[index] = clock_ns(CLOCK_MONOTONIC_RAW) - fed;
    input_ns[index] = fed - start;
    if (step >= 0) fault = step;
  }
  if (fault >= 0) {
    free(run_ns);
    free(input_ns);
    return print_fault(reply, fault);
  }
  cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
  fprintf(reply, "{\"ok\": true, ");
  print_list(reply, "run_ns", run_ns, iterations);
  print_list(reply, "input_ns", input_ns, iterations);
  fprintf(reply, "\"cpu_ns\": %lld, \"rewarm_ns\": %lld, \"placement\": \"%s\"}\n", (long long)cpu, (long long)rewarm_ns, one->placement);
  free(run_ns);
  free(input_ns);
  return 1;
}

static int profile(served *one, FILE *reply, long runs) {
  int64_t *step_ns = calloc((size_t)ours_description.step_count + 1, sizeof *step_ns);
  if (!step_ns || runs < 1) return 0;
  feed(one);
  int32_t fault = ours_profile(one->session, step_ns);
  if (fault >= 0) {
    free(step_ns);
    return print_fault(reply, fault);
  }
  memset(step_ns, 0, (size_t)ours_description.step_count * sizeof *step_ns);
  int64_t start = clock_ns(CLOCK_MONOTONIC_RAW);
  for (long index = 0; index < runs; index++) ours_profile(one->session, step_ns);
  int64_t total = (clock_ns(CLOCK_MONOTONIC_RAW) - start) / runs;
  for (int32_t step = 0; step < ours_description.step_count; step++) step_ns[step] /= runs;
  fprintf(reply, "{\"ok\": true, ");
  print_list(reply, "step_ns", step_ns, ours_description.step_count);
  fprintf(reply, "\"total_ns\": %lld}\n", (long long)total);
  free(step_ns);
  return 1;
}

static int write_outputs(served *one, const char *path) {
  FILE *file = fopen(path, "wb");
  if (!file) return 0;
  int good = 1;
  for (int32_t number = 0; good && number < ours_description.output_count; number++) {
    size_t size = (size_t)ours_description.output_bytes[number];
    good = fwrite(ours_output(one->session, number), 1, size, file) == size;
  }
  return !fclose(file) && good;
}

static void print_memory(FILE *reply, const char *before) {
  fprintf(reply, "{\"ok\": true, %s\"memory_peak_bytes\": %lld, \"memory_now_bytes\": %lld}\n", before,
          (long long)status_bytes("VmHWM"), (long long)status_bytes("VmRSS"));
}

/* One request to one reply; 0 means: end. */
static int answer(served *one, const char *line, FILE *reply) {
  long first = 0, second = 0;
  int good = 1;
  if (!strncmp(line, "quit", 4)) return 0;
  if (sscanf(line, "run %ld %ld", &first, &second) == 2) good = run(one, reply, first, second);
  else if (sscanf(line, "profile %ld", &first) == 1) good = profile(one, reply, first);
  else if (!strncmp(line, "outputs ", 8)) {
    good = write_outputs(one, line + 8);
    if (good) fprintf(reply, "{\"ok\": true}\n");
  } else if (!strncmp(line, "memory", 6)) print_memory(reply, "");
  else good = 0;
  if (!good) fprintf(reply, "{\"ok\": false, \"kind\": \"failed\", \"error\": \"%.40s: %s\"}\n", line, strerror(errno));
  return 1;
}

static FILE *open_reply(long number) {
  char path[64];
  snprintf(path, sizeof path, "reply-%ld.part", number);
  return fopen(path, "w");
}

/* In its place only when it is complete. */
static int close_reply(FILE *reply, long number) {
  char part[64], path[64];
  snprintf(part, sizeof part, "reply-%ld.part", number);
  snprintf(path, sizeof path, "reply-%ld", number);
  int good = !ferror(reply);
  if (fclose(reply) || !good || rename(part, path)) return 0;
  wake_waiter();
  return 1;
}

static int read_request(long number, char *line) {
  char path[64];
  snprintf(path, sizeof path, "request-%ld", number);
  FILE *file = fopen(path, "r");
  if (!file) return 0;
  int good = fgets(line, LONGEST_LINE, file) != NULL;
  fclose(file);
  line[strcspn(line, "\n")] = 0;
  return good;
}

static int serve_requests(served *one, const sigset_t *signals) {
  char line[LONGEST_LINE];
  for (long number = 1, waited_s = 0; waited_s < GIVE_UP_S;) {
    if (!read_request(number, line)) {
      struct timespec limit = {LOOK_AGAIN_S, 0};
      sigtimedwait(signals, NULL, &limit);
      waited_s += LOOK_AGAIN_S;
      continue;
    }
    FILE *reply = open_reply(number);
    if (!reply) return perror("reply"), 1;
    int more = answer(one, line, reply);
    if (!close_reply(reply, number)) return perror("reply"), 1;
    if (!more) return 0;
    number++, waited_s = 0;
  }
  return fprintf(stderr, "nobody asked anything for %d s\n", GIVE_UP_S), 1;
}

int ours_serve(int count, char **words) {
  if (count != 7) return fprintf(stderr, "serve FOLDER WEIGHTS INPUTS THREADS CORES\n"), 1;
  served one = {0};
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  sigprocmask(SIG_BLOCK, &signals, NULL);
  int64_t begin = clock_ns(CLOCK_MONOTONIC_RAW), weights_bytes = 0, inputs_bytes = 0, expected = 0;
  if (!confine(&one, words[6])) return perror(words[6]), 1;
  void *weights = ours_contents(words[3], &weights_bytes);
  if (!weights) return perror(words[3]), 1;
  one.session = ours_open(weights, weights_bytes, atoi(words[5]));
  if (!one.session) return fprintf(stderr, "the session cannot be opened: Cannot allocate memory, or threads or weights are short\n"), 1;
  int64_t load_ns = clock_ns(CLOCK_MONOTONIC_RAW) - begin;
  one.inputs = ours_contents(words[4], &inputs_bytes);
  for (int32_t number = 0; number < ours_description.input_count; number++) expected += ours_description.input_bytes[number];
  if (!one.inputs || inputs_bytes != expected) return fprintf(stderr, "%s: not the network's inputs\n", words[4]), 1;
  spread(&one);
  if (chdir(words[2])) return perror(words[2]), 1;
  FILE *reply = open_reply(0);
  char loaded[64];
  snprintf(loaded, sizeof loaded, "\"load_ns\": %lld, ", (long long)load_ns);
  if (!reply) return perror("reply"), 1;
  print_memory(reply, loaded);
  if (!close_reply(reply, 0)) return perror("reply"), 1;
  return serve_requests(&one, &signals);
}
