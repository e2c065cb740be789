/* What a package's library offers, and what generated code gives to the runtime. */
#ifndef OURS_RUNTIME_H
#define OURS_RUNTIME_H

#include <stdint.h>

enum { REGION_WEIGHTS, REGION_ARENA, REGION_INPUT, REGION_OUTPUT };

typedef struct { int32_t region; int64_t offset; } ours_place;
typedef void (*ours_phase)(char *const *arguments, char *scratch, int64_t task);
typedef struct {
  ours_phase phase;
  int64_t tasks;
  int32_t first_argument; /* in ours_places */
  int32_t argument_count;
  int32_t step; /* number of the kernel call that it belongs to */
} ours_launch;
typedef struct {
  int32_t version, launch_count, step_count, place_count, input_count, output_count;
  int64_t arena_bytes, scratch_bytes, weights_bytes;
  const ours_launch *launches;
  const ours_place *places;
  const int64_t *input_bytes, *output_bytes;
} ours_model;

extern const ours_model ours_description;
extern int32_t ours_fault; /* set by kernels */

typedef struct ours_session ours_session;

/* All return 0 or NULL for failure; the weights stay the caller's, and must live as long as the session. */
ours_session *ours_open(const void *weights, int64_t weights_bytes, int32_t threads);
void *ours_input(ours_session *, int32_t number);
void *ours_output(ours_session *, int32_t number);
/* The number of the kernel call that stopped the run, because an index in the data lies outside what it chooses
 * from; -1 when all went well. One session of a library runs at a time.
 */
int32_t ours_run(ours_session *);
/* As ours_run; adds the nanoseconds of each kernel call to `step_ns`. */
int32_t ours_profile(ours_session *, int64_t *step_ns);
void ours_close(ours_session *);

#endif
