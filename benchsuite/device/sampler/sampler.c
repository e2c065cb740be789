/* What a phone does while something runs on it: heat, clocks, memory, load, as one JSON object a line.
 *
 *     sampler [-i PERIOD_MS] [-n SAMPLES] [-s STOP_FILE] [-e] [-p PID] [-r ROOT]
 *
 * It ends after so many samples, when STOP_FILE is there, with -e at the end of stdin, with -p when that process
 * is gone (whose memory it then tells too), when nobody reads, and by SIGTERM. The first line tells what there is,
 * the last one why it ended; both hold how long every clock was in use (ticks of 10 ms since boot). What cannot be
 * read is null. ROOT stands before /sys and /proc, for tests. Numbers are the kernel's own: most zones tell
 * thousandths of a degree, some do not. Nothing is allocated; everything is bounded.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MOST_ZONES = 128, MOST_POLICIES = 16, MOST_STATES = 64, MOST_TEXT = 128, MOST_BYTES = 4096, LONGEST_WAIT_MS = 1000 };

static const char *root = "", *stop_file;
static long period_ms = 1000, most_samples = 100000, watched;
static int ends_with_input;
static int zones[MOST_ZONES], zone_count, policies[MOST_POLICIES], policy_count;
static volatile sig_atomic_t told_to_end;

static void on_signal(int number) { told_to_end = number; }

/* The beginning of a file under ROOT as text; its length, or -1. */
static int contents(const char *path, char *text, int most) {
  char whole[MOST_BYTES];
  if (snprintf(whole, sizeof whole, "%s%s", root, path) >= (int)sizeof whole) return -1;
  int file = open(whole, O_RDONLY | O_CLOEXEC);
  if (file < 0) return -1;
  int length = 0, got;
  while (length < most - 1 && (got = (int)read(file, text + length, (size_t)(most - 1 - length))) > 0) length += got;
  close(file);
  text[length] = 0;
  return length;
}

static void string(const char *text) {
  putchar('"');
  for (const unsigned char *one = (const unsigned char *)text; *one && *one != '\n'; one++) {
    if (*one == '"' || *one == '\\')
      printf("\\%c", *one);
    else if (*one < 0x20 || *one > 0x7e)
      printf("\\u%04x", *one);
    else
      putchar(*one);
  }
  putchar('"');
}

static void string_of(const char *folder, int number, const char *name) {
  char path[MOST_TEXT * 2], text[MOST_TEXT];
  snprintf(path, sizeof path, "%s%d/%s", folder, number, name);
  if (contents(path, text, sizeof text) < 0)
    fputs("null", stdout);
  else
    string(text);
}

/* The number that a file holds, or null. */
static void number_of(const char *folder, int number, const char *name) {
  char path[MOST_TEXT * 2], text[MOST_TEXT], *end;
  snprintf(path, sizeof path, "%s%d/%s", folder, number, name);
  long value = contents(path, text, sizeof text) > 0 ? (errno = 0, strtol(text, &end, 10)) : (end = text, 0);
  if (end == text || errno == ERANGE)
    fputs("null", stdout);
  else
    printf("%ld", value);
}

#define ZONE "/sys/class/thermal/thermal_zone"
#define POLICY "/sys/devices/system/cpu/cpufreq/policy"

static int by_number(const void *one, const void *other) { return *(const int *)one - *(const int *)other; }

/* The numbers after `prefix` of what a folder holds, sorted; how many. */
static int numbered(const char *path, const char *prefix, int *numbers, int most) {
  char whole[MOST_BYTES];
  snprintf(whole, sizeof whole, "%s%s", root, path);
  DIR *folder = opendir(whole);
  if (!folder) return 0;
  int count = 0;
  size_t length = strlen(prefix);
  for (struct dirent *one; count < most && (one = readdir(folder));) {
    char *end;
    if (strncmp(one->d_name, prefix, length)) continue;
    long number = strtol(one->d_name + length, &end, 10);
    if (end != one->d_name + length && !*end && number >= 0 && number < 100000) numbers[count++] = (int)number;
  }
  closedir(folder);
  qsort(numbers, (size_t)count, sizeof *numbers, by_number);
  return count;
}

static void each(const char *name, const int *numbers, int count, void (*tell)(int)) {
  printf(",\"%s\":[", name);
  for (int one = 0; one < count; one++) {
    if (one) putchar(',');
    tell(numbers[one]);
  }
  putchar(']');
}

static void zone_type(int number) { string_of(ZONE, number, "type"); }
static void zone_temperature(int number) { number_of(ZONE, number, "temp"); }
static void policy_cores(int number) { string_of(POLICY, number, "related_cpus"); }
static void policy_fastest(int number) { number_of(POLICY, number, "cpuinfo_max_freq"); }
static void policy_clock(int number) { number_of(POLICY, number, "scaling_cur_freq"); }
static void policy_limit(int number) { number_of(POLICY, number, "scaling_max_freq"); }

/* [[kHz, ticks], …] or null. */
static void policy_residency(int number) {
  char path[MOST_TEXT], text[MOST_BYTES];
  snprintf(path, sizeof path, POLICY "%d/stats/time_in_state", number);
  if (contents(path, text, sizeof text) < 0) {
    fputs("null", stdout);
    return;
  }
  putchar('[');
  char *at = text;
  for (int state = 0; state < MOST_STATES; state++) {
    char *middle, *end;
    long long clock = strtoll(at, &middle, 10), ticks = strtoll(middle, &end, 10);
    if (middle == at || end == middle) break;
    printf("%s[%lld,%lld]", state ? "," : "", clock, ticks);
    at = end;
  }
  putchar(']');
}

/* The kB after `name` in a file such as /proc/meminfo, under a name of ours. */
static void kilobytes(const char *ours, const char *text, const char *name) {
  const char *found = text ? strstr(text, name) : NULL;
  char *end;
  long long value = found ? strtoll(found + strlen(name), &end, 10) : 0;
  if (!found || end == found + strlen(name))
    printf(",\"%s\":null", ours);
  else
    printf(",\"%s\":%lld", ours, value);
}

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void sample(void) {
  char text[MOST_BYTES], path[MOST_TEXT], *end;
  printf("{\"t_ns\":%lld", (long long)now_ns());
  each("temperatures", zones, zone_count, zone_temperature);
  each("clocks_khz", policies, policy_count, policy_clock);
  each("limits_khz", policies, policy_count, policy_limit);
  double load = contents("/proc/loadavg", text, sizeof text) > 0 ? strtod(text, &end) : (end = text, 0.0);
  if (end == text)
    fputs(",\"load\":null", stdout);
  else
    printf(",\"load\":%.2f", load);
  kilobytes("available_kb", contents("/proc/meminfo", text, sizeof text) > 0 ? text : NULL, "MemAvailable:");
  if (watched) {
    snprintf(path, sizeof path, "/proc/%ld/status", watched);
    const char *status = contents(path, text, sizeof text) > 0 ? text : NULL;
    kilobytes("resident_kb", status, "VmRSS:");
    kilobytes("peak_kb", status, "VmHWM:");
  }
  puts("}");
}

/* Why it is time to end, or NULL. */
static const char *reason(long taken) {
  if (told_to_end) return "signal";
  if (taken >= most_samples) return "samples";
  if (stop_file && !access(stop_file, F_OK)) return "stop file";
  if (watched && kill((pid_t)watched, 0) && errno == ESRCH) return "process gone";
  return ferror(stdout) ? "nobody reads" : NULL;
}

/* Sleep until a moment, or until stdin ends; 0 when it has. */
static int wait_until(int64_t moment) {
  int64_t left_ms = (moment - now_ns() + 999999) / 1000000;
  if (left_ms <= 0) return 1;
  if (left_ms > LONGEST_WAIT_MS) left_ms = LONGEST_WAIT_MS;
  struct pollfd input = {.fd = ends_with_input ? STDIN_FILENO : -1, .events = POLLIN};
  if (poll(&input, 1, (int)left_ms) <= 0) return 1;
  char thrown[256];
  return read(STDIN_FILENO, thrown, sizeof thrown) > 0;
}

static long positive(const char *text) {
  char *end;
  long value = strtol(text, &end, 10);
  if (*end || end == text || value <= 0) {
    fprintf(stderr, "sampler: %s is not a positive number\n", text);
    exit(2);
  }
  return value;
}

static void options(int count, char **words) {
  for (int one; (one = getopt(count, words, "i:n:s:ep:r:")) != -1;) switch (one) {
      case 'i': period_ms = positive(optarg); break;
      case 'n': most_samples = positive(optarg); break;
      case 's': stop_file = optarg; break;
      case 'e': ends_with_input = 1; break;
      case 'p': watched = positive(optarg); break;
      case 'r': root = optarg; break;
      default: fputs("sampler [-i PERIOD_MS] [-n SAMPLES] [-s STOP_FILE] [-e] [-p PID] [-r ROOT]\n", stderr); exit(2);
    }
}

int main(int count, char **words) {
  options(count, words);
  signal(SIGTERM, on_signal);
  signal(SIGINT, on_signal);
  signal(SIGPIPE, SIG_IGN);
  zone_count = numbered("/sys/class/thermal", "thermal_zone", zones, MOST_ZONES);
  policy_count = numbered("/sys/devices/system/cpu/cpufreq", "policy", policies, MOST_POLICIES);
  printf("{\"sampler\":1,\"period_ms\":%ld", period_ms);
  each("zones", zones, zone_count, zone_type);
  each("cores", policies, policy_count, policy_cores);
  each("fastest_khz", policies, policy_count, policy_fastest);
  each("residency", policies, policy_count, policy_residency);
  puts("}");
  const char *why = NULL;
  long taken = 0;
  int64_t next = now_ns();
  while (!(why = reason(taken))) {
    if (now_ns() >= next) {
      sample();
      fflush(stdout);
      taken++;
      while (next <= now_ns()) next += (int64_t)period_ms * 1000000; /* what was missed is not made up for */
      continue;
    }
    if (!wait_until(next)) {
      why = "input ended";
      break;
    }
  }
  printf("{\"end\":\"%s\",\"samples\":%ld", why, taken);
  each("residency", policies, policy_count, policy_residency);
  puts("}");
  return fflush(stdout) ? 1 : 0;
}
