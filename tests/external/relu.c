/* A runner of a user's own, as the tests need one: y = max(x, 0) over a file of float32, or a way to go wrong.
 *
 *     relu MODE MODEL THREADS RUNS WARMUP INPUT OUTPUT
 *     relu serve MODEL INPUT                              (stays and answers lines; with one more word it dies soon)
 *
 * MODE: `each` and `average` say how long it took; `untimed` does not; `wrong` writes other numbers, `short` too few,
 * `nothing` none; `crash` and `fail` end badly.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double clock_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e6 + (double)now.tv_nsec * 1e-3;
}

static float *contents(const char *path, size_t *bytes) {
  FILE *file = fopen(path, "rb");
  if (!file) return NULL;
  fseek(file, 0, SEEK_END);
  *bytes = (size_t)ftell(file);
  rewind(file);
  float *data = malloc(*bytes + 1);
  if (fread(data, 1, *bytes, file) != *bytes) return NULL;
  fclose(file);
  return data;
}

static int serve(const float *input, size_t bytes, int mortal) {
  char line[4096];
  long runs = 0, warmup = 0;
  float *output = malloc(bytes + 1);
  printf("{\"ok\": true, \"load_ns\": 1000000}\n");
  while (fflush(stdout), fgets(line, sizeof line, stdin)) {
    line[strcspn(line, "\n")] = 0;
    if (!strcmp(line, "quit")) return 0;
    if (sscanf(line, "run %ld %ld", &runs, &warmup) == 2) {
      if (mortal && runs > 1) return fprintf(stderr, "out of patience\n"), 9;
      for (size_t index = 0; index < bytes / sizeof *input; index++) output[index] = input[index] > 0 ? input[index] : 0;
      printf("{\"ok\": true, \"cpu_ns\": 5, \"run_ns\": [");
      for (long run = 0; run < runs; run++) printf("%s%ld", run ? ", " : "", 1000000 + run);
      puts("]}");
    } else if (!strncmp(line, "outputs ", 8)) {
      FILE *file = fopen(line + 8, "wb");
      if (file) fwrite(output, 1, bytes, file), fclose(file);
      puts(file ? "{\"ok\": true}" : "{\"ok\": false, \"error\": \"cannot write\"}");
    } else if (!strcmp(line, "memory")) puts("{\"ok\": true, \"memory_peak_bytes\": 4096}");
    else puts("what?");
  }
  return 0;
}

int main(int count, char **words) {
  if (count == 2 && !strcmp(words[1], "--version")) return puts("relu 1.2"), 0;
  if (count >= 4 && !strcmp(words[1], "serve")) {
    size_t bytes = 0, model_bytes = 0;
    float *input = contents(words[3], &bytes);
    if (!input || !contents(words[2], &model_bytes)) return perror(words[3]), 3;
    return serve(input, bytes, count > 4);
  }
  if (count != 8) return fprintf(stderr, "%d words, not 8\n", count), 2;
  const char *mode = words[1];
  size_t model_bytes = 0, bytes = 0;
  if (!contents(words[2], &model_bytes)) return perror(words[2]), 3;
  float *input = contents(words[6], &bytes), *output = malloc(bytes + 1);
  if (!input) return perror(words[6]), 3;
  fprintf(stderr, "model of %zu bytes, %s threads\n", model_bytes, words[3]);
  if (!strcmp(mode, "fail")) return fprintf(stderr, "error: no such delegate\n"), 7;
  if (!strcmp(mode, "crash")) abort();
  int runs = atoi(words[4]), warmup = atoi(words[5]);
  double sum = 0;
  for (int run = -warmup; run < runs; run++) {
    double start = clock_us();
    for (size_t index = 0; index < bytes / sizeof *input; index++)
      output[index] = input[index] > 0 ? input[index] : !strcmp(mode, "wrong");
    double taken = clock_us() - start;
    if (run < 0) printf("warm-up took %.3f us\n", taken);
    else if (strcmp(mode, "untimed") && strcmp(mode, "average")) printf("run took %.3f us\n", taken);
    if (run >= 0) sum += taken;
  }
  if (!strcmp(mode, "average")) printf("Inference (avg): %.3f\n", sum / runs);
  if (!strcmp(mode, "nothing")) return 0;
  FILE *file = fopen(words[7], "wb");
  if (!file) return perror(words[7]), 3;
  fwrite(output, 1, !strcmp(mode, "short") ? bytes / 2 : bytes, file);
  return fclose(file) ? 3 : 0;
}
