/* A package as a program of its own, for machines without Python:
 *
 *     model WEIGHTS INPUTS OUTPUTS [THREADS [RUNS]]
 *
 * INPUTS holds the inputs one after another as the manifest lists them, OUTPUTS is written so. The nanoseconds
 * of each run go to stdout. The status is 0, or 1 with a line on stderr. `model serve …` answers requests (serve.c).
 */
#include "runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int ours_serve(int count, char **words);

static int fail(const char *what, const char *where) {
  fprintf(stderr, "%s: %s\n", where, what);
  return 1;
}

/* The whole file at an address that kernels can rely on; NULL when it cannot be read. */
void *ours_contents(const char *path, int64_t *bytes) {
  FILE *file = fopen(path, "rb");
  if (!file) return NULL;
  char *memory = NULL;
  if (!fseek(file, 0, SEEK_END) && (*bytes = ftell(file)) >= 0 && !fseek(file, 0, SEEK_SET)) {
    memory = aligned_alloc(64, ((size_t)*bytes / 64 + 1) * 64);
    if (memory && fread(memory, 1, (size_t)*bytes, file) != (size_t)*bytes) {
      free(memory);
      memory = NULL;
    }
  }
  fclose(file);
  return memory;
}

static int read_inputs(ours_session *session, const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file) return 0;
  int good = 1;
  for (int32_t one = 0; good && one < ours_description.input_count; one++) {
    size_t size = (size_t)ours_description.input_bytes[one];
    good = fread(ours_input(session, one), 1, size, file) == size;
  }
  good = good && fgetc(file) == EOF;
  fclose(file);
  return good;
}

static int write_outputs(ours_session *session, const char *path) {
  FILE *file = fopen(path, "wb");
  if (!file) return 0;
  int good = 1;
  for (int32_t one = 0; good && one < ours_description.output_count; one++) {
    size_t size = (size_t)ours_description.output_bytes[one];
    good = fwrite(ours_output(session, one), 1, size, file) == size;
  }
  return !fclose(file) && good;
}

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int main(int count, char **words) {
  if (count > 1 && !strcmp(words[1], "serve")) return ours_serve(count, words);
  if (count < 4) return fail("WEIGHTS INPUTS OUTPUTS [THREADS [RUNS]]", words[0]);
  int64_t weights_bytes = 0;
  void *weights = ours_contents(words[1], &weights_bytes);
  if (!weights) return fail("the weights cannot be read", words[1]);
  ours_session *session = ours_open(weights, weights_bytes, count > 4 ? atoi(words[4]) : 1);
  if (!session) return fail("the session cannot be opened: memory, threads or the weights are short", words[1]);
  if (!read_inputs(session, words[2])) return fail("these are not the network's inputs", words[2]);
  int runs = count > 5 ? atoi(words[5]) : 1;
  for (int run = 0; run < runs; run++) {
    int64_t start = now_ns();
    int32_t step = ours_run(session);
    if (step >= 0) {
      fprintf(stderr, "%s: an index in the data lies outside what kernel call %d chooses from\n", words[2], step);
      return 1;
    }
    printf("%lld\n", (long long)(now_ns() - start));
  }
  int good = write_outputs(session, words[3]);
  ours_close(session);
  free(weights);
  return good ? 0 : fail("the outputs cannot be written", words[3]);
}
