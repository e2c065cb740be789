/* What generated kernels are written in: vectors of clang's extension, and functions of numbers and vectors.
 * Every function exists for a number (`exp_f32`) and for vectors (`exp_f32x8`), from one text.
 */
#ifndef OURS_KERNELS_H
#define OURS_KERNELS_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef _Float16 f16;
typedef float f32;
typedef double f64;
typedef int8_t i8;
typedef int16_t i16;
typedef int32_t i32;
typedef int64_t i64;
typedef uint8_t u8;
typedef uint16_t u16;
typedef u16 bf16; /* bits only: compilers need a library of their own for arithmetic on it */
typedef uint32_t u32;
typedef uint64_t u64;

#define VECTORS(N)                                                       \
  typedef f32 f32x##N __attribute__((vector_size(4 * N)));               \
  typedef i32 i32x##N __attribute__((vector_size(4 * N)));               \
  typedef u8 u8x##N __attribute__((vector_size(N)));                     \
  typedef f32 unaligned_f32x##N __attribute__((vector_size(4 * N), aligned(4), may_alias)); \
  typedef u8 unaligned_u8x##N __attribute__((vector_size(N), aligned(1), may_alias));       \
  static inline f32x##N load_f32x##N(const f32 *p) { return *(const unaligned_f32x##N *)p; } \
  static inline void store_f32x##N(f32 *p, f32x##N v) { *(unaligned_f32x##N *)p = v; }       \
  static inline f32x##N stepped_f32x##N(const f32 *p, i64 step) {        \
    f32x##N v;                                                           \
    for (int k = 0; k < N; k++) v[k] = p[k * step];                      \
    return v;                                                            \
  }                                                                      \
  static inline i32x##N load_boolx##N(const u8 *p) {                     \
    return __builtin_convertvector(*(const unaligned_u8x##N *)p, i32x##N) != 0; \
  }                                                                      \
  static inline void store_boolx##N(u8 *p, i32x##N v) {                  \
    *(unaligned_u8x##N *)p = __builtin_convertvector(v & 1, u8x##N);     \
  }                                                                      \
  static inline f32x##N splat_f32x##N(f32 x) { return x - (f32x##N){0}; } \
  static inline i32x##N splat_boolx##N(bool x) { return (i32x##N){0} - (i32)x; } \
  static inline f32x##N select_f32x##N(i32x##N m, f32x##N a, f32x##N b) { \
    return (f32x##N)((m & (i32x##N)a) | (~m & (i32x##N)b));              \
  }                                                                      \
  static inline i32x##N to_bits_f32x##N(f32x##N x) { return (i32x##N)x; } \
  static inline f32x##N from_bits_f32x##N(i32x##N x) { return (f32x##N)x; }

VECTORS(4)
VECTORS(8)
VECTORS(16)

/* A square block transposed: in each round the rows of the first half are laced with those of the second. */
#define TURN(N, ROUNDS, LOWER, UPPER)                                                          \
  static inline void turn_f32x##N(f32 *to, i64 to_step, const f32 *from, i64 from_step) {      \
    f32x##N rows[N], laced[N];                                                                 \
    for (int k = 0; k < N; k++) rows[k] = load_f32x##N(from + k * from_step);                  \
    for (int round = 0; round < ROUNDS; round++) {                                             \
      for (int k = 0; k < N / 2; k++) {                                                        \
        laced[2 * k] = __builtin_shufflevector(rows[k], rows[k + N / 2], LOWER);               \
        laced[2 * k + 1] = __builtin_shufflevector(rows[k], rows[k + N / 2], UPPER);           \
      }                                                                                        \
      for (int k = 0; k < N; k++) rows[k] = laced[k];                                          \
    }                                                                                          \
    for (int k = 0; k < N; k++) store_f32x##N(to + k * to_step, rows[k]);                      \
  }
#define LOWER4 0, 4, 1, 5
#define UPPER4 2, 6, 3, 7
#define LOWER8 0, 8, 1, 9, 2, 10, 3, 11
#define UPPER8 4, 12, 5, 13, 6, 14, 7, 15
#define LOWER16 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define UPPER16 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
TURN(4, 2, LOWER4, UPPER4)
TURN(8, 3, LOWER8, UPPER8)
TURN(16, 4, LOWER16, UPPER16)

static inline f32 f32_of_bf16(bf16 x) {
  u32 bits = (u32)x << 16;
  f32 r;
  memcpy(&r, &bits, 4);
  return r;
}

/* Rounded to the nearest, halves to even; what is not a number stays so. */
static inline bf16 bf16_of_f32(f32 x) {
  u32 bits;
  memcpy(&bits, &x, 4);
  return x != x ? 0x7FC0 : (bf16)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

/* The same bits as another type of the same size. */
#define BIT_CAST(TO, X) ({ __typeof__(X) from_ = (X); TO to_; memcpy(&to_, &from_, sizeof(to_)); to_; })

static inline i32 to_bits_f32(f32 x) { i32 r; memcpy(&r, &x, 4); return r; }
static inline f32 from_bits_f32(i32 x) { f32 r; memcpy(&r, &x, 4); return r; }
static inline f32 select_f32(bool m, f32 a, f32 b) { return m ? a : b; }

/* Each in one vector register after another: halves are added, greatest or least of halves kept. */
#define LOW8(v) __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7)
#define HIGH8(v) __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15)
#define LOW4(v) __builtin_shufflevector(v, v, 0, 1, 2, 3)
#define HIGH4(v) __builtin_shufflevector(v, v, 4, 5, 6, 7)
static inline f32 lanes_add_f32x4(f32x4 v) { return (v[0] + v[2]) + (v[1] + v[3]); }
static inline f32 lanes_add_f32x8(f32x8 v) { return lanes_add_f32x4(LOW4(v) + HIGH4(v)); }
static inline f32 lanes_add_f32x16(f32x16 v) { return lanes_add_f32x8(LOW8(v) + HIGH8(v)); }
static inline f32 lanes_mul_f32x4(f32x4 v) { return (v[0] * v[2]) * (v[1] * v[3]); }
static inline f32 lanes_mul_f32x8(f32x8 v) { return lanes_mul_f32x4(LOW4(v) * HIGH4(v)); }
static inline f32 lanes_mul_f32x16(f32x16 v) { return lanes_mul_f32x8(LOW8(v) * HIGH8(v)); }

/* The greatest and the least: not a number if either is not. */
#define EXTREMES(T) \
  static inline T max_##T(T a, T b) { return select_##T((a > b) | (a != a), a, b); } \
  static inline T min_##T(T a, T b) { return select_##T((a < b) | (a != a), a, b); }
EXTREMES(f32)
EXTREMES(f32x4)
EXTREMES(f32x8)
EXTREMES(f32x16)
#define LANES_EXTREME(NAME)                                                                                \
  static inline f32 lanes_##NAME##_f32x4(f32x4 v) {                                                        \
    return NAME##_f32(NAME##_f32(v[0], v[2]), NAME##_f32(v[1], v[3]));                                      \
  }                                                                                                        \
  static inline f32 lanes_##NAME##_f32x8(f32x8 v) {                                                        \
    return lanes_##NAME##_f32x4(NAME##_f32x4(LOW4(v), HIGH4(v)));                                           \
  }                                                                                                        \
  static inline f32 lanes_##NAME##_f32x16(f32x16 v) {                                                      \
    return lanes_##NAME##_f32x8(NAME##_f32x8(LOW8(v), HIGH8(v)));                                           \
  }
LANES_EXTREME(max)
LANES_EXTREME(min)

/* e to the power of x: x = n ln 2 + r, a polynomial in r (minimax, relative error 3e-9), times 2^(n - 1); n is
 * found by adding a number that pushes the fraction out of the mantissa. At most 0.64 units of the last place
 * wrong; what would be less than 1.7e-38 is 0, so that nothing is ever subnormal. */
#define EXPONENTIAL(T, I)                                                        \
  static inline T exp_##T(T x) {                                                 \
    x = select_##T(x > 89.0f, (T){0} + 89.0f, x);                                \
    x = select_##T(x < -87.33f, (T){0} - 87.33f, x);                             \
    T shifted = x * 1.44269504088896341f + 12582912.0f;                          \
    T whole = shifted - 12582912.0f;                                             \
    T r = x - whole * 0.693359375f + whole * 2.12194440e-4f;                     \
    T p = r * 2.7628623702e-3f + 1.6737703804e-2f;                               \
    p = p * r + 8.3336802533e-2f;                                                \
    p = p * r + 3.3333039030e-1f;                                                \
    p = p * r + 9.9999986744e-1f;                                                \
    p = p * r + 2.0f;                                                            \
    p = p * r + 2.0f;                                                            \
    return p * from_bits_##T((to_bits_##T(shifted) << 23) + 0x3F000000);         \
  }
EXPONENTIAL(f32, i32)
EXPONENTIAL(f32x4, i32x4)
EXPONENTIAL(f32x8, i32x8)
EXPONENTIAL(f32x16, i32x16)

/* The hyperbolic tangent: an odd polynomial near 0 (Cephes), else 1 - 2 / (exp(2 |x|) + 1). */
#define HYPERBOLIC_TANGENT(T, I)                                                 \
  static inline T tanh_##T(T x) {                                                \
    I sign = to_bits_##T(x) & (i32)0x80000000;                                   \
    T a = from_bits_##T(to_bits_##T(x) & 0x7FFFFFFF);                            \
    T s = x * x;                                                                 \
    T p = s * -5.70498872745e-3f + 2.06390887954e-2f;                            \
    p = p * s - 5.37397155531e-2f;                                               \
    p = p * s + 1.33314422036e-1f;                                               \
    p = p * s - 3.33332819422e-1f;                                               \
    T near = p * s * x + x;                                                      \
    T far = 1.0f - 2.0f / (exp_##T(a + a) + 1.0f);                               \
    far = from_bits_##T(to_bits_##T(far) | sign);                                \
    return select_##T(a < 0.625f, near, far);                                    \
  }
HYPERBOLIC_TANGENT(f32, i32)
HYPERBOLIC_TANGENT(f32x4, i32x4)
HYPERBOLIC_TANGENT(f32x8, i32x8)
HYPERBOLIC_TANGENT(f32x16, i32x16)

/* The error function: a rational function of x² times x, minimax on what is not 1 anyway (relative error 1.9e-8);
 * at most 3.3e-7 wrong. */
#define ERROR_FUNCTION(T, I)                                                     \
  static inline T erf_##T(T x) {                                                 \
    x = select_##T(x > 3.92f, (T){0} + 3.92f, x);                                \
    x = select_##T(x < -3.92f, (T){0} - 3.92f, x);                               \
    T s = x * x;                                                                 \
    T p = s * 2.050037273e-6f + 2.848376673e-4f;                                 \
    p = p * s + 3.764433659e-3f;                                                 \
    p = p * s + 5.274500951e-2f;                                                 \
    p = p * s + 1.903814423e-1f;                                                 \
    p = p * s + 1.128379146f;                                                    \
    T q = s * 3.808884212e-5f + 1.162214219e-3f;                                 \
    q = q * s + 1.496686120e-2f;                                                 \
    q = q * s + 1.140984013e-1f;                                                 \
    q = q * s + 5.020539081e-1f;                                                 \
    q = q * s + 1.0f;                                                            \
    T y = x * p / q;                                                             \
    y = select_##T(y > 1.0f, (T){0} + 1.0f, y);                                  \
    return select_##T(y < -1.0f, (T){0} - 1.0f, y);                              \
  }
ERROR_FUNCTION(f32, i32)
ERROR_FUNCTION(f32x4, i32x4)
ERROR_FUNCTION(f32x8, i32x8)
ERROR_FUNCTION(f32x16, i32x16)

/* x (1 + erf(x / 2^0.5)) / 2: the rational function above with x's factor in its coefficients, and times half of x at
 * once. Below -5.5437 it is that of -5.5437, which is nothing; at most 1e-6 wrong up to 12, 1.2e-7 of x beyond. */
#define GAUSSIAN_UNIT(T)                                                         \
  static inline T gelu_##T(T x) {                                                \
    x = select_##T(x < -5.5437172f, (T){0} - 5.5437172f, x);                     \
    T a = select_##T(x > 5.5437172f, (T){0} + 5.5437172f, x);                    \
    T s = a * a;                                                                 \
    T p = s * 4.5299852e-8f + 1.2588165e-5f;                                     \
    p = p * s + 3.3273207e-4f;                                                   \
    p = p * s + 9.3240885e-3f;                                                   \
    p = p * s + 6.7310004e-2f;                                                   \
    p = p * s + 7.9788455e-1f;                                                   \
    T q = s * 1.1902763e-6f + 7.2638389e-5f;                                     \
    q = q * s + 1.8708577e-3f;                                                   \
    q = q * s + 2.8524600e-2f;                                                   \
    q = q * s + 2.5102695e-1f;                                                   \
    q = q * s + 1.0f;                                                            \
    T half = x * 0.5f;                                                           \
    return a * p / q * half + half;                                              \
  }
GAUSSIAN_UNIT(f32)
GAUSSIAN_UNIT(f32x4)
GAUSSIAN_UNIT(f32x8)
GAUSSIAN_UNIT(f32x16)

/* Lane by lane, from the functions of a number: what is rare, or is one instruction anyway. */
#define LANE_BY_LANE(N, NAME, OF)                                  \
  static inline f32x##N NAME##_f32x##N(f32x##N x) {                \
    for (int k = 0; k < N; k++) x[k] = OF(x[k]);                   \
    return x;                                                      \
  }
#define FUNCTION(NAME, OF)                                         \
  static inline f32 NAME##_f32(f32 x) { return OF(x); }            \
  LANE_BY_LANE(4, NAME, OF)                                        \
  LANE_BY_LANE(8, NAME, OF)                                        \
  LANE_BY_LANE(16, NAME, OF)
FUNCTION(sqrt, sqrtf)
FUNCTION(abs, fabsf)
FUNCTION(floor, floorf)
FUNCTION(ceil, ceilf)
FUNCTION(trunc, truncf)
FUNCTION(round, rintf)
FUNCTION(expm1, expm1f)
FUNCTION(log, logf)
FUNCTION(log1p, log1pf)
FUNCTION(sin, sinf)
FUNCTION(cos, cosf)
FUNCTION(tan, tanf)
FUNCTION(asin, asinf)
FUNCTION(acos, acosf)
FUNCTION(atan, atanf)
FUNCTION(sinh, sinhf)
FUNCTION(cosh, coshf)
FUNCTION(asinh, asinhf)
FUNCTION(acosh, acoshf)
FUNCTION(atanh, atanhf)
static inline f32 sign_number(f32 x) { return x > 0 ? 1.0f : x < 0 ? -1.0f : x; }
FUNCTION(sign, sign_number)

#define LANE_BY_LANE_2(N, NAME, OF)                                \
  static inline f32x##N NAME##_f32x##N(f32x##N x, f32x##N y) {     \
    for (int k = 0; k < N; k++) x[k] = OF(x[k], y[k]);             \
    return x;                                                      \
  }
#define FUNCTION_2(NAME, OF)                                       \
  static inline f32 NAME##_f32(f32 x, f32 y) { return OF(x, y); }  \
  LANE_BY_LANE_2(4, NAME, OF)                                      \
  LANE_BY_LANE_2(8, NAME, OF)                                      \
  LANE_BY_LANE_2(16, NAME, OF)
/* With the sign of the divisor; a whole divisor's sign is never lost to rounding. */
static inline f32 floor_mod_number(f32 x, f32 y) {
  f32 r = fmodf(x, y);
  return r != 0 && (r < 0) != (y < 0) ? r + y : r;
}
FUNCTION_2(pow, powf)
FUNCTION_2(fmod, fmodf)
FUNCTION_2(mod, floor_mod_number)

/* Doubles. */
#define DOUBLE(NAME) static inline f64 NAME##_f64(f64 x) { return NAME(x); }
DOUBLE(exp) DOUBLE(expm1) DOUBLE(log) DOUBLE(log1p) DOUBLE(erf) DOUBLE(sqrt) DOUBLE(floor) DOUBLE(ceil)
DOUBLE(trunc) DOUBLE(sin) DOUBLE(cos) DOUBLE(tan) DOUBLE(asin) DOUBLE(acos) DOUBLE(atan) DOUBLE(sinh)
DOUBLE(cosh) DOUBLE(tanh) DOUBLE(asinh) DOUBLE(acosh) DOUBLE(atanh)
static inline f64 gelu_f64(f64 x) { return x < -40 ? -0.0 : 0.5 * x * erfc(x * -0.70710678118654752440); }
static inline f64 abs_f64(f64 x) { return fabs(x); }
static inline f64 round_f64(f64 x) { return rint(x); }
static inline f64 sign_f64(f64 x) { return x > 0 ? 1.0 : x < 0 ? -1.0 : x; }
static inline f64 pow_f64(f64 x, f64 y) { return pow(x, y); }
static inline f64 fmod_f64(f64 x, f64 y) { return fmod(x, y); }
static inline f64 mod_f64(f64 x, f64 y) {
  f64 r = fmod(x, y);
  return r != 0 && (r < 0) != (y < 0) ? r + y : r;
}
static inline f64 max_f64(f64 a, f64 b) { return ((a > b) | (a != a)) ? a : b; }
static inline f64 min_f64(f64 a, f64 b) { return ((a < b) | (a != a)) ? a : b; }
static inline f64 select_f64(bool m, f64 a, f64 b) { return m ? a : b; }

/* Whole numbers. A division by 0 or of the least number by -1 must not end the program: its value is free. */
#define WHOLE(T)                                                                                   \
  static inline T div_##T(T a, T b) {                                                              \
    if (b == 0) return 0;                                                                          \
    if ((T)-1 < 0 && b == (T)-1) return (T)(0 - (u64)a);                                           \
    return (T)(a / b);                                                                             \
  }                                                                                                \
  static inline T fmod_##T(T a, T b) { return b == 0 || (b == (T)-1 && (T)-1 < 0) ? 0 : (T)(a % b); } \
  static inline T mod_##T(T a, T b) {                                                              \
    T r = fmod_##T(a, b);                                                                          \
    return r != 0 && (r < 0) != (b < 0) ? (T)(r + b) : r;                                          \
  }                                                                                                \
  static inline T pow_##T(T a, T b) {                                                              \
    T r = 1;                                                                                       \
    if (b < 0) return a == 1 ? 1 : a == (T)-1 ? (b % 2 ? (T)-1 : 1) : 0;                           \
    for (; b; b = (T)(b / 2), a = (T)(a * a)) if (b % 2) r = (T)(r * a);                           \
    return r;                                                                                      \
  }                                                                                                \
  static inline T max_##T(T a, T b) { return a > b ? a : b; }                                      \
  static inline T min_##T(T a, T b) { return a < b ? a : b; }                                      \
  static inline T abs_##T(T a) { return a < 0 ? (T)(0 - a) : a; }                                  \
  static inline T sign_##T(T a) { return a > 0 ? 1 : a < 0 ? (T)-1 : 0; }                          \
  static inline T select_##T(bool m, T a, T b) { return m ? a : b; }                               \
  static inline T shift_left_##T(T a, T b) { return (u64)b >= 8 * sizeof(T) ? 0 : (T)(a << b); }   \
  static inline T shift_right_##T(T a, T b) { return (u64)b >= 8 * sizeof(T) ? 0 : (T)(a >> b); }
WHOLE(i8) WHOLE(i16) WHOLE(i32) WHOLE(i64) WHOLE(u8) WHOLE(u16) WHOLE(u32) WHOLE(u64)
static inline bool max_bool(bool a, bool b) { return a | b; }
static inline bool min_bool(bool a, bool b) { return a & b; }

/* From a fraction to a whole number: towards zero, and the nearest possible where it does not fit. */
static inline i64 whole_i64(f64 x) {
  return x != x ? 0 : x >= 0x1p63 ? INT64_MAX : x < -0x1p63 ? INT64_MIN : (i64)x;
}
static inline u64 whole_u64(f64 x) { return x != x || x <= 0 ? 0 : x >= 0x1p64 ? UINT64_MAX : (u64)x; }

/* Places: rounded down, whatever the sign; divisors are positive. */
/* Into the second cache, or the first; an address that is nobody's does no harm. */
#define FETCH(ADDRESS) __builtin_prefetch((const void *)(ADDRESS), 0, 2)
#define FETCH_NEXT(ADDRESS) __builtin_prefetch((const void *)(ADDRESS), 0, 3)

/* An index that the data says, of `size` elements. Outside of them the run is told, and reads the first. */
extern i32 ours_fault;
static inline i64 within(i64 place, i64 size) {
  if (place < 0) place += size;
  if (place >= 0 && place < size) return place;
  __atomic_store_n(&ours_fault, 1, __ATOMIC_RELAXED);
  return 0;
}
static inline i64 floor_quotient(i64 a, i64 b) { return a / b - (a % b < 0); }
static inline i64 floor_remainder(i64 a, i64 b) { return a % b + (a % b < 0 ? b : 0); }

#endif
